/* changeover/driver.h - the contract between the core and a database driver.
 *
 * This header is all that a driver sees of the core and all that the core knows of an engine. A driver
 * is a shared module, `changeover-<name>.so`, that exports one symbol, co_driver_entry(). It supplies
 * primitives: single, bounded acts on one server. It never loops until something happens, never sleeps,
 * never prints, never decides. Repeating, waiting, ordering, undoing and recording are the core's.
 *
 * Words
 *   pair      one database service with its two sides, `a` and `b` as the config names them.
 *   role      source: the side that is the primary when a run begins. target: the side that becomes it.
 *             `cutover` runs from a to b, `rollback` from b to a, through the same primitives. Primitives
 *             speak of roles; only addresses and secrets belong to a and b.
 *   fence     the source refuses client writes: outlives reconnects, restarts and the death of the tool.
 *   closure   the same strength on the target, set on the target itself, never carried by replication.
 *   marker    the run's durable mark on a server. Its token is the run's fencing token.
 *
 * Results. Every call that talks to a server ends in one of four ways (enum co_result). A call never goes
 * past call->deadline_ns; when the deadline passes after something was sent that may change the server, the
 * result is CO_EFFECT_UNKNOWN, and the core looks (probe) before it does anything else.
 *
 * The token rule. Whatever changes who may write (fence, closure, promote, open, their reverts, reverse,
 * detach) checks in the same transaction or round trip that the server's marker holds call->run->token, and
 * fails with CO_NO_EFFECT and CO_E_CONFLICT when it doesn't. So a process that was frozen and whose run was
 * taken over can't do anything more to a server.
 *
 * The instance rule. connect() reports what it reached (identify); the core compares it with what was
 * recorded for that side and refuses a name that now leads elsewhere.
 *
 * Threads. A connection is used by one thread at a time. Different connections are used by different
 * threads at once; the driver keeps no mutable globals (co_driver_entry() may initialise a library once).
 *
 * Ownership. Strings that the core hands out live until the call returns, configuration strings until the
 * driver is unloaded. Nothing allocated on one side of this boundary is freed on the other: a driver gives
 * results back through host functions, which copy.
 *
 * Units are in the names: _ns nanoseconds on CLOCK_MONOTONIC, _ms milliseconds, _bytes bytes. -1 in a count
 * or size means unknown.
 *
 * Versions. CO_DRIVER_ABI changes when something here changes its meaning. Structs grow at the end only;
 * `size` says how much of one the other side knows, and a member beyond it counts as absent (NULL, 0).
 */
#ifndef CHANGEOVER_DRIVER_H
#define CHANGEOVER_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CO_DRIVER_ABI 1u

/* ---------------------------------------------------------------- results and errors */

enum co_result {
    CO_DONE = 0,          /* it is so now */
    CO_AGAIN = 1,         /* nothing is wrong, it isn't finished: call again (progress was reported) */
    CO_NO_EFFECT = 2,     /* failed; whatever the call was to change is as it was before */
    CO_EFFECT_UNKNOWN = 3 /* failed; the server may or may not have done it, now or later */
};

/* What went wrong, in kinds that the core treats differently. */
enum co_error_code {
    CO_E_NONE = 0,
    CO_E_INTERNAL = -1,     /* a bug: the call's own preconditions don't hold */
    CO_E_NOMEM = -2,        /* out of memory, or a buffer's maximum was reached */
    CO_E_CONFIG = -3,       /* the configuration can't be right */
    CO_E_UNREACHABLE = -4,  /* no connection, or it was lost */
    CO_E_AUTH = -5,         /* login refused */
    CO_E_PRIVILEGE = -6,    /* the account lacks a right */
    CO_E_TIMEOUT = -7,      /* the deadline passed */
    CO_E_INTERRUPTED = -8,  /* the core asked the call to end */
    CO_E_REFUSED = -9,      /* the server refuses writes: read-only, fenced, closed */
    CO_E_STATE = -10,       /* the server isn't in the state that the call needs */
    CO_E_MISMATCH = -11,    /* another instance, lineage or incarnation than recorded */
    CO_E_CONFLICT = -12,    /* the marker isn't what was expected: another run, or taken over */
    CO_E_BROKEN = -13,      /* replication doesn't run */
    CO_E_UNSUPPORTED = -14, /* this server or version can't do it */
    CO_E_DATA = -15,        /* data would be lost, or has diverged */
    CO_E_IO = -16,          /* a local file or process failed */
    CO_E_SPACE = -17,       /* no disk space */
    CO_E_COMMAND = -18,     /* a command that was run failed */
    CO_E_SERVER = -19       /* any other error the server reported */
};

