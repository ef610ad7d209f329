/* pair.h - one pair at work: its configuration, its driver, its notes, and the wrapper that is the only
 * caller of driver code.
 *
 * The wrapper (co_ep_*) checks the order of calls and their results, keeps the deadline, traces, hits the fault
 * points, masks every text and error that comes out, prefixes errors with pair and side, and turns a driver's
 * rule breaches into CO_E_INTERNAL. An endpoint is one connection to one side. It is used by one thread
 * at a time; it reconnects on the next call after its connection broke, unless `hold` is set (inside the
 * write pause), in which case the call fails with CO_E_UNREACHABLE. After every connect it compares instance
 * and lineage with what is recorded for the side (co_pair_record_identity): a difference is CO_E_MISMATCH.
 */
#ifndef CO_DRIVERS_HOST_PAIR_H
#define CO_DRIVERS_HOST_PAIR_H

#include "base/text.h"
#include "config/config.h"
#include "drivers-host/modules.h"
#include "journal/journal.h"

struct co_identity_data { /* owns its texts */
    struct co_text product, version, instance, lineage, incarnation;
    enum co_server_role role;
    enum co_tristate accepts_writes, fenced, empty;
    int64_t data_bytes;
};
void co_identity_data_done(struct co_identity_data *data);

struct co_link_data {
    enum co_link_state state;
    struct co_text reason, faster;
    int64_t silent_ms, piled_up_bytes;
};
void co_link_data_done(struct co_link_data *data);

/* Where facts, findings, progress of calls go; members may be NULL. Called on the calling thread. */
struct co_sink {
    void (*fact)(void *arg, const char *group, const char *name, const char *value);
    void (*found)(void *arg, const char *kind, const char *name, const char *run);
    void (*finding)(void *arg, const struct co_finding *finding);
    void (*progress)(void *arg, const struct co_progress *progress);
    void *arg;
};

struct co_pair; /* opaque */

/* Loads the driver, checks the pair's options against it. */
int co_pair_new(const struct co_config *config, size_t index, struct co_pair **ret, struct co_error *err);
void co_pair_free(struct co_pair *pair);

const struct co_pair_config *co_pair_config(const struct co_pair *pair);
const struct co_driver *co_pair_driver(const struct co_pair *pair);
const char *co_pair_name(const struct co_pair *pair);

/* The journal that keeps the notes; loads those of pair scope and of `run`. NULL: notes live in memory. */
int co_pair_use_journal(struct co_pair *pair, struct co_journal *journal, const char *run_or_null, struct co_error *err);
/* The run that calls belong to; copied. NULL ends it. Not while calls are under way. */
void co_pair_set_run(struct co_pair *pair, const struct co_run *run);
const struct co_run *co_pair_run(const struct co_pair *pair);
/* Outside a run: which side is the source of replication now (from the journal's history); default a. */
void co_pair_set_source(struct co_pair *pair, enum co_side source);
enum co_side co_pair_source(const struct co_pair *pair);
/* The core's own run notes, kept and carried like the driver's; keys begin with "core.". get: "" when there is none. */
int co_pair_note_put(struct co_pair *pair, enum co_side side, const char *key, const char *value, struct co_error *err);
int co_pair_note_get(struct co_pair *pair, enum co_side side, const char *key, struct co_text *ret);
/* All run notes as JSON; NULL when there is no memory, and then nothing may be written in their place: as JSON for the marker's
 * info, and back (take-over). */
json_t *co_pair_notes_json(struct co_pair *pair);
int co_pair_notes_import(struct co_pair *pair, const json_t *notes, struct co_error *err);

/* Notes live as long as the run they belong to: co_pair_set_run with another run's id drops the run notes in
 * memory and, with a journal, loads that run's; another token of the same run keeps them. Import after set_run or
 * after co_pair_use_journal with the run.
 * A process that takes a run over calls co_pair_use_journal again to see what the other one noted. */

/* Identity that connections of a side are held against. "" forgets. An empty recorded lineage lets the side
 * have the other side's (a fresh B that becomes a copy); setup records it again then. */
void co_pair_record_identity(struct co_pair *pair, enum co_side side, const char *instance, const char *lineage);

