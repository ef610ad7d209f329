/* changeover/str.h - strings for drivers: growing, quoted, compared, read as numbers. Nothing but libc behind it, and
 * nothing of it crosses the boundary to the core: results leave through the host functions of driver.h.
 *
 * Invariant: data is NULL or NUL-terminated; a write for which there is no memory, or that would pass CO_STR_MAX, leaves
 * the string as it was and sets `failed`, which stays until co_str_clear or co_str_done: look once, at the end. What a string
 * held is wiped whenever its memory moves or goes, so it may hold secrets.
 */
#ifndef CHANGEOVER_STR_H
#define CHANGEOVER_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CO_STR_MAX ((size_t)16 << 20)

struct co_str {
    char *data;
    size_t bytes, capacity;
    bool failed;
};

/* Overwrites in a way that a compiler can't leave out. */
static inline void co_str_wipe(void *data, size_t bytes)
{
    volatile unsigned char *at = (volatile unsigned char *)data;
    for (size_t i = 0; i < bytes; i++)
        at[i] = 0;
}

/* Frees; {0} and one that was freed are fine. */
static inline void co_str_done(struct co_str *str)
{
    if (str->data)
        co_str_wipe(str->data, str->capacity);
    free(str->data);
    str->data = NULL;
    str->bytes = str->capacity = 0;
    str->failed = false;
}
#define CO_STR_AUTO __attribute__((cleanup(co_str_done))) struct co_str

static inline void co_str_clear(struct co_str *str)
{
    str->bytes = 0;
    str->failed = false;
    if (str->data)
        str->data[0] = '\0';
}

/* "" when it is empty or failed. */
static inline const char *co_str_get(const struct co_str *str)
{
    return str->data && !str->failed ? str->data : "";
}

static inline bool co_str_reserve(struct co_str *str, size_t more)
{
    if (str->failed || more >= CO_STR_MAX || str->bytes + more >= CO_STR_MAX) {
        str->failed = true;
        return false;
    }
    if (str->bytes + more + 1 <= str->capacity)
        return true;
    size_t capacity = str->capacity ? str->capacity : 256;
    while (capacity < str->bytes + more + 1)
        capacity *= 2;
    char *grown = (char *)malloc(capacity); /* not realloc: it could leave a copy of a secret behind */
    if (!grown) {
        str->failed = true;
        return false;
    }
    if (str->data) {
        memcpy(grown, str->data, str->bytes);
        co_str_wipe(str->data, str->capacity);
        free(str->data);
    }
    grown[str->bytes] = '\0';
    str->data = grown;
    str->capacity = capacity;
    return true;
}

static inline void co_str_bytes(struct co_str *str, const void *data, size_t bytes)
{
    if (!co_str_reserve(str, bytes))
        return;
    if (bytes)
        memcpy(str->data + str->bytes, data, bytes);
    str->bytes += bytes;
    str->data[str->bytes] = '\0';
}

/* NULL counts as "". */
static inline void co_str_add(struct co_str *str, const char *text)
{
    co_str_bytes(str, text ? text : "", text ? strlen(text) : 0);
}

static inline void co_str_addf(struct co_str *str, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void co_str_addf(struct co_str *str, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int bytes = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (bytes < 0) {
        str->failed = true;
    } else if (co_str_reserve(str, (size_t)bytes)) {
        vsnprintf(str->data + str->bytes, (size_t)bytes + 1, format, again);
        str->bytes += (size_t)bytes;
    }
    va_end(again);
}

/* `text` between two quotes, with each `quote` in it doubled: SQL names and literals without backslash rules. */
static inline void co_str_quoted(struct co_str *str, char quote, const char *text)
{
    co_str_bytes(str, &quote, 1);
    for (const char *at = text ? text : ""; *at; at++) {
        if (*at == quote)
            co_str_bytes(str, &quote, 1);
        co_str_bytes(str, at, 1);
    }
    co_str_bytes(str, &quote, 1);
}

/* One word for a POSIX shell, whatever it holds. */
static inline void co_str_shell(struct co_str *str, const char *word)
{
    co_str_add(str, "'");
    for (const char *at = word ? word : ""; *at; at++) {
        if (*at == '\'')
            co_str_add(str, "'\\''");
        else
            co_str_bytes(str, at, 1);
    }
    co_str_add(str, "'");
}

#define CO_STR_BASE64 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

static inline void co_str_base64(struct co_str *str, const void *data, size_t bytes)
{
    const unsigned char *in = (const unsigned char *)data;
    for (size_t at = 0; at < bytes; at += 3) {
        size_t left = bytes - at;
        unsigned group = (unsigned)in[at] << 16 | (left > 1 ? (unsigned)in[at + 1] << 8 : 0) | (left > 2 ? in[at + 2] : 0u);
        char four[4] = {CO_STR_BASE64[group >> 18 & 63], CO_STR_BASE64[group >> 12 & 63],
                        left > 1 ? CO_STR_BASE64[group >> 6 & 63] : '=', left > 2 ? CO_STR_BASE64[group & 63] : '='};
        co_str_bytes(str, four, sizeof four);
    }
}

/* Adds what the base64 text stands for. False, and nothing added: it isn't base64, or `str` failed. */
static inline bool co_str_unbase64(struct co_str *str, const char *text, size_t bytes)
{
    size_t before = str->bytes;
    bool good = bytes % 4 == 0;
    for (size_t at = 0; at < bytes && good; at += 4) {
        unsigned group = 0;
        size_t padding = 0;
        for (size_t k = 0; k < 4 && good; k++) {
            const char *digit = text[at + k] ? strchr(CO_STR_BASE64, text[at + k]) : NULL;
            if (text[at + k] == '=' && at + 4 == bytes && k >= 2)
                padding++;
            else
                good = digit && padding == 0;
            group = group << 6 | (good && digit ? (unsigned)(digit - CO_STR_BASE64) : 0);
        }
        char three[3] = {(char)(group >> 16 & 255), (char)(group >> 8 & 255), (char)(group & 255)};
        if (good)
            co_str_bytes(str, three, 3 - padding);
    }
    if (good && !str->failed)
        return true;
    str->bytes = before;
    if (str->data)
        str->data[before] = '\0';
    return false;
}

/* ---------------------------------------------------------------- without a string of its own */

/* NULL equals NULL only. */
static inline bool co_str_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static inline bool co_str_starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* A copy that the caller frees; NULL: no memory. */
static inline char *co_str_copy(const char *text, size_t bytes)
{
    char *copy = (char *)malloc(bytes + 1);
    if (copy) {
        memcpy(copy, text, bytes);
        copy[bytes] = '\0';
    }
    return copy;
}

/* The whole of it, in decimal: false for anything else, also for what doesn't fit. */
static inline bool co_str_int(const char *text, size_t bytes, int64_t *ret)
{
    bool negative = bytes > 0 && text[0] == '-';
    int64_t value = 0;
    if (bytes == (negative ? 1u : 0u))
        return false;
    for (size_t at = negative; at < bytes; at++) {
        int digit = text[at] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(value, (int64_t)10, &value) ||
            (negative ? __builtin_sub_overflow(value, (int64_t)digit, &value)
                      : __builtin_add_overflow(value, (int64_t)digit, &value)))
            return false;
    }
    *ret = value;
    return true;
}

/* cleanup for char pointers: CO_STR_FREE char *name = ...; */
static inline void co_str_free(char **text)
{
    free(*text);
    *text = NULL;
}
#define CO_STR_FREE __attribute__((cleanup(co_str_free)))

#endif
