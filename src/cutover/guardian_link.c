/* guardian_link.c - the tool's end of the guardian: starting it, telling it where the run is, noticing its death.
 *
 * One word a message over a SOCK_SEQPACKET pair: "ready" comes back once it is connected; "pause", "committed",
 * "opened", "undoing" go out with the moment by which the next word must have come; "bye" ends it. Sending never
 * blocks. An "undo" from the guardian, or its end, makes the tool undo.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cutover/run.h"

#define START_NS (60 * CO_NS_PER_S)
#define PULSE_NS (4 * CO_NS_PER_S) /* longer than one call of an undo, and well within any undo_budget */
#define END_NS (10 * CO_NS_PER_S)
#define CHILD_SOCKET 3
#define CHILD_LOCK 4
#define HIGH_FD 100

extern char **environ;

struct co_guardian {
    pid_t pid;
    int fd;
};

/* This very program. Its path where that still leads to it; after an upgrade has replaced the file, the file that
 * still runs. */
static void own_path(char *ret, size_t ret_bytes)
{
    static const char gone[] = " (deleted)";
    ssize_t bytes = readlink("/proc/self/exe", ret, ret_bytes - 1);
    size_t length = bytes > 0 ? (size_t)bytes : 0;
    ret[length] = '\0';
    if (!length || length == ret_bytes - 1 || (length > sizeof gone && strcmp(ret + length - sizeof gone + 1, gone) == 0))
        snprintf(ret, ret_bytes, "/proc/self/exe");
}

/* What CI systems find the processes of a job by when they end it (Jenkins, GitHub's runner). */
static bool marks_a_job(const char *variable)
{
    static const char *const names[] = {
        "JENKINS_NODE_COOKIE=", "JENKINS_SERVER_COOKIE=", "HUDSON_COOKIE=", "RUNNER_TRACKING_ID="};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static char **guardian_environment(void)
{
    size_t count = 0, kept = 0;
    while (environ[count])
        count++;
    char **copy = calloc(count + 1, sizeof *copy);
    for (size_t i = 0; copy && i < count; i++)
        if (!marks_a_job(environ[i]))
            copy[kept++] = environ[i];
    return copy;
}

static int spawn_with(struct co_runner *run, int child_fd, int lock_fd, pid_t *ret_pid, struct co_error *err)
{
    size_t count = 0;
    const char **argv = calloc(run->lane_count * 2 + 12, sizeof *argv);
    CO_AUTOFREE char *pid = co_printf("%ld", (long)getpid());
    char **environment = guardian_environment();
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    if (!argv || !pid || !environment) {
        free(argv);
        free(environment);
        return co_fail(err, CO_E_NOMEM, "out of memory");
    }
    argv[count++] = "changeover";
    argv[count++] = "guardian";
    argv[count++] = run->session->config_path;
    argv[count++] = run->row.id;
    argv[count++] = pid;
    for (size_t i = 0; i < run->lane_count; i++)
        argv[count++] = co_pair_name(run->lanes[i].pair);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID); /* the end of our terminal and job isn't its end */
    const char *log = getenv("CHANGEOVER_GUARDIAN_LOG");
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, 2, log ? log : "/dev/null", O_WRONLY | (log ? O_CREAT | O_APPEND : 0), 0600);
    posix_spawn_file_actions_adddup2(&files, child_fd, CHILD_SOCKET);
    posix_spawn_file_actions_adddup2(&files, lock_fd, CHILD_LOCK);
    posix_spawn_file_actions_addclosefrom_np(&files,
                                             CHILD_LOCK + 1); /* a connection that a library left open would outlive us */
    char path[PATH_MAX];
    own_path(path, sizeof path);
    int failed = posix_spawn(ret_pid, path, &files, &attr, (char *const *)argv, environment);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    free(argv);
    free(environment);
    return failed ? co_fail(err, CO_E_IO, "the guardian process can't be started: %s", strerror(failed)) : 0;
}

