/* file.c - replication by file and position, where a MySQL has no GTIDs (gtid_mode OFF or OFF_PERMISSIVE).
 *
 * A position is "file:<server uuid>/<binlog file>:<offset>". It means something in the log of that one server alone: positions
 * of two servers are never in order, and what A follows after a cutover is a position in B's own log.
 *
 * Two rows of changeover.originals on the follower keep what RESET REPLICA forgets, written in the same packet as it, before
 * any client can write there: follow_from   up to where of the old primary's log it has applied: an undo follows again from
 * exactly there promoted_at   where its own log stood then: whoever follows it starts from exactly there
 *
 * Invariant: between `promoted_at` and the first client's write nothing is in the log, since the server was closed before and
 * the tool writes with sql_log_bin=0; the proof after the promotion sees that it still stands there.
 */
#include "my.h"
#include "setup.h"

#include <stdio.h>
#include <stdlib.h>

void my_file_text(const char *uuid, const char *file, const char *offset, struct my_str *ret)
{
    my_str_addf(ret, "file:%s/%s:%s", uuid ? uuid : "", file ? file : "", offset ? offset : "");
}

static bool file_split(const char *text, char *ret_file, size_t size, long long *ret_offset)
{
    const char *slash = text ? strchr(text, '/') : NULL, *colon = text ? strrchr(text, ':') : NULL;
    if (my_pos_kind(text) != MY_POS_FILE || !colon)
        return false;
    const char *file = slash && slash < colon ? slash + 1 : text + strlen("file:");
    if ((size_t)(colon - file) >= size)
        return false;
    memcpy(ret_file, file, (size_t)(colon - file));
    ret_file[colon - file] = 0;
    *ret_offset = my_int(colon + 1, -1);
    return *ret_offset >= 0;
}

/* How long that file of this server's log is; -1: it isn't there. */
static enum co_result log_length(struct co_call *call, const char *file, int64_t *ret)
{
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_read(call, call->conn, "SHOW BINARY LOGS", &sets);
    *ret = -1;
    for (MYSQL_ROW row; r == CO_DONE && (row = mysql_fetch_row(sets.set[0]));)
        if (strcmp(row[0], file) == 0)
            *ret = my_int(row[1], -1);
    return r;
}

/* A server that crashed goes on in a new file, which would look like being ahead: what is left of the file in which this run
 * captured tells. */
static enum co_result lost_tail(struct co_call *call, const char *now_file, struct my_str *ret)
{
    const struct co_host *host = call->host;
    const char *file = call->run ? host->note_get(call->ctx, CO_NOTE_RUN, call->side, "capture_file") : NULL;
    const char *offset = file ? host->note_get(call->ctx, CO_NOTE_RUN, call->side, "capture_offset") : NULL;
    int64_t length = 0;
    if (!offset || !now_file || strcmp(file, now_file) == 0)
        return CO_DONE;
    enum co_result r = log_length(call, file, &length);
    if (r != CO_DONE || length >= my_int(offset, 0))
        return r;
    MY_STR_AUTO left = {0};
    my_str_addf(&left, "%lld", (long long)(length < 0 ? 0 : length));
    my_file_text(call->conn->uuid, file, my_cstr(&left), ret);
    return CO_DONE;
}

enum co_result my_file_own(struct co_call *call, struct my_str *ret)
{
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_read(call, call->conn, my_word_log_status(call->conn), &sets);
    if (r == CO_DONE && !my_value(&sets, 0, 0))
        return my_fail(call, CO_NO_EFFECT, CO_E_STATE, "Set log_bin in the server's configuration and restart it.",
                       "the binary log is off");
    if (r == CO_DONE)
        r = lost_tail(call, my_value(&sets, 0, 0), ret);
    if (r == CO_DONE && !ret->len)
        my_file_text(call->conn->uuid, my_value(&sets, 0, 0), my_value(&sets, 0, 1), ret);
    return r;
}