/* Caller-owned. Messages: lower case, no full stop, what failed and with which value; hints are sentences
 * that say what to do. Never a secret: the core masks known secrets once more when it takes the error. */
struct co_error {
    int code;        /* enum co_error_code */
    char native[32]; /* the server's own code (SQLSTATE, errno, ...), or "" */
    char message[640];
    char hint[512];
};

/* ---------------------------------------------------------------- sides and runs */

enum co_side { CO_SIDE_A = 0, CO_SIDE_B = 1, CO_SIDE_LOCAL = 2 /* commands only: where the tool runs */ };

enum co_run_role { CO_SOURCE = 0, CO_TARGET = 1 };

/* What a server is right now. */
enum co_server_role {
    CO_ROLE_UNKNOWN = 0,
    CO_ROLE_PRIMARY = 1,  /* a primary, open or fenced or closed */
    CO_ROLE_FOLLOWER = 2, /* applies another server's changes */
    CO_ROLE_OTHER = 3     /* neither: starting, recovering, an initial copy under way */
};

enum co_tristate { CO_UNKNOWN = -1, CO_NO = 0, CO_YES = 1 };

/* The phases of a run, in the order of the table in src/cutover/table.c; names as in the JSON output.
 * SETUP, DETACH and UNDO group steps that belong to no phase of a cutover. */
enum co_phase {
    CO_PHASE_LOCK = 1,
    CO_PHASE_CHECK,
    CO_PHASE_GATE,
    CO_PHASE_WARM_UP,
    CO_PHASE_FENCE,
    CO_PHASE_DRAIN,
    CO_PHASE_CAPTURE,
    CO_PHASE_CATCH_UP,
    CO_PHASE_PROVE,
    CO_PHASE_REVERSE_PREPARE,
    CO_PHASE_PROMOTE,
    CO_PHASE_COMMIT,
    CO_PHASE_OPEN,
    CO_PHASE_SWITCH,
    CO_PHASE_CONFIRM,
    CO_PHASE_REVERSE,
    CO_PHASE_SETUP,
    CO_PHASE_DETACH,
    CO_PHASE_UNDO
};

/* A run as a driver sees it. */
struct co_run {
    uint32_t size;
    const char *id;           /* unique, [0-9a-z-], at most 40 characters */
    const char *token;        /* "<id>:<epoch>": what the marker on both servers must hold for this process to act;
                                 the epoch grows when a guardian, a resume or a take-over takes the run */
    const char *actor;        /* this process in the run, unique, at most 24 characters: "tool-1", "guardian-2", ... */
    const char *session_name; /* "changeover:<id>:<actor>": how connections of the run name themselves
                             (application_name, CLIENT SETNAME, connection attribute, appName) */
    enum co_side source;      /* the side that is the source */
};

/* ---------------------------------------------------------------- configuration as a driver sees it */

enum co_tls_mode { CO_TLS_OFF = 0, CO_TLS_REQUIRE = 1, CO_TLS_VERIFY = 2 };

struct co_tls {
    enum co_tls_mode mode;   /* defaults already applied: off for sockets and loopback, else verify */
    const char *ca;          /* path or NULL: the system's */
    const char *cert, *key;  /* client certificate and key paths, or NULL */
    const char *server_name; /* name to verify and for SNI, or NULL: the address */
};

/* One side's endpoint. All strings NULL where not given. The password is never here: see host->secret. */
struct co_endpoint_config {
    uint32_t size;
    const char *url;    /* as in the config without its password */
    const char *scheme; /* "postgresql", "redis", "rediss", ... */
    const char *user;
    const char *address;      /* host name, IP address (no brackets) or the absolute path of a socket (folder) */
    int port;                 /* 0: the engine's default */
    const char *database;     /* the path of the URL without its slash */
    const char *peer_address; /* how the other side's server reaches this one; default: address */
    int peer_port;
    struct co_tls tls;
    bool has_host; /* `host.run` is configured: commands can be run on this side's machine */
};

