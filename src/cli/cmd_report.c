/* cmd_report.c - `report`: the record of a run, from the journal alone. */
#include <string.h>

#include "cli/internal.h"
#include "report/report.h"

static int show(struct co_cli *cli, struct co_journal *journal, enum co_report_format format)
{
    struct co_error err = {0};
    const char *run = cli->value[CO_OPTION_RUN];
    int rc;
    if (cli->given[CO_OPTION_LIST])
        rc = co_report_list(journal, format, &cli->plain, &err);
    else
        rc = co_report_render(journal, run, format, &cli->plain, &err);
    if (rc == 0)
        return CO_EXIT_DONE;
    co_text_clear(&cli->plain);
    cli->json = format == CO_REPORT_JSON;
    return co_cli_error(cli, &err);
}

int co_cmd_report(struct co_cli *cli)
{
    struct co_error err = {0};
    struct co_journal *journal = NULL;
    enum co_report_format format = cli->json ? CO_REPORT_JSON : CO_REPORT_TEXT;
    const char *name = cli->value[CO_OPTION_FORMAT];
    if (name && co_report_format_parse(name, &format, &err) != 0)
        return co_cli_usage(cli, "--format: %s", err.message);
    if (name && cli->json && format != CO_REPORT_JSON)
        return co_cli_usage(cli, "--json and --format %s exclude each other", name);
    if (cli->given[CO_OPTION_RUN] && cli->given[CO_OPTION_LIST])
        return co_cli_usage(cli, "--run and --list exclude each other");
    int code = co_cli_load_config(cli);
    if (code != 0)
        return code;
    cli->json = format == CO_REPORT_JSON;
    if (co_journal_open(cli->config->journal, cli->config->migration, CO_JOURNAL_READ, &journal, &err) != 0)
        return co_cli_journal_error(cli, &err);
    cli->plain.max = (size_t)256 << 20;
    code = show(cli, journal, format);
    co_journal_close(journal);
    return code;
}
