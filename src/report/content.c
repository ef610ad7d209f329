/* content.c - the sections of a report: first how it ended and what to do, then what happened, then what was
 * executed and what differs, so that reading can stop early. */
#include "report/content.h"

#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "report/derive.h"

#define ROW(layout, ...) co_layout_row((layout), (const char *const[]){__VA_ARGS__})
#define S co_report_string

static const json_t *part(const json_t *document, const char *name)
{
    return json_object_get(document, name);
}

/* A text that there was no memory for must not pass as a short one. */
static const char *whole(struct co_layout *layout, const struct co_text *text)
{
    if (text->overflow)
        layout->out->overflow = true;
    return co_text_str(text);
}

/* Microseconds below 10 ms, else as people say durations; "" unknown. */
static const char *duration(const json_t *object, char ret[32])
{
    const json_t *us = json_object_get(object, "us"), *ms = json_object_get(object, "ms");
    ret[0] = '\0';
    if (json_is_integer(us) && json_integer_value(us) < 10000)
        snprintf(ret, 32, "%.3f ms", (double)json_integer_value(us) / 1000.0);
    else if (json_is_integer(us))
        co_format_duration_ms((json_integer_value(us) + 500) / 1000, ret);
    else if (json_is_integer(ms))
        co_format_duration_ms(json_integer_value(ms), ret);
    return ret;
}

static const char *milliseconds(const json_t *object, const char *name, char ret[32])
{
    const json_t *ms = json_object_get(object, name);
    snprintf(ret, 32, "unknown");
    return json_is_integer(ms) ? co_format_duration_ms(json_integer_value(ms), ret) : ret;
}

static const char *number(const json_t *object, const char *name, char ret[32])
{
    const json_t *value = json_object_get(object, name);
    ret[0] = '\0';
    if (json_is_integer(value))
        snprintf(ret, 32, "%lld", (long long)json_integer_value(value));
    return ret;
}

void co_report_title(const json_t *document, struct co_text *ret)
{
    const json_t *run = part(document, "run");
    co_text_clear(ret);
    co_text_add(ret, "%s of %s: %s", S(run, "kind"), S(document, "migration"), S(document, "outcome"));
}

static void say_summary(struct co_layout *layout, const json_t *document)
{
    const json_t *run = part(document, "run");
    char pause[32], unavailable[32], exit_code[32], pid[32], epoch[32];
    CO_TEXT_AUTO who = CO_TEXT_INIT;
    CO_TEXT_AUTO direction = CO_TEXT_INIT;
    co_text_add(&who, "%s on %s (process %s, boot %s)", S(run, "operator"), S(run, "host"), number(run, "pid", pid),
                S(run, "boot_id"));
    co_text_add(&direction, "from %s to %s", S(run, "source"), S(run, "target"));
    bool moves = co_report_moves(run);
    co_layout_table(layout, 2);
    ROW(layout, "run", S(run, "id"));
    ROW(layout, "outcome", S(document, "outcome"));
    ROW(layout, "exit code", number(run, "exit_code", exit_code));
    if (moves) {
        const char *primary = S(document, "primary");
        ROW(layout, "direction", whole(layout, &direction));
        ROW(layout, "primary now", primary[0] ? primary : "not known from the record: see `changeover status`");
        ROW(layout, "write pause", milliseconds(run, "write_pause_ms", pause));
        ROW(layout, "unavailable", milliseconds(run, "unavailable_ms", unavailable));
    }
    ROW(layout, "decision", S(run, "decision"));
    ROW(layout, "began", S(run, "started"));
    ROW(layout, "ended", S(run, "ended"));
    ROW(layout, "by", whole(layout, &who));
    ROW(layout, "held last by", S(run, "actor"));
    ROW(layout, "epoch", number(run, "epoch", epoch));
    ROW(layout, "program", S(run, "version"));
    ROW(layout, "config hash", S(run, "config_hash"));
    ROW(layout, "journal", S(document, "journal"));
    co_layout_table_end(layout);
    co_layout_heading(layout, "What to do next");
    co_layout_paragraph(layout, S(document, "next"));
}

static void say_pairs(struct co_layout *layout, const json_t *document)
{
    size_t i;
    json_t *pair;
    if (json_array_size(part(document, "pairs")) == 0)
        return;
    co_layout_heading(layout, "Servers");
    co_layout_table(layout, 4);
    ROW(layout, "pair", "side", "instance", "lineage");
    json_array_foreach(part(document, "pairs"), i, pair) for (int side = 0; side < 2; side++)
    {
        const char *name = side ? "b" : "a";
        const json_t *server = json_object_get(pair, name);
        ROW(layout, S(pair, "name"), name, S(server, "instance"), S(server, "lineage"));
    }
    co_layout_table_end(layout);
}

