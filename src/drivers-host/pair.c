/* pair.c - a pair's lasting state: configuration, driver, run, recorded identities. Invariant: what
 * pair->lock guards is complete whenever the lock is free; strings in it are never NULL. */
#include "drivers-host/internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

void co_identity_data_done(struct co_identity_data *data)
{
    if (!data)
        return;
    co_text_done(&data->product);
    co_text_done(&data->version);
    co_text_done(&data->instance);
    co_text_done(&data->lineage);
    co_text_done(&data->incarnation);
}

void co_link_data_done(struct co_link_data *data)
{
    if (!data)
        return;
    co_text_done(&data->reason);
    co_text_done(&data->faster);
}

static void run_copy_clear(struct co_run_copy *copy)
{
    free(copy->id);
    free(copy->token);
    free(copy->actor);
    free(copy->session_name);
    *copy = (struct co_run_copy){0};
}

int co_run_copy_set(struct co_run_copy *copy, const struct co_run *run)
{
    struct co_run_copy fresh = {0};
    if (run) {
        fresh.id = co_strdup(run->id ? run->id : "");
        fresh.token = co_strdup(run->token ? run->token : "");
        fresh.actor = co_strdup(run->actor ? run->actor : "");
        fresh.session_name = co_strdup(run->session_name ? run->session_name : "changeover");
        if (!fresh.id || !fresh.token || !fresh.actor || !fresh.session_name) {
            run_copy_clear(&fresh);
            run_copy_clear(copy);
            return CO_E_NOMEM;
        }
        fresh.run = (struct co_run){.size = sizeof fresh.run,
                                    .id = fresh.id,
                                    .token = fresh.token,
                                    .actor = fresh.actor,
                                    .session_name = fresh.session_name,
                                    .source = run->source};
    }
    run_copy_clear(copy); /* last: run may point into the old one */
    *copy = fresh;
    return 0;
}

/* "postgresql|postgres" has "postgres" */
static bool in_list(const char *list, const char *word)
{
    size_t bytes = strlen(word);
    for (const char *at = list; at && *at;) {
        const char *end = strchrnul(at, '|');
        if ((size_t)(end - at) == bytes && memcmp(at, word, bytes) == 0)
            return true;
        at = *end ? end + 1 : end;
    }
    return false;
}

static int check_schemes(const struct co_pair *pair, struct co_error *err)
{
    for (int side = CO_SIDE_A; side <= CO_SIDE_B; side++) {
        const struct co_side_config *config = &pair->pair_config->side[side];
        const char *scheme = config->endpoint.scheme;
        if (scheme && !in_list(pair->engine->schemes, scheme))
            return co_fail(err, CO_E_CONFIG, "%s:%d: pair %s, side %s: the URL begins with '%s://'; engine %s takes %s",
                           pair->config->path ? pair->config->path : "config", config->line, pair->pair_config->name,
                           co_side_name((enum co_side)side), scheme, pair->engine->name, pair->engine->schemes);
    }
    return 0;
}

