/* table.c - the cutover as one table. */
#include "cutover/table.h"

#define LOCK                                                                                                                   \
    {                                                                                                                          \
        CO_PHASE_LOCK, "one operator at a time: a marker on both servers", co_do_lock, CO_FAIL_REFUSE, 0, CO_OPEN, CO_FOLLOWS  \
    }
#define CHECK                                                                                                                  \
    {                                                                                                                          \
        CO_PHASE_CHECK, "pre-flight again, against the live servers", co_do_check, CO_FAIL_REFUSE, 0, CO_OPEN, CO_FOLLOWS      \
    }
#define GATE                                                                                                                   \
    {                                                                                                                          \
        CO_PHASE_GATE, "lag within the limits for stable_for", co_do_gate, CO_FAIL_REFUSE, 0, CO_OPEN, CO_FOLLOWS              \
    }
#define WARM_UP                                                                                                                \
    {                                                                                                                          \
        CO_PHASE_WARM_UP, "everything slow; the target is closed", co_do_warm_up, CO_FAIL_REFUSE, 0, CO_OPEN, CO_CLOSED        \
    }
#define FENCE                                                                                                                  \
    {                                                                                                                          \
        CO_PHASE_FENCE, "the source refuses client writes", co_do_fence, CO_FAIL_UNDO, CO_PHASE_PAUSE_BEGINS, CO_FENCED,       \
            CO_CLOSED                                                                                                          \
    }
#define DRAIN                                                                                                                  \
    {                                                                                                                          \
        CO_PHASE_DRAIN, "writes in flight end and are seen gone", co_do_drain, CO_FAIL_UNDO, 0, CO_FENCED, CO_CLOSED           \
    }
#define CAPTURE                                                                                                                \
    {                                                                                                                          \
        CO_PHASE_CAPTURE, "the final position", co_do_capture, CO_FAIL_UNDO, 0, CO_FENCED, CO_CLOSED                           \
    }
#define CATCH_UP                                                                                                               \
    {                                                                                                                          \
        CO_PHASE_CATCH_UP, "the target has applied the final position", co_do_catch_up, CO_FAIL_UNDO, 0, CO_FENCED, CO_CLOSED  \
    }
#define PROVE                                                                                                                  \
    {                                                                                                                          \
        CO_PHASE_PROVE, "no client can have written since the capture", co_do_prove, CO_FAIL_UNDO, 0, CO_FENCED, CO_CLOSED     \
    }
#define REVERSE_PREPARE                                                                                                        \
    {                                                                                                                          \
        CO_PHASE_REVERSE_PREPARE, "the source can't become a writable primary by itself", co_do_reverse_prepare, CO_FAIL_UNDO, \
            0, CO_FENCED, CO_CLOSED                                                                                            \
    }
#define PROMOTE                                                                                                                \
    {                                                                                                                          \
        CO_PHASE_PROMOTE, "the target is a primary, still closed", co_do_promote, CO_FAIL_UNDO, 0, CO_FENCED,                  \
            CO_PROMOTED_CLOSED                                                                                                 \
    }
#define COMMIT                                                                                                                 \
    {                                                                                                                          \
        CO_PHASE_COMMIT, "one journal record decides", co_do_commit, CO_FAIL_UNDO, CO_PHASE_COMMIT_POINT, CO_FENCED,           \
            CO_PROMOTED_CLOSED                                                                                                 \
    }
#define OPEN                                                                                                                   \
    {                                                                                                                          \
        CO_PHASE_OPEN, "the target accepts client writes", co_do_open, CO_FAIL_FORWARD, CO_PHASE_PAUSE_ENDS, CO_FENCED,        \
            CO_OPEN                                                                                                            \
    }
#define SWITCH_LATE                                                                                                            \
    {                                                                                                                          \
        CO_PHASE_SWITCH, "hooks move the traffic", co_do_switch, CO_FAIL_FOLLOW_UP, 0, CO_FENCED, CO_OPEN                      \
    }
#define SWITCH_EARLY                                                                                                           \
    {                                                                                                                          \
        CO_PHASE_SWITCH, "hooks move the traffic", co_do_switch, CO_FAIL_UNDO, 0, CO_FENCED, CO_PROMOTED_CLOSED                \
    }
#define CONFIRM                                                                                                                \
    {                                                                                                                          \
        CO_PHASE_CONFIRM, "the source refuses a real write, the target takes one", co_do_confirm, CO_FAIL_FOLLOW_UP, 0,        \
            CO_FENCED, CO_OPEN                                                                                                 \
    }
#define REVERSE                                                                                                                \
    {                                                                                                                          \
        CO_PHASE_REVERSE, "the old primary follows the new one", co_do_reverse, CO_FAIL_FOLLOW_UP, 0, CO_FOLLOWS, CO_OPEN      \
    }

static const struct co_phase_def before_switch[] = {LOCK,    CHECK,       GATE,    WARM_UP,         FENCE,   DRAIN,
                                                    CAPTURE, CATCH_UP,    PROVE,   REVERSE_PREPARE, PROMOTE, COMMIT,
                                                    OPEN,    SWITCH_LATE, CONFIRM, REVERSE};
static const struct co_phase_def after_switch[] = {LOCK,    CHECK,    GATE,    WARM_UP,         FENCE,   DRAIN,
                                                   CAPTURE, CATCH_UP, PROVE,   REVERSE_PREPARE, PROMOTE, SWITCH_EARLY,
                                                   COMMIT,  OPEN,     CONFIRM, REVERSE};

const struct co_phase_def *co_table(bool switch_first, size_t *ret_count)
{
    *ret_count = sizeof before_switch / sizeof *before_switch;
    return switch_first ? after_switch : before_switch;
}
