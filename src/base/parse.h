/* parse.h - the one parser for numbers, durations and sizes, with messages that name value and expectation.
 * Functions return 0 or CO_E_CONFIG with err filled; *ret is set only on success. */
#ifndef CO_BASE_PARSE_H
#define CO_BASE_PARSE_H

#include "base/error.h"

int co_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret, struct co_error *err);
/* "500ms", "10s", "2m", "1h", "1.5s"; a bare number is seconds. */
int co_parse_duration_ms(const char *text, int64_t *ret, struct co_error *err);
/* "1024", "64KiB", "1MiB", "1GB" (1000-based without i). */
int co_parse_bytes(const char *text, int64_t *ret, struct co_error *err);
int co_parse_bool(const char *text, bool *ret, struct co_error *err); /* true/false/yes/no/on/off */

/* For people: "1.5 s", "230 ms", "2 m 3 s" and "12.4 MiB". Returns ret. */
const char *co_format_duration_ms(int64_t ms, char ret[32]);
const char *co_format_bytes(int64_t bytes, char ret[32]);

#endif
