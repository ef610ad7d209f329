/* clone.c - the first copy by the server itself: CLONE INSTANCE (MySQL 8.0.17 on). The target fetches the source's pages,
 * restarts and is the source as it was at one moment, accounts, events and our own schema with it; its GTID position comes
 * along.
 *
 * Facts it rests on (MySQL 9.7, tried): super_read_only refuses CLONE, read_only doesn't; what was persisted stays persisted,
 * so the copy comes up refusing writes; a server that nobody supervises shuts down with error 3707 and has to be started.
 *
 * Invariant: "copy started" is on the target before anything of it is removed. The clone brings the source's rows in its place,
 * so its absence, together with a clone_status that says Completed, is what tells that the copy is there and has to be
 * finished.
 */
#include "setup.h"

#include <stdio.h>

#define NO_SUPERVISOR 3707
#define START_EVERY_NS INT64_C(15000000000) /* it may still be shutting down when it is told to start */

void my_clone_describe(struct co_call *call, struct co_text *ret)
{
    const char *user = call->conn ? call->conn->account_user : "<the tool's account>";
    call->host->text_add(
        call->ctx, ret,
        "INSTALL PLUGIN clone SONAME 'mysql_clone.so' -- on both, where it isn't there\n"
        "SET PERSIST super_read_only=1, PERSIST read_only=1, PERSIST event_scheduler=OFF\nSET GLOBAL "
        "super_read_only=0\nSET GLOBAL clone_valid_donor_list='<source>'\n"
        "CLONE INSTANCE FROM '%s'@'<source>' IDENTIFIED BY <password> -- and the server restarts\n"
        "ALTER USER <as before, see setup.lock_accounts> ACCOUNT LOCK\nALTER EVENT <every enabled event> DISABLE ON "
        "REPLICA\nRESET PERSIST event_scheduler\nSET GLOBAL super_read_only=1",
        user);
}

static enum co_result plugin_there(struct co_call *call, struct co_conn *conn, bool *ret)
{
    MY_SETS_AUTO sets = {0};
    enum co_result r =
        my_read(call, conn,
                "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME='clone' AND PLUGIN_STATUS='ACTIVE'", &sets);
    *ret = r == CO_DONE && my_int(my_value(&sets, 0, 0), 0) == 1;
    return r;
}

/* CO_PRESENT: done before. CO_PARTIAL: the pages are there, what follows isn't. */
enum co_result my_clone_probe(struct co_call *call, enum co_presence *ret)
{
    MY_SETS_AUTO copy = {0};
    MY_SETS_AUTO status = {0};
    bool plugin = false;
    *ret = CO_ABSENT;
    enum co_result r = my_read(call, call->conn, "SELECT value FROM " MY_SCHEMA ".originals WHERE kind='copy'", &copy);
    if (r != CO_DONE)
        return copy.error == 1146 || copy.error == 1049 ? CO_DONE : r;
    const char *state = my_value(&copy, 0, 0);
    if (state) {
        *ret = strcmp(state, "done") == 0 ? CO_PRESENT : CO_ABSENT;
        return CO_DONE;
    }
    r = plugin_there(call, call->conn, &plugin);
    if (r == CO_DONE && plugin)
        r = my_read(call, call->conn, "SELECT STATE, @@GLOBAL.gtid_executed FROM performance_schema.clone_status", &status);
    const char *clone = my_value(&status, 0, 0);
    *ret = clone && strcmp(clone, "Completed") == 0 ? CO_PARTIAL : CO_ABSENT;
    return r;
}

/* The copy has the source's accounts: with those the tool has to get in again. */
enum co_result my_logins_fit(struct co_call *call)
{
    struct co_call there = *call;
    struct co_conn *conn = NULL;
    const struct co_endpoint_config *ep = call->host->endpoint(call->ctx, call->side);
    there.side = call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
    enum co_result r = my_login(&there, ep->user, call->host->secret(call->ctx, call->side, CO_SECRET_PASSWORD), &conn);
    my_disconnect(conn);
    if (r == CO_DONE)
        return CO_DONE;
    struct co_error said = *call->err;
    return my_fail(call, CO_NO_EFFECT, CO_E_AUTH,
                   "Give the tool's account the same name and password on both servers, and hosts that let it in.",
                   "after the copy the target has the source's accounts, and its url's account doesn't get into the source: %s",
                   said.message);
}