enum co_option_type { CO_OPT_STRING, CO_OPT_BOOL, CO_OPT_INT, CO_OPT_BYTES, CO_OPT_DURATION_MS, CO_OPT_ENUM, CO_OPT_ARGV };
enum co_option_scope { CO_OPT_PAIR, CO_OPT_SIDE };

/* A config key of the driver's own. The core checks the config against these tables, generates the
 * reference from them, and refuses unknown keys. `name` is a path: "mode", "setup.method" (pair);
 * "host.data_directory" (side). */
struct co_option {
    const char *name;
    enum co_option_scope scope;
    enum co_option_type type;
    const char *values;        /* CO_OPT_ENUM: "physical|logical" */
    const char *default_value; /* in config syntax, or NULL: none */
    const char *help;          /* one sentence */
};

enum co_secret {
    CO_SECRET_PASSWORD,    /* the tool's account on that side */
    CO_SECRET_REPLICATION, /* the replication account (both sides share it) */
    CO_SECRET_PROBE        /* the ordinary account for real writes */
};

/* ---------------------------------------------------------------- what the host offers */

struct co_text; /* a string owned by the core; starts empty, at most 4 MiB */

enum co_severity { CO_INFO = 0, CO_WARNING = 1, CO_ERROR = 2 };

/* What check() reports of a side that it was given no connection to, where the stage needs that side: the core puts in why it
 * wasn't met. Where nothing is reported it may be down, as a target whose data directory setup makes. */
#define CO_FINDING_UNREACHABLE "unreachable"

struct co_finding {
    const char *code; /* stable, [a-z0-9_], e.g. "wal_level_too_low"; what `accept:` names */
    enum co_severity severity;
    int side;            /* enum co_side, or -1: the pair */
    const char *message; /* what is wrong and why it matters */
    const char *remedy;  /* what to do: the statement or setting; "" for information */
};

struct co_progress {
    const char *what;    /* "base backup", "waiting for 2 sessions: 4711 (idle in transaction, 12 s)" */
    int64_t done, total; /* -1 unknown */
    const char *unit;    /* "bytes", "rows", "transactions", ... */
};

/* A command line. argv[0] is looked up in PATH there. Any bytes but NUL are safe in a word, also through
 * ssh. No secret belongs in argv: give it on standard input. */
struct co_command {
    uint32_t size;
    enum co_side side;       /* whose machine; CO_SIDE_LOCAL: where the tool runs */
    const char *const *argv; /* NULL-terminated */
    const void *input;       /* standard input, or NULL */
    size_t input_bytes;
};

enum co_note_scope {
    CO_NOTE_RUN, /* of this run: originals to put back, what was captured. Written to the journal and carried
                    in the marker, so that a take-over from another machine has them too. */
    CO_NOTE_PAIR /* of the migration: what setup created and detach must remove */
};

/* Host functions; the first argument is always call->ctx. Valid only during the call and on its thread,
 * but for interrupted_fd. */
struct co_host {
    uint32_t size;

    /* results */
    void (*text_set)(void *ctx, struct co_text *text, const char *data, size_t bytes);
    void (*text_add)(void *ctx, struct co_text *text, const char *format, ...) __attribute__((format(printf, 3, 4)));
    /* settings(), identify(): one named value. group: "setting", "size", "version", "count". */
    void (*fact)(void *ctx, const char *group, const char *name, const char *value);
    /* discover(): something of ours that exists on this side. kind: "marker", "fence", "closure", "slot",
     * "user", "database", "membership", "replication", "file". `run` is the run id it names, or NULL. */
    void (*found)(void *ctx, const char *kind, const char *name, const char *run);
    void (*finding)(void *ctx, const struct co_finding *finding);
    void (*progress)(void *ctx, const struct co_progress *progress);

    /* memory across calls, processes and machines; values at most 64 KiB of UTF-8 text; never a secret.
     * get returns NULL when absent; the string lives until the call ends. put(NULL) removes. Notes belong to
     * the pair and to call->role's side unless `side` names one. During the write pause put costs no fsync. */
    const char *(*note_get)(void *ctx, enum co_note_scope scope, enum co_side side, const char *key);
    int (*note_put)(void *ctx, enum co_note_scope scope, enum co_side side, const char *key, const char *value);