/* A row of ours: its value and the run that wrote it; NULL where it isn't. */
static enum co_result read_row(struct co_call *call, struct co_conn *conn, const char *kind, struct my_sets *sets)
{
    MY_STR_AUTO sql = {0};
    my_str_addf(&sql, "SELECT value,run FROM " MY_SCHEMA ".originals WHERE kind='%s' AND a='' AND b=''", kind);
    enum co_result r = my_read(call, conn, my_cstr(&sql), sets);
    return r != CO_DONE && (sets->error == 1146 || sets->error == 1049) ? CO_DONE : r;
}

/* Between its promotion and its opening a new primary is asked for what it has of the old one's history. `ret` stays empty
 * where it isn't in that state, or where its own log has lost what it had then. */
static enum co_result as_promoted(struct co_call *call, struct my_str *ret)
{
    MY_SETS_AUTO from = {0};
    MY_SETS_AUTO at = {0};
    char file[300];
    long long offset = 0;
    int64_t length = -1;
    enum co_result r = read_row(call, call->conn, "follow_from", &from);
    if (r == CO_DONE)
        r = read_row(call, call->conn, "promoted_at", &at);
    if (r != CO_DONE)
        return r;
    const char *run = my_run_id(call), *by = my_value(&from, 0, 1), *also_by = my_value(&at, 0, 1);
    if (!by || !also_by || strcmp(by, run) != 0 || strcmp(also_by, run) != 0 ||
        !file_split(my_value(&at, 0, 0), file, sizeof file, &offset))
        return CO_DONE;
    r = log_length(call, file, &length);
    if (r == CO_DONE && length >= offset)
        my_str_add(ret, my_value(&from, 0, 0));
    return r;
}

enum co_result my_file_position(struct co_call *call, struct my_str *ret)
{
    enum co_result r = CO_DONE;
    if (call->run && call->role == CO_TARGET)
        r = as_promoted(call, ret);
    return r != CO_DONE || ret->len ? r : my_file_own(call, ret);
}

void my_file_applied_text(const struct my_follow *f, struct my_str *ret)
{
    if (f->source_uuid && *f->source_uuid && f->exec_file && *f->exec_file)
        my_file_text(f->source_uuid, f->exec_file, f->exec_offset, ret);
    else
        my_str_add(ret, MY_POS_NONE); /* it hasn't met its source yet */
}

enum co_result my_file_applied(struct co_call *call, struct my_str *ret)
{
    MY_FOLLOW_AUTO f = {0};
    MY_SETS_AUTO row = {0};
    enum co_result r = my_follow_read(call, call->conn, &f);
    if (r == CO_DONE && f.present) {
        my_file_applied_text(&f, ret);
        return CO_DONE;
    }
    if (r == CO_DONE)
        r = read_row(call, call->conn, "follow_from", &row);
    if (r == CO_DONE)
        my_str_add(ret, my_value(&row, 0, 0) ? my_value(&row, 0, 0) : MY_POS_NONE);
    return r;
}

void my_file_wait_sql(const struct co_conn *conn, const char *position, double seconds, const char *channel, struct my_str *sql)
{
    char file[300];
    long long offset = 0;
    if (!file_split(position, file, sizeof file, &offset))
        file[0] = 0;
    my_str_addf(sql, "SELECT %s(", my_word_pos_wait(conn));
    my_str_quote(sql, file);
    my_str_addf(sql, ",%lld,%.3f", offset, seconds);
    if (channel && *channel) {
        my_str_add(sql, ",");
        my_str_quote(sql, channel);
    }
    my_str_add(sql, ")");
}

/* Where to follow from. On the target: where it stood before; on the old primary: where the new one's log stood when it was
 * promoted, in this very run. */
