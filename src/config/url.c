/* url.c - takes server URLs apart. Invariant: no message and no field but `password` and `params` holds a
 * secret, and those are registered with the mask before anything can fail. */
#include "config/url.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/parse.h"

void co_url_done(struct co_url *url)
{
    if (!url)
        return;
    free(url->url);
    free(url->scheme);
    free(url->user);
    co_secret_free(url->password);
    free(url->address);
    free(url->database);
    for (char **param = url->params; param && *param; param++) {
        co_wipe(*param, strlen(*param));
        free(*param);
    }
    free(url->params);
    *url = (struct co_url){0};
}

static int hex(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte = (char)tolower((unsigned char)byte);
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Percent-decodes bytes at text into fresh memory; `what` names the part for messages. */
static int decode(const char *text, size_t bytes, const char *what, char **ret, struct co_error *err)
{
    char *out = malloc(bytes + 1);
    if (!out)
        return co_fail(err, CO_E_NOMEM, "no memory");
    size_t length = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] != '%') {
            out[length++] = text[i];
            continue;
        }
        int high = i + 2 < bytes ? hex(text[i + 1]) : -1, low = i + 2 < bytes ? hex(text[i + 2]) : -1;
        if (high < 0 || low < 0 || (high == 0 && low == 0)) {
            co_wipe(out, length);
            free(out);
            co_fail(err, CO_E_CONFIG, "\"%%\" in the URL's %s must be followed by two hexadecimal digits (and not 00)", what);
            co_hint(err, "Write a literal %% as %%25.");
            return CO_E_CONFIG;
        }
        out[length++] = (char)(high * 16 + low);
        i += 2;
    }
    out[length] = '\0';
    free(*ret);
    *ret = out;
    return 0;
}

static bool secret_name(const char *name)
{
    return strcasestr(name, "password") || strcasestr(name, "passwd") || strcasestr(name, "secret") ||
           strcasestr(name, "token");
}

static int take_password(const char *text, size_t bytes, struct co_url *url, struct co_error *err)
{
    char *password = NULL;
    int rc;
    CO_AUTOFREE char *encoded = strndup(text, bytes);
    if (!encoded)
        return co_fail(err, CO_E_NOMEM, "no memory");
    url->has_secret = true;
    co_mask_add(encoded);
    rc = decode(text, bytes, "password", &password, err);
    if (rc == 0) {
        co_mask_add(password);
        co_secret_free(url->password);
        url->password = NULL;
        rc = co_secret_new(password, strlen(password), &url->password, err);
        co_wipe(password, strlen(password));
        free(password);
    }
    co_wipe(encoded, bytes);
    return rc;
}

static int take_user(const char *text, size_t bytes, struct co_url *url, struct co_error *err)
{
    const char *colon = memchr(text, ':', bytes);
    size_t user_bytes = colon ? (size_t)(colon - text) : bytes;
    int rc = 0;
    if (colon && bytes > user_bytes + 1)
        rc = take_password(colon + 1, bytes - user_bytes - 1, url, err);
    if (rc == 0 && user_bytes > 0)
        rc = decode(text, user_bytes, "user name", &url->user, err);
    return rc;
}

static int take_port(const char *text, size_t bytes, int *ret, struct co_error *err)
{
    CO_AUTOFREE char *digits = strndup(text, bytes);
    int64_t port;
    if (!digits)
        return co_fail(err, CO_E_NOMEM, "no memory");
    int rc = co_parse_int(digits, 1, 65535, &port, err);
    if (rc == 0)
        *ret = (int)port;
    else
        co_fail(err, CO_E_CONFIG, "expected a port from 1 to 65535 behind the address's colon");
    return rc;
}

