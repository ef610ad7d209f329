/* cmd_init.c - `init`: writes a commented config, or prints for one the statements that make its accounts. Invariant: an
 * existing file is never touched, and what is written loads without an error. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/internal.h"
#include "config/config.h"
#include "config/schema.h"
#include "config/url.h"
#include "drivers-host/modules.h"

#define GRANTS_MS 10000 /* a driver may ask the server for its version, without an account */

static int write_new(struct co_cli *cli, const char *path, const struct co_text *text)
{
    struct co_error err = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0) {
        co_fail(&err, CO_E_IO, "cannot write %s: %s", path, strerror(errno));
        if (errno == EEXIST)
            co_hint(&err, "Nothing was changed. Name another file with -c, or move that one away.");
        return co_cli_error(cli, &err);
    }
    const char *at = co_text_str(text);
    size_t left = text->bytes;
    bool good = true;
    while (left > 0 && good) {
        ssize_t written = write(fd, at, left);
        if (written < 0 && errno == EINTR)
            continue;
        good = written > 0;
        at += good ? written : 0;
        left -= good ? (size_t)written : 0;
    }
    int problem = errno;
    if (close(fd) != 0 && good) {
        good = false;
        problem = errno;
    }
    if (good)
        return 0;
    unlink(path);
    co_fail(&err, CO_E_IO, "cannot write %s: %s", path, strerror(problem));
    return co_cli_error(cli, &err);
}

static int check_url(struct co_cli *cli, enum co_option_id option, struct co_url *ret)
{
    struct co_error err = {0};
    if (!cli->value[option])
        return co_cli_usage(cli, "init needs --a URL and --b URL");
    if (co_url_parse(cli->value[option], ret, &err) != 0)
        return co_cli_usage(cli, "--%s: %s", co_options[option].name, err.message);
    if (ret->has_secret)
        return co_cli_usage(cli, "--%s holds a password: name a file in password_file instead", co_options[option].name);
    return 0;
}

/* The text must be what the loader takes: a name or engine that isn't is the user's mistake, said before writing. */
static int check_text(struct co_cli *cli, const char *path, const struct co_text *text)
{
    struct co_config *config = NULL;
    struct co_error err = {0};
    if (co_config_parse(path, co_text_str(text), text->bytes, true, &config, &err) != 0) {
        co_cli_error(cli, &err);
        return CO_EXIT_USAGE;
    }
    co_config_free(config);
    return 0;
}

static void render(const json_t *doc, struct co_text *ret)
{
    if (*co_get_str(doc, "path"))
        co_text_add(
            ret,
            "wrote %s\nnext: edit it; `changeover -c %s init --grants` prints the statements that make the accounts; then "
            "`changeover -c %s check`\n",
            co_get_str(doc, "path"), co_get_str(doc, "path"), co_get_str(doc, "path"));
}

/* After the file; a file of the default name would give each migration of a machine the same name, and with it the same
 * journal, so its folder's name is taken there, with "_" for what a name can't have. */
static char *name_after(const char *path)
{
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    if (strcmp(base, CO_CONFIG_FILE) != 0)
        return strndup(base, strcspn(base, "."));
    CO_AUTOFREE char *folder = strndup(path, (size_t)(base - path));
    CO_AUTOFREE char *real = folder ? realpath(*folder ? folder : ".", NULL) : NULL;
    char *name = real ? strndup(strrchr(real, '/') + 1, CO_NAME_BYTES) : NULL; /* of / itself it's empty */
    for (char *at = name; at && *at; at++)
        if (!strchr(CO_NAME_CHARS, *at) || (at == name && strchr("._-", *at)))
            *at = '_';
    return name;
}

/* ---------------------------------------------------------------- --grants */

static void render_grants(const json_t *doc, struct co_text *ret)
{
    size_t i;
    json_t *grant;
    json_array_foreach(json_object_get(doc, "grants"), i, grant)
    {
        const char *side = co_get_str(grant, "side"), *statements = co_get_str(grant, "statements");
        co_text_add(ret, "%s%s, %s%s:\n%s", i ? "\n" : "", co_get_str(grant, "pair"), *side ? "side " : "sides a and b", side,
                    statements);
    }
}

