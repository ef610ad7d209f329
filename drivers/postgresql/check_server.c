/* check_server.c - each server by itself: accounts, settings, what runs on it. */
#include "check.h"

static const struct pg_question questions[] = {
    {"not_superuser", CO_ERROR, PG_AT_ALL, PG_OF_BOTH, 0, 0,
     "SELECT session_user WHERE current_setting('is_superuser') <> 'on'",
     "%s is not a superuser: the fence over every database, the closing of the standby and its promotion need one",
     "Use a superuser made for the tool: see `changeover init --grants`."},
    {"source_is_standby", CO_ERROR, PG_AT_ALL, PG_OF_SOURCE, 0, 0, "SELECT 'yes' WHERE pg_is_in_recovery()",
     "the source is itself a standby", "Give the primary's address."},
    {"fsync_off", CO_ERROR, PG_AT_ALL, PG_OF_BOTH, 0, 0, "SELECT 'off' WHERE current_setting('fsync') = 'off'",
     "fsync is off: a restart may lose the fence, the closure and acknowledged writes",
     "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();"},
    {"wal_level_too_low", CO_ERROR, PG_AT_ALL, PG_OF_SOURCE, 0, 0,
     "SELECT setting FROM pg_settings WHERE name = 'wal_level' AND setting = 'minimal'",
     "wal_level is %s: nothing can follow this server", "ALTER SYSTEM SET wal_level = replica; then restart the server."},
    {"no_free_walsender", CO_ERROR, PG_AT_SETUP, PG_OF_SOURCE, 0, 0,
     "SELECT count(*) || ' of ' || current_setting('max_wal_senders') FROM pg_stat_replication HAVING count(*) + 2 > "
     "current_setting('max_wal_senders')::int",
     "%s WAL senders are in use; a base backup needs two more",
     "ALTER SYSTEM SET max_wal_senders = 10; then restart the server."},
    {"no_free_slot", CO_ERROR, PG_AT_SETUP, PG_OF_SOURCE, 0, 0,
     "SELECT count(*) || ' of ' || current_setting('max_replication_slots') FROM pg_replication_slots HAVING count(*) >= "
     "current_setting('max_replication_slots')::int "
     "AND count(*) FILTER (WHERE slot_name IN ('changeover_a', 'changeover_b')) = 0",
     "%s replication slots are in use; the standby needs one",
     "ALTER SYSTEM SET max_replication_slots = 10; then restart, or drop a slot that nobody uses."},
    {"backup_running", CO_ERROR, PG_AT_CUTOVER, PG_OF_SOURCE, 0, 150000, "SELECT 'yes' WHERE pg_is_in_backup()",
     "an exclusive backup is under way on the source", "Wait for it, or SELECT pg_stop_backup()."},
    {"prepared_transactions", CO_ERROR, PG_AT_CUTOVER, PG_OF_SOURCE, 0, 0,
     "SELECT string_agg(gid || ' of ' || owner || ' in ' || database, ', ') FROM pg_prepared_xacts",
     "prepared transactions wait for their coordinator: %s. They move to the new primary, where they must be ended",
     "COMMIT PREPARED or ROLLBACK PREPARED them; or accept: [prepared_transactions] when their coordinator follows the move."},
    {"long_transactions", CO_WARNING, PG_AT_CUTOVER, PG_OF_SOURCE, 0, 0,
     "SELECT string_agg(pid || ' of ' || coalesce(usename, backend_type) || ' in ' || coalesce(datname, '-') || ' (' || "
     "coalesce(state, '') || ', ' || "
     "extract(epoch FROM clock_timestamp() - xact_start)::int || ' s)', ', ') FROM pg_stat_activity WHERE xact_start < "
     "clock_timestamp() - interval '5 s' "
     "AND pid <> pg_backend_pid() AND backend_type IN ('client backend', 'background worker')",
     "transactions are long under way and would be waited for up to drain.timeout, then ended: %s", "Let them end first."},
    {"other_standbys", CO_WARNING, PG_AT_CUTOVER, PG_OF_SOURCE, 0, 0,
     "SELECT string_agg(application_name || coalesce(' at ' || client_addr, ''), ', ') FROM pg_stat_replication WHERE "
     "application_name NOT IN ('changeover_a', 'changeover_b') "
     "AND pid NOT IN (SELECT active_pid FROM pg_replication_slots WHERE active_pid IS NOT NULL AND (slot_name ~ "
     "'^changeover_[ab]$' OR slot_type = 'logical')) "
     "AND (SELECT count(*) FROM pg_stat_replication) > 1",
     "other standbys follow the source and will not follow the new primary by themselves: %s",
     "Point their primary_conninfo at the new primary after the cutover."},
    {"inactive_slots", CO_WARNING, PG_AT_ALL, PG_OF_SOURCE, 0, 0,
     "SELECT string_agg(slot_name || ' keeps ' || pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), ', ') "
     "FROM pg_replication_slots "
     "WHERE NOT active AND restart_lsn IS NOT NULL AND NOT pg_is_in_recovery()",
     "slots that nobody uses keep log: %s", "SELECT pg_drop_replication_slot(...) for those that are not needed."},
    {"logical_slots_lost", CO_ERROR, PG_AT_CUTOVER, PG_OF_SOURCE, 0, 170000,
     "SELECT string_agg(slot_name || ' in ' || database, ', ') FROM pg_replication_slots WHERE slot_type = 'logical' AND NOT "
     "temporary",
     "logical slots don't move to the new primary: their consumers will miss changes: %s",
     "Recreate them after the cutover with new copies of their consumers, or accept: [logical_slots_lost]."},
    {"logical_slots_lost", CO_ERROR, PG_AT_CUTOVER, PG_OF_SOURCE, 170000, 0,
     "SELECT string_agg(slot_name || ' in ' || database, ', ') FROM pg_replication_slots WHERE slot_type = 'logical' AND NOT "
     "temporary AND NOT failover",
     "logical slots without failover don't move to the new primary: their consumers will miss changes: %s",
     "Make them with failover = true and set sync_replication_slots = on on the standby, or accept: [logical_slots_lost]."},
    {"failover_slots_not_synced", CO_ERROR, PG_AT_CUTOVER, PG_OF_TARGET, 170000, 0,
     "SELECT string_agg(slot_name, ', ') FROM pg_replication_slots WHERE slot_type = 'logical' AND synced AND (temporary OR "
     "invalidation_reason IS NOT NULL)",
     "failover slots are not ready on the standby: %s",
     "Wait until they are synchronised; see pg_replication_slots on the standby."},
    {"slot_lost", CO_ERROR, PG_AT_CUTOVER, PG_OF_SOURCE, 0, 0,
     "SELECT string_agg(slot_name || ' is ' || wal_status, ', ') FROM pg_replication_slots WHERE slot_name ~ "
     "'^changeover_[ab]$' AND wal_status IN ('lost', 'unreserved') "
     "AND NOT pg_is_in_recovery()",
     "the source no longer keeps the log that the standby needs: %s",
     "Raise max_slot_wal_keep_size and run `changeover setup` again."},
    {"wal_retention_limited", CO_INFO, PG_AT_ALL, PG_OF_SOURCE, 0, 0,
     "SELECT setting || ' MB' FROM pg_settings WHERE name = 'max_slot_wal_keep_size' AND setting <> '-1'",
     "the source keeps at most %s of log for a standby that is away; one that is away longer must be set up again", ""},
    {"archive_failing", CO_WARNING, PG_AT_CUTOVER, PG_OF_SOURCE, 0, 0,
     "SELECT last_failed_wal || ' at ' || last_failed_time::timestamp(0) FROM pg_stat_archiver WHERE last_failed_time > "
     "coalesce(last_archived_time, '-infinity') "
     "AND current_setting('archive_mode') <> 'off'",
     "archiving fails on the source (%s): log piles up, and a stop waits for it",
     "Mend archive_command; see the server's log."},
    {"synchronous_standby", CO_WARNING, PG_AT_CUTOVER, PG_OF_SOURCE, 0, 0,
     "SELECT setting FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting <> '' AND (SELECT count(*) FROM "
     "pg_stat_replication WHERE sync_state IN ('sync', 'quorum', 'potential')) < 2",
     "writes on the source wait for its only synchronous standby (synchronous_standby_names = %s): if that is gone after an "
     "undo, the setting is emptied so that clients don't hang",
     "Have a second synchronous standby, or empty the setting for the move."},
    {"target_waits_for_standby", CO_ERROR, PG_AT_CUTOVER, PG_OF_TARGET, 0, 0,
     "SELECT setting FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting <> '' AND NOT EXISTS (SELECT 1 FROM "
     "pg_stat_replication WHERE state = 'streaming')",
     "synchronous_standby_names is %s on the target, which has no standby: the first commit after the promotion would hang",
     "On the target: ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf();"},
    {"target_read_only_default", CO_WARNING, PG_AT_CUTOVER, PG_OF_TARGET, 0, 0,
     "SELECT 'on' WHERE EXISTS (SELECT 1 FROM pg_settings WHERE name = 'default_transaction_read_only' AND reset_val = "
     "'on')",
     "default_transaction_read_only is on on the target: clients would find it read-only after the cutover",
     "On the target: ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf();"},
    {"apply_delay", CO_ERROR, PG_AT_CUTOVER, PG_OF_TARGET, 0, 0,
     "SELECT setting || ' ms' FROM pg_settings WHERE name = 'recovery_min_apply_delay' AND setting <> '0'",
     "the standby applies everything %s late, and so would the catch-up",
     "On the target: ALTER SYSTEM RESET recovery_min_apply_delay; SELECT pg_reload_conf();"},
    {"replay_paused", CO_ERROR, PG_AT_CUTOVER, PG_OF_TARGET, 0, 0,
     "SELECT 'yes' WHERE CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END", "replay is paused on the target",
     "On the target: SELECT pg_wal_replay_resume();"},
    {"hba_error", CO_ERROR, PG_AT_ALL, PG_OF_BOTH, 0, 0,
     "SELECT string_agg('line ' || line_number || ': ' || error, '; ') FROM pg_hba_file_rules WHERE error IS NOT NULL",
     "pg_hba.conf has errors, so the server can't load it: %s", "Correct it and SELECT pg_reload_conf();"},
    {"not_in_our_database", CO_ERROR, PG_AT_CUTOVER, PG_OF_BOTH, 0, 0,
     "SELECT session_user WHERE current_database() <> '" PG_DATABASE "'",
     "%s can't connect to database " PG_DATABASE ": the database is missing or pg_hba.conf has no line for it",
     "Run `changeover setup`, and let pg_hba.conf admit the account to it."},
    {"wraparound_vacuum", CO_WARNING, PG_AT_CUTOVER, PG_OF_SOURCE, 0, 0,
     "SELECT string_agg(datname, ', ') FROM pg_database WHERE age(datfrozenxid) > "
     "current_setting('autovacuum_freeze_max_age')::bigint",
     "a vacuum against transaction id wraparound is due (%s): it runs even with autovacuum off, and would make the proof fail",
     "VACUUM these databases first."},
    {"background_workers", CO_WARNING, PG_AT_CUTOVER, PG_OF_SOURCE, 0, 0,
     "SELECT string_agg(DISTINCT backend_type, ', ') FROM pg_stat_activity WHERE backend_type NOT IN ('client backend', "
     "'walsender', 'autovacuum launcher', 'autovacuum worker', "
     "'checkpointer', 'background writer', 'walwriter', 'archiver', 'startup', 'walreceiver', 'logger', 'logical replication "
     "launcher', 'walsummarizer', 'io worker', 'slotsync worker', "
     "'parallel worker') AND backend_type NOT LIKE 'logical replication %'",
     "extensions run workers of their own, which the fence ends and keeps out: %s. A worker that ends in good order, as "
     "pg_cron's launcher does, is not started again by the server, so an undo leaves it ended",
     "Let a hook of cutover.after_undo see to them; restart the source when one is missing after an undo."},
    {"subscriptions", CO_INFO, PG_AT_CUTOVER, PG_OF_SOURCE, 0, 0,
     "SELECT string_agg(subname, ', ') FROM pg_subscription WHERE subenabled",
     "subscriptions of the source stop at the fence and go on from the new primary: %s", ""},
    {"rewind_impossible", CO_WARNING, PG_AT_ALL, PG_OF_SOURCE, 0, 0,
     "SELECT 'checksums ' || current_setting('data_checksums') || ', wal_log_hints ' || current_setting('wal_log_hints') || ', "
     "full_page_writes ' || current_setting('full_page_writes') "
     "WHERE NOT ((current_setting('data_checksums') = 'on' OR current_setting('wal_log_hints') = 'on') AND "
     "current_setting('full_page_writes') = 'on')",
     "pg_rewind can't work (%s): after a soft cutover the old primary can't follow the new one, so there is no way back "
     "without a new copy",
     "ALTER SYSTEM SET wal_log_hints = on; full_page_writes = on; then restart; or use fence: stop."},
};

enum co_result pg_check_server(struct pg_checkup *checkup)
{
    return pg_ask(checkup, questions, sizeof questions / sizeof *questions);
}
