/* capabilities.c - what a pair's engine can do, as the run saw it at its beginning.
 *
 * Invariant: a process that takes a run over works with what the run began with. A server that is down, or that its fence
 * has stopped, can't be asked; and "can't be promoted closed" taken for granted would make the wrong pair the one that decides.
 */
#include <stddef.h>
#include <string.h>

#include "cutover/run.h"

#define GROUP "capability"
#define NAME "all"

static const struct {
    const char *word;
    size_t offset;
} members[] = {
    {"promote_closed", offsetof(struct co_capabilities, promote_closed)},
    {"restart_proof", offsetof(struct co_capabilities, restart_proof)},
    {"rounds", offsetof(struct co_capabilities, rounds)},
    {"reverse", offsetof(struct co_capabilities, reverse)},
    {"scope_database", offsetof(struct co_capabilities, scope_database)},
    {"destroys_on_reverse", offsetof(struct co_capabilities, destroys_on_reverse)},
    {"undo_keeps_target", offsetof(struct co_capabilities, undo_keeps_target)},
    {"fence_stops", offsetof(struct co_capabilities, fence_stops)},
    {"marker_offline", offsetof(struct co_capabilities, marker_offline)},
};

static bool *member(struct co_capabilities *caps, size_t index)
{
    return (bool *)((char *)caps + members[index].offset);
}

int co_capabilities_keep(struct co_lane *lane, struct co_error *err)
{
    CO_TEXT_AUTO words = CO_TEXT_INIT;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (*member(&lane->caps, i))
            co_text_add(&words, "%s%s", words.bytes ? " " : "", members[i].word);
    return co_journal_fact(lane->run->journal, lane->run->row.id, co_pair_name(lane->pair), "", "before", GROUP, NAME,
                           co_text_str(&words), err);
}

static bool has_word(const char *words, const char *word)
{
    size_t bytes = strlen(word);
    for (const char *at = words; (at = strstr(at, word)) != NULL; at += bytes)
        if ((at == words || at[-1] == ' ') && (at[bytes] == ' ' || at[bytes] == '\0'))
            return true;
    return false;
}

static bool is_text(const json_t *row, const char *key, const char *want)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text && strcmp(text, want) == 0;
}

static bool from_journal(struct co_lane *lane)
{
    json_t *dump = NULL, *row;
    size_t i;
    bool found = false;
    if (co_journal_dump(lane->run->journal, lane->run->row.id, &dump, NULL) != 0)
        return false;
    json_array_foreach(json_object_get(dump, "facts"), i, row)
    {
        const char *words = json_string_value(json_object_get(row, "value"));
        if (!words || !is_text(row, "group", GROUP) || !is_text(row, "name", NAME) ||
            !is_text(row, "pair", co_pair_name(lane->pair)))
            continue;
        found = true;
        for (size_t k = 0; k < sizeof members / sizeof *members; k++)
            *member(&lane->caps, k) = has_word(words, members[k].word);
    }
    json_decref(dump);
    return found;
}

int co_capabilities_load(struct co_lane *lane)
{
    if (lane->caps.size == 0 && !from_journal(lane)) {
        enum co_result got =
            co_ep_capabilities(lane->second[CO_TARGET], co_now_ns() + CO_CONNECT_NS, &lane->caps, &lane->error);
        if (got != CO_DONE && !lane->run->source_lost)
            got = co_ep_capabilities(lane->second[CO_SOURCE], co_now_ns() + CO_CONNECT_NS, &lane->caps, &lane->error);
        if (got != CO_DONE) {
            lane->caps = (struct co_capabilities){0};
            return co_lane_fail(lane, got);
        }
    }
    lane->caps.size = sizeof lane->caps;
    co_pair_set_fence_stops(lane->pair, lane->caps.fence_stops);
    return 0;
}
