/* position.c - positions as text, and what follows from two of them. Pure: no server is asked.
 *
 *   <replid>:<offset>[;<replid2>:<offset2>][;f=<token>]
 *
 * A history is named by its replication id; an offset counts its bytes. A promoted server starts a new id and keeps
 * the one before as its second: it contains that history up to offset2 (PSYNC2, Redis 4.0 and later). A server that
 * lost its id in a restart (append-only file) still shows the last write before the fence, f: the file is one log, so
 * whoever holds that write holds everything before it.
 *
 * Invariant: AHEAD and EQUAL are claimed only where one of these says so.
 */
#include "rd.h"

#include <stdlib.h>
#include <string.h>

static bool parse_pair(const char *text, size_t bytes, char ret_id[41], int64_t *ret_offset)
{
    if (bytes < 42 || text[40] != ':')
        return false;
    for (size_t at = 0; at < 40; at++) {
        if (!strchr("0123456789abcdef", text[at]) || text[at] == '\0')
            return false;
    }
    if (!rd_parse_int(text + 41, bytes - 41, ret_offset) || *ret_offset < 0)
        return false;
    memcpy(ret_id, text, 40);
    ret_id[40] = '\0';
    return true;
}

bool rd_position_parse(const char *text, struct rd_position *ret)
{
    struct rd_position position = {.offset = -1, .offset2 = -1};
    bool first = true;

    while (*text) {
        const char *end = strchr(text, ';');
        size_t bytes = end ? (size_t)(end - text) : strlen(text);

        if (first) {
            if (!parse_pair(text, bytes, position.replid, &position.offset))
                return false;
        } else if (bytes > 2 && memcmp(text, "f=", 2) == 0 && !position.fence) {
            position.fence = text + 2;
            position.fence_bytes = bytes - 2;
        } else if (position.offset2 >= 0 || !parse_pair(text, bytes, position.replid2, &position.offset2)) {
            return false;
        }
        first = false;
        text += bytes + (end ? 1 : 0);
    }
    if (first)
        return false;
    *ret = position;
    return true;
}

static enum co_order order_of(int64_t have, int64_t want)
{
    return have < want ? CO_ORDER_BEHIND : have > want ? CO_ORDER_AHEAD : CO_ORDER_EQUAL;
}

enum co_order rd_compare(const char *have_text, const char *want_text)
{
    struct rd_position have, want;

    if (!rd_position_parse(have_text, &have) || !rd_position_parse(want_text, &want))
        return CO_ORDER_UNKNOWN;
    if (strcmp(have.replid, want.replid) == 0)
        return order_of(have.offset, want.offset);
    if (have.offset2 >= 0 && strcmp(have.replid2, want.replid) == 0) {
        /* have branched off want's history at offset2 */
        if (have.offset2 >= want.offset)
            return have.offset == want.offset ? CO_ORDER_EQUAL : CO_ORDER_AHEAD;
    } else if (want.offset2 >= 0 && strcmp(want.replid2, have.replid) == 0) {
        return have.offset <= want.offset2 ? CO_ORDER_BEHIND : CO_ORDER_DIVERGED;
    }
    if (have.fence && want.fence && have.fence_bytes == want.fence_bytes &&
        memcmp(have.fence, want.fence, have.fence_bytes) == 0)
        return CO_ORDER_EQUAL;
    return CO_ORDER_DIVERGED;
}

void rd_distance(const char *have_text, const char *want_text, struct co_distance *ret)
{
    struct rd_position have, want;

    ret->bytes = -1;
    ret->transactions = -1;
    switch (rd_compare(have_text, want_text)) {
    case CO_ORDER_EQUAL:
    case CO_ORDER_AHEAD:
        ret->bytes = 0;
        break;
    case CO_ORDER_BEHIND:
        if (rd_position_parse(have_text, &have) && rd_position_parse(want_text, &want))
            ret->bytes = want.offset - have.offset;
        break;
    case CO_ORDER_DIVERGED:
    case CO_ORDER_UNKNOWN:
        break;
    }
}