static void say_phases(struct co_layout *layout, const json_t *document)
{
    size_t i;
    json_t *phase;
    char took[32];
    if (json_array_size(part(document, "phases")) == 0)
        return;
    co_layout_heading(layout, "Phases");
    co_layout_table(layout, 5);
    ROW(layout, "phase", "began", "took", "outcome", "by");
    json_array_foreach(part(document, "phases"), i, phase)
    {
        const char *outcome = S(phase, "outcome");
        ROW(layout, S(phase, "name"), S(phase, "began"), duration(phase, took), outcome[0] ? outcome : "not seen to end",
            S(phase, "actor"));
    }
    co_layout_table_end(layout);
}

static void say_pause(struct co_layout *layout, const json_t *document)
{
    const json_t *pause = part(document, "write_pause"), *parts = json_object_get(pause, "parts");
    size_t i;
    json_t *phase;
    char took[32];
    if (json_array_size(parts) == 0)
        return;
    co_layout_heading(layout, "The write pause and its parts");
    co_layout_table(layout, 2);
    ROW(layout, "phase", "took");
    json_array_foreach(parts, i, phase) ROW(layout, S(phase, "phase"), duration(phase, took));
    ROW(layout, "in all", milliseconds(pause, "ms", took));
    co_layout_table_end(layout);
}

static void say_positions(struct co_layout *layout, const json_t *document)
{
    size_t i;
    json_t *position;
    if (json_array_size(part(document, "positions")) == 0)
        return;
    co_layout_heading(layout, "Positions");
    co_layout_table(layout, 5);
    ROW(layout, "at", "pair", "side", "what", "position");
    json_array_foreach(part(document, "positions"), i, position)
        ROW(layout, S(position, "at"), S(position, "pair"), S(position, "side"), S(position, "what"), S(position, "position"));
    co_layout_table_end(layout);
}

static void say_findings(struct co_layout *layout, const json_t *document)
{
    size_t i;
    json_t *finding;
    if (json_array_size(part(document, "findings")) == 0)
        return;
    co_layout_heading(layout, "Findings");
    json_array_foreach(part(document, "findings"), i, finding)
    {
        CO_TEXT_AUTO line = CO_TEXT_INIT;
        const char *side = S(finding, "side"), *remedy = S(finding, "remedy");
        co_text_add(&line, "%s %s, pair %s%s%s: %s.%s%s%s", S(finding, "severity"), S(finding, "code"), S(finding, "pair"),
                    side[0] ? ", side " : "", side, S(finding, "message"), remedy[0] ? " Remedy: " : "", remedy,
                    json_is_true(json_object_get(finding, "accepted")) ? " (accepted in the config)" : "");
        co_layout_item(layout, whole(layout, &line));
    }
    co_layout_items_end(layout);
}

static bool went_wrong(const json_t *step)
{
    static const char *const fine[] = {"done", "again", "absent", "present", "partial", "recorded", "skipped", "intended"};
    const char *result = S(step, "result");
    if (strcmp(S(step, "action"), "intent") == 0)
        return false;
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        if (strcmp(result, fine[i]) == 0)
            return false;
    return true;
}

/* Events that are faults, or what was done about one. */
static bool is_met(const json_t *event)
{
    static const char *const kinds[] = {"error", "breach", "taken_over", "reconnected", "source_unreachable", "lost", "marker"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(S(event, "kind"), kinds[i]) == 0)
            return true;
    return false;
}

/* As the error of a phase. */
static bool is_told(const json_t *document, const char *text)
{
    size_t i;
    json_t *phase;
    json_array_foreach(part(document, "phases"), i,
                       phase) if (strcmp(S(json_object_get(phase, "error"), "message"), text) == 0) return true;
    return false;
}

