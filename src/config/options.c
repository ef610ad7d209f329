/* options.c - keys that belong to a driver: kept as they stand while the file is read, checked against the
 * driver's table once it is loaded. */
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "config/loader.h"

static int add(struct co_loader *loader, struct co_option_values *options, const char *name, int line,
               struct co_option_value **ret)
{
    struct co_option_value *items = reallocarray(options->items, options->count + 1, sizeof *items);
    if (!items)
        return co_fail(loader->err, CO_E_NOMEM, "no memory to read %s", loader->file);
    options->items = items;
    struct co_option_value *item = &items[options->count];
    *item = (struct co_option_value){.name = strdup(name), .line = line};
    if (!item->name)
        return co_fail(loader->err, CO_E_NOMEM, "no memory to read %s", loader->file);
    options->count++;
    *ret = item;
    return 0;
}

int co_loader_option(struct co_loader *loader, const struct co_node *node, const char *name, const char *path,
                     struct co_option_values *options)
{
    if (node->kind == CO_NODE_NULL)
        return 0;
    if (node->kind == CO_NODE_MAP) {
        for (size_t i = 0; i < node->count; i++) {
            CO_AUTOFREE char *inner = co_printf("%s.%s", name, node->items[i].key);
            CO_AUTOFREE char *inner_path = co_printf("%s.%s", path, node->items[i].key);
            if (!inner || !inner_path)
                return co_fail(loader->err, CO_E_NOMEM, "no memory to read %s", loader->file);
            int rc = co_loader_option(loader, &node->items[i], inner, inner_path, options);
            if (rc != 0)
                return rc;
        }
        return 0;
    }
    struct co_option_value *item = NULL;
    int rc = add(loader, options, name, node->line, &item);
    if (rc != 0)
        return rc;
    if (node->kind == CO_NODE_LIST)
        return co_loader_list(loader, node, path, &item->argv);
    item->value = strdup(node->value);
    return item->value ? 0 : co_fail(loader->err, CO_E_NOMEM, "no memory to read %s", loader->file);
}

const struct co_option_value *co_option_find(const struct co_option_values *values, const char *name)
{
    for (size_t i = 0; i < values->count; i++)
        if (strcmp(values->items[i].name, name) == 0)
            return &values->items[i];
    return NULL;
}

static bool in_values(const char *values, const char *text)
{
    size_t bytes = strlen(text);
    for (const char *at = values; at;) {
        size_t length = strcspn(at, "|");
        if (length == bytes && memcmp(at, text, bytes) == 0)
            return true;
        at = at[length] == '|' ? at + length + 1 : NULL;
    }
    return false;
}

int co_option_canonical(const struct co_option *option, const char *text, char **ret, struct co_error *err)
{
    int64_t number = 0;
    bool flag = false;
    int rc = 0;
    switch (option->type) {
    case CO_OPT_STRING:
        *ret = strdup(text);
        break;
    case CO_OPT_ENUM:
        if (!in_values(option->values, text))
            return co_fail(err, CO_E_CONFIG, "expected one of %s, got \"%s\"", option->values ? option->values : "nothing",
                           text);
        *ret = strdup(text);
        break;
    case CO_OPT_BOOL:
        rc = co_parse_bool(text, &flag, err);
        if (rc == 0)
            *ret = strdup(flag ? "true" : "false");
        break;
    case CO_OPT_INT:
        rc = co_parse_int(text, INT64_MIN, INT64_MAX, &number, err);
        break;
    case CO_OPT_BYTES:
        rc = co_parse_bytes(text, &number, err);
        break;
    case CO_OPT_DURATION_MS:
        rc = co_parse_duration_ms(text, &number, err);
        break;
    case CO_OPT_ARGV:
        return co_fail(err, CO_E_CONFIG, "expected a list of words such as [command, \"argument\"], got \"%s\"", text);
    }
    if (rc != 0)
        return rc;
    if (option->type == CO_OPT_INT || option->type == CO_OPT_BYTES || option->type == CO_OPT_DURATION_MS)
        *ret = co_printf("%lld", (long long)number);
    return *ret ? 0 : co_fail(err, CO_E_NOMEM, "no memory");
}

