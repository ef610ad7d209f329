/* steps.c - the table of everything the module changes on a server, in the order it is applied, and the steps of cutover,
 * reverse and detach. Setup's are in setup.c.
 *
 * Invariant: each apply and revert is one guarded packet (my_change, my_write) that may be repeated; each probe asks the
 * server.
 */
#include "my.h"
#include "setup.h"

#include <stdlib.h>

static enum co_result say(struct co_call *call, struct co_text *ret, const char *text)
{
    call->host->text_set(call->ctx, ret, text, strlen(text));
    return CO_DONE;
}

static bool mysql_or_unknown(const struct co_call *call)
{
    return call->conn && my_is_mysql(call->conn);
}

/* ---------------------------------------------------------------- fence and closure: descriptions */

static enum co_result accounts_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_set(call->ctx, ret, "", 0);
    call->host->text_add(call->ctx, ret, "SET SESSION sql_log_bin=0\nINSERT INTO " MY_SCHEMA ".originals ...\n");
    call->host->text_add(call->ctx, ret, "ALTER USER <every unlocked account but %s and %s> ACCOUNT LOCK",
                         call->conn ? call->conn->account_user : "the tool's",
                         call->host->secret_user(call->ctx, CO_SECRET_REPLICATION)
                             ? call->host->secret_user(call->ctx, CO_SECRET_REPLICATION)
                             : "replication's");
    return CO_DONE;
}

static enum co_result originals_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret,
               "SET SESSION sql_log_bin=0\nINSERT INTO " MY_SCHEMA
               ".originals <every unlocked account, every enabled event, the scheduler>");
}

/* Setup's: all accounts, or, where read_only lasts, those that get past it: then the others may read. */
static enum co_result setup_lock_describe(struct co_call *call, struct co_text *ret)
{
    if (my_setup_scope(call) == MY_SCOPE_ALL)
        return accounts_describe(call, ret);
    return say(call, ret,
               mysql_or_unknown(call)
                   ? "SET SESSION sql_log_bin=0\nINSERT INTO " MY_SCHEMA ".originals ...\n"
                     "ALTER USER <every unlocked account with SUPER, CONNECTION_ADMIN or SYSTEM_VARIABLES_ADMIN> ACCOUNT LOCK\n"
                     "KILL <their sessions>"
                   : "SET SESSION sql_log_bin=0\nINSERT INTO " MY_SCHEMA ".originals ...\n"
                     "ALTER USER <every unlocked account with READ_ONLY ADMIN or SUPER> ACCOUNT LOCK\nKILL <their sessions>");
}

static enum co_result accounts_locked_probe(struct co_call *call, enum co_presence *ret)
{
    bool locked = false;
    enum co_presence ended = CO_ABSENT;
    enum my_scope scope = my_setup_scope(call);
    enum co_result r = my_accounts_locked(call, scope, &locked, NULL);
    if (r == CO_DONE && locked)
        r = my_sessions_probe_of(call, scope, &ended);
    *ret = !locked ? CO_ABSENT : ended == CO_PRESENT ? CO_PRESENT : CO_PARTIAL;
    return r;
}

static enum co_result events_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret,
               "SET SESSION sql_log_bin=0\nINSERT INTO " MY_SCHEMA ".originals ...\nSET GLOBAL event_scheduler=OFF\n"
               "ALTER DEFINER=<its definer> EVENT <every enabled event> DISABLE");
}

static enum co_result read_only_describe(struct co_call *call, struct co_text *ret)
{
    if (!mysql_or_unknown(call))
        return say(call, ret, "SET GLOBAL read_only=1");
    return say(call, ret,
               my_has_persist(call->conn) ? "SET PERSIST super_read_only=1\nSET PERSIST read_only=1"
                                          : "SET GLOBAL super_read_only=1");
}

static enum co_result sessions_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "KILL <every session that is neither ours nor replication's nor the server's>");
}

/* ---------------------------------------------------------------- promote */

