/* info.c - what the texts of INFO, CONFIG GET and COMMANDSTATS say. Pure.
 *
 * Invariant: a field that is absent or malformed is unknown (-1, ""), never 0 or "fine". Names are the servers' own:
 * they still say slave and master, Valkey too (INFO of Redis 5.0 to 8.0 and Valkey 7.2 to 8.1).
 */
#include "rd.h"

#include <stdlib.h>
#include <string.h>

bool rd_info_get(const char *info, const char *key, const char **ret, size_t *ret_bytes)
{
    size_t key_bytes = strlen(key);

    for (const char *line = info; line && *line;) {
        const char *end = strchr(line, '\n');
        size_t bytes = end ? (size_t)(end - line) : strlen(line);

        if (bytes > key_bytes && line[key_bytes] == ':' && memcmp(line, key, key_bytes) == 0) {
            size_t value_bytes = bytes - key_bytes - 1;

            *ret = line + key_bytes + 1;
            while (value_bytes > 0 && (*ret)[value_bytes - 1] == '\r')
                value_bytes--;
            *ret_bytes = value_bytes;
            return true;
        }
        line = end ? end + 1 : NULL;
    }
    return false;
}

int64_t rd_info_int(const char *info, const char *key, int64_t otherwise)
{
    const char *value;
    size_t bytes;
    int64_t number;

    if (!rd_info_get(info, key, &value, &bytes) || !rd_parse_int(value, bytes, &number))
        return otherwise;
    return number;
}

char *rd_info_dup(const char *info, const char *key)
{
    const char *value;
    size_t bytes;

    if (!rd_info_get(info, key, &value, &bytes))
        return rd_strndup("", 0);
    return rd_strndup(value, bytes);
}

bool rd_info_is(const char *info, const char *key, const char *expected)
{
    const char *value;
    size_t bytes;

    return rd_info_get(info, key, &value, &bytes) && bytes == strlen(expected) && memcmp(value, expected, bytes) == 0;
}

bool rd_field(const char *line, size_t bytes, char separator, const char *name, const char **ret, size_t *ret_bytes)
{
    size_t name_bytes = strlen(name);

    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(line + at, separator, bytes - at);
        size_t field_bytes = end ? (size_t)(end - (line + at)) : bytes - at;

        if (field_bytes > name_bytes && line[at + name_bytes] == '=' && memcmp(line + at, name, name_bytes) == 0) {
            *ret = line + at + name_bytes + 1;
            *ret_bytes = field_bytes - name_bytes - 1;
            return true;
        }
        at += field_bytes + 1;
    }
    return false;
}

/* "7.0.15" -> 7, 0, 15; what can't be read stays 0. */
static void parse_dotted(const char *text, size_t bytes, int ret[3])
{
    size_t part = 0;

    ret[0] = ret[1] = ret[2] = 0;
    for (size_t at = 0; at < bytes && part < 3; at++) {
        if (text[at] == '.')
            part++;
        else if (text[at] < '0' || text[at] > '9' || ret[part] > 100000)
            break;
        else
            ret[part] = ret[part] * 10 + (text[at] - '0');
    }
}

/* RDB versions as each release writes them (rdb.h of its source; Valkey went back to 11 on purpose, and to 80 in 9.0). */
static int rdb_version(const struct rd_version *version)
{
    int number = version->major * 100 + version->minor;

    if (version->flavour == RD_VALKEY)
        return version->major >= 9 ? 80 : 11;
    if (number >= 704)
        return 12;
    if (number >= 702)
        return 11;
    return number >= 700 ? 10 : 9;
}

void rd_version_parse(const char *info, struct rd_version *ret)
{
    const char *value;
    size_t bytes;
    int numbers[3] = {0, 0, 0};

    ret->flavour = rd_info_get(info, "valkey_version", &value, &bytes) ? RD_VALKEY : RD_REDIS;
    if (ret->flavour == RD_VALKEY || rd_info_get(info, "redis_version", &value, &bytes))
        parse_dotted(value, bytes, numbers);
    ret->major = numbers[0];
    ret->minor = numbers[1];
    ret->patch = numbers[2];
    ret->compatible = ret->flavour == RD_VALKEY ? 702 : ret->major * 100 + ret->minor;
    ret->rdb = rdb_version(ret);
}

bool rd_version_can_load(const struct rd_version *from, const struct rd_version *to)
{
    /* Valkey refuses 12 to 79 even where its own number is higher: they belong to Redis from 7.4 on. */
    if (to->flavour == RD_VALKEY && from->flavour == RD_REDIS && from->rdb >= 12)
        return false;
    return from->rdb <= to->rdb;
}

void rd_state_done(struct rd_state *state)
{
    free(state->master_host);
    free(state->config_file);
    free(state->marker);
    free(state->fence_key);
    if (state->users)
        explicit_bzero(state->users, strlen(state->users));
    free(state->users);
    memset(state, 0, sizeof(*state));
}

