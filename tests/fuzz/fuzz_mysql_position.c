/* fuzz_mysql_position.c - GTID positions of both flavours: whatever a server (or a note) says, comparing is sound. The input
 * is two positions, apart by a '|'. */
#include "../../drivers/mysql/gtid.c"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 1);
    FUZZ_EXPECT(text != NULL);
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    char *other = strchr(text, '|');
    if (other)
        *other++ = '\0';
    else
        other = text;
    enum my_pos_kind kind = my_pos_kind(text);
    struct co_distance same = {.size = sizeof same}, apart = {.size = sizeof apart};
    my_pos_distance(text, text, &same);
    if (kind == MY_POS_BAD || kind == MY_POS_EMPTY) {
        FUZZ_EXPECT(my_pos_compare(other, text) == CO_ORDER_UNKNOWN);
        FUZZ_EXPECT(same.transactions == -1 && same.bytes == -1);
    } else {
        FUZZ_EXPECT(my_pos_compare(text, text) == CO_ORDER_EQUAL);
        FUZZ_EXPECT(kind == MY_POS_FILE ? same.bytes == 0 : same.transactions == 0);
    }
    enum co_order there = my_pos_compare(other, text), back = my_pos_compare(text, other);
    if (there == CO_ORDER_EQUAL)
        FUZZ_EXPECT(back == CO_ORDER_EQUAL);
    if (there == CO_ORDER_AHEAD)
        FUZZ_EXPECT(back == CO_ORDER_BEHIND || back == CO_ORDER_UNKNOWN);
    my_pos_distance(other, text, &apart);
    FUZZ_EXPECT(apart.transactions >= -1 && apart.bytes >= -1);
    if (there == CO_ORDER_AHEAD || there == CO_ORDER_EQUAL)
        FUZZ_EXPECT(apart.transactions <= 0);
    (void)my_pos_equal_in(other, text);
    free(text);
    return 0;
}
