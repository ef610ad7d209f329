/* hooks.c - the commands and HTTP checks of the config: freeze, switch, confirm, unfreeze, after_undo.
 *
 * A hook gets no secret; its environment names the run. It runs again when a run is resumed, so it must bear
 * that. Output is masked, capped and kept in the journal.
 */
#include "cutover/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http.h"
#include "base/process.h"

#define HTTP_TRY_NS (CO_NS_PER_S / 2)

static char *fill_in(const char *word, const char *side)
{
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    for (const char *at = word; *at;) {
        if (strncmp(at, "{side}", 6) == 0) {
            co_text_add(&text, "%s", side);
            at += 6;
        } else {
            co_text_add_bytes(&text, at++, 1);
        }
    }
    if (!text.bytes)
        co_text_set_str(&text, "");
    return co_text_take(&text);
}

static char **fill_argv(char *const *argv, const char *side)
{
    size_t count = 0;
    while (argv[count])
        count++;
    char **filled = calloc(count + 1, sizeof *filled);
    for (size_t i = 0; filled && i < count; i++)
        if (!(filled[i] = fill_in(argv[i], side)))
            filled[i] = co_strdup("");
    return filled;
}

static void free_argv(char **argv)
{
    for (size_t i = 0; argv && argv[i]; i++)
        free(argv[i]);
    free(argv);
}

static char *pair_names(const struct co_runner *run)
{
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    for (size_t i = 0; i < run->lane_count; i++)
        co_text_add(&text, "%s%s", i ? "," : "", co_pair_name(run->lanes[i].pair));
    return co_text_take(&text);
}

/* One try of a command. 0: exit status 0. */
static int run_command(struct co_runner *run, const struct co_hook *hook, const char *phase, const char *side,
                       int64_t deadline_ns, struct co_text *output, struct co_error *err)
{
    CO_AUTOFREE char *pairs = pair_names(run);
    CO_AUTOFREE char *env_run = co_printf("CHANGEOVER_RUN=%s", run->row.id);
    CO_AUTOFREE char *env_pair = co_printf("CHANGEOVER_PAIR=%s", pairs ? pairs : "");
    CO_AUTOFREE char *env_side = co_printf("CHANGEOVER_SIDE=%s", side);
    CO_AUTOFREE char *env_phase = co_printf("CHANGEOVER_PHASE=%s", phase);
    if (!env_run || !env_pair || !env_side || !env_phase)
        return co_fail(err, CO_E_NOMEM, "out of memory");
    const char *env[] = {env_run, env_pair, env_side, env_phase, NULL};
    char **argv = fill_argv(hook->run, side);
    if (!argv)
        return co_fail(err, CO_E_NOMEM, "out of memory");
    CO_TEXT_AUTO err_out = CO_TEXT_INIT;
    struct co_process_result result;
    struct co_process_spec spec = {.argv = (const char *const *)argv,
                                   .extra_env = env,
                                   .wake_fd = run->committed ? -1 : run->session->wake_fd,
                                   .deadline_ns = co_min_deadline(deadline_ns, co_deadline_in_ms(hook->timeout_ms))};
    int failed = co_process_run(&spec, output, &err_out, &result, err);
    co_text_add(output, "%s", co_text_str(&err_out));
    if (failed)
        co_error_prefix(err, "hook %s: ", phase);
    else if (result.status != 0)
        failed = co_fail(err, CO_E_COMMAND, "hook %s: %s ended with status %d", phase, argv[0], result.status);
    if (failed)
        co_hint(err, "Its output is in `changeover report`.");
    free_argv(argv);
    return failed;
}

/* One GET. 0: the expected status. */
static int get_once(struct co_runner *run, const struct co_hook *hook, const char *phase, int64_t deadline_ns,
                    struct co_error *err)
{
    int status = 0;
    struct co_http_request request = {.url = hook->http_url,
                                      .proxy_of_environment = true,
                                      .wake_fd = run->committed ? -1 : run->session->wake_fd,
                                      .deadline_ns = deadline_ns};
    if (co_http(&request, &status, NULL, err) != CO_DONE) {
        co_error_prefix(err, "hook %s: ", phase);
        return err->code;
    }
    CO_AUTOFREE char *shown = co_http_shown(hook->http_url);
    return status == hook->http_expect ? 0
                                       : co_fail(err, CO_E_COMMAND, "hook %s: %s answered %d, expected %d", phase,
                                                 shown ? shown : "the URL", status, hook->http_expect);
}

static int check_http(struct co_runner *run, const struct co_hook *hook, const char *phase, int64_t deadline_ns,
                      struct co_error *err)
{
    deadline_ns = co_min_deadline(deadline_ns, co_deadline_in_ms(hook->timeout_ms));
    for (;;) {
        struct co_error now = {0};
        int failed = get_once(run, hook, phase, deadline_ns, &now);
        bool over = co_now_ns() >= deadline_ns;
        if (failed && !(over && failed == CO_E_TIMEOUT && err->code)) /* a last try cut short says less than the one before */
            *err = now;
        if (!failed || over || failed == CO_E_INTERRUPTED)
            return failed;
        co_wait_until(co_min_deadline(deadline_ns, co_now_ns() + HTTP_TRY_NS), run->committed ? -1 : run->session->wake_fd);
    }
}

static int run_one(struct co_runner *run, const struct co_hook *hook, size_t index, const char *phase, const char *side,
                   int64_t deadline_ns, struct co_error *err)
{
    CO_AUTOFREE char *name = co_printf("hook:%s[%zu]", phase, index);
    CO_TEXT_AUTO statement = CO_TEXT_INIT;
    for (size_t i = 0; hook->run && hook->run[i]; i++)
        co_text_add(&statement, "%s%s", i ? " " : "", hook->run[i]);
    CO_AUTOFREE char *shown = hook->http_url ? co_http_shown(hook->http_url) : NULL;
    if (shown)
        co_text_add(&statement, "GET %s", shown);
    int failed = 0;
    for (int attempt = 0; attempt <= hook->retries; attempt++) {
        co_error_clear(err);
        int64_t row = -1;
        struct co_step_row entry = {.pair = "",
                                    .side = side,
                                    .phase = phase,
                                    .step = name ? name : "hook",
                                    .action = "hook",
                                    .statement = co_text_str(&statement)};
        co_journal_step_begin(run->journal, run->row.id, &entry, &row, NULL);
        CO_TEXT_AUTO output = CO_TEXT_INIT;
        failed = hook->run ? run_command(run, hook, phase, side, deadline_ns, &output, err)
                           : check_http(run, hook, phase, deadline_ns, err);
        if (failed)
            co_text_add(&output, "%s%s", output.bytes ? "\n" : "", err->message);
        if (row >= 0)
            co_journal_step_end(run->journal, row, failed ? "failed" : "done", co_text_str(&output), NULL);
        co_runner_say(run, NULL, CO_WATCH_HOOK, "%s: %s", co_text_str(&statement), failed ? err->message : "done");
        if (!failed || co_now_ns() >= deadline_ns)
            break;
    }
    return failed;
}

int co_hooks_run(struct co_runner *run, const struct co_hooks *hooks, const char *phase, enum co_side side, int64_t deadline_ns,
                 struct co_error *err)
{
    for (size_t i = 0; i < hooks->count; i++) {
        int failed = run_one(run, &hooks->items[i], i, phase, co_side_name(side), deadline_ns, err);
        if (failed)
            return failed;
    }
    return 0;
}
