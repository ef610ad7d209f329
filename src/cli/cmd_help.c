/* cmd_help.c - `help`, and the hidden commands that print what is made from the tables. */
#include <string.h>

#include "cli/internal.h"
#include "config/schema.h"
#include "drivers-host/modules.h"

int co_cmd_help(struct co_cli *cli)
{
    if (!cli->argument) {
        co_help_usage(&cli->plain);
        return CO_EXIT_DONE;
    }
    const struct co_command_spec *command = co_command_find(cli->argument);
    if (!command || command->later || !command->summary)
        return co_cli_usage(cli, "there is no command %s", cli->argument);
    co_help_command(command, &cli->plain);
    return CO_EXIT_DONE;
}

int co_cmd_config_reference(struct co_cli *cli)
{
    const struct co_module *module = NULL;
    struct co_error err = {0};
    if (!cli->argument) {
        co_config_reference(&cli->plain);
        return CO_EXIT_DONE;
    }
    if (co_module_for_engine(cli->argument, &module, &err) != 0) {
        co_cli_error(cli, &err);
        return CO_EXIT_USAGE;
    }
    co_config_reference_driver(&cli->plain, module->driver);
    return CO_EXIT_DONE;
}

int co_cmd_completion(struct co_cli *cli)
{
    if (cli->argument && strcmp(cli->argument, "bash") != 0)
        return co_cli_usage(cli, "completion is there for bash");
    co_help_completion(&cli->plain);
    return CO_EXIT_DONE;
}

int co_cmd_manual(struct co_cli *cli)
{
    if (!cli->argument)
        co_help_manual(&cli->plain);
    else if (strcmp(cli->argument, CO_CONFIG_FILE) == 0)
        co_config_manual(&cli->plain);
    else
        return co_cli_usage(cli, "there is no manual page %s", cli->argument);
    return CO_EXIT_DONE;
}