int co_pair_new(const struct co_config *config, size_t index, struct co_pair **ret, struct co_error *err)
{
    struct co_pair_config *pair_config = &config->pairs[index];
    const struct co_module *module = NULL;
    int rc = co_module_for_engine(pair_config->engine, &module, err);
    if (rc < 0) {
        co_error_prefix(err, "pair %s: ", pair_config->name);
        return rc;
    }
    rc = co_config_check_options(config, pair_config, module->driver->options, module->driver->option_count, err);
    if (rc < 0)
        return rc;
    struct co_pair *pair = calloc(1, sizeof *pair);
    if (!pair)
        return co_fail(err, CO_E_NOMEM, "no memory for pair %s", pair_config->name);
    pthread_mutex_init(&pair->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pair->host_looked, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pair->config = config;
    pair->pair_config = pair_config;
    pair->module = module;
    pair->driver = module->driver;
    pair->engine = co_module_engine(module, pair_config->engine);
    pair->source = CO_SIDE_A;
    for (int side = 0; side < 2; side++) {
        pair->instance[side] = co_strdup("");
        pair->lineage[side] = co_strdup("");
    }
    if (!pair->instance[0] || !pair->instance[1] || !pair->lineage[0] || !pair->lineage[1])
        rc = co_fail(err, CO_E_NOMEM, "no memory for pair %s", pair_config->name);
    else
        rc = check_schemes(pair, err);
    if (rc < 0) {
        co_pair_free(pair);
        return rc;
    }
    *ret = pair;
    return 0;
}

void co_pair_free(struct co_pair *pair)
{
    if (!pair)
        return;
    co_late_join(pair);
    co_notes_clear(pair, CO_NOTE_RUN);
    co_notes_clear(pair, CO_NOTE_PAIR);
    free(pair->notes_run);
    run_copy_clear(&pair->run);
    for (int side = 0; side < 2; side++) {
        free(pair->instance[side]);
        free(pair->lineage[side]);
    }
    pthread_cond_destroy(&pair->host_looked);
    pthread_mutex_destroy(&pair->lock);
    free(pair);
}

const struct co_pair_config *co_pair_config(const struct co_pair *pair)
{
    return pair->pair_config;
}

const struct co_driver *co_pair_driver(const struct co_pair *pair)
{
    return pair->driver;
}

const char *co_pair_name(const struct co_pair *pair)
{
    return pair->pair_config->name;
}

/* Whose run notes `notes` holds; loads them when a journal has them. pair->lock held. */
static int notes_of_run(struct co_pair *pair, const char *run_or_null, struct co_error *err)
{
    char *copy = co_strdup(run_or_null);
    if (run_or_null && !copy)
        return co_fail(err, CO_E_NOMEM, "no memory for the notes of run %s", run_or_null);
    co_notes_clear(pair, CO_NOTE_RUN);
    free(pair->notes_run);
    pair->notes_run = copy;
    if (pair->journal && run_or_null)
        return co_notes_load(pair, run_or_null, err);
    return 0;
}

int co_pair_use_journal(struct co_pair *pair, struct co_journal *journal, const char *run_or_null, struct co_error *err)
{
    pthread_mutex_lock(&pair->lock);
    pair->journal = journal;
    co_error_clear(&pair->notes_error);
    int rc = 0;
    if (journal) { /* without one, what is in memory stays */
        co_notes_clear(pair, CO_NOTE_PAIR);
        rc = co_notes_load(pair, NULL, err);
        if (rc == 0)
            rc = notes_of_run(pair, run_or_null, err);
    }
    pthread_mutex_unlock(&pair->lock);
    return rc;
}

void co_pair_set_run(struct co_pair *pair, const struct co_run *run)
{
    pthread_mutex_lock(&pair->lock);
    if (co_run_copy_set(&pair->run, run) < 0) {
        co_fail(&pair->notes_error, CO_E_NOMEM, "no memory for the run");
    } else {
        pair->has_run = run != NULL;
        const char *id = run ? pair->run.id : NULL;
        bool same = id && pair->notes_run && strcmp(id, pair->notes_run) == 0;
        if (!same) { /* another epoch of the same run keeps its notes */
            co_error_clear(&pair->notes_error);
            notes_of_run(pair, id, &pair->notes_error);
        }
        if (run)
            pair->source = run->source;
    }
    pthread_mutex_unlock(&pair->lock);
}

const struct co_run *co_pair_run(const struct co_pair *pair)
{
    return pair->has_run ? &pair->run.run : NULL;
}

void co_pair_set_source(struct co_pair *pair, enum co_side source)
{
    pthread_mutex_lock(&pair->lock);
    pair->source = source;
    pthread_mutex_unlock(&pair->lock);
}

enum co_side co_pair_source(const struct co_pair *pair)
{
    struct co_pair *writable = (struct co_pair *)pair; /* for the lock alone */
    pthread_mutex_lock(&writable->lock);
    enum co_side source = pair->source;
    pthread_mutex_unlock(&writable->lock);
    return source;
}

void co_pair_set_fence_stops(struct co_pair *pair, bool fence_stops)
{
    pthread_mutex_lock(&pair->lock);
    pair->fence_stops = fence_stops;
    pthread_mutex_unlock(&pair->lock);
}

void co_pair_set_marker_offline(struct co_pair *pair, enum co_run_role role, bool marker_offline)
{
    pthread_mutex_lock(&pair->lock);
    pair->marker_offline[role] = marker_offline;
    pthread_mutex_unlock(&pair->lock);
}

void co_pair_record_identity(struct co_pair *pair, enum co_side side, const char *instance, const char *lineage)
{
    if (side != CO_SIDE_A && side != CO_SIDE_B)
        return;
    char *new_instance = co_strdup(instance ? instance : "");
    char *new_lineage = co_strdup(lineage ? lineage : "");
    pthread_mutex_lock(&pair->lock);
    if (new_instance && new_lineage) {
        free(pair->instance[side]);
        free(pair->lineage[side]);
        pair->instance[side] = new_instance;
        pair->lineage[side] = new_lineage;
    } else { /* without memory nothing can be held against it: fail closed */
        free(new_instance);
        free(new_lineage);
        co_fail(&pair->notes_error, CO_E_NOMEM, "no memory for the identity of side %s", co_side_name(side));
    }
    pthread_mutex_unlock(&pair->lock);
}

enum co_order co_pair_compare(const struct co_pair *pair, const char *have, const char *want)
{
    if (!have || !want || !*have || !*want)
        return CO_ORDER_UNKNOWN;
    enum co_order order = pair->driver->compare(have, want);
    switch (order) {
    case CO_ORDER_BEHIND:
    case CO_ORDER_EQUAL:
    case CO_ORDER_AHEAD:
    case CO_ORDER_DIVERGED:
    case CO_ORDER_UNKNOWN:
        return order;
    }
    co_debug("driver %s: compare answered %d", pair->driver->name, (int)order);
    return CO_ORDER_UNKNOWN;
}

void co_pair_distance(const struct co_pair *pair, const char *have, const char *want, struct co_distance *ret)
{
    *ret = (struct co_distance){.size = sizeof *ret, .bytes = -1, .transactions = -1};
    if (!have || !want || !*have || !*want)
        return;
    pair->driver->distance(have, want, ret);
    if (ret->bytes < 0)
        ret->bytes = -1;
    if (ret->transactions < 0)
        ret->transactions = -1;
}

size_t co_pair_step_count(const struct co_pair *pair)
{
    return pair->driver->step_count;
}

const struct co_step *co_pair_step(const struct co_pair *pair, size_t index)
{
    return index < pair->driver->step_count ? &pair->driver->steps[index] : NULL;
}