static int await_ready(struct co_runner *run, struct co_error *err)
{
    char word[640];
    int64_t deadline_ns = co_now_ns() + START_NS;
    for (;;) {
        struct pollfd fds[] = {{.fd = run->guardian->fd, .events = POLLIN}, {.fd = run->session->wake_fd, .events = POLLIN}};
        int ready = poll(fds, 2, (int)co_ms_left(deadline_ns));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            return co_fail(err, CO_E_TIMEOUT, "the guardian process isn't ready after %d s", (int)(START_NS / CO_NS_PER_S));
        if (fds[1].revents)
            return co_fail(err, CO_E_INTERRUPTED, "interrupted");
        ssize_t got = recv(run->guardian->fd, word, sizeof word - 1, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            continue;
        word[got > 0 ? got : 0] = '\0';
        if (strcmp(word, "ready") == 0)
            return 0;
        return co_fail(err, CO_E_STATE, "the guardian process couldn't get ready: %s", word[0] ? word : "it ended");
    }
}

/* Where one stop ends the guardian, too, nobody is left to undo at once. */
static void warn_of_common_end(struct co_runner *run)
{
    CO_TEXT_AUTO with = CO_TEXT_INIT;
    bool own_scope = co_scope_enter((long)run->guardian->pid, run->row.id);
    bool shared = co_scope_shared(own_scope, &with);
    if (shared)
        co_runner_say(run, NULL, CO_WATCH_NOTE,
                      "%s: if it is stopped as a whole, tool and guardian die together and both sides stay closed until "
                      "`changeover resume`",
                      co_text_str(&with));
    CO_TEXT_AUTO told = CO_TEXT_INIT;
    co_text_add(&told, "in a %s of its own%s%s", own_scope ? "systemd scope" : "session", shared ? "; " : "",
                co_text_str(&with));
    co_journal_event(run->journal, run->row.id, NULL, "guardian", co_text_str(&told), NULL);
}

int co_guardian_start(struct co_runner *run, struct co_error *err)
{
    int pair[2], child_fd = -1, lock_fd = -1, failed;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return co_fail(err, CO_E_IO, "no socket for the guardian: %s", strerror(errno));
    struct co_guardian *guardian = calloc(1, sizeof *guardian);
    child_fd = fcntl(pair[1], F_DUPFD_CLOEXEC, HIGH_FD);
    lock_fd = fcntl(co_journal_lock_fd(run->journal), F_DUPFD_CLOEXEC, HIGH_FD);
    close(pair[1]);
    if (!guardian || child_fd < 0 || lock_fd < 0) {
        failed = co_fail(err, CO_E_IO, "no descriptors for the guardian");
        close(pair[0]);
        free(guardian);
    } else {
        guardian->fd = pair[0];
        failed = spawn_with(run, child_fd, lock_fd, &guardian->pid, err);
        if (failed) {
            close(guardian->fd);
            free(guardian);
        } else {
            run->guardian = guardian;
        }
    }
    if (child_fd >= 0)
        close(child_fd);
    if (lock_fd >= 0)
        close(lock_fd);
    if (failed)
        return failed;
    co_fault_set_partner(run->guardian->pid);
    failed = await_ready(run, err);
    if (!failed)
        warn_of_common_end(run);
    if (!failed)
        failed = co_watcher_again(run, err); /* it has one more thing to watch */
    return failed;
}

void co_guardian_tell(struct co_runner *run, const char *word, int64_t deadline_ns)
{
    char message[64];
    if (!run->guardian)
        return;
    int bytes = snprintf(message, sizeof message, "%s %lld", word, (long long)deadline_ns);
    if (send(run->guardian->fd, message, (size_t)bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) { /* its death is seen elsewhere */
    }
}

void co_guardian_pulse(struct co_runner *run, int64_t call_deadline_ns)
{
    int64_t until_ns = co_now_ns() + PULSE_NS;
    if (run->undoing)
        co_guardian_tell(run, "undoing", until_ns > call_deadline_ns ? until_ns : call_deadline_ns + CO_NS_PER_S);
}

bool co_guardian_alive(struct co_runner *run)
{
    struct pollfd fd = {.fd = run->guardian->fd, .events = POLLIN};
    return poll(&fd, 1, 0) == 0; /* it says nothing but "undo", and its end is readable too */
}

int co_guardian_fd(struct co_runner *run)
{
    return run->guardian ? run->guardian->fd : -1;
}

void co_guardian_end(struct co_runner *run)
{
    if (!run->guardian)
        return;
    co_watcher_stop(run); /* decided or over: there is nothing to interrupt any more */
    struct co_guardian *guardian = run->guardian;
    bool left = run->result->outcome && strcmp(run->result->outcome, "unfinished") == 0;
    if (!left) /* else it sees us go and goes on trying */
        co_guardian_tell(run, "bye", 0);
    run->guardian = NULL;
    if (!left) {
        struct pollfd fd = {.fd = guardian->fd, .events = POLLIN};
        char word[64];
        int64_t deadline_ns = co_now_ns() + END_NS;
        while (poll(&fd, 1, (int)co_ms_left(deadline_ns)) > 0 && recv(guardian->fd, word, sizeof word, MSG_DONTWAIT) > 0) {
        }
    }
    close(guardian->fd);
    if (!left && waitpid(guardian->pid, NULL, WNOHANG) < 0) { /* init reaps it */
    }
    co_fault_set_partner(0);
    free(guardian);
}
