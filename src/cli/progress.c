/* progress.c - what a run is doing, on standard error: one line a phase, and on a terminal a last line that moves.
 * Events come from several threads; nothing here blocks (see base/log.h). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "cli/internal.h"

#define QUIET_NS (10 * CO_NS_PER_S) /* between two lines about the same thing where there is no terminal */

/* One transfer that is measured: "orders: base backup". The rate is that of the last five to ten seconds. */
struct transfer {
    struct transfer *next;
    char *name;
    int64_t old_ns, old_done, mark_ns, mark_done;
};

static struct {
    pthread_mutex_t mutex;
    struct transfer *transfers;
    int64_t said_ns;
    char *said;
} view = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void replace(char **field, const char *value)
{
    free(*field);
    *field = co_strdup(value);
}

static const char *amount(int64_t value, const char *unit, char ret[32])
{
    if (unit && strcmp(unit, "bytes") == 0)
        return co_format_bytes(value, ret);
    snprintf(ret, 32, "%lld", (long long)value);
    return ret;
}

static struct transfer *find_transfer(const char *name)
{
    struct transfer *transfer = view.transfers;
    while (transfer && strcmp(transfer->name, name) != 0)
        transfer = transfer->next;
    if (transfer)
        return transfer;
    transfer = calloc(1, sizeof *transfer);
    if (!transfer || !(transfer->name = co_strdup(name))) {
        free(transfer);
        return NULL;
    }
    transfer->next = view.transfers;
    view.transfers = transfer;
    return transfer;
}

/* Per second; 0: not known yet. */
static double rate_of(const char *name, int64_t done)
{
    struct transfer *transfer = find_transfer(name);
    int64_t now = co_now_ns();
    if (!transfer)
        return 0;
    if (transfer->old_ns == 0 || done < transfer->mark_done) { /* new, or begun again */
        transfer->old_ns = transfer->mark_ns = now;
        transfer->old_done = transfer->mark_done = done;
    }
    if (now - transfer->mark_ns > 5 * CO_NS_PER_S) {
        transfer->old_ns = transfer->mark_ns;
        transfer->old_done = transfer->mark_done;
        transfer->mark_ns = now;
        transfer->mark_done = done;
    }
    double seconds = (double)(now - transfer->old_ns) / (double)CO_NS_PER_S;
    return seconds > 0.5 ? (double)(done - transfer->old_done) / seconds : 0;
}

/* "orders: base backup: 1.2 GiB of 4.5 GiB (26 %), 85.3 MiB/s, 41 s left" */
static void describe(const struct co_watch_event *event, struct co_text *ret)
{
    const struct co_progress *progress = event->progress;
    char done[32], total[32], rate[32], left[32];
    bool bytes = progress->unit && strcmp(progress->unit, "bytes") == 0;
    co_text_add(ret, "%s%s%s", event->pair ? event->pair : "", event->pair ? ": " : "", progress->what ? progress->what : "");
    if (progress->done < 0)
        return;
    double speed = rate_of(co_text_str(ret), progress->done);
    co_text_add(ret, ": %s", amount(progress->done, progress->unit, done));
    if (progress->total > 0)
        co_text_add(ret, " of %s (%lld %%)", amount(progress->total, progress->unit, total),
                    (long long)((double)progress->done * 100 / (double)progress->total));
    if (!bytes && progress->unit)
        co_text_add(ret, " %s", progress->unit);
    if (speed < 1)
        return;
    co_text_add(ret, ", %s/s", amount((int64_t)speed, progress->unit, rate));
    if (progress->total > progress->done)
        co_text_add(ret, ", %s left",
                    co_format_duration_ms(((int64_t)((double)(progress->total - progress->done) / speed) + 1) * 1000, left));
}

/* A moving line on a terminal; elsewhere a line now and then. */
static void show_transient(const char *text)
{
    if (co_log_is_terminal()) {
        co_log_status(text);
        return;
    }
    int64_t now = co_now_ns();
    if (view.said && (strcmp(view.said, text) == 0 || now - view.said_ns < QUIET_NS))
        return;
    replace(&view.said, text);
    view.said_ns = now;
    co_say("    %s", text);
}

void co_cli_show_transient(const char *text)
{
    pthread_mutex_lock(&view.mutex);
    show_transient(text);
    pthread_mutex_unlock(&view.mutex);
}

static void show_phase_end(const struct co_watch_event *event)
{
    char took[32];
    bool done = !event->text || strcmp(event->text, "done") == 0;
    co_log_status(NULL);
    co_say("  %-16s %9s%s%s", event->phase ? event->phase : "",
           event->ms == 0 ? "< 1 ms" : co_format_duration_ms(event->ms, took), done ? "" : "  ", done ? "" : event->text);
}

static void on_event(const struct co_watch_event *event, void *arg)
{
    (void)arg;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    const char *said = co_without_pair(event->text ? event->text : "", event->pair);
    pthread_mutex_lock(&view.mutex);
    if (event->pair && event->side && *event->side)
        co_text_add(&text, "%s, side %s: %s", event->pair, event->side, said);
    else
        co_text_add(&text, "%s%s%s", event->pair ? event->pair : "", event->pair ? ": " : "", said);
    switch (event->kind) {
    case CO_WATCH_PHASE_BEGIN:
        if (co_log_is_terminal())
            co_log_status(event->phase);
        break;
    case CO_WATCH_PHASE_END:
        show_phase_end(event);
        break;
    case CO_WATCH_STEP:
        if (co_log_verbosity() >= CO_VERBOSE)
            co_say("    %s", co_text_str(&text));
        else if (co_log_is_terminal())
            co_log_status(co_text_str(&text));
        break;
    case CO_WATCH_WAIT:
        show_transient(co_text_str(&text));
        break;
    case CO_WATCH_PROGRESS:
        if (event->progress) {
            co_text_clear(&text);
            describe(event, &text);
            show_transient(co_text_str(&text));
        }
        break;
    case CO_WATCH_NOTE:
    case CO_WATCH_HOOK:
        co_say("  %s", co_text_str(&text));
        break;
    }
    pthread_mutex_unlock(&view.mutex);
}

void co_cli_watch(struct co_cli *cli)
{
    co_log_patience(0); /* from here on nothing may wait for a terminal */
    cli->session.watch = on_event;
}

void co_cli_watch_end(struct co_cli *cli)
{
    cli->session.watch = NULL;
    co_log_patience(2000);
    co_log_status(NULL);
    pthread_mutex_lock(&view.mutex);
    while (view.transfers) {
        struct transfer *transfer = view.transfers;
        view.transfers = transfer->next;
        free(transfer->name);
        free(transfer);
    }
    replace(&view.said, NULL);
    pthread_mutex_unlock(&view.mutex);
}