    /* configuration */
    const struct co_endpoint_config *(*endpoint)(void *ctx, enum co_side side);
    const char *(*option)(void *ctx, const char *name);                         /* pair scope; default applied */
    const char *(*side_option)(void *ctx, enum co_side side, const char *name); /* side scope; default applied */
    const char *const *(*argv_option)(void *ctx, int side, const char *name);   /* CO_OPT_ARGV; side -1: pair; NULL: not set */
    const char *(*url_param)(void *ctx, enum co_side side, const char *name);   /* ?name=value of the URL */
    const char *(*secret_user)(void *ctx, enum co_secret which);                /* replication, probe: the account */
    const char *(*secret)(void *ctx, enum co_side side, enum co_secret which);  /* NULL: not configured; never copy it */
    bool (*accepted)(void *ctx, const char *finding_code);                      /* named in `accept:` */

    /* time and waiting */
    int64_t (*now_ns)(void *ctx);
    /* Waits until fd is ready for `events` (POLLIN, POLLOUT), the deadline passes or the call is interrupted.
     * Returns the ready events, 0 at the deadline, -1 interrupted. fd -1 is allowed only by the fake driver. */
    int (*wait_fd)(void *ctx, int fd, short events, int64_t deadline_ns);
    /* A descriptor that becomes readable when the call is interrupted, for libraries with a loop of their own. */
    int (*interrupted_fd)(void *ctx);

    /* logging (debug only; masked) and faults. fault() returns CO_DONE, or what the injected fault wants the
     * driver to answer at that point. Points are named "<driver>.<what>" and listed in the driver's table. */
    void (*trace)(void *ctx, const char *format, ...) __attribute__((format(printf, 2, 3)));
    enum co_result (*fault)(void *ctx, const char *point);
    /* Registers a string that must never be shown (a generated password, a derived key). */
    void (*mask)(void *ctx, const char *secret);

    /* commands on a side's machine, in a process group of their own, killed (group and all) at the deadline.
     * ret_status: exit status, or 128 + signal. Output is capped at 1 MiB each. CO_NO_EFFECT: not started.
     * CO_EFFECT_UNKNOWN: started, not seen to end. CO_DONE: it ended, whatever its status. */
    enum co_result (*run)(void *ctx, const struct co_command *command, int64_t deadline_ns, int *ret_status,
                          struct co_text *out, struct co_text *err_out, struct co_error *err);
    /* from's standard output into to's standard input; progress in bytes is shown; both statuses returned. */
    enum co_result (*pipe)(void *ctx, const struct co_command *from, const struct co_command *to, const char *what,
                           int64_t total_bytes, int64_t deadline_ns, int *ret_from, int *ret_to, struct co_text *err_out,
                           struct co_error *err);

    /* hashing for digests: XXH3 128 bit, hex into ret[33] */
    void (*hash)(void *ctx, const void *data, size_t bytes, char *ret);

    /* One HTTP request (libcurl): method, url, NULL-terminated headers, body or NULL. TLS as in the side's
     * config. CO_DONE: a status was read. */
    enum co_result (*http)(void *ctx, enum co_side side, const char *method, const char *url, const char *const *headers,
                           const void *body, size_t body_bytes, int64_t deadline_ns, int *ret_status, struct co_text *ret_body,
                           struct co_error *err);

    /* Texts of the driver's own, to take what run, pipe and http give back. A text lives until the call ends; NULL:
     * no memory. text_get: its bytes, NUL-terminated, until it is next changed; ret_bytes may be NULL. */
    struct co_text *(*text_new)(void *ctx);
    const char *(*text_get)(void *ctx, const struct co_text *text, size_t *ret_bytes);

    /* pipe(), and `tick` about once a second while data flow, on the call's thread: there the driver may use the call's
     * connections, briefly, and report the progress itself (`done_bytes` so far); the host reports none. */
    enum co_result (*pipe_ticking)(void *ctx, const struct co_command *from, const struct co_command *to,
                                   void (*tick)(void *arg, int64_t done_bytes), void *arg, int64_t deadline_ns, int *ret_from,
                                   int *ret_to, struct co_text *err_out, struct co_error *err);

    /* For a fence that waits for what is being written: how many milliseconds that gets to end by itself
     * (drain.timeout), and whether it is then to be ended (drain.on_timeout). */
    int64_t (*drain_patience_ms)(void *ctx, bool *ret_end);

