/* check_replication.c - pre-flight: who follows whom, and whether it can go on. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

static void check_source_role(struct my_check *c)
{
    MY_FOLLOW_AUTO f = {0};
    MY_SETS_AUTO status = {0};
    if (my_following(c, c->source, &f) && f.present)
        my_find(c, "source_is_replica", CO_ERROR, (int)c->source_side,
                "Cut over from the real primary; or STOP and RESET its replication.",
                "the source is itself a replica of %s:%u: what comes from there would go on being written", f.host, f.port);
    if (!c->source || !my_check_read(c, c->source, "the binary log's filters", my_word_log_status(c->source), &status))
        return;
    const char *only = my_value(&status, 0, 2), *not = my_value(&status, 0, 3);
    if ((only && *only) || (not &&*not ))
        my_find(c, "binlog_filter", CO_ERROR, (int)c->source_side,
                "Remove binlog_do_db and binlog_ignore_db from the configuration and restart.",
                "the source's binary log is filtered (do: %.200s, ignore: %.200s): what is left out is lost", only ? only : "",
                not ? not : "");
}

static void check_link(struct my_check *c, const struct my_follow *f)
{
    const char *source_id = my_var(&c->source_vars, "server_id");
    int side = (int)c->target_side;
    if (!f->present) {
        if (c->stage == CO_CHECK_CUTOVER)
            my_find(c, "not_following", CO_ERROR, side, "Run `changeover setup`.", "the target follows no server");
        return;
    }
    if (source_id && f->source_id && (uint64_t)my_int(source_id, 0) != f->source_id)
        my_find(c, "follows_another", CO_ERROR, side, "Stop that replication, or correct the urls.",
                "the target follows the server with id %llu at %s:%u, not the source", (unsigned long long)f->source_id,
                f->host, f->port);
    if (f->sql_errno || f->io_errno || f->sql_no || f->io_no)
        my_find(c, "replication_broken", c->stage == CO_CHECK_CUTOVER ? CO_ERROR : CO_WARNING, side,
                my_word_either(c->target, "Mend it; START SLAVE when the cause is gone.",
                               "Mend it; START REPLICA when the cause is gone."),
                "replication doesn't run: %.400s",
                f->sql_errno  ? f->sql_error
                : f->io_errno ? f->io_error
                              : "a thread is stopped");
    if (*f->filters)
        my_find(c, "replication_filter", CO_ERROR, side, "Remove the filters, and copy anew what was left out.",
                "replication is filtered: %.400s", f->filters);
    if (f->delay_s > 0)
        my_find(
            c, "replication_delayed", CO_ERROR, side,
            my_word_either(c->target, "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=0; START SLAVE.",
                           "STOP REPLICA SQL_THREAD; CHANGE REPLICATION SOURCE TO SOURCE_DELAY=0; START REPLICA SQL_THREAD."),
            "replication is delayed by %lld s on purpose", (long long)f->delay_s);
    if (!f->gtid && !c->target->by_file)
        my_find(c, "replication_without_gtid", c->stage == CO_CHECK_CUTOVER ? CO_ERROR : CO_WARNING, side,
                "Run `changeover setup`: it goes on by GTID from where the target stands (CHANGE MASTER TO "
                "MASTER_USE_GTID=slave_pos; MySQL: SOURCE_AUTO_POSITION=1).",
                "the target follows by file and position, though both servers have GTIDs");
    if (f->others)
        my_find(c, "follows_several", CO_ERROR, side, "Stop the others: what they bring would be written past the closure.",
                "the target follows %u servers", f->others + 1);
}

/* Whether `own` has transactions that `position` lacks and that another server than the source made. The source's own don't
 * count: it sends a transaction before it shows it in its own position (seen on MySQL 9.7). */
static bool has_others(struct my_check *c, const char *own, const char *position)
{
    bool mysql = my_is_mysql(c->target);
    const char *source = my_var(&c->source_vars, mysql ? "server_uuid" : "server_id");
    for (const char *at = own; *at;) {
        MY_STR_AUTO part = {0};
        struct co_distance extra = {.size = sizeof extra};
        my_str_addn(&part, at, strcspn(at, ","));
        my_pos_distance(position, my_cstr(&part), &extra);
        const char *maker = my_cstr(&part) + (mysql ? 0 : strcspn(my_cstr(&part), "-") + 1);
        bool of_source =
            source && (mysql ? strncasecmp(maker, source, 36) == 0 : strtoull(maker, NULL, 10) == strtoull(source, NULL, 10));
        if (extra.transactions > 0 && !of_source)
            return true;
        at += strcspn(at, ",");
        at += *at == ',';
    }
    return false;
}

