/* error.c - fills struct co_error. Invariant: whatever ends up in one was masked before it was cut, so that
 * no half of a secret is left at the end of a buffer. */
#include "base/error.h"

#include <stdarg.h>
#include <string.h>

#include "base/secret.h"
#include "base/text.h"

/* Copies masked text into a fixed buffer; cuts between UTF-8 characters and marks the cut. */
static void put(char *ret, size_t ret_bytes, struct co_text *text)
{
    co_mask_text(text);
    const char *data = co_text_str(text);
    size_t bytes = strlen(data);
    if (bytes >= ret_bytes) {
        bytes = ret_bytes - 4;
        while (bytes > 0 && ((unsigned char)data[bytes] & 0xc0) == 0x80)
            bytes--;
        memcpy(ret, data, bytes);
        memcpy(ret + bytes, "...", 4);
        return;
    }
    memcpy(ret, data, bytes + 1);
}

static const char no_memory[] = "out of memory, also for saying what failed";

int co_fail(struct co_error *err, int code, const char *format, ...)
{
    if (!err)
        return code;
    CO_TEXT_AUTO text = CO_TEXT_INIT; /* first: an argument may point into *err */
    va_list args;
    va_start(args, format);
    co_text_vadd(&text, format, args);
    va_end(args);
    err->code = code;
    err->native[0] = '\0';
    err->hint[0] = '\0';
    put(err->message, sizeof err->message, &text);
    if (err->message[0] == '\0' && text.overflow)
        memcpy(err->message, no_memory, sizeof no_memory);
    return code;
}

void co_hint(struct co_error *err, const char *format, ...)
{
    if (!err)
        return;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    va_list args;
    va_start(args, format);
    co_text_vadd(&text, format, args);
    va_end(args);
    put(err->hint, sizeof err->hint, &text);
}

void co_error_prefix(struct co_error *err, const char *format, ...)
{
    if (!err)
        return;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    va_list args;
    va_start(args, format);
    co_text_vadd(&text, format, args);
    va_end(args);
    co_text_add_bytes(&text, err->message, strnlen(err->message, sizeof err->message));
    if (!text.overflow) /* else the message stands without it */
        put(err->message, sizeof err->message, &text);
}

void co_error_clear(struct co_error *err)
{
    if (err)
        *err = (struct co_error){0};
}

const char *co_error_code_name(int code)
{
    switch ((enum co_error_code)code) {
    case CO_E_NONE:
        return "none";
    case CO_E_INTERNAL:
        return "internal";
    case CO_E_NOMEM:
        return "no_memory";
    case CO_E_CONFIG:
        return "config";
    case CO_E_UNREACHABLE:
        return "unreachable";
    case CO_E_AUTH:
        return "auth";
    case CO_E_PRIVILEGE:
        return "privilege";
    case CO_E_TIMEOUT:
        return "timeout";
    case CO_E_INTERRUPTED:
        return "interrupted";
    case CO_E_REFUSED:
        return "refused";
    case CO_E_STATE:
        return "state";
    case CO_E_MISMATCH:
        return "mismatch";
    case CO_E_CONFLICT:
        return "conflict";
    case CO_E_BROKEN:
        return "broken";
    case CO_E_UNSUPPORTED:
        return "unsupported";
    case CO_E_DATA:
        return "data";
    case CO_E_IO:
        return "io";
    case CO_E_SPACE:
        return "space";
    case CO_E_COMMAND:
        return "command";
    case CO_E_SERVER:
        return "server";
    }
    return "unknown";
}
