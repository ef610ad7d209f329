/* table.h - the cutover as one table: the executor walks it, --dry-run and the documentation print it, and the
 * invariant tests read it.
 */
#ifndef CO_CUTOVER_TABLE_H
#define CO_CUTOVER_TABLE_H

#include "cutover/run.h"

enum co_on_failure {
    CO_FAIL_REFUSE,   /* nothing a client notices was changed: take it back, exit 1, 2, 3 or 75 */
    CO_FAIL_UNDO,     /* writes are refused: back to the source, exit 4 */
    CO_FAIL_FORWARD,  /* decided: only forward, exit 5 */
    CO_FAIL_FOLLOW_UP /* the new primary serves: note it and go on, exit 6 */
};

enum co_phase_flags { CO_PHASE_PAUSE_BEGINS = 1 << 0, CO_PHASE_COMMIT_POINT = 1 << 1, CO_PHASE_PAUSE_ENDS = 1 << 2 };

/* What may be written to on each side once the phase is done: for the invariant tests. */
enum co_side_state { CO_OPEN, CO_FENCED, CO_FOLLOWS, CO_CLOSED, CO_PROMOTED_CLOSED };

struct co_phase_def {
    enum co_phase phase;
    const char *title;
    int (*action)(struct co_runner *run); /* 0 or CO_E_*, with the reasons noted (co_runner_note) */
    enum co_on_failure on_failure;
    unsigned flags;
    enum co_side_state source_after, target_after;
};

/* The phases in order; with after_switch, traffic is switched before the commit. */
const struct co_phase_def *co_table(bool after_switch, size_t *ret_count);

#endif
