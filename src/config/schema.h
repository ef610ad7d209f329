/* schema.h - every key of the config in one table: what feeds the loader, its messages, the reference and the
 * file that `init` writes. Keys of drivers are in the drivers' own tables (struct co_option).
 */
#ifndef CO_CONFIG_SCHEMA_H
#define CO_CONFIG_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"
#include "changeover/driver.h"

/* What a CO_TYPE_NAME is made of; it doesn't begin with "." or "-". */
#define CO_NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define CO_NAME_BYTES 63

enum co_schema_scope {
    CO_SCHEMA_ROOT,    /* struct co_config */
    CO_SCHEMA_PAIR,    /* struct co_pair_config */
    CO_SCHEMA_SIDE,    /* struct co_side_config */
    CO_SCHEMA_ACCOUNT, /* struct co_account_config */
    CO_SCHEMA_HOOK,    /* struct co_hook */
    CO_SCHEMA_SCOPES
};

enum co_schema_type {
    CO_TYPE_NAME,      /* char *: of CO_NAME_CHARS, at most CO_NAME_BYTES */
    CO_TYPE_TEXT,      /* char * */
    CO_TYPE_PATH,      /* char *: made absolute, from the file's folder */
    CO_TYPE_URL,       /* co_side_config: endpoint, params, password */
    CO_TYPE_ADDRESS,   /* co_side_config: endpoint.peer_address, peer_port */
    CO_TYPE_HTTP_URL,  /* char * */
    CO_TYPE_BOOL,      /* bool */
    CO_TYPE_CHOICE,    /* int: index in `values` */
    CO_TYPE_SWITCH,    /* bool: the second of two `values` */
    CO_TYPE_COUNT,     /* int >= 0 */
    CO_TYPE_INT64,     /* int64_t >= 0 */
    CO_TYPE_DURATION,  /* int64_t, ms, > 0 */
    CO_TYPE_DURATION0, /* int64_t, ms, >= 0 */
    CO_TYPE_BYTES,     /* int64_t */
    CO_TYPE_ARGV,      /* char **: a list of words, not empty */
    CO_TYPE_PREFIX,    /* char **: a list of words, may be empty */
    CO_TYPE_CODES,     /* char **: a list of finding codes */
    CO_TYPE_SIDE,      /* a section of scope SIDE */
    CO_TYPE_ACCOUNT,   /* a section of scope ACCOUNT */
    CO_TYPE_HOOKS,     /* struct co_hooks: a list of scope HOOK */
    CO_TYPE_PAIRS      /* a list of scope PAIR */
};

struct co_schema_key {
    enum co_schema_scope scope;
    const char *name; /* path in its scope: "gate.max_bytes" */
    enum co_schema_type type;
    size_t offset;
    const char *values;        /* "off|require|verify" */
    const char *default_value; /* in config syntax; NULL: none, see default_text */
    const char *default_text;  /* a default that is not a constant, in words */
    const char *example;       /* for the reference and `init` */
    const char *help;          /* one sentence */
    bool required;
};

extern const struct co_schema_key co_schema[];
extern const size_t co_schema_count;

const struct co_schema_key *co_schema_find(enum co_schema_scope scope, const char *name);
/* Is there a key "<name>.<something>"? */
bool co_schema_is_section(enum co_schema_scope scope, const char *name);
const char *co_schema_type_text(const struct co_schema_key *key, struct co_text *scratch); /* "a duration", ... */

/* The best match for a misspelt word among candidates, or NULL. */
const char *co_nearest(const char *word, const char *const *candidates, size_t count);

/* The reference in Markdown: the core's keys, then (once for each driver) those of a driver. */
void co_config_reference(struct co_text *ret);
void co_config_reference_driver(struct co_text *ret, const struct co_driver *driver);

/* The source of changeover.yaml(5), for scdoc. */
void co_config_manual(struct co_text *ret);

/* The commented file that `init` writes. */
struct co_template {
    const char *migration, *pair, *engine; /* engine NULL: left to the URL's scheme */
    const char *url[2];
    const struct co_driver *driver; /* its options are listed as comments; NULL: not loaded */
};
void co_config_template(const struct co_template *values, struct co_text *ret);

#endif
