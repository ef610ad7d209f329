/* backup.c - the first copy by mariadb-backup: the source's files, streamed from its machine through the tool to the target's,
 * prepared there and put in the place of the target's data directory.
 *
 * Before the target is stopped the copy is made fit for it, in a bootstrap that no client can reach: accounts locked, events as
 * on a replica, the run's marker gone, and the GTID position that the backup itself recorded written down. So the server that
 * comes up with it refuses clients from its first moment, and says itself what it is.
 *
 * Invariants
 *   - No data directory is deleted: the old one is moved aside to <data>.before-changeover-<run>. Only the copy's own folder
 *     (<data>.changeover-copy) is ever wiped.
 *   - <data>.changeover-copy.state says how far it has got: "streaming", "ready", "placed", each with the run. A copy that
 * isn't this run's is begun again while the old server runs; once that is stopped there is only the way forward.
 *   - The password is in no command line and in no file with a name: mariadb-backup reads it from a file that was unlinked.
 */
#include "setup.h"

#include <stdio.h>
#include <stdlib.h>

#define PLACED "placed "

static enum co_side source_side(const struct co_call *call)
{
    return call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
}

static const char *run_id(const struct co_call *call)
{
    return call->run ? call->run->id : "setup";
}

void my_backup_describe(struct co_call *call, struct co_text *ret)
{
    const char *data = call->host->side_option(call->ctx, call->side, "host.data_directory");
    data = data ? data : "<host.data_directory>";
    call->host->text_add(
        call->ctx, ret,
        "mariadb-backup --defaults-file=<unlinked> --backup --stream=mbstream | mbstream -x -C %s.changeover-copy\n"
        "mariadb-backup --prepare --target-dir=%s.changeover-copy\n"
        "mariadbd --bootstrap --datadir=%s.changeover-copy -- accounts locked, events as on a replica, the backup's position\n"
        "SHUTDOWN -- or host.stop\nmv %s %s.before-changeover-%s\nmv %s.changeover-copy %s\n<host.start>\n"
        "RESET MASTER\nSET GLOBAL gtid_slave_pos=<position of the backup>\nSET GLOBAL gtid_binlog_state=<position of the "
        "backup>\nSET GLOBAL read_only=1",
        data, data, data, data, data, call->run ? call->run->id : "<run>", data, data);
}

/* ---------------------------------------------------------------- what is there */

struct copy_state {
    char word[16]; /* "none", "streaming", "ready", "placed" */
    char run[48];
};

static enum co_result look(struct co_call *call, struct copy_state *ret)
{
    const char *out = NULL;
    *ret = (struct copy_state){.word = "none"};
    struct my_machine machine = {
        .side = call->side, .script = "w=none r=-; [ -f \"$c.state\" ] && read -r w r < \"$c.state\"; echo \"copy $w $r\"\n"};
    struct co_call brief = my_brief(call, 60000);
    enum co_result r = my_machine_run(&brief, &machine, &out);
    if (r != CO_DONE)
        return r == CO_EFFECT_UNKNOWN ? CO_NO_EFFECT : r;
    if (sscanf(out, "copy %15s %47s", ret->word, ret->run) < 2)
        return my_fail(call, CO_NO_EFFECT, CO_E_COMMAND,
                       "host.run must run the command that follows it, and print nothing of its own.",
                       "the machine's answer makes no sense: %.80s", out);
    return CO_DONE;
}

/* The server's own word: NULL, "done" or "placed <position>". */
static enum co_result read_word(struct co_call *call, struct my_sets *sets, const char **ret)
{
    enum co_result r = my_read(call, call->conn, "SELECT value FROM " MY_SCHEMA ".originals WHERE kind='copy'", sets);
    *ret = r == CO_DONE ? my_value(sets, 0, 0) : NULL;
    return r != CO_DONE && (sets->error == 1146 || sets->error == 1049) ? CO_DONE : r;
}

enum co_result my_backup_probe(struct co_call *call, enum co_presence *ret)
{
    MY_SETS_AUTO sets = {0};
    const char *word = NULL;
    enum co_result r = read_word(call, &sets, &word);
    *ret = !word ? CO_ABSENT : strcmp(word, "done") == 0 ? CO_PRESENT : strncmp(word, PLACED, 7) == 0 ? CO_PARTIAL : CO_ABSENT;
    return r;
}

