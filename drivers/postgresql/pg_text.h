/* pg_text.h - strings of the driver: growing, quoted for SQL, sh and configuration files; and one hash. No server, no
 * client library. */
#ifndef CO_PG_TEXT_H
#define CO_PG_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing string. After a failed allocation `failed` is set and everything is a no-op; take returns NULL. */
struct pg_text {
    char *data; /* NUL-terminated once anything was added, else NULL */
    size_t used, size;
    bool failed;
};
void pg_text_done(struct pg_text *text);
#define PG_TEXT __attribute__((cleanup(pg_text_done))) struct pg_text
void pg_text_bytes(struct pg_text *text, const char *data, size_t bytes);
void pg_text_add(struct pg_text *text, const char *string);
void pg_text_addf(struct pg_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void pg_text_literal(struct pg_text *text, const char *value);                   /* an SQL literal */
void pg_text_ident(struct pg_text *text, const char *value);                     /* a quoted SQL identifier */
void pg_text_shell(struct pg_text *text, const char *value);                     /* one word for sh */
void pg_text_conninfo(struct pg_text *text, const char *key, const char *value); /* " key='value'", skips NULL */
void pg_text_base64(struct pg_text *text, const void *data, size_t bytes);
void pg_text_conf_line(struct pg_text *text, const char *name, const char *value); /* a line of postgresql.conf */
const char *pg_text_str(const struct pg_text *text);                               /* "" when empty or failed */

void pg_free_string(char **string);
#define PG_STRING __attribute__((cleanup(pg_free_string))) char *

bool pg_same(const char *a, const char *b); /* NULL equals NULL only */
bool pg_starts(const char *string, const char *prefix);
int64_t pg_int(const char *string, int64_t otherwise);

/* FNV-1a, for names that must be short and the same everywhere. Not for security. */
uint64_t pg_hash(const void *data, size_t bytes, uint64_t seed);

#endif
