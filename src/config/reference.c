/* reference.c - the config reference and the commented file that `init` writes, both from the schema's table, so
 * neither can say anything that the loader doesn't do. */
#include <string.h>

#include "config/config.h"
#include "config/schema.h"

static void add_key(struct co_text *ret, const char *prefix, const struct co_schema_key *key)
{
    CO_TEXT_AUTO type = CO_TEXT_INIT;
    co_text_add(ret, "| `%s%s` | %s | ", prefix, key->name, co_schema_type_text(key, &type));
    if (key->required)
        co_text_add(ret, "**required**");
    else if (key->default_value)
        co_text_add(ret, "`%s`", key->default_value);
    else
        co_text_add(ret, "%s", key->default_text ? key->default_text : "none");
    co_text_add(ret, " | %s", key->help);
    if (key->example)
        co_text_add(ret, " Example: `%s`", key->example);
    co_text_add(ret, " |\n");
}

static const char table_head[] = "| key | expected | default | |\n| --- | --- | --- | --- |\n";

void co_config_reference(struct co_text *ret)
{
    static const struct {
        enum co_schema_scope scope;
        const char *title, *text, *prefix;
    } parts[] = {
        {CO_SCHEMA_ROOT, "The file", "", ""},
        {CO_SCHEMA_PAIR, "A pair",
         "Each item of `pairs`. Further keys belong to the pair's driver: `changeover config-reference "
         "ENGINE` lists them.",
         ""},
        {CO_SCHEMA_SIDE, "A side", "`a` and `b` of a pair. Further keys, also under `host`, belong to the driver.", ""},
        {CO_SCHEMA_ACCOUNT, "An account", "`replication` and `probe` of a pair.", ""},
        {CO_SCHEMA_HOOK, "A hook",
         "Each item of a list of hooks. A hook is run again by `resume`, so it must bear that. It gets "
         "`CHANGEOVER_RUN`, `CHANGEOVER_PAIR`, `CHANGEOVER_SIDE` and `CHANGEOVER_PHASE`, and no secret.",
         ""},
    };
    co_text_add(
        ret,
        "# The config\n\n"
        "<!-- made by `changeover config-reference`; edit src/config/schema.c -->\n\n"
        "YAML, in `changeover.yaml` here, the file after `-c`, or the one in `$CHANGEOVER_CONFIG`. Unknown keys are refused, "
        "with file, line, key\nand what was expected. `${NAME}` in a value takes an environment variable, `$${` is a literal "
        "`${`. Relative paths are relative to\nthe file's folder. A duration is `500ms`, `10s`, `2m`, `1h` or a number of "
        "seconds; a size is `1024`, `64KiB`, `1MiB` or `1GB`.\n");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        co_text_add(ret, "\n## %s\n\n%s%s%s", parts[i].title, parts[i].text, *parts[i].text ? "\n\n" : "", table_head);
        for (size_t k = 0; k < co_schema_count; k++)
            if (co_schema[k].scope == parts[i].scope)
                add_key(ret, parts[i].prefix, &co_schema[k]);
    }
}

/* scdoc: these would be markup */
static void add_plain(struct co_text *ret, const char *text)
{
    for (; *text; text++)
        co_text_add(ret, strchr("_*\\#<~`", *text) ? "\\%c" : "%c", *text);
}

