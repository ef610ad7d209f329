/* check_side.c - the rules of the pre-flight that look at one server. */
#include "facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_TIMEOUT_S 300
#define SPARE_CLIENTS 16

static bool is(const struct rd_facts *side, const char *setting, const char *value)
{
    return strcmp(rd_facts_config(side, setting), value) == 0;
}

/* ---------------------------------------------------------------- what the server is */

/* 6.0 and 6.2: the fence takes rights from every ACL user, see rights.c. */
static void check_rights(struct co_call *call, const struct rd_facts *side)
{
    size_t users = 0;

    for (size_t at = 0; side->users && at < side->users->elements; at++)
        users += !rd_rights_is_kept(rd_text(side->users->element[at]));
    if (!side->users)
        rd_find(
            call, CO_ERROR, side, "acl_refused", "Grant the account what docs/redis.md lists.",
            "ACL LIST is refused; before 7.0 scripts write past min-replicas-to-write, so the fence takes rights from users");
    else if (users > RD_MAX_USERS)
        rd_find(call, CO_ERROR, side, "users_too_many", "Remove users that are not used.",
                "there are %zu ACL users, and a fence before 7.0 can take the rights of %d", users, RD_MAX_USERS);
    else
        rd_find(call, CO_INFO, side, "rights_taken", "",
                "before 7.0 scripts write past min-replicas-to-write: while it is closed, @write and @scripting are taken "
                "from its ACL users (clients get -NOPERM) and kept as changeover.kept.*");
}

static void check_version(struct co_call *call, const struct rd_facts *side)
{
    const struct rd_version *version = &side->state.version;
    const char *product = version->flavour == RD_VALKEY ? "Valkey" : "Redis";
    int64_t scripts = rd_facts_calls(side, "eval") + rd_facts_calls(side, "evalsha");

    if (version->compatible < 500)
        rd_find(call, CO_ERROR, side, "version_too_old", "Upgrade to 5.0 or later.",
                "%s %d.%d has no replication history that survives a promotion", product, version->major, version->minor);
    else if (rd_rights_needed(version))
        check_rights(call, side);
    else if (version->compatible < 700 && scripts > 0)
        rd_find(call, CO_ERROR, side, "scripts_pass_fence",
                "Stop the clients that use EVAL before the cutover, reset the counters (CONFIG RESETSTAT) and consent, or "
                "upgrade to 6.0 or later.",
                "before 6.0 a Lua script writes past min-replicas-to-write, and scripts were run %lld times since the server "
                "started",
                (long long)scripts);
    else if (version->compatible < 700)
        rd_find(call, CO_WARNING, side, "scripts_unfenced", "Make sure that no client uses EVAL during the cutover.",
                "before 6.0 a Lua script writes past min-replicas-to-write; none was run since the server started");
    if (version->compatible < 602)
        rd_find(call, CO_WARNING, side, "no_pause", "Expect a full copy when the old primary begins to follow.",
                "before 6.2 CLIENT PAUSE would hold back the tool too, so expiry goes on under the fence");
    if (version->compatible < 700)
        rd_find(call, CO_INFO, side, "short_marker", "Keep the journal's path short.",
                "before 7.0 a config line holds less than 1024 bytes: where a run's notes don't fit, only the machine that has "
                "the journal can end it");
}

static bool has_sentinel(const struct rd_facts *side)
{
    const redisReply *reply = side->sentinels;

    if (side->clients && strstr(side->clients, " name=sentinel-"))
        return true;
    return reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[1]->integer > 0;
}

static void check_kind(struct co_call *call, const struct rd_facts *side)
{
    if (rd_info_int(side->info, "cluster_enabled", 0) != 0 || rd_info_is(side->info, "redis_mode", "cluster"))
        rd_find(call, CO_ERROR, side, "cluster_mode", "Move the slots with the cluster's own tools.",
                "the server is part of a cluster, where REPLICAOF is not allowed and one node is not the whole service");
    if (has_sentinel(side))
        rd_find(call, CO_ERROR, side, "sentinel",
                "Remove the monitor on every Sentinel (SENTINEL REMOVE <name>) or stop them, until the cutover is confirmed. "
                "If they are "
                "stopped already, consent.",
                "Sentinel watches the server: it would revert the promotion within seconds and rewrite the config file");
    if (side->state.loading)
        rd_find(call, CO_ERROR, side, "loading", "Wait until it is done.", "the server loads its data set");
}

