/* fuzz_redis_reply.c - any bytes as a server's answer: the codec keeps its limits, and whatever text comes out of it
 * is read without harm as INFO, CLIENT LIST, CONFIG, marker and position. */
#include "fuzz.h"
#include "rd.h"

static void read_text(const char *text)
{
    static char *const names[] = {"get", "set"};
    struct rd_state state = {.offset = -1};
    struct rd_position position;
    struct co_distance distance = {.size = sizeof(distance)};
    RD_MARKER(marker);
    const char *value;
    size_t bytes, plain_bytes;
    char *plain;

    FUZZ_EXPECT(rd_state_parse(&state, text) == 0);
    (void)rd_state_fenced(&state);
    (void)rd_state_accepts_writes(&state);
    (void)rd_write_calls(text, names, 2);
    if (rd_field(text, strlen(text), ' ', "name", &value, &bytes))
        FUZZ_EXPECT(value >= text && value + bytes <= text + strlen(text));
    if (rd_position_parse(text, &position)) {
        FUZZ_EXPECT(position.offset >= 0);
        FUZZ_EXPECT(rd_compare(text, text) == CO_ORDER_EQUAL);
        rd_distance(text, text, &distance);
        FUZZ_EXPECT(distance.bytes == 0);
    } else {
        FUZZ_EXPECT(rd_compare(text, text) == CO_ORDER_UNKNOWN);
    }
    if (rd_marker_parse(text, &marker)) {
        char *printed = rd_marker_print(&marker);

        FUZZ_EXPECT(printed != NULL);
        free(printed);
    }
    plain = rd_unbase64(text, strlen(text), &plain_bytes);
    if (plain) {
        char *again = rd_base64(plain, plain_bytes);

        FUZZ_EXPECT(again && strlen(again) == strlen(text));
        free(again);
    }
    free(plain);
    rd_state_done(&state);
}

static void walk(const redisReply *reply)
{
    (void)rd_config_value(reply, "min-replicas-to-write");
    if (reply->type == REDIS_REPLY_ARRAY) {
        FUZZ_EXPECT(reply->elements <= RD_MAX_ELEMENTS);
        for (size_t at = 0; at < reply->elements; at++)
            walk(reply->element[at]);
    }
    read_text(rd_text(reply));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    redisReader *reader = rd_reader_new();
    redisReply *reply = NULL;
    char *text = rd_strndup((const char *)data, bytes);

    FUZZ_EXPECT(reader && text);
    read_text(text);
    free(text);
    if (redisReaderFeed(reader, (const char *)data, bytes) == REDIS_OK) {
        for (int count = 0; count < 64 && rd_reader_take(reader, &reply) == 1; count++) {
            walk(reply);
            freeReplyObject(reply);
        }
    }
    redisReaderFree(reader);
    return 0;
}
