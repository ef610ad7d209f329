/* machine_state.c - what a look at a machine printed. No server, no machine: it is tested and fuzzed by itself. */
#include "machine_state.h"

#include <stdio.h>
#include <string.h>

bool pg_machine_state_parse(const char *said, struct pg_machine_state *ret)
{
    *ret = (struct pg_machine_state){.up = strncmp(said, "up\n", 3) == 0};
    ret->standby = strstr(said, "\nstandby\n") != NULL;
    ret->half_rewound = strstr(said, "\nhalf-rewound\n") != NULL;
    const char *state = strstr(said, "\nstate "), *point = strstr(said, "\ncheckpoint "), *line = strstr(said, "\ntimeline ");
    unsigned high, low, timeline;
    if (!state || !point || !line || sscanf(point, "\ncheckpoint %8X/%8X", &high, &low) != 2 ||
        sscanf(line, "\ntimeline %9u", &timeline) != 1)
        return false;
    ret->checkpoint = (struct pg_position){.timeline = timeline, .lsn = (uint64_t)high << 32 | low};
    /* A standby that was shut down says "shut down in recovery". */
    ret->clean = strncmp(state, "\nstate shut down\n", strlen("\nstate shut down\n")) == 0;
    return true;
}
