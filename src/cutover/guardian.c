/* guardian.c - the process that ends a run whose tool died or hangs.
 *
 * It is this same program in a session of its own, with its own connections, open before the fence. It shares
 * the journal's lock (an open file description), so nobody else can take the run while either lives.
 *
 * Invariants
 *   - It acts only after it has killed the tool, or (where it can't) after the journal's epoch has revoked it.
 *   - What it does is what `resume` does: it looks at the journal's decision and at the servers.
 *   - SIGTERM and SIGHUP mean undo: it asks the tool to, and does it itself when there is none.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/parse.h"
#include "cutover/run.h"

#define SOCKET_FD 3
#define LOCK_FD 4
#define GRACE_NS (CO_NS_PER_S / 4)
#define DEATH_MS 2000
#define LEAVE_MS 1000 /* for a tool that has closed the line, to print how it ended */
#define RETRY_NS CO_NS_PER_S

struct guard {
    struct co_runner run;
    int tool_pidfd;
    int64_t act_at_ns; /* the tool's next word must have come before; CO_FOREVER: no hurry */
    bool opened;       /* nothing to do any more but to leave */
    bool left;         /* the tool closed the line: it died, or is about to end with its run unfinished */
};

static struct co_session *signalled;

static void on_signal(int number)
{
    if (signalled) {
        signalled->interrupted = number;
        co_session_wake(signalled);
    }
}