static void add_grant(json_t *grants, const struct co_pair *pair, const char *side_or_null, const struct co_text *statements)
{
    json_t *grant = json_object();
    co_json_set(grant, "pair", co_json_text(co_pair_name(pair)));
    co_json_set(grant, "side", co_json_text(side_or_null));
    co_json_set(grant, "statements", co_json_text(co_text_str(statements)));
    (void)json_array_append_new(grants, grant);
}

/* Of both sides once where they are the same. Nobody logs in: the accounts aren't there yet. */
static int pair_grants(struct co_cli *cli, struct co_pair *pair, json_t *grants)
{
    struct co_text text[2] = {CO_TEXT_INIT, CO_TEXT_INIT};
    struct co_error err = {0};
    int code = 0;
    for (int side = 0; side < 2 && code == 0; side++) {
        struct co_endpoint *ep = co_endpoint_new(pair, (enum co_side)side, CO_CONN_MAIN);
        if (ep)
            co_endpoint_hold(ep, true);
        if (!ep)
            co_fail(&err, CO_E_NOMEM, "no memory for a connection");
        if (!ep || co_ep_grants(ep, co_deadline_in_ms(GRANTS_MS), &text[side], &err) != CO_DONE)
            code = co_cli_error(cli, &err);
        co_endpoint_free(ep);
    }
    bool alike = strcmp(co_text_str(&text[0]), co_text_str(&text[1])) == 0;
    for (int side = 0; side < (alike ? 1 : 2) && code == 0; side++)
        add_grant(grants, pair, alike ? NULL : co_side_name((enum co_side)side), &text[side]);
    co_text_done(&text[0]);
    co_text_done(&text[1]);
    return code;
}

/* Without the secrets: the files that the config names may be made only after this. */
static int print_grants(struct co_cli *cli)
{
    struct co_error err = {0};
    for (int option = CO_OPTION_A; option <= CO_OPTION_NAME; option++)
        if (cli->value[option])
            return co_cli_usage(cli, "--grants reads the config that is there: --%s doesn't go with it",
                                co_options[option].name);
    int code = co_cli_load_config(cli);
    if (code == 0 && co_session_open(&cli->session, cli->config, cli->pairs, &err) != 0)
        return err.code == CO_E_UNSUPPORTED ? (co_cli_error(cli, &err), CO_EXIT_CONFIG) : co_cli_error(cli, &err);
    if (code != 0)
        return code;
    cli->session_open = true;
    json_t *grants = json_array();
    for (size_t i = 0; i < cli->session.pair_count && code == 0; i++)
        code = pair_grants(cli, cli->session.pairs[i], grants);
    co_json_set(cli->doc, "grants", grants);
    cli->render = render_grants;
    return code;
}

int co_cmd_init(struct co_cli *cli)
{
    if (cli->given[CO_OPTION_GRANTS])
        return print_grants(cli);
    struct co_url urls[2] = {{0}, {0}};
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    struct co_error err = {0};
    const char *path = cli->value[CO_OPTION_CONFIG] ? cli->value[CO_OPTION_CONFIG] : CO_CONFIG_FILE;
    int code = check_url(cli, CO_OPTION_A, &urls[0]);
    if (code == 0)
        code = check_url(cli, CO_OPTION_B, &urls[1]);
    const struct co_module *module = NULL;
    const char *engine = cli->value[CO_OPTION_ENGINE] ? cli->value[CO_OPTION_ENGINE] : urls[0].scheme;
    if (code == 0 && co_module_for_engine(engine, &module, &err) != 0) {
        co_cli_usage(cli, "%s", err.message);
        code = CO_EXIT_USAGE;
    }
    if (code == 0) {
        engine = co_module_engine(module, engine)->name; /* "postgres" and "rediss" are schemes of other names */
        CO_AUTOFREE char *name = cli->value[CO_OPTION_NAME] ? co_strdup(cli->value[CO_OPTION_NAME]) : name_after(path);
        struct co_template values = {.migration = name && *name ? name : "migration",
                                     .pair = engine,
                                     .engine = engine,
                                     .url = {cli->value[CO_OPTION_A], cli->value[CO_OPTION_B]},
                                     .driver = module->driver};
        co_config_template(&values, &text);
        code = check_text(cli, path, &text);
    }
    if (code == 0)
        code = write_new(cli, path, &text);
    if (code == 0)
        co_json_set(cli->doc, "path", co_json_text(path));
    cli->render = render;
    co_url_done(&urls[0]);
    co_url_done(&urls[1]);
    return code;
}
