/* text.c - small pure helpers: copies, numbers, base64.
 *
 * Invariant: what goes into a server's config file through us is plain base64 and identifiers. Valkey 8.1.1 was seen
 * to write quotes unescaped with CONFIG REWRITE, after which it doesn't start any more.
 */
#include "rd.h"

#include <stdlib.h>
#include <string.h>

char *rd_strndup(const char *text, size_t bytes)
{
    char *copy = malloc(bytes + 1);

    if (!copy)
        return NULL;
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return copy;
}

void rd_free_text(char **text)
{
    free(*text);
    *text = NULL;
}

bool rd_parse_int(const char *text, size_t bytes, int64_t *ret)
{
    bool negative = bytes > 0 && text[0] == '-';
    size_t at = negative ? 1 : 0;
    int64_t value = 0;

    if (at == bytes)
        return false;
    for (; at < bytes; at++) {
        int digit = text[at] - '0';

        if (digit < 0 || digit > 9)
            return false;
        if (__builtin_mul_overflow(value, (int64_t)10, &value) || __builtin_add_overflow(value, (int64_t)digit, &value))
            return false;
    }
    *ret = negative ? -value : value;
    return true;
}

void rd_wipe_text(char **text)
{
    if (*text)
        explicit_bzero(*text, strlen(*text));
    rd_free_text(text);
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *rd_base64(const char *data, size_t bytes)
{
    const unsigned char *in = (const unsigned char *)data;
    char *out, *to;

    if (bytes > SIZE_MAX / 2)
        return NULL;
    out = to = malloc((bytes + 2) / 3 * 4 + 1);
    if (!out)
        return NULL;
    for (size_t at = 0; at < bytes; at += 3) {
        unsigned group = (unsigned)in[at] << 16;
        size_t left = bytes - at;

        if (left > 1)
            group |= (unsigned)in[at + 1] << 8;
        if (left > 2)
            group |= in[at + 2];
        *to++ = base64_digits[group >> 18 & 63];
        *to++ = base64_digits[group >> 12 & 63];
        *to++ = left > 1 ? base64_digits[group >> 6 & 63] : '=';
        *to++ = left > 2 ? base64_digits[group & 63] : '=';
    }
    *to = '\0';
    return out;
}

char *rd_unbase64(const char *text, size_t bytes, size_t *ret_bytes)
{
    char *out;
    size_t used = 0;

    if (bytes % 4 != 0)
        return NULL;
    out = malloc(bytes / 4 * 3 + 1);
    if (!out)
        return NULL;
    for (size_t at = 0; at < bytes; at += 4) {
        unsigned group = 0;
        size_t padding = 0;

        for (size_t k = 0; k < 4; k++) {
            const char *digit = text[at + k] ? strchr(base64_digits, text[at + k]) : NULL;

            if (text[at + k] == '=' && at + 4 == bytes && k >= 2) {
                padding++;
            } else if (!digit || padding > 0) {
                free(out);
                return NULL;
            }
            group = group << 6 | (digit && padding == 0 ? (unsigned)(digit - base64_digits) : 0);
        }
        out[used++] = (char)(group >> 16 & 255);
        if (padding < 2)
            out[used++] = (char)(group >> 8 & 255);
        if (padding < 1)
            out[used++] = (char)(group & 255);
    }
    out[used] = '\0';
    *ret_bytes = used;
    return out;
}
