/* rd.h - what the files of the Redis/Valkey driver share. One server connection, its replies, what INFO and CONFIG
 * say, and the primitives by file. Nothing here is seen outside the module.
 *
 * Invariant: a connection whose replies are out of step (deadline, interrupt, I/O error) is closed at once and
 * never used again; so no reply is ever taken for the answer to another command.
 */
#ifndef RD_H
#define RD_H

#include <hiredis/hiredis.h>
#include <stdarg.h>

#include "changeover/driver.h"

#define RD_FENCE 999 /* min-replicas-to-write of a fence or closure: no server has that many */
#define RD_FENCE_TEXT "999"
#define RD_FENCE_KEY "changeover:fence" /* the last write before a fence holds the run's token */
#define RD_PROBE_KEY "changeover:probe"
#define RD_MAX_REPLY_BYTES ((size_t)64 << 20)
#define RD_MAX_ELEMENTS ((size_t)1 << 20)
#define RD_MAX_USERS 128     /* of which one run takes rights (before 7.0) */
#define RD_MAX_REPLIES 416   /* three a user, and what else a transaction needs */
#define RD_MAX_CATEGORIES 32 /* of ACL */

/* ---------------------------------------------------------------- text.c: small pure helpers */

char *rd_strndup(const char *text, size_t bytes); /* NULL: no memory */
bool rd_parse_int(const char *text, size_t bytes, int64_t *ret);
/* base64 without line breaks; free() the result. */
char *rd_base64(const char *data, size_t bytes);
char *rd_unbase64(const char *text, size_t bytes, size_t *ret_bytes); /* NULL: malformed or no memory */
void rd_free_text(char **text);                                       /* for cleanup attributes */
void rd_wipe_text(char **text);
#define RD_SECRET __attribute__((cleanup(rd_wipe_text))) char *
#define RD_TEXT __attribute__((cleanup(rd_free_text))) char *

/* ---------------------------------------------------------------- info.c: INFO, CONFIG GET, CLIENT LIST texts (pure) */

/* Finds "key:value\r\n" at the start of a line. */
bool rd_info_get(const char *info, const char *key, const char **ret, size_t *ret_bytes);
int64_t rd_info_int(const char *info, const char *key, int64_t otherwise);
char *rd_info_dup(const char *info, const char *key); /* "" when absent; NULL: no memory */
bool rd_info_is(const char *info, const char *key, const char *value);
/* Splits "ip=1.2.3.4,port=1" and "id=3 name=x": the value of one field up to the separator. */
bool rd_field(const char *line, size_t bytes, char separator, const char *name, const char **ret, size_t *ret_bytes);

enum rd_flavour { RD_REDIS, RD_VALKEY };
struct rd_version {
    enum rd_flavour flavour;
    int major, minor, patch;
    int compatible; /* what it behaves like, as Redis: 500, 600, 602, 700, 702, ... */
    int rdb;        /* the RDB version that it writes */
};
void rd_version_parse(const char *info_server, struct rd_version *ret);
/* The setting that holds the marker: see marker.c for why. */
const char *rd_marker_setting(const struct rd_version *version);
/* Whether a full copy of `from` can be loaded by `to`. */
bool rd_version_can_load(const struct rd_version *from, const struct rd_version *to);

/* Before 7.0 scripts get past min-replicas-to-write: see rights.c. */
enum rd_rights {
    RD_RIGHTS_NOT_NEEDED, /* this version refuses scripts by itself, or has no ACLs */
    RD_RIGHTS_FREE,       /* users may write; nothing was taken */
    RD_RIGHTS_PARTLY,     /* something was taken, and somebody may write */
    RD_RIGHTS_TAKEN,
    RD_RIGHTS_NOBODYS, /* nobody may write, and nothing was taken from anybody */
    RD_RIGHTS_UNKNOWN
};