void co_config_manual(struct co_text *ret)
{
    static const struct {
        enum co_schema_scope scope;
        const char *title;
    } parts[] = {{CO_SCHEMA_ROOT, "THE FILE"},
                 {CO_SCHEMA_PAIR, "PAIRS: EACH PAIR"},
                 {CO_SCHEMA_SIDE, "A AND B: EACH SIDE"},
                 {CO_SCHEMA_ACCOUNT, "REPLICATION AND PROBE: AN ACCOUNT"},
                 {CO_SCHEMA_HOOK, "HOOKS"}};
    co_text_add(ret,
                "changeover.yaml(5)\n\n; made by `changeover manual changeover.yaml`; edit src/config/schema.c\n\n"
                "# NAME\n\nchangeover.yaml - a migration for changeover(1)\n\n# DESCRIPTION\n\n"
                "YAML. Unknown keys are refused. *${NAME}* in a value takes an environment variable, *$${* is a literal *${*.\n"
                "Relative paths are relative to the file's folder. A duration is 500ms, 10s, 2m, 1h or a number of\n"
                "seconds; a size is 1024, 64KiB, 1MiB or 1GB. Further keys of a pair and a side belong to the pair's\n"
                "driver: *changeover config-reference ENGINE* lists them.\n\n");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        co_text_add(ret, "# %s\n\n", parts[i].title);
        for (size_t k = 0; k < co_schema_count; k++) {
            const struct co_schema_key *key = &co_schema[k];
            CO_TEXT_AUTO type = CO_TEXT_INIT;
            if (key->scope != parts[i].scope)
                continue;
            co_text_add(ret, "*");
            add_plain(ret, key->name);
            co_text_add(ret, "*\n\t");
            add_plain(ret, key->help);
            co_text_add(ret, " Expected: ");
            add_plain(ret, co_schema_type_text(key, &type));
            co_text_add(ret, key->required ? "; required." : "; default: ");
            if (!key->required) {
                add_plain(ret, key->default_value ? key->default_value : key->default_text ? key->default_text : "none");
                co_text_add(ret, ".");
            }
            co_text_add(ret, "\n\n");
        }
    }
    co_text_add(ret, "# SEE ALSO\n\nchangeover(1)\n");
}

static const char *option_type(const struct co_option *option)
{
    switch (option->type) {
    case CO_OPT_STRING:
        return "a text";
    case CO_OPT_BOOL:
        return "true or false";
    case CO_OPT_INT:
        return "a whole number";
    case CO_OPT_BYTES:
        return "a size";
    case CO_OPT_DURATION_MS:
        return "a duration";
    case CO_OPT_ENUM:
        return option->values ? option->values : "";
    case CO_OPT_ARGV:
        return "a list of words";
    }
    return "?";
}

static void add_escaped(struct co_text *ret, const char *text)
{
    for (; *text; text++)
        co_text_add(ret, *text == '|' ? "\\|" : "%c", *text);
}

void co_config_reference_driver(struct co_text *ret, const struct co_driver *driver)
{
    co_text_add(ret, "\n## Keys of the driver %s\n\n", driver->name);
    co_text_add(ret, "Engines: ");
    for (size_t i = 0; i < driver->engine_count; i++)
        co_text_add(ret, "%s`%s` (URLs begin with %s)", i > 0 ? ", " : "", driver->engines[i].name, driver->engines[i].schemes);
    co_text_add(ret, ".\n");
    for (int scope = CO_OPT_PAIR; scope <= CO_OPT_SIDE; scope++) {
        bool any = false;
        for (size_t i = 0; i < driver->option_count; i++) {
            const struct co_option *option = &driver->options[i];
            if ((int)option->scope != scope)
                continue;
            if (!any)
                co_text_add(ret, "\n%s:\n\n%s", scope == CO_OPT_PAIR ? "In a pair" : "In a side", table_head);
            any = true;
            co_text_add(ret, "| `%s` | ", option->name);
            add_escaped(ret, option_type(option));
            co_text_add(ret, " | %s%s%s | %s |\n", option->default_value ? "`" : "",
                        option->default_value ? option->default_value : "none", option->default_value ? "`" : "",
                        option->help ? option->help : "");
        }
    }
}

/* ---------------------------------------------------------------- init */

