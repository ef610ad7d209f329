/* fuzz_parse.c - numbers, durations, sizes: no overflow, and what is shown of a result is short. */
#include "base/parse.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 1);
    FUZZ_EXPECT(text != NULL);
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    struct co_error err = {0};
    int64_t value = 0;
    bool flag = false;
    char shown[32];
    if (co_parse_int(text, INT64_MIN, INT64_MAX, &value, &err) == 0) {
        char again[32];
        snprintf(again, sizeof again, "%lld", (long long)value);
        int64_t second = 0;
        FUZZ_EXPECT(co_parse_int(again, INT64_MIN, INT64_MAX, &second, &err) == 0 && second == value);
    }
    if (co_parse_duration_ms(text, &value, &err) == 0) {
        FUZZ_EXPECT(value >= 0);
        FUZZ_EXPECT(strlen(co_format_duration_ms(value, shown)) > 0);
    }
    if (co_parse_bytes(text, &value, &err) == 0) {
        FUZZ_EXPECT(value >= 0);
        FUZZ_EXPECT(strlen(co_format_bytes(value, shown)) > 0);
    }
    (void)co_parse_bool(text, &flag, &err);
    free(text);
    return 0;
}
