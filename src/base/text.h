/* text.h - growing byte strings with a maximum; the core's only string buffer, and the struct co_text that
 * drivers fill through host functions.
 *
 * Invariant: data is NULL or NUL-terminated (the NUL is not counted); bytes <= max. A write that would pass
 * the maximum, or for which there is no memory, leaves the text as it was and sets `overflow`, which stays
 * set until co_text_clear: check it once at the end. Texts marked secret are wiped whenever memory moves.
 */
#ifndef CO_BASE_TEXT_H
#define CO_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define CO_TEXT_MAX ((size_t)4 << 20)

struct co_text {
    char *data;
    size_t bytes;
    size_t capacity;
    size_t max; /* 0: CO_TEXT_MAX */
    bool overflow;
    bool secret;
};

#define CO_TEXT_INIT                                                                                                           \
    {                                                                                                                          \
        0                                                                                                                      \
    }

void co_text_done(struct co_text *text); /* frees; NULL and {0} are fine; usable again afterwards */
void co_text_clear(struct co_text *text);
void co_text_set(struct co_text *text, const char *data, size_t bytes);
void co_text_set_str(struct co_text *text, const char *str); /* NULL counts as "" */
void co_text_add_bytes(struct co_text *text, const char *data, size_t bytes);
void co_text_add(struct co_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void co_text_vadd(struct co_text *text, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
const char *co_text_str(const struct co_text *text); /* never NULL */
char *co_text_take(struct co_text *text);            /* the caller frees; NULL when there was no memory */

/* printf into fresh memory; NULL when there is none. The caller frees. */
char *co_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *co_strdup(const char *str); /* NULL in, NULL out */

#define CO_TEXT_AUTO __attribute__((cleanup(co_text_done))) struct co_text
void co_free_ptr(void *pointer_to_pointer);
#define CO_AUTOFREE __attribute__((cleanup(co_free_ptr)))

#endif