static enum co_result can_clone(struct co_call *call)
{
    const struct co_conn *a = call->other, *b = call->conn;
    bool series = a->version / 100 == b->version / 100;
    if (!my_is_mysql(a) || !my_is_mysql(b) || a->version < 80017 || b->version < 80017 || !series ||
        (a->version != b->version && a->version < 80037))
        return my_fail(
            call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "Use setup.method: dump.",
            "CLONE needs MySQL 8.0.17 or newer and the same version on both (from 8.0.37 on the same series), not %s and %s",
            a->version_text, b->version_text);
    return CO_DONE;
}

static enum co_result install(struct co_call *call, struct co_conn *conn)
{
    bool there = false;
    enum co_result r = plugin_there(call, conn, &there);
    if (r != CO_DONE || there)
        return r;
    r = my_write(call, conn, false, "INSTALL PLUGIN clone SONAME 'mysql_clone.so';", NULL);
    if (r == CO_DONE || conn->dead)
        return r;
    struct co_error said = *call->err;
    return my_fail(call, r, CO_E_UNSUPPORTED, "Install the server's clone plugin, or use setup.method: dump.",
                   "the clone plugin can't be loaded on side %s: %s", conn->side == CO_SIDE_A ? "a" : "b", said.message);
}

struct watch {
    struct co_call *call;
    struct co_conn *conn; /* a second session, which only looks; or NULL */
};

static void show_progress(void *arg)
{
    struct watch *w = arg;
    struct co_call brief = my_brief(w->call, 1000);
    struct co_error ignored = {0};
    MY_SETS_AUTO sets = {0};
    brief.err = &ignored;
    if (!w->conn || w->conn->dead ||
        my_read(
            &brief, w->conn,
            "SELECT SUM(DATA), SUM(ESTIMATE), MAX(IF(STATE='In Progress',STAGE,NULL)) FROM performance_schema.clone_progress",
            &sets) != CO_DONE)
        return;
    MY_STR_AUTO what = {0};
    my_str_addf(&what, "cloning the source%s%s", my_value(&sets, 0, 2) ? ": " : "",
                my_value(&sets, 0, 2) ? my_value(&sets, 0, 2) : "");
    struct co_progress progress = {.what = my_cstr(&what),
                                   .done = my_int(my_value(&sets, 0, 0), -1),
                                   .total = my_int(my_value(&sets, 0, 1), -1),
                                   .unit = "bytes"};
    w->call->host->progress(w->call->ctx, &progress);
}

/* The statement itself: it ends with the connection, when the server restarts. */
static enum co_result run_clone(struct co_call *call)
{
    unsigned port = 0;
    const char *address = my_source_place(call, call->side, &port), *tls = my_link_tls(call);
    const struct co_endpoint_config *source = call->host->endpoint(call->ctx, call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A);
    enum co_side source_side = call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
    MY_STR_AUTO sql = {0};
    my_str_addf(&sql,
                "SET PERSIST super_read_only=1;SET PERSIST read_only=1;SET PERSIST event_scheduler=OFF;SET GLOBAL "
                "super_read_only=0;SET GLOBAL clone_valid_donor_list='%s:%u';",
                address, port);
    struct co_call brief = my_brief(call, 60000);
    enum co_result r = my_change(&brief, call->conn, my_cstr(&sql), NULL);
    if (r != CO_DONE)
        return r;
    my_str_clear(&sql);
    my_str_add(&sql, "CLONE INSTANCE FROM ");
    my_str_account(&sql, source->user ? source->user : "root", address);
    my_str_addf(&sql, ":%u IDENTIFIED BY ", port);
    my_str_quote(&sql, call->host->secret(call->ctx, source_side, CO_SECRET_PASSWORD));
    my_str_add(&sql, strcmp(tls, "off") == 0 ? "" : " REQUIRE SSL");
    const struct co_endpoint_config *own = call->host->endpoint(call->ctx, call->side);
    struct watch watch = {.call = call};
    struct co_error ignored = {0};
    brief = my_brief(call, 10000);
    brief.err = &ignored;
    if (my_login(&brief, own->user, call->host->secret(call->ctx, call->side, CO_SECRET_PASSWORD), &watch.conn) != CO_DONE)
        watch.conn = NULL; /* then without progress */
    MY_SETS_AUTO sets = {0};
    call->conn->tick = show_progress;
    call->conn->tick_arg = &watch;
    r = my_exec(call, call->conn, my_cstr(&sql), &sets);
    call->conn->tick = NULL;
    my_disconnect(watch.conn);
    if (sets.error == NO_SUPERVISOR || (r == CO_EFFECT_UNKNOWN && call->conn->dead)) {
        call->conn->dead = true; /* it goes down, now or in a moment */
        return CO_AGAIN;
    }
    return r;
}

