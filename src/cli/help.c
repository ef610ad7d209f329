/* help.c - help, manual and completion, from the tables alone. */
#include <string.h>

#include "cli/table.h"

static void add_option_head(const struct co_option_spec *option, struct co_text *ret)
{
    if (option->letter)
        co_text_add(ret, "-%c, ", option->letter);
    co_text_add(ret, "--%s", option->name);
    if (option->arity == CO_ARITY_REQUIRED)
        co_text_add(ret, " %s", option->argument);
    else if (option->arity == CO_ARITY_OPTIONAL)
        co_text_add(ret, "[=%s]", option->argument);
}

static void add_option(const struct co_option_spec *option, struct co_text *ret)
{
    CO_TEXT_AUTO head = CO_TEXT_INIT;
    add_option_head(option, &head);
    co_text_add(ret, "  %s%-*s  %s\n", option->letter ? "" : "    ", option->letter ? 28 : 24, co_text_str(&head),
                option->help);
}

static void add_wrapped(const char *text, size_t width, const char *indent, struct co_text *ret)
{
    size_t column = 0;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column > 0 && column + 1 + word > width) {
            co_text_add(ret, "\n");
            column = 0;
        }
        co_text_add(ret, "%s%.*s", column > 0 ? " " : indent, (int)word, text);
        column += word + 1;
        text += word;
        text += strspn(text, " ");
    }
    co_text_add(ret, "\n");
}

static void add_exit_codes(struct co_text *ret)
{
    for (size_t i = 0; i < co_exit_count; i++)
        co_text_add(ret, "  %3d  %s\n", co_exit_specs[i].code, co_exit_specs[i].text);
}

void co_help_usage(struct co_text *ret)
{
    co_text_add(ret, "Usage: changeover [-c FILE] [-p PAIR]... [--json] [-q|-v] COMMAND [OPTION]...\n"
                     "Moves live databases from server A to server B.\n\nCommands:\n");
    for (size_t i = 0; i < co_command_count; i++)
        if (!co_commands[i].hidden)
            co_text_add(ret, "  %-10s %s\n", co_commands[i].name, co_commands[i].summary);
    co_text_add(ret, "\nOptions, before or after the command:\n");
    for (size_t i = 0; i < CO_OPTION_COUNT; i++)
        if (co_options[i].commands == CO_ALL_COMMANDS)
            add_option(&co_options[i], ret);
    co_text_add(ret, "\nExit codes, the same for every command:\n");
    add_exit_codes(ret);
    co_text_add(ret, "\n`changeover help COMMAND` explains a command; changeover(1) is the manual.\n");
}

void co_help_command(const struct co_command_spec *command, struct co_text *ret)
{
    bool any = false;
    co_text_add(ret, "Usage: changeover [OPTION]... %s%s%s\n\n", command->name, command->argument ? " " : "",
                command->argument ? command->argument : "");
    add_wrapped(command->description ? command->description : command->summary, 88, "", ret);
    for (size_t i = 0; i < CO_OPTION_COUNT; i++) {
        if (co_options[i].commands == CO_ALL_COMMANDS || !co_option_applies(&co_options[i], command))
            continue;
        co_text_add(ret, "%s", any ? "" : "\nOptions:\n");
        any = true;
        add_option(&co_options[i], ret);
    }
    co_text_add(ret, "\nOptions of every command:\n");
    for (size_t i = 0; i < CO_OPTION_COUNT; i++)
        if (co_options[i].commands == CO_ALL_COMMANDS)
            add_option(&co_options[i], ret);
}

/* ---------------------------------------------------------------- the manual */

/* scdoc: _ and * would be markup */
static void add_plain(const char *text, struct co_text *ret)
{
    for (; *text; text++)
        co_text_add(ret, strchr("_*\\#<~", *text) ? "\\%c" : "%c", *text);
}

