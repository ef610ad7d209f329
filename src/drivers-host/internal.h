/* internal.h - what the files of drivers-host share; nobody else includes it.
 *
 * Locks: pair->lock guards everything of a pair that calls may touch (notes, run, source, recorded identities,
 * what is known of the hosts). endpoint->lock guards only `conn` and `busy` against an interrupt from
 * another thread. Order: pair before endpoint before journal; no driver code runs under either, but for
 * driver->interrupt (it mustn't block).
 */
#ifndef CO_DRIVERS_HOST_INTERNAL_H
#define CO_DRIVERS_HOST_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/text.h"
#include "drivers-host/pair.h"

/* ---------------------------------------------------------------- modules */

/* Makes a full-size copy of what a module exports: members beyond its `size` are NULL, steps have this
 * program's stride. Checks it first. The copy lives as long as the process. */
int co_module_adopt(const struct co_driver *driver, const struct co_driver **ret, struct co_error *err);

/* ---------------------------------------------------------------- pairs */

struct co_note {
    struct co_note *next;
    enum co_note_scope scope;
    enum co_side side;
    char *key, *value;
};

struct co_run_copy { /* owns the strings of its run */
    struct co_run run;
    char *id, *token, *actor, *session_name;
};
int co_run_copy_set(struct co_run_copy *copy, const struct co_run *run_or_null); /* CO_E_NOMEM leaves it empty */

/* What is known of the command prefix of one side. */
struct co_host_known {
    bool known;
    bool looked_at;  /* by a call right now */
    unsigned shells; /* how many shells evaluate the words in turn: 0 for sudo, 1 for ssh */
    bool watched;    /* standard input reaches the command: it can be made to end with its connection */
};

struct co_late; /* a call that a fault put off */

struct co_pair {
    const struct co_config *config;
    const struct co_pair_config *pair_config;
    const struct co_module *module;
    const struct co_driver *driver;
    const struct co_engine *engine;

    pthread_mutex_t lock;
    struct co_journal *journal;
    struct co_note *notes;
    char *notes_run;             /* whose run notes are in `notes`; NULL: nobody's */
    struct co_error notes_error; /* the run's notes could not be read: every call fails with it */
    struct co_run_copy run;
    bool has_run;
    enum co_side source;
    bool fence_stops;
    bool marker_offline[2];         /* by role */
    char *instance[2], *lineage[2]; /* recorded; never NULL */
    struct co_host_known host[2];
    pthread_cond_t host_looked; /* a look at a host has ended */
    struct co_late *late;
};

int co_notes_load(struct co_pair *pair, const char *run_or_null, struct co_error *err); /* pair->lock held */
void co_notes_clear(struct co_pair *pair, enum co_note_scope scope);                    /* pair->lock held */
/* A copy that the caller frees; NULL: there is none. CO_E_NOMEM. */
int co_notes_get(struct co_pair *pair, enum co_note_scope scope, enum co_side side, const char *key, char **ret);
int co_notes_put(struct co_pair *pair, const char *run_or_null, enum co_note_scope scope, enum co_side side, const char *key,
                 const char *value, struct co_error *err);

void co_late_join(struct co_pair *pair); /* waits for every call that was put off */

/* ---------------------------------------------------------------- endpoints */

struct co_endpoint {
    struct co_pair *pair;
    enum co_side side;
    enum co_conn_purpose purpose;
    struct co_sink sink;
    bool hold;
    int wake_fd; /* eventfd: readable while interrupted */

    pthread_mutex_t lock;
    struct co_conn *conn;
    bool busy; /* a call is under way on conn */
    bool was_connected;

    struct co_run_copy *issued; /* of a late call: the run as it was when the call was made */
    enum co_run_role issued_role;
};

/* ---------------------------------------------------------------- one call */

struct co_kept_string {
    struct co_kept_string *next;
    char data[];
};

struct co_own_text {
    struct co_own_text *next;
    struct co_text text;
};

