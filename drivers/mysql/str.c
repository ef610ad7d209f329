/* str.c - the module's string builder. Invariant: data is NULL or NUL-terminated; a write that doesn't fit leaves the
 * string as it was and sets `overflow`. */
#include "my.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STR_MAX ((size_t)16 << 20)

void my_str_done(struct my_str *s)
{
    if (s->data)
        explicit_bzero(s->data, s->capacity);
    free(s->data);
    *s = (struct my_str){0};
}

void my_str_clear(struct my_str *s)
{
    s->len = 0;
    s->overflow = false;
    if (s->data)
        s->data[0] = 0;
}

static bool reserve(struct my_str *s, size_t more)
{
    if (s->overflow || more > STR_MAX || s->len + more + 1 > STR_MAX) {
        s->overflow = true;
        return false;
    }
    if (s->len + more + 1 <= s->capacity)
        return true;
    size_t capacity = s->capacity ? s->capacity : 256;
    while (capacity < s->len + more + 1)
        capacity *= 2;
    char *grown = malloc(capacity); /* not realloc: it could leave a copy of a secret behind */
    if (!grown) {
        s->overflow = true;
        return false;
    }
    if (s->data) {
        memcpy(grown, s->data, s->len);
        explicit_bzero(s->data, s->capacity);
        free(s->data);
    }
    grown[s->len] = 0;
    s->data = grown;
    s->capacity = capacity;
    return true;
}

void my_str_addn(struct my_str *s, const char *text, size_t bytes)
{
    if (!reserve(s, bytes))
        return;
    memcpy(s->data + s->len, text, bytes);
    s->len += bytes;
    s->data[s->len] = 0;
}

void my_str_add(struct my_str *s, const char *text)
{
    my_str_addn(s, text ? text : "", text ? strlen(text) : 0);
}

void my_str_addf(struct my_str *s, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int bytes = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (bytes < 0)
        s->overflow = true;
    else if (reserve(s, (size_t)bytes)) {
        vsnprintf(s->data + s->len, (size_t)bytes + 1, format, again);
        s->len += (size_t)bytes;
    }
    va_end(again);
}

void my_str_quote(struct my_str *s, const char *text)
{
    my_str_add(s, "'");
    for (const char *c = text ? text : ""; *c; c++) {
        if (*c == '\'' || *c == '\\')
            my_str_addn(s, "\\", 1);
        my_str_addn(s, c, 1);
    }
    my_str_add(s, "'");
}

void my_str_name(struct my_str *s, const char *name)
{
    my_str_add(s, "`");
    for (const char *c = name; *c; c++)
        my_str_addn(s, *c == '`' ? "``" : c, *c == '`' ? 2 : 1);
    my_str_add(s, "`");
}

void my_str_account(struct my_str *s, const char *user, const char *host)
{
    my_str_quote(s, user);
    my_str_add(s, "@");
    my_str_quote(s, host);
}

const char *my_cstr(const struct my_str *s)
{
    return s->data ? s->data : "";
}