static enum co_result following_none(struct co_call *call, enum co_presence *ret)
{
    MY_FOLLOW_AUTO f = {0};
    enum co_result r = my_follow_read(call, call->conn, &f);
    if (r == CO_DONE)
        *ret = f.present ? CO_ABSENT : CO_PRESENT;
    return r;
}

/* "STOP SLAVE" with the connection's or channel's name where it has one. */
void my_add_channel(const struct co_conn *conn, const char *channel, struct my_str *sql)
{
    if (!channel || !*channel)
        return;
    if (my_is_mysql(conn))
        my_str_add(sql, " FOR CHANNEL");
    my_str_add(sql, " ");
    my_str_quote(sql, channel);
}

void my_stop_sql(const struct co_conn *conn, const char *channel, struct my_str *sql)
{
    const char *word = my_word_replica(conn);
    bool named = channel && *channel && !my_is_mysql(conn);
    my_str_addf(sql, "STOP %s", word);
    my_add_channel(conn, channel, sql);
    my_str_addf(sql, ";RESET %s", word);
    if (named)
        my_add_channel(conn, channel, sql);
    my_str_add(sql, " ALL");
    if (!named)
        my_add_channel(conn, channel, sql);
    my_str_add(sql, ";");
}

static enum co_result promote_describe(struct co_call *call, struct co_text *ret)
{
    const char *word = call->conn ? my_word_replica(call->conn) : "REPLICA";
    call->host->text_set(call->ctx, ret, "", 0);
    call->host->text_add(call->ctx, ret, "STOP %s\nRESET %s ALL", word, word);
    return CO_DONE;
}

static enum co_result promote_apply(struct co_call *call)
{
    MY_FOLLOW_AUTO f = {0};
    MY_STR_AUTO sql = {0};
    bool in_cutover = call->role == CO_TARGET && call->run && !call->conn->free_marker_will_do;
    if (in_cutover && call->conn->channel && !call->conn->by_file) { /* the proof before it has just seen what it follows */
        my_stop_sql(call->conn, call->conn->channel, &sql);
        free(call->conn->channel);
        call->conn->channel = NULL;
        return sql.overflow ? my_out_of_memory(call) : my_change(call, call->conn, my_cstr(&sql), NULL);
    }
    enum co_result r = my_follow_read(call, call->conn, &f);
    if (r != CO_DONE || !f.present)
        return r;
    if (call->conn->by_file && in_cutover)
        return my_file_promote(call, &f);
    my_stop_sql(call->conn, f.channel, &sql);
    return my_change(call, call->conn, my_cstr(&sql), NULL);
}

static enum co_result follow_apply(struct co_call *call);

/* ---------------------------------------------------------------- open */

static enum co_result open_describe(struct co_call *call, struct co_text *ret)
{
    if (!mysql_or_unknown(call))
        return say(call, ret, "ALTER USER <every account that was locked> ACCOUNT UNLOCK\nSET GLOBAL read_only=0");
    return say(call, ret,
               my_has_persist(call->conn)
                   ? "SET PERSIST super_read_only=0\nALTER USER <every account that was locked> ACCOUNT UNLOCK\n"
                     "SET PERSIST read_only=0"
                   : "SET GLOBAL super_read_only=0\nALTER USER <every account that was locked> ACCOUNT UNLOCK\n"
                     "SET GLOBAL read_only=0");
}

/* The rows stay until the next step: deleting them would make clients wait for a sync of the log. */
static enum co_result open_probe(struct co_call *call, enum co_presence *ret)
{
    enum co_presence ro = CO_PRESENT;
    MY_STR_AUTO unlock = {0};
    enum co_result r = my_read_only_probe(call, &ro);
    if (r == CO_DONE)
        r = my_accounts_unlock_sql(call, &unlock, NULL);
    *ret = ro == CO_ABSENT && !unlock.len ? CO_PRESENT : ro == CO_PRESENT && unlock.len ? CO_ABSENT : CO_PARTIAL;
    return r;
}

