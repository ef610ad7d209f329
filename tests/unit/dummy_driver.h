/* dummy_driver.h - a driver without a server, for tests of what surrounds drivers. It behaves; a test makes it
 * misbehave through dummy.on, which is asked first at every call. */
#ifndef CO_TESTS_DUMMY_DRIVER_H
#define CO_TESTS_DUMMY_DRIVER_H

#include "unit.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "drivers-host/pair.h"

#define DUMMY_GO_ON ((enum co_result)99) /* `on` has nothing to say: behave */

struct co_conn {
    enum co_side side;
    enum co_conn_purpose purpose;
    atomic_bool broken;
    atomic_int interrupts;
};

/* What one call brought along that `on` may want to fill. */
struct dummy_args {
    struct co_text *text, *text2;
    struct co_identity *identity;
    struct co_link *link;
    struct co_capabilities *capabilities;
    enum co_presence *presence;
    struct co_conn **conn;
    const char *arg[3];
    bool flag;
};

static struct {
    enum co_result (*on)(const char *what, struct co_call *call, struct dummy_args *args);
    const char *instance[2], *lineage[2];
    atomic_int connects, disconnects, applies, reverts, probes;
    atomic_int threads_at_once;
    char applied_token[64];
} dummy;

static enum co_result dummy_ask(const char *what, struct co_call *call, struct dummy_args *args)
{
    return dummy.on ? dummy.on(what, call, args) : DUMMY_GO_ON;
}

static UNIT_UNUSED enum co_result dummy_fail(struct co_call *call, enum co_result result, int code, const char *message)
{
    call->err->code = code;
    snprintf(call->err->message, sizeof call->err->message, "%s", message);
    return result;
}

#define ASK(what, ...)                                                                                                         \
    do {                                                                                                                       \
        struct dummy_args args_ = {__VA_ARGS__};                                                                               \
        enum co_result result_ = dummy_ask(what, call, &args_);                                                                \
        if (result_ != DUMMY_GO_ON)                                                                                            \
            return result_;                                                                                                    \
    } while (0)

static void dummy_text(struct co_call *call, struct co_text *text, const char *value)
{
    call->host->text_set(call->ctx, text, value, strlen(value));
}

static enum co_result dummy_connect(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret)
{
    ASK("connect", .conn = ret);
    struct co_conn *conn = calloc(1, sizeof *conn);
    conn->side = call->side;
    conn->purpose = purpose;
    atomic_fetch_add(&dummy.connects, 1);
    *ret = conn;
    return CO_DONE;
}

static void dummy_disconnect(struct co_conn *conn)
{
    if (conn)
        atomic_fetch_add(&dummy.disconnects, 1);
    free(conn);
}

static bool dummy_alive(struct co_conn *conn)
{
    return !atomic_load(&conn->broken);
}

static void dummy_interrupt(struct co_conn *conn)
{
    atomic_fetch_add(&conn->interrupts, 1);
}

static enum co_result dummy_identify(struct co_call *call, struct co_identity *ret)
{
    ASK("identify", .identity = ret);
    dummy_text(call, ret->product, "Dummy");
    dummy_text(call, ret->version, "1");
    dummy_text(call, ret->instance, dummy.instance[call->side] ? dummy.instance[call->side] : call->side ? "iB" : "iA");
    dummy_text(call, ret->lineage, dummy.lineage[call->side] ? dummy.lineage[call->side] : "l1");
    dummy_text(call, ret->incarnation, "1");
    ret->role = CO_ROLE_PRIMARY;
    return CO_DONE;
}

static enum co_result dummy_capabilities(struct co_call *call, struct co_capabilities *ret)
{
    ASK("capabilities", .capabilities = ret);
    ret->promote_closed = true;
    return CO_DONE;
}

static enum co_result dummy_settings(struct co_call *call)
{
    ASK("settings", .flag = false);
    call->host->fact(call->ctx, "setting", "mode", "fast");
    return CO_DONE;
}

static enum co_result dummy_discover(struct co_call *call)
{
    ASK("discover", .flag = false);
    call->host->found(call->ctx, "slot", "changeover", NULL);
    return CO_DONE;
}

static enum co_result dummy_check(struct co_call *call, enum co_check_stage stage)
{
    ASK("check", .flag = stage == CO_CHECK_CUTOVER);
    return CO_DONE;
}

static enum co_result dummy_position(struct co_call *call, struct co_text *ret)
{
    ASK("position", .text = ret);
    dummy_text(call, ret, "7");
    return CO_DONE;
}

