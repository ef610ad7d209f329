/* optime.c - positions as text, and their order. Pure: neither a server nor the client library.
 *
 * Invariant: positions of different replica sets are never comparable; a lower term with a later time is a history that
 * went another way.
 */
#include "optime.h"

#include <stdio.h>
#include <string.h>

static bool number(const char **at, char end, int64_t max, int64_t *ret)
{
    int64_t value = 0;
    const char *from = *at;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        if (value > (max - (**at - '0')) / 10)
            return false;
        value = value * 10 + (**at - '0');
    }
    if (*at == from || **at != end)
        return false;
    *at += end != '\0';
    *ret = value;
    return true;
}

bool mg_position_parse(const char *text, char ret_set[64], struct mg_optime *ret)
{
    size_t bytes = text ? strcspn(text, "/") : 0;
    int64_t term, seconds, increment;
    if (bytes == 0 || bytes >= 64 || text[bytes] != '/')
        return false;
    const char *at = text + bytes + 1;
    if (!number(&at, '/', INT64_MAX, &term) || !number(&at, '.', UINT32_MAX, &seconds) ||
        !number(&at, '\0', UINT32_MAX, &increment))
        return false;
    snprintf(ret_set, 64, "%.*s", (int)bytes, text);
    *ret = (struct mg_optime){.term = term, .seconds = (uint32_t)seconds, .increment = (uint32_t)increment};
    return true;
}

enum co_order mg_compare(const char *have, const char *want)
{
    char have_set[64], want_set[64];
    struct mg_optime a, b;
    if (!mg_position_parse(have, have_set, &a) || !mg_position_parse(want, want_set, &b))
        return CO_ORDER_UNKNOWN;
    if (strcmp(have_set, want_set) != 0)
        return CO_ORDER_DIVERGED;
    int time =
        a.seconds != b.seconds ? (a.seconds > b.seconds ? 1 : -1) : (a.increment > b.increment) - (a.increment < b.increment);
    if (a.term == b.term)
        return time > 0 ? CO_ORDER_AHEAD : time < 0 ? CO_ORDER_BEHIND : CO_ORDER_EQUAL;
    /* Terms grow along one history, and so do times. */
    if (a.term > b.term)
        return time >= 0 ? CO_ORDER_AHEAD : CO_ORDER_DIVERGED;
    return time <= 0 ? CO_ORDER_BEHIND : CO_ORDER_DIVERGED;
}

/* An optime counts neither bytes nor transactions. */
void mg_distance(const char *have, const char *want, struct co_distance *ret)
{
    enum co_order order = mg_compare(have, want);
    ret->bytes = -1;
    ret->transactions = order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD ? 0 : -1;
}