    /* A sentence for the record of the run, where what happened is no error and lasts longer than progress: how the old
     * primary came to follow, say. Outside a run nothing is kept. */
    void (*remark)(void *ctx, const char *text);
};

/* ---------------------------------------------------------------- the call */

struct co_conn; /* a driver's connection to one side; defined by the driver */

/* What every primitive gets. */
struct co_call {
    uint32_t size;
    const struct co_host *host;
    void *ctx;                /* first argument of every host function */
    enum co_side side;        /* the side the call acts on */
    enum co_run_role role;    /* its role in the run or, outside a run, in replication (a: source unless rolled over) */
    struct co_conn *conn;     /* connection to that side; NULL only for connect() and where said */
    struct co_conn *other;    /* connection to the other side where said, else NULL; may be NULL when unreachable */
    const struct co_run *run; /* NULL outside a run */
    int64_t deadline_ns;      /* the call returns before this, whatever the server does */
    struct co_error *err;     /* filled when the result is neither CO_DONE nor CO_AGAIN */
};

/* ---------------------------------------------------------------- look */

/* What runs at the other end. Texts are the core's; the driver fills them with text_set. */
struct co_identity {
    uint32_t size;
    struct co_text *product;     /* "PostgreSQL", "MariaDB", "Valkey" */
    struct co_text *version;     /* "15.20", as people say it */
    struct co_text *instance;    /* tells two running servers apart, also when one is a copy of the other; the
                                    same after a restart, a promotion and a new address */
    struct co_text *lineage;     /* shared by copies: system identifier, replica set id, ...; "" when the server
                                    is empty and could still get one */
    struct co_text *incarnation; /* changes with every start of the server process */
    enum co_server_role role;
    enum co_tristate accepts_writes; /* of ordinary clients, right now */
    enum co_tristate fenced;         /* a fence or closure of ours is complete */
    enum co_tristate empty;          /* holds no user data */
    int64_t data_bytes;
};

struct co_capabilities {
    uint32_t size;
    bool promote_closed;      /* can be a primary that accepts no client writes: can vote */
    bool restart_proof;       /* fence and closure survive a restart of the server */
    bool rounds;              /* replicates in rounds (round()) instead of continuously */
    bool reverse;             /* a follows b after the cutover; false: "no way back" is shown everywhere */
    bool scope_database;      /* several pairs may share one instance: fences and follows one database alone */
    bool destroys_on_reverse; /* reverse may rewrite the old primary (pg_rewind, full resync) */
    bool undo_keeps_target;   /* after an undone promotion the target can follow again without a new copy */
    bool fence_stops;         /* the fence stops the source: from then on until its fence is reverted or reverse has
                                 started it, drain, capture, proof and marker_* on the source are called with call->conn
                                 NULL and work through host commands */
    bool marker_offline;      /* reverse stops and starts the source, an undo the target: once the new primary was opened,
                                 marker_* of a source, and in an undo or a setup of a target, that doesn't answer are called
                                 with call->conn NULL and work through host commands. marker_set succeeds then only where no
                                 server runs */
};

enum co_check_stage { CO_CHECK_SETUP = 1, CO_CHECK_CUTOVER = 2 };

/* ---------------------------------------------------------------- follow */

enum co_order {
    CO_ORDER_BEHIND = -1,
    CO_ORDER_EQUAL = 0,
    CO_ORDER_AHEAD = 1,
    CO_ORDER_DIVERGED = 2, /* neither contains the other, or another history */
    CO_ORDER_UNKNOWN = 3   /* not comparable: malformed, or a part the server can't compare */
};

struct co_distance {
    uint32_t size;
    int64_t bytes;        /* -1: this engine can't say */
    int64_t transactions; /* -1: this engine can't say */
};

enum co_link_state { CO_LINK_RUNNING = 1, CO_LINK_BROKEN = 2, CO_LINK_UNKNOWN = 3, CO_LINK_NONE = 4 /* not set up */ };

struct co_link {
    uint32_t size;
    enum co_link_state state;
    struct co_text *reason; /* why it isn't running, with the server's own error */
    int64_t silent_ms;      /* since the last sign of life of the other end; -1 unknown */
    int64_t piled_up_bytes; /* log that the source keeps for its follower; -1 unknown */
    struct co_text *faster; /* what would make this follower apply faster, as a sentence, for when it is too slow; or left "" */
};

/* ---------------------------------------------------------------- steps: whatever changes a server */

