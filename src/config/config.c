/* config.c - finds, reads and finishes a config; see config.h. */
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "config/loader.h"
#include "config/url.h"

/* ---------------------------------------------------------------- freeing */

static void list_free(char **list)
{
    for (char **at = list; at && *at; at++) {
        co_wipe(*at, strlen(*at));
        free(*at);
    }
    free(list);
}

static void const_free(const char *text)
{
    free((char *)(uintptr_t)text);
}

static void options_done(struct co_option_values *values)
{
    for (size_t i = 0; i < values->count; i++) {
        free(values->items[i].name);
        free(values->items[i].value);
        list_free(values->items[i].argv);
    }
    free(values->items);
}

static void side_done(struct co_side_config *side)
{
    const struct co_endpoint_config *endpoint = &side->endpoint;
    const char *const strings[] = {endpoint->url,      endpoint->scheme,         endpoint->user,   endpoint->address,
                                   endpoint->database, endpoint->peer_address,   endpoint->tls.ca, endpoint->tls.cert,
                                   endpoint->tls.key,  endpoint->tls.server_name};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        const_free(strings[i]);
    list_free(side->url_params);
    free(side->password_file);
    free(side->password_env);
    co_secret_free(side->password);
    list_free(side->host_run);
    options_done(&side->options);
}

static void account_done(struct co_account_config *account)
{
    free(account->user);
    free(account->password_file);
    free(account->password_env);
    co_secret_free(account->password);
}

static void hooks_done(struct co_hooks *hooks)
{
    for (size_t i = 0; i < hooks->count; i++) {
        list_free(hooks->items[i].run);
        free(hooks->items[i].http_url);
    }
    free(hooks->items);
}

void co_config_free(struct co_config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->pair_count; i++) {
        struct co_pair_config *pair = &config->pairs[i];
        free(pair->name);
        free(pair->engine);
        side_done(&pair->side[CO_SIDE_A]);
        side_done(&pair->side[CO_SIDE_B]);
        options_done(&pair->options);
        account_done(&pair->replication);
        account_done(&pair->probe);
        list_free(pair->accept);
    }
    free(config->pairs);
    free(config->path);
    free(config->migration);
    free(config->journal);
    hooks_done(&config->cutover.freeze);
    hooks_done(&config->cutover.hooks_switch);
    hooks_done(&config->cutover.confirm);
    hooks_done(&config->cutover.unfreeze);
    hooks_done(&config->cutover.after_undo);
    free(config);
}

/* ---------------------------------------------------------------- what belongs together */