/* Host and port between the slashes. */
static int take_host(const char *text, size_t bytes, char **ret_address, int *ret_port, struct co_error *err)
{
    if (bytes == 0)
        return 0;
    if (memchr(text, ',', bytes))
        return decode(text, bytes, "address", ret_address, err);
    const char *host = text, *rest;
    size_t host_bytes;
    if (*text == '[') {
        const char *close = memchr(text, ']', bytes);
        if (!close)
            return co_fail(err, CO_E_CONFIG, "the IPv6 address has no closing bracket");
        host = text + 1;
        host_bytes = (size_t)(close - host);
        rest = close + 1;
        if (host_bytes == 0 || !memchr(host, ':', host_bytes))
            return co_fail(err, CO_E_CONFIG, "expected an IPv6 address between the brackets");
    } else {
        const char *colon = memchr(text, ':', bytes);
        rest = colon ? colon : text + bytes;
        host_bytes = (size_t)(rest - text);
        if (colon && memchr(colon + 1, ':', bytes - host_bytes - 1)) {
            co_fail(err, CO_E_CONFIG, "more than one colon in the address");
            co_hint(err, "Write an IPv6 address in brackets: [::1]:5432. Write : and @ in a password as %%3A and %%40.");
            return CO_E_CONFIG;
        }
    }
    size_t rest_bytes = (size_t)(text + bytes - rest);
    if (rest_bytes > 0) {
        if (*rest != ':')
            return co_fail(err, CO_E_CONFIG, "expected \":port\" or nothing behind the address");
        int rc = take_port(rest + 1, rest_bytes - 1, ret_port, err);
        if (rc != 0)
            return rc;
    }
    if (host_bytes == 0)
        return co_fail(err, CO_E_CONFIG, "expected a host name or address before the port");
    return decode(host, host_bytes, "address", ret_address, err);
}

int co_url_parse_address(const char *text, char **ret_address, int *ret_port, struct co_error *err)
{
    if (*text == '\0' || strpbrk(text, "@ \t\n") || (strchr(text, '/') && *text != '/'))
        return co_fail(err, CO_E_CONFIG, "expected an address such as db2.internal:5432 or [::1]:5432, got \"%s\"", text);
    if (*text == '/') {
        *ret_address = strdup(text);
        return *ret_address ? 0 : co_fail(err, CO_E_NOMEM, "no memory");
    }
    return take_host(text, strlen(text), ret_address, ret_port, err);
}

/* One name=value; a secret's value is kept out of `clean`, the query as it may be shown. */
static int take_param(const char *text, size_t bytes, struct co_url *url, size_t *count, struct co_text *clean,
                      struct co_error *err)
{
    if (bytes == 0)
        return 0;
    const char *equals = memchr(text, '=', bytes);
    if (!equals || equals == text)
        return co_fail(err, CO_E_CONFIG, "expected name=value pairs behind the URL's question mark");
    char **params = reallocarray(url->params, *count + 3, sizeof *params);
    if (!params)
        return co_fail(err, CO_E_NOMEM, "no memory");
    url->params = params;
    params[*count] = params[*count + 1] = params[*count + 2] = NULL;
    size_t name_bytes = (size_t)(equals - text), value_bytes = bytes - name_bytes - 1;
    CO_AUTOFREE char *name = NULL;
    int rc = decode(text, name_bytes, "parameters", &name, err);
    if (rc != 0)
        return rc;
    if (strncasecmp(name, "ssl", 3) == 0 ? !secret_name(name) : strncasecmp(name, "tls", 3) == 0 && !secret_name(name)) {
        co_fail(err, CO_E_CONFIG, "the parameter %s is not taken from the URL: TLS has keys of its own", name);
        co_hint(err, "Remove it and write, beside url: tls: {mode: verify, ca: /path} (or require, or off).");
        return CO_E_CONFIG;
    }
    if (secret_name(name) && value_bytes > 0) {
        url->has_secret = true;
        CO_AUTOFREE char *encoded = strndup(equals + 1, value_bytes);
        if (!encoded)
            return co_fail(err, CO_E_NOMEM, "no memory");
        co_mask_add(encoded);
        co_wipe(encoded, value_bytes);
    } else {
        co_text_add(clean, "%s%.*s", clean->bytes > 0 ? "&" : "?", (int)bytes, text);
    }
    if (strcasecmp(name, "password") == 0 && value_bytes > 0) {
        if (url->password)
            return co_fail(err, CO_E_CONFIG, "the URL holds two passwords");
        return take_password(equals + 1, value_bytes, url, err);
    }
    char *value = NULL;
    rc = decode(equals + 1, value_bytes, "parameters", &value, err);
    if (rc != 0)
        return rc;
    if (secret_name(name))
        co_mask_add(value);
    params[*count] = name;
    params[*count + 1] = value;
    *count += 2;
    name = NULL;
    return 0;
}

