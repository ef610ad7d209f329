/* text.c - strings of the driver: growing, quoted for SQL, for sh and for connection strings.
 * A failed allocation marks the text; callers look once, when they use it. */
#include "pg_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (4u << 20)

void pg_text_done(struct pg_text *text)
{
    if (text->data)
        explicit_bzero(text->data, text->used);
    free(text->data);
    *text = (struct pg_text){0};
}

void pg_text_bytes(struct pg_text *text, const char *data, size_t bytes)
{
    if (text->failed)
        return;
    if (bytes > TEXT_MAX - text->used) {
        text->failed = true;
        return;
    }
    size_t need = text->used + bytes + 1;
    if (need > text->size) {
        size_t size = text->size ? text->size : 256;
        while (size < need)
            size *= 2;
        char *grown = malloc(size);
        if (!grown) {
            text->failed = true;
            return;
        }
        if (text->used)
            memcpy(grown, text->data, text->used);
        if (text->data)
            explicit_bzero(text->data, text->used);
        free(text->data);
        text->data = grown;
        text->size = size;
    }
    memcpy(text->data + text->used, data, bytes);
    text->used += bytes;
    text->data[text->used] = 0;
}

void pg_text_add(struct pg_text *text, const char *string)
{
    pg_text_bytes(text, string, strlen(string));
}

void pg_text_addf(struct pg_text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *line = NULL;
    int bytes = vasprintf(&line, format, args);
    va_end(args);
    if (bytes < 0) {
        text->failed = true;
        return;
    }
    pg_text_bytes(text, line, (size_t)bytes);
    explicit_bzero(line, (size_t)bytes);
    free(line);
}

void pg_text_literal(struct pg_text *text, const char *value)
{
    if (!value) {
        pg_text_add(text, "NULL");
        return;
    }
    bool slashes = strchr(value, '\\') != NULL;
    pg_text_add(text, slashes ? "E'" : "'");
    for (const char *at = value; *at; at++) {
        if (*at == '\'' || *at == '\\')
            pg_text_bytes(text, at, 1);
        pg_text_bytes(text, at, 1);
    }
    pg_text_add(text, "'");
}

void pg_text_ident(struct pg_text *text, const char *value)
{
    pg_text_add(text, "\"");
    for (const char *at = value; *at; at++) {
        if (*at == '"')
            pg_text_bytes(text, at, 1);
        pg_text_bytes(text, at, 1);
    }
    pg_text_add(text, "\"");
}

void pg_text_shell(struct pg_text *text, const char *value)
{
    pg_text_add(text, "'");
    for (const char *at = value; *at; at++) {
        if (*at == '\'')
            pg_text_add(text, "'\\''");
        else
            pg_text_bytes(text, at, 1);
    }
    pg_text_add(text, "'");
}

void pg_text_conninfo(struct pg_text *text, const char *key, const char *value)
{
    if (!value || !*value)
        return;
    pg_text_addf(text, "%s%s='", text->used ? " " : "", key);
    for (const char *at = value; *at; at++) {
        if (*at == '\'' || *at == '\\')
            pg_text_add(text, "\\");
        pg_text_bytes(text, at, 1);
    }
    pg_text_add(text, "'");
}

void pg_text_base64(struct pg_text *text, const void *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = data;
    for (size_t at = 0; at < bytes; at += 3) {
        size_t left = bytes - at;
        uint32_t word = (uint32_t)in[at] << 16;
        if (left > 1)
            word |= (uint32_t)in[at + 1] << 8;
        if (left > 2)
            word |= in[at + 2];
        char out[4] = {digits[word >> 18 & 63], digits[word >> 12 & 63], digits[word >> 6 & 63], digits[word & 63]};
        if (left < 3)
            out[3] = '=';
        if (left < 2)
            out[2] = '=';
        pg_text_bytes(text, out, 4);
    }
}

const char *pg_text_str(const struct pg_text *text)
{
    return text->data && !text->failed ? text->data : "";
}

void pg_free_string(char **string)
{
    free(*string);
    *string = NULL;
}

bool pg_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool pg_starts(const char *string, const char *prefix)
{
    return strncmp(string, prefix, strlen(prefix)) == 0;
}

int64_t pg_int(const char *string, int64_t otherwise)
{
    if (!string || !*string)
        return otherwise;
    char *end = NULL;
    errno = 0;
    long long value = strtoll(string, &end, 10);
    return errno || *end ? otherwise : (int64_t)value;
}

void pg_text_conf_line(struct pg_text *text, const char *name, const char *value)
{
    pg_text_addf(text, "%s = '", name);
    for (const char *at = value; *at; at++) {
        if (*at == '\'' || *at == '\\')
            pg_text_bytes(text, at, 1);
        pg_text_bytes(text, at, 1);
    }
    pg_text_add(text, "'\n");
}

uint64_t pg_hash(const void *data, size_t bytes, uint64_t seed)
{
    const unsigned char *at = data;
    uint64_t hash = seed ? seed : 14695981039346656037ULL;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ at[i]) * 1099511628211ULL;
    return hash;
}