/* Phases that failed, steps that didn't do what they should, and steps that nobody saw end. */
static void say_faults(struct co_layout *layout, const json_t *document)
{
    size_t i, said = 0;
    json_t *at;
    json_array_foreach(part(document, "phases"), i, at)
    {
        const json_t *error = json_object_get(at, "error");
        if (!json_is_object(error))
            continue;
        if (said++ == 0)
            co_layout_heading(layout, "What was met");
        CO_TEXT_AUTO line = CO_TEXT_INIT;
        const char *native = S(error, "native"), *hint = S(error, "hint");
        co_text_add(&line, "phase %s: %s (%s%s%s)%s%s", S(at, "name"), S(error, "message"), S(error, "code"),
                    native[0] ? ", " : "", native, hint[0] ? ". " : "", hint);
        co_layout_item(layout, whole(layout, &line));
    }
    json_array_foreach(part(document, "steps"), i, at)
    {
        if (!went_wrong(at))
            continue;
        if (said++ == 0)
            co_layout_heading(layout, "What was met");
        CO_TEXT_AUTO line = CO_TEXT_INIT;
        const char *result = S(at, "result"), *detail = S(at, "detail"), *side = S(at, "side");
        co_text_add(&line, "%s of %s, pair %s%s%s: %s%s%s", S(at, "action"), S(at, "step"), S(at, "pair"),
                    side[0] ? ", side " : "", side, result[0] ? result : "not seen to end", detail[0] ? ": " : "", detail);
        co_layout_item(layout, whole(layout, &line));
    }
    json_array_foreach(part(document, "events"), i, at)
    {
        if (!is_met(at) || is_told(document, S(at, "text")))
            continue;
        if (said++ == 0)
            co_layout_heading(layout, "What was met");
        CO_TEXT_AUTO line = CO_TEXT_INIT;
        const char *pair = S(at, "pair");
        co_text_add(&line, "%s%s%s at %s: %s (%s)", S(at, "kind"), pair[0] ? ", pair " : "", pair, S(at, "at"), S(at, "text"),
                    S(at, "actor"));
        co_layout_item(layout, whole(layout, &line));
    }
    if (said)
        co_layout_items_end(layout);
}

static void say_events(struct co_layout *layout, const json_t *document)
{
    size_t i;
    json_t *event;
    if (json_array_size(part(document, "events")) == 0)
        return;
    co_layout_heading(layout, "Events");
    co_layout_table(layout, 5);
    ROW(layout, "at", "by", "pair", "kind", "what");
    json_array_foreach(part(document, "events"), i, event)
        ROW(layout, S(event, "at"), S(event, "actor"), S(event, "pair"), S(event, "kind"), S(event, "text"));
    co_layout_table_end(layout);
}

static bool is_hook(const json_t *step)
{
    return strcmp(S(step, "action"), "hook") == 0;
}

/* first: the call that began it, when it took several; calls: how many. */
static void say_step(struct co_layout *layout, const json_t *step, const json_t *first, json_int_t calls)
{
    CO_TEXT_AUTO line = CO_TEXT_INIT;
    char took[32];
    const char *side = S(step, "side"), *pair = S(step, "pair"), *result = S(step, "result"), *by = S(step, "actor");
    co_text_add(&line, "%s  %s%s%s%s%s %s: %s", S(first, "began"), pair[0] ? pair : "all pairs", side[0] ? " " : "", side, ", ",
                S(step, "action"), S(step, "step"), result[0] ? result : "not seen to end");
    if (calls > 1)
        co_text_add(&line, ", the last of %lld calls", (long long)calls);
    if (duration(step, took)[0])
        co_text_add(&line, ", %s", took);
    if (by[0])
        co_text_add(&line, " (%s)", by);
    co_layout_paragraph(layout, whole(layout, &line));
    if (S(step, "statement")[0])
        co_layout_block(layout, S(step, "statement"));
    if (S(step, "detail")[0]) {
        co_layout_paragraph(layout, is_hook(step) ? "its output:" : "answered:");
        co_layout_block(layout, S(step, "detail"));
    }
}

static void say_hooks(struct co_layout *layout, const json_t *document)
{
    size_t i, said = 0;
    json_t *step;
    json_array_foreach(part(document, "steps"), i, step)
    {
        if (!is_hook(step))
            continue;
        if (said++ == 0)
            co_layout_heading(layout, "Hooks");
        say_step(layout, step, step, 1);
    }
}

static void say_intents(struct co_layout *layout, const json_t *document)
{
    size_t i, said = 0;
    json_t *step;
    json_array_foreach(part(document, "steps"), i, step)
    {
        if (strcmp(S(step, "action"), "intent") != 0)
            continue;
        if (said++ == 0) {
            co_layout_heading(layout, "What was intended, as recorded before the first change");
            co_layout_table(layout, 3);
            ROW(layout, "pair", "side", "step");
        }
        ROW(layout, S(step, "pair"), S(step, "side"), S(step, "step"));
    }
    if (said)
        co_layout_table_end(layout);
}