enum co_result my_backup_under_way(struct co_call *call, enum co_presence *ret)
{
    struct copy_state state;
    *ret = CO_ABSENT;
    if (!my_setup_method_is(call, "mariabackup") || !my_machine_ready(call, call->side))
        return my_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "Check that it runs.", "the target can't be reached");
    enum co_result r = look(call, &state);
    if (r != CO_DONE)
        return r;
    if (strcmp(state.word, "ready") != 0 && strcmp(state.word, "placed") != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "Start it, and run setup again.",
                       "the target can't be reached, and no copy waits on its machine");
    *ret = CO_PRESENT;
    return CO_DONE;
}

/* ---------------------------------------------------------------- may it be? */

/* Files outside of the data directory would not move with it, and settings that are fixed in the files must fit. */
static enum co_result places_fit(struct co_call *call)
{
    static const char sql[] =
        "SELECT @@GLOBAL.innodb_page_size,@@GLOBAL.innodb_data_file_path,@@GLOBAL.lower_case_table_names,@@GLOBAL.datadir,"
        "COALESCE(@@GLOBAL.innodb_data_home_dir,''),@@GLOBAL.innodb_log_group_home_dir,COALESCE(@@GLOBAL.innodb_undo_directory,"
        "''),@@GLOBAL.aria_log_dir_path";
    static const char *const names[] = {
        "innodb_page_size",     "innodb_data_file_path",     "lower_case_table_names", "",
        "innodb_data_home_dir", "innodb_log_group_home_dir", "innodb_undo_directory",  "aria_log_dir_path"};
    MY_SETS_AUTO a = {0};
    MY_SETS_AUTO b = {0};
    enum co_result r = my_read(call, call->other, sql, &a);
    if (r == CO_DONE)
        r = my_read(call, call->conn, sql, &b);
    if (r != CO_DONE)
        return r;
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(my_value(&a, 0, i), my_value(&b, 0, i)) != 0)
            return my_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "Make them the same, or use setup.method: dump.",
                           "%s is %s on the source and %s on the target: the source's files wouldn't fit", names[i],
                           my_value(&a, 0, i), my_value(&b, 0, i));
    const char *data = my_value(&b, 0, 3), *configured = call->host->side_option(call->ctx, call->side, "host.data_directory");
    size_t len = strlen(configured);
    while (len > 1 && configured[len - 1] == '/')
        len--;
    if (strncmp(data, configured, len) != 0 || (data[len] && strcmp(data + len, "/") != 0))
        return my_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Correct host.data_directory or host.run of that side.",
                       "host.data_directory is %s, the target's server has its data in %s", configured, data);
    for (unsigned i = 4; i < 8; i++) {
        const char *at = my_value(&b, 0, i);
        if (*at && strcmp(at, ".") != 0 && strcmp(at, "./") != 0 && strcmp(at, data) != 0)
            return my_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "Use setup.method: dump, or `copied` with a copy of your own.",
                           "the target's %s is %s, outside of its data directory", names[i], at);
    }
    return CO_DONE;
}

static enum co_result can_copy(struct co_call *call)
{
    const struct co_conn *a = call->other, *b = call->conn;
    enum co_side from = source_side(call);
    if (my_is_mysql(a) || my_is_mysql(b) || a->version / 100 != b->version / 100)
        return my_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "Use setup.method: dump.",
                       "mariadb-backup needs MariaDB of the same series on both, not %s and %s", a->version_text,
                       b->version_text);
    if (!call->host->endpoint(call->ctx, from)->has_host)
        return my_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Give it a host: {run: [...]}; [] means this machine.",
                       "mariadb-backup has to run on the source's machine, and side %s has no host.run",
                       from == CO_SIDE_A ? "a" : "b");
    if (!my_machine_ready(call, call->side) || !call->host->argv_option(call->ctx, (int)call->side, "host.start"))
        return my_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Set host.run, host.data_directory and host.start of that side.",
                       "the target's data directory has to be replaced on its machine, and its `host` isn't configured");
    MY_SETS_AUTO schemas = {0};
    bool ours = false;
    enum co_result r = places_fit(call);
    if (r == CO_DONE)
        r = my_copy_allowed(call, &schemas, &ours);
    return r == CO_DONE ? my_logins_fit(call) : r;
}