static enum co_result open_apply(struct co_call *call)
{
    MY_STR_AUTO sql = {0};
    call->conn->floor_id = 0;
    bool persist = my_has_persist(call->conn), mysql = my_is_mysql(call->conn);
    if (mysql) /* it refuses ALTER USER too */
        my_str_add(&sql, "SET GLOBAL super_read_only=0;");
    my_str_add(&sql, "SET GLOBAL read_only=0;");
    enum co_result r = my_unlock_foreseen_sql(call, &sql);
    if (persist)
        my_str_add(&sql, "SET PERSIST super_read_only=0;SET PERSIST read_only=0;");
    if (r != CO_DONE || sql.overflow)
        return r != CO_DONE ? r : my_out_of_memory(call);
    return my_change(call, call->conn, my_cstr(&sql), NULL);
}

static int unhex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The next hex word of the note as text; *at moves behind it. */
static char *hex_word(const char **at)
{
    size_t len = strspn(*at, "0123456789ABCDEFabcdef");
    char *text = malloc(len / 2 + 1);
    if (!text)
        return NULL;
    for (size_t i = 0; i + 1 < len; i += 2)
        text[i / 2] = (char)(unhex((*at)[i]) << 4 | unhex((*at)[i + 1]));
    text[len / 2] = 0;
    *at += len;
    if (**at == ' ')
        (*at)++;
    return text;
}

/* fn for every event that ran on the source, from its note. */
static enum co_result
each_source_event(struct co_call *call,
                  enum co_result (*fn)(struct co_call *, const char *, const char *, const char *, void *), void *arg)
{
    enum co_side source = call->run ? call->run->source : CO_SIDE_A;
    const char *at = call->host->note_get(call->ctx, CO_NOTE_RUN, source, "events");
    enum co_result r = CO_DONE;
    while (at && *at && r == CO_DONE) {
        char *schema = hex_word(&at), *name = hex_word(&at), *value = hex_word(&at);
        r = schema && name && value ? fn(call, schema, name, value, arg) : my_out_of_memory(call);
        free(schema);
        free(name);
        free(value);
        at += strspn(at, "\n");
    }
    return r;
}

static enum co_result in_list(struct co_call *call, const char *schema, const char *name, const char *value, void *arg)
{
    (void)call;
    (void)value;
    struct my_str *sql = arg;
    my_str_add(sql, sql->len ? ",(" : "(");
    my_str_quote(sql, schema);
    my_str_add(sql, ",");
    my_str_quote(sql, name);
    my_str_add(sql, ")");
    return CO_DONE;
}

static bool scheduler_wanted(struct co_call *call)
{
    enum co_side source = call->run ? call->run->source : CO_SIDE_A;
    const char *on = call->host->note_get(call->ctx, CO_NOTE_RUN, source, "event_scheduler");
    return on && strcmp(on, "1") == 0;
}

static enum co_result open_events_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret,
               "SET SESSION sql_log_bin=0\nALTER DEFINER=<its definer> EVENT <every event that was enabled on the old primary> "
               "ENABLE\n"
               "SET GLOBAL event_scheduler=<as on the old primary>");
}

static enum co_result disabled_events(struct co_call *call, struct my_sets *sets)
{
    MY_STR_AUTO list = {0};
    MY_STR_AUTO sql = {0};
    enum co_result r = each_source_event(call, in_list, &list);
    my_str_add(&sql, "SELECT @@GLOBAL.event_scheduler;SELECT " MY_EVENT_COLUMNS " FROM information_schema.EVENTS "
                     "WHERE STATUS<>'ENABLED' AND (EVENT_SCHEMA,EVENT_NAME) IN (");
    my_str_add(&sql, list.len ? my_cstr(&list) : "('','')");
    my_str_add(&sql,
               ");SELECT COUNT(*) FROM " MY_SCHEMA ".originals WHERE kind IN ('event','scheduler','account','hold','copy')");
    if (r != CO_DONE || sql.overflow || list.overflow)
        return r != CO_DONE ? r : my_out_of_memory(call);
    return my_read(call, call->conn, my_cstr(&sql), sets);
}