/* What one look at a server gives. */
struct rd_state {
    struct rd_version version;
    char run_id[41], replid[41], replid2[41];
    bool primary, loading, link_up, syncing;
    int64_t offset;                                                               /* master_repl_offset */
    int64_t second_offset;                                                        /* second_repl_offset, -1 */
    int64_t applied;                                                              /* slave_repl_offset, -1 on a primary */
    int64_t last_io_s, link_down_s, sync_read, sync_total, load_done, load_total; /* -1: unknown */
    int64_t good_replicas, replicas;
    int64_t apply_errors; /* unexpected_error_replies */
    int64_t backlog_first, backlog_bytes, backlog_size;
    int64_t sync_full, sync_partial;
    char *master_host; /* "" on a primary */
    int64_t master_port;
    char *config_file;
    /* CONFIG; known only with the right to ask */
    bool config_known;
    int64_t min_replicas, max_lag;
    bool read_only;
    char *marker;    /* the marker setting as it stands */
    char *fence_key; /* value of RD_FENCE_KEY, "" */
    enum rd_rights rights;
    bool acl_file;
    char *users; /* lines of ACL LIST, where rights are needed; holds hashes of passwords */
};
void rd_state_done(struct rd_state *state);
int rd_state_parse(struct rd_state *state, const char *info); /* any sections; 0 or CO_E_NOMEM */
bool rd_state_fenced(const struct rd_state *state);
/* Some of a fence or closure of ours is there, or was left. */
bool rd_state_fenced_partly(const struct rd_state *state);
enum co_tristate rd_state_accepts_writes(const struct rd_state *state);

/* The sum of calls of write commands in INFO commandstats. `names` is sorted. -1: none could be read. */
int64_t rd_write_calls(const char *info, char *const *names, size_t count);

/* ---------------------------------------------------------------- position.c (pure) */

/* "<replid>:<offset>[;<replid2>:<offset up to which that one is contained>][;f=<token of the fence>]" */
struct rd_position {
    char replid[41], replid2[41];
    int64_t offset, offset2; /* offset2 -1: no second id */
    const char *fence;       /* into the text; NULL */
    size_t fence_bytes;
};
bool rd_position_parse(const char *text, struct rd_position *ret);
enum co_order rd_compare(const char *have, const char *want);
void rd_distance(const char *have, const char *want, struct co_distance *ret);

/* ---------------------------------------------------------------- net.c: a socket with or without TLS */

struct rd_net; /* opaque */
/* Connects until the deadline; nothing here outlives it, name resolution included. */
enum co_result rd_net_open(struct co_call *call, const struct co_endpoint_config *endpoint, struct rd_net **ret);
/* What the server said before it closed the connection is left to rd_net_receive, as is that it is closed. */
enum co_result rd_net_send(struct co_call *call, struct rd_net *net, const char *data, size_t bytes);
/* At least one byte, or a failure. */
enum co_result rd_net_receive(struct co_call *call, struct rd_net *net, char *data, size_t capacity, size_t *ret_bytes);
/* Waits for the deadline; false when interrupted. */
bool rd_net_pause(struct co_call *call, struct rd_net *net, int64_t deadline_ns);
void rd_net_close(struct rd_net *net); /* never blocks; takes NULL */

/* ---------------------------------------------------------------- resp.c: hiredis as codec, with limits */

redisReader *rd_reader_new(void);
/* Feeds and takes one reply. 1: *ret is set; 0: more bytes are needed; -1: malformed or over a limit. */
int rd_reader_take(redisReader *reader, redisReply **ret);

/* ---------------------------------------------------------------- conn.c: commands and replies */

struct co_conn {
    struct rd_net *net;
    redisReader *reader;
    char *out;
    size_t out_bytes, out_capacity;
    size_t pending; /* replies owed by what is in out */
    bool broken, nomem;
    char *name; /* as the server knows the session; "" */
    int64_t client_id;
    char *local_address; /* the server's own address of this connection */
    char *derived_id;    /* see marker.c */
    struct rd_version version;
    char **write_commands; /* sorted */
    size_t write_command_count;
    struct co_conn *probe; /* opened beforehand for probe_write */
    struct rd_rights_map *rights;
};

struct rd_replies {
    redisReply *reply[RD_MAX_REPLIES];
    size_t count;
    redisReply *exec; /* the array of a transaction, inside reply[] */
};
void rd_replies_done(struct rd_replies *replies);
#define RD_REPLIES(name) __attribute__((cleanup(rd_replies_done))) struct rd_replies name = {.count = 0}

/* Appends a command to what is sent next. The list ends with NULL. */
void rd_out(struct co_conn *conn, const char *arg, ...) __attribute__((sentinel));
void rd_out_list(struct co_conn *conn, size_t argc, const char **argv);
/* Sends what was appended and reads every reply. `changes`: a failure after sending is CO_EFFECT_UNKNOWN.
 * Errors of the server are replies, not failures. */
