/* loader.c - walks the tree of the file along the schema's table. Invariant: every key of the file is either in
 * the table, kept for the pair's driver, or refused; every key of the table gets its value or its default. */
#include "config/loader.h"

#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "config/url.h"

int co_loader_fail(struct co_loader *loader, int line, const char *path, const char *format, ...)
{
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    va_list args;
    va_start(args, format);
    co_text_vadd(&text, format, args);
    va_end(args);
    if (*path == '\0')
        return co_fail(loader->err, CO_E_CONFIG, "%s:%d: %s", loader->file, line, co_text_str(&text));
    return co_fail(loader->err, CO_E_CONFIG, "%s:%d: %s: %s", loader->file, line, path, co_text_str(&text));
}

int co_loader_wrap(struct co_loader *loader, int rc, int line, const char *path)
{
    if (rc == CO_E_CONFIG)
        co_error_prefix(loader->err, "%s:%d: %s: ", loader->file, line, path);
    return rc;
}

static int no_memory(struct co_loader *loader)
{
    return co_fail(loader->err, CO_E_NOMEM, "no memory to read %s", loader->file);
}

/* Any pointer member, whatever it points to. */
static void store_pointer(void *base, size_t offset, void *value)
{
    memcpy((char *)base + offset, &value, sizeof value);
}

static void store_int64(void *base, size_t offset, int64_t value)
{
    memcpy((char *)base + offset, &value, sizeof value);
}

static void store_int(void *base, size_t offset, int value)
{
    memcpy((char *)base + offset, &value, sizeof value);
}

static void store_bool(void *base, size_t offset, bool value)
{
    memcpy((char *)base + offset, &value, sizeof value);
}

/* ---------------------------------------------------------------- scalars */

static bool is_name(const char *text)
{
    size_t bytes = strspn(text, CO_NAME_CHARS);
    return bytes > 0 && bytes <= CO_NAME_BYTES && text[bytes] == '\0' && *text != '.' && *text != '-';
}

static int choice(const char *values, const char *text)
{
    size_t bytes = strlen(text);
    int index = 0;
    for (const char *at = values;; index++) {
        size_t length = strcspn(at, "|");
        if (length == bytes && memcmp(at, text, bytes) == 0)
            return index;
        if (at[length] == '\0')
            return -1;
        at += length + 1;
    }
}

static int set_url(struct co_loader *loader, const struct co_node *node, struct co_side_config *side)
{
    struct co_url url = {0};
    int rc = co_url_parse(node->value, &url, loader->err);
    if (rc != 0)
        return rc;
    /* a password that came in through ${NAME} isn't in the file */
    struct co_url raw = {0};
    bool in_file = url.has_secret;
    if (in_file && node->raw && co_url_parse(node->raw, &raw, NULL) == 0 && raw.password && url.password)
        in_file = strncmp(co_secret_str(raw.password), "${", 2) != 0;
    co_url_done(&raw);
    struct co_endpoint_config *endpoint = &side->endpoint;
    endpoint->size = sizeof *endpoint;
    endpoint->url = url.url;
    endpoint->scheme = url.scheme;
    endpoint->user = url.user;
    endpoint->address = url.address;
    endpoint->port = url.port;
    endpoint->database = url.database;
    side->url_params = url.params;
    side->password = url.password;
    if (in_file && !loader->private_file) {
        co_fail(loader->err, CO_E_CONFIG, "the URL holds a password, and others than the file's owner can use the file");
        co_hint(loader->err, "Use password_file or password_env, or run: chmod 600 %s", loader->file);
        return CO_E_CONFIG;
    }
    return 0;
}

static int set_http_url(struct co_loader *loader, const char *text, char **ret)
{
    if (strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0)
        return co_fail(loader->err, CO_E_CONFIG, "expected a URL that begins with http:// or https://");
    if (co_url_holds_password(text)) {
        const char *colon = strchr(strstr(text, "://") + 3, ':');
        const char *end = strrchr(text, '@');
        if (colon && end && colon < end) {
            CO_AUTOFREE char *password = strndup(colon + 1, (size_t)(end - colon - 1));
            co_mask_add(password);
        }
        if (!loader->private_file)
            return co_fail(loader->err, CO_E_CONFIG,
                           "the URL holds a password, and others than the file's owner can use the file");
    }
    *ret = strdup(text);
    return *ret ? 0 : no_memory(loader);
}

