/* changeover/exit_codes.h - what the program's exit status means.
 *
 * Scripts and CI jobs depend on these numbers: they are never renumbered and never get a second
 * meaning. With several pairs the highest number counts. `lag --format nagios` alone uses the Nagios
 * codes 0 to 3 instead.
 */
#ifndef CHANGEOVER_EXIT_CODES_H
#define CHANGEOVER_EXIT_CODES_H

enum co_exit {
    CO_EXIT_DONE = 0,         /* done; the gate is open; no differences; `abort` backed out */
    CO_EXIT_NO = 1,           /* the gate is closed, a check failed, differences; nothing was changed */
    CO_EXIT_BROKEN = 2,       /* replication is broken or not set up */
    CO_EXIT_UNKNOWN = 3,      /* a side can't be reached or measured */
    CO_EXIT_UNDONE = 4,       /* backed out: the old primary takes writes */
    CO_EXIT_UNFINISHED = 5,   /* `changeover resume` is needed */
    CO_EXIT_FOLLOW_UP = 6,    /* the new primary takes writes; switch, reverse or confirm failed */
    CO_EXIT_USAGE = 64,       /* wrong usage */
    CO_EXIT_CONFIG = 65,      /* the config is wrong */
    CO_EXIT_INTERNAL = 70,    /* an internal error */
    CO_EXIT_LOCKED = 75,      /* another run holds the lock */
    CO_EXIT_INTERRUPTED = 130 /* interrupted before anything changed */
};

#endif