static enum co_result open_events_probe(struct co_call *call, enum co_presence *ret)
{
    MY_SETS_AUTO sets = {0};
    enum co_result r = disabled_events(call, &sets);
    if (r == CO_DONE) {
        bool scheduler = my_truth(my_value(&sets, 0, 0)) || !scheduler_wanted(call);
        bool rows = my_int(my_value(&sets, 2, 0), 0) > 0;
        *ret = mysql_num_rows(sets.set[1]) == 0 && scheduler && !rows ? CO_PRESENT : CO_ABSENT;
    }
    return r;
}

static enum co_result open_events_apply(struct co_call *call)
{
    MY_SETS_AUTO sets = {0};
    MY_STR_AUTO sql = {0};
    enum co_result r = disabled_events(call, &sets);
    if (r != CO_DONE)
        return r;
    my_add_enable(&sql, sets.set[1]);
    if (scheduler_wanted(call) && !my_truth(my_value(&sets, 0, 0)))
        my_str_add(&sql, "SET GLOBAL event_scheduler=ON;");
    my_str_add(&sql, "DELETE FROM " MY_SCHEMA
                     ".originals WHERE kind IN ('event','scheduler','account','hold','copy','kept','follow_from');");
    return sql.overflow ? my_out_of_memory(call) : my_change(call, call->conn, my_cstr(&sql), NULL);
}

/* ---------------------------------------------------------------- reverse: the old primary follows the new one */

static enum co_result follow_describe(struct co_call *call, struct co_text *ret)
{
    MY_STR_AUTO sql = {0};
    if (!mysql_or_unknown(call))
        my_str_add(&sql, "SET GLOBAL gtid_slave_pos=<its own position>\n");
    enum co_result r = my_follow_sql(call, call->conn, &sql, true);
    if (r != CO_DONE)
        return r;
    return say(call, ret, my_cstr(&sql));
}

static enum co_result follow_probe(struct co_call *call, enum co_presence *ret)
{
    MY_FOLLOW_AUTO f = {0};
    bool right = false;
    enum co_result r = my_follow_read(call, call->conn, &f);
    if (r == CO_DONE && f.present)
        r = my_follow_right(call, &f, &right);
    if (r != CO_DONE)
        return r;
    *ret = !f.present ? CO_ABSENT : right && !f.io_no && f.sql_yes ? CO_PRESENT : CO_PARTIAL;
    return CO_DONE;
}

/* The position that it follows from is its own: it has everything up to there, and the other side has nothing else. */
static enum co_result follow_apply(struct co_call *call)
{
    MY_FOLLOW_AUTO f = {0};
    MY_STR_AUTO sql = {0};
    bool right = false;
    enum co_result r = my_follow_read(call, call->conn, &f);
    if (r == CO_DONE && f.present)
        r = my_follow_right(call, &f, &right);
    if (r != CO_DONE)
        return r;
    if (right && call->conn->by_file) { /* stopped, and it knows from where */
        my_str_addf(&sql, "START %s", my_word_replica(call->conn));
        my_add_channel(call->conn, f.channel, &sql);
        my_str_add(&sql, ";");
        return my_change(call, call->conn, my_cstr(&sql), NULL);
    }
    if (f.present)
        my_str_addf(&sql, "STOP %s;", my_word_replica(call->conn));
    if (!my_is_mysql(call->conn) && !right && call->role == CO_SOURCE) {
        /* what MASTER_DEMOTE_TO_SLAVE does, for all versions; read first, since setting one from the other can lock the server
         * up */
        MY_SETS_AUTO position = {0};
        r = my_read(call, call->conn, "SELECT @@GLOBAL.gtid_binlog_pos", &position);
        if (r != CO_DONE)
            return r;
        my_str_add(&sql, "SET GLOBAL gtid_slave_pos=");
        my_str_quote(&sql, my_value(&position, 0, 0));
        my_str_add(&sql, ";");
    }
    r = my_follow_sql(call, call->conn, &sql, false);
    return r == CO_DONE ? my_change(call, call->conn, my_cstr(&sql), NULL) : r;
}