static const struct co_option *find_option(const struct co_option *options, size_t count, enum co_option_scope scope,
                                           const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (options[i].scope == scope && strcmp(options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

static int unknown_option(struct co_loader *loader, const struct co_option_value *value, const char *path,
                          enum co_option_scope scope, const struct co_option *options, size_t count)
{
    enum co_schema_scope core = scope == CO_OPT_PAIR ? CO_SCHEMA_PAIR : CO_SCHEMA_SIDE;
    const char **names = calloc(count + co_schema_count + 1, sizeof *names);
    size_t known = 0;
    CO_TEXT_AUTO list = CO_TEXT_INIT;
    if (!names)
        return co_fail(loader->err, CO_E_NOMEM, "no memory");
    for (size_t i = 0; i < count; i++)
        if (options[i].scope == scope)
            names[known++] = options[i].name;
    for (size_t i = 0; i < co_schema_count; i++)
        if (co_schema[i].scope == core)
            names[known++] = co_schema[i].name;
    for (size_t i = 0; i < known; i++)
        co_text_add(&list, "%s%s", i > 0 ? ", " : "", names[i]);
    const char *near = co_nearest(value->name, names, known);
    if (near)
        co_loader_fail(loader, value->line, path, "unknown key, expected %s", near);
    else
        co_loader_fail(loader, value->line, path, "unknown key, expected one of %s", co_text_str(&list));
    co_hint(loader->err, "Keys known here: %s.", co_text_str(&list));
    free(names);
    return CO_E_CONFIG;
}

static int check_value(struct co_loader *loader, struct co_option_value *value, const struct co_option *option,
                       const char *path)
{
    if (value->canonical)
        return 0;
    if (option->type == CO_OPT_ARGV && value->argv) {
        if (!value->argv[0])
            return co_loader_fail(loader, value->line, path, "expected a list that begins with a command");
        value->canonical = true;
        return 0;
    }
    if (value->argv)
        return co_loader_fail(loader, value->line, path, "expected a single value, got a list");
    char *canonical = NULL;
    int rc = co_option_canonical(option, value->value, &canonical, loader->err);
    if (rc != 0)
        return co_loader_wrap(loader, rc, value->line, path);
    free(value->value);
    value->value = canonical;
    value->canonical = true;
    return 0;
}

static int add_defaults(struct co_loader *loader, struct co_option_values *values, enum co_option_scope scope,
                        const struct co_option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (options[i].scope != scope || !options[i].default_value || options[i].type == CO_OPT_ARGV ||
            co_option_find(values, options[i].name))
            continue;
        char *canonical = NULL;
        int rc = co_option_canonical(&options[i], options[i].default_value, &canonical, loader->err);
        if (rc != 0) {
            co_error_prefix(loader->err, "the driver's default of %s is wrong: ", options[i].name);
            return CO_E_INTERNAL;
        }
        struct co_option_value *item = NULL;
        rc = add(loader, values, options[i].name, 0, &item);
        if (rc != 0) {
            free(canonical);
            return rc;
        }
        item->value = canonical;
        item->canonical = true;
    }
    return 0;
}

static int check_scope(struct co_loader *loader, struct co_option_values *values, const char *prefix,
                       enum co_option_scope scope, const struct co_option *options, size_t count)
{
    for (size_t i = 0; i < values->count; i++) {
        struct co_option_value *value = &values->items[i];
        CO_AUTOFREE char *path = co_printf("%s.%s", prefix, value->name);
        if (!path)
            return co_fail(loader->err, CO_E_NOMEM, "no memory");
        const struct co_option *option = find_option(options, count, scope, value->name);
        int rc = option ? check_value(loader, value, option, path) : unknown_option(loader, value, path, scope, options, count);
        if (rc != 0)
            return rc;
    }
    return add_defaults(loader, values, scope, options, count);
}

int co_config_check_options(const struct co_config *config, struct co_pair_config *pair, const struct co_option *options,
                            size_t option_count, struct co_error *err)
{
    struct co_loader loader = {.file = config->path, .err = err};
    CO_AUTOFREE char *prefix = co_printf("pairs[%zu]", (size_t)(pair - config->pairs));
    CO_AUTOFREE char *prefix_a = co_printf("%s.a", prefix), *prefix_b = co_printf("%s.b", prefix);
    if (!prefix || !prefix_a || !prefix_b)
        return co_fail(err, CO_E_NOMEM, "no memory");
    int rc = check_scope(&loader, &pair->options, prefix, CO_OPT_PAIR, options, option_count);
    if (rc == 0)
        rc = check_scope(&loader, &pair->side[CO_SIDE_A].options, prefix_a, CO_OPT_SIDE, options, option_count);
    if (rc == 0)
        rc = check_scope(&loader, &pair->side[CO_SIDE_B].options, prefix_b, CO_OPT_SIDE, options, option_count);
    return rc;
}
