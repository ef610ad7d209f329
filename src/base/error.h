/* error.h - filling the caller-owned struct co_error of changeover/driver.h. */
#ifndef CO_BASE_ERROR_H
#define CO_BASE_ERROR_H

#include "changeover/driver.h"

/* Sets code and message (masked; cut at the buffer's end), clears native and hint, returns code.
 * err may be NULL. */
int co_fail(struct co_error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Adds the sentence that says what to do. */
void co_hint(struct co_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Puts words in front of the message: "pair orders, side a: " */
void co_error_prefix(struct co_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
void co_error_clear(struct co_error *err);
const char *co_error_code_name(int code); /* "unreachable", "privilege", ... */

#endif