static int set_peer(struct co_loader *loader, const char *text, struct co_side_config *side)
{
    char *address = NULL;
    int port = 0;
    int rc = co_url_parse_address(text, &address, &port, loader->err);
    if (rc == 0 && !address)
        rc = co_fail(loader->err, CO_E_CONFIG, "expected an address such as db2.internal:5432");
    side->endpoint.peer_address = address;
    side->endpoint.peer_port = port;
    return rc;
}

static int set_text(struct co_loader *loader, const struct co_schema_key *key, const char *text, void *base)
{
    char *copy;
    if (key->type == CO_TYPE_NAME && !is_name(text))
        return co_fail(loader->err, CO_E_CONFIG,
                       "expected a name of letters, digits, \".\", \"_\" and \"-\", at most 63, got \"%s\"", text);
    if (key->type == CO_TYPE_PATH && *text != '/')
        copy = co_printf("%s/%s", loader->folder, text);
    else
        copy = strdup(text);
    if (!copy)
        return no_memory(loader);
    store_pointer(base, key->offset, copy);
    return 0;
}

static int set_number(struct co_loader *loader, const struct co_schema_key *key, const char *text, void *base)
{
    int64_t number = 0;
    bool flag = false;
    int rc, index;
    switch (key->type) {
    case CO_TYPE_BOOL:
        rc = co_parse_bool(text, &flag, loader->err);
        if (rc == 0)
            store_bool(base, key->offset, flag);
        return rc;
    case CO_TYPE_CHOICE:
    case CO_TYPE_SWITCH:
        index = choice(key->values, text);
        if (index < 0) {
            CO_TEXT_AUTO expected = CO_TEXT_INIT;
            return co_fail(loader->err, CO_E_CONFIG, "expected %s, got \"%s\"", co_schema_type_text(key, &expected), text);
        }
        if (key->type == CO_TYPE_SWITCH)
            store_bool(base, key->offset, index == 1);
        else
            store_int(base, key->offset, index);
        return 0;
    case CO_TYPE_COUNT:
        rc = co_parse_int(text, 0, 1000000, &number, loader->err);
        if (rc == 0)
            store_int(base, key->offset, (int)number);
        return rc;
    case CO_TYPE_INT64:
        rc = co_parse_int(text, 0, INT64_MAX, &number, loader->err);
        break;
    case CO_TYPE_BYTES:
        rc = co_parse_bytes(text, &number, loader->err);
        break;
    default: /* durations */
        rc = co_parse_duration_ms(text, &number, loader->err);
        if (rc == 0 && number == 0 && key->type == CO_TYPE_DURATION)
            rc = co_fail(loader->err, CO_E_CONFIG, "expected a duration of more than 0, got \"%s\"", text);
        if (rc == 0 && number > INT64_C(366) * 24 * 3600 * 1000)
            rc = co_fail(loader->err, CO_E_CONFIG, "expected a duration of at most a year, got \"%s\"", text);
    }
    if (rc == 0)
        store_int64(base, key->offset, number);
    return rc;
}

static int set_scalar(struct co_loader *loader, const struct co_schema_key *key, const struct co_node *node, void *base)
{
    switch (key->type) {
    case CO_TYPE_URL:
        return set_url(loader, node, base);
    case CO_TYPE_ADDRESS:
        return set_peer(loader, node->value, base);
    case CO_TYPE_HTTP_URL: {
        char *url = NULL;
        int rc = set_http_url(loader, node->value, &url);
        store_pointer(base, key->offset, url);
        return rc;
    }
    case CO_TYPE_NAME:
    case CO_TYPE_TEXT:
    case CO_TYPE_PATH:
        return set_text(loader, key, node->value, base);
    default:
        return set_number(loader, key, node->value, base);
    }
}