enum co_result my_file_start_sql(struct co_call *call, struct co_conn *conn, struct my_str *sql)
{
    MY_SETS_AUTO row = {0};
    const char *position = NULL, *s = my_word_source(conn), *run = my_run_id(call);
    char file[300];
    long long offset = 0;
    enum co_result r = CO_DONE;
    if (call->role == CO_TARGET) {
        r = read_row(call, conn, "follow_from", &row);
        position = my_value(&row, 0, 0);
    } else {
        enum co_side target = call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
        position = call->run ? call->host->note_get(call->ctx, CO_NOTE_RUN, target, "promoted_at") : NULL;
        if (!position && call->other) {
            r = read_row(call, call->other, "promoted_at", &row);
            const char *by = my_value(&row, 0, 1);
            position = by && strcmp(by, run) == 0 ? my_value(&row, 0, 0) : NULL;
        }
    }
    if (r != CO_DONE)
        return r;
    if (!file_split(position, file, sizeof file, &offset))
        return my_fail(call, CO_NO_EFFECT, CO_E_STATE,
                       call->role == CO_TARGET ? "Make the copy anew (`changeover setup`), or set setup.position."
                                               : "See that the new primary can be reached: it keeps that position.",
                       "where to follow from isn't known: %s", position ? position : "there is no record of it");
    my_str_addf(sql, ",%s_LOG_FILE=", s);
    my_str_quote(sql, file);
    my_str_addf(sql, ",%s_LOG_POS=%lld", s, offset);
    return CO_DONE;
}

void my_file_keep_sql(struct co_call *call, const char *kind, const char *position, struct my_str *sql)
{
    my_str_addf(sql, "REPLACE INTO " MY_SCHEMA ".originals (kind,a,b,value,run) VALUES ('%s','','',", kind);
    my_str_quote(sql, position);
    my_str_addf(sql, ",'%s');", my_run_id(call));
}

/* What the dump's CHANGE REPLICATION SOURCE has left. SHOW REPLICA STATUS doesn't show it without a source's name. */
enum co_result my_file_after_dump(struct co_call *call, struct my_str *sql)
{
    MY_SETS_AUTO sets = {0};
    MY_STR_AUTO position = {0};
    enum co_result r = my_read(
        call, call->conn, "SELECT Master_log_name,Master_log_pos FROM mysql.slave_master_info WHERE Channel_name=''", &sets);
    const char *file = r == CO_DONE ? my_value(&sets, 0, 0) : NULL, *offset = my_value(&sets, 0, 1);
    if (r != CO_DONE)
        return r;
    if (!file || !*file || !offset || !call->other || !call->other->uuid)
        return my_fail(call, CO_EFFECT_UNKNOWN, CO_E_STATE,
                       "The source's binary log must be on before the copy is made; and on the target "
                       "master_info_repository=TABLE (MySQL 5.7).",
                       "the dump brought no binary log position with it");
    my_file_text(call->other->uuid, file, offset, &position);
    my_file_keep_sql(call, "follow_from", my_cstr(&position), sql);
    return CO_DONE;
}

enum co_result my_file_after_clone(struct co_call *call, struct my_str *sql)
{
    MY_SETS_AUTO sets = {0};
    MY_STR_AUTO position = {0};
    enum co_result r =
        my_read(call, call->conn, "SELECT BINLOG_FILE,BINLOG_POSITION FROM performance_schema.clone_status", &sets);
    const char *file = r == CO_DONE ? my_value(&sets, 0, 0) : NULL;
    if (r != CO_DONE)
        return r;
    if (!file || !*file || !call->other || !call->other->uuid)
        return my_fail(call, CO_NO_EFFECT, CO_E_STATE, "The source's binary log must be on before the copy is made.",
                       "the clone brought no binary log position with it");
    my_file_text(call->other->uuid, file, my_value(&sets, 0, 1), &position);
    my_file_keep_sql(call, "follow_from", my_cstr(&position), sql);
    return CO_DONE;
}

/* setup.position as people have it ("file:binlog.000003:157") becomes one of the source's. */
enum co_result my_file_after_copied(struct co_call *call, const char *given, struct my_str *sql)
{
    char file[300], offset_text[24];
    long long offset = 0;
    MY_STR_AUTO position = {0};
    if (!file_split(given, file, sizeof file, &offset) || !call->other || !call->other->uuid)
        return my_fail(call, CO_NO_EFFECT, CO_E_CONFIG,
                       "Set setup.position to \"file:<binlog file>:<offset>\" of a's log, as the backup tool printed it.",
                       "setup.method is \"copied\" and setup.position is %s", given ? "no such position" : "missing");
    snprintf(offset_text, sizeof offset_text, "%lld", offset);
    my_file_text(call->other->uuid, file, offset_text, &position);
    my_file_keep_sql(call, "follow_from", my_cstr(&position), sql);
    return CO_DONE;
}

