/* cmd_lag.c - `lag`: one shot, --wait, --watch and --history. Several pairs are measured at once; the worst one is
 * the gate. */
#include <errno.h>
#include <pthread.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/internal.h"

enum format { FORMAT_TEXT, FORMAT_JSON, FORMAT_PROMETHEUS, FORMAT_NAGIOS };

struct meter {
    struct co_cli *cli;
    enum format format;
    bool watching;      /* co_lag_watch in place of co_lag_measure */
    int64_t timeout_ms; /* of one shot; -1 */
    struct co_lag **lags;
    struct co_gate **gates; /* with --wait */
    struct co_lag_sample *samples;
    size_t count;
    struct co_crew *crew;
    bool record; /* into the journal */
    int stop_fd;
    pthread_t waker;
    bool waker_runs;
};

/* Ends calls that are under way when a signal came: a server that hangs must not hold up ^C. */
static void *wake_calls(void *arg)
{
    struct meter *meter = arg;
    struct pollfd fds[] = {{.fd = meter->cli->session.wake_fd, .events = POLLIN}, {.fd = meter->stop_fd, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    if (fds[0].revents)
        for (size_t i = 0; i < meter->count; i++)
            co_lag_interrupt(meter->lags[i]);
    return NULL;
}

static void meter_done(struct meter *meter)
{
    if (meter->waker_runs) {
        uint64_t one = 1;
        if (write(meter->stop_fd, &one, sizeof one) == (ssize_t)sizeof one)
            pthread_join(meter->waker, NULL);
    }
    co_cli_catch_signals(NULL);
    for (size_t i = 0; i < meter->count; i++) {
        if (meter->samples)
            co_lag_sample_done(&meter->samples[i]);
        if (meter->gates)
            co_gate_free(meter->gates[i]);
        if (meter->lags)
            co_lag_free(meter->lags[i]);
    }
    co_crew_free(meter->crew);
    if (meter->stop_fd >= 0)
        close(meter->stop_fd);
    free(meter->samples);
    free(meter->gates);
    free(meter->lags);
}

static int meter_start(struct meter *meter)
{
    struct co_session *session = &meter->cli->session;
    struct co_error err = {0};
    meter->lags = calloc(session->pair_count + 1, sizeof(struct co_lag *));
    meter->gates = calloc(session->pair_count + 1, sizeof(struct co_gate *));
    meter->samples = calloc(session->pair_count + 1, sizeof *meter->samples);
    meter->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (!meter->lags || !meter->gates || !meter->samples || meter->stop_fd < 0) {
        co_fail(&err, CO_E_NOMEM, "no memory to measure");
        return co_cli_error(meter->cli, &err);
    }
    for (size_t i = 0; i < session->pair_count; i++) {
        if (co_lag_new(session->pairs[i], &meter->lags[i], &err) != 0)
            return co_cli_error(meter->cli, &err);
        meter->count = i + 1;
        meter->gates[i] = co_gate_new(co_pair_config(session->pairs[i]));
        if (!meter->gates[i]) {
            co_fail(&err, CO_E_NOMEM, "no memory to measure");
            return co_cli_error(meter->cli, &err);
        }
    }
    if (meter->count > 1 && co_crew_new(meter->count, &meter->crew, &err) != 0)
        return co_cli_error(meter->cli, &err);
    co_cli_catch_signals(session);
    meter->waker_runs = pthread_create(&meter->waker, NULL, wake_calls, meter) == 0;
    return 0;
}

static void measure_one(size_t index, void *arg)
{
    struct meter *meter = arg;
    co_lag_sample_done(&meter->samples[index]);
    meter->samples[index] = (struct co_lag_sample){0};
    if (meter->watching)
        co_lag_watch(meter->lags[index], &meter->samples[index]);
    else
        co_lag_measure(meter->lags[index], meter->timeout_ms, &meter->samples[index]);
}

static void record(const struct meter *meter, size_t index)
{
    const struct co_lag_sample *sample = &meter->samples[index];
    struct co_lag_row row = {.wall_ms = sample->wall_ms,
                             .pair = co_pair_name(meter->cli->session.pairs[index]),
                             .direction = sample->primary == CO_SIDE_A ? "a_to_b" : "b_to_a",
                             .state = co_gate_name(sample->state),
                             .reason = co_text_str(&sample->reason),
                             .lag_ms = sample->lag_ms,
                             .lag_at_least_ms = sample->lag_at_least_ms,
                             .lag_bytes = sample->lag_bytes,
                             .lag_transactions = sample->lag_transactions,
                             .primary_position = co_text_str(&sample->primary_position),
                             .applied_position = co_text_str(&sample->applied_position)};
    struct co_error err = {0};
    if (co_journal_lag(meter->cli->session.journal, &row, &err) != 0)
        co_debug("the sample was not recorded: %s", err.message);
}

static void measure(struct meter *meter)
{
    if (meter->crew)
        co_crew_run(meter->crew, meter->count, measure_one, meter);
    else
        for (size_t i = 0; i < meter->count; i++)
            measure_one(i, meter);
    for (size_t i = 0; i < meter->count && meter->record; i++)
        record(meter, i);
}

/* Fills doc from the samples. gated: states are the gates' (stable_for counts), else the samples' own. */
static enum co_gate_state fill(struct meter *meter, json_t *doc, bool gated)
{
    enum co_gate_state worst = CO_GATE_OPEN;
    json_t *pairs = json_array();
    for (size_t i = 0; i < meter->count; i++) {
        const struct co_lag_sample *sample = &meter->samples[i];
        json_t *pair = co_cli_lag_pair(co_pair_name(meter->cli->session.pairs[i]), sample);
        enum co_gate_state state = sample->state;
        if (gated) {
            CO_TEXT_AUTO reason = CO_TEXT_INIT;
            int64_t stable_ms = -1;
            state = co_gate_feed(meter->gates[i], sample, &stable_ms, &reason);
            co_json_set(pair, "state", json_string(co_gate_name(state)));
            co_json_set(pair, "reason", co_json_text(co_text_str(&reason)));
            co_json_set(pair, "stable_ms", co_json_count(stable_ms));
        }
        worst = co_gate_worst(worst, state);
        (void)json_array_append_new(pairs, pair);
    }
    co_json_set(doc, "gate", json_string(co_gate_name(worst)));
    co_json_set(doc, "pairs", pairs);
    return worst;
}

/* Prints a document in the format asked for where that isn't the usual text or JSON. Returns the exit code. */
static int present(struct meter *meter, enum co_gate_state gate)
{
    struct co_cli *cli = meter->cli;
    cli->render = co_cli_lag_text;
    if (meter->format == FORMAT_PROMETHEUS)
        co_cli_lag_prometheus(cli->doc, &cli->plain);
    if (meter->format == FORMAT_NAGIOS)
        return co_cli_lag_nagios(cli->doc, cli->config, &cli->plain);
    return (int)gate;
}

static int one_shot(struct meter *meter)
{
    measure(meter);
    enum co_gate_state gate = fill(meter, meter->cli->doc, false);
    if (meter->cli->session.interrupted)
        return CO_EXIT_INTERRUPTED;
    return present(meter, gate);
}

/* Often enough that stable_for is seen to begin and end, seldom enough to cost the servers nothing. */
static int64_t interval_ns(const struct meter *meter)
{
    int64_t ms = 1000;
    for (size_t i = 0; i < meter->count; i++) {
        int64_t stable = co_pair_config(meter->cli->session.pairs[i])->gate.stable_for_ms;
        if (stable / 10 < ms)
            ms = stable / 10;
    }
    return (ms < 100 ? 100 : ms) * CO_NS_PER_MS;
}

static int wait_for_gate(struct meter *meter, int64_t timeout_ms)
{
    struct co_cli *cli = meter->cli;
    int64_t deadline = co_deadline_in_ms(timeout_ms), next = co_now_ns();
    for (;;) {
        measure(meter);
        enum co_gate_state gate = fill(meter, cli->doc, true);
        CO_TEXT_AUTO status = CO_TEXT_INIT;
        co_cli_lag_text(cli->doc, &status);
        for (char *at = status.data; at && *at; at++)
            *at = *at == '\n' ? ' ' : *at;
        bool failed = gate == CO_GATE_BROKEN || gate == CO_GATE_UNKNOWN;
        bool last = gate == CO_GATE_OPEN || (failed && cli->given[CO_OPTION_FAIL_FAST]) || co_now_ns() >= deadline ||
                    cli->session.interrupted;
        if (last) {
            co_log_status(NULL);
            int code = present(meter, gate);
            return cli->session.interrupted && gate != CO_GATE_OPEN ? CO_EXIT_INTERRUPTED : code;
        }
        co_cli_show_transient(co_text_str(&status));
        next += interval_ns(meter);
        if (next < co_now_ns())
            next = co_now_ns();
        co_wait_until(co_min_deadline(next, deadline), cli->session.wake_fd);
    }
}

static bool print_watched(struct meter *meter)
{
    struct co_cli *cli = meter->cli;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    if (meter->format == FORMAT_JSON) {
        json_t *whole = co_cli_envelope("lag", 0, cli->errors, cli->doc);
        const char *gate = co_get_str(cli->doc, "gate");
        for (int state = CO_GATE_OPEN; state <= CO_GATE_UNKNOWN; state++)
            if (strcmp(gate, co_gate_name((enum co_gate_state)state)) == 0)
                co_json_set(whole, "exit_code", json_integer(state));
        char *dump = json_dumps(whole, JSON_COMPACT);
        co_text_set_str(&text, dump);
        co_text_add(&text, "\n");
        free(dump);
        json_decref(whole);
    } else if (meter->format == FORMAT_PROMETHEUS) {
        co_cli_lag_prometheus(cli->doc, &text);
    } else if (meter->format == FORMAT_NAGIOS) {
        co_cli_lag_nagios(cli->doc, cli->config, &text);
    } else {
        co_cli_lag_text(cli->doc, &text);
    }
    return co_cli_print(co_text_str(&text), text.bytes);
}

static int watch(struct meter *meter, int64_t every_ms)
{
    struct co_cli *cli = meter->cli;
    int64_t next = co_now_ns();
    enum co_gate_state gate = CO_GATE_UNKNOWN;
    cli->silent = true;
    while (!cli->session.interrupted) {
        char time[40];
        measure(meter);
        if (cli->session.interrupted)
            break;
        co_wall_format(co_wall_ms(), time, sizeof time);
        co_json_set(cli->doc, "time", json_string(time));
        gate = fill(meter, cli->doc, true);
        if (!print_watched(meter))
            return (int)gate; /* nobody reads any more */
        next += every_ms * CO_NS_PER_MS;
        if (next < co_now_ns())
            next = co_now_ns();
        co_wait_until(next, cli->session.wake_fd);
    }
    return CO_EXIT_INTERRUPTED;
}

/* ---------------------------------------------------------------- history */

static void render_history(const json_t *doc, struct co_text *ret)
{
    size_t i;
    json_t *sample;
    json_array_foreach(json_object_get(doc, "samples"), i, sample)
    {
        co_text_add(ret, "%s  %-16s %-8s", co_get_str(sample, "time"), co_get_str(sample, "name"), co_get_str(sample, "state"));
        if (co_get_int(sample, "lag_ms") >= 0)
            co_text_add(ret, " %8lld ms", (long long)co_get_int(sample, "lag_ms"));
        else
            co_text_add(ret, " %11s", "?");
        if (co_get_int(sample, "lag_bytes") >= 0)
            co_text_add(ret, " %12lld bytes", (long long)co_get_int(sample, "lag_bytes"));
        if (*co_get_str(sample, "reason"))
            co_text_add(ret, "  %s", co_get_str(sample, "reason"));
        co_text_add(ret, "\n");
    }
    if (i == 0)
        co_text_add(ret, "no samples were recorded in that time\n");
}

static bool add_sample(const struct co_lag_row *row, void *arg)
{
    char time[40];
    json_t *sample = json_object();
    co_wall_format(row->wall_ms, time, sizeof time);
    co_json_set(sample, "time", json_string(time));
    co_json_set(sample, "name", co_json_text(row->pair));
    co_json_set(sample, "direction", co_json_text(row->direction));
    co_json_set(sample, "state", co_json_text(row->state));
    co_json_set(sample, "reason", co_json_text(row->reason ? row->reason : ""));
    co_json_set(sample, "lag_ms", co_json_count(row->lag_ms));
    co_json_set(sample, "lag_at_least_ms", co_json_count(row->lag_at_least_ms));
    co_json_set(sample, "lag_bytes", co_json_count(row->lag_bytes));
    co_json_set(sample, "lag_transactions", co_json_count(row->lag_transactions));
    co_json_set(sample, "primary_position", co_json_known(row->primary_position));
    co_json_set(sample, "applied_position", co_json_known(row->applied_position));
    return json_array_append_new(arg, sample) == 0;
}

static int history(struct co_cli *cli, int64_t since_ms)
{
    struct co_journal *journal = NULL;
    struct co_error err = {0};
    int code = co_cli_load_config(cli);
    if (code != 0)
        return code;
    if (co_journal_open(cli->config->journal, cli->config->migration, CO_JOURNAL_READ, &journal, &err) != 0)
        return co_cli_journal_error(cli, &err);
    json_t *samples = json_array();
    int rc = 0;
    for (size_t i = 0; rc == 0 && (i < cli->pair_count || i == 0); i++)
        rc = co_journal_lag_each(journal, cli->pair_count ? cli->pairs[i] : NULL, co_wall_ms() - since_ms, add_sample, samples,
                                 &err);
    co_json_set(cli->doc, "samples", samples);
    cli->render = render_history;
    co_journal_close(journal);
    return rc == 0 ? CO_EXIT_DONE : co_cli_error(cli, &err);
}

/* ---------------------------------------------------------------- the command */

static int read_format(struct co_cli *cli, enum format *ret)
{
    static const char *const names[] = {"text", "json", "prometheus", "nagios"};
    const char *name = cli->value[CO_OPTION_FORMAT];
    *ret = cli->json ? FORMAT_JSON : FORMAT_TEXT;
    for (int i = 0; name && i < 4; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        if (cli->json && i != FORMAT_JSON)
            return co_cli_usage(cli, "--json and --format %s exclude each other", name);
        *ret = (enum format)i;
        cli->json = i == FORMAT_JSON;
        return 0;
    }
    return name ? co_cli_usage(cli, "--format: expected text, json, prometheus or nagios, got \"%s\"", name) : 0;
}

/* A sample is recorded where a journal already is and can be written; measuring never makes one. */
static bool use_journal(struct co_cli *cli)
{
    struct co_error err = {0};
    if (access(cli->config->journal, W_OK) == 0) {
        if (co_session_use_journal(&cli->session, CO_JOURNAL_WRITE, &err) == 0)
            return true;
        co_debug("samples are not recorded: %s", err.message);
        if (cli->session.journal)
            return false;
    }
    if (access(cli->config->journal, R_OK) == 0 && co_session_use_journal(&cli->session, CO_JOURNAL_READ, &err) != 0)
        co_debug("the journal can't be read: %s", err.message);
    return false;
}

static int run(struct co_cli *cli, enum format format)
{
    struct meter meter = {.cli = cli, .format = format, .timeout_ms = -1, .stop_fd = -1};
    int64_t wait_ms = 0, watch_ms = 0, history_ms = 0;
    int code = co_cli_duration(cli, CO_OPTION_TIMEOUT, -1, &meter.timeout_ms);
    if (code == 0)
        code = co_cli_duration(cli, CO_OPTION_WAIT, INT64_MAX, &wait_ms);
    if (code == 0)
        code = co_cli_duration(cli, CO_OPTION_WATCH, 1000, &watch_ms);
    if (code == 0)
        code = co_cli_duration(cli, CO_OPTION_HISTORY, 3600 * 1000, &history_ms);
    if (code != 0)
        return code;
    if (cli->given[CO_OPTION_WAIT] + cli->given[CO_OPTION_WATCH] + cli->given[CO_OPTION_HISTORY] > 1)
        return co_cli_usage(cli, "--wait, --watch and --history exclude each other");
    if (cli->given[CO_OPTION_FAIL_FAST] && !cli->given[CO_OPTION_WAIT])
        return co_cli_usage(cli, "--fail-fast goes with --wait");
    if (cli->given[CO_OPTION_HISTORY])
        return format == FORMAT_TEXT || format == FORMAT_JSON ? history(cli, history_ms)
                                                              : co_cli_usage(cli, "--history has the formats text and json");
    code = co_cli_open(cli, CO_CLI_NO_JOURNAL);
    if (code != 0)
        return code;
    meter.record = use_journal(cli);
    meter.watching = cli->given[CO_OPTION_WAIT] || cli->given[CO_OPTION_WATCH];
    code = meter_start(&meter);
    if (code == 0)
        code = cli->given[CO_OPTION_WATCH]  ? watch(&meter, watch_ms < 100 ? 100 : watch_ms)
               : cli->given[CO_OPTION_WAIT] ? wait_for_gate(&meter, wait_ms)
                                            : one_shot(&meter);
    meter_done(&meter);
    return code;
}

int co_cmd_lag(struct co_cli *cli)
{
    enum format format = FORMAT_TEXT;
    int code = read_format(cli, &format);
    if (code != 0)
        return code;
    code = run(cli, format);
    if (format == FORMAT_NAGIOS && cli->plain.bytes == 0 && !cli->silent) {
        /* Nagios knows 0 to 3 and reads standard output: an error is UNKNOWN with its first message. */
        const json_t *error = json_array_get(cli->errors, 0);
        co_text_add(&cli->plain, "CHANGEOVER UNKNOWN - %s\n", error ? co_get_str(error, "message") : "interrupted");
        return 3;
    }
    return code;
}