/* The target is read first, so that little of what it has just been sent looks like its own. */
static void check_errant(struct my_check *c, const struct my_follow *f)
{
    MY_SETS_AUTO target = {0};
    MY_SETS_AUTO source = {0};
    MY_STR_AUTO sql = {0};
    if (!f->present || c->target->by_file) /* then it can't be seen: check_server says so */
        return;
    my_str_addf(&sql, "SELECT %s,%s", my_expr_position(c->target), my_expr_applied(c->target));
    if (!my_check_read(c, c->target, "the position", my_cstr(&sql), &target))
        return;
    my_str_clear(&sql);
    my_str_addf(&sql, "SELECT %s,%s", my_expr_position(c->source), my_is_mysql(c->source) ? "@@GLOBAL.gtid_purged" : "''");
    if (!my_check_read(c, c->source, "the position", my_cstr(&sql), &source))
        return;
    const char *own = my_value(&target, 0, 0), *applied = my_value(&target, 0, 1), *position = my_value(&source, 0, 0);
    if (!own || !*own || !position)
        return;
    if (my_pos_compare(own, position) == CO_ORDER_DIVERGED || has_others(c, own, position))
        my_find(c, "errant_transactions", CO_ERROR, (int)c->target_side,
                "Find out what they are (mariadb-binlog, mysqlbinlog) and make the copy anew; or, where they are harmless, "
                "give them to the source as empty "
                "transactions (MySQL).",
                "the target has transactions that the source hasn't: %.200s against %.200s", own, position);
    const char *purged = my_value(&source, 0, 1);
    if (my_is_mysql(c->target) && purged && *purged) {
        struct co_distance lacks = {.size = sizeof lacks};
        my_pos_distance(applied, purged, &lacks);
        if (lacks.transactions > 0)
            my_find(c, "purged_transactions_needed", CO_ERROR, (int)c->target_side,
                    "Make the copy anew, and raise binlog_expire_logs_seconds on the source.",
                    "%lld transactions that the target lacks are gone from the source's binary log",
                    (long long)lacks.transactions);
    }
}

static void check_domains(struct my_check *c)
{
    MY_SETS_AUTO source = {0};
    MY_SETS_AUTO target = {0};
    if (my_is_mysql(c->source) || c->stage != CO_CHECK_CUTOVER)
        return;
    if (!my_check_read(c, c->target, "the position", "SELECT @@GLOBAL.gtid_slave_pos", &target) ||
        !my_check_read(c, c->source, "the position", "SELECT @@GLOBAL.gtid_binlog_pos", &source))
        return;
    const char *have = my_value(&target, 0, 0);
    for (const char *at = my_value(&source, 0, 0); at && *at;) {
        MY_STR_AUTO domain = {0};
        my_str_add(&domain, ",");
        my_str_addn(&domain, at, strcspn(at, "-"));
        my_str_add(&domain, "-");
        MY_STR_AUTO list = {0};
        my_str_addf(&list, ",%s", have ? have : "");
        if (!strstr(my_cstr(&list), my_cstr(&domain)))
            my_find(
                c, "gtid_domain_missing", CO_ERROR, (int)c->target_side,
                "If nothing is written in it any more: FLUSH BINARY LOGS DELETE_DOMAIN_ID=(...) on the source.",
                "the source has a GTID domain that the target has never seen (%.*s): waiting for its position would never end",
                (int)strcspn(at, ","), at);
        at += strcspn(at, ",");
        at += *at == ',';
    }
}

static void check_speed(struct my_check *c)
{
    const char *threads = my_var(&c->target_vars, "slave_parallel_threads");
    const char *workers = my_var(&c->target_vars, "replica_parallel_workers");
    if (!workers)
        workers = my_var(&c->target_vars, "slave_parallel_workers");
    bool mysql = my_is_mysql(c->target);
    if (mysql ? workers && my_int(workers, 0) < 2 : threads && my_int(threads, 0) < 2)
        my_find(c, "parallel_apply_off", CO_INFO, (int)c->target_side,
                mysql ? "SET PERSIST replica_parallel_workers=4 and replica_preserve_commit_order=ON, then restart the applier."
                      : "STOP SLAVE SQL_THREAD; SET GLOBAL slave_parallel_threads=4, slave_parallel_mode='optimistic'; START "
                        "SLAVE SQL_THREAD.",
                "the target applies on one thread: if the lag grows under load, it will never catch up");
}

void my_check_replication(struct my_check *c)
{
    MY_FOLLOW_AUTO f = {0};
    if (c->source)
        check_source_role(c);
    if (!my_following(c, c->target, &f))
        return;
    check_link(c, &f);
    if (c->source && c->source->flavour == c->target->flavour) {
        check_errant(c, &f);
        check_domains(c);
    }
    check_speed(c);
}