enum co_presence {
    CO_ABSENT = 0,
    CO_PRESENT = 1,
    CO_PARTIAL = 2 /* some of it: apply completes it, revert removes it */
};

enum co_step_flags {
    CO_STEP_NO_WAY_BACK = 1 << 0, /* revert may be NULL: nothing to take back, or nothing that could be */
    CO_STEP_SLOW = 1 << 1,        /* may take minutes; reports progress */
    CO_STEP_KEEPS = 1 << 2,       /* an undo leaves it in place (a database of our own, a slot made by setup) */
    CO_STEP_BOTH = 1 << 3,        /* call->other is needed */
    CO_STEP_OFFLINE = 1 << 4,     /* also called while the side can't be reached: then call->conn is NULL and the step
                                     works through host commands, or answers CO_AGAIN until the server is back */
    CO_STEP_LONG = 1 << 5,        /* of SETUP: one call may take hours. It ends by itself or when it is interrupted; what it
                                     asks a server meanwhile has limits of its own */
    CO_STEP_OTHER = 1 << 6        /* call->other is wanted; NULL where the other side can't be reached */
};

/* A step is a triple of probe, apply and revert. All are bounded by the deadline; CO_AGAIN asks to be called
 * again. The core records the intent durably before the first apply, and repeats only what is idempotent. */
struct co_step {
    uint32_t size;
    const char *name;  /* "<phase>.<what>", unique in the driver, stable: in plans, journal and fault points */
    const char *title; /* for people, without a full stop: "refuse connections to every database" */
    enum co_phase phase;
    enum co_run_role role; /* the side it acts on */
    unsigned flags;

    /* NULL: always. False leaves the step out of this pair's plan (mode, version, configuration). */
    bool (*wanted)(struct co_call *call);
    /* The exact statements or commands, one a line, secrets as <password>; values known only later named as
     * <position of the dump>. Read-only. call->conn may be NULL: then name what would depend on the server. */
    enum co_result (*describe)(struct co_call *call, struct co_text *ret);
    /* Read-only; answered by the server, not by notes. */
    enum co_result (*probe)(struct co_call *call, enum co_presence *ret);
    /* Idempotent. Obeys the token rule. Originals were noted in warm_up (prepare), never here. */
    enum co_result (*apply)(struct co_call *call);
    /* Idempotent; harmless when the step was never applied. Obeys the token rule. */
    enum co_result (*revert)(struct co_call *call);
};

/* ---------------------------------------------------------------- the driver */

enum co_conn_purpose {
    CO_CONN_MAIN,   /* phases and measuring */
    CO_CONN_SECOND, /* opened beforehand, for undo and probes while the first one may be stuck */
};

struct co_engine {
    const char *name;    /* the config's `engine:` */
    const char *schemes; /* URL schemes, "postgresql|postgres" */
    int default_port;
};

struct co_driver {
    uint32_t size;
    uint32_t abi;        /* CO_DRIVER_ABI */
    const char *name;    /* the module: "postgresql" */
    const char *version; /* of the module */
    const char *library; /* the client library and its run-time version: "libpq 15.10" */
    const struct co_engine *engines;
    size_t engine_count;
    const struct co_option *options;
    size_t option_count;
    const struct co_step *steps; /* in the order they are applied within a phase; reverted backwards */
    size_t step_count;
    const char *const *fault_points; /* NULL-terminated, or NULL */

    /* ------------ required ------------ */

    /* Connects and logs in, within the deadline. The session names itself run->session_name (outside a run
     * "changeover"), has the server's idle timers and statement timers off for itself, and waits for no
     * standby when it commits. A connection in a run must survive until the run ends. */
    enum co_result (*connect)(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret);
    void (*disconnect)(struct co_conn *conn); /* never blocks; takes NULL */
    /* True while the connection can be used; after an error that broke it false, and the core reconnects. */
    bool (*alive)(struct co_conn *conn);

    enum co_result (*identify)(struct co_call *call, struct co_identity *ret);
    enum co_result (*capabilities)(struct co_call *call, struct co_capabilities *ret);
    enum co_result (*settings)(struct co_call *call); /* facts for the audit and to compare after an undo */
    enum co_result (*discover)(struct co_call *call); /* found(): everything of ours on this side */
    /* Pre-flight for the pair; both connections, either may be NULL (what can't be seen is said in a finding). */
    enum co_result (*check)(struct co_call *call, enum co_check_stage stage);

