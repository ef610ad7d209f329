/* schema.c - the table of schema.h. Each line of it is a promise to users: keys are added, never renamed. */
#include "config/schema.h"

#include <string.h>

#include "config/config.h"

#define ROOT(field) offsetof(struct co_config, field)
#define PAIR(field) offsetof(struct co_pair_config, field)
#define SIDE(field) offsetof(struct co_side_config, field)
#define ACCOUNT(field) offsetof(struct co_account_config, field)
#define HOOK(field) offsetof(struct co_hook, field)

/* clang-format off */
const struct co_schema_key co_schema[] = {
    {.scope = CO_SCHEMA_ROOT, .name = "migration", .type = CO_TYPE_NAME, .offset = ROOT(migration), .example = "shop",
     .default_text = "the file's name without its ending",
     .help = "The name of the migration: in the journal, the metrics, the prompts and the systemd unit."},
    {.scope = CO_SCHEMA_ROOT, .name = "journal", .type = CO_TYPE_PATH, .offset = ROOT(journal),
     .example = "/var/lib/changeover/shop.journal",
     .default_text = "/var/lib/changeover/<migration>.journal as root, else $XDG_STATE_HOME/changeover/<migration>.journal",
     .help = "The journal file: lock, memory for resume and audit record; on a local file system."},
    {.scope = CO_SCHEMA_ROOT, .name = "pairs", .type = CO_TYPE_PAIRS, .required = true,
     .help = "The databases that are moved together, each with its a and its b."},

    {.scope = CO_SCHEMA_PAIR, .name = "name", .type = CO_TYPE_NAME, .offset = PAIR(name), .example = "orders",
     .default_text = "the engine's name", .help = "The pair's name, for -p, output and metrics."},
    {.scope = CO_SCHEMA_PAIR, .name = "engine", .type = CO_TYPE_NAME, .offset = PAIR(engine), .example = "postgresql",
     .default_text = "the scheme of a's URL",
     .help = "The database engine; `changeover drivers` lists those that are installed."},
    {.scope = CO_SCHEMA_PAIR, .name = "a", .type = CO_TYPE_SIDE, .offset = PAIR(side[CO_SIDE_A]), .required = true,
     .help = "Where the database runs today."},
    {.scope = CO_SCHEMA_PAIR, .name = "b", .type = CO_TYPE_SIDE, .offset = PAIR(side[CO_SIDE_B]), .required = true,
     .help = "Where it will run."},
    {.scope = CO_SCHEMA_PAIR, .name = "replication", .type = CO_TYPE_ACCOUNT, .offset = PAIR(replication),
     .help = "The account with which one side replicates from the other."},
    {.scope = CO_SCHEMA_PAIR, .name = "probe", .type = CO_TYPE_ACCOUNT, .offset = PAIR(probe),
     .help = "An ordinary account for real test writes in confirm and undo; without it the tool's own account is used."},
    {.scope = CO_SCHEMA_PAIR, .name = "gate.max_seconds", .type = CO_TYPE_DURATION, .offset = PAIR(gate.max_ms),
     .default_value = "1s", .help = "The gate is open only while the proven lag is at most this."},
    {.scope = CO_SCHEMA_PAIR, .name = "gate.max_bytes", .type = CO_TYPE_BYTES, .offset = PAIR(gate.max_bytes),
     .default_text = "no limit", .example = "1MiB", .help = "The gate's limit in bytes, where the engine can say."},
    {.scope = CO_SCHEMA_PAIR, .name = "gate.max_transactions", .type = CO_TYPE_INT64, .offset = PAIR(gate.max_transactions),
     .default_text = "no limit", .example = "1000", .help = "The gate's limit in transactions, where the engine can say."},
    {.scope = CO_SCHEMA_PAIR, .name = "gate.stable_for", .type = CO_TYPE_DURATION0, .offset = PAIR(gate.stable_for_ms),
     .default_value = "10s", .help = "For how long the lag must have been within the limits before a cutover begins."},
    {.scope = CO_SCHEMA_PAIR, .name = "gate.critical_seconds", .type = CO_TYPE_DURATION, .offset = PAIR(gate.critical_ms),
     .default_text = "none", .example = "60", .help = "Where `lag --format nagios` says CRITICAL."},
    {.scope = CO_SCHEMA_PAIR, .name = "max_write_pause", .type = CO_TYPE_DURATION, .offset = PAIR(max_write_pause_ms),
     .default_text = "that of cutover", .example = "2s",
     .help = "A tighter limit for this pair: the cutover of the whole group is undone when it isn't committed by then."},
    {.scope = CO_SCHEMA_PAIR, .name = "drain.timeout", .type = CO_TYPE_DURATION0, .offset = PAIR(drain.timeout_ms),
     .default_value = "500ms", .help = "How long writes in flight get to end by themselves behind the fence."},
    {.scope = CO_SCHEMA_PAIR, .name = "drain.on_timeout", .type = CO_TYPE_SWITCH, .offset = PAIR(drain.refuse),
     .values = "end|refuse", .default_value = "end",
     .help = "What then happens to them: they are ended, or the cutover is undone."},
    {.scope = CO_SCHEMA_PAIR, .name = "accept", .type = CO_TYPE_CODES, .offset = PAIR(accept), .default_text = "nothing",
     .example = "[collation_differs]", .help = "Codes of findings of `check` to which you consent."},

    {.scope = CO_SCHEMA_SIDE, .name = "url", .type = CO_TYPE_URL, .required = true,
     .example = "postgresql://changeover@10.0.0.1:5432/postgres",
     .help = "How the tool reaches this side; a password in it is accepted only from a file that nobody else can read."},
    {.scope = CO_SCHEMA_SIDE, .name = "password_file", .type = CO_TYPE_PATH, .offset = SIDE(password_file),
     .default_text = "none", .example = "/etc/changeover/orders",
     .help = "A file whose first line is the password, readable by its owner alone."},
    {.scope = CO_SCHEMA_SIDE, .name = "password_env", .type = CO_TYPE_TEXT, .offset = SIDE(password_env),
     .default_text = "none", .example = "ORDERS_PASSWORD", .help = "The environment variable that holds the password."},
    {.scope = CO_SCHEMA_SIDE, .name = "peer.address", .type = CO_TYPE_ADDRESS, .default_text = "from url",
     .example = "db2.internal:5432", .help = "How the other side's server reaches this one."},
    {.scope = CO_SCHEMA_SIDE, .name = "tls.mode", .type = CO_TYPE_CHOICE, .offset = SIDE(endpoint.tls.mode),
     .values = "off|require|verify", .example = "verify", .default_text = "verify; off for sockets and loopback unless another tls key is set",
     .help = "Whether the connection is encrypted (require) and the server's certificate checked (verify)."},
    {.scope = CO_SCHEMA_SIDE, .name = "tls.ca", .type = CO_TYPE_PATH, .offset = SIDE(endpoint.tls.ca),
     .default_text = "the system's", .example = "/etc/ssl/db-ca.pem",
     .help = "The certificates of the authorities that are trusted."},
    {.scope = CO_SCHEMA_SIDE, .name = "tls.cert", .type = CO_TYPE_PATH, .offset = SIDE(endpoint.tls.cert),
     .default_text = "none", .example = "/etc/changeover/client.pem", .help = "The client certificate."},
    {.scope = CO_SCHEMA_SIDE, .name = "tls.key", .type = CO_TYPE_PATH, .offset = SIDE(endpoint.tls.key),
     .default_text = "none", .example = "/etc/changeover/client.key", .help = "The client certificate's key."},
    {.scope = CO_SCHEMA_SIDE, .name = "tls.server_name", .type = CO_TYPE_TEXT, .offset = SIDE(endpoint.tls.server_name),
     .default_text = "the address in url", .example = "db1.internal",
     .help = "The name that the server's certificate must hold."},
    {.scope = CO_SCHEMA_SIDE, .name = "host.run", .type = CO_TYPE_PREFIX, .offset = SIDE(host_run),
     .default_text = "none: nothing is run there", .example = "[ssh, -o, BatchMode=yes, postgres@10.0.0.2]",
     .help = "The words put before a command to run it on this side's machine; [] is this machine."},

    {.scope = CO_SCHEMA_ACCOUNT, .name = "user", .type = CO_TYPE_TEXT, .offset = ACCOUNT(user), .required = true,
     .example = "replicator", .help = "The account's name."},
    {.scope = CO_SCHEMA_ACCOUNT, .name = "password_file", .type = CO_TYPE_PATH, .offset = ACCOUNT(password_file),
     .default_text = "none", .example = "/etc/changeover/replicator",
     .help = "A file whose first line is the password, readable by its owner alone."},
    {.scope = CO_SCHEMA_ACCOUNT, .name = "password_env", .type = CO_TYPE_TEXT, .offset = ACCOUNT(password_env),
     .default_text = "none", .example = "REPLICATOR_PASSWORD", .help = "The environment variable that holds the password."},

    {.scope = CO_SCHEMA_ROOT, .name = "cutover.max_write_pause", .type = CO_TYPE_DURATION,
     .offset = ROOT(cutover.max_write_pause_ms), .default_text = "5s; 60s with open: after_switch", .example = "5s",
     .help = "A cutover that has not committed within this time is undone."},
    {.scope = CO_SCHEMA_ROOT, .name = "cutover.undo_budget", .type = CO_TYPE_DURATION, .offset = ROOT(cutover.undo_budget_ms),
     .default_value = "10s", .help = "How long an undo may take until A is in service again."},
    {.scope = CO_SCHEMA_ROOT, .name = "cutover.reverse_patience", .type = CO_TYPE_DURATION,
     .offset = ROOT(cutover.reverse_patience_ms), .default_value = "60s",
     .help = "How long an error may last that keeps A from following B after the cutover; then the run ends (exit 6)."},
    {.scope = CO_SCHEMA_ROOT, .name = "cutover.open", .type = CO_TYPE_SWITCH, .offset = ROOT(cutover.open_after_switch),
     .values = "before_switch|after_switch", .default_value = "before_switch",
     .help = "Whether B takes writes before the switch hooks run, or only after them."},
    {.scope = CO_SCHEMA_ROOT, .name = "cutover.partial", .type = CO_TYPE_BOOL, .offset = ROOT(cutover.partial),
     .default_value = "false", .help = "Whether -p may cut over a part of the pairs."},
    {.scope = CO_SCHEMA_ROOT, .name = "cutover.freeze", .type = CO_TYPE_HOOKS, .offset = ROOT(cutover.freeze),
     .default_text = "[]", .help = "Hooks that run before the fence."},
    {.scope = CO_SCHEMA_ROOT, .name = "cutover.switch", .type = CO_TYPE_HOOKS, .offset = ROOT(cutover.hooks_switch),
     .default_text = "[]", .help = "Hooks that move the traffic; {side} becomes a or b."},
    {.scope = CO_SCHEMA_ROOT, .name = "cutover.confirm", .type = CO_TYPE_HOOKS, .offset = ROOT(cutover.confirm),
     .default_text = "[]", .help = "Hooks that check the service after the switch."},
    {.scope = CO_SCHEMA_ROOT, .name = "cutover.unfreeze", .type = CO_TYPE_HOOKS, .offset = ROOT(cutover.unfreeze),
     .default_text = "[]", .help = "Hooks that end what freeze began."},
    {.scope = CO_SCHEMA_ROOT, .name = "cutover.after_undo", .type = CO_TYPE_HOOKS, .offset = ROOT(cutover.after_undo),
     .default_text = "[]", .help = "Hooks that run after an undo."},

    {.scope = CO_SCHEMA_HOOK, .name = "run", .type = CO_TYPE_ARGV, .offset = HOOK(run),
     .example = "[/usr/local/bin/point-traffic-at, \"{side}\"]", .help = "A command, without a shell, run where the tool runs."},
    {.scope = CO_SCHEMA_HOOK, .name = "timeout", .type = CO_TYPE_DURATION, .offset = HOOK(timeout_ms), .default_text = "30s",
     .help = "When the command is killed and counts as failed."},
    {.scope = CO_SCHEMA_HOOK, .name = "retries", .type = CO_TYPE_COUNT, .offset = HOOK(retries), .default_value = "0",
     .help = "How often a failed hook is tried again; hooks must bear it."},
    {.scope = CO_SCHEMA_HOOK, .name = "http.url", .type = CO_TYPE_HTTP_URL, .offset = HOOK(http_url),
     .example = "https://shop.example.com/healthz", .help = "In place of run: a URL to ask."},
    {.scope = CO_SCHEMA_HOOK, .name = "http.expect", .type = CO_TYPE_COUNT, .offset = HOOK(http_expect), .default_value = "200",
     .help = "The status that it must answer."},
    {.scope = CO_SCHEMA_HOOK, .name = "http.within", .type = CO_TYPE_DURATION, .offset = HOOK(timeout_ms),
     .default_text = "30s", .help = "How long it is asked until it does."},
};
/* clang-format on */
const size_t co_schema_count = sizeof co_schema / sizeof co_schema[0];

