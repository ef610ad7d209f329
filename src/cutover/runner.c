/* runner.c - the state of a run: its lanes, its threads, what it notes and who may end it. */
#include "cutover/run.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static int make_id(char ret[41], struct co_error *err)
{
    unsigned char noise[4];
    if (getrandom(noise, sizeof noise, 0) != (ssize_t)sizeof noise)
        return co_fail(err, CO_E_IO, "no random numbers to name the run");
    time_t now = (time_t)(co_wall_ms() / 1000);
    struct tm utc;
    gmtime_r(&now, &utc);
    snprintf(ret, 41, "%04d%02d%02d-%02d%02d%02d-%02x%02x%02x%02x", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
             utc.tm_hour, utc.tm_min, utc.tm_sec, noise[0], noise[1], noise[2], noise[3]);
    return 0;
}

static void read_line(const char *path, char *ret, size_t ret_bytes)
{
    ret[0] = '\0';
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    if (fgets(ret, (int)ret_bytes, file))
        ret[strcspn(ret, "\n")] = '\0';
    fclose(file);
}

int co_runner_init(struct co_runner *run, struct co_session *session, const struct co_run_options *options, enum co_side source,
                   const char *kind, struct co_run_result *result, struct co_error *err)
{
    *run = (struct co_runner){.session = session,
                              .options = options,
                              .journal = session->journal,
                              .source = source,
                              .result = result,
                              .watcher_fd = -1,
                              .phase = ""};
    pthread_mutex_init(&run->mutex, NULL);
    *result = (struct co_run_result){.primary = -1, .write_pause_ms = -1, .unavailable_ms = -1};
    struct co_run_row *row = &run->row;
    row->epoch = 1;
    row->source = (int)source;
    row->pid = getpid();
    row->exit_code = -1;
    row->write_pause_ms = row->unavailable_ms = -1;
    row->started_wall_ms = co_wall_ms();
    snprintf(row->kind, sizeof row->kind, "%s", kind);
    snprintf(row->operator_name, sizeof row->operator_name, "%s", options->operator_name ? options->operator_name : "");
    snprintf(row->config_hash, sizeof row->config_hash, "%s", session->config->hash);
    snprintf(row->version, sizeof row->version, "%s", CO_VERSION);
    gethostname(row->host, sizeof row->host - 1);
    read_line("/proc/sys/kernel/random/boot_id", row->boot_id, sizeof row->boot_id);
    int failed = make_id(row->id, err);
    if (failed)
        return failed;
    run->lane_count = session->pair_count;
    run->lanes = calloc(run->lane_count ? run->lane_count : 1, sizeof *run->lanes);
    result->pairs = calloc(run->lane_count ? run->lane_count : 1, sizeof *result->pairs);
    if (!run->lanes || !result->pairs)
        return co_fail(err, CO_E_NOMEM, "out of memory for %zu pairs", run->lane_count);
    result->pair_count = run->lane_count;
    for (size_t i = 0; i < run->lane_count; i++) {
        run->lanes[i].run = run;
        run->lanes[i].pair = session->pairs[i];
        result->pairs[i] = (struct co_pair_result){
            .name = co_pair_name(session->pairs[i]), .primary = -1, .write_pause_ms = -1, .promotion_ms = -1};
    }
    return co_crew_new(run->lane_count * 2, &run->crew, err);
}

void co_runner_done(struct co_runner *run)
{
    co_watcher_stop(run);
    co_guardian_end(run);
    for (size_t i = 0; i < run->lane_count; i++) {
        struct co_lane *lane = &run->lanes[i];
        for (int role = 0; role < 2; role++) {
            co_endpoint_free(lane->main[role]);
            co_endpoint_free(lane->second[role]);
        }
        for (size_t s = 0; lane->statements && s < co_pair_step_count(lane->pair); s++)
            free(lane->statements[s]);
        free(lane->statements);
        free(lane->wanted);
        co_text_done(&lane->instance[0]);
        co_text_done(&lane->instance[1]);
        co_text_done(&lane->position);
        co_pair_set_run(lane->pair, NULL);
    }
    co_crew_free(run->crew);
    free(run->lanes);
    pthread_mutex_destroy(&run->mutex);
}

int co_runner_identify(struct co_runner *run, const char *actor, struct co_error *err)
{
    (void)err;
    snprintf(run->actor, sizeof run->actor, "%s", actor);
    snprintf(run->token, sizeof run->token, "%s:%lld", run->row.id, (long long)run->row.epoch);
    snprintf(run->session_name, sizeof run->session_name, "changeover:%s:%s", run->row.id, run->actor);
    run->identity = (struct co_run){.size = sizeof run->identity,
                                    .id = run->row.id,
                                    .token = run->token,
                                    .actor = run->actor,
                                    .session_name = run->session_name,
                                    .source = run->source};
    for (size_t i = 0; i < run->lane_count; i++)
        co_pair_set_run(run->lanes[i].pair, &run->identity);
    run->pairs_have_run = true;
    return 0;
}

