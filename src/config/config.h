/* config.h - the migration as its YAML file describes it, checked against a schema.
 *
 * Errors are CO_E_CONFIG with "FILE:LINE: KEY: what was expected". Keys that belong to a driver are kept as
 * they stand, with their line, and checked against the driver's option table when it is loaded
 * (co_config_check_options). The struct is read-only after loading and owns all its strings.
 */
#ifndef CO_CONFIG_CONFIG_H
#define CO_CONFIG_CONFIG_H

#include "base/secret.h"
#include "changeover/driver.h"

#define CO_CONFIG_FILE "changeover.yaml" /* of the working folder, when neither -c nor the environment names one */

struct co_option_value {
    char *name;  /* path: "mode", "setup.method", "host.data_directory" */
    char *value; /* scalar, after ${NAME}; NULL for a list */
    char **argv; /* list, NULL-terminated; NULL for a scalar */
    int line;
    bool canonical; /* checked by co_config_check_options */
};

struct co_option_values {
    struct co_option_value *items;
    size_t count;
};

struct co_account_config { /* replication, probe */
    char *user;
    char *password_file, *password_env;
    struct co_secret_value *password; /* resolved by co_config_load_secrets; NULL: none given */
    int line;
};

struct co_side_config {
    struct co_endpoint_config endpoint;
    char **url_params; /* name, value, name, value, ..., NULL */
    char *password_file, *password_env;
    struct co_secret_value *password;
    char **host_run;                 /* NULL: no host; empty list: this machine */
    struct co_option_values options; /* side scope */
    int line;
};

struct co_hook {
    char **run; /* argv, or NULL when http */
    char *http_url;
    int http_expect;    /* status; default 200 */
    int64_t timeout_ms; /* run: `timeout`, default 30 s; http: `within`, default 30 s */
    int retries;
    int line;
};

struct co_hooks {
    struct co_hook *items;
    size_t count;
};

struct co_pair_config {
    char *name;
    char *engine;
    struct co_side_config side[2];   /* [CO_SIDE_A], [CO_SIDE_B] */
    struct co_option_values options; /* pair scope, the driver's */
    struct co_account_config replication, probe;
    struct {
        int64_t max_ms;           /* max_seconds, default 1 s */
        int64_t max_bytes;        /* -1: no limit (default) */
        int64_t max_transactions; /* -1 */
        int64_t stable_for_ms;    /* default 10 s */
        int64_t critical_ms;      /* critical_seconds; -1 */
    } gate;
    int64_t max_write_pause_ms; /* 0 or less: the cutover's */
    struct {
        int64_t timeout_ms; /* default 500 ms */
        bool refuse;        /* on_timeout: end (default) or refuse */
    } drain;
    char **accept; /* NULL-terminated */
    int line;
};

struct co_config {
    char *path;
    char *migration;
    char *journal; /* resolved path */
    struct co_pair_config *pairs;
    size_t pair_count;
    struct {
        int64_t max_write_pause_ms;  /* default 5 s; 60 s with open_after_switch */
        int64_t undo_budget_ms;      /* default 10 s */
        int64_t reverse_patience_ms; /* default 60 s */
        bool open_after_switch;
        bool partial;
        struct co_hooks freeze, hooks_switch, confirm, unfreeze, after_undo;
    } cutover;
    char hash[33]; /* of what `resume` refuses to see changed: migration, pairs, servers, modes */
};

/* Finds the file (path, $CHANGEOVER_CONFIG, ./changeover.yaml), reads and checks it. Relative paths in it are
 * relative to its folder. config->path is absolute. */
int co_config_load(const char *path_or_null, struct co_config **ret, struct co_error *err);
/* The same for a text; path is what messages call it. private: nobody else can read it, so passwords may stand
 * in its URLs. */
int co_config_parse(const char *path, const char *data, size_t bytes, bool private_file, struct co_config **ret,
                    struct co_error *err);
/* Resolves all passwords (files, environment, URLs of private files) and registers them with the mask. */
int co_config_load_secrets(struct co_config *config, struct co_error *err);
/* Checks a pair's own keys against a driver's table; every unknown key and bad value is an error. Afterwards
 * each value is canonical (true or false, durations in ms, sizes in bytes) and every default of the table is
 * there, so co_option_find is all a caller needs. Calling it again changes nothing. */
int co_config_check_options(const struct co_config *config, struct co_pair_config *pair, const struct co_option *options,
                            size_t option_count, struct co_error *err);
/* One value in config syntax as check_options keeps it. The caller frees *ret. */
int co_option_canonical(const struct co_option *option, const char *text, char **ret, struct co_error *err);
void co_config_free(struct co_config *config); /* wipes secrets */

const struct co_option_value *co_option_find(const struct co_option_values *values, const char *name);

#endif