    /* The primary's position now. Side effects on an idle server: none. */
    enum co_result (*position)(struct co_call *call, struct co_text *ret);
    /* What the follower has applied (not received). */
    enum co_result (*applied)(struct co_call *call, struct co_text *ret);
    /* `have` seen from `want`: AHEAD or EQUAL means that everything up to `want` is contained. No server. */
    enum co_order (*compare)(const char *have, const char *want);
    void (*distance)(const char *have, const char *want, struct co_distance *ret);
    /* Whether the follower follows; called on the target's connection with the source's in `other`
     * (NULL when the source can't be reached: then never RUNNING unless the follower itself can prove it). */
    enum co_result (*link)(struct co_call *call, struct co_link *ret);

    /* The marker: one short token and an info text (JSON of the core's, at most 256 KiB), durable on this
     * server alone. get: "" when there is none. set: compare-and-set; expected NULL: must be absent; token
     * NULL: remove. CO_NO_EFFECT with CO_E_CONFLICT when the present token differs. With expected equal to
     * token only the info changes. On a follower it is kept where replication doesn't carry or overwrite it. Where a
     * server has no room for all of the info, its notes may be left out: they come last, from `,"notes":` on, and `}`
     * then closes the text. No other machine can take the run over then, but it is told whose it is. */
    enum co_result (*marker_get)(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info);
    enum co_result (*marker_set)(struct co_call *call, const char *expected, const char *token, const char *info);

    /* Phase warm_up, on each connection of the run: everything slow that can be done beforehand (prepared
     * statements, caches, checkpoints), and originals into notes (CO_NOTE_RUN). Changes nothing that a client
     * could notice; what does is a step of CO_PHASE_WARM_UP. */
    enum co_result (*prepare)(struct co_call *call);

    /* After the fence, on the source: are writes in flight or queued? CO_DONE: none, seen by the server.
     * CO_AGAIN: some; `remaining` names them. With `end` it ends them first (asynchronously). */
    enum co_result (*drain)(struct co_call *call, bool end, struct co_text *remaining);
    /* The final position, read on the source after it has seen in the same call that the fence holds; notes
     * what proof() compares (incarnation, next transaction, ...). */
    enum co_result (*capture)(struct co_call *call, struct co_text *ret);
    /* Source: no client can have written since capture(position), same incarnation, still fenced.
     * Target: still closed, no client session, same lineage, no apply errors, position applied; after the
     * promotion: promoted and still closed. CO_NO_EFFECT with the reason when it can't be proven. */
    enum co_result (*proof)(struct co_call *call, const char *position);

    /* Ends every session of this run on this server but those of run->actor (keep_actor when not NULL: also
     * that one), whatever they execute. CO_DONE only when they are seen gone. */
    enum co_result (*end_sessions)(struct co_call *call, const char *keep_actor);
    /* A real write of the ordinary account (`probe`; without one the tool's own account, with nothing that
     * bypasses the fence), over a connection of its own, waiting for what a client's write waits for.
     * CO_DONE: acknowledged. CO_NO_EFFECT with CO_E_REFUSED (or CO_E_AUTH, CO_E_UNREACHABLE when logins are
     * what is refused): refused. Leaves nothing behind that a client would see but its own table or key. */
    enum co_result (*probe_write)(struct co_call *call);

    /* ------------ optional ------------ */

    /* Waits on the server until the follower has applied `position`, or the deadline. */
    enum co_result (*wait_applied)(struct co_call *call, const char *position);
    /* One bounded transfer of engines that replicate in rounds; both connections. */
    enum co_result (*round)(struct co_call *call);
    /* A digest of one range of the data at rest: `range` opaque, "" lists the ranges one a line. */
    enum co_result (*digest)(struct co_call *call, const char *range, struct co_text *ret);
    /* Wakes a call on this connection from another thread; for libraries that can't poll interrupted_fd. */
    void (*interrupt)(struct co_conn *conn);
    /* Statements that create the tool's accounts with least privilege on that side, for `init` and docs. */
    enum co_result (*grants)(struct co_call *call, struct co_text *ret);
};

/* The one exported symbol. Returns a static struct; called once per process. */
const struct co_driver *co_driver_entry(void);

#ifdef __cplusplus
}
#endif

#endif