const struct co_schema_key *co_schema_find(enum co_schema_scope scope, const char *name)
{
    for (size_t i = 0; i < co_schema_count; i++)
        if (co_schema[i].scope == scope && strcmp(co_schema[i].name, name) == 0)
            return &co_schema[i];
    return NULL;
}

bool co_schema_is_section(enum co_schema_scope scope, const char *name)
{
    size_t bytes = strlen(name);
    for (size_t i = 0; i < co_schema_count; i++)
        if (co_schema[i].scope == scope && strncmp(co_schema[i].name, name, bytes) == 0 && co_schema[i].name[bytes] == '.')
            return true;
    return false;
}

const char *co_schema_type_text(const struct co_schema_key *key, struct co_text *scratch)
{
    switch (key->type) {
    case CO_TYPE_NAME:
        return "a name of letters, digits, \".\", \"_\" and \"-\"";
    case CO_TYPE_TEXT:
        return "a text";
    case CO_TYPE_PATH:
        return "a path";
    case CO_TYPE_URL:
        return "a URL such as postgresql://user@host:5432/database";
    case CO_TYPE_ADDRESS:
        return "an address such as db2.internal:5432";
    case CO_TYPE_HTTP_URL:
        return "a URL that begins with http:// or https://";
    case CO_TYPE_BOOL:
        return "true or false";
    case CO_TYPE_CHOICE:
    case CO_TYPE_SWITCH:
        co_text_clear(scratch);
        for (const char *at = key->values; *at; at++)
            co_text_add(scratch, *at == '|' ? " or " : "%c", *at);
        return co_text_str(scratch);
    case CO_TYPE_COUNT:
    case CO_TYPE_INT64:
        return "a whole number";
    case CO_TYPE_DURATION:
    case CO_TYPE_DURATION0:
        return "a duration such as 500ms, 10s or 2m";
    case CO_TYPE_BYTES:
        return "a size such as 64KiB or 1MiB";
    case CO_TYPE_ARGV:
    case CO_TYPE_PREFIX:
        return "a list of words such as [command, \"argument\"]";
    case CO_TYPE_CODES:
        return "a list of finding codes such as [collation_differs]";
    case CO_TYPE_SIDE:
        return "a section with at least url";
    case CO_TYPE_ACCOUNT:
        return "a section with at least user";
    case CO_TYPE_HOOKS:
        return "a list of hooks such as [{run: [command]}]";
    case CO_TYPE_PAIRS:
        return "a list of pairs, each with a and b";
    }
    return "?";
}

/* Edit distance where a swap of neighbours counts once; words longer than 40 bytes are never near. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    size_t a_bytes = strlen(a), b_bytes = strlen(b);
    size_t rows[3][LONGEST + 1];
    if (a_bytes > LONGEST || b_bytes > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= b_bytes; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_bytes; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *swap = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best)
                best = before[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && swap[j - 2] + 1 < best)
                best = swap[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[a_bytes % 3][b_bytes];
}

const char *co_nearest(const char *word, const char *const *candidates, size_t count)
{
    const char *nearest = NULL;
    size_t best = strlen(word) <= 4 ? 2 : 3; /* farther away than this is no misspelling */
    for (size_t i = 0; i < count; i++) {
        size_t away = distance(word, candidates[i]);
        if (away < best) {
            best = away;
            nearest = candidates[i];
        }
    }
    return nearest;
}