/* ---------------------------------------------------------------- the stream */

struct stream {
    struct co_call *call;
    int64_t bytes;
};

static void show_progress(void *arg, int64_t done_bytes)
{
    struct stream *stream = arg;
    struct co_progress progress = {
        .what = "copying the source's files", .done = done_bytes, .total = stream->bytes, .unit = "bytes"};
    stream->call->host->progress(stream->call->ctx, &progress);
}

/* What mariadb-backup logs in with; after the server's own configuration, which it has to know too. */
static enum co_result options_of(struct co_call *call, struct my_str *file)
{
    enum co_side side = source_side(call);
    const struct co_endpoint_config *ep = call->host->endpoint(call->ctx, side);
    bool tls = ep->tls.mode != CO_TLS_OFF;
    my_str_add(file, "[mariadb-backup]\n");
    my_option_add(file, "user", ep->user);
    my_option_add(file, "password", call->host->secret(call->ctx, side, CO_SECRET_PASSWORD));
    const char *address = ep->peer_address ? ep->peer_address : ep->address;
    int port = ep->peer_address && ep->peer_port ? ep->peer_port : ep->port ? ep->port : 3306;
    if (ep->address && ep->address[0] == '/') {
        my_option_add(file, "socket", ep->address);
    } else {
        my_option_add(file, "host", address ? address : "127.0.0.1");
        my_str_addf(file, "port=%d\nprotocol=tcp\n", port);
    }
    my_str_add(file, tls ? "ssl\nskip-ssl-verify-server-cert\n" : "skip-ssl\n");
    return file->overflow ? my_out_of_memory(call) : CO_DONE;
}

/* The file is open and has no name any more when the program starts; opened again through /proc it is read from its beginning.
 * A pipe's status is its last program's, so that of mariadb-backup goes another way. */
static const char send_script[] =
    "t=$(mktemp) && w=$(mktemp -d) || exit 1\n"
    "trap 'rm -rf \"$t\" \"$w\"' EXIT; trap 'exit 1' HUP INT TERM PIPE\n"
    "{ if [ -n \"$own\" ]; then echo \"!include $own\"; else for f in /etc/my.cnf /etc/mysql/my.cnf; do\n"
    "  [ -f \"$f\" ] && echo \"!include $f\"; done; fi; cat; } > \"$t\" || exit 1\n"
    "exec 5<\"$t\" && rm -f \"$t\" || exit 1\n"
    "backup() { mariadb-backup --defaults-file=/proc/self/fd/5 --backup --stream=mbstream --datadir=\"$d\" "
    "--target-dir=\"$w/t\" "
    "--tmpdir=\"$w\" 2> \"$w/log\" || { s=$?; tail -n 5 \"$w/log\" >&2; return \"$s\"; }; }\n"
    "if [ \"$1\" != true ]; then backup; exit; fi\n"
    "exec 3>&1; s=$({ { backup; echo $? >&4; } | gzip -1 >&3; } 4>&1); exit \"$s\"\n";

static const char receive_script[] =
    "r=$1; need=$2; free=$(df -Pk \"$(dirname \"$d\")\" | awk 'NR == 2 { print $4 }')\n"
    "if [ \"$need\" -gt 0 ] && [ \"${free:-0}\" -gt 0 ] && [ $((need / 1024)) -gt \"$free\" ]; then\n"
    "  echo \"$need bytes are needed beside the data directory, $free KiB are free\" >&2; exit 28; fi\n"
    "rm -rf \"$c\" && mkdir \"$c\" && state streaming \"$r\" || exit 1\n"
    "if [ \"$3\" = true ]; then gzip -dc | mbstream -x -C \"$c\"; else mbstream -x -C \"$c\"; fi\n";