static enum co_result dummy_applied(struct co_call *call, struct co_text *ret)
{
    ASK("applied", .text = ret);
    dummy_text(call, ret, "5");
    return CO_DONE;
}

static enum co_order dummy_compare(const char *have, const char *want)
{
    long a = strtol(have, NULL, 10), b = strtol(want, NULL, 10);
    return a < b ? CO_ORDER_BEHIND : a == b ? CO_ORDER_EQUAL : CO_ORDER_AHEAD;
}

static void dummy_distance(const char *have, const char *want, struct co_distance *ret)
{
    ret->transactions = strtol(want, NULL, 10) - strtol(have, NULL, 10);
}

static enum co_result dummy_link(struct co_call *call, struct co_link *ret)
{
    ASK("link", .link = ret);
    ret->state = CO_LINK_RUNNING;
    return CO_DONE;
}

static enum co_result dummy_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info)
{
    ASK("marker_get", .text = ret_token, .text2 = ret_info);
    return CO_DONE;
}

static enum co_result dummy_marker_set(struct co_call *call, const char *expected, const char *token, const char *info)
{
    ASK("marker_set", .arg = {expected, token, info});
    return CO_DONE;
}

static enum co_result dummy_prepare(struct co_call *call)
{
    ASK("prepare", .flag = false);
    return CO_DONE;
}

static enum co_result dummy_drain(struct co_call *call, bool end, struct co_text *remaining)
{
    ASK("drain", .text = remaining, .flag = end);
    return CO_DONE;
}

static enum co_result dummy_capture(struct co_call *call, struct co_text *ret)
{
    ASK("capture", .text = ret);
    dummy_text(call, ret, "7");
    return CO_DONE;
}

static enum co_result dummy_proof(struct co_call *call, const char *position)
{
    ASK("proof", .arg = {position});
    return CO_DONE;
}

static enum co_result dummy_end_sessions(struct co_call *call, const char *keep_actor)
{
    ASK("end_sessions", .arg = {keep_actor});
    return CO_DONE;
}

static enum co_result dummy_probe_write(struct co_call *call)
{
    ASK("probe_write", .flag = false);
    return CO_DONE;
}

static enum co_result dummy_digest(struct co_call *call, const char *range, struct co_text *ret)
{
    ASK("digest", .text = ret, .arg = {range});
    dummy_text(call, ret, "cafe");
    return CO_DONE;
}

static enum co_result dummy_describe(struct co_call *call, struct co_text *ret)
{
    ASK("describe", .text = ret);
    dummy_text(call, ret, "FENCE");
    return CO_DONE;
}

static enum co_result dummy_probe(struct co_call *call, enum co_presence *ret)
{
    ASK("probe", .presence = ret);
    atomic_fetch_add(&dummy.probes, 1);
    *ret = atomic_load(&dummy.applies) > atomic_load(&dummy.reverts) ? CO_PRESENT : CO_ABSENT;
    return CO_DONE;
}

static enum co_result dummy_apply(struct co_call *call)
{
    ASK("apply", .flag = false);
    snprintf(dummy.applied_token, sizeof dummy.applied_token, "%s", call->run ? call->run->token : "none");
    atomic_fetch_add(&dummy.applies, 1);
    return CO_DONE;
}

static enum co_result dummy_revert(struct co_call *call)
{
    ASK("revert", .flag = false);
    atomic_fetch_add(&dummy.reverts, 1);
    return CO_DONE;
}

static bool dummy_wanted(struct co_call *call)
{
    return call->conn != NULL;
}

static const struct co_step dummy_steps[] = {
    {.size = sizeof(struct co_step),
     .name = "fence.deny",
     .title = "refuse writes",
     .phase = CO_PHASE_FENCE,
     .role = CO_SOURCE,
     .describe = dummy_describe,
     .probe = dummy_probe,
     .apply = dummy_apply,
     .revert = dummy_revert},
    {.size = sizeof(struct co_step),
     .name = "open.allow",
     .title = "allow writes",
     .phase = CO_PHASE_OPEN,
     .role = CO_TARGET,
     .flags = CO_STEP_NO_WAY_BACK,
     .wanted = dummy_wanted,
     .describe = dummy_describe,
     .probe = dummy_probe,
     .apply = dummy_apply},
    {.size = sizeof(struct co_step),
     .name = "reverse.both",
     .title = "needs both sides",
     .phase = CO_PHASE_REVERSE,
     .role = CO_SOURCE,
     .flags = CO_STEP_BOTH,
     .describe = dummy_describe,
     .probe = dummy_probe,
     .apply = dummy_apply,
     .revert = dummy_revert},
    {.size = sizeof(struct co_step),
     .name = "fence.stop",
     .title = "stop the server",
     .phase = CO_PHASE_FENCE,
     .role = CO_SOURCE,
     .flags = CO_STEP_OFFLINE,
     .describe = dummy_describe,
     .probe = dummy_probe,
     .apply = dummy_apply,
     .revert = dummy_revert},
};

