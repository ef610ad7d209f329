/* cutover.pml - the cutover protocol of docs/design.md as a model for spin: every interleaving of a tool, its
 * guardian, a resume on the same machine, a second operator on another machine (no journal), two servers that
 * crash, a journal whose fsync fails, replies that are lost and statements that arrive late.
 *
 * Invariants (CHECK, after every change of a server): never two open sides; an open side holds every
 * acknowledged write. At rest (the judge): with a living guardian and both servers up exactly one side is open;
 * once the servers are back and `resume` may run undisturbed, exactly one side is open.
 *
 * A process that is frozen is a process that spin doesn't schedule, so freezes need no code: the guardian may
 * suspect the tool at any moment. What the model leaves out: the phases before the fence (nothing is changed for
 * clients there), hooks, reverse, groups of pairs and the pair that can't vote.
 *
 * Guards that can be taken away, to see that each is needed (tests/model/run does it):
 *   NO_MARKER_CHECK   servers execute statements whatever their marker holds
 *   CHECK_THEN_ACT    the marker is looked at before the statement is sent, not in the same round trip
 *   NO_SECOND_PROOF   no proof between the promotion and the commit
 *   NO_UNDO_FIRST     A is reverted before the undo is durable
 *   SHARED_CLOSURE    B is closed only by A's fence, which replication carries
 *   NO_EPOCH_RAISE    a tool that undoes keeps its epoch
 *   NO_JOURNAL_EPOCH  the journal takes decisions whatever the epoch
 *   TRUST_CACHE       who takes a run over acts on a decision that it read, without making it durable
 *   NO_DRAIN          the position is captured while writes are in flight
 *   NO_BEHIND_CHECK   undo opens an A that came back behind the captured position
 *   NO_SESSION_CHECK  undo compares A's position, then lifts the fence over whatever connection there is then
 *   NO_OPENING        the first `open` isn't preceded by a durable record
 *   Y_ONE_SIDE        a take-over replaces the marker on A only
 *   ABORT_ANY_TIME    `abort --b-is-lost` turns a commit back also when an opening may have been sent
 */
#ifndef FAULTS
#define FAULTS 2 /* kills, crashes, power cuts and breaches of the fence, in any mix */
#endif
#ifndef NET
#define NET 2 /* lost replies and late statements */
#endif
#ifndef JFAIL
#define JFAIL 1 /* decisions whose fsync fails */
#endif
#ifndef WRITES
#define WRITES 2 /* acknowledged writes on A */
#endif

/* actors */
#define T 0
#define G 1
#define R 2
#define Y 3
#define MARK_Y 9 /* the second operator's token; 1..8 are the epochs of the run */

/* statements */
#define FENCE 1
#define UNFENCE 2
#define MARK 3
#define UNMARK 4
#define PROMOTE 5
#define DEMOTE 6
#define OPEN 7

/* how a call ends */
#define DONE 0
#define NO_EFFECT 1
#define UNKNOWN 2
#define CONFLICT 3

/* decisions */
#define NONE 0
#define COMMIT 1
#define UNDO 2

/* roles of B */
#define FOLLOWS 0
#define PROMOTING 1 /* asked to; completes whenever it likes, whoever is gone by then */
#define PRIMARY 2

/* server A: the fence, the marker and the data are durable */
bool a_up = 1, a_stay, a_fence;
byte a_mark = 1, a_gen;       /* a_gen: incarnation */
byte a_have, acked;           /* writes that A has; writes acknowledged by A */
bool in_flight;

/* server B */
bool b_up = 1, b_stay, b_closed = 1;
byte b_mark = 1, b_role = FOLLOWS, b_have; /* b_have: of A's writes */
bool b_own;                   /* acknowledged a write of its own */

/* statements that were sent and have not arrived; a session's end takes them away */
byte la_op, la_tok, la_who;
byte lb_op, lb_tok, lb_who;

/* the journal: what a reader sees now, and what is on the disk */
byte j_epoch = 1, j_dec, d_dec;
bool j_opening, d_opening, j_end;
byte cap;

/* the world */
byte faults = FAULTS, net = NET, jfail = JFAIL;
bool dead[4], gone[4];        /* killed; has ended */
bool cut, r_on, calm, proven, y_on, captured; /* cut: the tool's machine lost power */

