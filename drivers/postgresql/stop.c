/* stop.c - fence: stop. The source is shut down cleanly after its fence, before the target is promoted.
 *
 * Before the stop the source is made a standby in waiting (standby.signal, primary_conninfo of the target), so whoever
 * starts it again starts a standby and not a second primary; undo removes that before it starts the server, and never
 * promotes it. From the stop on the machine answers for the server: pg_controldata says that it was shut down cleanly
 * and where its log ends. A clean stop waits until the standby has received everything.
 *
 * The control file names the start of the shutdown record, so the final position is one byte behind it: a follower
 * that is there has replayed the record itself. */
#include "pg.h"

#include <stdio.h>

static bool stop_wanted(struct co_call *call)
{
    return pg_mode_stop(call);
}

/* Where the source's log ended when it was seen stopped; what the next look at the machine must show again. */
#define STOPPED_NOTE "stop.seen"

/* ---------------------------------------------------------------- whom it will follow */

/* A primary makes nothing of these settings; they are for its next start. Written before the pause. */
static enum co_result conf_describe(struct co_call *call, struct co_text *ret)
{
    PG_TEXT conninfo = {0};
    enum co_result result = pg_conninfo(call, call->side, true, NULL, &conninfo);
    if (result == CO_DONE)
        call->host->text_add(call->ctx, ret,
                             "ALTER SYSTEM SET primary_conninfo = %s\nALTER SYSTEM SET primary_slot_name = '%s'\nSELECT "
                             "pg_reload_conf()\n",
                             pg_text_str(&conninfo), pg_other_slot(call->side));
    return result;
}

static enum co_result conf_probe(struct co_call *call, enum co_presence *ret)
{
    PG_STRING slot = NULL;
    enum co_result result = pg_conf_look(call, "primary_slot_name", &slot);
    const char *note = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "conf.primary_slot_name");
    /* It followed once, or the run didn't get as far as to note what was there: nothing of ours to tell by. */
    bool before = !note || (note[0] == '=' && pg_same(note + 1, slot));
    *ret = pg_same(slot, pg_other_slot(call->side)) && !before ? CO_PRESENT : CO_ABSENT;
    return result;
}

static enum co_result conf_apply(struct co_call *call)
{
    PG_TEXT conninfo = {0};
    enum co_result result = pg_follower_conninfo(call, call->side, &conninfo);
    if (result == CO_DONE)
        result = pg_write_passfile(call, call->side);
    return result == CO_DONE
               ? pg_conf_set(call, "primary_conninfo", pg_text_str(&conninfo), "primary_slot_name", pg_other_slot(call->side))
               : result;
}

static enum co_result conf_revert(struct co_call *call)
{
    return pg_conf_restore(call, "primary_conninfo", "primary_slot_name");
}

const struct co_step pg_step_standby_conf = {
    .size = sizeof(struct co_step),
    .name = "warm_up.standby_conf",
    .title = "tell the source whom it will follow when it is started again",
    .phase = CO_PHASE_WARM_UP,
    .role = CO_SOURCE,
    .wanted = stop_wanted,
    .describe = conf_describe,
    .probe = conf_probe,
    .apply = conf_apply,
    .revert = conf_revert,
};

/* ---------------------------------------------------------------- a standby in waiting */

static enum co_result signal_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "standby.signal in the source's data directory, for its next start\n");
    return CO_DONE;
}

static enum co_result signal_probe(struct co_call *call, enum co_presence *ret)
{
    struct pg_machine_state state;
    enum co_result result = pg_machine_look(call, call->side, &state);
    /* Down without it is half-way back: the server is still to be started. */
    *ret = state.standby ? CO_PRESENT : state.up ? CO_ABSENT : CO_PARTIAL;
    return result;
}

/* By the server itself: in the pause a command of its machine would cost several times as much. */
static enum co_result signal_apply(struct co_call *call)
{
    if (!pg_alive(call->conn))
        return pg_write_follower_conf(call, call->side, true);
    enum co_result result =
        pg_guarded(call, call->conn, "COPY (SELECT '') TO PROGRAM 'read -r x; : > standby.signal && sync .'", NULL);
    return result == CO_NO_EFFECT && call->err->code == CO_E_COMMAND ? CO_EFFECT_UNKNOWN : result;
}

static enum co_result signal_revert(struct co_call *call)
{
    /* A server that was started with the signal is a standby now: without it and after another stop it is the primary
     * again, on its own timeline. */
    struct pg_machine_state state;
    enum co_result result = pg_machine_look(call, call->side, &state);
    if (result != CO_DONE)
        return result;
    const char *conninfo = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "conf.primary_conninfo");
    const char *slot = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "conf.primary_slot_name");
    PG_TEXT lines = {0};
    if (conninfo && conninfo[0] == '=')
        pg_text_conf_line(&lines, "primary_conninfo", conninfo + 1);
    if (slot && slot[0] == '=')
        pg_text_conf_line(&lines, "primary_slot_name", slot + 1);
    result = pg_machine(call, call->side,
                        "guard\nf=\"$d/postgresql.auto.conf\"\n"
                        "{ grep -v -E '^(primary_conninfo|primary_slot_name)[ =]' \"$f\"; cat; } > \"$f.changeover-new\" && mv "
                        "-f \"$f.changeover-new\" \"$f\" && "
                        "rm -f \"$d/standby.signal\" && sync \"$d\"\n",
                        NULL, 0, pg_text_str(&lines), NULL, NULL);
    if (result != CO_DONE)
        return result;
    if (!state.up)
        return pg_machine_option(call, call->side, "host.start");
    if (!pg_alive(call->conn))
        return CO_DONE;
    PG_RESULT rows = NULL;
    result = pg_query(call, call->conn, PG_READ, "SELECT pg_catalog.pg_is_in_recovery()", 0, NULL, &rows);
    if (result != CO_DONE || !pg_is_true(rows, 0, 0))
        return result;
    result = pg_machine_option(call, call->side, "host.stop");
    return result == CO_DONE ? CO_AGAIN : result;
}

