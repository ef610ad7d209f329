/* document.c - builds the tree of document.h from libyaml's events. */
#include "config/document.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/secret.h"

#define MAX_DEPTH 16
#define MAX_NODES 20000

struct builder {
    const char *name;
    yaml_parser_t parser;
    size_t nodes;
    struct co_error *err;
};

static void node_done(struct co_node *node)
{
    for (size_t i = 0; i < node->count; i++)
        node_done(&node->items[i]);
    free(node->items);
    if (node->value)
        co_wipe(node->value, strlen(node->value));
    if (node->raw)
        co_wipe(node->raw, strlen(node->raw));
    free(node->value);
    free(node->raw);
    free(node->key);
}

void co_document_free(struct co_node *root)
{
    if (!root)
        return;
    node_done(root);
    free(root);
}

const struct co_node *co_node_find(const struct co_node *map, const char *key)
{
    if (!map || map->kind != CO_NODE_MAP)
        return NULL;
    for (size_t i = 0; i < map->count; i++)
        if (strcmp(map->items[i].key, key) == 0)
            return &map->items[i];
    return NULL;
}

const char *co_node_kind_name(enum co_node_kind kind)
{
    switch (kind) {
    case CO_NODE_NULL:
        return "nothing";
    case CO_NODE_SCALAR:
        return "a single value";
    case CO_NODE_LIST:
        return "a list";
    case CO_NODE_MAP:
        return "a section with keys";
    }
    return "?";
}

static int fail_yaml(struct builder *b)
{
    if (b->parser.error == YAML_MEMORY_ERROR)
        return co_fail(b->err, CO_E_NOMEM, "no memory to read %s", b->name);
    size_t line = b->parser.error == YAML_READER_ERROR ? 0 : b->parser.problem_mark.line + 1;
    const char *problem = b->parser.problem ? b->parser.problem : "not YAML";
    if (line == 0)
        co_fail(b->err, CO_E_CONFIG, "%s: not a YAML file in UTF-8: %s", b->name, problem);
    else if (b->parser.context)
        co_fail(b->err, CO_E_CONFIG, "%s:%zu: not valid YAML: %s (%s)", b->name, line, problem, b->parser.context);
    else
        co_fail(b->err, CO_E_CONFIG, "%s:%zu: not valid YAML: %s", b->name, line, problem);
    co_hint(b->err,
            "Look at the indentation, at missing quotes around values with \": \" or \" #\", and at unclosed brackets.");
    return CO_E_CONFIG;
}

static int next_event(struct builder *b, yaml_event_t *event)
{
    if (yaml_parser_parse(&b->parser, event) == 0)
        return fail_yaml(b);
    return 0;
}

static bool name_begins(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || byte == '_';
}

static bool name_goes_on(char byte)
{
    return name_begins(byte) || (byte >= '0' && byte <= '9');
}

/* Writes value with every ${NAME} replaced; *ret_changed says whether there was one. */
static int expand(struct builder *b, int line, const char *value, struct co_text *ret, bool *ret_changed)
{
    for (const char *at = value; *at;) {
        if (strncmp(at, "$${", 3) == 0) {
            co_text_add_bytes(ret, "${", 2);
            at += 3;
            *ret_changed = true;
            continue;
        }
        if (strncmp(at, "${", 2) != 0) {
            co_text_add_bytes(ret, at++, 1);
            continue;
        }
        const char *start = at + 2, *end = start;
        if (name_begins(*end))
            while (name_goes_on(*end))
                end++;
        if (end == start || *end != '}') {
            co_fail(b->err, CO_E_CONFIG, "%s:%d: \"${\" must be followed by the name of an environment variable and \"}\"",
                    b->name, line);
            co_hint(b->err, "Write $${ for a literal ${.");
            return CO_E_CONFIG;
        }
        CO_AUTOFREE char *name = strndup(start, (size_t)(end - start));
        const char *found = name ? getenv(name) : NULL;
        if (!found)
            return co_fail(b->err, CO_E_CONFIG, "%s:%d: the environment variable %s is not set", b->name, line,
                           name ? name : "?");
        co_text_add_bytes(ret, found, strlen(found));
        *ret_changed = true;
        at = end + 1;
    }
    return ret->overflow ? co_fail(b->err, CO_E_NOMEM, "%s:%d: the value is too long", b->name, line) : 0;
}

static bool is_null(const yaml_event_t *event)
{
    const char *value = (const char *)event->data.scalar.value;
    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (*value == '\0' || strcmp(value, "~") == 0 || strcmp(value, "null") == 0);
}

static int build_scalar(struct builder *b, const yaml_event_t *event, struct co_node *node)
{
    const char *value = (const char *)event->data.scalar.value;
    if (is_null(event)) {
        node->kind = CO_NODE_NULL;
        return 0;
    }
    node->kind = CO_NODE_SCALAR;
    if (strlen(value) != event->data.scalar.length)
        return co_fail(b->err, CO_E_CONFIG, "%s:%d: the value contains a NUL byte", b->name, node->line);
    CO_TEXT_AUTO text = {.secret = true, .max = CO_DOCUMENT_MAX_BYTES};
    bool changed = false;
    int rc = expand(b, node->line, value, &text, &changed);
    if (rc != 0)
        return rc;
    node->value = co_text_take(&text);
    node->raw = changed ? strdup(value) : NULL;
    if (!node->value || (changed && !node->raw))
        return co_fail(b->err, CO_E_NOMEM, "no memory to read %s", b->name);
    return 0;
}