#ifdef SHARED_CLOSURE
#define B_SHUT b_closed /* follows A's fence, see REPLICATE */
#else
#define B_SHUT b_closed
#endif
#define A_OPEN (a_up && !a_fence)
#define B_OPEN (b_up && b_role == PRIMARY && !B_SHUT)

#define CHECK                                                                   \
    assert(!(A_OPEN && B_OPEN)); /* never two writers */                        \
    assert(!A_OPEN || (a_have == acked && !b_own)); /* no acknowledged write */ \
    assert(!B_OPEN || b_have == acked)              /* is missing */

#ifdef NO_MARKER_CHECK
#define FITS(mark, tok) true
#else
#ifdef CHECK_THEN_ACT
#define FITS(mark, tok) true
#else
#define FITS(mark, tok) (mark == tok)
#endif
#endif

/* ---------------------------------------------------------------- what the servers do */

/* A marker may be taken from an older epoch of the run, never from another run; Y takes it from anybody. */
#define MAY_MARK(mark, tok) (mark == tok || (tok == MARK_Y) || (mark != 0 && mark < tok))

inline do_a(op, tok, res) {
    res = DONE;
    if
    :: op == MARK && MAY_MARK(a_mark, tok) -> a_mark = tok
    :: op == UNMARK && a_mark == tok -> a_mark = 0
    :: op == FENCE && FITS(a_mark, tok) -> a_fence = 1
    :: op == UNFENCE && FITS(a_mark, tok) -> a_fence = 0
    :: else -> res = CONFLICT
    fi;
    CHECK
}

inline do_b(op, tok, res) {
    res = DONE;
    if
    :: op == MARK && MAY_MARK(b_mark, tok) -> b_mark = tok
    :: op == UNMARK && b_mark == tok -> b_mark = 0
    :: op == PROMOTE && FITS(b_mark, tok) ->
        if
        :: b_role == FOLLOWS -> b_role = PROMOTING
        :: else
        fi
    :: op == DEMOTE && FITS(b_mark, tok) && b_role != PROMOTING -> b_role = FOLLOWS
    :: op == OPEN && FITS(b_mark, tok) -> b_closed = 0
    :: else -> res = CONFLICT
    fi;
    CHECK
}

/* ---------------------------------------------------------------- how statements reach them */

/* First in every step of an actor: it goes on when `ready`, or is killed now (spent from `faults`), or was (by a
 * power cut) and does nothing more. A process that is killed later is the same as a slow one until then. */
#define LIVES(me) (me == Y || !dead[me])
#define GO_WHEN(me, ready)                                                  \
    if                                                                      \
    :: !LIVES(me) -> goto fin                                               \
    :: me != Y && LIVES(me) && faults > 0 -> faults--; dead[me] = 1; goto fin \
    :: LIVES(me) && (ready)                                                 \
    fi
#define GO(me) GO_WHEN(me, true)

/* gen: the incarnation that the session belongs to, or ANY. */
#define ANY 255
#define REACHES_A(gen) (a_up && (gen == ANY || gen == a_gen))

/* A statement's four fates: executed and answered; executed, the answer lost; lost; still under way (it may be
 * executed at any later moment, until its session is ended). */
inline fate_a(me, op, tok, gen, res) {
    if
    :: !REACHES_A(gen) -> res = NO_EFFECT
    :: REACHES_A(gen) -> do_a(op, tok, res)
    :: REACHES_A(gen) && net > 0 -> net--; do_a(op, tok, res); res = UNKNOWN
    :: REACHES_A(gen) && net > 0 -> net--; res = UNKNOWN
    :: REACHES_A(gen) && net > 0 && la_op == 0 -> net--; la_op = op; la_tok = tok; la_who = me; res = UNKNOWN
    fi
}
inline fate_b(me, op, tok, res) {
    if
    :: !b_up -> res = NO_EFFECT
    :: b_up -> do_b(op, tok, res)
    :: b_up && net > 0 -> net--; do_b(op, tok, res); res = UNKNOWN
    :: b_up && net > 0 -> net--; res = UNKNOWN
    :: b_up && net > 0 && lb_op == 0 -> net--; lb_op = op; lb_tok = tok; lb_who = me; res = UNKNOWN
    fi
}

