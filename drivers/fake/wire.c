/* wire.c - see wire.h. */
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fk_buffer_done(struct fk_buffer *buffer)
{
    if (!buffer) {
        return;
    }
    free(buffer->data);
    *buffer = (struct fk_buffer){0};
}

void fk_buffer_clear(struct fk_buffer *buffer)
{
    buffer->bytes = 0;
    buffer->failed = false;
    if (buffer->data) {
        buffer->data[0] = 0;
    }
}

void fk_buffer_add(struct fk_buffer *buffer, const char *data, size_t bytes)
{
    if (buffer->failed) {
        return;
    }
    if (bytes > FK_LINE_MAX - buffer->bytes) {
        buffer->failed = true;
        return;
    }
    size_t needed = buffer->bytes + bytes + 1;
    if (needed > buffer->capacity) {
        size_t capacity = buffer->capacity ? buffer->capacity : 256;
        while (capacity < needed) {
            capacity *= 2;
        }
        char *grown = realloc(buffer->data, capacity);
        if (!grown) {
            buffer->failed = true;
            return;
        }
        buffer->data = grown;
        buffer->capacity = capacity;
    }
    memcpy(buffer->data + buffer->bytes, data, bytes);
    buffer->bytes += bytes;
    buffer->data[buffer->bytes] = 0;
}

void fk_buffer_str(struct fk_buffer *buffer, const char *str)
{
    fk_buffer_add(buffer, str, strlen(str));
}

static bool plain(unsigned char c)
{
    return c > ' ' && c < 0x7f && c != '%' && c != '=' && c != ',' && c != ';';
}

void fk_buffer_encode(struct fk_buffer *buffer, const char *value)
{
    static const char hex[] = "0123456789abcdef";
    for (const unsigned char *p = (const unsigned char *)value; *p;) {
        const unsigned char *run = p;
        while (plain(*p)) {
            p++;
        }
        if (p > run) {
            fk_buffer_add(buffer, (const char *)run, (size_t)(p - run));
        }
        if (*p) {
            char escaped[3] = {'%', hex[*p >> 4], hex[*p & 15]};
            fk_buffer_add(buffer, escaped, sizeof escaped);
            p++;
        }
    }
}

void fk_buffer_drop(struct fk_buffer *buffer, size_t bytes)
{
    if (bytes >= buffer->bytes) {
        fk_buffer_clear(buffer);
        return;
    }
    memmove(buffer->data, buffer->data + bytes, buffer->bytes - bytes + 1);
    buffer->bytes -= bytes;
}

void fk_put(struct fk_buffer *line, const char *key, const char *value)
{
    if (!value) {
        return;
    }
    fk_buffer_str(line, " ");
    fk_buffer_str(line, key);
    fk_buffer_str(line, "=");
    fk_buffer_encode(line, value);
}

void fk_put_int(struct fk_buffer *line, const char *key, int64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)value);
    fk_put(line, key, digits);
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return -1;
}

char *fk_decode(char *word)
{
    char *to = word;
    for (char *from = word; *from;) {
        if (from[0] == '%' && digit(from[1]) >= 0 && digit(from[2]) >= 0) {
            *to++ = (char)(digit(from[1]) * 16 + digit(from[2]));
            from += 3;
        } else {
            *to++ = *from++;
        }
    }
    *to = 0;
    return word;
}

bool fk_parse(char *line, struct fk_message *ret)
{
    char *rest = NULL;
    ret->count = 0;
    ret->verb = strtok_r(line, " ", &rest);
    if (!ret->verb) {
        return false;
    }
    for (char *word = strtok_r(NULL, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');
        if (!value || value == word || ret->count == FK_FIELDS_MAX) {
            return false;
        }
        *value++ = 0;
        ret->fields[ret->count].key = word;
        ret->fields[ret->count].value = fk_decode(value);
        ret->count++;
    }
    return true;
}

const char *fk_get(const struct fk_message *message, const char *key)
{
    for (size_t i = 0; i < message->count; i++) {
        if (strcmp(message->fields[i].key, key) == 0) {
            return message->fields[i].value;
        }
    }
    return NULL;
}

const char *fk_get_or(const struct fk_message *message, const char *key, const char *otherwise)
{
    const char *value = fk_get(message, key);
    return value ? value : otherwise;
}

int64_t fk_int(const char *text, int64_t otherwise)
{
    if (!text || !*text) {
        return otherwise;
    }
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    return errno || *end ? otherwise : (int64_t)value;
}

int64_t fk_get_int(const struct fk_message *message, const char *key, int64_t otherwise)
{
    return fk_int(fk_get(message, key), otherwise);
}
