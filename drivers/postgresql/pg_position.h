/* pg_position.h - places in the log: which of two contains the other, and how far apart they are. No server. */
#ifndef CO_PG_POSITION_H
#define CO_PG_POSITION_H

#include "changeover/driver.h"

/* Positions: "<timeline>:<high>/<low>". */
struct pg_position {
    uint32_t timeline;
    uint64_t lsn;
};
bool pg_position_parse(const char *text, struct pg_position *ret);
void pg_position_print(const struct pg_position *position, char ret[40]);
enum co_order pg_compare(const char *have, const char *want);
void pg_distance(const char *have, const char *want, struct co_distance *ret);
/* Where the newest timeline in a history file left the one before: the last line. */
bool pg_fork_point(const char *history, struct pg_position *ret);

#endif
