/* process.h - child processes: argv in, no shell, own process group, absolute deadline, capped output.
 * Used by host commands and hooks. Threads: any; SIGCHLD is not used (pidfd or waitpid on the pid).
 *
 * A child gets the environment of this process without what holds a known secret (password_env), default
 * signals, no descriptor but 0 to 2. At the deadline or when wake_fd is readable the whole group is killed.
 * A child that ended is not waited for any longer because something it left in the background holds its output.
 */
#ifndef CO_BASE_PROCESS_H
#define CO_BASE_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/text.h"

struct co_process_spec {
    const char *const *argv;
    const char *const *extra_env; /* "NAME=value", or NULL */
    const void *input;
    size_t input_bytes;
    int wake_fd; /* readable: end it early; -1 */
    int64_t deadline_ns;
    size_t output_max;                              /* 0: 1 MiB; what is beyond is dropped and said */
    void (*on_output)(const char *line, void *arg); /* each line of standard error as it comes, or NULL */
    void *arg;
    bool keep_input; /* leaves standard input open until the child ended; it then ends with this process */
    /* A line of standard error "<end_marker> <status>" says that the command ended with that status: it counts as
     * the end even when the child (an ssh) lives on for a moment. The line and the
     * newline in front of it are taken out of the output. NULL: none. */
    const char *end_marker;
};

struct co_process_result {
    bool started;
    bool ended; /* false: killed at the deadline or interrupted */
    bool interrupted;
    bool marked; /* the end marker was seen: status is the one it told */
    int status;  /* exit status or 128 + signal */
    int64_t duration_ns;
};

/* 0 when it ended, whatever its status. CO_E_COMMAND: not started. CO_E_TIMEOUT, CO_E_INTERRUPTED: killed.
 * out, err_out: NULL drops them. */
int co_process_run(const struct co_process_spec *spec, struct co_text *out, struct co_text *err_out,
                   struct co_process_result *ret, struct co_error *err);
/* from's output into to's input, counting bytes; to's output is dropped. The earlier deadline and from's wake_fd
 * count for both. When `from` fails, `to` is killed rather than shown an end of input it could take for
 * complete. */
int co_process_pipe(const struct co_process_spec *from, const struct co_process_spec *to,
                    void (*on_bytes)(int64_t total, void *arg), void *arg, struct co_text *err_out,
                    struct co_process_result *ret_from, struct co_process_result *ret_to, struct co_error *err);

#endif
