/* process.c - child processes. Invariants: every child that was started is reaped here or, when not even
 * SIGKILL ends it within half a second, left behind as killed; no call outlives its deadline by more than that;
 * no descriptor but 0, 1 and 2 reaches a child; nothing here blocks but ppoll. */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/parse.h"
#include "base/secret.h"

#define OUTPUT_MAX_BYTES ((size_t)1 << 20)
#define LINE_MAX_BYTES ((size_t)64 << 10)
#define CHUNK_BYTES ((size_t)64 << 10)
#define PIPE_BYTES (1 << 20)
#define MOVES_AT_ONCE 16    /* before deadlines are looked at again */
#define REAP_MS 500         /* for a killed child to be gone */
#define MARKED_MS 1000      /* for a child to end after its end marker */
#define NO_PIDFD_POLL_MS 20 /* kernels before 5.3 */

extern char **environ;

struct output { /* one of a child's output pipes */
    int fd;
    struct co_text *text; /* or NULL */
    size_t left;          /* of the cap */
    int64_t dropped;
};

struct child {
    const struct co_process_spec *spec;
    struct co_process_result *result;
    pid_t pid;
    int pid_fd;
    int in;
    size_t in_done;
    struct output out, err;
    struct co_text line; /* of standard error, not ended yet */
    int64_t began_ns, marked_ns;
    bool reaped;
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---------------------------------------------------------------- SIGPIPE */

struct pipe_guard {
    sigset_t before;
    bool was_pending;
};

/* A write to a child that is gone must be EPIPE, whatever the program does with SIGPIPE. */
static void pipe_guard_init(struct pipe_guard *guard)
{
    sigset_t pipe_signal, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigpending(&pending);
    guard->was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &guard->before);
}

static void pipe_guard_done(struct pipe_guard *guard)
{
    sigset_t pipe_signal;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    const struct timespec now = {0};
    if (!guard->was_pending)
        while (sigtimedwait(&pipe_signal, NULL, &now) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &guard->before, NULL);
}

/* ---------------------------------------------------------------- environment */

static bool same_name(const char *a, const char *b)
{
    size_t bytes = (size_t)(strchrnul(a, '=') - a);
    return strncmp(a, b, bytes) == 0 && b[bytes] == '=';
}

static bool holds_secret(const char *variable)
{
    /* What a weak password could be part of by chance and what nothing works without. */
    static const char *const plain[] = {"PATH=", "HOME=", "USER=", "LOGNAME=", "SHELL=", "TERM=", "LANG=", "PWD=", "TMPDIR="};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strncmp(variable, plain[i], strlen(plain[i])) == 0)
            return false;
    const char *value = strchr(variable, '=');
    if (!value)
        return false;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    text.secret = true;
    co_text_set_str(&text, value + 1);
    co_mask_text(&text);
    return text.overflow || strcmp(co_text_str(&text), value + 1) != 0;
}

/* Pointers into environ and extra; the caller frees the array. */
static const char **make_env(const char *const *extra)
{
    size_t count = 0, extra_count = 0;
    while (environ && environ[count])
        count++;
    while (extra && extra[extra_count])
        extra_count++;
    const char **env = calloc(count + extra_count + 1, sizeof *env);
    if (!env)
        return NULL;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        bool replaced = holds_secret(environ[i]);
        for (size_t j = 0; j < extra_count && !replaced; j++)
            replaced = same_name(extra[j], environ[i]);
        if (!replaced)
            env[used++] = environ[i];
    }
    for (size_t j = 0; j < extra_count; j++)
        env[used++] = extra[j];
    return env;
}

/* ---------------------------------------------------------------- start */

/* A pipe whose ends are above 2, so that giving one to a child as 0, 1 or 2 never closes another. */
static int make_pipe(int ends[2])
{
    int fresh[2];
    if (pipe2(fresh, O_CLOEXEC) < 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        ends[i] = fcntl(fresh[i], F_DUPFD_CLOEXEC, 3);
        close(fresh[i]);
    }
    if (ends[0] < 0 || ends[1] < 0) {
        close_fd(&ends[0]);
        close_fd(&ends[1]);
        return -1;
    }
    return 0;
}

static void nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static int spawn(const struct co_process_spec *spec, int in, int out, int err_fd, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t all, none;
    sigfillset(&all);
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP);
    sigemptyset(&none);
    const char **env = make_env(spec->extra_env);
    if (!env)
        return ENOMEM;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    int rc = posix_spawn_file_actions_adddup2(&actions, in, 0);
    if (rc == 0)
        rc = out >= 0 ? posix_spawn_file_actions_adddup2(&actions, out, 1)
                      : posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&actions, err_fd, 2);
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    if (rc == 0) /* the prototype lacks const; neither argv nor env is written to */
        rc = posix_spawnp(ret_pid, spec->argv[0], &actions, &attr, (char *const *)spec->argv, (char *const *)env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    free(env);
    return rc;
}