static const struct co_node *at_pair(const struct co_node *root, size_t index, const char *key)
{
    const struct co_node *pairs = co_node_find(root, "pairs");
    return pairs && index < pairs->count ? co_node_find(&pairs->items[index], key) : NULL;
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool same_server(const struct co_side_config *a, const struct co_side_config *b)
{
    return same_text(a->endpoint.address, b->endpoint.address) && a->endpoint.port == b->endpoint.port &&
           same_text(a->endpoint.database, b->endpoint.database);
}

static int copy_text(struct co_loader *loader, const char *text, const char **ret)
{
    if (!text)
        return 0;
    *ret = strdup(text);
    return *ret ? 0 : co_fail(loader->err, CO_E_NOMEM, "no memory to read %s", loader->file);
}

static int finish_side(struct co_loader *loader, struct co_side_config *side, const char *path)
{
    struct co_endpoint_config *endpoint = &side->endpoint;
    struct co_tls *tls = &endpoint->tls;
    int given = (side->password != NULL) + (side->password_file != NULL) + (side->password_env != NULL);
    if (given > 1)
        return co_loader_fail(loader, side->line, path,
                              "expected one source of the password, got more (url, password_file, password_env)");
    bool details = tls->ca || tls->cert || tls->key || tls->server_name;
    if ((int)tls->mode == 3)
        tls->mode = details || !co_url_is_local(endpoint->address) ? CO_TLS_VERIFY : CO_TLS_OFF;
    else if (tls->mode == CO_TLS_OFF && details)
        return co_loader_fail(loader, side->line, path, "tls.mode is off, and other tls keys say how to use it");
    if (!tls->cert != !tls->key)
        return co_loader_fail(loader, side->line, path, "expected both tls.cert and tls.key, or neither");
    endpoint->has_host = side->host_run != NULL;
    if (endpoint->peer_address)
        return 0;
    endpoint->peer_port = endpoint->port;
    return copy_text(loader, endpoint->address, &endpoint->peer_address);
}

static int finish_account(struct co_loader *loader, const struct co_account_config *account, const char *path)
{
    if (account->password_file && account->password_env)
        return co_loader_fail(loader, account->line, path, "expected password_file or password_env, got both");
    return 0;
}

static int say_urls(struct co_loader *loader, int failed)
{
    co_hint(loader->err, "Every pair needs an A and a B of its own: correct the urls.");
    return failed;
}

static int finish_pair(struct co_loader *loader, const struct co_node *root, size_t index)
{
    struct co_pair_config *pair = &loader->config->pairs[index];
    CO_AUTOFREE char *path = co_printf("pairs[%zu]", index);
    CO_AUTOFREE char *path_a = co_printf("%s.a", path), *path_b = co_printf("%s.b", path);
    CO_AUTOFREE char *replication = co_printf("%s.replication", path), *probe = co_printf("%s.probe", path);
    if (!path || !path_a || !path_b || !replication || !probe)
        return co_fail(loader->err, CO_E_NOMEM, "no memory to read %s", loader->file);
    int rc = finish_side(loader, &pair->side[CO_SIDE_A], path_a);
    if (rc == 0)
        rc = finish_side(loader, &pair->side[CO_SIDE_B], path_b);
    if (rc == 0)
        rc = finish_account(loader, &pair->replication, replication);
    if (rc == 0)
        rc = finish_account(loader, &pair->probe, probe);
    if (rc != 0)
        return rc;
    if (!pair->engine && !(pair->engine = strdup(pair->side[CO_SIDE_A].endpoint.scheme)))
        return co_fail(loader->err, CO_E_NOMEM, "no memory to read %s", loader->file);
    if (!pair->name && !(pair->name = strdup(pair->engine)))
        return co_fail(loader->err, CO_E_NOMEM, "no memory to read %s", loader->file);
    if (same_server(&pair->side[CO_SIDE_A], &pair->side[CO_SIDE_B]))
        return say_urls(loader, co_loader_fail(loader, pair->side[CO_SIDE_B].line, path_b,
                                               "a and b are the same server: expected two that are different"));
    if (pair->gate.critical_ms >= 0 && pair->gate.critical_ms < pair->gate.max_ms) {
        const struct co_node *gate = at_pair(root, index, "gate");
        return co_loader_fail(loader, gate ? gate->line : pair->line, path,
                              "gate.critical_seconds is less than gate.max_seconds");
    }
    for (size_t i = 0; i < index; i++) {
        const struct co_pair_config *other = &loader->config->pairs[i];
        const struct co_node *name = at_pair(root, index, "name");
        if (strcmp(other->name, pair->name) == 0) {
            co_loader_fail(loader, name ? name->line : pair->line, path, "a pair named %s is already in line %d", pair->name,
                           other->line);
            co_hint(loader->err, "Give each pair a name of its own.");
            return CO_E_CONFIG;
        }
        for (int side = CO_SIDE_A; side <= CO_SIDE_B; side++)
            for (int other_side = CO_SIDE_A; other_side <= CO_SIDE_B; other_side++)
                if (same_server(&pair->side[side], &other->side[other_side]))
                    return say_urls(loader, co_loader_fail(loader, pair->side[side].line, side == CO_SIDE_A ? path_a : path_b,
                                                           "the same server and database as %s of pair %s",
                                                           other_side == CO_SIDE_A ? "a" : "b", other->name));
    }
    return 0;
}

static int default_names(struct co_loader *loader)
{
    struct co_config *config = loader->config;
    if (!config->migration) {
        const char *base = strrchr(config->path, '/');
        base = base ? base + 1 : config->path;
        size_t bytes = strcspn(base, ".");
        config->migration = bytes > 0 && bytes < 64 ? strndup(base, bytes) : strdup("migration");
        for (char *at = config->migration; at && *at; at++)
            if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", *at))
                *at = '_';
    }
    if (!config->journal && config->migration) {
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
        if (geteuid() == 0)
            config->journal = co_printf("/var/lib/changeover/%s.journal", config->migration);
        else if (state && *state == '/')
            config->journal = co_printf("%s/changeover/%s.journal", state, config->migration);
        else if (home && *home == '/')
            config->journal = co_printf("%s/.local/state/changeover/%s.journal", home, config->migration);
        else
            return co_loader_fail(loader, 1, "journal", "missing: neither XDG_STATE_HOME nor HOME says where it could be");
    }
    return config->migration && config->journal ? 0 : co_fail(loader->err, CO_E_NOMEM, "no memory to read %s", loader->file);
}

int co_loader_finish(struct co_loader *loader, const struct co_node *root)
{
    struct co_config *config = loader->config;
    if (config->cutover.max_write_pause_ms == 0)
        config->cutover.max_write_pause_ms = config->cutover.open_after_switch ? 60000 : 5000;
    for (size_t i = 0; i < config->pair_count; i++) {
        int rc = finish_pair(loader, root, i);
        if (rc != 0)
            return rc;
    }
    return default_names(loader);
}

/* ---------------------------------------------------------------- the hash */

static void hash_text(XXH3_state_t *state, const char *text)
{
    /* with its NUL, so that neighbours can't run into each other */
    XXH3_128bits_update(state, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void hash_pair(XXH3_state_t *state, const struct co_pair_config *pair)
{
    hash_text(state, pair->name);
    hash_text(state, pair->engine);
    for (int side = CO_SIDE_A; side <= CO_SIDE_B; side++) {
        const struct co_endpoint_config *endpoint = &pair->side[side].endpoint;
        CO_AUTOFREE char *port = co_printf("%d", endpoint->port);
        hash_text(state, endpoint->address);
        hash_text(state, port);
        hash_text(state, endpoint->database);
    }
    for (size_t i = 0; i < pair->options.count; i++) {
        const struct co_option_value *option = &pair->options.items[i];
        if (strncmp(option->name, "setup.", 6) == 0)
            continue; /* how the copy was made binds no later run */
        hash_text(state, option->name);
        hash_text(state, option->value);
        for (char **word = option->argv; word && *word; word++)
            hash_text(state, *word);
    }
}

static int by_name(const void *a, const void *b)
{
    const struct co_option_value *left = a, *right = b;
    return strcmp(left->name, right->name);
}

static int by_pair_name(const void *a, const void *b)
{
    const struct co_pair_config *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

/* Over what binds a run: migration, pairs, servers, modes; not over passwords, hooks, budgets, order or comments. */
void co_loader_hash(struct co_config *config)
{
    XXH3_state_t *state = XXH3_createState();
    const struct co_pair_config **pairs = calloc(config->pair_count + 1, sizeof *pairs);
    if (state && pairs) {
        XXH3_128bits_reset(state);
        hash_text(state, "changeover config 1");
        hash_text(state, config->migration);
        hash_text(state, config->cutover.open_after_switch ? "after_switch" : "before_switch");
        for (size_t i = 0; i < config->pair_count; i++) {
            struct co_pair_config *pair = &config->pairs[i];
            if (pair->options.count > 1)
                qsort(pair->options.items, pair->options.count, sizeof *pair->options.items, by_name);
            pairs[i] = pair;
        }
        qsort(pairs, config->pair_count, sizeof *pairs, by_pair_name);
        for (size_t i = 0; i < config->pair_count; i++)
            hash_pair(state, pairs[i]);
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
        for (size_t i = 0; i < sizeof canonical.digest; i++) {
            static const char digits[] = "0123456789abcdef";
            config->hash[2 * i] = digits[canonical.digest[i] >> 4];
            config->hash[2 * i + 1] = digits[canonical.digest[i] & 15];
        }
    }
    free(pairs);
    XXH3_freeState(state);
}

/* ---------------------------------------------------------------- reading */

int co_config_parse(const char *path, const char *data, size_t bytes, bool private_file, struct co_config **ret,
                    struct co_error *err)
{
    struct co_config *config = calloc(1, sizeof *config);
    struct co_node *root = NULL;
    const char *slash = strrchr(path, '/');
    CO_AUTOFREE char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!config || !folder || !(config->path = strdup(path))) {
        co_config_free(config);
        return co_fail(err, CO_E_NOMEM, "no memory to read %s", path);
    }
    struct co_loader loader = {
        .file = config->path, .folder = folder, .private_file = private_file, .config = config, .err = err};
    int rc = co_document_parse(config->path, data, bytes, &root, err);
    if (rc == 0 && root->kind != CO_NODE_MAP)
        rc = co_loader_fail(&loader, root->line, "", "expected keys such as migration and pairs, got %s",
                            co_node_kind_name(root->kind));
    if (rc == 0)
        rc = co_loader_scope(&loader, CO_SCHEMA_ROOT, root, "", config, NULL);
    if (rc == 0)
        rc = co_loader_finish(&loader, root);
    if (rc == 0) {
        co_loader_hash(config);
        if (config->hash[0] == '\0')
            rc = co_fail(err, CO_E_NOMEM, "no memory to read %s", path);
    }
    co_document_free(root);
    if (rc != 0) {
        co_config_free(config);
        return rc;
    }
    *ret = config;
    return 0;
}

static int read_file(const char *path, struct co_text *ret, bool *ret_private, struct co_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat info;
    if (fd < 0) {
        co_fail(err, CO_E_CONFIG, "cannot read the config %s: %s", path, strerror(errno));
        if (errno == ENOENT)
            co_hint(err, "Name it with -c or in $CHANGEOVER_CONFIG, or write one: changeover init --a URL --b URL");
        return CO_E_CONFIG;
    }
    int rc = 0;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        rc = co_fail(err, CO_E_CONFIG, "the config %s is not a regular file", path);
    else if (info.st_mode & S_IWOTH) {
        rc = co_fail(err, CO_E_CONFIG, "the config %s can be written by everybody (mode %04o), and it names commands to run",
                     path, (unsigned)info.st_mode & 07777u);
        co_hint(err, "Run: chmod o-w %s", path);
    }
    while (rc == 0) {
        char block[8192];
        ssize_t got = read(fd, block, sizeof block);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = co_fail(err, CO_E_IO, "cannot read the config %s: %s", path, strerror(errno));
        else
            co_text_add_bytes(ret, block, (size_t)got);
        co_wipe(block, sizeof block);
        if (got <= 0)
            break;
    }
    close(fd);
    if (rc == 0 && ret->overflow)
        rc = co_fail(err, CO_E_CONFIG, "the config %s is larger than 1 MiB", path);
    *ret_private = rc == 0 && (info.st_mode & 077) == 0;
    return rc;
}

int co_config_load(const char *path_or_null, struct co_config **ret, struct co_error *err)
{
    const char *path = path_or_null;
    const char *from_env = getenv("CHANGEOVER_CONFIG");
    if (!path && from_env && *from_env)
        path = from_env;
    if (!path)
        path = CO_CONFIG_FILE;
    CO_TEXT_AUTO text = {.secret = true, .max = CO_DOCUMENT_MAX_BYTES};
    bool private_file = false;
    int rc = read_file(path, &text, &private_file, err);
    if (rc != 0)
        return rc;
    CO_AUTOFREE char *absolute = realpath(path, NULL);
    if (!absolute)
        return co_fail(err, CO_E_IO, "cannot find out where %s is: %s", path, strerror(errno));
    return co_config_parse(absolute, co_text_str(&text), text.bytes, private_file, ret, err);
}

/* ---------------------------------------------------------------- secrets */

static int load_secret(const struct co_config *config, const char *file, const char *env, int line, size_t pair,
                       const char *what, struct co_secret_value **ret, struct co_error *err)
{
    int rc = 0;
    const char *key = "";
    if (!*ret && file) {
        rc = co_secret_from_file(file, ret, err);
        key = "password_file";
    } else if (!*ret && env) {
        rc = co_secret_from_env(env, ret, err);
        key = "password_env";
    }
    if (rc != 0)
        co_error_prefix(err, "%s:%d: pairs[%zu].%s.%s: ", config->path, line, pair, what, key);
    else if (*ret)
        co_mask_add(co_secret_str(*ret));
    return rc;
}

/* A client library tells of a file that it can't read in words of its own, or not at all, and never says which. */
static int see_tls_file(const struct co_config *config, const char *file, int line, size_t pair, const char *side,
                        const char *key, struct co_error *err)
{
    if (!file || access(file, R_OK) == 0)
        return 0;
    co_fail(err, CO_E_CONFIG, "%s:%d: pairs[%zu].%s.tls.%s: cannot read %s: %s", config->path, line, pair, side, key, file,
            strerror(errno));
    co_hint(err, "The file must exist and be readable by the user that runs changeover.");
    return err->code;
}

static int see_tls_files(const struct co_config *config, size_t pair, int side, struct co_error *err)
{
    const struct co_side_config *s = &config->pairs[pair].side[side];
    const struct co_tls *tls = &s->endpoint.tls;
    const char *name = side == CO_SIDE_A ? "a" : "b";
    if (tls->mode == CO_TLS_OFF)
        return 0;
    int rc = see_tls_file(config, tls->ca, s->line, pair, name, "ca", err);
    if (rc == 0)
        rc = see_tls_file(config, tls->cert, s->line, pair, name, "cert", err);
    return rc != 0 ? rc : see_tls_file(config, tls->key, s->line, pair, name, "key", err);
}

int co_config_load_secrets(struct co_config *config, struct co_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < config->pair_count && rc == 0; i++) {
        struct co_pair_config *pair = &config->pairs[i];
        for (int side = CO_SIDE_A; side <= CO_SIDE_B && rc == 0; side++) {
            struct co_side_config *s = &pair->side[side];
            rc = load_secret(config, s->password_file, s->password_env, s->line, i, side == CO_SIDE_A ? "a" : "b", &s->password,
                             err);
            if (rc == 0)
                rc = see_tls_files(config, i, side, err);
        }
        if (rc == 0)
            rc = load_secret(config, pair->replication.password_file, pair->replication.password_env, pair->replication.line, i,
                             "replication", &pair->replication.password, err);
        if (rc == 0)
            rc = load_secret(config, pair->probe.password_file, pair->probe.password_env, pair->probe.line, i, "probe",
                             &pair->probe.password, err);
    }
    return rc;
}