enum co_result rd_exchange(struct co_call *call, struct co_conn *conn, bool changes, struct rd_replies *ret);
/* Ends a transaction that began with rd_out(conn, "MULTI", NULL), and exchanges. CO_DONE: it was executed, its
 * array is ret->exec; single commands in it may have failed (rd_exec_failed). */
enum co_result rd_exec(struct co_call *call, struct co_conn *conn, bool changes, const char *what, struct rd_replies *ret);
/* The first error among replies (or exec's elements): fills call->err and returns true. */
bool rd_failed(struct co_call *call, const struct rd_replies *replies, const char *what);
bool rd_exec_failed(struct co_call *call, const struct rd_replies *replies, const char *what);
/* One command whose error is a failure: CO_NO_EFFECT. */
enum co_result rd_one(struct co_call *call, struct co_conn *conn, bool changes, const char *what, struct rd_replies *ret);
void rd_break(struct co_conn *conn);
const char *rd_text(const redisReply *reply); /* the string of a reply, "" otherwise */
/* The value after `name` in the flat array of CONFIG GET; NULL. */
const char *rd_config_value(const redisReply *reply, const char *name);
void rd_error_of_reply(struct co_call *call, const redisReply *reply, const char *what);

enum co_result rd_fail(struct co_call *call, enum co_result result, int code, const char *hint, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

enum co_result rd_connect(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret);
enum co_result rd_open_probe(struct co_call *call, struct co_conn **ret);
void rd_disconnect(struct co_conn *conn);
bool rd_alive(struct co_conn *conn);

/* ---------------------------------------------------------------- marker.c: identity, marker, token rule, sessions */

struct rd_marker {
    char *instance, *lineage, *token, *info; /* never NULL after a successful parse */
    bool temporary;                          /* the instance goes with the token: a run wrote it, not setup */
};
void rd_marker_done(struct rd_marker *marker);
#define RD_MARKER(name) __attribute__((cleanup(rd_marker_done))) struct rd_marker name = {NULL, NULL, NULL, NULL, false}
/* "" gives four empty texts. False: no memory, or the setting holds something that isn't ours. */
bool rd_marker_parse(const char *setting, struct rd_marker *ret);
char *rd_marker_print(const struct rd_marker *marker); /* "" when all are empty; NULL: no memory */
/* Before 7.0: below the length of a config line; what doesn't fit is left out. */
char *rd_marker_print_short(const struct rd_marker *marker);

/* ---------------------------------------------------------------- short.c */

char *rd_shorten(const char *text);                /* NULL: no memory */
char *rd_lengthen(const char *text, size_t bytes); /* NULL: malformed or no memory */

enum co_result rd_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info);
enum co_result rd_marker_set(struct co_call *call, const char *expected, const char *token, const char *info);
/* Writes identity (NULL: keeps) under the same lock as marker_set. "" removes. */
enum co_result rd_identity_set(struct co_call *call, const char *instance, const char *lineage);
/* Gives the session the run's name where it has another. */
enum co_result rd_take_name(struct co_call *call);
/* The token rule, and a look in the same round trip. CO_DONE: the marker holds call->run->token and this
 * connection can be seen by end_sessions, so whoever replaces the marker ends it before acting. */
enum co_result rd_guard(struct co_call *call, struct rd_state *ret);
/* The instance: what the setting holds, else what can be derived from the server. NULL: no memory. */
char *rd_instance(struct co_call *call, struct co_conn *conn, const struct rd_state *state, const struct rd_marker *marker);
enum co_result rd_end_sessions(struct co_call *call, const char *keep_actor);

/* ---------------------------------------------------------------- rights.c: ACL users before 7.0 */

