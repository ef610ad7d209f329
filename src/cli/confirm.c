/* confirm.c - asks before servers are changed. The plan that is shown is the list that the run executes. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/internal.h"

static int show_plan(struct co_cli *cli, int kind)
{
    if (kind == CO_CLI_NO_PLAN)
        return 0;
    struct co_plan plan = {0};
    struct co_error err = {0};
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    if (co_plan_make(&cli->session, (enum co_plan_kind)kind, &plan, &err) != 0)
        return co_cli_error(cli, &err);
    json_t *doc = json_object();
    co_json_set(doc, "steps", co_cli_plan_json(&plan));
    co_cli_render_plan(doc, &text);
    co_complain("this is what will be done:\n%s", co_text_str(&text));
    json_decref(doc);
    co_plan_done(&plan);
    return 0;
}

int co_cli_confirm(struct co_cli *cli, const char *what, bool needed_without_terminal, int kind)
{
    char answer[256];
    if (cli->given[CO_OPTION_YES])
        return 0;
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
        if (!needed_without_terminal)
            return 0;
        return co_cli_usage(cli, "there is no terminal to ask on: %s needs --yes", cli->command->name);
    }
    int code = show_plan(cli, kind);
    if (code != 0)
        return code;
    co_complain("%s. Type %s or yes to go on:", what, cli->config->migration);
    if (!fgets(answer, sizeof answer, stdin))
        answer[0] = '\0';
    answer[strcspn(answer, "\r\n")] = '\0';
    if (strcmp(answer, "yes") == 0 || strcmp(answer, cli->config->migration) == 0)
        return 0;
    co_say("Nothing was changed.");
    return CO_EXIT_INTERRUPTED;
}