static int take_query(const char *text, struct co_url *url, struct co_text *clean, struct co_error *err)
{
    size_t count = 0;
    while (*text) {
        size_t bytes = strcspn(text, "&");
        int rc = take_param(text, bytes, url, &count, clean, err);
        if (rc != 0)
            return rc;
        text += bytes;
        if (*text == '&')
            text++;
    }
    return 0;
}

static const char *param(const struct co_url *url, const char *name)
{
    for (char **at = url->params; at && *at; at += 2)
        if (strcmp(at[0], name) == 0)
            return at[1];
    return NULL;
}

static int replace(char **field, const char *value, struct co_error *err)
{
    char *copy = strdup(value);
    if (!copy)
        return co_fail(err, CO_E_NOMEM, "no memory");
    free(*field);
    *field = copy;
    return 0;
}

/* host=, socket= and port= among the parameters; unix:///path. */
static int apply_sockets(struct co_url *url, struct co_error *err)
{
    size_t scheme_bytes = strlen(url->scheme);
    bool is_unix =
        strcmp(url->scheme, "unix") == 0 || (scheme_bytes > 5 && strcmp(url->scheme + scheme_bytes - 5, "+unix") == 0);
    int rc = 0;
    if (is_unix) {
        if (url->address || !url->database || *url->database == '\0')
            return co_fail(err, CO_E_CONFIG, "expected the absolute path of a socket: unix:///run/redis/redis.sock");
        url->address = co_printf("/%s", url->database);
        free(url->database);
        url->database = NULL;
        if (!url->address)
            return co_fail(err, CO_E_NOMEM, "no memory");
        return param(url, "db") ? replace(&url->database, param(url, "db"), err) : 0;
    }
    const char *host = param(url, "host") ? param(url, "host") : param(url, "socket");
    if (host && *host) {
        if (url->address && *host != '/')
            return co_fail(err, CO_E_CONFIG, "the URL names two hosts");
        rc = replace(&url->address, host, err);
    }
    const char *port = param(url, "port");
    if (rc == 0 && port) {
        if (url->port != 0)
            return co_fail(err, CO_E_CONFIG, "the URL names two ports");
        rc = take_port(port, strlen(port), &url->port, err);
    }
    return rc;
}