static void add_manual_option(const struct co_option_spec *option, struct co_text *ret)
{
    CO_TEXT_AUTO head = CO_TEXT_INIT;
    add_option_head(option, &head);
    co_text_add(ret, "*");
    add_plain(co_text_str(&head), ret);
    co_text_add(ret, "*\n\t");
    add_plain(option->help, ret);
    co_text_add(ret, "\n\n");
}

static const char manual_head[] =
    "changeover(1)\n\n"
    "; made by `changeover manual`; edit src/cli/table.c and src/cli/help.c\n\n"
    "# NAME\n\nchangeover - move live databases from server A to server B\n\n"
    "# SYNOPSIS\n\n*changeover* [-c FILE] [-p PAIR]... [--json] [-q|-v] COMMAND [OPTION]...\n\n"
    "# DESCRIPTION\n\n"
    "changeover sets up replication from A to B, measures how far B is behind, opens a gate only when B has\n"
    "provably caught up, and then makes B the primary in one step, for one database or for a group of\n"
    "databases of different engines at once. At no instant do both sides take writes, and no acknowledged\n"
    "write is lost. Before the commit a failure ends with A in service.\n\n"
    "A run goes: *init*, *check*, *setup*, *lag --wait*, *cutover*; then *detach*, or *rollback*. When a run\n"
    "was interrupted, *resume* finishes it or backs it out.\n\n";

static const char manual_tail[] =
    "# OUTPUT\n\n"
    "What was asked for goes to standard output, progress and messages go to standard error. With *--json* it is one\n"
    "JSON document (with *lag --watch* one a line) with _schema_, _exit\\_code_ and _errors_; unknown values are null.\n\n"
    "# SIGNALS\n\n"
    "SIGINT and SIGTERM before the commit of a cutover take it back; after it the run finishes. SIGHUP and a broken\n"
    "pipe end nothing.\n\n"
    "# ENVIRONMENT\n\n"
    "*CHANGEOVER\\_CONFIG*\n\tThe config, where -c isn't given.\n\n"
    "*CHANGEOVER\\_DRIVERS*\n\tA folder with driver modules, looked at first.\n\n"
    "*CHANGEOVER\\_FAULT*\n\tFaults to inject, for rehearsals and tests: POINT=ACTION[,...]. *changeover fault-points* lists "
    "the points.\n\n"
    "*CHANGEOVER\\_FAULT\\_MET*\n\tA file to which each of these faults is added when it is met. The action *hold* waits there "
    "until the "
    "file with .go behind its name is there, at most 30 s.\n\n"
    "*CHANGEOVER\\_GUARDIAN\\_LOG*\n\tA file for the messages of the guardian process; without it they are dropped.\n\n"
    "*XDG\\_STATE\\_HOME*\n\tWhere journals are kept when the user isn't root.\n\n"
    "# FILES\n\n"
    "_changeover.yaml_\n\tThe config; see changeover.yaml(5).\n\n"
    "_/var/lib/changeover/MIGRATION.journal_\n\tThe journal: lock, memory for resume and audit record. Keep it until *detach*: "
    "where that of a cutover is lost,\n"
    "\texchange a and b in a config with another migration and journal, whose *setup* and *cutover* go back.\n\n"
    "_/etc/changeover/\\*.yaml_\n\tConfigs that changeover-resume@.service looks at when the machine boots.\n\n"
    "# SECURITY\n\n"
    "Passwords come from files of mode 0600, from the environment or from the engine's own files, never from\n"
    "arguments. They are in no log, journal, report or message. The program makes no core dumps.\n\n"
    "# SEE ALSO\n\nchangeover.yaml(5)\n";

