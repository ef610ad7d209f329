/* level.c - the last thing before the write pause: what opening will unlock is read, and then the moment is chosen in which the
 * target has applied what the source has. A follower that keeps up on the whole lags by more at one moment than at another (its
 * disk syncs slower for a while, a big transaction passes), and whatever it is behind when writes end, clients wait for.
 *
 * Invariant: it only waits, and not for long: a target that isn't level in time is cut over to as the gate has found it.
 */
#include "my.h"
#include "setup.h"

#define LEVEL_NS 10000000LL       /* as near as this counts as level: about a commit or two, and the questions */
#define LEVEL_FILE_NS 400000000LL /* the applied file and offset move every replica_checkpoint_period (300 ms) alone */
#define PATIENCE_NS 3000000000LL  /* then it is done without */
#define TRY_NS 500000000LL        /* one wait */

bool my_level_wanted(struct co_call *call)
{
    return call->conn && call->other;
}

static bool is_level(const struct co_call *call, int64_t behind_ns)
{
    return behind_ns >= 0 && behind_ns <= (call->conn->by_file ? LEVEL_FILE_NS : LEVEL_NS);
}

static enum co_result source_position(struct co_call *call, struct my_str *ret)
{
    struct co_call source = *call;
    source.conn = call->other;
    source.side = call->other->side;
    if (call->other->by_file)
        return my_file_own(&source, ret);
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_str_addf(&sql, "SELECT %s", my_expr_position(call->other));
    enum co_result r = my_read(call, call->other, my_cstr(&sql), &sets);
    const char *position = r == CO_DONE ? my_value(&sets, 0, 0) : NULL;
    my_str_add(ret, position ? position : "");
    return ret->overflow ? my_out_of_memory(call) : r;
}

enum co_result my_level_describe(struct co_call *call, struct co_text *ret)
{
    const char *text = !call->conn || !my_is_mysql(call->conn) ? "SELECT MASTER_GTID_WAIT(<the source's position>)"
                       : call->conn->by_file                   ? "SELECT SOURCE_POS_WAIT(<the source's file and offset>)"
                                                               : "SELECT WAIT_FOR_EXECUTED_GTID_SET(<the source's position>)";
    call->host->text_set(call->ctx, ret, text, strlen(text));
    return CO_DONE;
}

/* What the source has by now; how long the target then takes to have it. -1: longer than a try. */
static enum co_result behind_ns(struct co_call *call, int64_t *ret)
{
    MY_STR_AUTO position = {0};
    enum co_result r = source_position(call, &position);
    if (r != CO_DONE)
        return r;
    *ret = 0;
    if (!position.len) /* nothing to wait for: the capture says so */
        return CO_DONE;
    int64_t began_ns = call->host->now_ns(call->ctx);
    bool reached = false;
    r = my_wait_once(call, my_cstr(&position), (double)TRY_NS / 1e9, &reached);
    *ret = reached ? call->host->now_ns(call->ctx) - began_ns : -1;
    return r;
}

enum co_result my_level_probe(struct co_call *call, enum co_presence *ret)
{
    int64_t ns = -1;
    enum co_result r = behind_ns(call, &ns);
    *ret = is_level(call, ns) ? CO_PRESENT : CO_ABSENT;
    return r;
}

enum co_result my_level_apply(struct co_call *call)
{
    enum co_result foreseen = my_unlock_foresee(call);
    if (foreseen != CO_DONE)
        return foreseen;
    int64_t until_ns = call->host->now_ns(call->ctx) + PATIENCE_NS, ns;
    if (until_ns > call->deadline_ns - TRY_NS)
        until_ns = call->deadline_ns - TRY_NS;
    do {
        enum co_result r = behind_ns(call, &ns);
        if (r != CO_DONE || is_level(call, ns))
            return r;
    } while (call->host->now_ns(call->ctx) < until_ns);
    MY_STR_AUTO text = {0};
    my_str_addf(&text, "the target was %s%lld ms behind the source", ns < 0 ? "more than " : "",
                (long long)((ns < 0 ? TRY_NS : ns) / 1000000));
    my_str_addf(&text, " when the pause began: it wasn't level with it at any moment of the %lld s before",
                (long long)(PATIENCE_NS / 1000000000));
    call->host->remark(call->ctx, my_cstr(&text));
    return CO_DONE;
}
