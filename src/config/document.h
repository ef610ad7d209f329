/* document.h - a YAML file as a tree in which every value knows its line.
 *
 * Strict on purpose: one document, no repeated keys, no aliases (one value, one place to look), keys without
 * dots. ${NAME} in a value is replaced by the environment variable, "$${" stands for "${"; keys are never
 * expanded. Depth, size and number of values are bounded. Values are wiped when the tree is freed: a URL may
 * hold a password.
 */
#ifndef CO_CONFIG_DOCUMENT_H
#define CO_CONFIG_DOCUMENT_H

#include "base/error.h"
#include "base/text.h"

#define CO_DOCUMENT_MAX_BYTES ((size_t)1 << 20)

enum co_node_kind { CO_NODE_NULL, CO_NODE_SCALAR, CO_NODE_LIST, CO_NODE_MAP };

struct co_node {
    enum co_node_kind kind;
    int line;              /* from 1 */
    char *value;           /* scalar, after ${NAME} */
    char *raw;             /* scalar as it stands in the file when ${NAME} changed it, else NULL */
    struct co_node *items; /* list and map */
    size_t count;
    char *key; /* of a map's item */
    int key_line;
};

/* name: what messages call the file. CO_E_CONFIG: "NAME:LINE: what is wrong". */
int co_document_parse(const char *name, const char *data, size_t bytes, struct co_node **ret, struct co_error *err);
void co_document_free(struct co_node *root);
const struct co_node *co_node_find(const struct co_node *map, const char *key);
const char *co_node_kind_name(enum co_node_kind kind); /* "a list", ... */

#endif