static void child_init(struct child *child, const struct co_process_spec *spec, struct co_process_result *result,
                       struct co_text *out, struct co_text *err_out)
{
    size_t cap = spec->output_max ? spec->output_max : OUTPUT_MAX_BYTES;
    *child = (struct child){.spec = spec,
                            .result = result,
                            .pid = -1,
                            .pid_fd = -1,
                            .in = -1,
                            .out = {.fd = -1, .text = out, .left = cap},
                            .err = {.fd = -1, .text = err_out, .left = cap},
                            .line = {.max = LINE_MAX_BYTES}};
    *result = (struct co_process_result){.status = -1};
}

static int child_start(struct child *child, bool want_out, struct co_error *err)
{
    const struct co_process_spec *spec = child->spec;
    if (!spec->argv || !spec->argv[0])
        return co_fail(err, CO_E_INTERNAL, "a command has no words");
    if (co_now_ns() >= spec->deadline_ns)
        return co_fail(err, CO_E_TIMEOUT, "the time for %s was over before it was started", spec->argv[0]);
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err_pipe[2] = {-1, -1};
    int rc = make_pipe(in) < 0 || (want_out && make_pipe(out) < 0) || make_pipe(err_pipe) < 0 ? errno : 0;
    if (rc == 0)
        rc = spawn(spec, in[0], out[1], err_pipe[1], &child->pid);
    close_fd(&in[0]);
    close_fd(&out[1]);
    close_fd(&err_pipe[1]);
    child->in = in[1];
    child->out.fd = out[0];
    child->err.fd = err_pipe[0];
    if (rc != 0) {
        child->pid = -1;
        co_fail(err, CO_E_COMMAND, "can't start %s: %s", spec->argv[0], strerror(rc));
        if (rc == ENOENT)
            co_hint(err, "Is it installed, and is its folder in PATH?");
        return CO_E_COMMAND;
    }
    child->began_ns = co_now_ns();
    child->result->started = true;
    child->pid_fd = pidfd_open(child->pid, 0); /* -1: an old kernel; then waitpid is asked now and then */
    nonblocking(child->in);
    if (child->out.fd >= 0)
        nonblocking(child->out.fd);
    nonblocking(child->err.fd);
    if (spec->input_bytes == 0 && !spec->keep_input)
        close_fd(&child->in);
    return 0;
}

static void child_done(struct child *child)
{
    close_fd(&child->pid_fd);
    close_fd(&child->in);
    close_fd(&child->out.fd);
    close_fd(&child->err.fd);
    co_text_done(&child->line);
}

/* ---------------------------------------------------------------- input and output */

static void child_write(struct child *child)
{
    const struct co_process_spec *spec = child->spec;
    while (child->in >= 0 && child->in_done < spec->input_bytes) {
        ssize_t bytes = write(child->in, (const char *)spec->input + child->in_done, spec->input_bytes - child->in_done);
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes < 0 && errno == EAGAIN)
            return;
        if (bytes < 0) { /* it doesn't want more: its own affair */
            close_fd(&child->in);
            return;
        }
        child->in_done += (size_t)bytes;
    }
    if (!spec->keep_input)
        close_fd(&child->in);
}

static void output_keep(struct output *output, const char *data, size_t bytes)
{
    size_t kept = bytes < output->left ? bytes : output->left;
    if (output->text)
        co_text_add_bytes(output->text, data, kept);
    output->left -= kept;
    output->dropped += (int64_t)(bytes - kept);
}

/* "<marker> <status>" */
static bool is_marker(struct child *child, const char *line)
{
    const char *marker = child->spec->end_marker;
    size_t bytes = marker ? strlen(marker) : 0;
    int64_t status;
    if (!marker || strncmp(line, marker, bytes) != 0 || line[bytes] != ' ' ||
        co_parse_int(line + bytes + 1, 0, 255, &status, NULL) < 0)
        return false;
    child->result->marked = true;
    child->result->status = (int)status;
    child->marked_ns = co_now_ns();
    struct co_text *text = child->err.text; /* the newline in front of the marker was put there for it */
    if (text && text->bytes > 0 && text->data[text->bytes - 1] == '\n')
        text->data[--text->bytes] = '\0';
    return true;
}

