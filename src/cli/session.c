/* session.c - opens what a command needs, in the order in which a failure is cheapest: config, secrets, drivers,
 * journal. */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"
#include "cli/internal.h"

int co_cli_load_config(struct co_cli *cli)
{
    struct co_error err = {0};
    if (co_config_load(cli->value[CO_OPTION_CONFIG], &cli->config, &err) != 0)
        return co_cli_error(cli, &err);
    co_json_set(cli->doc, "migration", co_json_text(cli->config->migration));
    return 0;
}

/* A local file, not a server: what would be "unknown" there is a refusal here. */
int co_cli_journal_error(struct co_cli *cli, const struct co_error *err)
{
    int exit_code = co_cli_error(cli, err);
    if (err->code == CO_E_MISMATCH)
        return CO_EXIT_CONFIG; /* the journal of another migration */
    return exit_code == CO_EXIT_UNKNOWN ? CO_EXIT_NO : exit_code;
}

static int open_journal(struct co_cli *cli, enum co_cli_journal journal)
{
    struct co_error err = {0};
    if (journal == CO_CLI_NO_JOURNAL)
        return 0;
    if (journal == CO_CLI_WRITE_JOURNAL)
        return co_session_use_journal(&cli->session, CO_JOURNAL_WRITE, &err) == 0 ? 0 : co_cli_journal_error(cli, &err);
    /* Looking works without one: monitoring has no rights to it, and before the first run there is none. */
    if (access(cli->config->journal, R_OK) != 0)
        return 0;
    if (co_session_use_journal(&cli->session, CO_JOURNAL_READ, &err) != 0)
        co_warn("the journal can't be read, so what it knows is not used: %s", err.message);
    return 0;
}

int co_cli_open(struct co_cli *cli, enum co_cli_journal journal)
{
    struct co_error err = {0};
    int code = co_cli_load_config(cli);
    if (code != 0)
        return code;
    if (co_config_load_secrets(cli->config, &err) != 0)
        return co_cli_error(cli, &err);
    if (co_session_open(&cli->session, cli->config, cli->pairs, &err) != 0) {
        int exit_code = co_cli_error(cli, &err);
        return err.code == CO_E_UNSUPPORTED ? CO_EXIT_CONFIG : exit_code; /* no driver for the engine */
    }
    cli->session_open = true;
    return open_journal(cli, journal);
}

void co_cli_close(struct co_cli *cli)
{
    co_cli_catch_signals(NULL);
    if (cli->session_open)
        co_session_close(&cli->session);
    cli->session_open = false;
    co_config_free(cli->config);
    cli->config = NULL;
}

int co_cli_duration(struct co_cli *cli, enum co_option_id option, int64_t missing, int64_t *ret_ms)
{
    struct co_error err = {0};
    *ret_ms = missing;
    if (!cli->value[option])
        return 0;
    if (co_parse_duration_ms(cli->value[option], ret_ms, &err) != 0)
        return co_cli_usage(cli, "--%s: %s", co_options[option].name, err.message);
    return 0;
}

const char *co_cli_operator(void)
{
    const char *sudo = getenv("SUDO_USER");
    if (sudo && *sudo && geteuid() == 0)
        return sudo;
    const struct passwd *user = getpwuid(getuid());
    return user ? user->pw_name : "unknown";
}

int co_cli_run_options(struct co_cli *cli, struct co_run_options *ret)
{
    *ret = (struct co_run_options){.max_write_pause_ms = -1,
                                   .when_ready_ms = -1,
                                   .b_is_lost = cli->given[CO_OPTION_B_IS_LOST],
                                   .take_over = cli->given[CO_OPTION_TAKE_OVER],
                                   .forget = cli->given[CO_OPTION_FORGET],
                                   .if_needed = cli->given[CO_OPTION_IF_NEEDED],
                                   .operator_name = co_cli_operator()};
    int code = co_cli_duration(cli, CO_OPTION_MAX_WRITE_PAUSE, -1, &ret->max_write_pause_ms);
    if (code == 0 && ret->max_write_pause_ms == 0)
        code = co_cli_usage(cli, "--max-write-pause: expected a duration of more than 0");
    if (code == 0 && cli->given[CO_OPTION_WHEN_READY])
        code = co_cli_duration(cli, CO_OPTION_WHEN_READY, INT64_MAX, &ret->when_ready_ms);
    return code;
}
