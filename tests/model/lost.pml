/* lost.pml - `rollback --b-is-lost`: after a cutover the new primary is said to be gone, and the old one, its follower, is
 * opened without it. A tool that is killed at any step, `resume`, an operator who may be wrong, a primary that crashes
 * and comes back. (`abort --b-is-lost`, before anything was opened, is in cutover.pml.)
 *
 * Invariants: never two open sides; what the follower had received is in it when it is opened. What it had not
 * received is given up, which is what the operator agrees to.
 *
 * The rest is the operator's word: a primary that didn't answer when it was asked stays off from then on. No tool
 * can see to that for a machine that it can't reach.
 *
 * Guards that can be taken away, to see that each is needed (tests/model/run does it):
 *   NO_ASK            the operator is believed: nobody asks whether the primary answers
 *   NO_APPLY          the follower is promoted before it has applied what it received
 *   LOST_NO_COMMIT    the follower is opened without a durable decision, so a killed run is taken for one to undo
 */
#define WRITES 2

bool b_up = 1, b_off, a_open, a_primary, a_was_open;
byte b_own, a_got, a_has; /* writes that B acknowledged; that A received; that A applied */
bool commit, over, begun;
byte kills = 2, crashes = 2;

#define CHECK assert(!(a_open && b_up)); assert(!a_open || a_has == a_got)

#define STEP                                \
    if                                      \
    :: true                                 \
    :: kills > 0 -> kills--; goto again     \
    fi

/* The command, and `resume` after each kill. */
proctype Tool() {
    bool resume;
again:
    if
    :: over -> goto done
    :: !over && resume && commit -> goto open
    :: !over && resume && begun && !commit -> goto undo /* a run that was left without a decision goes back */
    :: else
    fi;
    resume = 1;
    atomic {
        STEP;
#ifndef NO_ASK
        if
        :: b_up -> over = 1; goto done /* it answers, so it isn't lost */
        :: !b_up -> b_off = 1          /* and stays so: the operator's word */
        fi;
#endif
        begun = 1
    };
#ifndef NO_APPLY
    atomic { STEP; a_has == a_got };
#endif
    atomic { STEP; a_primary = 1 };
#ifndef LOST_NO_COMMIT
    atomic { STEP; commit = 1 };
#endif
open:
    atomic { STEP; a_open = 1; a_was_open = 1; CHECK };
    atomic { STEP; over = 1; goto done };
undo: /* promoted or not, it stays closed */
    atomic { STEP; a_open = 0; over = 1 };
done:
    skip
}

proctype World() {
    do
    :: atomic { b_up && b_own < WRITES -> b_own++; CHECK }
    :: atomic { b_up && !a_primary && a_got < b_own -> a_got++ }
    :: atomic { !a_primary && a_has < a_got -> a_has++ } /* a primary replays nothing any more */
    :: atomic { b_up && crashes > 0 -> crashes--; b_up = 0 }
    :: atomic { !b_up && !b_off -> b_up = 1; CHECK }
    od
}

/* At rest a side that was opened is open still: clients have written to it. */
proctype Judge() {
    timeout;
    assert(!a_was_open || a_open)
}

init { atomic { run Tool(); run World(); run Judge() } }
