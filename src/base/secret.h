/* secret.h - secrets in memory and the mask that keeps them out of every output.
 *
 * A secret lives in memory that is locked, kept out of core dumps (MADV_DONTDUMP) and wiped when it is
 * dropped. co_mask_add registers it; co_mask replaces every occurrence in a text with "***" - also its
 * URL-encoded, shell-quoted and SQL-quoted forms. Registration is process-wide and thread-safe. Secrets shorter than 4
 * bytes are masked only as whole words.
 */
#ifndef CO_BASE_SECRET_H
#define CO_BASE_SECRET_H

#include "base/error.h"
#include "base/text.h"

struct co_secret_value; /* opaque */

int co_secret_new(const char *data, size_t bytes, struct co_secret_value **ret, struct co_error *err);
const char *co_secret_str(const struct co_secret_value *secret);
void co_secret_free(struct co_secret_value *secret); /* wipes */
/* First line of a file that only its owner (or root) can read; anything else is refused with the mode it has. */
int co_secret_from_file(const char *path, struct co_secret_value **ret, struct co_error *err);
int co_secret_from_env(const char *name, struct co_secret_value **ret, struct co_error *err);

void co_mask_add(const char *secret);
void co_mask_clear(void); /* wipes and forgets all: when the program ends, and between the inputs of a fuzzer */
void co_mask_text(struct co_text *text);
void co_mask_buffer(char *buffer, size_t buffer_bytes); /* NUL-terminated, in place, never grows */
void co_wipe(void *data, size_t bytes);

#endif