/* The `ctx` of host functions: one call that is under way. */
struct co_call_state {
    struct co_endpoint *ep;
    struct co_pair *pair;
    const char *what; /* "fence.deny_connections apply", for traces */
    int64_t deadline_ns;
    struct co_run_copy run; /* as it was when the call began */
    bool has_run;
    struct co_call call;
    struct co_error *err;
    struct co_kept_string *kept; /* strings handed out that live until the call ends */
    struct co_own_text *texts;   /* texts that the driver asked for; wiped, they may hold anything */
    struct co_error host_error;  /* the first host function that failed in a way the call may not hide */
};

extern const struct co_host co_host_table;

bool co_endpoint_interrupted(const struct co_endpoint *ep);
/* Prepares state->call; connects as needed. `offline`: conn may end up NULL. False: *ret_result says how the
 * call ended. Pair with co_call_end. */
bool co_call_begin(struct co_call_state *state, struct co_endpoint *ep, struct co_endpoint *other, const char *what,
                   bool offline, int64_t deadline_ns, struct co_error *err, enum co_result *ret_result);
void co_call_end(struct co_call_state *state);
void co_error_side(struct co_error *err, const struct co_endpoint *ep); /* "pair orders, side a (10.0.0.1): " */
bool co_endpoint_usable(struct co_endpoint *ep);                        /* connected and alive */
/* A breach of the contract by the driver. */
int co_breach(struct co_error *err, const struct co_pair *pair, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---------------------------------------------------------------- the guarded call */

enum co_op_flags {
    CO_OP_READS = 1 << 0,   /* changes nothing on a server: never "effect unknown" */
    CO_OP_AGAIN = 1 << 1,   /* may answer CO_AGAIN */
    CO_OP_OFFLINE = 1 << 2, /* goes ahead without a connection */
    CO_OP_OTHER = 1 << 3,   /* needs call->other */
    CO_OP_NO_FAULT = 1 << 4 /* the call that a fault put off */
};

/* One call of driver code with its arguments; kept by value, so that a fault can put the call off. */
struct co_op {
    const char *what; /* for people and traces */
    unsigned flags;
    const char *point; /* fault points "<point>:<before>" and "<point>:<after>"; each may be NULL */
    const char *before, *after;
    enum co_result (*fn)(struct co_call *call, const struct co_op *op);
    const struct co_driver *driver;
    const struct co_step *step;
    const char *text[3]; /* arguments */
    bool flag;
    int number;
    void *ret[2]; /* results of the driver's */
};
/* The only place that calls a driver's primitives and steps, but for connect and wanted. */
enum co_result co_op_run(struct co_endpoint *ep, struct co_endpoint *other, const struct co_op *op, int64_t deadline_ns,
                         struct co_error *err);

/* ---------------------------------------------------------------- host functions of their own files */

enum co_result co_host_run(void *ctx, const struct co_command *command, int64_t deadline_ns, int *ret_status,
                           struct co_text *out, struct co_text *err_out, struct co_error *err);
enum co_result co_host_pipe(void *ctx, const struct co_command *from, const struct co_command *to, const char *what,
                            int64_t total_bytes, int64_t deadline_ns, int *ret_from, int *ret_to, struct co_text *err_out,
                            struct co_error *err);
enum co_result co_host_pipe_ticking(void *ctx, const struct co_command *from, const struct co_command *to,
                                    void (*tick)(void *arg, int64_t done_bytes), void *arg, int64_t deadline_ns, int *ret_from,
                                    int *ret_to, struct co_text *err_out, struct co_error *err);
enum co_result co_host_http(void *ctx, enum co_side side, const char *method, const char *url, const char *const *headers,
                            const void *body, size_t body_bytes, int64_t deadline_ns, int *ret_status, struct co_text *ret_body,
                            struct co_error *err);
void co_host_progress(void *ctx, const struct co_progress *progress);

#endif