static enum co_result stream(struct co_call *call, int64_t data_bytes)
{
    MY_SETS_AUTO data = {0};
    MY_STR_AUTO options = {0};
    MY_WORDS_AUTO from_words = {0};
    MY_WORDS_AUTO to_words = {0};
    enum co_result r = my_read(call, call->other, "SELECT @@GLOBAL.datadir", &data);
    if (r == CO_DONE)
        r = options_of(call, &options);
    if (r != CO_DONE)
        return r;
    const char *compress = call->host->option(call->ctx, "setup.compress");
    MY_STR_AUTO need = {0};
    my_str_addf(&need, "%lld", (long long)data_bytes);
    const char *from_args[] = {compress ? compress : "false", NULL};
    const char *to_args[] = {run_id(call), my_cstr(&need), compress ? compress : "false", NULL};
    struct my_machine sender = {.side = source_side(call),
                                .script = send_script,
                                .args = from_args,
                                .input = my_cstr(&options),
                                .data = my_value(&data, 0, 0)};
    struct my_machine receiver = {.side = call->side, .script = receive_script, .args = to_args};
    struct co_command from, to;
    r = my_machine_command(call, &sender, &from_words, &from);
    if (r == CO_DONE)
        r = my_machine_command(call, &receiver, &to_words, &to);
    if (r != CO_DONE)
        return r;
    struct stream progress = {.call = call, .bytes = data_bytes};
    int from_status = -1, to_status = -1;
    struct co_text *said = call->host->text_new(call->ctx);
    r = call->host->pipe_ticking(call->ctx, &from, &to, show_progress, &progress, call->deadline_ns, &from_status, &to_status,
                                 said, call->err);
    if (r != CO_DONE || (from_status == 0 && to_status == 0))
        return r;
    MY_STR_AUTO words = {0};
    my_add_last_words(call, said, &words);
    return my_fail(call, CO_NO_EFFECT, to_status == 28 ? CO_E_SPACE : CO_E_COMMAND,
                   "mariadb-backup of the server's own version has to be on both machines; the account behind host.run has to "
                   "read the source's data directory and to write beside the target's. Then run `changeover setup` again: the "
                   "copy starts over.",
                   "mariadb-backup ended with status %d, mbstream on the target's machine with status %d%s", from_status,
                   to_status, my_cstr(&words));
}

/* ---------------------------------------------------------------- made fit for the target */

static const char prepare_script[] =
    "[ -f \"$c/mariadb_backup_info\" ] || [ -f \"$c/xtrabackup_info\" ] || { echo 'the backup is not complete' >&2; exit 1; }\n"
    "if [ -n \"$(find \"$c\" -name '*.isl' | head -n 1)\" ]; then\n"
    "  echo 'the source has tables outside of its data directory (DATA DIRECTORY): use setup.method: dump' >&2; exit 1; fi\n"
    "if [ -n \"$own\" ]; then set -- \"--defaults-file=$own\"; else set --; fi\n"
    "mariadb-backup \"$@\" --prepare --target-dir=\"$c\" > \"$c.log\" 2>&1 || { tail -n 5 \"$c.log\" >&2; exit 1; }\n"
    "for f in mariadb_backup_binlog_info xtrabackup_binlog_info; do\n"
    "  if [ -f \"$c/$f\" ]; then cat \"$c/$f\"; break; fi; done\n";

/* As the server itself would start, but for its files' places, and for nobody. */
static const char bootstrap_script[] =
    "if [ -n \"$own\" ]; then f=$own; else f=\"$c/backup-my.cnf\"; fi; r=$1; shift\n"
    "[ \"$(id -u)\" != 0 ] || set -- --user=root \"$@\"\n"
    "mariadbd --defaults-file=\"$f\" --bootstrap --datadir=\"$c\" --innodb-data-home-dir= --innodb-log-group-home-dir=\"$c\" "
    "--innodb-undo-directory=\"$c\" --aria-log-dir-path=\"$c\" --tmpdir=\"$c\" --skip-log-bin --skip-networking "
    "--log-error=\"$c.log\" --pid-file=\"$c/bootstrap.pid\" --socket=\"$c/bootstrap.sock\" \"$@\" > \"$c.out\" 2>&1 || {\n"
    "  tail -n 3 \"$c.log\" \"$c.out\" >&2; exit 1; }\n"
    "o=$(stat -c %u:%g \"$d\") && m=$(stat -c %a \"$d\") && chmod \"$m\" \"$c\" || exit 1\n"
    "[ \"$(id -u)\" != 0 ] || chown -R \"$o\" \"$c\" || exit 1\n"
    "rm -f \"$c.out\" \"$c.log\" \"$c/bootstrap.pid\"; sync; state ready \"$r\"\n";

