/* dump.c - the first copy: the server's own dump program, run where the tool runs, streamed into the target.
 *
 * Passwords reach both programs in an option file that lives in memory only (memfd, 0600), named by its path under /proc/<our
 * pid>/fd: nothing on a command line, in the environment or on disk, and nothing left behind when the tool is killed.
 *
 * Invariant: a target that holds data is touched only when `setup.replace_b` says so; "copy started" is on the target before
 * anything of it is removed, "copy done" only after both programs ended with status 0.
 */
#include "setup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSTEM_SCHEMAS "'mysql','sys','information_schema','performance_schema','" MY_SCHEMA "'"

enum co_result my_user_schemas(struct co_call *call, struct co_conn *conn, struct my_sets *ret)
{
    return my_read(
        call, conn,
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN (" SYSTEM_SCHEMAS ") ORDER BY 1", ret);
}

static const char *default_program(const struct co_conn *conn, bool dump)
{
    if (conn && my_is_mysql(conn))
        return dump ? "mysqldump" : "mysql";
    return dump ? "mariadb-dump" : "mariadb";
}

void my_dump_describe(struct co_call *call, struct co_text *ret)
{
    bool mysql = call->conn && my_is_mysql(call->conn);
    call->host->text_add(call->ctx, ret,
                         "SET GLOBAL %sread_only=%d\n%s\nDROP DATABASE <what an interrupted copy left>\n"
                         "%s --defaults-file=<in memory> --single-transaction --quick --routines --triggers --events %s "
                         "--databases <all of the source's> | "
                         "%s --defaults-file=<in memory> --init-command='SET SESSION sql_log_bin=0'\n"
                         "CREATE USER, CREATE ROLE, GRANT <as on the source>%s",
                         mysql ? "super_" : "", mysql ? 0 : 1, call->conn ? my_word_reset_log(call->conn) : "RESET MASTER",
                         default_program(call->conn, true),
                         mysql && call->conn->by_file ? "--set-gtid-purged=OFF --source-data=1"
                         : mysql                      ? "--set-gtid-purged=ON"
                                                      : "--master-data=1 --gtid",
                         default_program(call->conn, false),
                         mysql ? "" : "\nRESET MASTER\nSET GLOBAL gtid_binlog_state=<position of the dump>");
}

static bool option_on(struct co_call *call, const char *name)
{
    const char *value = call->host->option(call->ctx, name);
    return value && strcmp(value, "true") == 0;
}

/* ---------------------------------------------------------------- option files */

void my_option_add(struct my_str *file, const char *name, const char *value)
{
    if (!value)
        return;
    my_str_addf(file, "%s=\"", name);
    for (const char *c = value; *c; c++) {
        if (*c == '"' || *c == '\\')
            my_str_addn(file, "\\", 1);
        my_str_addn(file, c, 1);
    }
    my_str_add(file, "\"\n");
}

static void add_tls(struct my_str *file, const struct co_endpoint_config *ep, bool mysql)
{
    if (mysql)
        my_str_addf(file, "ssl-mode=%s\n",
                    ep->tls.mode == CO_TLS_OFF       ? "DISABLED"
                    : ep->tls.mode == CO_TLS_REQUIRE ? "REQUIRED"
                                                     : "VERIFY_IDENTITY");
    else if (ep->tls.mode == CO_TLS_OFF)
        my_str_add(file, "skip-ssl\n");
    else
        my_str_addf(file, "ssl\n%s\n",
                    ep->tls.mode == CO_TLS_VERIFY ? "ssl-verify-server-cert" : "skip-ssl-verify-server-cert");
    if (ep->tls.mode == CO_TLS_OFF)
        return;
    my_option_add(file, "ssl-ca", ep->tls.ca);
    my_option_add(file, "ssl-cert", ep->tls.cert);
    my_option_add(file, "ssl-key", ep->tls.key);
}

struct option_file {
    int fd;
    char path[64];
};

static void option_file_close(struct option_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
}

static bool write_all(int fd, const char *data, size_t bytes)
{
    while (bytes) {
        ssize_t n = write(fd, data, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        bytes -= (size_t)n;
    }
    return true;
}

static enum co_result option_file_make(struct co_call *call, enum co_side side, bool mysql, struct option_file *ret)
{
    const struct co_endpoint_config *ep = call->host->endpoint(call->ctx, side);
    MY_STR_AUTO file = {0};
    my_str_add(&file, "[client]\n");
    my_option_add(&file, "user", ep->user);
    my_option_add(&file, "password", call->host->secret(call->ctx, side, CO_SECRET_PASSWORD));
    if (ep->address && ep->address[0] == '/') {
        my_option_add(&file, "socket", ep->address);
    } else {
        my_option_add(&file, "host", ep->address ? ep->address : "127.0.0.1");
        my_str_addf(&file, "port=%d\nprotocol=tcp\n", ep->port ? ep->port : 3306);
    }
    add_tls(&file, ep, mysql);
    my_str_add(&file, "default-character-set=utf8mb4\nmax-allowed-packet=1G\n");
    ret->fd = memfd_create("changeover-options", MFD_CLOEXEC);
    if (ret->fd < 0 || file.overflow || fchmod(ret->fd, 0600) != 0 || !write_all(ret->fd, file.data, file.len))
        return my_fail(call, CO_NO_EFFECT, CO_E_IO, "", "can't make an option file in memory");
    snprintf(ret->path, sizeof ret->path, "--defaults-file=/proc/%ld/fd/%d", (long)getpid(), ret->fd);
    return CO_DONE;
}

/* ---------------------------------------------------------------- the target made empty */

/* The names of the target's databases, and whether they may go. */
enum co_result my_copy_allowed(struct co_call *call, struct my_sets *ret_schemas, bool *ret_ours)
{
    MY_SETS_AUTO state = {0};
    enum co_result r = my_user_schemas(call, call->conn, ret_schemas);
    if (r == CO_DONE)
        r = my_read(call, call->conn, "SELECT value FROM " MY_SCHEMA ".originals WHERE kind='copy'", &state);
    if (r != CO_DONE)
        return r;
    const char *copy = my_value(&state, 0, 0);
    *ret_ours = copy && strcmp(copy, "started") == 0; /* what a copy left that was interrupted may go */
    if (*ret_ours || option_on(call, "setup.replace_b"))
        return CO_DONE;
    MY_STR_AUTO names = {0};
    for (MYSQL_ROW row; (row = mysql_fetch_row(ret_schemas->set[0]));)
        if (strcmp(row[0], MY_PROBE_SCHEMA) != 0)
            my_str_addf(&names, "%s%s", names.len ? ", " : "", row[0]);
    mysql_data_seek(ret_schemas->set[0], 0);
    if (!names.len)
        return CO_DONE;
    bool moved = my_setup_method_is(call, "mariabackup");
    return my_fail(
        call, CO_NO_EFFECT, CO_E_DATA,
        moved ? "Choose an empty server as b; or set setup.replace_b: true, and its data directory is moved aside and kept."
              : "Choose an empty server as b; or set setup.replace_b: true, and everything in these databases is deleted.",
        "the target isn't empty: it has the databases %s", my_cstr(&names));
}

enum co_result my_copy_begin(struct co_call *call)
{
    MY_SETS_AUTO schemas = {0};
    MY_STR_AUTO sql = {0};
    bool ours = false;
    enum co_result r = my_copy_allowed(call, &schemas, &ours);
    if (r != CO_DONE)
        return r;
    if (my_is_mysql(call->conn))
        my_str_add(&sql, "SET GLOBAL super_read_only=0;");
    if (!ours) /* these are the target's own; what an interrupted copy made isn't */
        my_str_add(&sql,
                   "INSERT IGNORE INTO " MY_SCHEMA ".originals (kind,a,b,value) SELECT 'kept',User,Host,'' FROM mysql.user;");
    my_str_add(&sql, "REPLACE INTO " MY_SCHEMA ".originals (kind,a,b,value) VALUES ('copy','','','started');SET GLOBAL "
                     "event_scheduler=OFF;SET SESSION foreign_key_checks=0;");
    for (MYSQL_ROW row; (row = mysql_fetch_row(schemas.set[0]));) {
        my_str_add(&sql, "DROP DATABASE IF EXISTS ");
        my_str_name(&sql, row[0]);
        my_str_add(&sql, ";");
    }
    my_str_addf(&sql, "SET SESSION foreign_key_checks=1;%s;", my_word_reset_log(call->conn));
    if (!my_is_mysql(call->conn))
        my_str_add(&sql, "SET GLOBAL gtid_slave_pos='';");
    return sql.overflow ? my_out_of_memory(call) : my_change(call, call->conn, my_cstr(&sql), NULL);
}

/* ---------------------------------------------------------------- the pipe */

static void add_program(struct co_call *call, struct my_words *w, const char *option, const char *otherwise)
{
    const char *const *argv = call->host->argv_option(call->ctx, -1, option);
    if (!argv)
        my_words_add(w, otherwise);
    for (; argv && *argv; argv++)
        my_words_add(w, *argv);
}

/* What the copy is about to bring, and what of it is there. */
struct size {
    struct co_call *call;
    int64_t bytes, tables;
};

#define COUNT_TABLES                                                                                                           \
    "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_TYPE='BASE TABLE' AND TABLE_SCHEMA NOT IN (" SYSTEM_SCHEMAS ")"

/* Once a second: bytes through the pipe, and which table of how many is being filled. */
static void show_progress(void *arg, int64_t done_bytes)
{
    struct size *size = arg;
    struct co_call *call = size->call, brief = my_brief(call, 1000);
    struct co_error ignored = {0};
    MY_STR_AUTO what = {0};
    MY_SETS_AUTO sets = {0};
    brief.err = &ignored;
    my_str_add(&what, "copying the data");
    if (my_read(&brief, call->conn, COUNT_TABLES, &sets) == CO_DONE)
        my_str_addf(&what, ", table %s of %lld", my_value(&sets, 0, 0), (long long)size->tables);
    struct co_progress progress = {.what = my_cstr(&what), .done = done_bytes, .total = size->bytes, .unit = "bytes"};
    call->host->progress(call->ctx, &progress);
}

static enum co_result stream(struct co_call *call, MYSQL_RES *schemas, struct size *size)
{
    bool mysql = my_is_mysql(call->conn);
    __attribute__((cleanup(option_file_close))) struct option_file from_file = {.fd = -1}, to_file = {.fd = -1};
    MY_WORDS_AUTO from = {0};
    MY_WORDS_AUTO to = {0};
    enum co_side source = call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
    enum co_result r = option_file_make(call, source, mysql, &from_file);
    if (r == CO_DONE)
        r = option_file_make(call, call->side, mysql, &to_file);
    if (r != CO_DONE)
        return r;
    add_program(call, &from, "setup.dump_program", default_program(call->conn, true));
    my_words_add(&from, from_file.path); /* has to come first */
    static const char *const both[] = {"--single-transaction", "--quick",        "--routines", "--triggers", "--events",
                                       "--hex-blob",           "--skip-comments"};
    for (size_t i = 0; i < sizeof both / sizeof *both; i++)
        my_words_add(&from, both[i]);
    if (mysql && call->other->by_file) {
        my_words_add(&from, "--set-gtid-purged=OFF");
        my_words_add(&from, call->other->version >= 80026 ? "--source-data=1" : "--master-data=1");
    } else if (mysql) {
        my_words_add(&from, "--set-gtid-purged=ON");
    } else {
        my_words_add(&from, "--master-data=1");
        my_words_add(&from, "--gtid");
    }
    if (option_on(call, "setup.compress"))
        my_words_add(&from, "--compress");
    my_words_add(&from, "--databases");
    for (MYSQL_ROW row; (row = mysql_fetch_row(schemas));)
        my_words_add(&from, row[0]);
    add_program(call, &to, "setup.load_program", default_program(call->conn, false));
    my_words_add(&to, to_file.path);
    my_words_add(&to, my_word_load_session(call->conn));
    my_words_add(&to, "--binary-mode");
    if (option_on(call, "setup.compress"))
        my_words_add(&to, "--compress");
    if (from.failed || to.failed)
        return my_out_of_memory(call);
    struct co_command dump = {.size = sizeof dump, .side = CO_SIDE_LOCAL, .argv = from.argv};
    struct co_command load = {.size = sizeof load, .side = CO_SIDE_LOCAL, .argv = to.argv};
    int from_status = -1, to_status = -1;
    struct co_text *said = call->host->text_new(call->ctx);
    r = call->host->pipe_ticking(call->ctx, &dump, &load, show_progress, size, call->deadline_ns, &from_status, &to_status,
                                 said, call->err);
    if (r != CO_DONE || (from_status == 0 && to_status == 0))
        return r;
    MY_STR_AUTO words = {0};
    my_add_last_words(call, said, &words);
    return my_fail(call, CO_EFFECT_UNKNOWN, CO_E_COMMAND, "Run `changeover setup` again: the copy starts over.",
                   "%s ended with status %d, %s with status %d%s", from.argv[0], from_status, to.argv[0], to_status,
                   my_cstr(&words));
}

/* Functions that were made without DETERMINISTIC and its like, which a server with a binary log refuses: the target takes
 * them, for the length of the copy. */
static enum co_result trust_functions(struct co_call *call)
{
    return my_change(call, call->conn,
                     "INSERT IGNORE INTO " MY_SCHEMA ".originals (kind,a,b,value) VALUES "
                     "('trust','','',@@GLOBAL.log_bin_trust_function_creators);SET GLOBAL log_bin_trust_function_creators=1;",
                     NULL);
}

static enum co_result trust_as_before(struct co_call *call, struct my_str *sql)
{
    MY_SETS_AUTO was = {0};
    enum co_result r = my_read(call, call->conn, "SELECT value FROM " MY_SCHEMA ".originals WHERE kind='trust'", &was);
    if (r == CO_DONE && my_value(&was, 0, 0))
        my_str_addf(sql,
                    "SET GLOBAL log_bin_trust_function_creators=%d;DELETE FROM " MY_SCHEMA ".originals WHERE kind='trust';",
                    my_truth(my_value(&was, 0, 0)));
    return r;
}

static enum co_result finish(struct co_call *call)
{
    MY_SETS_AUTO events = {0};
    MY_STR_AUTO sql = {0};
    enum co_result r =
        my_read(call, call->conn, "SELECT " MY_EVENT_COLUMNS " FROM information_schema.EVENTS WHERE STATUS='ENABLED'", &events);
    if (r != CO_DONE)
        return r;
    my_add_slaveside(call->conn, &sql, events.set[0]); /* as if replication had brought them */
    if (my_setup_lock_wanted(call) && my_setup_scope(call) == MY_SCOPE_BYPASS)
        r = my_accounts_unlock_readers_sql(call, &sql);
    if (r != CO_DONE)
        return r;
    MY_SETS_AUTO position = {0};
    if (!my_is_mysql(call->conn)) {
        r = my_read(call, call->conn, "SELECT @@GLOBAL.gtid_slave_pos", &position);
        if (r != CO_DONE)
            return r;
        const char *at = my_value(&position, 0, 0);
        if (my_pos_kind(at) != MY_POS_MARIADB)
            return my_fail(call, CO_EFFECT_UNKNOWN, CO_E_STATE, "The source's binary log must be on before the copy is made.",
                           "the dump brought no GTID position with it");
        /* so that it knows the position as its own when the old primary follows it. As a literal: MariaDB 10.11 locks itself
         * up, for good and for all logins, when one of these two variables is set from the other */
        my_str_add(&sql, "RESET MASTER;SET GLOBAL gtid_binlog_state=");
        my_str_quote(&sql, at);
        my_str_add(&sql, ";");
    }
    if (call->conn->by_file)
        r = my_file_after_dump(call, &sql);
    if (r == CO_DONE)
        r = trust_as_before(call, &sql);
    if (r != CO_DONE)
        return r;
    my_str_add(&sql, "REPLACE INTO " MY_SCHEMA ".originals (kind,a,b,value) VALUES ('copy','','','done');");
    if (my_is_mysql(call->conn))
        my_str_add(&sql, "SET GLOBAL super_read_only=1;");
    return sql.overflow ? my_out_of_memory(call) : my_change(call, call->conn, my_cstr(&sql), NULL);
}

static enum co_result read_size(struct co_call *call, struct size *ret)
{
    MY_SETS_AUTO sets = {0};
    enum co_result r =
        my_read(call, call->other,
                "SELECT COALESCE(SUM(DATA_LENGTH),0) FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN (" SYSTEM_SCHEMAS
                ");" COUNT_TABLES,
                &sets);
    ret->bytes = my_int(my_value(&sets, 0, 0), -1);
    ret->tables = my_int(my_value(&sets, 1, 0), -1);
    return r;
}

/* Everything but the pipe answers soon or not at all: only the pipe gets the step's own deadline. */
enum co_result my_dump_copy(struct co_call *call)
{
    struct co_call brief = my_brief(call, 60000);
    struct size size = {.call = call, .bytes = -1, .tables = -1};
    MY_SETS_AUTO schemas = {0};
    __attribute__((cleanup(my_accounts_done))) struct my_accounts accounts = {0};
    if (!call->other)
        return my_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the source can't be reached");
    enum co_result r = my_user_schemas(&brief, call->other, &schemas);
    if (r == CO_DONE && mysql_num_rows(schemas.set[0]) == 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_STATE, "", "the source has no databases");
    if (r == CO_DONE)
        r = read_size(&brief, &size);
    if (r == CO_DONE)
        r = my_copy_begin(&brief);
    if (r == CO_DONE)
        r = trust_functions(&brief);
    if (r == CO_DONE)
        r = my_accounts_read(&brief, call->other, call->conn, &accounts);
    if (r == CO_DONE)
        r = stream(call, schemas.set[0], &size);
    brief = my_brief(call, 60000);
    if (r == CO_DONE)
        r = my_accounts_write(&brief, call->conn, &accounts);
    return r == CO_DONE ? finish(&brief) : r;
}