static void line_ended(struct child *child, bool newline)
{
    const char *line = co_text_str(&child->line);
    if (!is_marker(child, line)) {
        output_keep(&child->err, line, child->line.bytes);
        if (newline)
            output_keep(&child->err, "\n", 1);
        if (child->spec->on_output)
            child->spec->on_output(line, child->spec->arg);
    }
    co_text_clear(&child->line);
}

static void take_error_output(struct child *child, const char *data, size_t bytes)
{
    const char *end = data + bytes;
    while (data < end) {
        const char *newline = memchr(data, '\n', (size_t)(end - data));
        const char *stop = newline ? newline : end;
        if (child->line.bytes + (size_t)(stop - data) >= LINE_MAX_BYTES) /* no line: goes on in pieces */
            line_ended(child, false);
        size_t piece = (size_t)(stop - data) < LINE_MAX_BYTES - 1 ? (size_t)(stop - data) : LINE_MAX_BYTES - 1;
        co_text_add_bytes(&child->line, data, piece);
        data += piece;
        if (newline && data == newline) {
            line_ended(child, true);
            data++;
        }
    }
}

/* Reads what there is; closes at the end of output. */
static void child_read(struct child *child, struct output *output)
{
    char chunk[CHUNK_BYTES];
    for (int i = 0; i < MOVES_AT_ONCE && output->fd >= 0; i++) {
        ssize_t bytes = read(output->fd, chunk, sizeof chunk);
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes < 0 && errno == EAGAIN)
            return;
        if (bytes <= 0) {
            close_fd(&output->fd);
            return;
        }
        if (output == &child->err)
            take_error_output(child, chunk, (size_t)bytes);
        else
            output_keep(output, chunk, (size_t)bytes);
        if ((size_t)bytes < sizeof chunk)
            return;
    }
}

/* ---------------------------------------------------------------- the end */

static bool child_reap(struct child *child)
{
    if (child->reaped || child->pid < 0)
        return true;
    int status;
    pid_t pid = waitpid(child->pid, &status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno == EINTR))
        return false;
    child->reaped = true;
    if (pid < 0 || child->result->marked)
        return true;
    if (WIFEXITED(status))
        child->result->status = WEXITSTATUS(status);
    else if (WIFSIGNALED(status))
        child->result->status = 128 + WTERMSIG(status);
    return true;
}

/* Kills the group and sees the child gone. */
static void child_kill(struct child *child)
{
    if (child->pid < 0 || child->reaped)
        return;
    kill(-child->pid, SIGKILL);
    close_fd(&child->in); /* tells what outlives a kill: the far end of an ssh */
    int64_t until_ns = co_deadline_in_ms(REAP_MS);
    while (!child_reap(child) && co_now_ns() < until_ns) {
        struct pollfd item = {.fd = child->pid_fd, .events = POLLIN};
        poll(&item, 1, child->pid_fd >= 0 ? (int)co_ms_left(until_ns) : NO_PIDFD_POLL_MS);
    }
}

/* Everything is over: takes what is still in the pipes and fills the result. Input that was kept ends after that: what somebody
 * in the background writes because it ended isn't the command's any more. */
static void child_finish(struct child *child)
{
    if (child->out.text)
        child_read(child, &child->out);
    child_read(child, &child->err);
    close_fd(&child->in);
    if (child->line.bytes > 0)
        line_ended(child, false);
    int64_t dropped = child->out.dropped + child->err.dropped;
    if (dropped > 0 && child->err.text)
        co_text_add(child->err.text, "\n(%lld more bytes of output were dropped)\n", (long long)dropped);
    if (child->result->started)
        child->result->duration_ns = co_now_ns() - child->began_ns;
}

static int ended_early(struct child *child, bool interrupted, struct co_error *err)
{
    char duration[32];
    child->result->ended = false;
    child->result->interrupted = interrupted;
    const char *name = child->spec->argv[0];
    co_format_duration_ms((co_now_ns() - child->began_ns) / CO_NS_PER_MS, duration);
    if (interrupted)
        return co_fail(err, CO_E_INTERRUPTED, "%s was interrupted after %s and killed", name, duration);
    return co_fail(err, CO_E_TIMEOUT, "%s didn't end within its time of %s and was killed", name, duration);
}

/* ---------------------------------------------------------------- waiting */

struct poll_set {
    struct pollfd items[16];
    nfds_t count;
};

static void want(struct poll_set *set, int fd, short events)
{
    if (fd >= 0 && set->count < sizeof set->items / sizeof *set->items)
        set->items[set->count++] = (struct pollfd){.fd = fd, .events = events};
}