static enum co_result bootstrap_sql(struct co_call *call, const char *position, struct my_str *sql)
{
    const char *run = run_id(call);
    my_str_add(sql,
               "DELETE FROM " MY_SCHEMA ".originals WHERE kind<>'lineage';\nUPDATE " MY_SCHEMA
               ".marker SET token='',info='';\nUPDATE mysql.event SET status='SLAVESIDE_DISABLED' WHERE status='ENABLED';\n");
    my_str_addf(sql, "REPLACE INTO " MY_SCHEMA ".originals (kind,a,b,value,run) VALUES ('copy','','','" PLACED "%s','%s');\n",
                position, run);
    if (!my_setup_lock_wanted(call))
        return CO_DONE;
    my_str_addf(sql,
                "REPLACE INTO " MY_SCHEMA ".originals (kind,a,b,value,run) VALUES ('hold','accounts','%s','','%s');\nREPLACE "
                "INTO " MY_SCHEMA ".originals (kind,a,b,value,run) SELECT 'account',u.User,u.Host,'','%s'",
                run, run, run);
    enum co_result r = my_accounts_unlocked_from(call, sql);
    my_str_add(sql,
               ";\nUPDATE mysql.global_priv SET Priv=JSON_SET(Priv,'$.account_locked',true) WHERE (CONVERT(User USING "
               "utf8mb4) COLLATE utf8mb4_bin,CONVERT(Host USING utf8mb4) COLLATE utf8mb4_bin) IN (SELECT a,b FROM " MY_SCHEMA
               ".originals WHERE kind='account');\n");
    return r != CO_DONE ? r : sql->overflow ? my_out_of_memory(call) : CO_DONE;
}

/* The last word of the record: "<file> <offset> <GTID position>". */
static enum co_result position_of(struct co_call *call, const char *record, struct my_str *ret)
{
    size_t len = strlen(record);
    while (len && strchr("\n\r\t ", record[len - 1]))
        len--;
    size_t from = len;
    while (from && !strchr("\t ", record[from - 1]))
        from--;
    my_str_addn(ret, record + from, len - from);
    if (my_pos_kind(my_cstr(ret)) == MY_POS_MARIADB)
        return CO_DONE;
    return my_fail(call, CO_NO_EFFECT, CO_E_STATE, "The source's binary log must be on before the copy is made.",
                   "the backup recorded no GTID position: %.100s", record);
}

static enum co_result make_ready(struct co_call *call)
{
    const char *record = NULL;
    MY_STR_AUTO position = {0};
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    struct co_progress progress = {.what = "preparing the copy", .done = -1, .total = -1, .unit = ""};
    call->host->progress(call->ctx, &progress);
    struct my_machine prepare = {.side = call->side, .script = prepare_script};
    enum co_result r = my_machine_run(call, &prepare, &record);
    if (r == CO_DONE)
        r = position_of(call, record, &position);
    struct co_call brief = my_brief(call, 60000);
    if (r == CO_DONE)
        r = bootstrap_sql(&brief, my_cstr(&position), &sql);
    if (r == CO_DONE) /* where this server has what it reads when it starts */
        r = my_read(&brief, call->conn,
                    "SELECT CONCAT('--basedir=',@@basedir),CONCAT('--lc-messages-dir=',@@lc_messages_dir),"
                    "CONCAT('--plugin-dir=',@@plugin_dir),CONCAT('--character-sets-dir=',@@character_sets_dir)",
                    &sets);
    if (r != CO_DONE)
        return r == CO_EFFECT_UNKNOWN ? CO_NO_EFFECT : r;
    const char *args[] = {run_id(call),          my_value(&sets, 0, 0), my_value(&sets, 0, 1),
                          my_value(&sets, 0, 2), my_value(&sets, 0, 3), NULL};
    struct my_machine bootstrap = {.side = call->side, .script = bootstrap_script, .args = args, .input = my_cstr(&sql)};
    r = my_machine_run(call, &bootstrap, NULL);
    return r == CO_EFFECT_UNKNOWN ? CO_NO_EFFECT : r;
}

/* ---------------------------------------------------------------- put in its place */