struct rd_rights_map;
void rd_rights_map_free(struct rd_rights_map *map); /* takes NULL */
/* From ACL CAT and ACL CAT <name> for each, at most RD_MAX_CATEGORIES. NULL: no memory. */
struct rd_rights_map *rd_rights_map_new(const redisReply *names, const struct rd_replies *members);
bool rd_rights_needed(const struct rd_version *version);
enum co_result rd_rights_learn(struct co_call *call, struct co_conn *conn); /* once a connection */
char *rd_rights_join(const redisReply *list);                               /* ACL LIST as lines; NULL: no memory */
enum rd_rights rd_rights_judge(const struct co_conn *conn, const char *list);
bool rd_rights_is_kept(const char *line); /* a line of ACL LIST: a user of ours that keeps another's rules */
bool rd_rights_are_kept_for(const char *list, const char *name, size_t bytes);
/* Phase warm_up: every user's rights can be taken and given back unchanged, and fit into the config file. */
enum co_result rd_rights_try(struct co_call *call, const struct rd_state *state);
void rd_rights_describe(struct co_call *call, const struct rd_state *state, bool give, struct co_text *ret);
void rd_rights_facts(struct co_call *call, const redisReply *list);
/* In a transaction, from what the look before it saw. */
void rd_out_take_rights(struct co_conn *conn, const struct rd_state *state);
void rd_out_give_rights(struct co_conn *conn, const struct rd_state *state);
/* What was changed before it is on disk: CONFIG REWRITE, and ACL SAVE where users have a file of their own. */
void rd_out_persist(struct co_conn *conn, const struct rd_state *state);

/* ---------------------------------------------------------------- look.c */

enum rd_look_depth { RD_LOOK_REPLICATION, RD_LOOK_ALL };
enum co_result rd_look(struct co_call *call, struct co_conn *conn, enum rd_look_depth depth, struct rd_state *ret);
#define RD_STATE(name) __attribute__((cleanup(rd_state_done))) struct rd_state name = {.offset = -1}
enum co_result rd_identify(struct co_call *call, struct co_identity *ret);
enum co_result rd_capabilities(struct co_call *call, struct co_capabilities *ret);
enum co_result rd_settings(struct co_call *call);
enum co_result rd_discover(struct co_call *call);
enum co_result rd_position(struct co_call *call, struct co_text *ret);
enum co_result rd_applied(struct co_call *call, struct co_text *ret);
enum co_result rd_link(struct co_call *call, struct co_link *ret);
char *rd_position_text(const struct rd_state *state); /* NULL: no memory */
/* Apply errors that were there before B began to follow don't count. */
int64_t rd_new_apply_errors(struct co_call *call, enum co_side target, const struct rd_state *state);
enum co_side rd_other_side(enum co_side side);

/* ---------------------------------------------------------------- check.c */

enum co_result rd_check(struct co_call *call, enum co_check_stage stage);

/* ---------------------------------------------------------------- setup.c, fence.c, promote.c, reverse.c, probe.c */

extern const struct co_step rd_setup_steps[], rd_fence_steps[], rd_promote_steps[], rd_reverse_steps[];
extern const size_t rd_setup_step_count, rd_fence_step_count, rd_promote_step_count, rd_reverse_step_count;

enum co_result rd_prepare(struct co_call *call);
enum co_result rd_drain(struct co_call *call, bool end, struct co_text *remaining);
enum co_result rd_capture(struct co_call *call, struct co_text *ret);
enum co_result rd_proof(struct co_call *call, const char *position);
enum co_result rd_probe_write(struct co_call *call);
enum co_result rd_grants(struct co_call *call, struct co_text *ret);

/* originals.c: settings as they were before we changed them, kept over runs. Never NULL: the server's default. */
const char *rd_original(struct co_call *call, enum co_side side, const char *setting);
/* appendfsync where the run must set it to always for a while; NULL: no append-only file, or it is always anyway. */
const char *rd_original_fsync(struct co_call *call);
void rd_note_originals(struct co_call *call, const struct rd_state *state, const char *ping_period, const char *fsync);
/* Everything written so far is on disk when the transaction is answered; rd_out_fsync_back ends that. */
void rd_out_fsync(struct co_call *call, struct co_conn *conn);
void rd_out_fsync_back(struct co_call *call, struct co_conn *conn);
/* Where servers find the one of `side`. False: call->err says why there is no such address. */
bool rd_peer(struct co_call *call, enum co_side side, const char **ret_host, char ret_port[16]);
/* Parts of transactions that several steps share. */
void rd_out_close(struct co_conn *conn, const struct rd_state *state);
void rd_out_reopen(struct co_call *call, struct co_conn *conn, const struct rd_state *state);
/* A transaction that ends on disk and whose every command must succeed; a failure in the middle is CO_EFFECT_UNKNOWN. */
enum co_result rd_change(struct co_call *call, const char *what);
bool rd_is_unwritten(struct co_call *call); /* the last one on this side failed in the middle */
/* The user and password with which one server logs in to the other (`side` logs in). False: none is known. */
bool rd_replication_login(struct co_call *call, enum co_side side, const char **ret_user, const char **ret_password);

#endif