/* A text as a YAML scalar in double quotes. */
static void add_quoted(struct co_text *ret, const char *text)
{
    co_text_add(ret, "\"");
    for (; *text; text++)
        co_text_add(ret, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    co_text_add(ret, "\"");
}

static void add_comment(struct co_text *ret, int indent, const char *name, const char *value, const char *help)
{
    size_t start = ret->bytes;
    co_text_add(ret, "%*s# %s: %s", indent, "", name, value);
    size_t width = ret->bytes - start;
    co_text_add(ret, "%*s# %s\n", width < 48 ? (int)(48 - width) : 2, "", help);
}

static const char *shown_value(const struct co_schema_key *key)
{
    return key->default_value ? key->default_value : key->example ? key->example : "[]";
}

/* The keys under "<section>." of a scope as comments: the section's name, then its keys. */
static void add_section(struct co_text *ret, enum co_schema_scope scope, const char *section, int indent)
{
    size_t bytes = strlen(section);
    co_text_add(ret, "%*s# %s:\n", indent, "", section);
    for (size_t i = 0; i < co_schema_count; i++) {
        const struct co_schema_key *key = &co_schema[i];
        if (key->scope == scope && strncmp(key->name, section, bytes) == 0 && key->name[bytes] == '.') {
            CO_AUTOFREE char *name = co_printf("  %s", key->name + bytes + 1);
            add_comment(ret, indent, name ? name : "", shown_value(key), key->help);
        }
    }
}

static void add_side(struct co_text *ret, const char *side, const char *url, const struct co_driver *driver)
{
    co_text_add(ret, "    %s:\n      url: ", side);
    add_quoted(ret, url);
    co_text_add(ret, "\n");
    for (size_t i = 0; i < co_schema_count; i++) {
        const struct co_schema_key *key = &co_schema[i];
        if (key->scope == CO_SCHEMA_SIDE && !key->required && !strchr(key->name, '.'))
            add_comment(ret, 6, key->name, shown_value(key), key->help);
    }
    add_section(ret, CO_SCHEMA_SIDE, "peer", 6);
    add_section(ret, CO_SCHEMA_SIDE, "tls", 6);
    add_section(ret, CO_SCHEMA_SIDE, "host", 6);
    for (size_t i = 0; driver && i < driver->option_count; i++) {
        const struct co_option *option = &driver->options[i];
        if (option->scope != CO_OPT_SIDE)
            continue;
        bool in_host = strncmp(option->name, "host.", 5) == 0;
        CO_AUTOFREE char *name = co_printf("%s%s", in_host ? "  " : "", in_host ? option->name + 5 : option->name);
        add_comment(ret, 6, name ? name : "", option->default_value ? option->default_value : option_type(option),
                    option->help ? option->help : "");
    }
}

/* Pair options of the driver, "setup.x" gathered under "setup:". */
static void add_driver_options(struct co_text *ret, const struct co_driver *driver)
{
    const char *section = NULL;
    size_t section_bytes = 0;
    for (size_t i = 0; driver && i < driver->option_count; i++) {
        const struct co_option *option = &driver->options[i];
        if (option->scope != CO_OPT_PAIR)
            continue;
        const char *dot = strchr(option->name, '.');
        size_t bytes = dot ? (size_t)(dot - option->name) : 0;
        if (dot && (!section || bytes != section_bytes || strncmp(section, option->name, bytes) != 0))
            co_text_add(ret, "    # %.*s:\n", (int)bytes, option->name);
        section = dot ? option->name : NULL;
        section_bytes = bytes;
        CO_AUTOFREE char *name = co_printf("%s%s", dot ? "  " : "", dot ? dot + 1 : option->name);
        add_comment(ret, 4, name ? name : "", option->default_value ? option->default_value : option_type(option),
                    option->help ? option->help : "");
    }
}

void co_config_template(const struct co_template *values, struct co_text *ret)
{
    co_text_add(ret,
                "# A migration for changeover. What is commented out shows its default or an example.\n"
                "# Next: put passwords into files of mode 0600 and name them, then `changeover check`.\n"
                "migration: %s\n",
                values->migration);
    add_comment(ret, 0, "journal", shown_value(co_schema_find(CO_SCHEMA_ROOT, "journal")),
                co_schema_find(CO_SCHEMA_ROOT, "journal")->help);
    co_text_add(ret, "pairs:\n  - name: %s\n", values->pair);
    if (values->engine)
        co_text_add(ret, "    engine: %s\n", values->engine);
    add_driver_options(ret, values->driver);
    add_side(ret, "a", values->url[CO_SIDE_A], values->driver);
    add_side(ret, "b", values->url[CO_SIDE_B], values->driver);
    static const char *const accounts[] = {"replication", "probe"};
    for (size_t i = 0; i < 2; i++) {
        add_comment(ret, 4, accounts[i],
                    i == 0 ? "{user: replicator, password_file: /etc/changeover/replicator}"
                           : "{user: changeover_probe, password_file: /etc/changeover/probe}",
                    co_schema_find(CO_SCHEMA_PAIR, accounts[i])->help);
    }
    add_section(ret, CO_SCHEMA_PAIR, "gate", 4);
    add_section(ret, CO_SCHEMA_PAIR, "drain", 4);
    add_comment(ret, 4, "accept", "[]", co_schema_find(CO_SCHEMA_PAIR, "accept")->help);
    add_section(ret, CO_SCHEMA_ROOT, "cutover", 0);
}
