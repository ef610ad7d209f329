/* loader.h - what the parts of the config loader share; private to src/config. */
#ifndef CO_CONFIG_LOADER_H
#define CO_CONFIG_LOADER_H

#include "config/config.h"
#include "config/document.h"
#include "config/schema.h"

struct co_loader {
    const char *file;   /* for messages */
    const char *folder; /* relative paths are relative to it */
    bool private_file;
    struct co_config *config;
    struct co_error *err;
};

/* "FILE:LINE: PATH: <message>" */
int co_loader_fail(struct co_loader *loader, int line, const char *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Puts "FILE:LINE: PATH: " before the message that another parser left in the error. */
int co_loader_wrap(struct co_loader *loader, int rc, int line, const char *path);

/* Reads one map into the struct at base, by the table; node NULL: defaults only. */
int co_loader_scope(struct co_loader *loader, enum co_schema_scope scope, const struct co_node *node, const char *path,
                    void *base, struct co_option_values *options);
/* Sets one key from a node (or, with node NULL, from its default). */
int co_loader_value(struct co_loader *loader, const struct co_schema_key *key, const struct co_node *node, const char *path,
                    void *base);
/* Keeps a key (or all under it) for the driver. */
int co_loader_option(struct co_loader *loader, const struct co_node *node, const char *name, const char *path,
                     struct co_option_values *options);
int co_loader_list(struct co_loader *loader, const struct co_node *node, const char *path, char ***ret);
/* What no single key shows: things that belong together, defaults that depend on others. */
int co_loader_finish(struct co_loader *loader, const struct co_node *root);
void co_loader_hash(struct co_config *config);

#endif