/* The driver's fence stops the source (struct co_capabilities): drain, capture, proof and marker_* of the source
 * then go ahead without a connection during a run. co_ep_capabilities sets it by itself; resume, which may
 * not reach the source, sets it from what the run recorded. */
void co_pair_set_fence_stops(struct co_pair *pair, bool fence_stops);
/* The same for marker_* alone (marker_offline): of the source after the opening, of the target in an undo. */
void co_pair_set_marker_offline(struct co_pair *pair, enum co_run_role role, bool marker_offline);

/* ---------------------------------------------------------------- endpoints */

/* How a call finds its connections: an endpoint that isn't connected is connected first, within the call's
 * deadline. `other` is tried for half of the time that is left and may stay NULL for the driver, which fails
 * only steps marked CO_STEP_BOTH; pass NULL (or hold it) to do without. What may work offline (describe,
 * grants, steps marked CO_STEP_OFFLINE, the calls of co_pair_set_fence_stops) gives the connection half of the
 * deadline and then goes ahead without; with hold set it doesn't try. co_ep_connect connects under hold, too.
 *
 * What callers can rely on: a failure has a code and a message that names pair, side and address; calls that
 * only read (all but steps' apply and revert, marker_set, drain, round, end_sessions and probe_write) never end in
 * CO_EFFECT_UNKNOWN; CO_AGAIN comes only from apply, revert, wait_applied, drain, round, prepare, capture, proof,
 * end_sessions, digest, and the probe of steps marked CO_STEP_OFFLINE. An interrupted endpoint refuses calls until
 * it is uninterrupted. ret_info of marker_get may be NULL. Results are cleared first; identity and link structs
 * must be {0} or used before. */

struct co_endpoint; /* opaque */

struct co_endpoint *co_endpoint_new(struct co_pair *pair, enum co_side side,
                                    enum co_conn_purpose purpose); /* NULL: no memory */
void co_endpoint_free(struct co_endpoint *ep);
void co_endpoint_hold(struct co_endpoint *ep, bool hold);
void co_endpoint_sink(struct co_endpoint *ep, const struct co_sink *sink_or_null); /* copied */
/* From any thread: the call under way (or the next one) ends with CO_E_INTERRUPTED. */
void co_endpoint_interrupt(struct co_endpoint *ep);
void co_endpoint_uninterrupt(struct co_endpoint *ep);
struct co_pair *co_endpoint_pair(struct co_endpoint *ep);
enum co_side co_endpoint_side(const struct co_endpoint *ep);
enum co_run_role co_endpoint_role(const struct co_endpoint *ep);
bool co_endpoint_connected(struct co_endpoint *ep);
void co_endpoint_close(struct co_endpoint *ep);

enum co_result co_ep_connect(struct co_endpoint *ep, int64_t deadline_ns, struct co_error *err); /* no-op when connected */
enum co_result co_ep_identify(struct co_endpoint *ep, int64_t deadline_ns, struct co_identity_data *ret, struct co_error *err);
enum co_result co_ep_capabilities(struct co_endpoint *ep, int64_t deadline_ns, struct co_capabilities *ret,
                                  struct co_error *err);
enum co_result co_ep_settings(struct co_endpoint *ep, int64_t deadline_ns, struct co_error *err);
enum co_result co_ep_discover(struct co_endpoint *ep, int64_t deadline_ns, struct co_error *err);
/* ep: the source's or, when that is unreachable, the target's; other: the other one or NULL */
enum co_result co_ep_check(struct co_endpoint *ep, struct co_endpoint *other, enum co_check_stage stage, int64_t deadline_ns,
                           struct co_error *err);
enum co_result co_ep_position(struct co_endpoint *ep, int64_t deadline_ns, struct co_text *ret, struct co_error *err);
enum co_result co_ep_applied(struct co_endpoint *ep, int64_t deadline_ns, struct co_text *ret, struct co_error *err);
enum co_result co_ep_link(struct co_endpoint *ep, struct co_endpoint *other, int64_t deadline_ns, struct co_link_data *ret,
                          struct co_error *err);
