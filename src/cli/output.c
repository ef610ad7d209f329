/* output.c - the one place that prints results. Text for people is made from the JSON document, so the two can't
 * say different things. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "cli/internal.h"

/* ---------------------------------------------------------------- values */

/* Servers may answer in any encoding: what isn't UTF-8 becomes U+FFFD. */
static void add_utf8(struct co_text *ret, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        size_t more = *at < 0x80                   ? 0
                      : *at >= 0xc2 && *at <= 0xdf ? 1
                      : (*at & 0xf0) == 0xe0       ? 2
                      : *at >= 0xf0 && *at <= 0xf4 ? 3
                                                   : 9;
        bool good = more < 9;
        for (size_t i = 1; good && i <= more; i++)
            good = (at[i] & 0xc0) == 0x80;
        if (good && more == 2)
            good = !(at[0] == 0xe0 && at[1] < 0xa0) && !(at[0] == 0xed && at[1] >= 0xa0);
        if (good && more == 3)
            good = !(at[0] == 0xf0 && at[1] < 0x90) && !(at[0] == 0xf4 && at[1] >= 0x90);
        co_text_add_bytes(ret, good ? (const char *)at : "\xef\xbf\xbd", good ? more + 1 : 3);
        at += good ? more + 1 : 1;
    }
}

json_t *co_json_text(const char *text)
{
    if (!text)
        return json_null();
    CO_TEXT_AUTO clean = CO_TEXT_INIT;
    add_utf8(&clean, text);
    co_mask_text(&clean);
    json_t *value = json_string(co_text_str(&clean));
    return value ? value : json_null(); /* the mask may have cut a character */
}

json_t *co_json_known(const char *text)
{
    return co_json_text(text && *text ? text : NULL);
}

json_t *co_json_count(int64_t value)
{
    return value < 0 ? json_null() : json_integer(value);
}

json_t *co_json_tristate(enum co_tristate value)
{
    return value == CO_UNKNOWN ? json_null() : json_boolean(value == CO_YES);
}

void co_json_set(json_t *object, const char *key, json_t *value)
{
    if (value)
        (void)json_object_set_new(object, key, value);
}

const char *co_get_str(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

int64_t co_get_int(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
}

const char *co_without_pair(const char *text, const char *pair)
{
    size_t bytes = pair ? strlen(pair) : 0;
    if (bytes == 0 || strncmp(text, "pair ", 5) != 0 || strncmp(text + 5, pair, bytes) != 0)
        return text;
    const char *rest = text + 5 + bytes;
    return strncmp(rest, ": ", 2) == 0 || strncmp(rest, ", ", 2) == 0 ? rest + 2 : text;
}

bool co_get_true(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

/* ---------------------------------------------------------------- errors */

int co_cli_exit_code(int error_code)
{
    switch ((enum co_error_code)error_code) {
    case CO_E_NONE:
        return CO_EXIT_DONE;
    case CO_E_INTERNAL:
    case CO_E_NOMEM:
        return CO_EXIT_INTERNAL;
    case CO_E_CONFIG:
        return CO_EXIT_CONFIG;
    case CO_E_CONFLICT:
        return CO_EXIT_LOCKED;
    case CO_E_BROKEN:
        return CO_EXIT_BROKEN;
    case CO_E_INTERRUPTED:
        return CO_EXIT_INTERRUPTED;
    case CO_E_UNREACHABLE:
    case CO_E_AUTH:
    case CO_E_PRIVILEGE:
    case CO_E_TIMEOUT:
    case CO_E_MISMATCH:
        return CO_EXIT_UNKNOWN;
    case CO_E_REFUSED:
    case CO_E_STATE:
    case CO_E_UNSUPPORTED:
    case CO_E_DATA:
    case CO_E_IO:
    case CO_E_SPACE:
    case CO_E_COMMAND:
    case CO_E_SERVER:
        return CO_EXIT_NO;
    }
    return CO_EXIT_INTERNAL;
}

static void add_error(struct co_cli *cli, const char *code, const struct co_error *err)
{
    json_t *object = json_object();
    co_json_set(object, "code", json_string(code));
    co_json_set(object, "message", co_json_text(err->message));
    co_json_set(object, "hint", co_json_known(err->hint));
    co_json_set(object, "native", co_json_known(err->native));
    (void)json_array_append_new(cli->errors, object);
}

int co_cli_error(struct co_cli *cli, const struct co_error *err)
{
    add_error(cli, co_error_code_name(err->code), err);
    return co_cli_exit_code(err->code);
}

int co_cli_usage(struct co_cli *cli, const char *format, ...)
{
    struct co_error err = {0};
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    va_list args;
    va_start(args, format);
    co_text_vadd(&text, format, args);
    va_end(args);
    co_fail(&err, CO_E_CONFIG, "%s", co_text_str(&text));
    if (cli->command && !cli->command->hidden)
        co_hint(&err, "See: changeover help %s", cli->command->name);
    else
        co_hint(&err, "See: changeover --help");
    add_error(cli, "usage", &err);
    return CO_EXIT_USAGE;
}

/* ---------------------------------------------------------------- printing */

bool co_cli_print(const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t written = write(STDOUT_FILENO, data, bytes);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return false;
        data += written;
        bytes -= (size_t)written;
    }
    return true;
}

json_t *co_cli_envelope(const char *command, int exit_code, json_t *errors, json_t *doc)
{
    json_t *whole = json_object();
    CO_AUTOFREE char *schema = co_printf("changeover.%s/1", command);
    co_json_set(whole, "schema", schema ? json_string(schema) : NULL);
    co_json_set(whole, "exit_code", json_integer(exit_code));
    (void)json_object_set(whole, "errors", errors);
    const char *key;
    json_t *value;
    json_object_foreach(doc, key, value) if (!json_object_get(whole, key))(void) json_object_set(whole, key, value);
    return whole;
}

static void say_errors(const json_t *errors)
{
    size_t i;
    json_t *error;
    json_array_foreach(errors, i, error)
    {
        const char *native = co_get_str(error, "native"), *hint = co_get_str(error, "hint");
        co_complain("%s%s%s%s%s%s", co_get_str(error, "message"), *native ? " [" : "", native, *native ? "]" : "",
                    *hint ? "\n  " : "", hint);
    }
}

void co_cli_finish(struct co_cli *cli, int exit_code)
{
    CO_TEXT_AUTO text = {.max = (size_t)256 << 20};
    bool plain = cli->plain.bytes > 0;
    if (plain) {
        co_text_add_bytes(&text, co_text_str(&cli->plain), cli->plain.bytes);
    } else if (cli->json && !cli->silent) {
        json_t *whole = co_cli_envelope(cli->command ? cli->command->name : "usage", exit_code, cli->errors, cli->doc);
        char *dump = json_dumps(whole, JSON_INDENT(2));
        co_text_set_str(&text, dump);
        co_text_add(&text, "\n");
        free(dump);
        json_decref(whole);
    } else if (cli->render && !cli->silent) {
        cli->render(cli->doc, &text);
        co_mask_text(&text);
    }
    if (text.overflow)
        co_complain("the output is too large or there is no memory for it");
    if (text.bytes > 0 && !co_cli_print(co_text_str(&text), text.bytes) && errno != EPIPE)
        co_complain("cannot write to standard output: %s", strerror(errno));
    if (!cli->json || plain || cli->silent)
        say_errors(cli->errors);
    if (co_log_dropped() > 0)
        co_warn("%ld messages were dropped because nobody read them", co_log_dropped());
}
