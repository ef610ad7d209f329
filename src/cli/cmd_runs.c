/* cmd_runs.c - the commands that work on servers: setup, cutover, rollback, resume, abort, detach. They differ only
 * in what they ask first and which run they start. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/parse.h"
#include "cli/internal.h"

typedef enum co_exit run_fn(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret);

/* ---------------------------------------------------------------- faults */

struct fault_search {
    struct co_cli *cli;
    const char *wanted;
    size_t wanted_bytes;
    bool found;
    int code;
};

static void compare_point(const char *point, void *arg)
{
    struct fault_search *search = arg;
    search->found |= strlen(point) == search->wanted_bytes && memcmp(point, search->wanted, search->wanted_bytes) == 0;
}

static void check_point(const char *point, void *arg)
{
    struct fault_search *search = arg;
    struct co_cli *cli = search->cli;
    search->wanted = point;
    search->wanted_bytes = strcspn(point, "#");
    search->found = false;
    co_fault_list(NULL, compare_point, search);
    for (size_t i = 0; i < cli->session.pair_count; i++)
        co_fault_list(cli->session.pairs[i], compare_point, search);
    if (!search->found && search->code == 0)
        search->code =
            co_cli_usage(cli, "CHANGEOVER_FAULT names the point %s, and there is none: see changeover fault-points", point);
}

/* A misspelt point would make a rehearsal that tests nothing. */
static int check_faults(struct co_cli *cli)
{
    struct fault_search search = {.cli = cli};
    if (co_fault_armed)
        co_fault_each(check_point, &search);
    return search.code;
}

/* ---------------------------------------------------------------- a run */

static int work(struct co_cli *cli, run_fn *fn, const struct co_run_options *options)
{
    struct co_run_result result = {0};
    int code = check_faults(cli);
    if (code != 0)
        return code;
    co_cli_catch_signals(&cli->session);
    co_cli_watch(cli);
    code = (int)fn(&cli->session, options, &result);
    co_cli_watch_end(cli);
    co_cli_run_document(cli, &result);
    co_run_result_done(&result);
    return code;
}

static int begin(struct co_cli *cli, struct co_run_options *options, enum co_cli_journal journal)
{
    int code = co_cli_run_options(cli, options);
    return code ? code : co_cli_open(cli, journal);
}

static enum co_cli_journal journal_for(const struct co_cli *cli)
{
    return cli->given[CO_OPTION_DRY_RUN] || cli->given[CO_OPTION_CHECK] ? CO_CLI_LOOK_JOURNAL : CO_CLI_WRITE_JOURNAL;
}

int co_cmd_setup(struct co_cli *cli)
{
    struct co_run_options options;
    int code = begin(cli, &options, journal_for(cli));
    if (code != 0)
        return code;
    if (cli->given[CO_OPTION_DRY_RUN])
        return co_cli_dry_run(cli, CO_PLAN_SETUP);
    return work(cli, co_run_setup, &options);
}

int co_cmd_cutover(struct co_cli *cli)
{
    struct co_run_options options;
    int code = begin(cli, &options, journal_for(cli));
    if (code != 0)
        return code;
    if (cli->session.partial && !cli->config->cutover.partial)
        return co_cli_usage(cli, "-p leaves pairs out, and the config doesn't say cutover.partial: true");
    if (cli->given[CO_OPTION_DRY_RUN])
        return co_cli_dry_run(cli, CO_PLAN_CUTOVER);
    code = co_cli_confirm(cli, "Side b becomes the primary", true, CO_PLAN_CUTOVER);
    return code ? code : work(cli, co_run_cutover, &options);
}

/* ---------------------------------------------------------------- the way back */