static enum co_result read_only_keep(struct co_call *call)
{
    return my_read_only_set(call);
}

/* ---------------------------------------------------------------- detach */

static enum co_result detach_follow_describe(struct co_call *call, struct co_text *ret)
{
    return promote_describe(call, ret);
}

static enum co_result ours_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_set(call->ctx, ret, "", 0);
    if (call->role == CO_SOURCE) {
        const char *user = call->host->note_get(call->ctx, CO_NOTE_PAIR, CO_SIDE_A, "replication_user");
        if (user)
            call->host->text_add(call->ctx, ret, "DROP USER IF EXISTS '%s'@'%%'\n", user);
        call->host->text_add(call->ctx, ret, "DROP DATABASE IF EXISTS " MY_PROBE_SCHEMA "\nDROP DATABASE IF EXISTS " MY_SCHEMA);
    } else {
        call->host->text_add(call->ctx, ret,
                             "-- the old server stays closed; its locked accounts stay listed in " MY_SCHEMA ".originals");
    }
    return CO_DONE;
}

/* "present" is the state that the step is to reach: nothing of ours is left */
static enum co_result ours_gone(struct co_call *call, enum co_presence *ret)
{
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_read(
        call, call->conn,
        "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ('" MY_SCHEMA "','" MY_PROBE_SCHEMA "')", &sets);
    if (r == CO_DONE)
        *ret = my_int(my_value(&sets, 0, 0), 0) == 0 ? CO_PRESENT : CO_ABSENT;
    return r;
}

static enum co_result ours_drop(struct co_call *call)
{
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_read(call, call->conn, "SELECT token FROM " MY_SCHEMA ".marker WHERE id=1", &sets);
    if (r != CO_DONE && sets.error != 1146 && sets.error != 1049)
        return r;
    const char *token = my_value(&sets, 0, 0), *mine = call->run ? call->run->token : "";
    if (token && *token && strcmp(token, mine) != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_CONFLICT, "End that run first: `changeover status` names it.",
                       "run %s is under way on this server", token);
    MY_STR_AUTO sql = {0};
    const char *user = call->host->note_get(call->ctx, CO_NOTE_PAIR, CO_SIDE_A, "replication_user");
    if (user) { /* part of the server's history, as its creation was */
        my_str_add(&sql, "SET SESSION sql_log_bin=1;DROP USER IF EXISTS ");
        my_str_account(&sql, user, "%");
        my_str_add(&sql, ";");
    }
    my_str_add(&sql, "SET SESSION sql_log_bin=1;DROP DATABASE IF EXISTS " MY_PROBE_SCHEMA
                     ";SET SESSION sql_log_bin=0;DROP DATABASE IF EXISTS " MY_SCHEMA);
    r = my_exec(call, call->conn, my_cstr(&sql), NULL);
    if (r != CO_DONE && !call->conn->dead) {
        struct co_error saved = *call->err;
        MY_SETS_AUTO off = {0};
        my_read(call, call->conn, "SET SESSION sql_log_bin=0", &off);
        *call->err = saved;
    }
    return r;
}

/* ---------------------------------------------------------------- steps that work without a marker */

static enum co_result lock_and_end(struct co_call *call)
{
    enum my_scope scope = my_setup_scope(call);
    enum co_result r = my_accounts_lock_scope(call, scope);
    return r == CO_DONE ? my_sessions_end_of(call, scope) : r;
}

static enum co_result unmarked(struct co_call *call, enum co_result (*fn)(struct co_call *))
{
    if (!call->conn) /* a step that works without the server, too */
        return fn(call);
    call->conn->free_marker_will_do = true;
    enum co_result r = fn(call);
    call->conn->free_marker_will_do = false;
    return r;
}

#define UNMARKED(fn)                                                                                                           \
    static enum co_result unmarked_##fn(struct co_call *call)                                                                  \
    {                                                                                                                          \
        return unmarked(call, fn);                                                                                             \
    }

