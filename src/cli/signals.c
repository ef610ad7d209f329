/* signals.c - what signals do, and that no core dump holds a secret.
 *
 * SIGHUP and SIGPIPE end nothing. SIGINT and SIGTERM end commands that only look; in commands that work on
 * servers they set session->interrupted, and the run decides what that means where it stands.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "cli/internal.h"

static struct co_session *volatile current;

static void on_signal(int number)
{
    int saved_errno = errno;
    struct co_session *session = current;
    if (session) {
        session->interrupted = number;
        co_session_wake(session);
    }
    errno = saved_errno;
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

void co_cli_ignore_signals(void)
{
    handle(SIGHUP, SIG_IGN);
    handle(SIGPIPE, SIG_IGN);
}

void co_cli_catch_signals(struct co_session *session)
{
    if (!session) {
        handle(SIGINT, SIG_DFL);
        handle(SIGTERM, SIG_DFL);
    }
    current = session;
    if (session) {
        handle(SIGINT, on_signal);
        handle(SIGTERM, on_signal);
    }
}

void co_cli_harden(void)
{
#ifndef NDEBUG
    if (getenv("CHANGEOVER_DEBUGGABLE"))
        return;
#endif
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* (the leak checker looks at its own process as a debugger does) */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}