static void render_way_back(const json_t *doc, struct co_text *ret)
{
    size_t i;
    json_t *pair;
    json_array_foreach(json_object_get(doc, "pairs"), i, pair)
    {
        char text[32];
        int64_t bytes = co_get_int(pair, "lose_bytes"), transactions = co_get_int(pair, "lose_transactions");
        const json_t *open = json_object_get(pair, "open");
        const char *state = json_is_true(open) ? "open" : json_is_false(open) ? "closed" : "unknown";
        co_text_add(ret, "%s: the way back is %s%s%s\n", co_get_str(pair, "name"), state,
                    *co_get_str(pair, "reason") ? ": " : "",
                    co_without_pair(co_get_str(pair, "reason"), co_get_str(pair, "name")));
        co_text_add(ret, "  if b were lost now: ");
        if (bytes == 0 || transactions == 0)
            co_text_add(ret, "nothing would be lost\n");
        else if (bytes > 0)
            co_text_add(ret, "%s would be lost\n", co_format_bytes(bytes, text));
        else if (transactions > 0)
            co_text_add(ret, "%lld transactions would be lost\n", (long long)transactions);
        else
            co_text_add(ret, "unknown what would be lost\n");
    }
}

static int check_rollback(struct co_cli *cli)
{
    struct co_way_back *ways = NULL;
    size_t count = 0;
    struct co_error err = {0};
    int code = (int)co_check_rollback(&cli->session, &ways, &count, &err);
    if (err.code != 0)
        co_cli_error(cli, &err);
    json_t *pairs = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *pair = json_object();
        co_json_set(pair, "name", co_json_text(ways[i].pair));
        co_json_set(pair, "open", co_json_tristate(ways[i].open));
        co_json_set(pair, "reason", co_json_text(co_text_str(&ways[i].reason)));
        co_json_set(pair, "lose_bytes", co_json_count(ways[i].lose_bytes));
        co_json_set(pair, "lose_transactions", co_json_count(ways[i].lose_transactions));
        (void)json_array_append_new(pairs, pair);
        co_text_done(&ways[i].reason);
    }
    free(ways);
    co_json_set(cli->doc, "check", json_true());
    co_json_set(cli->doc, "pairs", pairs);
    cli->render = render_way_back;
    return code;
}

/* ---------------------------------------------------------------- without the new primary */

static json_t *lost_json(struct co_cli *cli)
{
    json_t *pairs = json_array();
    for (size_t i = 0; i < cli->session.pair_count; i++) {
        struct co_lost lost;
        char time[40];
        json_t *pair = json_object();
        co_lost_look(&cli->session, cli->session.pairs[i], &lost);
        co_wall_format(lost.last_seen_wall_ms, time, sizeof time);
        co_json_set(pair, "name", co_json_text(lost.pair));
        co_json_set(pair, "applied_position", co_json_known(co_text_str(&lost.applied)));
        co_json_set(pair, "reason", co_json_known(co_text_str(&lost.reason)));
        co_json_set(pair, "last_seen_position", co_json_known(co_text_str(&lost.last_seen)));
        co_json_set(pair, "last_seen", lost.last_seen.bytes ? json_string(time) : json_null());
        co_json_set(pair, "complete", json_boolean(lost.complete));
        co_json_set(pair, "missing_bytes", co_json_count(lost.missing_bytes));
        co_json_set(pair, "missing_transactions", co_json_count(lost.missing_transactions));
        (void)json_array_append_new(pairs, pair);
        co_lost_done(&lost);
    }
    return pairs;
}

static void say_lost(const json_t *pairs)
{
    size_t i;
    json_t *pair;
    json_array_foreach(pairs, i, pair)
    {
        CO_TEXT_AUTO text = CO_TEXT_INIT;
        char size[32];
        int64_t bytes = co_get_int(pair, "missing_bytes"), transactions = co_get_int(pair, "missing_transactions");
        const char *applied = co_get_str(pair, "applied_position"), *seen = co_get_str(pair, "last_seen_position");
        if (*applied)
            co_text_add(&text, "%s: a has applied %s. ", co_get_str(pair, "name"), applied);
        else
            co_text_add(&text, "%s: what a has applied isn't known (%s). ", co_get_str(pair, "name"),
                        co_without_pair(co_get_str(pair, "reason"), co_get_str(pair, "name")));
        if (!*seen)
            co_text_add(&text, "No position of b was ever recorded, so what is lost with it isn't known.");
        else if (co_get_true(pair, "complete"))
            co_text_add(&text,
                        "That contains what was last seen of b (%s at %s); what b took after that isn't known, and lost.", seen,
                        co_get_str(pair, "last_seen"));
        else {
            co_text_add(&text, "What was last seen of b is %s (at %s): ", seen, co_get_str(pair, "last_seen"));
            if (transactions > 0)
                co_text_add(&text, "%lld transactions", (long long)transactions);
            else if (bytes > 0)
                co_text_add(&text, "%s", co_format_bytes(bytes, size));
            else
                co_text_add(&text, "a part");
            co_text_add(&text, " of it, and whatever b took after that, is lost.");
        }
        co_say("%s", co_text_str(&text));
    }
}

