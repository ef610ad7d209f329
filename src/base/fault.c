/* fault.c - fault points. Invariant: the table is written once, before other threads exist, and only its
 * counters change afterwards, atomically; with the variable unset nothing here runs. */
#include "base/fault.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"

enum what { DO_KILL, DO_KILL_BOTH, DO_STOP, DO_ERROR, DO_LOST, DO_LATE, DO_DELAY, DO_HOLD };

#define HOLD_NS (120 * CO_NS_PER_S)
#define HOLD_POLL_NS (2 * CO_NS_PER_MS)

struct fault {
    char *point;
    enum what what;
    int64_t delay_ms;
    int64_t only; /* 0: every passing */
    atomic_llong passings;
};

bool co_fault_armed;
static struct fault *faults;
static size_t fault_count;
static atomic_int partner;
static char *met_path, *go_path; /* from CHANGEOVER_FAULT_MET */

static int parse_action(struct fault *fault, const char *action, struct co_error *err)
{
    static const struct {
        const char *name;
        enum what what;
    } actions[] = {{"kill", DO_KILL}, {"kill_both", DO_KILL_BOTH}, {"stop", DO_STOP}, {"error", DO_ERROR},
                   {"lost", DO_LOST}, {"late", DO_LATE},           {"hold", DO_HOLD}};
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strcmp(action, actions[i].name) == 0) {
            fault->what = actions[i].what;
            return 0;
        }
    if (strncmp(action, "delay:", 6) == 0) {
        fault->what = DO_DELAY;
        return co_parse_int(action + 6, 0, 86400000, &fault->delay_ms, err);
    }
    return co_fail(err, CO_E_CONFIG,
                   "unknown action '%s'; kill, kill_both, stop, error, lost, late, hold or delay:MS was expected", action);
}

/* "point=action" or "point#3=action"; changes `item` */
static int parse_one(struct fault *fault, char *item, struct co_error *err)
{
    char *equals = strchr(item, '=');
    if (!equals || equals == item)
        return co_fail(err, CO_E_CONFIG, "'%s' isn't point=action", item);
    *equals = '\0';
    int rc = parse_action(fault, equals + 1, err);
    char *hash = strchr(item, '#');
    if (rc == 0 && hash) {
        *hash = '\0';
        rc = co_parse_int(hash + 1, 1, INT32_MAX, &fault->only, err);
    }
    if (rc < 0)
        return rc;
    if (!*item)
        return co_fail(err, CO_E_CONFIG, "a fault has no point");
    fault->point = co_strdup(item);
    return fault->point ? 0 : co_fail(err, CO_E_NOMEM, "no memory for fault points");
}

static void forget(void)
{
    co_fault_armed = false;
    for (size_t i = 0; i < fault_count; i++)
        free(faults[i].point);
    free(faults);
    faults = NULL;
    fault_count = 0;
    free(met_path);
    free(go_path);
    met_path = go_path = NULL;
}

int co_fault_setup(const char *variable, struct co_error *err)
{
    forget();
    const char *value = getenv(variable);
    if (!value || !*value)
        return 0;
    CO_AUTOFREE char *copy = co_strdup(value);
    size_t most = 1;
    for (const char *c = value; *c; c++)
        most += *c == ',';
    faults = calloc(most, sizeof *faults);
    if (!copy || !faults)
        return co_fail(err, CO_E_NOMEM, "no memory for fault points");
    char *rest = copy;
    for (char *item = strsep(&rest, ","); item; item = strsep(&rest, ",")) {
        int rc = parse_one(&faults[fault_count], item, err);
        if (rc < 0) {
            forget();
            co_error_prefix(err, "$%s: ", variable);
            return rc;
        }
        fault_count++;
    }
    const char *met = getenv("CHANGEOVER_FAULT_MET");
    if (met && *met) {
        met_path = co_strdup(met);
        go_path = co_printf("%s.go", met);
        if (!met_path || !go_path) {
            forget();
            return co_fail(err, CO_E_NOMEM, "no memory for fault points");
        }
    }
    co_fault_armed = true;
    return 0;
}

void co_fault_set_partner(int pid)
{
    atomic_store(&partner, pid);
}

/* One line, written before anything happens: whoever injects a fault can see that it was met. */
static void tell_met(const struct fault *fault, long long passing)
{
    int fd = met_path ? open(met_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    dprintf(fd, "%ld %s#%lld\n", (long)getpid(), fault->point, passing);
    close(fd);
}

static void hold(void)
{
    int64_t end_ns = co_now_ns() + HOLD_NS;
    while (go_path && access(go_path, F_OK) != 0 && co_now_ns() < end_ns)
        co_wait_until(co_now_ns() + HOLD_POLL_NS, -1);
}

static enum co_fault_action act(const struct fault *fault, long long passing)
{
    co_debug("fault injected at %s", fault->point);
    tell_met(fault, passing);
    switch (fault->what) {
    case DO_KILL_BOTH: {
        int pid = atomic_load(&partner);
        if (pid > 1)
            kill(pid, SIGKILL);
        kill(getpid(), SIGKILL);
        break;
    }
    case DO_KILL:
        kill(getpid(), SIGKILL);
        break;
    case DO_STOP:
        raise(SIGSTOP); /* to this thread: sent to the process it would stop here a little later, in what follows */
        break;
    case DO_DELAY:
        co_wait_until(co_deadline_in_ms(fault->delay_ms), -1);
        break;
    case DO_HOLD:
        hold();
        break;
    case DO_ERROR:
        return CO_FAULT_ERROR;
    case DO_LOST:
        return CO_FAULT_LOST;
    case DO_LATE:
        return CO_FAULT_LATE;
    }
    return CO_FAULT_NONE;
}

enum co_fault_action co_fault_hit(const char *format, ...)
{
    CO_TEXT_AUTO point = CO_TEXT_INIT;
    va_list args;
    va_start(args, format);
    co_text_vadd(&point, format, args);
    va_end(args);
    enum co_fault_action action = CO_FAULT_NONE;
    for (size_t i = 0; i < fault_count; i++) {
        struct fault *fault = &faults[i];
        if (strcmp(fault->point, co_text_str(&point)) != 0)
            continue;
        long long passing = atomic_fetch_add(&fault->passings, 1) + 1;
        if (fault->only != 0 && fault->only != passing)
            continue;
        enum co_fault_action wanted = act(fault, passing);
        if (action == CO_FAULT_NONE)
            action = wanted;
    }
    return action;
}

void co_fault_each(void (*fn)(const char *point, void *arg), void *arg)
{
    for (size_t i = 0; i < fault_count; i++)
        fn(faults[i].point, arg);
}