void co_runner_note(struct co_runner *run, const struct co_error *err)
{
    struct co_run_result *result = run->result;
    pthread_mutex_lock(&run->mutex);
    struct co_error *more = realloc(result->errors, (result->error_count + 1) * sizeof *more);
    if (more) {
        result->errors = more;
        result->errors[result->error_count++] = *err;
    }
    pthread_mutex_unlock(&run->mutex);
    if (run->begun)
        co_journal_event(run->journal, run->row.id, NULL, "error", err->message, NULL);
}

void co_runner_say(struct co_runner *run, const char *pair, enum co_watch_kind kind, const char *format, ...)
{
    if (!run->session->watch)
        return;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    va_list args;
    va_start(args, format);
    co_text_vadd(&text, format, args);
    va_end(args);
    struct co_watch_event event = {.kind = kind, .phase = run->phase, .pair = pair, .text = co_text_str(&text)};
    run->session->watch(&event, run->session->watch_arg);
}

/* ---------------------------------------------------------------- parallel work */

struct each {
    struct co_runner *run;
    int (*lane_fn)(struct co_lane *lane);
    int (*side_fn)(struct co_lane *lane, enum co_run_role role, struct co_error *err);
    struct co_error *errors; /* side_fn: two a lane */
};

static void one_lane(size_t index, void *arg)
{
    struct each *each = arg;
    struct co_lane *lane = &each->run->lanes[index];
    co_error_clear(&lane->error);
    lane->result = each->lane_fn(lane);
}

static void one_side(size_t index, void *arg)
{
    struct each *each = arg;
    struct co_error *err = &each->errors[index];
    int failed = each->side_fn(&each->run->lanes[index / 2], (enum co_run_role)(index % 2), err);
    if (failed && !err->code)
        co_fail(err, failed, "failed without a reason");
    if (!failed)
        co_error_clear(err);
}

int co_lanes_each(struct co_runner *run, int (*fn)(struct co_lane *lane))
{
    struct each each = {.run = run, .lane_fn = fn};
    int failed = 0;
    co_crew_run(run->crew, run->lane_count, one_lane, &each);
    for (size_t i = 0; i < run->lane_count; i++) {
        struct co_lane *lane = &run->lanes[i];
        if (!lane->result)
            continue;
        if (!lane->error.code)
            co_fail(&lane->error, lane->result, "pair %s failed without a reason", co_pair_name(lane->pair));
        co_runner_note(run, &lane->error);
        failed = failed ? failed : lane->result;
    }
    return failed;
}

int co_sides_each(struct co_runner *run, int (*fn)(struct co_lane *lane, enum co_run_role role, struct co_error *err))
{
    struct each each = {.run = run, .side_fn = fn, .errors = calloc(run->lane_count * 2, sizeof *each.errors)};
    int failed = 0;
    if (!each.errors) {
        struct co_error err;
        failed = co_fail(&err, CO_E_NOMEM, "out of memory");
        co_runner_note(run, &err);
        return failed;
    }
    co_crew_run(run->crew, run->lane_count * 2, one_side, &each);
    for (size_t i = 0; i < run->lane_count * 2; i++) {
        struct co_lane *lane = &run->lanes[i / 2];
        if (i % 2 == 0)
            lane->result = 0;
        if (!each.errors[i].code)
            continue;
        co_runner_note(run, &each.errors[i]);
        lane->error = each.errors[i];
        lane->result = each.errors[i].code;
        failed = failed ? failed : lane->result;
    }
    free(each.errors);
    return failed;
}

int64_t co_run_deadline(const struct co_runner *run, int64_t at_most_ns)
{
    int64_t deadline = co_now_ns() + at_most_ns;
    return run->in_pause && !run->committed ? co_min_deadline(deadline, run->pause_deadline_ns) : deadline;
}

int co_lane_fail(struct co_lane *lane, enum co_result result)
{
    if (!lane->error.code)
        co_fail(&lane->error, result == CO_AGAIN ? CO_E_TIMEOUT : CO_E_INTERNAL, "pair %s: phase %s: %s",
                co_pair_name(lane->pair), lane->run->phase,
                result == CO_AGAIN ? "not finished when its time was over" : "failed without a reason");
    return lane->error.code;
}

/* ---------------------------------------------------------------- endpoints */

static enum co_side side_of(const struct co_runner *run, int role)
{
    return role == CO_SOURCE ? run->source : co_side_other(run->source);
}

int co_lanes_open(struct co_runner *run, struct co_error *err)
{
    for (size_t i = 0; i < run->lane_count; i++)
        for (int role = 0; role < 2; role++) {
            struct co_lane *lane = &run->lanes[i];
            lane->main[role] = co_endpoint_new(lane->pair, side_of(run, role), CO_CONN_MAIN);
            lane->second[role] = co_endpoint_new(lane->pair, side_of(run, role), CO_CONN_SECOND);
            if (!lane->main[role] || !lane->second[role])
                return co_fail(err, CO_E_NOMEM, "out of memory for connections");
        }
    return 0;
}

static void show_progress(void *arg, const struct co_progress *progress)
{
    struct co_lane *lane = arg;
    struct co_session *session = lane->run->session;
    struct co_watch_event event = {
        .kind = CO_WATCH_PROGRESS, .phase = lane->run->phase, .pair = co_pair_name(lane->pair), .progress = progress};
    if (session->watch)
        session->watch(&event, session->watch_arg);
}