inline send_a(me, op, tok, gen, res) {
#ifdef CHECK_THEN_ACT
    atomic { GO(me); if :: op != MARK && a_up && a_mark != tok -> res = CONFLICT :: else -> res = DONE fi };
#endif
    atomic {
        GO(me);
#ifdef CHECK_THEN_ACT
        if
        :: res == DONE -> fate_a(me, op, tok, gen, res)
        :: else
        fi
#else
        fate_a(me, op, tok, gen, res)
#endif
    }
}
inline send_b(me, op, tok, res) {
#ifdef CHECK_THEN_ACT
    atomic { GO(me); if :: op != MARK && b_up && b_mark != tok -> res = CONFLICT :: else -> res = DONE fi };
#endif
    atomic {
        GO(me);
#ifdef CHECK_THEN_ACT
        if
        :: res == DONE -> fate_b(me, op, tok, res)
        :: else
        fi
#else
        fate_b(me, op, tok, res)
#endif
    }
}

/* Repeats an idempotent statement until its effect is known, waiting while the server is down; a conflict is
 * the caller's to handle. */
inline until_a(me, op, tok, res) {
    do
#ifdef CHECK_THEN_ACT
    :: send_a(me, op, tok, ANY, res);
       if
       :: res == DONE || res == CONFLICT -> break
       :: else
       fi
#else
    :: atomic {
           GO_WHEN(me, a_up);
           fate_a(me, op, tok, ANY, res);
           if
           :: res == DONE || res == CONFLICT -> break
           :: else -> res = DONE
           fi
       }
#endif
    od
}
inline until_b(me, op, tok, res) {
    do
#ifdef CHECK_THEN_ACT
    :: send_b(me, op, tok, res);
       if
       :: res == DONE || res == CONFLICT -> break
       :: else
       fi
#else
    :: atomic {
           GO_WHEN(me, b_up);
           fate_b(me, op, tok, res);
           if
           :: res == DONE || res == CONFLICT -> break
           :: else -> res = DONE
           fi
       }
#endif
    od
}

inline clear_late_a() { la_op = 0; la_tok = 0; la_who = 0 }
inline clear_late_b() { lb_op = 0; lb_tok = 0; lb_who = 0 }

/* The others' sessions on a server are ended and seen gone. */
inline end_others_a(me) { if :: la_op != 0 && la_who != me -> clear_late_a() :: else fi }
inline end_others_b(me) { if :: lb_op != 0 && lb_who != me -> clear_late_b() :: else fi }

/* ---------------------------------------------------------------- the journal */

#ifdef NO_JOURNAL_EPOCH
#define HOLDS(e) true
#else
#define HOLDS(e) (j_epoch == e)
#endif

/* Takes the run over. What was read is made durable with it: else a decision whose fsync had failed could be
 * acted upon and be gone after a power cut. */
inline take(me, e, from_any, res) {
    atomic {
        GO(me);
        if
        :: from_any || j_epoch == e ->
            j_epoch++; e = j_epoch; res = DONE;
#ifndef TRUST_CACHE
            d_dec = j_dec; d_opening = j_opening;
#endif
        :: else -> res = CONFLICT
        fi
    }
}

/* A write that fails may be seen, may be on the disk, both or neither. */
inline decide_undo(me, e) {
    do
    :: atomic {
           GO(me);
           if
           :: !HOLDS(e) -> goto stop
           :: HOLDS(e) -> j_dec = UNDO; d_dec = UNDO; break
           :: HOLDS(e) && jfail > 0 ->
               jfail--;
               if
               :: j_dec = UNDO
               :: skip
               fi;
               if
               :: d_dec = UNDO
               :: skip
               fi
           fi
       }
    od
}

/* Durable only together with what precedes it in the log. */
inline record_opening(me, e) {
#ifndef NO_OPENING
    do
    :: atomic {
           GO(me);
           if
           :: !HOLDS(e) || j_dec != COMMIT -> goto stop
           :: HOLDS(e) && j_dec == COMMIT -> j_opening = 1; d_opening = (d_dec == COMMIT); break
           :: HOLDS(e) && j_dec == COMMIT && jfail > 0 -> jfail--; j_opening = 1
           fi
       }
    od
#else
    atomic { GO(me); if :: !HOLDS(e) || j_dec != COMMIT -> goto stop :: else fi }
#endif
}

inline end_run(me, e) {
    atomic { GO(me); if :: j_epoch == e -> j_end = 1 :: else fi }
}

/* ---------------------------------------------------------------- the two ways out */

