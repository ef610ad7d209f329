/* position.c - places in the log. Invariant: what can't be compared for certain is "unknown", never "contained". */
#include "pg_position.h"

#include <stdio.h>
#include <string.h>

bool pg_position_parse(const char *text, struct pg_position *ret)
{
    unsigned timeline, high, low;
    int used = 0;
    if (!text || sscanf(text, "%10u:%8X/%8X%n", &timeline, &high, &low, &used) != 3 || text[used] || timeline == 0)
        return false;
    ret->timeline = timeline;
    ret->lsn = (uint64_t)high << 32 | low;
    return true;
}

void pg_position_print(const struct pg_position *position, char ret[40])
{
    snprintf(ret, 40, "%u:%X/%X", position->timeline, (unsigned)(position->lsn >> 32), (unsigned)(position->lsn & 0xffffffffu));
}

enum co_order pg_compare(const char *have, const char *want)
{
    struct pg_position a, b;
    if (!pg_position_parse(have, &a) || !pg_position_parse(want, &b))
        return CO_ORDER_UNKNOWN;
    if (a.timeline != b.timeline) {
        /* Without the history file nobody knows where a timeline forked off; an older one that is further on has
         * certainly left the newer one's history, everything else is open. */
        return a.timeline < b.timeline ? (a.lsn > b.lsn ? CO_ORDER_DIVERGED : CO_ORDER_BEHIND) : CO_ORDER_UNKNOWN;
    }
    return a.lsn < b.lsn ? CO_ORDER_BEHIND : a.lsn > b.lsn ? CO_ORDER_AHEAD : CO_ORDER_EQUAL;
}

void pg_distance(const char *have, const char *want, struct co_distance *ret)
{
    struct pg_position a, b;
    ret->bytes = -1;
    ret->transactions = -1;
    if (!pg_position_parse(have, &a) || !pg_position_parse(want, &b) || a.timeline > b.timeline)
        return;
    ret->bytes = a.lsn >= b.lsn ? 0 : (int64_t)(b.lsn - a.lsn);
}

bool pg_fork_point(const char *history, struct pg_position *ret)
{
    bool found = false;
    for (const char *line = history; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        unsigned timeline, high, low;
        if (sscanf(line, "%10u %8X/%8X", &timeline, &high, &low) == 3) {
            ret->timeline = timeline;
            ret->lsn = (uint64_t)high << 32 | low;
            found = true;
        }
    }
    return found;
}
