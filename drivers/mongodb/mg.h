/* mg.h - what the files of the MongoDB driver share: one connection to one member of a replica set, commands and
 * replies, what a member says of itself, and the primitives by file. Nothing here is seen outside the module.
 *
 * Invariant: each connection reaches exactly one member (directConnection=true); no command is ever answered by
 * another member than the one it was meant for, and nothing is ever retried by the library.
 */
#ifndef MG_H
#define MG_H

#include <mongoc/mongoc.h>

#include "changeover/driver.h"
#include "optime.h"

#define MG_MARKER_DB "local" /* not replicated, kept by an initial sync, writable on secondaries too */
#define MG_MARKER_COLLECTION "changeover"
#define MG_PROBE_DB "changeover"
#define MG_REPLY_MARGIN_MS 50

/* Codes of src/mongo/base/error_codes.yml */
enum mg_code {
    MG_UNAUTHORIZED = 13,
    MG_AUTHENTICATION_FAILED = 18,
    MG_LOCK_TIMEOUT = 24,
    MG_MAX_TIME_EXPIRED = 50,
    MG_COMMAND_NOT_FOUND = 59,
    MG_WRITE_CONCERN_FAILED = 64,
    MG_SHUTDOWN_IN_PROGRESS = 91,
    MG_INVALID_CONFIG = 93,
    MG_NOT_YET_INITIALIZED = 94,
    MG_NEW_CONFIG_INCOMPATIBLE = 103,
    MG_NOT_SECONDARY = 95,
    MG_CONFIG_IN_PROGRESS = 109,
    MG_CONFLICTING_OPERATION = 117,
    MG_COMMAND_FAILED = 125,
    MG_PRIMARY_STEPPED_DOWN = 189,
    MG_EXCEEDED_TIME_LIMIT = 262,
    MG_CONFIG_NOT_COMMITTED = 308,
    MG_NOT_PRIMARY = 10107,
    MG_DUPLICATE_KEY = 11000,
    MG_INTERRUPTED_AT_SHUTDOWN = 11600,
    MG_INTERRUPTED_STEP_DOWN = 11602,
    MG_NOT_PRIMARY_OR_SECONDARY = 13436,
    MG_USER_WRITES_BLOCKED = 371,
};

struct co_conn {
    mongoc_client_t *client;
    bool broken;
    bool anonymous;              /* a member that isn't initialised has no accounts yet: only `hello` is answered */
    bool timed_out, interrupted; /* why the last wait ended */
    int interrupt_fd;
    int64_t deadline_ns; /* of the call under way */
    const struct co_endpoint_config *endpoint;
    struct co_conn *probe; /* opened beforehand for probe_write */
    bool old_wire;         /* before 4.2 */
    int64_t nudged_ns;     /* when a note was last put into the oplog for a member that looks for a sync source */
    /* What can't change while the connection lives: the process, its version and settings, the set it is in. */
    bool known;
    int major, minor;
    int fcv_major; /* of the set's feature compatibility version; 0: not asked yet */
    bool auth;
    const char *shard_role;
    char version[64], set_id[25], started[160];
    int64_t stood_ns; /* when the member was last asked to stand for election */
    bson_t *config;   /* the set's config as warm_up left it, so that nobody has to ask in the pause; or NULL */
    /* The last look at the marker by a call on this connection, and whether at that of the other side; see mg_guard. */
    int64_t guarded_ns;
    bool guarded_other;
};

#define MG_DOC(name) __attribute__((cleanup(bson_destroy))) bson_t name = BSON_INITIALIZER
#define MG_REPLY(name) MG_DOC(name)
void mg_free_text(char **text);
#define MG_TEXT __attribute__((cleanup(mg_free_text))) char *

/* ---------------------------------------------------------------- stream.c */

int64_t mg_now_ns(void);
mongoc_stream_t *mg_stream_open(const mongoc_uri_t *uri, const mongoc_host_list_t *host, void *conn, bson_error_t *error);