/* Its process id is kept: that one is gone is the one sign on the machine that the server has ended (it removes its pid file
 * earlier). */
static enum co_result note_process(struct co_call *call)
{
    MY_SETS_AUTO sets = {0};
    const char *out = NULL, *run = run_id(call);
    const char *noted = call->host->note_get(call->ctx, CO_NOTE_PAIR, call->side, "server_process");
    if (noted && strncmp(noted, run, strlen(run)) == 0 && noted[strlen(run)] == ' ')
        return CO_DONE; /* it was told already, and may have removed the file by now */
    enum co_result r =
        my_read(call, call->conn, "SELECT IF(LEFT(@@pid_file,1)='/',@@pid_file,CONCAT(@@datadir,@@pid_file))", &sets);
    if (r != CO_DONE)
        return r;
    const char *args[] = {my_value(&sets, 0, 0), NULL};
    struct my_machine machine = {
        .side = call->side, .script = "p=; read -r p < \"$1\"; [ -n \"$p\" ] && echo \"$p\"\n", .args = args};
    r = my_machine_run(call, &machine, &out);
    if (r != CO_DONE)
        return r == CO_EFFECT_UNKNOWN ? CO_NO_EFFECT : r;
    MY_STR_AUTO process = {0};
    size_t digits = strspn(out, "0123456789");
    my_str_addf(&process, "%s %.*s", run, (int)digits, out);
    if (!digits || call->host->note_put(call->ctx, CO_NOTE_PAIR, call->side, "server_process", my_cstr(&process)) != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_STATE, "host.run has to lead to the machine that the server runs on.",
                       "the target's process id isn't in %s", my_value(&sets, 0, 0));
    return CO_DONE;
}

static enum co_result stop_server(struct co_call *call)
{
    enum co_result r = note_process(call);
    if (r != CO_DONE)
        return r;
    const char *const *stop = call->host->argv_option(call->ctx, (int)call->side, "host.stop");
    if (!stop) {
        r = my_exec(call, call->conn, "SHUTDOWN", NULL);
    } else {
        struct co_command command = {.size = sizeof command, .side = call->side, .argv = stop};
        int status = -1;
        r = call->host->run(call->ctx, &command, call->deadline_ns, &status, NULL, NULL, call->err);
        if (r == CO_DONE && status != 0)
            r = my_fail(call, CO_NO_EFFECT, CO_E_COMMAND, "Run it by hand on that machine.",
                        "host.stop of the target ended with status %d", status);
    }
    if (r == CO_NO_EFFECT)
        return r;
    call->conn->dead = true; /* it goes down, now or in a moment */
    return CO_AGAIN;
}

static const char place_script[] =
    "r=$1; if up \"$2\"; then echo up; exit 0; fi\n"
    "if [ -d \"$c\" ]; then\n"
    "  rm -f \"$c\"/xtrabackup_* \"$c\"/mariadb_backup_* \"$c/backup-my.cnf\" \"$c/bootstrap.sock\"\n"
    "  if [ -d \"$d\" ]; then\n"
    "    (cd \"$d\" && for f in *.pem *.crt *.key *.crl *.cnf *.flag; do if [ -e \"$f\" ]; then cp -pRP \"$f\" \"$c/\" || exit "
    "1; fi; "
    "done) || exit 1\n"
    "    rmdir \"$d\" 2>/dev/null || mv -T \"$d\" \"$d.before-changeover-$r\" || exit 1\n"
    "  fi\n"
    "  mv -T \"$c\" \"$d\" || exit 1\n"
    "  if command -v restorecon >/dev/null 2>&1; then restorecon -R \"$d\" 2>/dev/null; fi\n"
    "fi\n"
    "[ -d \"$d\" ] || exit 1; sync; state placed \"$r\"; echo placed\n";