int co_cmd_rollback(struct co_cli *cli)
{
    struct co_run_options options;
    int code = begin(cli, &options, journal_for(cli));
    if (code != 0)
        return code;
    if (cli->given[CO_OPTION_CHECK])
        return check_rollback(cli);
    if (cli->session.partial && !cli->config->cutover.partial)
        return co_cli_usage(cli, "-p leaves pairs out, and the config doesn't say cutover.partial: true");
    if (options.b_is_lost) {
        json_t *lost = lost_json(cli);
        say_lost(lost);
        co_json_set(cli->doc, "lost", lost);
    }
    if (cli->given[CO_OPTION_DRY_RUN])
        return co_cli_dry_run(cli, options.b_is_lost ? CO_PLAN_ROLLBACK_LOST : CO_PLAN_ROLLBACK);
    code = co_cli_confirm(cli,
                          options.b_is_lost ? "Side a becomes the primary, what only b has is given up, and b must stay off"
                                            : "Side a becomes the primary again",
                          true, options.b_is_lost ? CO_PLAN_ROLLBACK_LOST : CO_PLAN_ROLLBACK);
    return code ? code : work(cli, co_run_rollback, &options);
}

/* ---------------------------------------------------------------- the others */

int co_cmd_resume(struct co_cli *cli)
{
    struct co_run_options options;
    int code = begin(cli, &options, CO_CLI_WRITE_JOURNAL);
    return code ? code : work(cli, co_run_resume, &options);
}

int co_cmd_abort(struct co_cli *cli)
{
    struct co_run_options options;
    const char *what = cli->given[CO_OPTION_FORGET]
                           ? "The run is ended in this journal, whatever the servers are left in"
                           : "The run is turned back after its commit, and what only b has is given up";
    int code = begin(cli, &options, CO_CLI_WRITE_JOURNAL);
    if (code == 0 && (options.b_is_lost || options.forget))
        code = co_cli_confirm(cli, what, false, CO_CLI_NO_PLAN);
    return code ? code : work(cli, co_run_abort, &options);
}

int co_cmd_detach(struct co_cli *cli)
{
    struct co_run_options options;
    int code = begin(cli, &options, journal_for(cli));
    if (code != 0)
        return code;
    if (cli->given[CO_OPTION_DRY_RUN])
        return co_cli_dry_run(cli, CO_PLAN_DETACH);
    code = co_cli_confirm(cli, "The migration ends and the way back closes", false, CO_PLAN_DETACH);
    return code ? code : work(cli, co_run_detach, &options);
}

/* ---------------------------------------------------------------- fault-points */

static void add_point(const char *point, void *arg)
{
    co_text_add(arg, "%s\n", point);
}

int co_cmd_fault_points(struct co_cli *cli)
{
    int code = 0;
    /* Without a config: the core's points; with one also those of its drivers. */
    if (cli->given[CO_OPTION_CONFIG])
        code = co_cli_open(cli, CO_CLI_NO_JOURNAL);
    if (code != 0)
        return code;
    co_fault_list(NULL, add_point, &cli->plain);
    for (size_t i = 0; i < cli->session.pair_count; i++)
        co_fault_list(cli->session.pairs[i], add_point, &cli->plain);
    return CO_EXIT_DONE;
}
