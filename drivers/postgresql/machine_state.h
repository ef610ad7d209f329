/* machine_state.h - a server as its machine shows it: the process, the files, pg_controldata. */
#ifndef CO_PG_MACHINE_STATE_H
#define CO_PG_MACHINE_STATE_H

#include <stdbool.h>

#include "pg_position.h"

struct pg_machine_state {
    bool up;           /* a server process runs */
    bool standby;      /* standby.signal is there */
    bool half_rewound; /* a rewind is under way or was interrupted */
    bool clean;        /* "shut down" as a primary */
    struct pg_position checkpoint;
};

/* False: the text isn't what a look prints. */
bool pg_machine_state_parse(const char *said, struct pg_machine_state *ret);

#endif
