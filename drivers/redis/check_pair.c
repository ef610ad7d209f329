/* check_pair.c - the rules of the pre-flight that compare the two servers. */
#include "facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SKEW_US 1000000
#define OUTAGE_S 60 /* how long a replica may be cut off and still catch up from the backlog */

/* ---------------------------------------------------------------- versions */

static const char *product(const struct rd_facts *side)
{
    return side->state.version.flavour == RD_VALKEY ? "Valkey" : "Redis";
}

static void check_versions(struct co_call *call, enum co_check_stage stage, const struct rd_facts *a, const struct rd_facts *b)
{
    const struct rd_version *from = &a->state.version, *to = &b->state.version;
    /* A rollback to the older side: it follows already, by the stream of commands, and needs no data file. */
    bool follows = stage == CO_CHECK_CUTOVER && b->state.link_up && strcmp(a->state.replid, b->state.replid) == 0;
    enum co_severity severity = follows ? CO_WARNING : CO_ERROR;

    if (strcmp(a->state.run_id, b->state.run_id) == 0)
        rd_find(call, CO_ERROR, NULL, "same_server", "Correct the urls.", "a and b lead to the same server process");
    if (!rd_version_can_load(from, to))
        rd_find(call, severity, NULL, "rdb_version", "Use a target of the same kind and the same or a later version.",
                "%s %d.%d writes data files of version %d, which %s %d.%d can't load", product(a), from->major, from->minor,
                from->rdb, product(b), to->major, to->minor);
    else if (to->compatible < from->compatible)
        rd_find(call, severity, NULL, "version_older", "Use a target of the same or a later version.",
                "%s %d.%d is older than the source's %s %d.%d: it may not know commands that are replicated to it", product(b),
                to->major, to->minor, product(a), from->major, from->minor);
    else if (!rd_version_can_load(to, from) || to->compatible > from->compatible)
        rd_find(call, CO_WARNING, NULL, "way_back_version",
                "Plan to go back soon, if at all; after that the old primary may need a copy that it can't load.",
                "the way back leads from %s %d.%d to the older %s %d.%d: it works while a partial resync does and no newer "
                "command is used",
                product(b), to->major, to->minor, product(a), from->major, from->minor);
}

static void check_clocks(struct co_call *call, const struct rd_facts *a, const struct rd_facts *b)
{
    int64_t apart, slack;

    if (a->clock_us < 0 || b->clock_us < 0)
        return;
    /* both brought to the middle of their round trips on our clock */
    apart = (b->clock_us - a->clock_us) - ((b->asked_ns + b->answered_ns) / 2 - (a->asked_ns + a->answered_ns) / 2) / 1000;
    slack = ((a->answered_ns - a->asked_ns) + (b->answered_ns - b->asked_ns)) / 2000;
    if (apart < 0)
        apart = -apart;
    if (apart > SKEW_US + slack)
        rd_find(call, CO_ERROR, NULL, "clock_skew", "Synchronise both clocks (chrony, systemd-timesyncd).",
                "the clocks are %lld.%03lld s apart: keys expire by the clock of the server they are on",
                (long long)(apart / 1000000), (long long)(apart / 1000 % 1000));
}

/* ---------------------------------------------------------------- what replication doesn't carry */

/* The name in one element of MODULE LIST: a flat list of keys and values. */
static const char *module_name(const redisReply *module)
{
    for (size_t at = 0; module->type == REDIS_REPLY_ARRAY && at + 1 < module->elements; at += 2) {
        if (strcmp(rd_text(module->element[at]), "name") == 0)
            return rd_text(module->element[at + 1]);
    }
    return "";
}

static bool has_module(const struct rd_facts *side, const char *name)
{
    for (size_t at = 0; side->modules && at < side->modules->elements; at++) {
        if (strcmp(module_name(side->modules->element[at]), name) == 0)
            return true;
    }
    return false;
}

