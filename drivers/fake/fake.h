/* fake.h - what the parts of the fake driver share: a connection, and asking the server one thing.
 *
 * This driver is the reference for authors of drivers: short, complete, and true to the contract. How it is cut:
 * conn.c connects and asks; look.c reads (identity, settings, findings, positions, link); run.c is what a cutover
 * calls besides its steps; steps.c is whatever changes the server; module.c is the table.
 */
#ifndef FAKE_FAKE_H
#define FAKE_FAKE_H

#include "changeover/driver.h"
#include "wire.h"

#define FAKE_DEFAULT_PORT 7707

struct co_conn {
    int fd;
    bool broken;
    bool round_running;
    int64_t next_id;
    struct fk_buffer in;
};

/* A reply; `message` points into `line`. */
struct fake_answer {
    struct fk_buffer line;
    struct fk_message message;
};
void fake_answer_done(struct fake_answer *answer);
#define FAKE_ANSWER __attribute__((cleanup(fake_answer_done))) struct fake_answer
#define FAKE_LINE __attribute__((cleanup(fk_buffer_done))) struct fk_buffer

enum fake_variant { FAKE_PLAIN, FAKE_ROUNDS, FAKE_NOVOTE };
enum fake_variant fake_variant(struct co_call *call); /* by the URL's scheme */

enum co_result fake_connect(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret);
void fake_disconnect(struct co_conn *conn);
bool fake_alive(struct co_conn *conn);
/* Connects and logs in as `account`. */
enum co_result fake_login(struct co_call *call, const char *account, const char *password, struct co_conn **ret);

/* Sends a request and waits for its reply. `changes`: the request may change the server, so that a lost reply is
 * CO_EFFECT_UNKNOWN; for a look it is CO_NO_EFFECT. An error that the server answers is always CO_NO_EFFECT. */
enum co_result fake_ask(struct co_call *call, struct co_conn *conn, struct fk_buffer *request, bool changes,
                        struct fake_answer *ret);
/* fake_ask for a look without arguments. */
enum co_result fake_look(struct co_call *call, struct co_conn *conn, const char *verb, struct fake_answer *ret);
bool fake_flag(const struct fake_answer *answer, const char *key);
const char *fake_value(const struct fake_answer *answer, const char *key); /* never NULL */

/* Fills call->err and returns `result`. */
enum co_result fake_fail(struct co_call *call, enum co_result result, int code, const char *message, const char *hint);

/* How `side` is reached by the other side's server, into `ret`. */
void fake_peer(struct co_call *call, enum co_side side, struct fk_buffer *ret);
const char *fake_slot(struct co_call *call);
enum co_side fake_side_of(struct co_call *call, enum co_run_role role);

/* look.c */
enum co_result fake_identify(struct co_call *call, struct co_identity *ret);
enum co_result fake_capabilities(struct co_call *call, struct co_capabilities *ret);
enum co_result fake_settings(struct co_call *call);
enum co_result fake_discover(struct co_call *call);
enum co_result fake_check(struct co_call *call, enum co_check_stage stage);
enum co_result fake_position(struct co_call *call, struct co_text *ret);
enum co_result fake_applied(struct co_call *call, struct co_text *ret);
enum co_order fake_compare(const char *have, const char *want);
void fake_distance(const char *have, const char *want, struct co_distance *ret);
enum co_result fake_link(struct co_call *call, struct co_link *ret);
enum co_result fake_digest(struct co_call *call, const char *range, struct co_text *ret);
enum co_result fake_grants(struct co_call *call, struct co_text *ret);

/* run.c */
enum co_result fake_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info);
enum co_result fake_marker_set(struct co_call *call, const char *expected, const char *token, const char *info);
enum co_result fake_prepare(struct co_call *call);
enum co_result fake_drain(struct co_call *call, bool end, struct co_text *remaining);
enum co_result fake_capture(struct co_call *call, struct co_text *ret);
enum co_result fake_proof(struct co_call *call, const char *position);
enum co_result fake_end_sessions(struct co_call *call, const char *keep_actor);
enum co_result fake_probe_write(struct co_call *call);
enum co_result fake_wait_applied(struct co_call *call, const char *position);
enum co_result fake_round(struct co_call *call);

/* steps.c */
#define FAKE_STEP_COUNT 14
extern const struct co_step fake_steps[FAKE_STEP_COUNT];

#endif