/* ---------------------------------------------------------------- what must be allowed */

static void check_config_file(struct co_call *call, const struct rd_facts *side)
{
    RD_MARKER(marker);

    if (!side->state.config_known || !side->config) {
        rd_find(call, CO_ERROR, side, "config_refused", "Grant the account what docs/redis.md lists.",
                "CONFIG GET is refused (renamed, or the account may not): the fence can't be set or seen");
        return;
    }
    if (!*side->state.config_file)
        rd_find(call, CO_ERROR, side, "config_file_missing", "Start the server with a config file that it may write.",
                "the server runs without a config file: a fence and a promotion would be gone after a restart");
    if (!rd_marker_parse(side->state.marker, &marker))
        rd_find(call, CO_ERROR, side, "marker_place_taken",
                "Empty it (CONFIG SET, CONFIG REWRITE): docs/redis.md says what it is for.",
                "the setting %s, where the run's marker is kept, is in use", rd_marker_setting(&side->state.version));
}

/* Valkey 8.1.1 was seen to write quotes unescaped, after which it doesn't start. */
static void check_rewrite(struct co_call *call, const struct rd_facts *side)
{
    const struct rd_version *version = &side->state.version;

    if (version->flavour != RD_VALKEY || version->major * 100 + version->minor != 801 || !side->config)
        return;
    for (size_t at = 0; at + 1 < side->config->elements; at += 2) {
        if (strpbrk(rd_text(side->config->element[at + 1]), "\"\\"))
            rd_find(
                call, CO_ERROR, side, "config_rewrite_unsafe", "Change the value so that it holds no quote and no backslash.",
                "the value of %s holds a quote or backslash, which CONFIG REWRITE of Valkey 8.1 writes unescaped: the server "
                "would not start any more",
                rd_text(side->config->element[at]));
    }
}

static void check_clients(struct co_call *call, const struct rd_facts *side)
{
    int64_t timeout = rd_facts_config_int(side, "timeout", 0), most = rd_facts_config_int(side, "maxclients", -1);
    int64_t now = rd_info_int(side->info, "connected_clients", -1);

    if (timeout > 0 && timeout < IDLE_TIMEOUT_S)
        rd_find(call, CO_ERROR, side, "idle_timeout", "CONFIG SET timeout 0 until the cutover is done.",
                "the server ends sessions that are idle for %lld s, which would cut the run's waiting connections",
                (long long)timeout);
    if (most >= 0 && now >= 0 && most - now < SPARE_CLIENTS)
        rd_find(call, CO_ERROR, side, "maxclients_reached", "Raise maxclients (CONFIG SET maxclients) or end clients.",
                "%lld of maxclients %lld are in use: a run needs about %d sessions", (long long)now, (long long)most,
                SPARE_CLIENTS);
    else if (most > 0 && now > most / 10 * 8)
        rd_find(call, CO_WARNING, side, "maxclients_near",
                "Raise maxclients: clients that reconnect at the switch come in a burst.", "%lld of maxclients %lld are in use",
                (long long)now, (long long)most);
}

/* ---------------------------------------------------------------- what a restart loses */

static void check_persistence(struct co_call *call, const struct rd_facts *side, bool source)
{
    bool aof = is(side, "appendonly", "yes"), rdb = *rd_facts_config(side, "save") != '\0';
    const char *fsync = rd_facts_config(side, "appendfsync");

    if (!side->config)
        return;
    if (!aof && !rdb)
        rd_find(call, CO_WARNING, side, "no_persistence",
                "Turn on appendonly (CONFIG SET appendonly yes) until the cutover is confirmed, and don't restart the server.",
                "nothing is written to disk: a restart loses everything%s",
                source ? ", and a replica then copies the emptiness" : "");
    else if (!aof)
        rd_find(call, CO_WARNING, side, "rdb_only", "Turn on appendonly until the cutover is confirmed.",
                "only snapshots (save %s) are written: a crash loses what was written since the last one",
                rd_facts_config(side, "save"));
    else if (strcmp(fsync, "always") != 0)
        rd_find(call, CO_INFO, side, "aof_not_synced", "",
                "appendfsync is %s: a crash of the machine (not of the server) loses %s", fsync,
                strcmp(fsync, "everysec") == 0 ? "up to two seconds of writes" : "what the system hadn't written yet");
    if (rd_info_is(side->info, "rdb_last_bgsave_status", "err"))
        rd_find(call, CO_ERROR, side, "saves_fail", "Look at its log and disk, then BGSAVE.",
                "the last snapshot failed: the server may refuse writes, and a full copy may fail");
    if (aof && rd_info_is(side->info, "aof_last_write_status", "err"))
        rd_find(call, CO_ERROR, side, "aof_fails", "Look at its log and disk.",
                "the last write to the append-only file failed");
}