/* ---------------------------------------------------------------- promotion */

/* Has it applied exactly what was captured? Without a capture (the source is lost) whatever it has is what counts. */
static enum co_result applied_all(struct co_call *call, const struct my_follow *f)
{
    enum co_side source = call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
    const char *file = call->run ? call->host->note_get(call->ctx, CO_NOTE_RUN, source, "capture_file") : NULL;
    const char *offset = file ? call->host->note_get(call->ctx, CO_NOTE_RUN, source, "capture_offset") : NULL;
    if (!offset || (f->exec_file && strcmp(file, f->exec_file) == 0 && f->exec_offset && strcmp(offset, f->exec_offset) == 0))
        return CO_DONE;
    return my_fail(call, CO_NO_EFFECT, CO_E_DATA, "", "the target has applied %s:%s, not %s:%s", f->exec_file, f->exec_offset,
                   file, offset);
}

/* Stopped first, so that both positions stand still when they are read. */
enum co_result my_file_promote(struct co_call *call, const struct my_follow *before)
{
    MY_STR_AUTO stop = {0};
    MY_STR_AUTO sql = {0};
    MY_STR_AUTO own = {0};
    MY_STR_AUTO applied = {0};
    MY_FOLLOW_AUTO f = {0};
    my_str_addf(&stop, "STOP %s", my_word_replica(call->conn));
    my_add_channel(call->conn, before->channel, &stop);
    my_str_add(&stop, ";");
    enum co_result r = my_change(call, call->conn, my_cstr(&stop), NULL);
    if (r == CO_DONE)
        r = my_follow_read(call, call->conn, &f);
    if (r == CO_DONE)
        r = applied_all(call, &f);
    if (r == CO_DONE)
        r = my_file_own(call, &own);
    if (r != CO_DONE)
        return r;
    my_file_applied_text(&f, &applied);
    my_file_keep_sql(call, "follow_from", my_cstr(&applied), &sql);
    my_file_keep_sql(call, "promoted_at", my_cstr(&own), &sql);
    my_stop_sql(call->conn, f.channel, &sql);
    if (call->run && call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "promoted_at", my_cstr(&own)) != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_IO, "", "can't keep a note");
    return sql.overflow ? my_out_of_memory(call) : my_write(call, call->conn, true, my_cstr(&sql), NULL);
}

/* After the promotion: of this run, with everything that was captured, and nothing in its own log since. */
static enum co_result proof_promoted(struct co_call *call, const char *position)
{
    MY_SETS_AUTO from = {0};
    MY_SETS_AUTO at = {0};
    MY_STR_AUTO own = {0};
    enum co_result r = read_row(call, call->conn, "follow_from", &from);
    if (r == CO_DONE)
        r = read_row(call, call->conn, "promoted_at", &at);
    if (r == CO_DONE)
        r = my_file_own(call, &own);
    if (r != CO_DONE)
        return r;
    const char *applied = my_value(&from, 0, 0), *promoted = my_value(&at, 0, 0), *by = my_value(&at, 0, 1);
    if (!applied || !promoted || !by || strcmp(by, my_run_id(call)) != 0 || my_pos_compare(applied, position) != CO_ORDER_EQUAL)
        return my_fail(call, CO_NO_EFFECT, CO_E_DATA, "", "the target was promoted with %s, not with %s",
                       applied ? applied : "nothing", position);
    if (strcmp(promoted, my_cstr(&own)) != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_DATA, "Look into its binary log for what was written, and by whom.",
                       "the target's own log moved since its promotion: %s, then %s", my_cstr(&own), promoted);
    return CO_DONE;
}

enum co_result my_file_proof(struct co_call *call, const struct my_follow *f, const char *position)
{
    if (!f->present)
        return proof_promoted(call, position);
    MY_STR_AUTO applied = {0};
    my_file_applied_text(f, &applied);
    if (my_pos_compare(my_cstr(&applied), position) == CO_ORDER_EQUAL)
        return CO_DONE;
    return my_fail(call, CO_NO_EFFECT, CO_E_DATA, "", "the target has applied %s, not %s", my_cstr(&applied), position);
}
