/* notes.c - a driver's memory across calls, processes and machines: a list in memory, written through to the
 * journal. Invariants: the journal is written first, so memory never knows more than a resume would; a note
 * never holds a known secret (the journal would mask it and a later undo put back "***"). */
#include "drivers-host/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "journal/journal.h"

#define NOTE_MAX_BYTES ((size_t)64 << 10)
#define KEY_MAX_BYTES ((size_t)200)

static void note_free(struct co_note *note)
{
    free(note->key);
    free(note->value);
    free(note);
}

void co_notes_clear(struct co_pair *pair, enum co_note_scope scope)
{
    for (struct co_note **at = &pair->notes; *at;) {
        struct co_note *note = *at;
        if (note->scope == scope) {
            *at = note->next;
            note_free(note);
        } else {
            at = &note->next;
        }
    }
}

static struct co_note **note_find(struct co_pair *pair, enum co_note_scope scope, enum co_side side, const char *key)
{
    struct co_note **at = &pair->notes;
    while (*at && !((*at)->scope == scope && (*at)->side == side && strcmp((*at)->key, key) == 0))
        at = &(*at)->next;
    return at;
}

/* In memory alone; value NULL removes. pair->lock held. */
static int note_set(struct co_pair *pair, enum co_note_scope scope, enum co_side side, const char *key, const char *value)
{
    struct co_note **at = note_find(pair, scope, side, key);
    if (!value) {
        if (*at) {
            struct co_note *gone = *at;
            *at = gone->next;
            note_free(gone);
        }
        return 0;
    }
    char *copy = co_strdup(value);
    if (!copy)
        return CO_E_NOMEM;
    if (*at) {
        free((*at)->value);
        (*at)->value = copy;
        return 0;
    }
    struct co_note *note = calloc(1, sizeof *note);
    char *key_copy = co_strdup(key);
    if (!note || !key_copy) {
        free(note);
        free(key_copy);
        free(copy);
        return CO_E_NOMEM;
    }
    *note = (struct co_note){.scope = scope, .side = side, .key = key_copy, .value = copy};
    *at = note;
    return 0;
}

int co_notes_get(struct co_pair *pair, enum co_note_scope scope, enum co_side side, const char *key, char **ret)
{
    pthread_mutex_lock(&pair->lock);
    struct co_note *note = *note_find(pair, scope, side, key);
    *ret = note ? co_strdup(note->value) : NULL;
    int rc = note && !*ret ? CO_E_NOMEM : 0; /* "absent" would be a lie that an undo acts on */
    pthread_mutex_unlock(&pair->lock);
    return rc;
}

static int check_note(const char *key, const char *value, struct co_error *err)
{
    if (!key || !*key || strlen(key) > KEY_MAX_BYTES)
        return co_fail(err, CO_E_INTERNAL, "a note's name is empty or longer than %zu bytes", KEY_MAX_BYTES);
    if (!value)
        return 0;
    size_t bytes = strlen(value);
    if (bytes > NOTE_MAX_BYTES)
        return co_fail(err, CO_E_INTERNAL, "the note %s has %zu bytes, at most %zu are kept", key, bytes, NOTE_MAX_BYTES);
    CO_TEXT_AUTO masked = CO_TEXT_INIT;
    co_text_set_str(&masked, value);
    co_mask_text(&masked);
    if (masked.overflow || strcmp(co_text_str(&masked), value) != 0) {
        co_fail(err, CO_E_CONFIG, "the note %s can't be kept: it holds what is also one of the configured passwords", key);
        co_hint(err, "Use a password that isn't a word of the server's own configuration, as a random one never is.");
        return CO_E_CONFIG;
    }
    return 0;
}

int co_notes_put(struct co_pair *pair, const char *run_or_null, enum co_note_scope scope, enum co_side side, const char *key,
                 const char *value, struct co_error *err)
{
    int rc = check_note(key, value, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&pair->lock);
    const char *run = scope == CO_NOTE_RUN ? run_or_null : "";
    if (pair->journal && run) /* a run's note outside a run is a scribble: it ends with the process */
        rc = co_journal_note_put(pair->journal, run, co_pair_name(pair), co_side_name(side), key, value, err);
    /* A call that a fault put off may end after its run did: then only the journal gets its note. */
    bool current = scope == CO_NOTE_PAIR || !run || !pair->notes_run || strcmp(run, pair->notes_run) == 0;
    if (rc == 0 && current && note_set(pair, scope, side, key, value) < 0)
        rc = co_fail(err, CO_E_NOMEM, "no memory for the note %s", key);
    pthread_mutex_unlock(&pair->lock);
    return rc;
}