static const struct co_engine dummy_engines[] = {{"dummy", "dummy|dummys", 1111}};
static const struct co_option dummy_options[] = {
    {"mode", CO_OPT_PAIR, CO_OPT_ENUM, "slow|fast", "fast", "How fast it is."},
    {"level", CO_OPT_PAIR, CO_OPT_INT, NULL, NULL, "How loud it is."},
    {"flags", CO_OPT_PAIR, CO_OPT_ARGV, NULL, NULL, "What it is started with."},
    {"host.data_directory", CO_OPT_SIDE, CO_OPT_STRING, NULL, "/var/lib/dummy", "Where its data is."},
};
static const char *const dummy_points[] = {"dummy.middle", NULL};

#define DUMMY_DRIVER                                                                                                           \
    {                                                                                                                          \
        .size = sizeof(struct co_driver), .abi = CO_DRIVER_ABI, .name = "dummy", .version = "1", .library = "none",            \
        .engines = dummy_engines, .engine_count = 1, .options = dummy_options,                                                 \
        .option_count = sizeof dummy_options / sizeof *dummy_options, .steps = dummy_steps,                                    \
        .step_count = sizeof dummy_steps / sizeof *dummy_steps, .fault_points = dummy_points, .connect = dummy_connect,        \
        .disconnect = dummy_disconnect, .alive = dummy_alive, .identify = dummy_identify, .capabilities = dummy_capabilities,  \
        .settings = dummy_settings, .discover = dummy_discover, .check = dummy_check, .position = dummy_position,              \
        .applied = dummy_applied, .compare = dummy_compare, .distance = dummy_distance, .link = dummy_link,                    \
        .marker_get = dummy_marker_get, .marker_set = dummy_marker_set, .prepare = dummy_prepare, .drain = dummy_drain,        \
        .capture = dummy_capture, .proof = dummy_proof, .end_sessions = dummy_end_sessions, .probe_write = dummy_probe_write,  \
        .digest = dummy_digest, .interrupt = dummy_interrupt,                                                                  \
    }

static const struct co_driver dummy_driver = DUMMY_DRIVER;

static const struct co_run dummy_run = {.size = sizeof(struct co_run),
                                        .id = "run-1",
                                        .token = "run-1:1",
                                        .actor = "tool-1",
                                        .session_name = "changeover:run-1:tool-1",
                                        .source = CO_SIDE_A};

/* A pair named orders whose config is DUMMY_HEAD + what is given for a and b. */
static UNIT_UNUSED struct co_config *dummy_config(const char *folder, const char *pair_keys, const char *a_keys,
                                                  const char *b_keys)
{
    char text[8192];
    snprintf(text, sizeof text,
             "migration: test\njournal: %s/journal\npairs:\n  - name: orders\n    engine: dummy\n%s"
             "    a:\n      url: \"dummy://alice@10.0.0.1/db?color=red\"\n      tls: {mode: off}\n%s"
             "    b:\n      url: \"dummy://bob@10.0.0.2:99/db\"\n      tls: {mode: off}\n%s",
             folder, pair_keys, a_keys, b_keys);
    const char *path = unit_file(folder, "changeover.yaml", text, 0600);
    struct co_config *config = NULL;
    struct co_error err = {0};
    if (co_config_load(path, &config, &err) < 0 || co_config_load_secrets(config, &err) < 0)
        fail_msg("config: %s", err.message);
    return config;
}

static UNIT_UNUSED struct co_pair *dummy_pair(const struct co_config *config)
{
    struct co_error err = {0};
    struct co_pair *pair = NULL;
    if (co_pair_new(config, 0, &pair, &err) < 0)
        fail_msg("pair: %s", err.message);
    return pair;
}

static UNIT_UNUSED void dummy_reset(void)
{
    dummy.on = NULL;
    for (int i = 0; i < 2; i++)
        dummy.instance[i] = dummy.lineage[i] = NULL;
    atomic_store(&dummy.connects, 0);
    atomic_store(&dummy.disconnects, 0);
    atomic_store(&dummy.applies, 0);
    atomic_store(&dummy.reverts, 0);
    atomic_store(&dummy.probes, 0);
    dummy.applied_token[0] = '\0';
}

#endif