static void check_memory(struct co_call *call, enum co_check_stage stage, const struct rd_facts *side, bool source)
{
    int64_t used = rd_info_int(side->info, "used_memory_rss", -1), total = rd_info_int(side->info, "total_system_memory", -1);

    if (source && stage == CO_CHECK_SETUP && used > 0 && total > 0 && used > total / 2)
        rd_find(
            call, CO_WARNING, side, "fork_memory",
            "Set up at a quiet time, and watch current_cow_peak; vm.overcommit_memory = 1.",
            "the server uses %lld of %lld MiB: the copy is made by a fork, and pages that are written meanwhile are doubled",
            (long long)(used >> 20), (long long)(total >> 20));
}

/* ---------------------------------------------------------------- roles */

static void check_source(struct co_call *call, const struct rd_facts *side)
{
    if (!side->state.primary)
        rd_find(call, CO_ERROR, side, "source_not_primary", "Name the primary as the source, or detach it from its own.",
                "the server is a replica of %s:%lld, not a primary", side->state.master_host,
                (long long)side->state.master_port);
    else if (rd_state_fenced(&side->state))
        rd_find(call, CO_ERROR, side, "source_refuses_writes",
                "CONFIG SET min-replicas-to-write 0 and CONFIG REWRITE, if nobody else did "
                "that on purpose.",
                "the server refuses all writes already (min-replicas-to-write %lld)", (long long)side->state.min_replicas);
}

static void check_target(struct co_call *call, enum co_check_stage stage, const struct rd_facts *side)
{
    int64_t own = side->state.min_replicas;

    if (stage == CO_CHECK_SETUP && side->state.primary && rd_facts_keys(side) > 0) {
        const char *replace = call->host->option(call->ctx, "setup.replace_b");

        if (!replace || strcmp(replace, "true") != 0)
            rd_find(call, CO_ERROR, side, "target_not_empty", "Set setup: {replace_b: true} when its data may be replaced.",
                    "the server holds %lld keys, which becoming a replica would destroy", (long long)rd_facts_keys(side));
    }
    if (stage == CO_CHECK_CUTOVER && side->state.primary)
        rd_find(call, CO_ERROR, side, "not_following", "Run `changeover setup`.", "the server is a primary, not a replica");
    if (!side->state.primary && side->state.config_known && !side->state.read_only)
        rd_find(call, CO_ERROR, side, "target_writable", "CONFIG SET replica-read-only yes and CONFIG REWRITE.",
                "the replica accepts client writes (replica-read-only is no): its data may differ");
    if (own > 0 && own < RD_FENCE && side->state.max_lag > 0 && side->state.replicas < own)
        rd_find(call, CO_ERROR, side, "target_min_replicas",
                "CONFIG SET min-replicas-to-write 0 on it, or attach that many replicas.",
                "its own min-replicas-to-write is %lld and it has %lld replicas: it would refuse writes as a primary",
                (long long)own, (long long)side->state.replicas);
    if (stage == CO_CHECK_CUTOVER && rd_new_apply_errors(call, side->side, &side->state) > 0)
        rd_find(call, CO_ERROR, side, "apply_errors",
                "Compare the data, or set the replica up anew; its log names the commands.",
                "the replica failed to apply %lld commands: its data differs from the primary's",
                (long long)rd_new_apply_errors(call, side->side, &side->state));
}

void rd_check_side(struct co_call *call, enum co_check_stage stage, const struct rd_facts *side, bool source)
{
    check_version(call, side);
    check_kind(call, side);
    check_config_file(call, side);
    check_rewrite(call, side);
    check_clients(call, side);
    check_persistence(call, side, source);
    check_memory(call, stage, side, source);
    if (source)
        check_source(call, side);
    else
        check_target(call, stage, side);
}
