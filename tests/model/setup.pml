/* setup.pml - who may build side B: setups and cutovers of two machines with journals of their own, killed at any step,
 * around a copy that runs on B's machine by itself. What a cutover does once both markers are its own is in cutover.pml;
 * here it is over in a few steps.
 *
 * Invariants (asserted where B is changed): B is neither copied over nor replaced once it is a primary; two copies
 * never run into one folder; only a whole copy is put in place; nobody promotes a B that is being built.
 *
 * B can't hold a marker before it is a server, and what is done on its machine then isn't checked against one. So a
 * setup is kept alone by the marker on A, which it sets first and removes last. A setup that was killed leaves it, and only
 * a setup of the same journal replaces it: its process is known to be gone, because a living one holds the journal's
 * lock. Another machine takes it over when its operator says that the first one is gone for good.
 *
 * Guards that can be taken away, to see that each is needed (tests/model/run does it):
 *   NO_SETUP_MARKER   setup looks for a marker, and sets none
 *   LOOK_THEN_SET     the marker is looked at before it is set, not in the same round trip
 *   NO_LOOK_AT_COPY   setup begins a copy without seeing whether one runs
 *   NO_JOURNAL_LOCK   two processes may work with one journal
 *   TAKE_OVER_LIVING  the operator says that a machine is gone which isn't
 */
#ifndef KILLS
#define KILLS 3
#endif
#ifndef COMMANDS
#define COMMANDS 3 /* of each machine */
#endif

#define P 1
#define Q 2
#define OWNER(token) ((token) / 8) /* a token names the machine and its command */

/* B */
#define EMPTY 0
#define FOLLOWS 1
#define PRIMARY 2

/* the copy beside B's data directory */
#define NONE 0
#define RUNNING 1
#define WHOLE 2

byte a_mark, b_mark, b = EMPTY, copy = NONE;
byte building;                /* setups between their first change and their last */
byte kills = KILLS;
bool gone_for_good[3];        /* the machine */
bool living[3];               /* a process of it holds its journal's lock */

#define MAY(mark) (mark == 0 || OWNER(mark) == m || (take_over && gone_for_good[OWNER(mark)]))

/* A step of a command is taken, or its process is killed before it. */
#define STEP                                          \
    if                                                \
    :: true                                           \
    :: kills > 0 -> kills--; goto killed              \
    fi

/* Compare-and-set, with what was read a step before. */
#ifdef LOOK_THEN_SET
#define UNCHANGED(mark) true
#else
#define UNCHANGED(mark) (mark == seen)
#endif

proctype Machine(byte m) {
    byte n, token, seen;
    bool mine, take_over, setup;

    do
    :: n < COMMANDS && !gone_for_good[m] ->
        atomic {
            n++;
            seen = 0; mine = 0;
#ifdef NO_JOURNAL_LOCK
            token = m * 8 + n + (_pid / 2) * 4; /* two processes, two runs */
#else
            !living[m] && !gone_for_good[m];
            token = m * 8 + n;
#endif
            living[m] = 1;
            if
            :: setup = 1
            :: setup = 0
            fi;
            if
            :: take_over = 0
            :: take_over = setup
            fi
        };
        /* the marker on A: looked at, then set */
        atomic {
            STEP;
            if
            :: MAY(a_mark) -> seen = a_mark
            :: else -> goto refused
            fi
        };
#ifdef NO_SETUP_MARKER
        if
        :: setup -> goto marked
        :: else
        fi;
#endif
        atomic {
            STEP;
            if
            :: UNCHANGED(a_mark) -> a_mark = token; mine = 1
            :: else -> goto refused
            fi
        };
marked:
        /* the marker on B, where that is a server */
        atomic {
            STEP;
            if
            :: b != EMPTY && MAY(b_mark) -> seen = b_mark
            :: b != EMPTY && !MAY(b_mark) -> goto refused
            :: b == EMPTY && setup
            :: b == EMPTY && !setup -> goto refused
            fi
        };
        atomic {
            STEP;
            if
            :: b == EMPTY
            :: b != EMPTY && UNCHANGED(b_mark) -> b_mark = token
            :: b != EMPTY && !UNCHANGED(b_mark) -> goto refused
            fi
        };
        if
        :: setup ->
            atomic { /* what is there is looked at; B as a primary holds data, and is refused */
                STEP;
                if
                :: b == FOLLOWS -> goto refused /* nothing to do */
                :: b == PRIMARY -> goto refused
#ifdef NO_LOOK_AT_COPY
                :: b == EMPTY -> goto begin
#else
                :: b == EMPTY && copy == NONE -> goto begin
                :: b == EMPTY && copy != NONE -> building++; goto wait
#endif
                fi
            };
begin:
            atomic {
                STEP;
                building++;
                assert(b != PRIMARY);
                assert(copy != RUNNING);
                copy = RUNNING
            };
wait:
            atomic {
                if
                :: copy != RUNNING
                :: kills > 0 -> kills--; building--; goto killed
                fi
            };
            atomic { /* the old data directory is moved aside, the copy takes its place */
                if
                :: true
                :: kills > 0 -> kills--; building--; goto killed
                fi;
                assert(b != PRIMARY);
                assert(copy == WHOLE);
                copy = NONE;
                b = FOLLOWS;
                building--
            }
        :: !setup ->
            atomic { /* the pre-flight and the gate */
                if
                :: b == FOLLOWS
                :: else -> goto refused
                fi
            };
            atomic { /* checked against the marker in the same round trip */
                if
                :: b_mark == token && a_mark == token ->
                    assert(b == FOLLOWS && building == 0 && copy == NONE);
                    b = PRIMARY
                :: else
                fi
            }
        fi;
refused: /* or done: what is this run's goes */
        atomic {
            if
            :: b_mark == token -> b_mark = 0
            :: else
            fi
        };
        atomic {
            if
            :: mine && a_mark == token -> a_mark = 0
            :: else
            fi;
            living[m] = 0
        };
        goto next;
killed:
        atomic {
            living[m] = 0;
            if
            :: true
            :: gone_for_good[m] = 1
            fi
        };
next:
        skip
    :: else -> break
    od
}

/* Goes on whoever is killed. */
proctype Copy() {
    do
    :: copy == RUNNING -> copy = WHOLE
    od
}

#ifdef TAKE_OVER_LIVING
proctype Mistaken() { gone_for_good[P] = 1 }
#endif

init {
    atomic {
        run Machine(P);
        run Machine(Q);
#ifdef NO_JOURNAL_LOCK
        run Machine(P);
#endif
#ifdef TAKE_OVER_LIVING
        run Mistaken();
#endif
        run Copy()
    }
}