void co_lane_listen(struct co_lane *lane, struct co_endpoint *ep)
{
    struct co_sink sink = {.progress = show_progress, .arg = lane};
    co_endpoint_sink(ep, &sink);
}

static int connect_second(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    if (lane->run->source_lost && role == CO_SOURCE)
        return 0;
    enum co_result got = co_ep_connect(lane->second[role], co_now_ns() + CO_CONNECT_NS, err);
    return got == CO_DONE ? 0 : err->code;
}

int co_lanes_connect_second(struct co_runner *run)
{
    return co_sides_each(run, connect_second);
}

void co_lanes_reset_second(struct co_runner *run)
{
    for (size_t i = 0; i < run->lane_count; i++)
        for (int role = 0; role < 2; role++)
            co_endpoint_close(run->lanes[i].second[role]);
}

void co_runner_hold(struct co_runner *run, bool hold)
{
    for (size_t i = 0; i < run->lane_count; i++)
        for (int role = 0; role < 2; role++)
            co_endpoint_hold(run->lanes[i].main[role], hold);
}

struct co_endpoint *co_lane_other(struct co_lane *lane, const struct co_step *step, struct co_endpoint *ep, bool second)
{
    (void)ep;
    if (!(step->flags & (CO_STEP_BOTH | CO_STEP_OTHER)))
        return NULL;
    return second ? lane->second[!step->role] : lane->main[!step->role];
}

/* ---------------------------------------------------------------- who may end it */

int co_run_cancelled(struct co_runner *run, struct co_error *err)
{
    if (run->committed)
        return 0;
    if (run->session->interrupted)
        return co_fail(err, CO_E_INTERRUPTED, "interrupted by signal %d", (int)run->session->interrupted);
    if (run->guardian && !co_guardian_alive(run))
        return co_fail(err, CO_E_STATE, "the guardian process died, so nobody would undo if this process died too");
    if (run->in_pause && co_now_ns() >= run->pause_deadline_ns) {
        const char *pair = run->pause_limited_by;
        co_fail(err, CO_E_TIMEOUT, "max_write_pause%s%s (%lld ms) is over in phase %s", pair ? " of pair " : "",
                pair ? pair : "", (long long)((run->pause_deadline_ns - run->pause_begin_ns) / CO_NS_PER_MS), run->phase);
        co_hint(err, "The report shows where the time went; remove the cause, or raise %s.",
                pair ? "the pair's max_write_pause" : "cutover.max_write_pause");
        return err->code;
    }
    return 0;
}

void co_runner_interruptible(struct co_runner *run, bool main_endpoints_too)
{
    for (size_t i = 0; i < run->lane_count; i++)
        for (int role = 0; role < 2; role++) {
            co_endpoint_uninterrupt(run->lanes[i].second[role]);
            if (main_endpoints_too)
                co_endpoint_uninterrupt(run->lanes[i].main[role]);
        }
}

/* Ends the calls under way when an operator interrupts or the guardian dies, so that an undo starts at once. */
static void *watch(void *arg)
{
    struct co_runner *run = arg;
    for (;;) {
        struct pollfd fds[] = {{.fd = run->watcher_fd, .events = POLLIN},
                               {.fd = run->session->wake_fd, .events = POLLIN},
                               {.fd = run->watched_guardian_fd, .events = POLLIN}};
        if (poll(fds, 3, -1) < 0)
            continue;
        if (fds[0].revents)
            return NULL;
        if (!run->committed)
            atomic_store(&run->cancelled, true);
        for (size_t i = 0; i < run->lane_count && !run->committed; i++)
            for (int role = 0; role < 2; role++)
                co_endpoint_interrupt(run->lanes[i].main[role]);
        /* the eventfd stays readable: wait for the end only */
        struct pollfd end = {.fd = run->watcher_fd, .events = POLLIN};
        while (poll(&end, 1, -1) < 0) {
        }
        return NULL;
    }
}

int co_watcher_start(struct co_runner *run, struct co_error *err)
{
    run->watched_guardian_fd =
        co_guardian_fd(run); /* the thread must not look at a guardian that is begun or ended meanwhile */
    run->watcher_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (run->watcher_fd < 0 || pthread_create(&run->watcher, NULL, watch, run) != 0)
        return co_fail(err, CO_E_INTERNAL, "no thread to watch for signals");
    run->watching = true;
    return 0;
}

void co_watcher_stop(struct co_runner *run)
{
    if (run->watching) {
        uint64_t one = 1;
        if (write(run->watcher_fd, &one, sizeof one) != sizeof one) { /* can't be full: written once */
        }
        pthread_join(run->watcher, NULL);
        run->watching = false;
    }
    if (run->watcher_fd >= 0)
        close(run->watcher_fd);
    run->watcher_fd = -1;
}

int co_watcher_again(struct co_runner *run, struct co_error *err)
{
    co_watcher_stop(run);
    return co_watcher_start(run, err);
}