/* ---------------------------------------------------------------- lists and sections */

int co_loader_list(struct co_loader *loader, const struct co_node *node, const char *path, char ***ret)
{
    char **list = calloc(node->count + 1, sizeof *list);
    if (!list)
        return no_memory(loader);
    *ret = list;
    for (size_t i = 0; i < node->count; i++) {
        if (node->items[i].kind != CO_NODE_SCALAR)
            return co_loader_fail(loader, node->items[i].line, path, "expected a single value in the list, got %s",
                                  co_node_kind_name(node->items[i].kind));
        list[i] = strdup(node->items[i].value);
        if (!list[i])
            return no_memory(loader);
    }
    return 0;
}

static int set_list(struct co_loader *loader, const struct co_schema_key *key, const struct co_node *node, const char *path,
                    void *base)
{
    char **list = NULL;
    int rc = co_loader_list(loader, node, path, &list);
    store_pointer(base, key->offset, list);
    if (rc != 0)
        return rc;
    if (key->type == CO_TYPE_ARGV && (!list[0] || *list[0] == '\0'))
        return co_loader_fail(loader, node->line, path, "expected a list that begins with a command");
    if (key->type != CO_TYPE_CODES)
        return 0;
    for (char **word = list; *word; word++)
        if (strspn(*word, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(*word) || **word == '\0')
            return co_loader_fail(loader, node->line, path,
                                  "expected codes of findings as `changeover check` prints them, "
                                  "got \"%s\"",
                                  *word);
    return 0;
}

static int set_hooks(struct co_loader *loader, const struct co_schema_key *key, const struct co_node *node, const char *path,
                     void *base)
{
    struct co_hooks *hooks = (struct co_hooks *)(void *)((char *)base + key->offset);
    hooks->items = calloc(node->count + 1, sizeof *hooks->items);
    if (!hooks->items)
        return no_memory(loader);
    hooks->count = node->count;
    for (size_t i = 0; i < node->count; i++) {
        struct co_hook *hook = &hooks->items[i];
        const struct co_node *item = &node->items[i];
        CO_AUTOFREE char *name = co_printf("%s[%zu]", path, i);
        if (!name)
            return no_memory(loader);
        if (item->kind != CO_NODE_MAP)
            return co_loader_fail(loader, item->line, name, "expected {run: [command, ...]} or {http: {url: ...}}, got %s",
                                  co_node_kind_name(item->kind));
        hook->line = item->line;
        int rc = co_loader_scope(loader, CO_SCHEMA_HOOK, item, name, hook, NULL);
        if (rc != 0)
            return rc;
        if (!hook->run == !hook->http_url)
            return co_loader_fail(loader, item->line, name, "expected either run or http");
        if (hook->http_url ? co_node_find(item, "timeout") != NULL : co_node_find(item, "http") != NULL)
            return co_loader_fail(loader, item->line, name, "timeout goes with run, http.within with http");
        if (hook->http_url && (hook->http_expect < 100 || hook->http_expect > 599))
            return co_loader_fail(loader, item->line, name, "http.expect: expected a status from 100 to 599");
        if (hook->timeout_ms == 0)
            hook->timeout_ms = 30000;
    }
    return 0;
}

static int set_pairs(struct co_loader *loader, const struct co_node *node, const char *path)
{
    struct co_config *config = loader->config;
    if (node->count == 0)
        return co_loader_fail(loader, node->line, path, "expected at least one pair");
    config->pairs = calloc(node->count, sizeof *config->pairs);
    if (!config->pairs)
        return no_memory(loader);
    config->pair_count = node->count;
    for (size_t i = 0; i < node->count; i++) {
        struct co_pair_config *pair = &config->pairs[i];
        const struct co_node *item = &node->items[i];
        CO_AUTOFREE char *name = co_printf("%s[%zu]", path, i);
        if (!name)
            return no_memory(loader);
        if (item->kind != CO_NODE_MAP)
            return co_loader_fail(loader, item->line, name, "expected a pair with a and b, got %s",
                                  co_node_kind_name(item->kind));
        pair->line = item->line;
        pair->gate.max_bytes = pair->gate.max_transactions = pair->gate.critical_ms = -1;
        pair->side[CO_SIDE_A].endpoint.tls.mode = pair->side[CO_SIDE_B].endpoint.tls.mode = (enum co_tls_mode)3; /* not said */
        int rc = co_loader_scope(loader, CO_SCHEMA_PAIR, item, name, pair, &pair->options);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static enum co_node_kind wanted_kind(enum co_schema_type type)
{
    switch (type) {
    case CO_TYPE_ARGV:
    case CO_TYPE_PREFIX:
    case CO_TYPE_CODES:
    case CO_TYPE_HOOKS:
    case CO_TYPE_PAIRS:
        return CO_NODE_LIST;
    case CO_TYPE_SIDE:
    case CO_TYPE_ACCOUNT:
        return CO_NODE_MAP;
    default:
        return CO_NODE_SCALAR;
    }
}

static int set_section(struct co_loader *loader, const struct co_schema_key *key, const struct co_node *node, const char *path,
                       void *base)
{
    void *at = (char *)base + key->offset;
    switch (key->type) {
    case CO_TYPE_SIDE: {
        struct co_side_config *side = at;
        side->line = node->line;
        return co_loader_scope(loader, CO_SCHEMA_SIDE, node, path, side, &side->options);
    }
    case CO_TYPE_ACCOUNT: {
        struct co_account_config *account = at;
        account->line = node->line;
        return co_loader_scope(loader, CO_SCHEMA_ACCOUNT, node, path, account, NULL);
    }
    case CO_TYPE_HOOKS:
        return set_hooks(loader, key, node, path, base);
    case CO_TYPE_PAIRS:
        return set_pairs(loader, node, path);
    default:
        return set_list(loader, key, node, path, base);
    }
}

int co_loader_value(struct co_loader *loader, const struct co_schema_key *key, const struct co_node *node, const char *path,
                    void *base)
{
    struct co_node fallback = {.kind = CO_NODE_SCALAR};
    if (!node || node->kind == CO_NODE_NULL) {
        if (key->required)
            return co_loader_fail(loader, node ? node->line : 1, path, "missing: expected %s",
                                  co_schema_type_text(key, &(struct co_text){0}));
        if (!key->default_value)
            return 0;
        CO_AUTOFREE char *value = strdup(key->default_value);
        fallback.value = value;
        return value ? set_scalar(loader, key, &fallback, base) : no_memory(loader);
    }
    enum co_node_kind wanted = wanted_kind(key->type);
    if (node->kind != wanted) {
        CO_TEXT_AUTO expected = CO_TEXT_INIT;
        return co_loader_fail(loader, node->line, path, "expected %s, got %s", co_schema_type_text(key, &expected),
                              co_node_kind_name(node->kind));
    }
    if (wanted != CO_NODE_SCALAR)
        return set_section(loader, key, node, path, base);
    int rc = set_scalar(loader, key, node, base);
    if (rc == CO_E_CONFIG && node->raw && key->type != CO_TYPE_URL) {
        /* What came from the environment may be secret: say where it came from, not what it was. */
        CO_TEXT_AUTO expected = CO_TEXT_INIT;
        return co_loader_fail(loader, node->line, path, "expected %s, got the value of \"%s\"",
                              co_schema_type_text(key, &expected), node->raw);
    }
    return co_loader_wrap(loader, rc, node->line, path);
}

/* ---------------------------------------------------------------- keys */

static int unknown_key(struct co_loader *loader, enum co_schema_scope scope, const char *prefix, const struct co_node *node,
                       const char *path)
{
    const char *names[64];
    char *owned[64];
    size_t count = 0, prefix_bytes = strlen(prefix);
    CO_TEXT_AUTO known = CO_TEXT_INIT;
    for (size_t i = 0; i < co_schema_count && count < 64; i++) {
        const char *name = co_schema[i].name;
        if (co_schema[i].scope != scope || strncmp(name, prefix, prefix_bytes) != 0)
            continue;
        name += prefix_bytes;
        size_t bytes = strcspn(name, ".");
        bool repeated = count > 0 && strncmp(names[count - 1], name, bytes) == 0 && names[count - 1][bytes] == '\0';
        if (repeated || !(owned[count] = strndup(name, bytes)))
            continue;
        names[count] = owned[count];
        co_text_add(&known, "%s%s", count > 0 ? ", " : "", names[count]);
        count++;
    }
    const char *near = co_nearest(node->key, names, count);
    if (near)
        co_loader_fail(loader, node->key_line, path, "unknown key, expected %s", near);
    else
        co_loader_fail(loader, node->key_line, path, "unknown key, expected one of %s", co_text_str(&known));
    co_hint(loader->err, "Keys known here: %s.", co_text_str(&known));
    for (size_t i = 0; i < count; i++)
        free(owned[i]);
    return CO_E_CONFIG;
}

static int inline_password(struct co_loader *loader, const struct co_node *node, const char *path)
{
    if (node->kind == CO_NODE_SCALAR)
        co_mask_add(node->value);
    co_loader_fail(loader, node->key_line, path, "a password does not stand in the config");
    co_hint(loader->err, "Write it into a file of mode 0600 and name that in password_file, or name an environment variable in "
                         "password_env.");
    return CO_E_CONFIG;
}

/* One level of a scope: prefix is "" or "gate." */
static int walk(struct co_loader *loader, enum co_schema_scope scope, const struct co_node *map, const char *prefix,
                const char *path, void *base, struct co_option_values *options, bool *seen)
{
    for (size_t i = 0; map && i < map->count; i++) {
        const struct co_node *item = &map->items[i];
        CO_AUTOFREE char *name = co_printf("%s%s", prefix, item->key);
        CO_AUTOFREE char *item_path = co_printf("%s%s%s", path, *path ? "." : "", item->key);
        if (!name || !item_path)
            return no_memory(loader);
        const struct co_schema_key *key = co_schema_find(scope, name);
        int rc;
        if (key) {
            seen[key - co_schema] = true;
            rc = co_loader_value(loader, key, item, item_path, base);
        } else if (strcmp(item->key, "password") == 0) {
            rc = inline_password(loader, item, item_path);
        } else if (co_schema_is_section(scope, name)) {
            CO_AUTOFREE char *inner = co_printf("%s.", name);
            if (!inner)
                return no_memory(loader);
            if (item->kind != CO_NODE_MAP && item->kind != CO_NODE_NULL)
                rc = co_loader_fail(loader, item->line, item_path, "expected a section with keys, got %s",
                                    co_node_kind_name(item->kind));
            else
                rc = walk(loader, scope, item, inner, item_path, base, options, seen);
        } else if (options && (*prefix == '\0' || strcmp(prefix, "host.") == 0)) {
            rc = co_loader_option(loader, item, name, item_path, options);
        } else {
            rc = unknown_key(loader, scope, prefix, item, item_path);
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}

int co_loader_scope(struct co_loader *loader, enum co_schema_scope scope, const struct co_node *node, const char *path,
                    void *base, struct co_option_values *options)
{
    bool seen[128] = {false};
    if (co_schema_count > sizeof seen)
        return co_fail(loader->err, CO_E_INTERNAL, "the schema has outgrown its loader");
    int rc = walk(loader, scope, node, "", path, base, options, seen);
    for (size_t i = 0; i < co_schema_count && rc == 0; i++) {
        const struct co_schema_key *key = &co_schema[i];
        if (key->scope != scope || seen[i])
            continue;
        struct co_node here = {.kind = CO_NODE_NULL, .line = node ? node->line : 1};
        CO_AUTOFREE char *key_path = co_printf("%s%s%s", path, *path ? "." : "", key->name);
        rc = key_path ? co_loader_value(loader, key, &here, key_path, base) : no_memory(loader);
    }
    return rc;
}