UNMARKED(my_setup_schema_revert)
UNMARKED(my_setup_user_apply)
UNMARKED(my_setup_user_revert)
UNMARKED(my_setup_table_apply)
UNMARKED(my_setup_table_revert)
UNMARKED(my_setup_closed_apply)
UNMARKED(my_setup_closed_revert)
UNMARKED(my_setup_copy_apply)
UNMARKED(my_setup_follow_apply)
UNMARKED(lock_and_end)
UNMARKED(my_accounts_unlock)
UNMARKED(promote_apply)

/* The copy isn't one of this source any more: a later setup has to make it anew. */
static enum co_result stop_for_good(struct co_call *call)
{
    bool there = false;
    enum co_result r = my_schema_there(call, call->conn, &there);
    if (r == CO_DONE && there)
        r = my_write(call, call->conn, true, "DELETE FROM " MY_SCHEMA ".originals WHERE kind IN ('copy','kept','follow_from');",
                     NULL);
    return r == CO_DONE ? promote_apply(call) : r;
}
UNMARKED(stop_for_good)

/* ---------------------------------------------------------------- the table */

#define STEP(NAME, TITLE, PHASE, ROLE, FLAGS, WANTED, DESCRIBE, PROBE, APPLY, REVERT)                                          \
    {                                                                                                                          \
        sizeof(struct co_step), NAME, TITLE, PHASE, ROLE, FLAGS, WANTED, DESCRIBE, PROBE, APPLY, REVERT                        \
    }