/* A first. B need not be seen for it. */
inline undo(me, e, res, gen) {
#ifndef NO_UNDO_FIRST
    decide_undo(me, e);
#endif
    until_a(me, MARK, e, res);
    if
    :: res == CONFLICT && a_mark == 0 /* an undo that had got as far as the end */
    :: res == CONFLICT && a_mark != 0 -> goto stop
    :: res != CONFLICT ->
        do
        :: atomic { /* the others' sessions are gone; the position, over the session that will lift the fence */
               GO_WHEN(me, a_up);
               end_others_a(me);
               gen = a_gen;
               if
#ifndef NO_BEHIND_CHECK
               :: captured && !cut && a_have < cap -> goto stop
#endif
               :: else
               fi
           };
           /* The tool's machine lost power, the position with it, and A isn't the incarnation that was fenced:
            * only B can say whether A came back behind. */
#ifndef NO_BEHIND_CHECK
           if
           :: cut && gen != 0 ->
               atomic {
                   GO_WHEN(me, b_up);
                   if
                   :: b_have > a_have -> goto stop
                   :: else
                   fi
               }
           :: else
           fi;
#endif
#ifdef NO_SESSION_CHECK
           send_a(me, UNFENCE, e, ANY, res);
#else
           send_a(me, UNFENCE, e, gen, res);
#endif
           if
           :: res == DONE -> break
           :: res == CONFLICT -> goto stop
           :: else
           fi
        od
    fi;
    gen = 0;
#ifdef NO_UNDO_FIRST
    decide_undo(me, e);
#endif
    until_b(me, MARK, e, res);
    if
    :: res == CONFLICT && b_mark != 0 -> goto stop
    :: res == CONFLICT && b_mark == 0
    :: res != CONFLICT ->
        do
        :: atomic { GO_WHEN(me, b_up && b_role != PROMOTING); end_others_b(me) };
           send_b(me, DEMOTE, e, res);
           if
           :: res == DONE -> break
           :: res == CONFLICT && b_mark != e -> goto stop
           :: else
           fi
        od;
        until_b(me, UNMARK, e, res)
    fi;
    until_a(me, UNMARK, e, res);
    end_run(me, e)
}

inline open_b(me, e, res) {
    record_opening(me, e);
    until_b(me, OPEN, e, res);
    if
    :: res == CONFLICT -> goto stop
    :: else
    fi;
    until_b(me, UNMARK, e, res);
    until_a(me, UNMARK, e, res);
    end_run(me, e)
}

/* Whoever goes forward without being the process that committed. Where A is down they go on without it: its machine
 * may be lost, and its fence was proven before the commit. */
inline forward(me, e, res) {
    if
    :: !a_up
    :: a_up ->
        until_a(me, MARK, e, res);
        atomic {
            GO(me);
            if
            :: res == CONFLICT && a_mark != 0 -> goto stop
            :: res == CONFLICT && a_mark == 0
            :: res != CONFLICT && a_up && !a_fence -> goto stop
            :: else
            fi
        }
    fi;
    until_b(me, MARK, e, res);
    if
    :: res == CONFLICT -> goto stop /* opened and ended, or taken over */
    :: else
    fi;
    atomic { GO_WHEN(me, b_up); end_others_b(me) };
    open_b(me, e, res)
}

/* ---------------------------------------------------------------- the processes */