void co_help_manual(struct co_text *ret)
{
    co_text_add(ret, "%s# COMMANDS\n\n", manual_head);
    for (size_t i = 0; i < co_command_count; i++) {
        const struct co_command_spec *command = &co_commands[i];
        if (command->hidden)
            continue;
        co_text_add(ret, "## %s%s%s\n\n", command->name, command->argument ? " " : "",
                    command->argument ? command->argument : "");
        CO_TEXT_AUTO plain = CO_TEXT_INIT;
        add_plain(command->description, &plain);
        add_wrapped(co_text_str(&plain), 100, "", ret);
        co_text_add(ret, "\n");
        for (size_t k = 0; k < CO_OPTION_COUNT; k++)
            if (co_options[k].commands != CO_ALL_COMMANDS && co_option_applies(&co_options[k], command))
                add_manual_option(&co_options[k], ret);
    }
    co_text_add(ret, "# OPTIONS\n\nThey stand before or after the command.\n\n");
    for (size_t i = 0; i < CO_OPTION_COUNT; i++)
        if (co_options[i].commands == CO_ALL_COMMANDS)
            add_manual_option(&co_options[i], ret);
    co_text_add(ret, "# EXIT STATUS\n\nThe same for every command; with several pairs the highest counts.\n\n");
    for (size_t i = 0; i < co_exit_count; i++) {
        co_text_add(ret, "*%d*\n\t", co_exit_specs[i].code);
        add_plain(co_exit_specs[i].text, ret);
        co_text_add(ret, "\n\n");
    }
    co_text_add(ret,
                "*lag --format nagios* uses 0 to 3 only: OK, WARNING (closed), CRITICAL (broken, or gate.critical\\_seconds\n"
                "passed) and UNKNOWN.\n\n%s",
                manual_tail);
}

/* ---------------------------------------------------------------- completion */

static void add_option_words(const struct co_command_spec *command, struct co_text *ret)
{
    for (size_t i = 0; i < CO_OPTION_COUNT; i++) {
        const struct co_option_spec *option = &co_options[i];
        bool global = option->commands == CO_ALL_COMMANDS;
        if (command ? !global && co_option_applies(option, command) : global)
            co_text_add(ret, " --%s%s", option->name, option->arity == CO_ARITY_OPTIONAL ? "=" : "");
    }
}

void co_help_completion(struct co_text *ret)
{
    co_text_add(ret, "# bash completion for changeover; made by `changeover completion`\n"
                     "_changeover()\n{\n"
                     "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= word\n"
                     "    local commands=\"");
    bool first = true;
    for (size_t i = 0; i < co_command_count; i++) {
        if (co_commands[i].hidden)
            continue;
        co_text_add(ret, "%s%s", first ? "" : " ", co_commands[i].name);
        first = false;
    }
    co_text_add(ret, "\"\n    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
                     "        case \" $commands \" in *\" $word \"*) command=$word; break ;; esac\n    done\n"
                     "    case $prev in\n");
    for (size_t i = 0; i < CO_OPTION_COUNT; i++) {
        const struct co_option_spec *option = &co_options[i];
        if (option->id == CO_OPTION_CONFIG)
            co_text_add(ret, "    -c|--config) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return ;;\n");
        else if (option->values) {
            co_text_add(ret, "    --%s) mapfile -t COMPREPLY < <(compgen -W \"", option->name);
            for (const char *at = option->values; *at; at++)
                co_text_add(ret, "%c", *at == '|' ? ' ' : *at);
            co_text_add(ret, "\" -- \"$cur\"); return ;;\n");
        } else if (option->arity == CO_ARITY_REQUIRED) {
            co_text_add(ret, "    --%s) COMPREPLY=(); return ;;\n", option->name);
        }
    }
    co_text_add(ret, "    esac\n    local words=\"");
    CO_TEXT_AUTO global = CO_TEXT_INIT;
    add_option_words(NULL, &global);
    co_text_add(ret, "%s\"\n    case $command in\n    '') words=\"$commands $words\" ;;\n    help) words=$commands ;;\n",
                co_text_str(&global) + 1);
    for (size_t i = 0; i < co_command_count; i++) {
        CO_TEXT_AUTO own = CO_TEXT_INIT;
        add_option_words(&co_commands[i], &own);
        if (!co_commands[i].hidden && own.bytes > 0)
            co_text_add(ret, "    %s) words=\"$words%s\" ;;\n", co_commands[i].name, co_text_str(&own));
    }
    co_text_add(ret, "    esac\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n}\n"
                     "complete -F _changeover changeover\n");
}
