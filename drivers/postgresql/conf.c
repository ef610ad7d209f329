/* conf.c - server settings that a run changes with ALTER SYSTEM, and puts back exactly as they were.
 * Invariant: the original is noted (by prepare, before anything changes) as what postgresql.auto.conf held; putting
 * back writes that or removes the entry, whatever happened in between. */
#include "pg.h"

#include <stdio.h>

static void key_of(const char *name, char ret[64])
{
    snprintf(ret, 64, "conf.%s", name);
}

enum co_result pg_conf_look(struct co_call *call, const char *name, char **ret)
{
    const char *params[] = {name};
    PG_RESULT rows = NULL;
    *ret = NULL;
    enum co_result result = pg_query(
        call, call->conn, PG_READ,
        "SELECT setting FROM pg_catalog.pg_file_settings WHERE name = $1 AND sourcefile ~ '[/\\\\]postgresql\\.auto\\.conf$' "
        "ORDER BY seqno DESC LIMIT 1",
        1, params, &rows);
    if (result != CO_DONE || PQntuples(rows) == 0)
        return result;
    *ret = strdup(pg_value(rows, 0, 0));
    return *ret ? CO_DONE : pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
}

enum co_result pg_conf_note(struct co_call *call, const char *name)
{
    char key[64];
    key_of(name, key);
    if (call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, key))
        return CO_DONE; /* prepared before: what is there now may be ours */
    PG_STRING value = NULL;
    enum co_result result = pg_conf_look(call, name, &value);
    if (result != CO_DONE)
        return result;
    PG_TEXT note = {0};
    if (value)
        pg_text_addf(&note, "=%s", value);
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, key, value ? pg_text_str(&note) : "-") < 0)
        return pg_fail(call, CO_NO_EFFECT, CO_E_IO, "", "the original value of %s could not be noted", name);
    return CO_DONE;
}

static void set_sql(struct pg_text *sql, const char *name, const char *value)
{
    pg_text_addf(sql, "ALTER SYSTEM %s %s", value ? "SET" : "RESET", name);
    if (value) {
        pg_text_add(sql, " = ");
        pg_text_literal(sql, value);
    }
}

static enum co_result change(struct co_call *call, const char *name, const char *value, const char *name2, const char *value2)
{
    PG_TEXT first = {0};
    PG_TEXT second = {0};
    set_sql(&first, name, value);
    if (name2)
        set_sql(&second, name2, value2);
    if (first.failed || second.failed)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    const char *statements[3] = {pg_text_str(&first)};
    size_t count = 1;
    if (name2)
        statements[count++] = pg_text_str(&second);
    statements[count++] = "SELECT pg_catalog.pg_reload_conf()";
    return pg_guarded_plain(call, call->conn, false, statements, count);
}

enum co_result pg_conf_set(struct co_call *call, const char *name, const char *value, const char *name2, const char *value2)
{
    return change(call, name, value, name2, value2);
}

static const char *noted(struct co_call *call, const char *name)
{
    char key[64];
    key_of(name, key);
    const char *note = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, key);
    return note && note[0] == '=' ? note + 1 : NULL;
}

enum co_result pg_conf_restore(struct co_call *call, const char *name, const char *name2)
{
    return change(call, name, noted(call, name), name2, name2 ? noted(call, name2) : NULL);
}