static void check_modules(struct co_call *call, const struct rd_facts *a, const struct rd_facts *b)
{
    for (size_t at = 0; a->modules && at < a->modules->elements; at++) {
        const char *name = module_name(a->modules->element[at]);

        if (!has_module(b, name))
            rd_find(call, CO_ERROR, b, "module_missing", "Load the module on it.",
                    "the source has the module %s loaded, the target hasn't: it can't load or apply the module's data", name);
    }
}

/* "user <name> on ...": the line for one name, or NULL. */
static const char *user_line(const struct rd_facts *side, const char *name, size_t bytes)
{
    for (size_t at = 0; side->users && at < side->users->elements; at++) {
        const char *line = rd_text(side->users->element[at]);

        if (strncmp(line, "user ", 5) == 0 && strncmp(line + 5, name, bytes) == 0 && line[5 + bytes] == ' ')
            return line;
    }
    return NULL;
}

static void check_users(struct co_call *call, const struct rd_facts *a, const struct rd_facts *b)
{
    if (!a->users && a->state.version.compatible >= 600)
        rd_find(call, CO_WARNING, a, "users_not_seen", "Allow ACL LIST for the account, or compare the users by hand.",
                "the ACL users can't be listed; replication doesn't carry them");
    for (size_t at = 0; a->users && b->users && at < a->users->elements; at++) {
        const char *line = rd_text(a->users->element[at]), *name, *theirs;
        size_t bytes;

        if (strncmp(line, "user ", 5) != 0 || rd_rights_is_kept(line))
            continue;
        name = line + 5;
        bytes = strcspn(name, " ");
        theirs = user_line(b, name, bytes);
        if (!theirs)
            rd_find(call, strncmp(name + bytes, " off ", 5) == 0 ? CO_INFO : CO_ERROR, b, "user_missing",
                    "Create it (ACL SETUSER with the rules that ACL LIST shows on the source) and save it.",
                    "the ACL user %.*s exists on the source only: its clients couldn't log in", (int)bytes, name);
        else if (strcmp(theirs, line) != 0 && !rd_rights_are_kept_for(a->state.users, name, bytes) &&
                 !rd_rights_are_kept_for(b->state.users, name, bytes)) /* a closed side's aren't its own */
            rd_find(call, CO_WARNING, b, "user_differs", "Compare ACL GETUSER on both.",
                    "the ACL user %.*s has other rules or another password than on the source", (int)bytes, name);
    }
    if (a->config && b->config && strcmp(rd_facts_config(a, "requirepass"), rd_facts_config(b, "requirepass")) != 0)
        rd_find(call, CO_WARNING, b, "password_differs", "Set the same requirepass, if the same clients will use it.",
                "the default user's password (requirepass) differs from the source's");
}

static void check_scripts(struct co_call *call, const struct rd_facts *a)
{
    int64_t scripts = rd_info_int(a->info, "number_of_cached_scripts", 0);

    if (scripts > 0)
        rd_find(call, CO_INFO, a, "scripts_not_copied",
                "Clients must answer NOSCRIPT with EVAL or SCRIPT LOAD, as their libraries do.",
                "%lld cached scripts don't replicate: EVALSHA gets NOSCRIPT on the target at first (functions do replicate)",
                (long long)scripts);
}

