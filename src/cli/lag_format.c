/* lag_format.c - the lag document in the four formats. All of them read the same document, so they can't differ. */
#include <string.h>

#include "base/parse.h"
#include "cli/internal.h"

json_t *co_cli_lag_pair(const char *name, const struct co_lag_sample *sample)
{
    json_t *pair = json_object();
    co_json_set(pair, "name", co_json_text(name));
    co_json_set(pair, "direction", json_string(sample->primary == CO_SIDE_A ? "a_to_b" : "b_to_a"));
    co_json_set(pair, "state", json_string(co_gate_name(sample->state)));
    co_json_set(pair, "reason", co_json_text(co_text_str(&sample->reason)));
    co_json_set(pair, "lag_ms", co_json_count(sample->lag_ms));
    co_json_set(pair, "lag_at_least_ms", co_json_count(sample->lag_at_least_ms));
    co_json_set(pair, "lag_bytes", co_json_count(sample->lag_bytes));
    co_json_set(pair, "lag_transactions", co_json_count(sample->lag_transactions));
    co_json_set(pair, "primary_position", co_json_known(co_text_str(&sample->primary_position)));
    co_json_set(pair, "applied_position", co_json_known(co_text_str(&sample->applied_position)));
    co_json_set(pair, "piled_up_bytes", co_json_count(sample->piled_up_bytes));
    return pair;
}

static void add_lag(const json_t *pair, struct co_text *ret)
{
    char text[32];
    int64_t lag = co_get_int(pair, "lag_ms"), at_least = co_get_int(pair, "lag_at_least_ms");
    if (lag >= 0)
        co_text_add(ret, "lag %s", co_format_duration_ms(lag, text));
    else if (at_least >= 0)
        co_text_add(ret, "lag at least %s", co_format_duration_ms(at_least, text));
    else
        co_text_add(ret, "lag unknown");
    if (co_get_int(pair, "lag_bytes") >= 0)
        co_text_add(ret, ", %s", co_format_bytes(co_get_int(pair, "lag_bytes"), text));
    if (co_get_int(pair, "lag_transactions") >= 0)
        co_text_add(ret, ", %lld transactions", (long long)co_get_int(pair, "lag_transactions"));
}

void co_cli_lag_text(const json_t *doc, struct co_text *ret)
{
    size_t i;
    json_t *pair, *pairs = json_object_get(doc, "pairs");
    if (*co_get_str(doc, "time"))
        co_text_add(ret, "%s ", co_get_str(doc, "time"));
    if (!*co_get_str(doc, "gate"))
        return;
    co_text_add(ret, "gate %s", co_get_str(doc, "gate"));
    bool one_line = *co_get_str(doc, "time") && json_array_size(pairs) == 1;
    co_text_add(ret, one_line ? "" : "\n");
    json_array_foreach(pairs, i, pair)
    {
        co_text_add(ret, "  %s (%s): %s, ", co_get_str(pair, "name"),
                    strcmp(co_get_str(pair, "direction"), "a_to_b") == 0 ? "a to b" : "b to a", co_get_str(pair, "state"));
        add_lag(pair, ret);
        if (*co_get_str(pair, "reason"))
            co_text_add(ret, ": %s", co_without_pair(co_get_str(pair, "reason"), co_get_str(pair, "name")));
        co_text_add(ret, "\n");
    }
}

/* ---------------------------------------------------------------- prometheus */

static void add_label(struct co_text *ret, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            co_text_add(ret, "\\n");
        else
            co_text_add(ret, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    }
}

static void add_labels(struct co_text *ret, const json_t *doc, const json_t *pair)
{
    co_text_add(ret, "{migration=\"");
    add_label(ret, co_get_str(doc, "migration"));
    co_text_add(ret, "\",pair=\"");
    add_label(ret, co_get_str(pair, "name"));
    co_text_add(ret, "\",direction=\"%s\"} ", co_get_str(pair, "direction"));
}

static void add_integers(struct co_text *ret, const json_t *doc, const char *metric, const char *help, const char *key)
{
    size_t i;
    json_t *pair;
    bool any = false;
    json_array_foreach(json_object_get(doc, "pairs"), i, pair)
    {
        int64_t value = co_get_int(pair, key);
        if (value < 0)
            continue; /* unknown is absent, never 0 */
        if (!any)
            co_text_add(ret, "# HELP %s %s\n# TYPE %s gauge\n", metric, help, metric);
        any = true;
        co_text_add(ret, "%s", metric);
        add_labels(ret, doc, pair);
        if (strcmp(key + strlen(key) - 3, "_ms") == 0)
            co_text_add(ret, "%lld.%03lld\n", (long long)(value / 1000), (long long)(value % 1000));
        else
            co_text_add(ret, "%lld\n", (long long)value);
    }
}

