/* cmd_status.c - `status`: both sides as they are now, and what to do next. */
#include <string.h>

#include "base/clock.h"
#include "base/parse.h"
#include "cli/internal.h"

static const char *role_name(enum co_server_role role)
{
    switch (role) {
    case CO_ROLE_PRIMARY:
        return "primary";
    case CO_ROLE_FOLLOWER:
        return "follower";
    case CO_ROLE_OTHER:
        return "other";
    case CO_ROLE_UNKNOWN:
        break;
    }
    return NULL;
}

static const char *link_name(enum co_link_state state)
{
    switch (state) {
    case CO_LINK_RUNNING:
        return "running";
    case CO_LINK_BROKEN:
        return "broken";
    case CO_LINK_NONE:
        return "none";
    case CO_LINK_UNKNOWN:
        break;
    }
    return "unknown";
}

static json_t *side_json(const struct co_side_status *side)
{
    const struct co_identity_data *identity = &side->identity;
    json_t *object = json_object();
    co_json_set(object, "reached", json_boolean(side->reached));
    co_json_set(object, "product", co_json_known(co_text_str(&identity->product)));
    co_json_set(object, "version", co_json_known(co_text_str(&identity->version)));
    co_json_set(object, "instance", co_json_known(co_text_str(&identity->instance)));
    co_json_set(object, "lineage", co_json_known(co_text_str(&identity->lineage)));
    co_json_set(object, "role", co_json_text(role_name(identity->role)));
    co_json_set(object, "accepts_writes", co_json_tristate(side->reached ? identity->accepts_writes : CO_UNKNOWN));
    co_json_set(object, "fenced", co_json_tristate(side->reached ? identity->fenced : CO_UNKNOWN));
    co_json_set(object, "data_bytes", co_json_count(side->reached ? identity->data_bytes : -1));
    co_json_set(object, "error", co_json_known(side->reached ? "" : side->error.message));
    return object;
}

static json_t *pair_json(const struct co_pair_status *from)
{
    json_t *pair = json_object(), *warnings = json_array(), *lag = co_cli_lag_pair(from->name, &from->lag);
    co_json_set(pair, "name", co_json_text(from->name));
    co_json_set(pair, "engine", co_json_text(from->engine));
    co_json_set(pair, "a", side_json(&from->side[CO_SIDE_A]));
    co_json_set(pair, "b", side_json(&from->side[CO_SIDE_B]));
    co_json_set(pair, "link", json_string(link_name(from->link.state)));
    co_json_set(pair, "link_reason", co_json_known(co_text_str(&from->link.reason)));
    co_json_set(pair, "silent_ms", co_json_count(from->link.silent_ms));
    co_json_set(pair, "piled_up_bytes", co_json_count(from->link.piled_up_bytes));
    (void)json_object_del(lag, "name");
    (void)json_object_del(lag, "piled_up_bytes");
    const char *key;
    json_t *value;
    json_object_foreach(lag, key, value)
    {
        if (strcmp(key, "state") == 0)
            (void)json_object_set(pair, "gate", value);
        else
            (void)json_object_set(pair, key, value);
    }
    json_decref(lag);
    for (const char *at = co_text_str(&from->warnings); *at;) {
        size_t bytes = strcspn(at, "\n");
        CO_AUTOFREE char *line = strndup(at, bytes);
        (void)json_array_append_new(warnings, co_json_text(line));
        at += bytes + (at[bytes] == '\n');
    }
    co_json_set(pair, "warnings", warnings);
    co_json_set(pair, "next", co_json_text(co_text_str(&from->next)));
    return pair;
}

static json_t *run_json(const struct co_run_row *row, bool alive)
{
    char time[40];
    json_t *run = json_object();
    co_wall_format(row->started_wall_ms, time, sizeof time);
    co_json_set(run, "run", co_json_text(row->id));
    co_json_set(run, "kind", co_json_text(row->kind));
    co_json_set(run, "started", json_string(time));
    co_json_set(run, "operator", co_json_known(row->operator_name));
    co_json_set(run, "host", co_json_known(row->host));
    co_json_set(run, "pid", co_json_count(row->pid));
    co_json_set(run, "running", json_boolean(alive));
    return run;
}