static enum co_result put_in_place(struct co_call *call, const struct copy_state *state)
{
    const char *process = call->host->note_get(call->ctx, CO_NOTE_PAIR, call->side, "server_process"), *out = NULL;
    const char *data = call->host->side_option(call->ctx, call->side, "host.data_directory");
    const char *args[] = {state->run, process ? process + strcspn(process, " ") + 1 : "", NULL};
    struct my_machine machine = {.side = call->side, .script = place_script, .args = args};
    struct co_progress progress = {.what = "waiting for the target to stop", .done = -1, .total = -1, .unit = ""};
    struct co_call brief = my_brief(call, 60000);
    if (!process)
        return my_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "Start it, and run setup again.", "the target can't be reached");
    enum co_result r = my_machine_run(&brief, &machine, &out);
    if (r == CO_EFFECT_UNKNOWN && call->err->code == CO_E_COMMAND)
        snprintf(
            call->err->hint, sizeof call->err->hint,
            "The account behind host.run must be able to rename %s: its parent folder must be writable, and it must not be "
            "a mount point.",
            data);
    if (r != CO_DONE)
        return r;
    if (strncmp(out, "up", 2) == 0)
        call->host->progress(call->ctx, &progress);
    return CO_AGAIN;
}

static enum co_result start_placed(struct co_call *call, const struct copy_state *state)
{
    const char *data = call->host->side_option(call->ctx, call->side, "host.data_directory");
    MY_STR_AUTO what = {0};
    my_str_addf(&what, "starting the target with the copy; its old data directory is %s.before-changeover-%s", data,
                state->run);
    return my_start_server(call, my_cstr(&what));
}

static enum co_result finish(struct co_call *call, const char *position)
{
    MY_STR_AUTO sql = {0};
    enum co_result r = CO_DONE;
    my_str_add(&sql, "SET GLOBAL read_only=1;SET GLOBAL event_scheduler=OFF;RESET MASTER;SET GLOBAL gtid_slave_pos=");
    my_str_quote(&sql, position);
    my_str_add(&sql, ";SET GLOBAL gtid_binlog_state=");
    my_str_quote(&sql, position);
    my_str_add(&sql, ";");
    if (my_setup_lock_wanted(call) && my_setup_scope(call) == MY_SCOPE_BYPASS)
        r = my_accounts_unlock_readers_sql(call, &sql);
    my_str_add(&sql, "REPLACE INTO " MY_SCHEMA ".originals (kind,a,b,value) VALUES ('copy','','','done');");
    if (r != CO_DONE || sql.overflow)
        return r != CO_DONE ? r : my_out_of_memory(call);
    struct my_machine machine = {.side = call->side, .script = "rm -f \"$c.state\"\n"};
    r = my_machine_run(call, &machine, NULL);
    return r == CO_DONE ? my_change(call, call->conn, my_cstr(&sql), NULL) : r;
}

static enum co_result begin(struct co_call *call)
{
    struct co_call brief = my_brief(call, 60000);
    MY_SETS_AUTO size = {0};
    if (!call->other)
        return my_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the source can't be reached");
    enum co_result r = can_copy(&brief);
    if (r == CO_DONE)
        r = my_read(&brief, call->other, "SELECT SUM(FILE_SIZE) FROM information_schema.INNODB_SYS_TABLESPACES", &size);
    if (r == CO_DONE)
        r = stream(call, my_int(my_value(&size, 0, 0), -1));
    return r == CO_DONE ? make_ready(call) : r;
}

enum co_result my_backup_copy(struct co_call *call)
{
    struct copy_state state;
    struct co_call brief = my_brief(call, 60000);
    bool alive = call->conn && !call->conn->dead;
    enum co_result r;
    if (alive) {
        MY_SETS_AUTO sets = {0};
        const char *word = NULL;
        r = read_word(&brief, &sets, &word);
        if (r != CO_DONE || (word && strcmp(word, "done") == 0))
            return r;
        if (word && strncmp(word, PLACED, 7) == 0)
            return finish(&brief, word + 7);
        if (!my_machine_ready(call, call->side))
            return can_copy(&brief);
    }
    r = look(call, &state);
    if (r != CO_DONE)
        return r;
    if (!alive)
        return strcmp(state.word, "ready") == 0    ? put_in_place(call, &state)
               : strcmp(state.word, "placed") == 0 ? start_placed(call, &state)
                                                   : my_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE,
                                                             "Start it, and run setup again.", "the target can't be reached");
    bool mine = strcmp(state.run, run_id(call)) == 0;
    if (mine && strcmp(state.word, "ready") == 0)
        return stop_server(&brief);
    r = begin(call);
    return r == CO_DONE ? CO_AGAIN : r;
}