const struct co_step my_steps[] = {
    /* setup */
    STEP("setup.schema_source", "make the tool's own schema on the source", CO_PHASE_SETUP, CO_SOURCE, CO_STEP_KEEPS, NULL,
         my_setup_schema_describe, my_setup_schema_probe, my_setup_schema_apply, unmarked_my_setup_schema_revert),
    STEP("setup.replication_user", "make the replication account", CO_PHASE_SETUP, CO_SOURCE, CO_STEP_KEEPS,
         my_setup_user_wanted, my_setup_user_describe, my_setup_user_probe, unmarked_my_setup_user_apply,
         unmarked_my_setup_user_revert),
    STEP("setup.probe_table", "make the table for real test writes", CO_PHASE_SETUP, CO_SOURCE, CO_STEP_KEEPS, NULL,
         my_setup_table_describe, my_setup_table_probe, unmarked_my_setup_table_apply, unmarked_my_setup_table_revert),
    STEP("setup.schema_target", "make the tool's own schema on the target", CO_PHASE_SETUP, CO_TARGET,
         CO_STEP_KEEPS | CO_STEP_OFFLINE, NULL, my_setup_schema_describe, my_setup_schema_probe, my_setup_schema_apply,
         unmarked_my_setup_schema_revert),
    STEP("setup.lock_accounts", "lock the target's accounts and end their sessions", CO_PHASE_SETUP, CO_TARGET, 0,
         my_setup_lock_wanted, setup_lock_describe, accounts_locked_probe, unmarked_lock_and_end, unmarked_my_accounts_unlock),
    STEP("setup.read_only", "refuse client writes on the target", CO_PHASE_SETUP, CO_TARGET, CO_STEP_OFFLINE, NULL,
         my_setup_closed_describe, my_setup_closed_probe, unmarked_my_setup_closed_apply, unmarked_my_setup_closed_revert),
    STEP("setup.copy", "copy the data", CO_PHASE_SETUP, CO_TARGET,
         CO_STEP_SLOW | CO_STEP_LONG | CO_STEP_BOTH | CO_STEP_KEEPS | CO_STEP_OFFLINE, my_setup_copy_wanted,
         my_setup_copy_describe, my_setup_copy_probe, unmarked_my_setup_copy_apply, my_setup_copy_revert),
    STEP("setup.follow", "follow the source", CO_PHASE_SETUP, CO_TARGET, CO_STEP_BOTH, NULL, my_setup_follow_describe,
         my_setup_follow_probe, unmarked_my_setup_follow_apply, unmarked_promote_apply),

    /* warm_up: nothing of it is left for the pause; then the target is closed for good */
    STEP("warm_up.source_originals", "keep what the fence will change", CO_PHASE_WARM_UP, CO_SOURCE, 0, NULL,
         originals_describe, my_originals_kept, my_originals_keep, my_originals_forget),
    STEP("warm_up.target_accounts", "lock every account of the target", CO_PHASE_WARM_UP, CO_TARGET, 0, NULL, accounts_describe,
         my_accounts_probe, my_accounts_lock, my_accounts_unlock),
    STEP("warm_up.target_events", "disable the target's events", CO_PHASE_WARM_UP, CO_TARGET, 0, NULL, events_describe,
         my_events_probe, my_events_disable, my_events_restore),
    STEP("warm_up.target_read_only", "make the target refuse writes", CO_PHASE_WARM_UP, CO_TARGET, 0, NULL, read_only_describe,
         my_read_only_held, my_read_only_hold, my_read_only_restore),
    STEP("warm_up.target_sessions", "end the target's client sessions", CO_PHASE_WARM_UP, CO_TARGET, CO_STEP_NO_WAY_BACK, NULL,
         sessions_describe, my_sessions_probe, my_sessions_end_all, NULL),
    STEP("warm_up.target_level", "let the target come level with the source", CO_PHASE_WARM_UP, CO_TARGET,
         CO_STEP_BOTH | CO_STEP_NO_WAY_BACK, my_level_wanted, my_level_describe, my_level_probe, my_level_apply, NULL),

    /* fence */
    STEP("fence.accounts", "lock every account of the source", CO_PHASE_FENCE, CO_SOURCE, 0, NULL, accounts_describe,
         my_accounts_probe, my_accounts_lock, my_accounts_unlock),
    STEP("fence.events", "disable the source's events", CO_PHASE_FENCE, CO_SOURCE, 0, NULL, events_describe, my_events_probe,
         my_events_disable, my_events_restore),
    STEP("fence.read_only", "make the source refuse writes", CO_PHASE_FENCE, CO_SOURCE, 0, NULL, read_only_describe,
         my_read_only_held, my_read_only_hold, my_read_only_restore),
    STEP("fence.sessions", "end sessions with nothing in flight", CO_PHASE_FENCE, CO_SOURCE, CO_STEP_NO_WAY_BACK, NULL,
         sessions_describe, my_sessions_probe, my_sessions_end_idle, NULL),

    STEP("promote.stop_following", "stop following the source", CO_PHASE_PROMOTE, CO_TARGET, 0, NULL, promote_describe,
         following_none, promote_apply, follow_apply),

    STEP("open.writes", "unlock accounts and accept writes", CO_PHASE_OPEN, CO_TARGET, CO_STEP_NO_WAY_BACK, NULL, open_describe,
         open_probe, open_apply, NULL),
    STEP("open.events", "enable the events that ran on the old primary", CO_PHASE_OPEN, CO_TARGET, CO_STEP_NO_WAY_BACK, NULL,
         open_events_describe, open_events_probe, open_events_apply, NULL),

    STEP("reverse.read_only", "keep the old primary read-only", CO_PHASE_REVERSE, CO_SOURCE, CO_STEP_NO_WAY_BACK, NULL,
         read_only_describe, my_read_only_probe, read_only_keep, NULL),
    STEP("reverse.follow", "let the old primary follow the new one", CO_PHASE_REVERSE, CO_SOURCE, CO_STEP_OTHER, NULL,
         follow_describe, follow_probe, follow_apply, promote_apply),

    STEP("detach.stop_following", "stop following", CO_PHASE_DETACH, CO_TARGET, CO_STEP_NO_WAY_BACK, NULL,
         detach_follow_describe, following_none, unmarked_stop_for_good, NULL),
    STEP("detach.ours", "remove the tool's schemas and accounts", CO_PHASE_DETACH, CO_SOURCE, CO_STEP_NO_WAY_BACK, NULL,
         ours_describe, ours_gone, ours_drop, NULL),
};
const size_t my_step_count = sizeof my_steps / sizeof *my_steps;

enum co_result my_detach_stop(struct co_call *call)
{
    return promote_apply(call);
}