proctype Tool() {
    byte e = 1, res, gen;

    if
    :: true -> goto back /* interrupted; the same choice stands at every later phase */
    :: true -> send_a(T, FENCE, e, ANY, res) /* (spin: `else` in here must not become that of this selection) */
    fi;
    if
    :: res != DONE -> goto back
    :: else
    fi;
    /* drain, capture: the position is read after the fence is seen to hold */
    atomic {
#ifdef NO_DRAIN
        GO(T);
#else
        GO_WHEN(T, !in_flight || !a_up);
#endif
        if
        :: a_up && a_fence && a_mark == e && a_gen == 0 -> cap = a_have; captured = 1
        :: else -> goto back
        fi
    };
    /* catch-up, and the first proof */
    atomic {
        GO(T);
        if
        :: b_up && b_closed && b_have >= cap && b_role == FOLLOWS && a_up && a_fence && a_have == cap &&
           a_gen == 0 && a_mark == e
        :: goto back
        fi
    };
    send_b(T, PROMOTE, e, res);
    if
    :: goto back
    :: atomic { GO_WHEN(T, b_up && b_role == PRIMARY) }
    fi;
    /* the second proof; a breach of the fence after this moment is the administrator's, and is only named */
    atomic {
        GO(T);
        proven = 1;
#ifndef NO_SECOND_PROOF
        if
        :: a_up && a_fence && a_have == cap && a_gen == 0 && a_mark == e && b_up && b_closed &&
           b_role == PRIMARY && b_mark == e
        :: else -> goto back
        fi
#endif
    };
    /* the commit point */
    atomic {
        GO(T);
        if
        :: !HOLDS(e) || j_dec != NONE -> goto stop
        :: HOLDS(e) && j_dec == NONE -> j_dec = COMMIT; d_dec = COMMIT
        :: HOLDS(e) && j_dec == NONE && jfail > 0 -> /* failed: unknown until overwritten */
            jfail--;
            if
            :: j_dec = COMMIT
            :: skip
            fi;
            if
            :: d_dec = COMMIT
            :: skip
            fi;
            goto back
        fi
    };
    open_b(T, e, res);
    goto fin;

back:
#ifdef NO_UNDO_FIRST
    res = DONE;
#else
#ifdef NO_EPOCH_RAISE
    atomic { GO(T); if :: HOLDS(e) -> res = DONE :: else -> res = CONFLICT fi };
#else
    take(T, e, false, res);
#endif
#endif
    if
    :: res == CONFLICT -> goto stop
    :: else
    fi;
    undo(T, e, res, gen);
stop:
fin:
    atomic { gone[T] = 1; e = 0; res = 0; gen = 0 }
}

proctype Guardian() {
    byte e, res, gen;

    /* The tool is dead, or seems to be. */
    atomic { GO_WHEN(G, !j_end) };
    if
    :: j_end -> goto fin
    :: dead[G] -> goto fin
    :: !j_end -> take(G, e, true, res)
    fi;
    if
    :: j_dec == COMMIT -> forward(G, e, res)
    :: j_dec != COMMIT -> undo(G, e, res, gen)
    fi;
stop:
fin:
    atomic { gone[G] = 1; e = 0; res = 0; gen = 0 }
}

/* `resume`: needs the lock, so it runs when neither tool nor guardian live. Killed, it is run again. */
proctype Resume() {
    byte e, res, gen;

again:
    atomic {
        (gone[T] && gone[G] && !j_end) -> dead[R] = 0; r_on = 1
    };
    take(R, e, true, res);
    if
    :: j_dec == COMMIT -> forward(R, e, res)
#ifdef ABORT_ANY_TIME
    :: j_dec == COMMIT ->
#else
    :: j_dec == COMMIT && !j_opening -> /* abort --b-is-lost: no open was ever sent */
#endif
        undo(R, e, res, gen)
    :: j_dec != COMMIT -> undo(R, e, res, gen)
    fi;
    goto stop;
fin:
    atomic { r_on = 0; e = 0; res = 0; gen = 0; goto again }
stop:
    atomic { r_on = 0; e = 0; res = 0; gen = 0 }
}

/* The second operator, on another machine, without the journal: takes the run over explicitly. It does nothing
 * before both markers are its own; then no open of the other can arrive any more, and B's own state decides.
 * Killed, it is run again: every step is idempotent and it remembers nothing. */
proctype Second() {
    byte res, gen;

    atomic { (a_mark != 0 || b_mark != 0) && !calm -> y_on = 1 };
    until_a(Y, MARK, MARK_Y, res);
#ifndef Y_ONE_SIDE
    until_b(Y, MARK, MARK_Y, res);
#endif
    atomic { a_up; end_others_a(Y) };
    atomic { b_up && b_role != PROMOTING; end_others_b(Y) };
    if
    :: b_closed || b_role != PRIMARY ->
        do
        :: atomic { /* without the journal the captured position isn't known: A is compared with B */
               a_up && b_up;
               gen = a_gen;
#ifndef NO_BEHIND_CHECK
               if
               :: b_have > a_have -> goto stop
               :: else
               fi
#endif
           };
           send_a(Y, UNFENCE, MARK_Y, gen, res);
           if
           :: res == DONE -> break
           :: else
           fi
        od;
#ifndef Y_ONE_SIDE
        do
        :: (b_up && b_role != PROMOTING);
           send_b(Y, DEMOTE, MARK_Y, res);
           if
           :: res == DONE -> break
           :: else
           fi
        od
#endif
    :: !b_closed && b_role == PRIMARY
    fi;
    until_b(Y, UNMARK, MARK_Y, res);
    until_a(Y, UNMARK, MARK_Y, res);
stop:
fin:
    atomic { y_on = 0; res = 0; gen = 0 }
}

