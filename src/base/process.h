/* process.h - child processes: argv in, no shell, own process group, absolute deadline, capped output.
 * Used by host commands and hooks. Threads: any; SIGCHLD is not used (pidfd or waitpid on the pid). */
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
    int wake_fd;          /* readable: end it early; -1 */
    int64_t deadline_ns;
    size_t output_max;    /* 0: 1 MiB; what is beyond is dropped and said */
    void (*on_output)(const char *line, void *arg); /* each line of standard error as it comes, or NULL */
    void *arg;
};

struct co_process_result {
    bool started;
    bool ended;       /* false: killed at the deadline or interrupted */
    bool interrupted;
    int status;       /* exit status or 128 + signal */
    int64_t duration_ns;
};

int co_process_run(const struct co_process_spec *spec, struct co_text *out, struct co_text *err_out,
                   struct co_process_result *ret, struct co_error *err);
/* from's output into to's input, counting bytes. */
int co_process_pipe(const struct co_process_spec *from, const struct co_process_spec *to,
                    void (*on_bytes)(int64_t total, void *arg), void *arg, struct co_text *err_out,
                    struct co_process_result *ret_from, struct co_process_result *ret_to, struct co_error *err);

#endif