static void want_child(struct poll_set *set, const struct child *child)
{
    if (!child->reaped)
        want(set, child->pid_fd, POLLIN);
    if (child->in >= 0 && child->in_done < child->spec->input_bytes)
        want(set, child->in, POLLOUT);
    if (child->out.text)
        want(set, child->out.fd, POLLIN);
    want(set, child->err.fd, POLLIN);
}

/* False: interrupted. */
static bool wait_ready(struct poll_set *set, int wake_fd, int64_t deadline_ns, bool no_pid_fd)
{
    want(set, wake_fd, POLLIN);
    int64_t left_ns = deadline_ns - co_now_ns();
    if (left_ns < 0)
        left_ns = 0;
    if (no_pid_fd && left_ns > NO_PIDFD_POLL_MS * CO_NS_PER_MS)
        left_ns = NO_PIDFD_POLL_MS * CO_NS_PER_MS;
    struct timespec timeout = {.tv_sec = (time_t)(left_ns / CO_NS_PER_S), .tv_nsec = (long)(left_ns % CO_NS_PER_S)};
    int ready = ppoll(set->items, set->count, &timeout, NULL);
    return !(ready > 0 && wake_fd >= 0 && set->items[set->count - 1].revents != 0);
}

static void child_serve(struct child *child)
{
    child_write(child);
    if (child->out.text)
        child_read(child, &child->out);
    child_read(child, &child->err);
}

/* True when the command has ended: the child is gone, or its end marker came and it had time to go. */
static bool child_over(struct child *child)
{
    if (child_reap(child)) {
        child->result->ended = true;
        return true;
    }
    if (child->result->marked && co_now_ns() >= child->marked_ns + MARKED_MS * CO_NS_PER_MS) {
        child->result->ended = true;
        child_kill(child);
        return true;
    }
    return false; /* input stays open: its end could reach the far side before the command's shell is gone */
}

static int64_t next_deadline(const struct child *child, int64_t deadline_ns)
{
    if (!child->result->marked)
        return deadline_ns;
    return co_min_deadline(deadline_ns, child->marked_ns + MARKED_MS * CO_NS_PER_MS);
}

int co_process_run(const struct co_process_spec *spec, struct co_text *out, struct co_text *err_out,
                   struct co_process_result *ret, struct co_error *err)
{
    struct child child;
    CO_TEXT_AUTO no_output = {.max = 1};
    child_init(&child, spec, ret, out ? out : &no_output, err_out);
    if (!out)
        child.out.left = 0;
    struct pipe_guard guard;
    pipe_guard_init(&guard);
    int rc = child_start(&child, true, err);
    while (rc == 0) {
        child_serve(&child);
        if (child_over(&child))
            break;
        struct poll_set set = {0};
        want_child(&set, &child);
        bool interrupted = !wait_ready(&set, spec->wake_fd, next_deadline(&child, spec->deadline_ns), child.pid_fd < 0);
        if (ret->marked && !interrupted && co_now_ns() >= spec->deadline_ns) {
            child_kill(&child); /* it did end, and it said how */
            ret->ended = true;
            break;
        }
        if (!interrupted && co_now_ns() < spec->deadline_ns)
            continue;
        child_kill(&child);
        rc = ended_early(&child, interrupted, err);
    }
    if (!out) /* what wasn't asked for isn't missing */
        child.out.dropped = 0;
    child_finish(&child);
    child_done(&child);
    pipe_guard_done(&guard);
    return rc;
}

/* ---------------------------------------------------------------- one into another */

struct flow {
    struct child from, to;
    int64_t total_bytes;
    int64_t deadline_ns;
    int wake_fd;
    void (*on_bytes)(int64_t total, void *arg);
    void *arg;
    bool closed; /* nothing flows any more */
};

static void flow_stop(struct flow *flow)
{
    close_fd(&flow->from.out.fd);
    flow->closed = true;
}

/* Moves what there is without copying it through this process. */
static void flow_move(struct flow *flow)
{
    for (int i = 0; i < MOVES_AT_ONCE && !flow->closed; i++) {
        ssize_t bytes = splice(flow->from.out.fd, NULL, flow->to.in, NULL, PIPE_BYTES, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes < 0 && errno == EAGAIN)
            return;
        if (bytes <= 0) {
            if (bytes < 0) /* `to` reads no more, and will say why; from gets EPIPE */
                close_fd(&flow->to.in);
            flow_stop(flow);
            return;
        }
        flow->total_bytes += bytes;
        if (flow->on_bytes)
            flow->on_bytes(flow->total_bytes, flow->arg);
    }
}