static void render_side(const json_t *pair, const char *key, struct co_text *ret)
{
    const json_t *side = json_object_get(pair, key);
    char size[32];
    co_text_add(ret, "  %s: ", key);
    if (!co_get_true(side, "reached")) {
        co_text_add(ret, "not reached: %s\n", co_without_pair(co_get_str(side, "error"), co_get_str(pair, "name")));
        return;
    }
    const char *role = co_get_str(side, "role");
    const json_t *writes = json_object_get(side, "accepts_writes");
    co_text_add(ret, "%s %s, %s, %s", co_get_str(side, "product"), co_get_str(side, "version"), *role ? role : "role unknown",
                json_is_true(writes)    ? "takes writes"
                : json_is_false(writes) ? "refuses writes"
                                        : "unknown whether it takes writes");
    if (co_get_true(side, "fenced"))
        co_text_add(ret, ", fenced");
    if (co_get_int(side, "data_bytes") >= 0)
        co_text_add(ret, ", %s", co_format_bytes(co_get_int(side, "data_bytes"), size));
    co_text_add(ret, "\n");
}

static void render(const json_t *doc, struct co_text *ret)
{
    size_t i, k;
    json_t *pair, *warning;
    json_array_foreach(json_object_get(doc, "pairs"), i, pair)
    {
        char text[32];
        co_text_add(ret, "%s (%s)\n", co_get_str(pair, "name"), co_get_str(pair, "engine"));
        render_side(pair, "a", ret);
        render_side(pair, "b", ret);
        co_text_add(ret, "  link: %s%s%s\n", co_get_str(pair, "link"), *co_get_str(pair, "link_reason") ? ", " : "",
                    co_without_pair(co_get_str(pair, "link_reason"), co_get_str(pair, "name")));
        co_text_add(ret, "  gate: %s, lag ", co_get_str(pair, "gate"));
        if (co_get_int(pair, "lag_ms") >= 0)
            co_text_add(ret, "%s", co_format_duration_ms(co_get_int(pair, "lag_ms"), text));
        else if (co_get_int(pair, "lag_at_least_ms") >= 0)
            co_text_add(ret, "at least %s", co_format_duration_ms(co_get_int(pair, "lag_at_least_ms"), text));
        else
            co_text_add(ret, "unknown");
        co_text_add(ret, "%s%s\n", *co_get_str(pair, "reason") ? ": " : "",
                    co_without_pair(co_get_str(pair, "reason"), co_get_str(pair, "name")));
        json_array_foreach(json_object_get(pair, "warnings"), k, warning)
            co_text_add(ret, "  warning: %s\n", json_string_value(warning));
        co_text_add(ret, "  next: %s\n", co_get_str(pair, "next"));
    }
    const json_t *run = json_object_get(doc, "run");
    if (json_is_object(run))
        co_text_add(ret, "%s %s %s, begun %s by %s on %s: see `changeover %s`\n",
                    co_get_true(run, "running") ? "running" : "unfinished", co_get_str(run, "kind"), co_get_str(run, "run"),
                    co_get_str(run, "started"), co_get_str(run, "operator"), co_get_str(run, "host"),
                    co_get_true(run, "running") ? "report" : "resume");
}

int co_cmd_status(struct co_cli *cli)
{
    struct co_status status = {0};
    struct co_error err = {0};
    int code = co_cli_open(cli, CO_CLI_LOOK_JOURNAL);
    if (code != 0)
        return code;
    code = (int)co_status_look(&cli->session, &status, &err);
    if (err.code != 0)
        co_cli_error(cli, &err);
    json_t *pairs = json_array();
    for (size_t i = 0; i < status.pair_count; i++)
        (void)json_array_append_new(pairs, pair_json(&status.pairs[i]));
    co_json_set(cli->doc, "pairs", pairs);
    co_json_set(cli->doc, "run", status.has_run ? run_json(&status.run, status.run_alive) : json_null());
    cli->render = render;
    co_status_done(&status);
    return code;
}