/* What is called again and again until it is done is one entry: `open` keeps the first call of each, counted. */
static void say_call(struct co_layout *layout, json_t *open, json_t *step)
{
    CO_TEXT_AUTO key = CO_TEXT_INIT;
    co_text_add(&key, "%s/%s/%s/%s", S(step, "pair"), S(step, "side"), S(step, "action"), S(step, "step"));
    json_t *entry = json_object_get(open, whole(layout, &key));
    if (!entry) {
        entry = json_pack("{s:O, s:i}", "first", step, "calls", 0);
        if (json_object_set_new(open, co_text_str(&key), entry) < 0) {
            layout->out->overflow = true;
            return;
        }
    }
    json_int_t calls = json_integer_value(json_object_get(entry, "calls")) + 1;
    if (json_object_set_new(entry, "calls", json_integer(calls)) < 0 || json_object_set(entry, "last", step) < 0)
        layout->out->overflow = true;
    if (strcmp(S(step, "result"), "again") == 0)
        return;
    say_step(layout, step, json_object_get(entry, "first"), calls);
    json_object_del(open, co_text_str(&key));
}

static void say_executed(struct co_layout *layout, const json_t *document)
{
    size_t i, said = 0;
    json_t *step, *open = json_object(), *entry;
    const char *key;
    json_array_foreach(part(document, "steps"), i, step)
    {
        if (is_hook(step) || strcmp(S(step, "action"), "intent") == 0)
            continue;
        if (said++ == 0)
            co_layout_heading(layout, "What was executed, on which server");
        say_call(layout, open, step);
    }
    json_object_foreach(open, key, entry) /* never seen to be done */
        say_step(layout, json_object_get(entry, "last"), json_object_get(entry, "first"),
                 json_integer_value(json_object_get(entry, "calls")));
    json_decref(open);
}

static void say_changes(struct co_layout *layout, const json_t *document)
{
    size_t i;
    json_t *change;
    if (json_array_size(part(document, "changes")) == 0)
        return;
    co_layout_heading(layout, "What differs before and after");
    co_layout_table(layout, 6);
    ROW(layout, "pair", "side", "group", "name", "before", "after");
    json_array_foreach(part(document, "changes"), i, change)
    {
        const char *before = S(change, "before"), *after = S(change, "after");
        ROW(layout, S(change, "pair"), S(change, "side"), S(change, "group"), S(change, "name"), before[0] ? before : "\"\"",
            after[0] ? after : "\"\"");
    }
    co_layout_table_end(layout);
}

static void say_fact(struct co_layout *layout, const json_t *fact, const char *before, const char *after)
{
    bool differs = before && after && strcmp(before, after) != 0;
    ROW(layout, S(fact, "pair"), S(fact, "side"), S(fact, "group"), S(fact, "name"),
        before ? (before[0] ? before : "\"\"") : "", after ? (after[0] ? after : "\"\"") : "", differs ? "differs" : "");
}

static bool same_name(const json_t *one, const json_t *other)
{
    return other && strcmp(S(one, "pair"), S(other, "pair")) == 0 && strcmp(S(one, "side"), S(other, "side")) == 0 &&
           strcmp(S(one, "group"), S(other, "group")) == 0 && strcmp(S(one, "name"), S(other, "name")) == 0;
}

static void say_facts(struct co_layout *layout, const json_t *document)
{
    const json_t *facts = part(document, "facts");
    size_t count = json_array_size(facts);
    if (count == 0)
        return;
    co_layout_heading(layout, "All versions, sizes and settings, before and after");
    co_layout_table(layout, 7);
    ROW(layout, "pair", "side", "group", "name", "before", "after", "difference");
    for (size_t i = 0; i < count; i++) {
        const json_t *fact = json_array_get(facts, i), *next = json_array_get(facts, i + 1);
        bool before = strcmp(S(fact, "moment"), "after") != 0;
        bool both = before && same_name(fact, next);
        say_fact(layout, fact, before ? S(fact, "value") : NULL, both ? S(next, "value") : before ? NULL : S(fact, "value"));
        i += both;
    }
    co_layout_table_end(layout);
}

void co_report_content(struct co_layout *layout, const json_t *document)
{
    say_summary(layout, document);
    say_faults(layout, document);
    say_pause(layout, document);
    say_phases(layout, document);
    say_positions(layout, document);
    say_findings(layout, document);
    say_events(layout, document);
    say_hooks(layout, document);
    say_pairs(layout, document);
    say_changes(layout, document);
    say_intents(layout, document);
    say_executed(layout, document);
    say_facts(layout, document);
}
