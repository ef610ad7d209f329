/* tablespaces.c - where a copy's tablespaces go: to the same paths as on the source, or where setup.tablespaces says.
 *
 * Invariant: nothing that was in such a folder before is touched. It must be empty, or not be there, when a copy begins;
 * only what a copy that was interrupted has left in it is removed. */
#include "tablespaces.h"

#include <stdio.h>

void pg_spaces_done(struct pg_spaces *spaces)
{
    for (size_t i = 0; i < spaces->count; i++) {
        free(spaces->items[i].name);
        free(spaces->items[i].from);
        free(spaces->items[i].to);
    }
    free(spaces->items);
    *spaces = (struct pg_spaces){0};
}

static const char hint[] = "Write each as FOLDER ON A=FOLDER ON B, both from the root: "
                           "setup: {tablespaces: [/srv/fast=/mnt/ssd/fast]}";

/* The folder on `target` for `from` on the other side; NULL: out of memory. False: the option can't be read. */
static bool map(const char *const *option, const char *from, enum co_side target, char **ret)
{
    *ret = NULL;
    for (size_t i = 0; option && option[i]; i++) {
        const char *middle = strstr(option[i], "=/");
        if (option[i][0] != '/' || !middle)
            return false;
        size_t left = (size_t)(middle - option[i]);
        const char *b = middle + 1;
        if (*ret)
            continue;
        if (target == CO_SIDE_B && strlen(from) == left && memcmp(from, option[i], left) == 0)
            *ret = strdup(b);
        else if (target == CO_SIDE_A && strcmp(from, b) == 0)
            *ret = strndup(option[i], left);
    }
    if (!*ret)
        *ret = strdup(from);
    return true;
}

enum co_result pg_spaces_look(struct co_call *call, struct co_conn *source, enum co_side target, struct pg_spaces *ret)
{
    *ret = (struct pg_spaces){0};
    const char *const *option = call->host->argv_option(call->ctx, -1, "setup.tablespaces");
    PG_RESULT rows = NULL;
    enum co_result result =
        pg_query(call, source, PG_READ,
                 "SELECT spcname, location, pg_catalog.pg_tablespace_size(oid) FROM (SELECT oid, spcname, "
                 "pg_catalog.pg_tablespace_location(oid) AS location FROM pg_catalog.pg_tablespace) s WHERE "
                 "location LIKE '/%' ORDER BY oid",
                 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    int count = PQntuples(rows);
    if (count > PG_SPACES_MAX)
        return pg_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED,
                       "Make the standby yourself (pg_basebackup) and run `changeover setup` again: it is adopted.",
                       "the source has %d tablespaces; setup copies at most %d", count, PG_SPACES_MAX);
    ret->items = calloc((size_t)count + 1, sizeof *ret->items);
    for (int i = 0; ret->items && i < count; i++) {
        struct pg_space *space = &ret->items[ret->count++];
        if (!map(option, pg_value(rows, i, 1), target, &space->to))
            return pg_fail(call, CO_NO_EFFECT, CO_E_CONFIG, hint, "setup.tablespaces can't be read");
        space->name = strdup(pg_value(rows, i, 0));
        space->from = strdup(pg_value(rows, i, 1));
        space->bytes = pg_number(rows, i, 2, 0);
        if (!space->name || !space->from || !space->to)
            return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
    return ret->items ? CO_DONE : pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
}

static void add_escaped(struct pg_text *text, const char *path)
{
    for (; *path; path++) {
        if (*path == '=')
            pg_text_add(text, "\\");
        pg_text_bytes(text, path, 1);
    }
}

void pg_space_mapping(const struct pg_space *space, struct pg_text *ret)
{
    add_escaped(ret, space->from);
    pg_text_add(ret, "=");
    add_escaped(ret, space->to);
}
