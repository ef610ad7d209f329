/* cli.c - from argv to a command and its exit code. Invariant: no argument that could be a password is kept or
 * repeated, and every option is checked against the command it was given to. */
#include "cli/cli.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/secret.h"
#include "cli/internal.h"
#include "config/schema.h"
#include "config/url.h"

static int find_password(struct co_cli *cli, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        bool option = strncmp(argv[i], "--password", 10) == 0 || strncmp(argv[i], "--pass", 6) == 0;
        if (!option && !co_url_holds_password(argv[i]))
            continue;
        struct co_error err = {0};
        co_fail(&err, CO_E_CONFIG,
                "argument %d holds a password: other users of this machine can see it in the list of processes", i);
        co_hint(&err,
                "Put it into a file of mode 0600 and name that in the config's password_file, or use password_env; and change "
                "the password.");
        co_cli_error(cli, &err);
        return CO_EXIT_USAGE;
    }
    return 0;
}

/* getopt_long would take unambiguous beginnings: a script that uses them breaks when an option is added. */
static int check_long_names(struct co_cli *cli, int argc, char **argv)
{
    const char *names[CO_OPTION_COUNT];
    for (int i = 0; i < CO_OPTION_COUNT; i++)
        names[i] = co_options[i].name;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--", 2) != 0)
            continue;
        CO_AUTOFREE char *name = strndup(argv[i] + 2, strcspn(argv[i] + 2, "="));
        bool known = false;
        for (int k = 0; name && k < CO_OPTION_COUNT; k++)
            known |= strcmp(names[k], name) == 0;
        if (known || !name)
            continue;
        const char *near = co_nearest(name, names, CO_OPTION_COUNT);
        if (near)
            return co_cli_usage(cli, "unknown option --%s: did you mean --%s?", name, near);
        return co_cli_usage(cli, "unknown option --%s", name);
    }
    return 0;
}

static int add_pair(struct co_cli *cli, const char *name)
{
    const char **pairs = reallocarray(cli->pairs, cli->pair_count + 2, sizeof *pairs);
    if (!pairs)
        return CO_EXIT_INTERNAL;
    pairs[cli->pair_count++] = name;
    pairs[cli->pair_count] = NULL;
    cli->pairs = pairs;
    return 0;
}

static int read_options(struct co_cli *cli, int argc, char **argv)
{
    struct option longs[CO_OPTION_COUNT + 1] = {{0}};
    char letters[2 * CO_OPTION_COUNT + 2] = ":";
    size_t count = 1;
    int verbose = 0;
    for (int i = 0; i < CO_OPTION_COUNT; i++) {
        longs[i] = (struct option){co_options[i].name, (int)co_options[i].arity, NULL, 256 + i};
        if (co_options[i].letter) {
            letters[count++] = co_options[i].letter;
            if (co_options[i].arity == CO_ARITY_REQUIRED)
                letters[count++] = ':';
        }
    }
    letters[count] = '\0';
    opterr = 0;
    optind = 0;
    for (;;) {
        int got = getopt_long(argc, argv, letters, longs, NULL);
        if (got == -1)
            break;
        int id = got >= 256 ? got - 256 : -1;
        for (int i = 0; id < 0 && i < CO_OPTION_COUNT; i++)
            if (co_options[i].letter && co_options[i].letter == got)
                id = i;
        if (got == ':')
            return co_cli_usage(cli, "%s needs an argument", argv[optind - 1]);
        if (got == '?' && optopt >= 256)
            return co_cli_usage(cli, "--%s takes no argument", co_options[optopt - 256].name);
        if (id < 0)
            return co_cli_usage(cli, "unknown option -%c", optopt);
        cli->given[id] = true;
        cli->value[id] = optarg;
        verbose += id == CO_OPTION_VERBOSE;
        if (id == CO_OPTION_PAIR && add_pair(cli, optarg) != 0)
            return CO_EXIT_INTERNAL;
    }
    cli->json = cli->given[CO_OPTION_JSON];
    if (verbose && cli->given[CO_OPTION_QUIET])
        return co_cli_usage(cli, "-q and -v exclude each other");
    co_log_setup(cli->given[CO_OPTION_QUIET] ? CO_QUIET : verbose > 1 ? CO_DEBUG : verbose ? CO_VERBOSE : CO_NORMAL);
    return 0;
}