static void check_settings(struct co_call *call, const struct rd_facts *a, const struct rd_facts *b)
{
    static const char *const names[] = {"notify-keyspace-events",
                                        "maxmemory-policy",
                                        "appendonly",
                                        "appendfsync",
                                        "save",
                                        "lazyfree-lazy-user-del",
                                        "activedefrag",
                                        "timeout",
                                        "maxclients",
                                        "hz",
                                        "client-output-buffer-limit",
                                        "proto-max-bulk-len",
                                        "acl-pubsub-default",
                                        "enable-debug-command",
                                        "tracking-table-max-keys",
                                        "busy-reply-threshold"};
    int64_t ours = rd_facts_config_int(a, "databases", 16), theirs = rd_facts_config_int(b, "databases", 16);
    int64_t limit = rd_facts_config_int(b, "maxmemory", 0), used = rd_info_int(a->info, "used_memory", 0);

    if (!a->config || !b->config)
        return;
    if (theirs < ours)
        rd_find(call, CO_ERROR, b, "databases_fewer", "Set databases to the source's number in its config file and restart it.",
                "it has %lld databases, the source %lld: keys of the others would land in database 0, or the copy would end "
                "the server",
                (long long)theirs, (long long)ours);
    if (limit > 0 && limit < used + used / 10)
        rd_find(call, CO_ERROR, b, "maxmemory_too_small", "Raise maxmemory on it.",
                "its maxmemory (%lld MiB) is below what the source uses (%lld MiB) and some room: a replica ignores it, a "
                "primary evicts",
                (long long)(limit >> 20), (long long)(used >> 20));
    else if (limit > 0 && limit != rd_facts_config_int(a, "maxmemory", 0))
        rd_find(call, CO_INFO, b, "maxmemory_differs", "", "its maxmemory differs from the source's");
    for (size_t at = 0; at < sizeof(names) / sizeof(*names); at++) {
        const char *here = rd_facts_config(a, names[at]), *there = rd_facts_config(b, names[at]);

        if (strcmp(here, there) != 0)
            rd_find(call, CO_WARNING, b, "setting_differs",
                    "Set it as on the source (CONFIG SET, CONFIG REWRITE), unless it is meant.",
                    "%s is \"%s\", on the source \"%s\"; settings don't replicate", names[at], there, here);
    }
}

/* ---------------------------------------------------------------- replication */

/* "normal 0 0 0 slave 268435456 67108864 60 pubsub ...": the hard limit for replicas; 0: none. */
static int64_t replica_buffer(const struct rd_facts *side)
{
    const char *text = rd_facts_config(side, "client-output-buffer-limit"), *at = strstr(text, "slave ");
    int64_t limit = 0;

    if (!at)
        at = strstr(text, "replica ");
    if (!at)
        return 0;
    at = strchr(at, ' ') + 1;
    return rd_parse_int(at, strcspn(at, " "), &limit) ? limit : 0;
}

static void check_buffers(struct co_call *call, enum co_check_stage stage, const struct rd_facts *a, const struct rd_facts *b)
{
    const char *value;
    size_t bytes;
    int64_t rate = 0, backlog = rd_facts_config_int(a, "repl-backlog-size", 0), buffer = replica_buffer(a);

    /* what the source writes, in kB/s over the last moments: to its replicas where it has one, else all that comes in */
    if (rd_info_get(a->info, a->state.replicas > 0 ? "instantaneous_output_repl_kbps" : "instantaneous_input_kbps", &value,
                    &bytes))
        (void)rd_parse_int(value, strcspn(value, ".\r\n"), &rate);
    rate *= 1024;
    if (rate > 0 && backlog > 0 && backlog < rate * OUTAGE_S)
        rd_find(call, CO_WARNING, a, "backlog_small",
                "CONFIG SET repl-backlog-size to what is written in some minutes, and CONFIG REWRITE.",
                "repl-backlog-size is %lld KiB and about %lld KiB are written a second: a replica that is cut off for %lld s "
                "needs a full copy",
                (long long)(backlog >> 10), (long long)(rate >> 10), (long long)(backlog / rate));
    if (stage == CO_CHECK_SETUP && rate > 0 && buffer > 0 && buffer < rate * OUTAGE_S * 2)
        rd_find(call, CO_WARNING, a, "replica_buffer_small",
                "CONFIG SET client-output-buffer-limit \"replica <bytes> <bytes> 60\" above what is written while the copy is "
                "made and loaded.",
                "the output buffer for replicas (%lld MiB) fills in %lld s at the present rate: a copy that takes longer "
                "starts over",
                (long long)(buffer >> 20), (long long)(buffer / rate));
    if (stage == CO_CHECK_CUTOVER && rd_facts_config_int(b, "repl-backlog-size", 0) < backlog)
        rd_find(call, CO_WARNING, b, "backlog_smaller", "CONFIG SET repl-backlog-size as on the source, and CONFIG REWRITE.",
                "its repl-backlog-size is smaller than the source's: after the cutover the old primary may need a full copy "
                "sooner");
}