void co_cli_lag_prometheus(const json_t *doc, struct co_text *ret)
{
    size_t i;
    json_t *pair, *pairs = json_object_get(doc, "pairs");
    add_integers(ret, doc, "changeover_lag_seconds", "Proven lag; absent when it is not known.", "lag_ms");
    add_integers(ret, doc, "changeover_lag_at_least_seconds", "A lower bound while the follower has not got there.",
                 "lag_at_least_ms");
    add_integers(ret, doc, "changeover_lag_bytes", "Distance in bytes, where the engine can say.", "lag_bytes");
    add_integers(ret, doc, "changeover_lag_transactions", "Distance in transactions, where the engine can say.",
                 "lag_transactions");
    add_integers(ret, doc, "changeover_piled_up_bytes", "Log that the primary keeps for its follower.", "piled_up_bytes");
    co_text_add(ret, "# HELP changeover_gate_open Whether a cutover could begin.\n# TYPE changeover_gate_open gauge\n");
    json_array_foreach(pairs, i, pair)
    {
        co_text_add(ret, "changeover_gate_open");
        add_labels(ret, doc, pair);
        co_text_add(ret, "%d\n", strcmp(co_get_str(pair, "state"), "open") == 0);
    }
    co_text_add(ret, "# HELP changeover_link_up Whether the follower follows; absent when it is not known.\n"
                     "# TYPE changeover_link_up gauge\n");
    json_array_foreach(pairs, i, pair)
    {
        const char *state = co_get_str(pair, "state");
        if (strcmp(state, "unknown") == 0)
            continue;
        co_text_add(ret, "changeover_link_up");
        add_labels(ret, doc, pair);
        co_text_add(ret, "%d\n", strcmp(state, "broken") != 0);
    }
}

/* ---------------------------------------------------------------- nagios */

static const struct co_pair_config *pair_config(const struct co_config *config, const char *name)
{
    for (size_t i = 0; i < config->pair_count; i++)
        if (strcmp(config->pairs[i].name, name) == 0)
            return &config->pairs[i];
    return NULL;
}

static int nagios_state(const json_t *pair, const struct co_pair_config *config)
{
    const char *state = co_get_str(pair, "state");
    int64_t lag = co_get_int(pair, "lag_ms") >= 0 ? co_get_int(pair, "lag_ms") : co_get_int(pair, "lag_at_least_ms");
    if (strcmp(state, "unknown") == 0)
        return 3;
    if (strcmp(state, "broken") == 0 || (config && config->gate.critical_ms >= 0 && lag >= config->gate.critical_ms))
        return 2;
    return strcmp(state, "open") == 0 ? 0 : 1;
}

static void add_seconds(struct co_text *ret, int64_t ms)
{
    if (ms >= 0)
        co_text_add(ret, "%lld.%03lld", (long long)(ms / 1000), (long long)(ms % 1000));
}

int co_cli_lag_nagios(const json_t *doc, const struct co_config *config, struct co_text *ret)
{
    static const char *const words[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};
    CO_TEXT_AUTO pairs = CO_TEXT_INIT;
    CO_TEXT_AUTO performance = CO_TEXT_INIT;
    size_t i;
    json_t *pair;
    int worst = json_array_size(json_object_get(doc, "pairs")) == 0 ? 3 : 0;
    json_array_foreach(json_object_get(doc, "pairs"), i, pair)
    {
        const char *name = co_get_str(pair, "name");
        const struct co_pair_config *limits = pair_config(config, name);
        int state = nagios_state(pair, limits);
        worst = state > worst ? state : worst;
        co_text_add(&pairs, "%s%s %s, ", i > 0 ? "; " : "", name, co_get_str(pair, "state"));
        add_lag(pair, &pairs);
        if (*co_get_str(pair, "reason"))
            co_text_add(&pairs, " (%s)", co_without_pair(co_get_str(pair, "reason"), name));
        if (co_get_int(pair, "lag_ms") < 0 || !limits)
            continue;
        co_text_add(&performance, " '%s'=", name);
        add_seconds(&performance, co_get_int(pair, "lag_ms"));
        co_text_add(&performance, "s;");
        add_seconds(&performance, limits->gate.max_ms);
        co_text_add(&performance, ";");
        add_seconds(&performance, limits->gate.critical_ms);
        co_text_add(&performance, ";0");
    }
    for (char *at = pairs.data; at && *at; at++) /* "|" begins the performance data, a line ends the message */
        if (*at == '|' || *at == '\n')
            *at = ' ';
    co_text_add(ret, "CHANGEOVER %s - %s%s%s\n", words[worst], pairs.bytes > 0 ? co_text_str(&pairs) : "no measurement",
                performance.bytes > 0 ? " |" : "", co_text_str(&performance));
    return worst;
}