static void tell(const char *word)
{
    if (send(SOCKET_FD, word, strlen(word), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) { /* the tool is gone: seen below */
    }
}

static int prepare_side(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    if (lane->run->source_lost && role == CO_SOURCE)
        return 0;
    enum co_result got = co_ep_connect(lane->second[role], co_now_ns() + CO_CONNECT_NS, err);
    if (got == CO_DONE)
        got = co_ep_prepare(lane->second[role], co_now_ns() + CO_CALL_NS, err);
    return got == CO_DONE || got == CO_AGAIN ? 0 : err->code;
}

static int get_ready(struct guard *guard, struct co_session *session, const char *id, const struct co_run_options *options,
                     struct co_run_result *result, struct co_error *err)
{
    struct co_run_row row;
    struct co_runner *run = &guard->run;
    int failed = co_session_use_journal(session, CO_JOURNAL_WRITE, err);
    if (!failed)
        failed = co_journal_adopt_lock(session->journal, LOCK_FD);
    if (!failed)
        failed = co_journal_run(session->journal, id, &row, err);
    if (!failed)
        failed = co_runner_init(run, session, options, (enum co_side)row.source, row.kind, result, err);
    if (failed)
        return failed;
    run->row = row;
    run->row.pid = getpid();
    run->is_guardian = run->begun = run->warmed = true;
    run->source_lost = strcmp(row.kind, "rollback_lost") == 0;
    failed = co_lanes_open(run, err);
    for (size_t i = 0; i < run->lane_count && !failed; i++)
        failed = co_pair_use_journal(run->lanes[i].pair, run->journal, id, err);
    if (!failed)
        failed = co_runner_identify(run, "guardian-1", err);
    if (!failed)
        failed = co_sides_each(run, prepare_side);
    if (failed && result->error_count)
        *err = result->errors[0];
    return failed;
}

/* One message of the tool's; false: the tool is gone or said bye (*ret_bye). */
static bool hear(struct guard *guard, bool *ret_bye)
{
    char message[128], word[32];
    long long deadline_ns = 0;
    *ret_bye = false;
    ssize_t got = recv(SOCKET_FD, message, sizeof message - 1, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    guard->left = got <= 0;
    if (guard->left)
        return false;
    message[got] = '\0';
    if (sscanf(message, "%31s %lld", word, &deadline_ns) != 2)
        return true;
    if (strcmp(word, "bye") == 0) {
        *ret_bye = true;
        return false;
    }
    guard->opened = guard->opened || strcmp(word, "opened") == 0;
    guard->act_at_ns = deadline_ns ? deadline_ns + GRACE_NS : CO_FOREVER;
    return true;
}

/* Waits until the tool is gone or hangs. True: act. */
static bool stand_by(struct guard *guard)
{
    struct co_session *session = guard->run.session;
    bool asked = false, bye;
    for (;;) {
        int64_t left_ms = guard->act_at_ns == CO_FOREVER ? -1 : co_ms_left(guard->act_at_ns);
        struct pollfd fds[] = {{.fd = SOCKET_FD, .events = POLLIN}, {.fd = asked ? -1 : session->wake_fd, .events = POLLIN}};
        int ready = poll(fds, 2, left_ms > INT32_MAX ? INT32_MAX : (int)left_ms);
        if (ready < 0)
            continue;
        if (fds[1].revents && !asked) { /* SIGTERM, SIGHUP */
            asked = true;
            tell("undo");
        }
        if (fds[0].revents && !hear(guard, &bye))
            return !bye && !guard->opened;
        if (guard->act_at_ns != CO_FOREVER && co_now_ns() >= guard->act_at_ns)
            return true;
    }
}

static void end_tool(struct guard *guard)
{
    struct pollfd fd = {.fd = guard->tool_pidfd, .events = POLLIN};
    if (guard->left && guard->tool_pidfd >= 0 && poll(&fd, 1, LEAVE_MS) > 0)
        return; /* a dead one is seen at once */
    if (CO_FAULT("guardian.kill") == CO_FAULT_ERROR || guard->tool_pidfd < 0 ||
        syscall(SYS_pidfd_send_signal, guard->tool_pidfd, SIGKILL, NULL, 0) < 0)
        return; /* it is gone, or not ours to kill: the epoch revokes it */
    while (poll(&fd, 1, DEATH_MS) < 0 && errno == EINTR) {
    }
}

static bool worth_trying_again(const struct co_run_result *result)
{
    for (size_t i = 0; i < result->error_count; i++) {
        int code = result->errors[i].code;
        if (code == CO_E_UNREACHABLE || code == CO_E_TIMEOUT || code == CO_E_IO || code == CO_E_SPACE)
            return true;
    }
    return false;
}

/* Takes the run over and settles it; keeps trying while a server or the journal can't be reached. */
static void act(struct guard *guard)
{
    struct co_runner *run = &guard->run;
    struct co_error err = {0};
    end_tool(guard);
    for (;;) {
        run->result->error_count = 0;
        int failed = co_journal_run(run->journal, run->row.id, &run->row, &err);
        if (!failed && run->row.ended_wall_ms)
            return;
        run->row.pid = getpid();
        if (!failed)
            failed = co_take_over(run, "guardian-1", &err);
        if (failed)
            co_runner_note(run, &err);
        else if (co_settle(run) != CO_EXIT_UNFINISHED)
            return; /* the source serves again; what is left of the target is for `resume` */
        if (run->row.decision == CO_DECISION_COMMIT && co_journal_run(run->journal, run->row.id, &run->row, &err) == 0 &&
            run->row.opened)
            return; /* the target serves; what follows is for `resume` */
        if (!worth_trying_again(run->result))
            return;
        co_wait_until(co_now_ns() + RETRY_NS, -1);
    }
}

static int guard_run(struct co_session *session, const char *id, int tool_pid)
{
    struct guard guard = {.act_at_ns = CO_FOREVER};
    struct co_run_options options = {.max_write_pause_ms = -1, .when_ready_ms = -1, .operator_name = "guardian"};
    struct co_run_result result = {0};
    struct co_error err = {0};
    guard.tool_pidfd = (int)syscall(SYS_pidfd_open, tool_pid, 0);
    int failed = get_ready(&guard, session, id, &options, &result, &err);
    if (failed) {
        tell(err.message[0] ? err.message : "no reason given");
    } else {
        co_fault_set_partner(tool_pid);
        tell("ready");
        if (stand_by(&guard))
            act(&guard);
    }
    if (guard.run.lanes)
        co_runner_done(&guard.run);
    co_run_result_done(&result);
    if (guard.tool_pidfd >= 0)
        close(guard.tool_pidfd);
    return failed ? CO_EXIT_INTERNAL : CO_EXIT_DONE;
}

int co_guardian_main(int argc, char **argv)
{
    struct co_config *config = NULL;
    struct co_session session = {.wake_fd = -1};
    struct co_error err = {0};
    if (argc < 4) {
        fprintf(stderr, "changeover: the guardian is started by a run, not by people\n");
        return CO_EXIT_USAGE;
    }
    struct sigaction action = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    sigaction(SIGINT, &ignore, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    int failed = co_fault_setup("CHANGEOVER_GUARDIAN_FAULT", &err);
    if (!failed)
        failed = co_config_load(argv[1], &config, &err);
    if (!failed)
        failed = co_config_load_secrets(config, &err);
    if (!failed)
        failed = co_session_open(&session, config, (const char *const *)argv + 4, &err);
    int64_t tool_pid = 0;
    if (!failed)
        failed = co_parse_int(argv[3], 1, INT32_MAX, &tool_pid, &err);
    int status = CO_EXIT_INTERNAL;
    if (failed) {
        tell(err.message);
    } else {
        signalled = &session;
        status = guard_run(&session, argv[2], (int)tool_pid);
        signalled = NULL;
        co_session_close(&session);
    }
    co_config_free(config);
    return status;
}
