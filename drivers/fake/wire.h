/* wire.h - the fake server's protocol: one line a message, used by the driver, the server and its followers.
 *
 *   request   verb key=value key=value ... id=N
 *   reply     ok key=value ... id=N
 *             err code=NAME message=... hint=... id=N
 *
 * Values are percent-encoded: every byte that isn't printable ASCII, and space, '%', '=', ',' and ';'. A reply
 * carries the id of its request, so that one that comes late is recognised and dropped.
 *
 * Invariant: a buffer's data is NUL-terminated or NULL, and never grows past FK_LINE_MAX; what didn't fit or
 * found no memory sets `failed`, which is checked once, before the line is sent.
 */
#ifndef FAKE_WIRE_H
#define FAKE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FK_LINE_MAX ((size_t)16 << 20)
#define FK_FIELDS_MAX 48

struct fk_buffer {
    char *data;
    size_t bytes, capacity;
    bool failed;
};

void fk_buffer_done(struct fk_buffer *buffer);
void fk_buffer_clear(struct fk_buffer *buffer);
void fk_buffer_add(struct fk_buffer *buffer, const char *data, size_t bytes);
void fk_buffer_str(struct fk_buffer *buffer, const char *str);
void fk_buffer_encode(struct fk_buffer *buffer, const char *value);
void fk_buffer_drop(struct fk_buffer *buffer, size_t bytes); /* from the front */

/* " key=value"; value NULL adds nothing. */
void fk_put(struct fk_buffer *line, const char *key, const char *value);
void fk_put_int(struct fk_buffer *line, const char *key, int64_t value);

struct fk_field {
    char *key, *value;
};

/* A parsed line; the strings are inside the line that was given. */
struct fk_message {
    char *verb;
    struct fk_field fields[FK_FIELDS_MAX];
    size_t count;
};

/* Parses in place; line has no newline. False: malformed. */
bool fk_parse(char *line, struct fk_message *ret);
const char *fk_get(const struct fk_message *message, const char *key); /* NULL: absent */
const char *fk_get_or(const struct fk_message *message, const char *key, const char *otherwise);
int64_t fk_get_int(const struct fk_message *message, const char *key, int64_t otherwise);

/* Decodes one encoded word in place and returns it. */
char *fk_decode(char *word);

/* Strict decimal; otherwise when it isn't one. */
int64_t fk_int(const char *text, int64_t otherwise);

#endif