static int read_command(struct co_cli *cli, int argc, char **argv)
{
    if (optind >= argc) {
        if (cli->given[CO_OPTION_HELP] || cli->given[CO_OPTION_VERSION])
            return 0;
        return co_cli_usage(cli, "no command was given");
    }
    const char *name = argv[optind];
    cli->command = co_command_find(name);
    if (!cli->command) {
        const char *names[64];
        size_t count = 0;
        for (size_t i = 0; i < co_command_count && count < 64; i++)
            if (!co_commands[i].hidden)
                names[count++] = co_commands[i].name;
        const char *near = co_nearest(name, names, count);
        if (near)
            return co_cli_usage(cli, "unknown command %s: did you mean %s?", name, near);
        return co_cli_usage(cli, "unknown command %s", name);
    }
    if (cli->command->later)
        return co_cli_usage(cli, "the command %s is not there yet in version %s", name, CO_VERSION);
    if (optind + 1 < argc)
        cli->argument = argv[optind + 1];
    if (cli->argument && !cli->command->argument)
        return co_cli_usage(cli, "%s takes no argument, got \"%s\"", name, cli->argument);
    if (optind + 2 < argc)
        return co_cli_usage(cli, "one argument too many: \"%s\"", argv[optind + 2]);
    for (int i = 0; i < CO_OPTION_COUNT; i++)
        if (cli->given[i] && !co_option_applies(&co_options[i], cli->command))
            return co_cli_usage(cli, "--%s is not an option of %s", co_options[i].name, name);
    return 0;
}

static int dispatch(struct co_cli *cli)
{
    if (cli->given[CO_OPTION_VERSION]) {
        co_text_add(&cli->plain, "changeover %s\n", CO_VERSION);
        return CO_EXIT_DONE;
    }
    if (cli->given[CO_OPTION_HELP]) {
        if (cli->command)
            co_help_command(cli->command, &cli->plain);
        else
            co_help_usage(&cli->plain);
        return CO_EXIT_DONE;
    }
    if (!cli->command->run)
        return co_cli_usage(cli, "%s is not run by people", cli->command->name);
    struct co_error err = {0};
    if (co_fault_setup("CHANGEOVER_FAULT", &err) != 0) {
        co_cli_error(cli, &err);
        return CO_EXIT_USAGE;
    }
    return cli->command->run(cli);
}

int co_cli_main(int argc, char **argv)
{
    co_cli_harden();
    co_cli_ignore_signals();
    if (argc > 1 && strcmp(argv[1], "guardian") == 0)
        return co_guardian_main(argc - 1, argv + 1);
    co_log_patience(2000);
    struct co_cli cli = {.doc = json_object(), .errors = json_array(), .session = {.wake_fd = -1}};
    for (int i = 1; i < argc; i++) /* so that errors of usage are JSON too */
        cli.json |= strcmp(argv[i], "--json") == 0;
    int code = CO_EXIT_INTERNAL;
    if (cli.doc && cli.errors) {
        code = find_password(&cli, argc, argv);
        if (code == 0)
            code = check_long_names(&cli, argc, argv);
        if (code == 0)
            code = read_options(&cli, argc, argv);
        if (code == 0)
            code = read_command(&cli, argc, argv);
        if (code == 0)
            code = dispatch(&cli);
        co_cli_finish(&cli, code);
    }
    co_cli_close(&cli);
    json_decref(cli.doc);
    json_decref(cli.errors);
    co_text_done(&cli.plain);
    free(cli.pairs);
    co_mask_clear(); /* nothing is printed after this */
    return code;
}
