/* fence.c - the write block, and what holds it up.
 *
 * setUserWriteBlockMode takes the global lock exclusively (user_writes_recoverable_critical_section_service.cpp): it waits for
 * every open transaction, also one whose client is doing nothing, and everybody else waits behind it. So it gets drain.timeout
 * at a time; what is open then is ended, or the run stops, as drain.on_timeout says.
 */
#include <stdio.h>
#include <string.h>

#include "mg.h"

#define PATIENCE_MIN_MS 10
#define LIFT_NS INT64_C(1000000000)

static enum co_result block(struct co_call *call, struct co_conn *conn, bool on, int64_t limit_ns, int *ret_code)
{
    struct co_call brief = *call;
    bson_t *command = BCON_NEW("setUserWriteBlockMode", BCON_INT32(1), "global", BCON_BOOL(on));
    if (limit_ns < brief.deadline_ns)
        brief.deadline_ns = limit_ns;
    mg_add_max_time(&brief, command);
    return mg_simple(call, conn, command, ret_code);
}

static enum co_result lift(struct co_call *call, struct co_conn *conn, int64_t limit_ns)
{
    int code = 0;
    enum co_result result = block(call, conn, false, limit_ns, &code);
    return result == CO_NO_EFFECT && mg_may_have_worked(code) ? CO_EFFECT_UNKNOWN : result;
}

enum co_result mg_unblock(struct co_call *call, struct co_conn *conn)
{
    return lift(call, conn, call->deadline_ns);
}

/* ---------------------------------------------------------------- transactions */

/* The sessions whose transaction is open for so long, as killSessions wants them. */
static size_t open_transactions(const bson_t *reply, int64_t patience_ms, bson_t *ret)
{
    bson_iter_t list;
    bson_t one, lsid, sessions;
    uint32_t count = 0;
    BSON_APPEND_ARRAY_BEGIN(ret, "killSessions", &sessions);
    for (bool more = mg_each(reply, "inprog", &list); more && mg_next(&list, &one);) {
        char key[16];
        const char *index;
        if (mg_int(&one, "transaction.timeOpenMicros", -1) < patience_ms * 1000 || !mg_sub(&one, "lsid", &lsid))
            continue;
        bson_uint32_to_string(count++, &index, key, sizeof key);
        bson_append_document(&sessions, index, -1, &lsid);
    }
    bson_append_array_end(ret, &sessions);
    return count;
}

static enum co_result end_transactions(struct co_call *call, int64_t patience_ms)
{
    MG_REPLY(reply);
    MG_REPLY(killed);
    MG_DOC(kill);
    char said[160];
    int code = 0;
    bson_t *command = BCON_NEW("currentOp", BCON_INT32(1)); /* also of sessions that do nothing */
    enum co_result result = mg_command(call, call->conn, "admin", command, false, &reply, NULL);
    bson_destroy(command);
    size_t count = result == CO_DONE ? open_transactions(&reply, patience_ms, &kill) : 0;
    if (count == 0)
        return result == CO_DONE ? CO_AGAIN : result; /* something else holds it up, or it is over */
    result = mg_command(call, call->conn, "admin", &kill, true, &killed, &code);
    if (code == MG_UNAUTHORIZED)
        return mg_fail(call, CO_NO_EFFECT, CO_E_PRIVILEGE,
                       "Give the account the action killAnySession: `changeover init --grants` prints the role.",
                       "%zu open transactions hold up the write block, and the tool's account may not end them", count);
    if (result != CO_DONE)
        return result;
    snprintf(said, sizeof said, "%zu open transactions held up the write block and were ended", count);
    call->host->remark(call->ctx, said);
    return CO_AGAIN;
}

/* ---------------------------------------------------------------- the step */

enum co_result mg_fence_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "setUserWriteBlockMode: {global: true}");
    return CO_DONE;
}

/* A member that isn't the primary refuses writes by itself. */
enum co_result mg_fence_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result == CO_DONE)
        *ret = state.blocked || !state.primary ? CO_PRESENT : CO_ABSENT;
    return result;
}

enum co_result mg_fence_apply(struct co_call *call)
{
    bool end = true, blocked = false;
    int code = 0;
    int64_t patience_ms = call->host->drain_patience_ms(call->ctx, &end);
    if (patience_ms < PATIENCE_MIN_MS)
        patience_ms = PATIENCE_MIN_MS;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = block(call, call->conn, true, mg_now_ns() + (patience_ms + MG_REPLY_MARGIN_MS) * 1000000, &code);
    if (result != CO_NO_EFFECT || !mg_may_have_worked(code))
        return result;
    if (code != MG_MAX_TIME_EXPIRED)
        return CO_EFFECT_UNKNOWN;
    result = mg_blocked(call, call->conn, &blocked);
    if (result != CO_DONE || blocked)
        return result == CO_DONE ? CO_AGAIN : result; /* it only waits for its majority: asked again it goes on waiting */
    if (end)
        return end_transactions(call, patience_ms);
    return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "End them, or set drain.on_timeout: end.",
                   "open transactions or long operations kept the write block from being set within drain.timeout "
                   "(see long_operation of `changeover check`)");
}

/* A target that is dead or far behind still votes here, so a majority may not have it before that vote is taken back: it isn't
 * waited for longer than a target that is well would need. */
enum co_result mg_fence_revert(struct co_call *call)
{
    bool blocked = true;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_make_source_primary(call);
    if (result == CO_DONE)
        result = mg_blocked(call, call->conn, &blocked);
    return result == CO_DONE && blocked ? lift(call, call->conn, mg_now_ns() + LIFT_NS) : result;
}