static int build(struct builder *b, yaml_event_t *event, int depth, struct co_node *node);

static struct co_node *add_item(struct builder *b, struct co_node *node)
{
    if ((node->count & (node->count - 1)) == 0) { /* 0, 1, 2, 4, ...: full */
        size_t capacity = node->count == 0 ? 1 : node->count * 2;
        struct co_node *items = reallocarray(node->items, capacity, sizeof *items);
        if (!items) {
            co_fail(b->err, CO_E_NOMEM, "no memory to read %s", b->name);
            return NULL;
        }
        node->items = items;
    }
    struct co_node *item = &node->items[node->count++];
    *item = (struct co_node){0};
    return item;
}

static int build_key(struct builder *b, const yaml_event_t *event, const struct co_node *map, struct co_node *item)
{
    int line = (int)event->start_mark.line + 1;
    if (event->type != YAML_SCALAR_EVENT)
        return co_fail(b->err, CO_E_CONFIG, "%s:%d: a key must be a plain word", b->name, line);
    const char *key = (const char *)event->data.scalar.value;
    if (*key == '\0' || strpbrk(key, ".[]\n") || strlen(key) > 64)
        return co_fail(b->err, CO_E_CONFIG, "%s:%d: \"%.64s\" is not a key", b->name, line, key);
    for (size_t i = 0; i + 1 < map->count; i++)
        if (map->items[i].key && strcmp(map->items[i].key, key) == 0)
            return co_fail(b->err, CO_E_CONFIG, "%s:%d: %s: given twice, first in line %d", b->name, line, key,
                           map->items[i].key_line);
    item->key_line = line;
    item->key = strdup(key);
    return item->key ? 0 : co_fail(b->err, CO_E_NOMEM, "no memory to read %s", b->name);
}

static int build_children(struct builder *b, enum co_node_kind kind, int depth, struct co_node *node)
{
    node->kind = kind;
    for (;;) {
        yaml_event_t event;
        int rc = next_event(b, &event);
        if (rc != 0)
            return rc;
        if (event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return 0;
        }
        struct co_node *item = add_item(b, node);
        rc = item ? 0 : CO_E_NOMEM;
        if (rc == 0 && kind == CO_NODE_MAP) {
            rc = build_key(b, &event, node, item);
            yaml_event_delete(&event);
            if (rc != 0)
                return rc;
            rc = next_event(b, &event);
            if (rc != 0)
                return rc;
        }
        if (rc == 0)
            rc = build(b, &event, depth + 1, item);
        yaml_event_delete(&event);
        if (rc != 0)
            return rc;
    }
}

static int build(struct builder *b, yaml_event_t *event, int depth, struct co_node *node)
{
    node->line = (int)event->start_mark.line + 1;
    if (depth > MAX_DEPTH || ++b->nodes > MAX_NODES)
        return co_fail(b->err, CO_E_CONFIG, "%s:%d: nested too deeply or too many values", b->name, node->line);
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return build_scalar(b, event, node);
    case YAML_SEQUENCE_START_EVENT:
        return build_children(b, CO_NODE_LIST, depth, node);
    case YAML_MAPPING_START_EVENT:
        return build_children(b, CO_NODE_MAP, depth, node);
    case YAML_ALIAS_EVENT:
        return co_fail(b->err, CO_E_CONFIG, "%s:%d: aliases (*name) are not supported: write the value out", b->name,
                       node->line);
    default:
        return co_fail(b->err, CO_E_CONFIG, "%s:%d: expected a value", b->name, node->line);
    }
}

static int build_document(struct builder *b, struct co_node *root)
{
    bool seen = false;
    for (;;) {
        yaml_event_t event;
        int rc = next_event(b, &event);
        if (rc != 0)
            return rc;
        yaml_event_type_t type = event.type;
        if (type == YAML_STREAM_END_EVENT) {
            yaml_event_delete(&event);
            break;
        }
        if (type == YAML_DOCUMENT_START_EVENT && seen)
            rc = co_fail(b->err, CO_E_CONFIG, "%s:%zu: a second document begins: one file is one migration", b->name,
                         event.start_mark.line + 1);
        if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT) {
            rc = build(b, &event, 0, root);
            seen = true;
        }
        yaml_event_delete(&event);
        if (rc != 0)
            return rc;
    }
    if (!seen || root->kind == CO_NODE_NULL)
        return co_fail(b->err, CO_E_CONFIG, "%s: the file is empty", b->name);
    return 0;
}

int co_document_parse(const char *name, const char *data, size_t bytes, struct co_node **ret, struct co_error *err)
{
    struct builder b = {.name = name, .err = err};
    if (bytes > CO_DOCUMENT_MAX_BYTES)
        return co_fail(err, CO_E_CONFIG, "%s: larger than 1 MiB", name);
    struct co_node *root = calloc(1, sizeof *root);
    if (!root || yaml_parser_initialize(&b.parser) == 0) {
        free(root);
        return co_fail(err, CO_E_NOMEM, "no memory to read %s", name);
    }
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)data, bytes);
    yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
    int rc = build_document(&b, root);
    yaml_parser_delete(&b.parser);
    if (rc != 0) {
        co_document_free(root);
        return rc;
    }
    *ret = root;
    return 0;
}