static int take_scheme(const char *text, const char **ret_rest, struct co_url *url, struct co_error *err)
{
    const char *end = strstr(text, "://");
    bool good = end && isalpha((unsigned char)*text);
    for (const char *at = text; good && at < end; at++)
        good = isalnum((unsigned char)*at) || strchr("+.-", *at);
    if (!good) {
        co_fail(err, CO_E_CONFIG, "expected a URL such as postgresql://user@host:5432/database");
        return CO_E_CONFIG;
    }
    url->scheme = strndup(text, (size_t)(end - text));
    if (!url->scheme)
        return co_fail(err, CO_E_NOMEM, "no memory");
    for (char *at = url->scheme; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    *ret_rest = end + 3;
    return 0;
}

static int parse(const char *text, struct co_url *url, struct co_error *err)
{
    const char *rest = NULL;
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        if (*at <= ' ' || *at == 0x7f)
            return co_fail(err, CO_E_CONFIG, "the URL contains a space or control character (write a space as %%20)");
    int rc = take_scheme(text, &rest, url, err);
    if (rc != 0)
        return rc;
    /* The password may hold ? or # unencoded: the last @ before the first slash ends it, and a later one too
     * when no slash came before. */
    size_t authority_bytes = strcspn(rest, "/?#");
    const char *at_sign = memrchr(rest, '@', authority_bytes);
    size_t user_bytes = at_sign ? (size_t)(at_sign - rest) : 0;
    if (at_sign)
        rc = take_user(rest, user_bytes, url, err);
    const char *host = at_sign ? at_sign + 1 : rest;
    size_t host_bytes = authority_bytes - (size_t)(host - rest);
    const char *path = rest + authority_bytes;
    const char *query = path + strcspn(path, "?#");
    CO_TEXT_AUTO clean = CO_TEXT_INIT;
    if (rc == 0 && strchr(path, '#')) {
        co_fail(err, CO_E_CONFIG, "the URL contains a #");
        co_hint(err, "Write # as %%23, / as %%2F, ? as %%3F and @ as %%40 in user names and passwords.");
        return CO_E_CONFIG;
    }
    if (rc == 0 && memchr(path, '@', (size_t)(query - path))) {
        /* most likely an unencoded / in a password: what stands before it must not be shown */
        co_fail(err, CO_E_CONFIG, "the URL contains an @ behind its address");
        co_hint(err, "Write / as %%2F and @ as %%40 in user names and passwords.");
        return CO_E_CONFIG;
    }
    if (rc == 0)
        rc = take_host(host, host_bytes, &url->address, &url->port, err);
    if (rc == 0 && path < query && query - path > 1)
        rc = decode(path + 1, (size_t)(query - path) - 1, "path", &url->database, err);
    if (rc == 0 && *query == '?')
        rc = take_query(query + 1, url, &clean, err);
    if (rc == 0)
        rc = apply_sockets(url, err);
    if (rc != 0)
        return rc;
    const char *colon = at_sign ? memchr(rest, ':', user_bytes) : NULL;
    size_t shown_user = colon ? (size_t)(colon - rest) : user_bytes;
    url->url = co_printf("%s://%.*s%s%.*s%.*s%s", url->scheme, (int)shown_user, rest, at_sign ? "@" : "", (int)host_bytes, host,
                         (int)(query - path), path, co_text_str(&clean));
    return url->url && !clean.overflow ? 0 : co_fail(err, CO_E_NOMEM, "no memory");
}

int co_url_parse(const char *text, struct co_url *ret, struct co_error *err)
{
    struct co_url url = {0};
    if (strlen(text) > 8192)
        return co_fail(err, CO_E_CONFIG, "the URL is longer than 8192 bytes");
    int rc = parse(text, &url, err);
    if (rc != 0) {
        co_url_done(&url);
        return rc;
    }
    *ret = url;
    return 0;
}

static bool one_is_local(const char *host, size_t bytes)
{
    if (bytes > 0 && (*host == '/' || *host == '@'))
        return true;
    if (bytes > 2 && *host == '[') {
        host++;
        bytes = (size_t)((const char *)(memchr(host, ']', bytes - 1) ? memchr(host, ']', bytes - 1) : host + bytes - 1) - host);
    } else {
        const char *colon = memchr(host, ':', bytes);
        if (colon && !memchr(colon + 1, ':', bytes - (size_t)(colon - host) - 1))
            bytes = (size_t)(colon - host);
    }
    if (bytes == 3 && memcmp(host, "::1", 3) == 0)
        return true;
    if (bytes == 9 && strncasecmp(host, "localhost", 9) == 0)
        return true;
    if (bytes < 7 || memcmp(host, "127.", 4) != 0)
        return false;
    for (size_t i = 0; i < bytes; i++) /* 127.example.com is a name */
        if (host[i] != '.' && (host[i] < '0' || host[i] > '9'))
            return false;
    return true;
}

bool co_url_is_local(const char *address)
{
    if (!address || *address == '\0')
        return true; /* the client library's default: a local socket or localhost */
    for (;;) {
        size_t bytes = strcspn(address, ",");
        if (!one_is_local(address, bytes))
            return false;
        if (address[bytes] == '\0')
            return true;
        address += bytes + 1;
    }
}

bool co_url_holds_password(const char *text)
{
    const char *rest = strstr(text, "://");
    if (!rest)
        return false;
    rest += 3;
    /* Generous on purpose: anything between a colon and a later @ */
    const char *at_sign = strrchr(rest, '@');
    const char *colon = at_sign ? memchr(rest, ':', (size_t)(at_sign - rest)) : NULL;
    if (colon && colon + 1 < at_sign && *rest != '/' && *rest != '?')
        return true;
    const char *query = strchr(rest, '?');
    while (query) {
        const char *name = query + 1;
        size_t bytes = strcspn(name, "=&");
        if (name[bytes] == '=' && name[bytes + 1] != '\0' && name[bytes + 1] != '&') {
            CO_AUTOFREE char *copy = strndup(name, bytes);
            if (!copy || secret_name(copy))
                return true;
        }
        query = strchr(name, '&');
    }
    return false;
}
