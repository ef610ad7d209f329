/* text.c - growing byte strings with a maximum; see text.h for the invariant. */
#include "base/text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

static size_t text_max(const struct co_text *text)
{
    return text->max != 0 ? text->max : CO_TEXT_MAX;
}

/* Makes room for `more` bytes and the NUL. A secret never goes through realloc, which may leave the old copy. */
static bool text_grow(struct co_text *text, size_t more)
{
    size_t max = text_max(text);
    if (text->bytes > max || more > max - text->bytes) {
        text->overflow = true;
        return false;
    }
    size_t need = text->bytes + more + 1;
    if (need <= text->capacity)
        return true;
    size_t capacity = text->capacity < 32 ? 32 : text->capacity;
    while (capacity < need)
        capacity = capacity > SIZE_MAX / 2 ? need : capacity * 2;
    if (capacity > max + 1)
        capacity = max + 1;
    char *data;
    if (text->secret) {
        data = malloc(capacity);
        if (data && text->data) {
            memcpy(data, text->data, text->bytes + 1);
            co_wipe(text->data, text->capacity);
            free(text->data);
        }
    } else {
        data = realloc(text->data, capacity);
    }
    if (!data) {
        text->overflow = true;
        return false;
    }
    if (!text->data)
        data[0] = '\0';
    text->data = data;
    text->capacity = capacity;
    return true;
}

void co_text_done(struct co_text *text)
{
    if (!text)
        return;
    if (text->secret && text->data)
        co_wipe(text->data, text->capacity);
    free(text->data);
    text->data = NULL;
    text->bytes = text->capacity = 0;
    text->overflow = false;
}

void co_text_clear(struct co_text *text)
{
    if (text->data) {
        if (text->secret)
            co_wipe(text->data, text->capacity);
        text->data[0] = '\0';
    }
    text->bytes = 0;
    text->overflow = false;
}

void co_text_add_bytes(struct co_text *text, const char *data, size_t bytes)
{
    if (bytes == 0 && text->data)
        return;
    /* data may lie inside text itself: remember where, the memory may move */
    size_t inside = SIZE_MAX;
    if (text->data && data && (uintptr_t)data >= (uintptr_t)text->data &&
        (uintptr_t)data < (uintptr_t)text->data + text->capacity)
        inside = (size_t)((uintptr_t)data - (uintptr_t)text->data);
    if (!text_grow(text, bytes))
        return;
    if (bytes > 0)
        memmove(text->data + text->bytes, inside != SIZE_MAX ? text->data + inside : data, bytes);
    text->bytes += bytes;
    text->data[text->bytes] = '\0';
}

void co_text_set(struct co_text *text, const char *data, size_t bytes)
{
    if (bytes > text_max(text)) {
        text->overflow = true;
        return;
    }
    if (text->data && data && (uintptr_t)data >= (uintptr_t)text->data &&
        (uintptr_t)data < (uintptr_t)text->data + text->capacity) {
        memmove(text->data, data, bytes);
    } else {
        if (bytes > text->bytes && !text_grow(text, bytes - text->bytes))
            return;
        if (!text->data && !text_grow(text, 0))
            return;
        if (bytes > 0)
            memcpy(text->data, data, bytes);
    }
    if (text->secret && bytes < text->bytes)
        co_wipe(text->data + bytes, text->bytes - bytes);
    text->bytes = bytes;
    text->data[bytes] = '\0';
}

void co_text_set_str(struct co_text *text, const char *str)
{
    co_text_set(text, str ? str : "", str ? strlen(str) : 0);
}

void co_text_vadd(struct co_text *text, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int bytes = vsnprintf(NULL, 0, format, args);
    if (bytes < 0) {
        text->overflow = true;
    } else if (text_grow(text, (size_t)bytes)) {
        vsnprintf(text->data + text->bytes, (size_t)bytes + 1, format, again);
        text->bytes += (size_t)bytes;
    }
    va_end(again);
}

void co_text_add(struct co_text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    co_text_vadd(text, format, args);
    va_end(args);
}

const char *co_text_str(const struct co_text *text)
{
    return text && text->data ? text->data : "";
}

char *co_text_take(struct co_text *text)
{
    if (!text->data && !text_grow(text, 0))
        return NULL;
    if (text->overflow)
        return NULL;
    char *data = text->data;
    text->data = NULL;
    text->bytes = text->capacity = 0;
    return data;
}

char *co_printf(const char *format, ...)
{
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    va_list args;
    va_start(args, format);
    co_text_vadd(&text, format, args);
    va_end(args);
    return co_text_take(&text);
}

char *co_strdup(const char *str)
{
    return str ? strdup(str) : NULL;
}

void co_free_ptr(void *pointer_to_pointer)
{
    void *data;
    memcpy(&data, pointer_to_pointer, sizeof data); /* any pointer type, without aliasing trouble */
    free(data);
    data = NULL;
    memcpy(pointer_to_pointer, &data, sizeof data);
}