static bool flow_has_input(const struct flow *flow)
{
    struct pollfd input = {.fd = flow->from.out.fd, .events = POLLIN};
    return poll(&input, 1, 0) > 0;
}

static void want_flow(struct poll_set *set, const struct flow *flow)
{
    if (flow->closed)
        return;
    if (flow_has_input(flow))
        want(set, flow->to.in, POLLOUT); /* there is something: room is what is missing */
    else
        want(set, flow->from.out.fd, POLLIN);
}

/* What is left to do once `from` has ended. False: it failed, and `to` was killed. */
static bool flow_close(struct flow *flow)
{
    if (!flow->closed || flow->to.in < 0)
        return true;
    if (flow->from.result->status == 0) {
        close_fd(&flow->to.in);
        return true;
    }
    child_kill(&flow->to);
    flow->to.result->ended = flow->to.reaped && flow->to.result->status < 128;
    return false;
}

static int flow_run(struct flow *flow, struct co_error *err)
{
    bool from_over = false, to_over = false;
    while (!from_over || !to_over) {
        flow_move(flow);
        child_write(&flow->from);
        child_read(&flow->from, &flow->from.err);
        child_read(&flow->to, &flow->to.err);
        to_over = to_over || child_over(&flow->to);
        if (to_over && !flow->closed)
            flow_stop(flow); /* nobody takes it: from is told by EPIPE */
        from_over = from_over || child_over(&flow->from);
        if (from_over && !flow->closed) {
            flow_move(flow); /* what it wrote last */
            if (!flow->closed && !flow_has_input(flow))
                flow_stop(flow); /* something it left in the background holds the pipe */
        }
        if (from_over && !to_over && !flow_close(flow))
            return 0;
        if (from_over && to_over)
            break;
        struct poll_set set = {0};
        if (!from_over)
            want_child(&set, &flow->from);
        if (!to_over)
            want_child(&set, &flow->to);
        want_flow(&set, flow);
        int64_t until_ns = next_deadline(&flow->to, next_deadline(&flow->from, flow->deadline_ns));
        bool no_pid_fd = flow->from.pid_fd < 0 || flow->to.pid_fd < 0;
        bool interrupted = !wait_ready(&set, flow->wake_fd, until_ns, no_pid_fd);
        if (!interrupted && co_now_ns() < flow->deadline_ns)
            continue;
        child_kill(&flow->from);
        child_kill(&flow->to);
        struct child *slow = to_over ? &flow->from : &flow->to;
        return ended_early(slow, interrupted, err);
    }
    return 0;
}

int co_process_pipe(const struct co_process_spec *from, const struct co_process_spec *to,
                    void (*on_bytes)(int64_t total, void *arg), void *arg, struct co_text *err_out,
                    struct co_process_result *ret_from, struct co_process_result *ret_to, struct co_error *err)
{
    CO_TEXT_AUTO from_err = CO_TEXT_INIT;
    CO_TEXT_AUTO to_err = CO_TEXT_INIT;
    struct flow flow = {.on_bytes = on_bytes,
                        .arg = arg,
                        .deadline_ns = co_min_deadline(from->deadline_ns, to->deadline_ns),
                        .wake_fd = from->wake_fd};
    struct co_process_spec to_spec = *to;
    to_spec.input = NULL;
    to_spec.input_bytes = 0;
    to_spec.keep_input = true; /* the stream comes in there */
    child_init(&flow.from, from, ret_from, NULL, &from_err);
    child_init(&flow.to, &to_spec, ret_to, NULL, &to_err);
    struct pipe_guard guard;
    pipe_guard_init(&guard);
    int rc = child_start(&flow.to, false, err); /* the receiving end first: when it can't be, nothing is read */
    if (rc == 0)
        rc = child_start(&flow.from, true, err);
    if (rc == 0) {
        fcntl(flow.from.out.fd, F_SETPIPE_SZ, PIPE_BYTES);
        fcntl(flow.to.in, F_SETPIPE_SZ, PIPE_BYTES);
        rc = flow_run(&flow, err);
    } else {
        child_kill(&flow.to);
    }
    child_finish(&flow.from);
    child_finish(&flow.to);
    child_done(&flow.from);
    child_done(&flow.to);
    pipe_guard_done(&guard);
    if (err_out) {
        co_text_add_bytes(err_out, co_text_str(&from_err), from_err.bytes);
        co_text_add_bytes(err_out, co_text_str(&to_err), to_err.bytes);
    }
    return rc;
}