/* ---------------------------------------------------------------- the world */

/* Clients, replication, promotions that complete, statements that arrive late, faults. */
proctype World() {
    byte res;

    do
    /* a client's write on A: begun while A is open, acknowledged later, also after the fence fell */
    :: atomic { A_OPEN && !in_flight && acked < WRITES -> in_flight = 1 }
    :: atomic { in_flight && a_up -> in_flight = 0; acked++; a_have++; CHECK }
    :: atomic { B_OPEN && !b_own -> b_own = 1; CHECK }
    :: atomic { a_up && b_up && b_role != PRIMARY && b_have < a_have -> b_have++ }
    :: atomic { b_up && b_role == PROMOTING -> b_role = PRIMARY; CHECK }
#ifdef SHARED_CLOSURE
    :: atomic { a_up && b_up && b_role != PRIMARY && b_closed != a_fence && b_have == a_have -> b_closed = a_fence; CHECK }
#endif
    /* late statements */
    :: atomic { la_op != 0 && a_up -> do_a(la_op, la_tok, res); res = 0; clear_late_a() }
    :: atomic { lb_op != 0 && b_up -> do_b(lb_op, lb_tok, res); res = 0; clear_late_b() }
    /* faults */
    :: atomic { faults > 0 -> faults = 0 }
    :: atomic { /* a power cut of the tool's machine */
           faults > 0 && !j_end && (!gone[T] || !gone[G] || r_on) ->
           faults--;
           cut = 1; dead[T] = 1; dead[G] = 1; dead[R] = 1;
           j_dec = d_dec; j_opening = d_opening
       }
    :: atomic { /* A crashes */
           faults > 0 && a_up && (!j_end || y_on) -> faults--;
           a_up = 0; in_flight = 0; clear_late_a();
           if
           :: a_stay = 0
           :: a_stay = 1
           fi
       }
    :: atomic { !a_up && (!a_stay || calm) -> a_up = 1; a_stay = 0; a_gen++; CHECK }
    :: atomic { /* ... and comes back without the end of its log, which B has */
           !a_up && (!a_stay || calm) && captured && a_fence && a_have > 0 && a_have == cap && b_have == a_have ->
           a_up = 1; a_stay = 0; a_gen++; a_have--; CHECK
       }
    :: atomic { /* B crashes; a promotion under way may have been made durable or not */
           faults > 0 && b_up && (!j_end || y_on) -> faults--;
           b_up = 0; clear_late_b();
           if
           :: b_role == PROMOTING -> b_role = FOLLOWS
           :: b_role == PROMOTING -> b_role = PRIMARY
           :: b_role != PROMOTING
           fi;
           if
           :: b_stay = 0
           :: b_stay = 1
           fi
       }
    :: atomic { !b_up && (!b_stay || calm) -> b_up = 1; b_stay = 0; CHECK }
    :: atomic { /* a lock times out, a pause expires, somebody lifts the fence and puts it back: one write gets in.
            * (Not on an A that has just lost the end of its log: then positions are reused, and no undo can
            * tell. The administrator's, like a fence lifted after the second proof.) */
           faults > 0 && a_up && a_fence && captured && !proven && j_dec == NONE && a_gen == 0 ->
           faults--; acked++; a_have++
       }
    od
}

/* At rest. */
#define ONE_OPEN (A_OPEN != B_OPEN)
#define BEHIND (captured && a_have < acked)
proctype Judge() {
    timeout;
    atomic {
        if
        :: !dead[G] && a_up && b_up && !BEHIND -> assert(ONE_OPEN)
        :: !dead[G] && a_up && !b_up && j_dec != COMMIT && !y_on && !BEHIND -> assert(A_OPEN)
        :: else
        fi;
        calm = 1; faults = 0; net = 0; jfail = 0
    };
    timeout;
    atomic {
        if
        :: !BEHIND -> assert(ONE_OPEN)
        :: else -> assert(!A_OPEN) /* both closed, exit 5, or B went forward */
        fi
    }
}

init {
    atomic {
#ifdef SHARED_CLOSURE
        b_closed = 0;
#endif
        run Tool();
        run Guardian();
        run Resume();
#ifndef NO_Y
        if
        :: run Second()
        :: skip
        fi;
#endif
        run World();
        run Judge()
    }
}