/* What the copy needs to be a follower that refuses clients. */
static enum co_result finish(struct co_call *call)
{
    MY_SETS_AUTO events = {0};
    MY_STR_AUTO sql = {0};
    enum co_result r = my_write(call, call->conn, true, "DELETE FROM " MY_SCHEMA ".originals WHERE kind<>'lineage';", NULL);
    if (r == CO_DONE && my_setup_lock_wanted(call))
        r = my_accounts_lock_scope(call, my_setup_scope(call));
    if (r == CO_DONE)
        r = my_read(call, call->conn, "SELECT " MY_EVENT_COLUMNS " FROM information_schema.EVENTS WHERE STATUS='ENABLED'",
                    &events);
    if (r != CO_DONE)
        return r;
    my_add_slaveside(call->conn, &sql, events.set[0]); /* as if replication had brought them */
    if (call->conn->by_file)
        r = my_file_after_clone(call, &sql);
    if (r != CO_DONE)
        return r;
    my_str_add(&sql,
               "REPLACE INTO " MY_SCHEMA ".originals (kind,a,b,value) VALUES ('copy','','','done');RESET PERSIST IF EXISTS "
               "event_scheduler;");
    return sql.overflow ? my_out_of_memory(call) : my_write(call, call->conn, true, my_cstr(&sql), NULL);
}

/* Nobody is there: the server is restarting, or waits to be started. */
enum co_result my_start_server(struct co_call *call, const char *what)
{
    const char *const *start = call->host->argv_option(call->ctx, (int)call->side, "host.start");
    struct co_progress progress = {.what = what, .done = -1, .total = -1, .unit = ""};
    call->host->progress(call->ctx, &progress);
    const char *last = call->host->note_get(call->ctx, CO_NOTE_PAIR, call->side, "clone_started_ns");
    int64_t now_ns = call->host->now_ns(call->ctx), last_ns = my_int(last, 0);
    if (!start || (last_ns > 0 && last_ns <= now_ns && now_ns - last_ns < START_EVERY_NS))
        return CO_AGAIN;
    MY_STR_AUTO now = {0};
    my_str_addf(&now, "%lld", (long long)now_ns);
    call->host->note_put(call->ctx, CO_NOTE_PAIR, call->side, "clone_started_ns", my_cstr(&now));
    struct co_command command = {.size = sizeof command, .side = call->side, .argv = start};
    struct co_error ignored = {0};
    int status = -1;
    struct co_call brief = my_brief(call, 60000);
    call->host->run(call->ctx, &command, brief.deadline_ns, &status, NULL, NULL, &ignored);
    return CO_AGAIN; /* whatever it said: whether the server is there is seen by connecting */
}

enum co_result my_clone_copy(struct co_call *call)
{
    enum co_presence there = CO_ABSENT;
    if (!call->conn || call->conn->dead)
        return my_start_server(call, "waiting for the cloned server to be started; if nothing supervises it, start it");
    if (!call->other)
        return my_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the source can't be reached");
    struct co_call brief = my_brief(call, 60000);
    enum co_result r = my_clone_probe(&brief, &there);
    if (r != CO_DONE || there == CO_PRESENT)
        return r;
    if (there == CO_PARTIAL)
        return finish(&brief);
    r = can_clone(&brief);
    if (r == CO_DONE)
        r = my_logins_fit(&brief);
    if (r == CO_DONE)
        r = install(&brief, call->other);
    if (r == CO_DONE)
        r = install(&brief, call->conn);
    if (r == CO_DONE)
        r = my_copy_begin(&brief);
    return r == CO_DONE ? run_clone(call) : r;
}