/* ---------------------------------------------------------------- conn.c */

enum co_result mg_connect(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret);
void mg_disconnect(struct co_conn *conn);
bool mg_alive(struct co_conn *conn);
/* A connection of the ordinary account, or of the tool's where there is none. */
/* What the server says to everybody: 7 is 4.0, 8 is 4.2, 13 is 5.0, 17 is 6.0 (wire_version.h). */
int64_t mg_wire_version(struct co_conn *conn, int64_t otherwise);
enum co_result mg_open_as(struct co_call *call, const char *user, const char *password, struct co_conn **ret);
/* One command. `reply` is an initialised document; it is replaced. `changes`: a lost reply, and an error of the
 * write concern, is CO_EFFECT_UNKNOWN. Other errors of the server are CO_NO_EFFECT. *ret_code (may be NULL): its code. */
enum co_result mg_command(struct co_call *call, struct co_conn *conn, const char *db, const bson_t *command, bool changes,
                          bson_t *reply, int *ret_code);
enum co_result mg_fail(struct co_call *call, enum co_result result, int code, const char *hint, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* What a command that waits for a majority answers also when it has done its work and only the waiting failed. */
bool mg_may_have_worked(int code);
/* Adds maxTimeMS: what is left of the deadline. */
void mg_add_max_time(struct co_call *call, bson_t *command);
/* Values by path ("optimes.appliedOpTime.t"); whatever numeric type the server chose. */
int64_t mg_int(const bson_t *doc, const char *path, int64_t otherwise);
bool mg_flag(const bson_t *doc, const char *path);
const char *mg_str(const bson_t *doc, const char *path);       /* "" when absent; points into doc */
bool mg_sub(const bson_t *doc, const char *path, bson_t *ret); /* a document or array, not copied */
char *mg_dup(const char *text);

/* ---------------------------------------------------------------- state.c */

struct mg_state {
    bool primary; /* and accepts writes, drained */
    bool secondary;
    int my_state; /* replSetGetStatus.myState; -1 unknown */
    bool member;  /* has a replica set config */
    bool sharded, standalone;
    char *set, *me, *set_id, *incarnation, *version;
    const char *shard_role; /* "shardsvr", "configsvr"; "" */
    int major, minor;
    int fcv_major; /* what the set's members agree to use; the server's own version where that can't be seen */
    struct mg_optime applied;
    bool blocked;          /* setUserWriteBlockMode is in force, durable and replicated */
    bool auth;             /* access control is on */
    bson_t status, config; /* replSetGetStatus; the config document itself */
};
void mg_state_done(struct mg_state *state);
#define MG_STATE(name)                                                                                                         \
    __attribute__((cleanup(mg_state_done))) struct mg_state name = {                                                           \
        .my_state = -1, .shard_role = "", .status = BSON_INITIALIZER, .config = BSON_INITIALIZER}
/* Of a member that is initialised: SELF is all but the set's config; ROLE is all. */
enum mg_depth { MG_LOOK_HELLO, MG_LOOK_SELF, MG_LOOK_ROLE };
enum co_result mg_look(struct co_call *call, struct co_conn *conn, enum mg_depth depth, struct mg_state *ret);
bool mg_can_vote(const struct mg_state *state);
bool mg_conn_can_vote(const struct co_conn *conn); /* as far as the connection knows it from an earlier look */
/* Bytes of the databases but the server's own; -1 unknown. */
int64_t mg_data_bytes(struct co_call *call, struct co_conn *conn);
enum co_result mg_blocked(struct co_call *call, struct co_conn *conn, bool *ret);
/* The set's feature compatibility version, as a text such as "6.0"; "" where it can't be seen. */
#define MG_FEATURE_VERSION_BYTES 24
enum co_result mg_feature_version(struct co_call *call, struct co_conn *conn, char ret[MG_FEATURE_VERSION_BYTES],
                                  int *ret_code);

/* ---------------------------------------------------------------- config.c */

enum mg_member_state {
    MG_PRIMARY = 1,
    MG_SECONDARY = 2,
    MG_ARBITER = 7,
    MG_REMOVED = 10
}; /* manual: "Replica Set Member States" */

struct mg_member {
    int index; /* -1: not in the config */
    int64_t id, votes;
    double priority;
};
struct mg_change {
    const char *host;
    int64_t votes; /* -1: remove the member; a member that isn't there is added */
    double priority;
};
/* How the members' own config names a side: its `peer` address. `ret` [320] */
void mg_member_name(struct co_call *call, enum co_side side, char *ret, size_t bytes);
void mg_member_of(const bson_t *doc, int index, struct mg_member *ret);
void mg_find_member(const bson_t *config, const char *name, struct mg_member *ret);
int64_t mg_voters(const bson_t *config, const char *without);
int64_t mg_healthy_voters(const struct mg_state *state, const char *without);
bool mg_status_of(const struct mg_state *state, const char *name, bson_t *ret); /* its entry in replSetGetStatus.members */
bool mg_config_settled(const struct mg_state *state);                           /* a majority has it, as this member hears */
bool mg_config_older(const bson_t *config, const bson_t *than);
enum co_result mg_config(struct co_call *call, struct co_conn *conn, bson_t *ret);
/* A copy of `config` with version + 1 and these members changed; everything else stays, also what this version of the
 * driver doesn't know. */
void mg_config_with(const bson_t *config, const struct mg_change *changes, size_t count, bson_t *ret);
/* Reads the config again, changes it if needed and sends it, to a primary (force: to anybody). The version makes it a
 * compare-and-set. Not forced it is done when a majority has it; until then CO_AGAIN. */
enum co_result mg_reconfig(struct co_call *call, struct co_conn *conn, const struct mg_change *changes, size_t count,
                           bool force);
enum co_result mg_reconfig_one(struct co_call *call, struct co_conn *conn, const char *host, int64_t votes, double priority,
                               bool force);
/* settings.heartbeatIntervalMillis: as it is, and changed. */
int64_t mg_heartbeat_ms(const bson_t *config);
enum co_result mg_reconfig_heartbeats(struct co_call *call, struct co_conn *conn, int64_t interval_ms);
/* The same on the config that `conn` remembers: no look before, none after where one member alone decides. The server refuses
 * it when that isn't its config any more; then, and where none is remembered, as mg_reconfig_one. */
enum co_result mg_reconfig_known(struct co_call *call, struct co_conn *conn, const char *host, int64_t votes, double priority);
void mg_remember_config(struct co_conn *conn, const bson_t *config);
/* Over the documents of an array: begin, then each. */
bool mg_each(const bson_t *doc, const char *array, bson_iter_t *ret);
bool mg_next(bson_iter_t *array, bson_t *ret);
double mg_double(const bson_t *doc, const char *path, double otherwise);

/* ---------------------------------------------------------------- elect.c */

#define MG_NOTE_OTHERS "others" /* run note of side a: "host votes priority" a line: who could be elected, too */

bool mg_votes(struct co_call *call); /* can this pair be promoted closed? */
void mg_name_of(struct co_call *call, bool mine, char ret[320]);
void mg_original(struct co_call *call, enum co_side side, int64_t *ret_votes, double *ret_priority);
bool mg_reachable(struct co_call *call, struct co_conn *conn, struct mg_state *ret);
enum co_result mg_simple(struct co_call *call, struct co_conn *conn, bson_t *command, int *ret_code);
/* Asks a member to stand, at most once in 100 ms: CO_AGAIN, also when it lost the election. */
enum co_result mg_step_up(struct co_call *call, struct co_conn *conn);
/* CO_DONE: the source is the primary. CO_AGAIN: on the way. */
enum co_result mg_make_source_primary(struct co_call *call);
/* After the commit only: the target is the primary (again), without the source's vote where that one is gone. */
enum co_result mg_make_target_primary(struct co_call *call);
/* The same, one question where it still is the primary. */
enum co_result mg_still_primary(struct co_call *call);
enum co_result mg_elect_describe(struct co_call *call, struct co_text *ret);
enum co_result mg_elect_probe(struct co_call *call, enum co_presence *ret);
enum co_result mg_elect_apply(struct co_call *call);
enum co_result mg_elect_revert(struct co_call *call);

/* ---------------------------------------------------------------- fence.c */

/* Lifts the write block; where there is none, that is no error. */
enum co_result mg_unblock(struct co_call *call, struct co_conn *conn);
enum co_result mg_fence_describe(struct co_call *call, struct co_text *ret);
enum co_result mg_fence_probe(struct co_call *call, enum co_presence *ret);
enum co_result mg_fence_apply(struct co_call *call);
enum co_result mg_fence_revert(struct co_call *call);

/* ---------------------------------------------------------------- heartbeat.c */

enum co_result mg_note_heartbeats(struct co_call *call, const bson_t *config);
bool mg_beats_fast(struct co_call *call, const bson_t *config); /* has the run changed the interval? */
bool mg_beat_wanted(struct co_call *call);
enum co_result mg_beat_describe(struct co_call *call, struct co_text *ret);
enum co_result mg_beat_probe(struct co_call *call, enum co_presence *ret);
enum co_result mg_beat_apply(struct co_call *call);
enum co_result mg_beat_revert(struct co_call *call);
/* After the cutover: the interval as before. */
enum co_result mg_calm_describe(struct co_call *call, struct co_text *ret);
enum co_result mg_calm_probe(struct co_call *call, enum co_presence *ret);
enum co_result mg_calm_apply(struct co_call *call);

/* ---------------------------------------------------------------- state.c */

enum co_side mg_other_side(enum co_side side);
enum co_result mg_identify(struct co_call *call, struct co_identity *ret);
enum co_result mg_capabilities(struct co_call *call, struct co_capabilities *ret);
enum co_result mg_settings(struct co_call *call);
enum co_result mg_discover(struct co_call *call);

/* ---------------------------------------------------------------- position.c */

/* "<replica set id>/<term>/<seconds>.<increment>" */
char *mg_position_text(const struct mg_state *state); /* NULL: no memory */
enum co_result mg_position(struct co_call *call, struct co_text *ret);
enum co_result mg_applied(struct co_call *call, struct co_text *ret);
enum co_result mg_link(struct co_call *call, struct co_link *ret);

/* ---------------------------------------------------------------- marker.c, run.c, check.c, steps.c */

enum co_result mg_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info);
enum co_result mg_marker_set(struct co_call *call, const char *expected, const char *token, const char *info);
/* The token rule: the marker of `conn`'s server holds the run's token. No command of the server can check that in the
 * same round trip; docs/mongodb.md says what stands in for it. */
enum co_result mg_guard(struct co_call *call, struct co_conn *conn);
/* Once more, right before a command that changes who may write is sent: a process that was frozen since its look looks
 * again. Costs a round trip only when time has passed. */
enum co_result mg_guard_again(struct co_call *call);
enum co_result mg_end_sessions(struct co_call *call, const char *keep_actor);
enum co_result mg_prepare(struct co_call *call);
enum co_result mg_drain(struct co_call *call, bool end, struct co_text *remaining);
enum co_result mg_capture(struct co_call *call, struct co_text *ret);
enum co_result mg_proof(struct co_call *call, const char *position);
enum co_result mg_probe_write(struct co_call *call);
enum co_result mg_grants(struct co_call *call, struct co_text *ret);
enum co_result mg_check(struct co_call *call, enum co_check_stage stage);

enum co_result mg_note_others(struct co_call *call, const bson_t *config);
extern const struct co_step mg_steps[];
extern const size_t mg_step_count;

#endif