static bool parse_side(const char *name, enum co_side *ret)
{
    for (int side = CO_SIDE_A; side <= CO_SIDE_B; side++)
        if (name && strcmp(name, co_side_name((enum co_side)side)) == 0) {
            *ret = (enum co_side)side;
            return true;
        }
    return false;
}

struct load {
    struct co_pair *pair;
    enum co_note_scope scope;
    int rc;
};

static bool load_one(const char *side_name, const char *key, const char *value, void *arg)
{
    struct load *load = arg;
    enum co_side side;
    if (parse_side(side_name, &side) && key && value)
        load->rc = note_set(load->pair, load->scope, side, key, value);
    return load->rc == 0;
}

int co_notes_load(struct co_pair *pair, const char *run_or_null, struct co_error *err)
{
    struct load load = {.pair = pair, .scope = run_or_null ? CO_NOTE_RUN : CO_NOTE_PAIR};
    int rc = co_journal_notes(pair->journal, run_or_null ? run_or_null : "", co_pair_name(pair), load_one, &load, err);
    if (rc == 0 && load.rc < 0)
        rc = co_fail(err, CO_E_NOMEM, "no memory for the notes of pair %s", co_pair_name(pair));
    return rc;
}

json_t *co_pair_notes_json(struct co_pair *pair)
{
    json_t *all = json_object();
    bool failed = !all;
    pthread_mutex_lock(&pair->lock);
    for (struct co_note *note = pair->notes; note && !failed; note = note->next) {
        if (note->scope != CO_NOTE_RUN)
            continue;
        const char *side = co_side_name(note->side);
        json_t *of_side = json_object_get(all, side);
        if (!of_side) {
            of_side = json_object();
            failed = json_object_set_new(all, side, of_side) < 0;
        }
        failed = failed || json_object_set_new(of_side, note->key, json_string(note->value)) < 0;
    }
    pthread_mutex_unlock(&pair->lock);
    if (failed) { /* half of the originals is worse than none: the caller sees that there is nothing */
        json_decref(all);
        return NULL;
    }
    return all;
}

int co_pair_note_put(struct co_pair *pair, enum co_side side, const char *key, const char *value, struct co_error *err)
{
    pthread_mutex_lock(&pair->lock);
    CO_AUTOFREE char *run = co_strdup(pair->has_run ? pair->run.id : pair->notes_run);
    pthread_mutex_unlock(&pair->lock);
    return co_notes_put(pair, run, CO_NOTE_RUN, side, key, value, err);
}

int co_pair_note_get(struct co_pair *pair, enum co_side side, const char *key, struct co_text *ret)
{
    CO_AUTOFREE char *value = NULL;
    int rc = co_notes_get(pair, CO_NOTE_RUN, side, key, &value);
    co_text_set_str(ret, value);
    return rc;
}

int co_pair_notes_import(struct co_pair *pair, const json_t *notes, struct co_error *err)
{
    if (!json_is_object(notes))
        return co_fail(err, CO_E_DATA, "the notes in the marker aren't a JSON object");
    CO_AUTOFREE char *run = NULL;
    pthread_mutex_lock(&pair->lock);
    const char *owner = pair->has_run ? pair->run.id : pair->notes_run; /* co_pair_use_journal said whose they are */
    run = co_strdup(owner);
    bool no_memory = owner && !run;
    pthread_mutex_unlock(&pair->lock);
    if (no_memory)
        return co_fail(err, CO_E_NOMEM, "no memory for the notes of pair %s", co_pair_name(pair));
    const char *side_name, *key;
    json_t *of_side, *value;
    json_object_foreach((json_t *)notes, side_name, of_side)
    {
        enum co_side side;
        if (!parse_side(side_name, &side) || !json_is_object(of_side))
            return co_fail(err, CO_E_DATA, "the notes in the marker name the unknown side '%s'", side_name);
        json_object_foreach(of_side, key, value)
        {
            if (!json_is_string(value))
                return co_fail(err, CO_E_DATA, "the note %s in the marker isn't a text", key);
            int rc = co_notes_put(pair, run, CO_NOTE_RUN, side, key, json_string_value(value), err);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}
