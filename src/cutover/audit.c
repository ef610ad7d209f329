/* audit.c - what both sides were before a run and are after it: versions, sizes, settings, into the journal. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cutover/run.h"

#define LOOK_NS (3 * CO_NS_PER_S)

struct audit {
    struct co_runner *run;
    struct co_lane *lane;
    const char *side, *moment;
};

static void keep(void *arg, const char *group, const char *name, const char *value)
{
    const struct audit *audit = arg;
    co_journal_fact(audit->run->journal, audit->run->row.id, co_pair_name(audit->lane->pair), audit->side, audit->moment, group,
                    name, value, NULL);
}

static const char *role_name(enum co_server_role role)
{
    static const char *const names[] = {"unknown", "primary", "follower", "other"};
    return names[role];
}

static void facts_of(struct co_lane *lane, enum co_run_role role, const char *moment)
{
    struct co_runner *run = lane->run;
    struct co_endpoint *ep = lane->second[role];
    struct audit audit = {run, lane, co_side_name(co_endpoint_side(ep)), moment};
    struct co_sink sink = {.fact = keep, .arg = &audit};
    struct co_identity_data id = {0};
    struct co_error err = {0};
    co_endpoint_sink(ep, &sink);
    if (co_ep_identify(ep, co_now_ns() + LOOK_NS, &id, &err) == CO_DONE) {
        char bytes[32];
        snprintf(bytes, sizeof bytes, "%" PRId64, id.data_bytes);
        const struct co_endpoint_config *at = &co_pair_config(lane->pair)->side[co_endpoint_side(ep)].endpoint;
        CO_TEXT_AUTO address = CO_TEXT_INIT;
        co_text_add(&address, at->port ? "%s:%d" : "%s", at->address ? at->address : "", at->port);
        keep(&audit, "identity", "address", co_text_str(&address));
        keep(&audit, "version", "product", co_text_str(&id.product));
        keep(&audit, "version", "version", co_text_str(&id.version));
        keep(&audit, "version", "driver", co_pair_driver(lane->pair)->version);
        keep(&audit, "version", "library", co_pair_driver(lane->pair)->library);
        keep(&audit, "identity", "instance", co_text_str(&id.instance));
        keep(&audit, "identity", "lineage", co_text_str(&id.lineage));
        keep(&audit, "identity", "role", role_name(id.role));
        keep(&audit, "size", "data_bytes", id.data_bytes >= 0 ? bytes : "");
        if (co_ep_settings(ep, co_now_ns() + LOOK_NS, &err) != CO_DONE)
            co_journal_event(run->journal, run->row.id, co_pair_name(lane->pair), "audit", err.message, NULL);
    } else {
        co_journal_event(run->journal, run->row.id, co_pair_name(lane->pair), "audit", err.message, NULL);
    }
    co_endpoint_sink(ep, NULL);
    co_identity_data_done(&id);
}

void co_audit_resolve(const struct co_runner *run, const char *described, struct co_text *ret)
{
    const struct {
        const char *name, *value;
    } known[] = {
        {"<token>", run->token}, {"<token of the run>", run->token}, {"<run>", run->row.id}, {"<run id>", run->row.id}};
    co_text_set_str(ret, "");
    for (const char *at = described ? described : ""; *at;) {
        size_t plain = strcspn(at, "<"), bytes = 0;
        co_text_add_bytes(ret, at, plain);
        at += plain;
        for (size_t i = 0; i < sizeof known / sizeof *known && !bytes; i++)
            if (strncmp(at, known[i].name, strlen(known[i].name)) == 0) {
                co_text_add(ret, "%s", known[i].value);
                bytes = strlen(known[i].name);
            }
        if (!bytes && *at)
            co_text_add_bytes(ret, at, bytes = 1);
        at += bytes;
    }
}

static int before(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    (void)err;
    if (!(lane->run->source_lost && role == CO_SOURCE))
        facts_of(lane, role, "before");
    return 0;
}

static int after(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    (void)err;
    if (lane->run->source_lost && role == CO_SOURCE)
        return 0;
    if (lane->run->row.decision == CO_DECISION_UNDO && role == CO_TARGET && !lane->target_clean)
        co_journal_event(lane->run->journal, lane->run->row.id, co_pair_name(lane->pair), "audit",
                         "the target wasn't looked at again: it couldn't be made as before", NULL);
    else
        facts_of(lane, role, "after");
    return 0;
}

void co_audit_facts(struct co_runner *run, const char *moment)
{
    co_sides_each(run, moment[0] == 'b' ? before : after);
}