static void copy_id(const char *info, const char *key, char ret[41])
{
    const char *value;
    size_t bytes;

    ret[0] = '\0';
    if (!rd_info_get(info, key, &value, &bytes) || bytes != 40)
        return;
    memcpy(ret, value, 40);
    ret[40] = '\0';
}

int rd_state_parse(struct rd_state *state, const char *info)
{
    rd_state_done(state);
    rd_version_parse(info, &state->version);
    copy_id(info, "run_id", state->run_id);
    copy_id(info, "master_replid", state->replid);
    copy_id(info, "master_replid2", state->replid2);
    state->primary = rd_info_is(info, "role", "master");
    state->loading = rd_info_int(info, "loading", 0) != 0;
    state->link_up = rd_info_is(info, "master_link_status", "up");
    state->syncing = rd_info_int(info, "master_sync_in_progress", 0) != 0;
    state->offset = rd_info_int(info, "master_repl_offset", -1);
    state->second_offset = rd_info_int(info, "second_repl_offset", -1);
    state->applied = rd_info_int(info, "slave_repl_offset", -1);
    state->last_io_s = rd_info_int(info, "master_last_io_seconds_ago", -1);
    state->link_down_s = rd_info_int(info, "master_link_down_since_seconds", -1);
    state->sync_total = rd_info_int(info, "master_sync_total_bytes", -1);
    state->sync_read = rd_info_int(info, "master_sync_read_bytes", -1);
    state->load_done = rd_info_int(info, "loading_loaded_bytes", -1);
    state->load_total = rd_info_int(info, "loading_total_bytes", -1);
    state->replicas = rd_info_int(info, "connected_slaves", -1);
    state->good_replicas = rd_info_int(info, "min_slaves_good_slaves", -1);
    state->apply_errors = rd_info_int(info, "unexpected_error_replies", -1);
    state->backlog_first = rd_info_int(info, "repl_backlog_first_byte_offset", -1);
    state->backlog_bytes = rd_info_int(info, "repl_backlog_histlen", -1);
    state->backlog_size = rd_info_int(info, "repl_backlog_size", -1);
    state->sync_full = rd_info_int(info, "sync_full", -1);
    state->sync_partial = rd_info_int(info, "sync_partial_ok", -1);
    state->master_host = rd_info_dup(info, "master_host");
    state->master_port = rd_info_int(info, "master_port", 0);
    state->config_file = rd_info_dup(info, "config_file");
    state->min_replicas = state->max_lag = -1;
    if (!state->master_host || !state->config_file)
        return CO_E_NOMEM;
    return 0;
}

/* Somebody may write by a script, or it isn't known. */
static bool rights_left(const struct rd_state *state)
{
    return state->rights == RD_RIGHTS_FREE || state->rights == RD_RIGHTS_PARTLY || state->rights == RD_RIGHTS_UNKNOWN;
}

bool rd_state_fenced(const struct rd_state *state)
{
    return state->config_known && state->min_replicas >= RD_FENCE && state->max_lag > 0 && !rights_left(state);
}

bool rd_state_fenced_partly(const struct rd_state *state)
{
    return state->min_replicas >= RD_FENCE || state->rights == RD_RIGHTS_TAKEN || state->rights == RD_RIGHTS_PARTLY;
}

enum co_tristate rd_state_accepts_writes(const struct rd_state *state)
{
    if (state->loading)
        return CO_NO;
    if (!state->config_known)
        return CO_UNKNOWN;
    if (!state->primary)
        return state->read_only ? CO_NO : CO_YES;
    if (state->min_replicas > 0 && state->max_lag > 0) {
        int64_t good = state->good_replicas >= 0 ? state->good_replicas : 0;

        return good < state->min_replicas ? CO_NO : CO_YES;
    }
    return CO_YES;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "cmdstat_xgroup|create:calls=3,usec=..." */
int64_t rd_write_calls(const char *info, char *const *names, size_t count)
{
    static const char prefix[] = "cmdstat_";
    int64_t sum = 0;
    bool seen = false;

    for (const char *line = info; line && *line;) {
        const char *end = strchr(line, '\n');
        size_t bytes = end ? (size_t)(end - line) : strlen(line);
        const char *colon = memchr(line, ':', bytes), *value;
        size_t value_bytes;
        int64_t calls;

        if (bytes > 0 && *line == '#')
            seen = true;
        if (colon && bytes > sizeof(prefix) && memcmp(line, prefix, sizeof(prefix) - 1) == 0) {
            const char *name = line + sizeof(prefix) - 1;
            RD_TEXT copy = rd_strndup(name, (size_t)(colon - name));
            char *key = copy;

            seen = true;
            if (!copy)
                return -1;
            if (rd_field(colon + 1, bytes - (size_t)(colon + 1 - line), ',', "calls", &value, &value_bytes) &&
                bsearch(&key, names, count, sizeof(*names), compare_names)) {
                if (!rd_parse_int(value, value_bytes, &calls))
                    return -1;
                sum += calls;
            }
        }
        line = end ? end + 1 : NULL;
    }
    return seen ? sum : -1;
}