/* Without the optional primitive: CO_NO_EFFECT, CO_E_UNSUPPORTED. */
enum co_result co_ep_wait_applied(struct co_endpoint *ep, const char *position, int64_t deadline_ns, struct co_error *err);
enum co_result co_ep_round(struct co_endpoint *ep, struct co_endpoint *other, int64_t deadline_ns, struct co_error *err);
enum co_result co_ep_marker_get(struct co_endpoint *ep, int64_t deadline_ns, struct co_text *ret_token,
                                struct co_text *ret_info, struct co_error *err);
enum co_result co_ep_marker_set(struct co_endpoint *ep, const char *expected, const char *token, const char *info,
                                int64_t deadline_ns, struct co_error *err);
enum co_result co_ep_prepare(struct co_endpoint *ep, int64_t deadline_ns, struct co_error *err);
enum co_result co_ep_drain(struct co_endpoint *ep, bool end, int64_t deadline_ns, struct co_text *ret_remaining,
                           struct co_error *err);
enum co_result co_ep_capture(struct co_endpoint *ep, int64_t deadline_ns, struct co_text *ret, struct co_error *err);
enum co_result co_ep_proof(struct co_endpoint *ep, const char *position, int64_t deadline_ns, struct co_error *err);
enum co_result co_ep_end_sessions(struct co_endpoint *ep, const char *keep_actor, int64_t deadline_ns, struct co_error *err);
enum co_result co_ep_probe_write(struct co_endpoint *ep, int64_t deadline_ns, struct co_error *err);
enum co_result co_ep_digest(struct co_endpoint *ep, const char *range, int64_t deadline_ns, struct co_text *ret,
                            struct co_error *err);
enum co_result co_ep_grants(struct co_endpoint *ep, int64_t deadline_ns, struct co_text *ret, struct co_error *err);

enum co_order co_pair_compare(const struct co_pair *pair, const char *have, const char *want);
void co_pair_distance(const struct co_pair *pair, const char *have, const char *want, struct co_distance *ret);

/* ---------------------------------------------------------------- steps */

/* The driver's steps of one phase for one role, in order. */
size_t co_pair_step_count(const struct co_pair *pair);
const struct co_step *co_pair_step(const struct co_pair *pair, size_t index);

/* step->role must be the endpoint's role; apply and revert need a run. revert of a step without one: CO_NO_EFFECT,
 * CO_E_UNSUPPORTED. */
bool co_ep_step_wanted(struct co_endpoint *ep, struct co_endpoint *other, const struct co_step *step);
enum co_result co_ep_step_describe(struct co_endpoint *ep, struct co_endpoint *other, const struct co_step *step,
                                   int64_t deadline_ns, struct co_text *ret, struct co_error *err);
enum co_result co_ep_step_probe(struct co_endpoint *ep, struct co_endpoint *other, const struct co_step *step,
                                int64_t deadline_ns, enum co_presence *ret, struct co_error *err);
enum co_result co_ep_step_apply(struct co_endpoint *ep, struct co_endpoint *other, const struct co_step *step,
                                int64_t deadline_ns, struct co_error *err);
enum co_result co_ep_step_revert(struct co_endpoint *ep, struct co_endpoint *other, const struct co_step *step,
                                 int64_t deadline_ns, struct co_error *err);

/* ---------------------------------------------------------------- parallel work */

/* Runs fn(0..count-1) at once, each on a thread of its own that was started beforehand, and waits for all. */
struct co_crew; /* a fixed set of worker threads */
int co_crew_new(size_t count, struct co_crew **ret, struct co_error *err);
void co_crew_run(struct co_crew *crew, size_t count, void (*fn)(size_t index, void *arg), void *arg);
void co_crew_free(struct co_crew *crew);

/* All fault points: with NULL those of the core (phases, primitives, decisions), else those of the pair's driver. */
void co_fault_list(struct co_pair *pair_or_null, void (*fn)(const char *point, void *arg), void *arg);

const char *co_phase_name(enum co_phase phase);    /* "warm_up" */
enum co_side co_side_other(enum co_side side);     /* b of a, a of b */
const char *co_side_name(enum co_side side);       /* "a", "b" */
const char *co_result_name(enum co_result result); /* "done", "again", "no_effect", "effect_unknown" */

#endif
