/* status.c - both sides of every pair as they are now, and what to do next. Works without a journal. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "cutover/run.h"

#define PILE_WARNING_BYTES ((int64_t)1 << 30)

void co_status_done(struct co_status *status)
{
    for (size_t i = 0; i < status->pair_count; i++) {
        struct co_pair_status *pair = &status->pairs[i];
        co_identity_data_done(&pair->side[0].identity);
        co_identity_data_done(&pair->side[1].identity);
        co_link_data_done(&pair->link);
        co_lag_sample_done(&pair->lag);
        co_text_done(&pair->next);
        co_text_done(&pair->warnings);
    }
    free(status->pairs);
    *status = (struct co_status){0};
}

static void say_next(const struct co_status *status, struct co_pair_status *pair)
{
    const struct co_side_status *a = &pair->side[CO_SIDE_A], *b = &pair->side[CO_SIDE_B];
    const char *next;
    if (status->run_alive)
        next = "a run is under way; `changeover report` shows how far it is";
    else if (status->has_run)
        next = "a run was left: `changeover resume` (or `changeover abort`)";
    else if (!a->reached || !b->reached)
        next = "a side can't be reached: see its error; `changeover check` says more";
    else if (a->identity.accepts_writes == CO_YES && b->identity.accepts_writes == CO_YES && b->identity.empty == CO_NO &&
             strcmp(co_text_str(&a->identity.lineage), co_text_str(&b->identity.lineage)) == 0)
        next = "both copies take writes: stop the clients of one at once; `changeover setup` makes b follow again";
    else if (pair->link.state == CO_LINK_NONE)
        next = pair->lag.primary == CO_SIDE_A
                   ? "`changeover check`, then `changeover setup`"
                   : "b is the primary and a doesn't follow: no way back; `changeover resume` tries again, "
                     "`changeover detach` ends the migration";
    else if (pair->link.state == CO_LINK_BROKEN)
        next = "replication is broken: mend what its reason says, or `changeover setup`";
    else if (pair->elsewhere)
        next =
            "b is the primary and a follows, and this journal doesn't know of it: go on with the journal that the cutover was "
            "run with. " CO_JOURNAL_LOST_HINT;
    else if (pair->lag.primary == CO_SIDE_B)
        next = "b is the primary and a follows: `changeover rollback` goes back, `changeover detach` ends the migration";
    else if (pair->lag.state == CO_GATE_OPEN)
        next = "`changeover cutover` when you are ready";
    else
        next = "wait: `changeover lag --wait`";
    co_text_set_str(&pair->next, next);
}

/* The process that has the run, on this boot of this machine. */
bool co_run_alive(const struct co_run_row *row)
{
    char boot_id[40] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file)
        return false;
    if (fgets(boot_id, sizeof boot_id, file))
        boot_id[strcspn(boot_id, "\n")] = '\0';
    fclose(file);
    return strcmp(boot_id, row->boot_id) == 0 && row->pid > 0 && (kill((pid_t)row->pid, 0) == 0 || errno == EPERM);
}

static void look_at_pair(struct co_session *session, struct co_pair *pair, struct co_pair_status *ret)
{
    (void)session;
    struct co_error err = {0};
    ret->name = co_pair_name(pair);
    ret->engine = co_pair_config(pair)->engine;
    struct co_endpoint *ep[2];
    for (int side = 0; side < 2; side++) {
        ep[side] = co_endpoint_new(pair, (enum co_side)side, CO_CONN_MAIN);
        struct co_side_status *at = &ret->side[side];
        at->identity = (struct co_identity_data){
            .accepts_writes = CO_UNKNOWN, .fenced = CO_UNKNOWN, .empty = CO_UNKNOWN, .data_bytes = -1};
        at->reached = ep[side] && co_ep_identify(ep[side], co_now_ns() + CO_CONNECT_NS, &at->identity, &at->error) == CO_DONE;
    }
    struct co_lag *lag = NULL;
    bool known = co_pair_source(pair) == CO_SIDE_B;
    if (co_lag_new(pair, &lag, &err) == 0) {
        co_lag_measure(lag, -1, &ret->lag);
        co_lag_free(lag);
    }
    ret->elsewhere = ret->lag.primary == CO_SIDE_B && !known;
    int source = (int)ret->lag.primary;
    ret->link = (struct co_link_data){.state = CO_LINK_UNKNOWN, .silent_ms = -1, .piled_up_bytes = -1};
    if (ret->side[!source].reached && co_ep_link(ep[!source], ret->side[source].reached ? ep[source] : NULL,
                                                 co_now_ns() + CO_CONNECT_NS, &ret->link, &err) != CO_DONE)
        co_text_set_str(&ret->link.reason, err.message);
    if (ret->link.piled_up_bytes > PILE_WARNING_BYTES) {
        char size[32];
        co_text_add(&ret->warnings, "side %s keeps %s of log for its follower; watch its disk\n",
                    co_side_name((enum co_side)source), co_format_bytes(ret->link.piled_up_bytes, size));
    }
    co_endpoint_free(ep[0]);
    co_endpoint_free(ep[1]);
}

enum co_exit co_status_look(struct co_session *session, struct co_status *ret, struct co_error *err)
{
    *ret = (struct co_status){0};
    ret->pairs = calloc(session->pair_count ? session->pair_count : 1, sizeof *ret->pairs);
    if (!ret->pairs) {
        co_fail(err, CO_E_NOMEM, "out of memory");
        return CO_EXIT_INTERNAL;
    }
    ret->has_run = session->journal && co_journal_unfinished(session->journal, &ret->run, NULL) == 0;
    ret->run_alive = ret->has_run && co_run_alive(&ret->run);
    enum co_exit code = ret->has_run && !ret->run_alive ? CO_EXIT_UNFINISHED : CO_EXIT_DONE;
    for (size_t i = 0; i < session->pair_count; i++) {
        struct co_pair_status *pair = &ret->pairs[i];
        look_at_pair(session, session->pairs[i], pair);
        ret->pair_count++;
        say_next(ret, pair);
        enum co_exit worst = CO_EXIT_DONE;
        if (!pair->side[0].reached || !pair->side[1].reached || pair->link.state == CO_LINK_UNKNOWN)
            worst = CO_EXIT_UNKNOWN;
        else if (pair->link.state != CO_LINK_RUNNING)
            worst = CO_EXIT_BROKEN;
        if (worst > code)
            code = worst;
    }
    return code;
}