static void check_login(struct co_call *call, enum co_check_stage stage, const struct rd_facts *from, const struct rd_facts *to,
                        bool way_back)
{
    const char *user, *password, *needed = rd_facts_config(to, "requirepass"), *has = rd_facts_config(from, "masterauth");

    if (!from->config || !to->config)
        return;
    if (*has) {
        if (stage == CO_CHECK_CUTOVER && !*rd_facts_config(from, "masteruser") && *needed && strcmp(has, needed) != 0)
            rd_find(call, CO_ERROR, from, "masterauth_wrong",
                    "CONFIG SET masterauth to the other side's password, and CONFIG REWRITE.",
                    "its masterauth isn't the other side's requirepass%s",
                    way_back ? ": it couldn't follow after the cutover" : "");
        return;
    }
    if (*needed && (stage == CO_CHECK_CUTOVER || !rd_replication_login(call, from->side, &user, &password)))
        rd_find(call, CO_ERROR, from, "masterauth_missing",
                "Configure replication: {user, password_file} and run `changeover setup`, or CONFIG SET masterauth and CONFIG "
                "REWRITE.",
                "the other side asks for a password and this one has no masterauth%s",
                way_back ? ": it couldn't follow after the cutover" : "");
}

static void check_tls(struct co_call *call, const struct rd_facts *from, const struct rd_facts *to)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, to->side);
    int64_t port = endpoint->peer_port > 0 ? endpoint->peer_port : endpoint->port > 0 ? endpoint->port : 6379;
    bool tls = strcmp(rd_facts_config(from, "tls-replication"), "yes") == 0;
    int64_t plain_port = rd_facts_config_int(to, "port", 0), tls_port = rd_facts_config_int(to, "tls-port", 0);

    if (port == tls_port && port != plain_port && !tls)
        rd_find(call, CO_ERROR, from, "tls_replication",
                "CONFIG SET tls-replication yes (with tls-ca-cert-file and, if asked for, a "
                "certificate) and CONFIG REWRITE, or give the plain port as peer.",
                "the other side's port %lld speaks TLS, and this one would follow without it (tls-replication is no)",
                (long long)port);
    if (port == plain_port && port != tls_port && tls)
        rd_find(call, CO_ERROR, from, "tls_replication",
                "Give the other side's tls-port as its peer, or CONFIG SET tls-replication no.",
                "this one would follow over TLS (tls-replication is yes), and the other side's port %lld doesn't speak it",
                (long long)port);
}

static void check_address(struct co_call *call, const struct rd_facts *to)
{
    const char *host;
    char port[16];
    struct co_error kept = *call->err;

    if (!rd_peer(call, to->side, &host, port))
        rd_find(call, CO_ERROR, to, "peer_unknown", call->err->hint, "%s", call->err->message);
    *call->err = kept;
}

static void check_replicas(struct co_call *call, const struct rd_facts *a, const struct rd_facts *b)
{
    int64_t others = a->state.replicas - (b->state.primary ? 0 : 1);

    if (others > 0)
        rd_find(call, CO_INFO, a, "other_replicas", "Point them at the new primary (REPLICAOF) when the cutover is confirmed.",
                "%lld other replicas follow the source; after the cutover they go on through it", (long long)others);
}

void rd_check_pair(struct co_call *call, enum co_check_stage stage, const struct rd_facts *source,
                   const struct rd_facts *target)
{
    check_versions(call, stage, source, target);
    check_clocks(call, source, target);
    check_modules(call, source, target);
    check_users(call, source, target);
    check_scripts(call, source);
    check_settings(call, source, target);
    check_buffers(call, stage, source, target);
    check_login(call, stage, target, source, false);
    check_login(call, stage, source, target, true);
    check_tls(call, target, source);
    check_tls(call, source, target);
    check_address(call, source);
    check_address(call, target);
    check_replicas(call, source, target);
}
