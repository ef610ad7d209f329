/* derive.c - outcome, primary, the parts of the write pause, what differs before and after, what to do next. */
#include "report/derive.h"

#include <string.h>

#include "changeover/exit_codes.h"

const char *co_report_string(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value ? value : "";
}

/* An outcome is set when a run is left, too; only an end makes it final. */
static const char *outcome_of(const json_t *run)
{
    const char *outcome = co_report_string(run, "outcome");
    return json_is_null(json_object_get(run, "ended")) || !outcome[0] ? "unfinished" : outcome;
}

bool co_report_moves(const json_t *run)
{
    const char *kind = co_report_string(run, "kind");
    return strcmp(kind, "cutover") == 0 || strncmp(kind, "rollback", 8) == 0 || strcmp(kind, "follow_up") == 0;
}

/* Which side takes writes after the run, where the record says so: null for a run that isn't finished. */
static json_t *primary_of(const json_t *run)
{
    const char *outcome = outcome_of(run);
    if (!co_report_moves(run))
        return json_null();
    if (strcmp(outcome, "done") == 0 || strcmp(co_report_string(run, "kind"), "follow_up") == 0)
        return json_string(co_report_string(run, "target"));
    if (strcmp(outcome, "undone") == 0 || strcmp(outcome, "refused") == 0)
        return json_string(co_report_string(run, "source"));
    if (json_is_true(json_object_get(run, "opened")))
        return json_string(co_report_string(run, "target"));
    return json_null();
}

static bool in_pause(const char *phase)
{
    static const char *const phases[] = {"fence",           "drain",   "capture", "catch_up", "prove",
                                         "reverse_prepare", "promote", "commit",  "open"};
    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++)
        if (strcmp(phase, phases[i]) == 0)
            return true;
    return false;
}

static json_t *write_pause_of(const json_t *document, const json_t *run)
{
    json_t *parts = json_array();
    size_t i;
    json_t *phase;
    json_array_foreach(json_object_get(document, "phases"), i, phase)
    {
        if (!in_pause(co_report_string(phase, "name")))
            continue;
        json_t *part = json_pack("{s:O, s:O, s:O}", "phase", json_object_get(phase, "name"), "ms", json_object_get(phase, "ms"),
                                 "us", json_object_get(phase, "us"));
        if (json_array_append_new(parts, part) < 0)
            return json_decref(parts), NULL;
    }
    return json_pack("{s:O, s:o}", "ms", json_object_get(run, "write_pause_ms"), "parts", parts);
}

static bool same_fact(const json_t *one, const json_t *other)
{
    static const char *const names[] = {"pair", "side", "group", "name"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(co_report_string(one, names[i]), co_report_string(other, names[i])) != 0)
            return false;
    return true;
}

/* Facts come sorted, before next to after. A fact that was seen only once isn't a difference: the other look
 * may have failed. */
static json_t *changes_of(const json_t *document)
{
    json_t *changes = json_array();
    const json_t *facts = json_object_get(document, "facts");
    for (size_t i = 0; changes && i + 1 < json_array_size(facts); i++) {
        const json_t *before = json_array_get(facts, i), *after = json_array_get(facts, i + 1);
        if (strcmp(co_report_string(before, "moment"), "before") != 0 ||
            strcmp(co_report_string(after, "moment"), "after") != 0 || !same_fact(before, after) ||
            strcmp(co_report_string(before, "value"), co_report_string(after, "value")) == 0)
            continue;
        json_t *change = json_pack("{s:O, s:O, s:O, s:O, s:O, s:O}", "pair", json_object_get(before, "pair"), "side",
                                   json_object_get(before, "side"), "group", json_object_get(before, "group"), "name",
                                   json_object_get(before, "name"), "before", json_object_get(before, "value"), "after",
                                   json_object_get(after, "value"));
        if (json_array_append_new(changes, change) < 0)
            return json_decref(changes), NULL;
    }
    return changes;
}

static const char *next_unfinished(const json_t *run)
{
    const char *decision = co_report_string(run, "decision");
    bool opening = json_is_true(json_object_get(run, "opening"));
    if (json_is_true(json_object_get(run, "opened")))
        return "Run `changeover resume`: the new primary takes writes, and what comes after the opening (switch, confirm, "
               "reverse) is "
               "left.";
    if (strcmp(decision, "commit") == 0)
        return opening ? "Run `changeover resume`: it was decided to go forward, and the new primary may be open already."
                       : "Run `changeover resume`: it was decided to go forward. Only if the new primary is lost for good, "
                         "`changeover abort --b-is-lost` turns back.";
    if (strcmp(decision, "undo") == 0)
        return "Run `changeover resume`: it was decided to go back, and the old primary is put into service again.";
    if (strcmp(decision, "deciding") == 0)
        return "Run `changeover resume`: a server that was being promoted is the decision, and is asked.";
    return "Run `changeover resume` to finish it or `changeover abort` to back out. `changeover status` shows both sides.";
}

static const char *next_done(const json_t *run, const char *kind)
{
    if (json_integer_value(json_object_get(run, "exit_code")) == CO_EXIT_FOLLOW_UP)
        return "The new primary takes writes, but a phase after the opening failed: see what was met below, mend it, and check "
               "with `changeover status`.";
    if (strcmp(kind, "cutover") == 0)
        return "Keep the way back open while it may be needed (`changeover rollback --check`), then end the migration with "
               "`changeover detach`.";
    if (strcmp(kind, "rollback_lost") == 0)
        return "The old primary is back, without the other side. Set a new one up with `changeover setup` when there is one.";
    if (strcmp(kind, "follow_up") == 0)
        return "What was left of the last run is done. `changeover status` shows both sides.";
    if (strcmp(kind, "rollback") == 0)
        return "The old primary is back. Find out why it was needed before the next `changeover cutover`; `changeover status` "
               "shows whether the other side follows.";
    if (strcmp(kind, "setup") == 0)
        return "Wait until the gate is open with `changeover lag --wait`, then run `changeover cutover`.";
    return "Nothing: the migration has ended.";
}

static const char *next_of(const json_t *run)
{
    const char *outcome = outcome_of(run);
    if (strcmp(outcome, "unfinished") == 0)
        return next_unfinished(run);
    if (strcmp(outcome, "done") == 0)
        return next_done(run, co_report_string(run, "kind"));
    if (strcmp(outcome, "left") == 0)
        return "Nothing: a later run went on where this one was left.";
    if (strcmp(outcome, "undone") == 0)
        return "The old primary takes writes. Mend what stopped the run (see what was met below), look with `changeover "
               "status` "
               "whether the other side still follows, and try again.";
    return "Nothing was changed. Mend what stood in the way (see findings and what was met below) and try again.";
}

bool co_report_derive(json_t *document)
{
    const json_t *run = json_object_get(document, "run");
    return json_object_set_new(document, "outcome", json_string(outcome_of(run))) == 0 &&
           json_object_set_new(document, "primary", primary_of(run)) == 0 &&
           json_object_set_new(document, "write_pause", write_pause_of(document, run)) == 0 &&
           json_object_set_new(document, "changes", changes_of(document)) == 0 &&
           json_object_set_new(document, "next", json_string(next_of(run))) == 0;
}
