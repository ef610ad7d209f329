/* scope.c - where the guardian lives, and with whom it would die.
 *
 * A process in a session of its own still belongs to the control group of the service, CI job or login that started it, and
 * dies when that is stopped as a whole. Where systemd runs, the guardian is moved into a scope of its own
 * (StartTransientUnit, org.freedesktop.systemd1(5), systemd 205 and later); that it worked is seen in /proc, not taken
 * from an answer. Invariant: nothing here keeps a run from starting; what can't be had is said.
 */
#include "cutover/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/process.h"

#define CALL_NS (5 * CO_NS_PER_S)
#define SEEN_NS (2 * CO_NS_PER_S)
#define LOOK_NS (10 * CO_NS_PER_MS)
#define INITIAL_PID_NAMESPACE 4026531836u /* PROC_PID_INIT_INO, linux/proc_ns.h */

/* What /proc/<pid>/cgroup says; "" when it can't be read. */
static void read_cgroup(long pid, struct co_text *ret)
{
    char line[1024];
    CO_AUTOFREE char *path = co_printf("/proc/%ld/cgroup", pid);
    co_text_clear(ret);
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file)
        return;
    while (fgets(line, sizeof line, file))
        co_text_add(ret, "%s", line);
    fclose(file);
}

static bool ask_systemd(long pid, const char *unit, const char *run)
{
    CO_AUTOFREE char *number = co_printf("%ld", pid);
    CO_AUTOFREE char *title = co_printf("guardian of changeover run %s", run);
    if (!number || !title)
        return false;
    const char *const argv[] = {"busctl",
                                geteuid() == 0 ? "--system" : "--user",
                                "--timeout=5",
                                "call",
                                "org.freedesktop.systemd1",
                                "/org/freedesktop/systemd1",
                                "org.freedesktop.systemd1.Manager",
                                "StartTransientUnit",
                                "ssa(sv)a(sa(sv))",
                                unit,
                                "fail",
                                "3",
                                "PIDs",
                                "au",
                                "1",
                                number,
                                "Description",
                                "s",
                                title,
                                "CollectMode",
                                "s",
                                "inactive-or-failed",
                                "0",
                                NULL};
    struct co_process_spec spec = {.argv = argv, .wake_fd = -1, .deadline_ns = co_now_ns() + CALL_NS};
    struct co_process_result result = {0};
    struct co_error err = {0};
    return co_process_run(&spec, NULL, NULL, &result, &err) == 0 && result.status == 0;
}

bool co_scope_enter(long pid, const char *run)
{
    struct stat info;
    CO_AUTOFREE char *unit = co_printf("changeover-guardian-%s.scope", run);
    CO_TEXT_AUTO cgroup = CO_TEXT_INIT;
    if (!unit || stat("/run/systemd/system", &info) != 0 || !ask_systemd(pid, unit, run))
        return false;
    for (int64_t deadline_ns = co_now_ns() + SEEN_NS;;) { /* the answer is a job that is still to be done */
        read_cgroup(pid, &cgroup);
        if (strstr(co_text_str(&cgroup), unit))
            return true;
        if (co_now_ns() >= deadline_ns)
            return false;
        co_wait_until(co_now_ns() + LOOK_NS, -1);
    }
}

static bool in_container(void)
{
    struct stat info;
    if (access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0 || getenv("KUBERNETES_SERVICE_HOST"))
        return true;
    return stat("/proc/self/ns/pid", &info) == 0 && info.st_ino != INITIAL_PID_NAMESPACE;
}

/* The innermost service of a cgroup listing: "gitlab-runner.service" of ".../system.slice/gitlab-runner.service/job". */
static bool service_of(const char *cgroup, struct co_text *ret)
{
    const char *end = NULL;
    for (const char *at = cgroup; (at = strstr(at, ".service")) != NULL; at += strlen(".service"))
        if (at[8] == '/' || at[8] == '\n' || at[8] == '\0')
            end = at + 8;
    const char *begin = end;
    while (begin && begin > cgroup && begin[-1] != '/' && begin[-1] != '\n')
        begin--;
    if (!end || strncmp(begin, "user@", 5) == 0) /* a login's own manager */
        return false;
    co_text_set(ret, begin, (size_t)(end - begin));
    return true;
}

bool co_scope_shared(bool own_scope, struct co_text *ret_with)
{
    CO_TEXT_AUTO cgroup = CO_TEXT_INIT;
    CO_TEXT_AUTO service = CO_TEXT_INIT;
    co_text_clear(ret_with);
    if (in_container()) {
        co_text_set_str(ret_with, "this is a container");
        return true;
    }
    if (own_scope)
        return false;
    read_cgroup((long)getpid(), &cgroup);
    if (service_of(co_text_str(&cgroup), &service))
        co_text_add(ret_with, "this runs in the service %s", co_text_str(&service));
    else if (getenv("CI"))
        co_text_set_str(ret_with, "this is a CI job");
    return ret_with->bytes > 0;
}