const struct co_step pg_step_standby_signal = {
    .size = sizeof(struct co_step),
    .name = "fence.standby_signal",
    .title = "let the source's next start be a standby",
    .phase = CO_PHASE_FENCE,
    .role = CO_SOURCE,
    .flags = CO_STEP_OFFLINE,
    .wanted = stop_wanted,
    .describe = signal_describe,
    .probe = signal_probe,
    .apply = signal_apply,
    .revert = signal_revert,
};

/* ---------------------------------------------------------------- the stop */

static enum co_result stop_describe(struct co_call *call, struct co_text *ret)
{
    const char *const *argv = call->host->argv_option(call->ctx, (int)call->side, "host.stop");
    for (size_t i = 0; argv && argv[i]; i++)
        call->host->text_add(call->ctx, ret, "%s%s", i ? " " : "", argv[i]);
    call->host->text_add(call->ctx, ret, "\n");
    return CO_DONE;
}

static enum co_result stop_probe(struct co_call *call, enum co_presence *ret)
{
    struct pg_machine_state state;
    enum co_result result = pg_machine_look(call, call->side, &state);
    *ret = state.up ? CO_ABSENT : CO_PRESENT;
    return result;
}

/* Everybody is told to end first, not waited for: a clean stop does both, but a command that stops in "smart" mode would
 * wait for them for ever. */
static enum co_result end_everybody(struct co_call *call)
{
    PG_TEXT foreign = {0};
    pg_writers_sql(&foreign, call, call->conn);
    return pg_queryf(call, call->conn, PG_READ, NULL, "SELECT count(pg_catalog.pg_terminate_backend(f.pid)) FROM %s f",
                     pg_text_str(&foreign));
}

static enum co_result stop_apply(struct co_call *call)
{
    enum co_result result = pg_alive(call->conn) ? end_everybody(call) : CO_DONE;
    if (result != CO_DONE)
        return result;
    struct pg_machine_state state;
    result = pg_machine_stop(call, call->side, &state);
    if (result != CO_DONE)
        return result == CO_AGAIN ? CO_AGAIN : CO_EFFECT_UNKNOWN;
    if (state.up)
        return CO_AGAIN;
    if (!state.clean)
        return pg_fail(call, CO_NO_EFFECT, CO_E_STATE, "The server crashed instead of stopping; the run goes back.",
                       "the server is down but was not shut down cleanly");
    char text[40];
    pg_position_print(&state.checkpoint, text);
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, STOPPED_NOTE, text) < 0)
        return pg_fail(call, CO_EFFECT_UNKNOWN, CO_E_IO, "", "that the source was seen stopped could not be noted");
    return CO_DONE;
}

bool pg_seen_stopped(struct co_call *call)
{
    return call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, STOPPED_NOTE) != NULL;
}

static enum co_result stop_revert(struct co_call *call)
{
    struct pg_machine_state state;
    enum co_result result = pg_machine_look(call, call->side, &state);
    if (result != CO_DONE)
        return result;
    if (state.up)
        return CO_DONE;
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, STOPPED_NOTE, NULL) < 0)
        return pg_fail(call, CO_NO_EFFECT, CO_E_IO, "", "the note of the stop could not be removed");
    return signal_revert(call); /* as a primary: the signal goes first, then it is started */
}

const struct co_step pg_step_stop = {
    .size = sizeof(struct co_step),
    .name = "fence.stop",
    .title = "stop the source cleanly",
    .phase = CO_PHASE_FENCE,
    .role = CO_SOURCE,
    .flags = CO_STEP_OFFLINE,
    .wanted = stop_wanted,
    .describe = stop_describe,
    .probe = stop_probe,
    .apply = stop_apply,
    .revert = stop_revert,
};

/* ---------------------------------------------------------------- capture and proof */

enum co_result pg_stopped_capture(struct co_call *call, struct co_text *ret)
{
    struct pg_machine_state state;
    enum co_result result = pg_machine_look(call, call->side, &state);
    if (result != CO_DONE)
        return result;
    if (state.up || !state.clean)
        return pg_fail(call, CO_NO_EFFECT, CO_E_STATE, "",
                       state.up ? "the source runs although it was stopped" : "the source was not shut down cleanly");
    struct pg_position position = {.timeline = state.checkpoint.timeline, .lsn = state.checkpoint.lsn + 1};
    char text[40];
    pg_position_print(&position, text);
    call->host->text_set(call->ctx, ret, text, strlen(text));
    return CO_DONE;
}

enum co_result pg_stopped_proof(struct co_call *call, const char *position)
{
    struct pg_machine_state state;
    enum co_result result = pg_machine_look(call, call->side, &state);
    if (result != CO_DONE)
        return result;
    struct pg_position want;
    if (!pg_position_parse(position, &want))
        return pg_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "%s is not a position of PostgreSQL", position);
    if (state.up)
        return pg_fail(call, CO_NO_EFFECT, CO_E_STATE,
                       "Something restarts it: a service manager or a cluster manager. Hold that back.",
                       "the stopped source runs again");
    if (!state.clean || !state.standby || state.checkpoint.timeline != want.timeline || state.checkpoint.lsn + 1 != want.lsn)
        return pg_fail(call, CO_NO_EFFECT, CO_E_DATA, "",
                       "the stopped source is not as it was when its final position was taken");
    return CO_DONE;
}
