/* internal.h - what the commands share: the parsed command line, the document they fill, and the helpers that open
 * a session. Private to src/cli.
 *
 * A command fills cli->doc (the JSON document, without schema, exit_code and errors), sets cli->render if the
 * text for people is made from that same document, reports errors through co_cli_error, and returns the exit
 * code. Printing happens once, at the end, in output.c.
 */
#ifndef CO_CLI_INTERNAL_H
#define CO_CLI_INTERNAL_H

#include <jansson.h>

#include "base/text.h"
#include "changeover/exit_codes.h"
#include "cli/table.h"
#include "config/config.h"
#include "cutover/cutover.h"

struct co_cli {
    const struct co_command_spec *command;
    const char *argument; /* what stands behind the command, or NULL */
    bool given[CO_OPTION_COUNT];
    const char *value[CO_OPTION_COUNT]; /* NULL: none given */
    const char **pairs;                 /* -p, NULL-terminated; NULL: all */
    size_t pair_count;
    bool json;
    struct co_config *config;
    struct co_session session;
    bool session_open;
    json_t *doc;
    json_t *errors;
    void (*render)(const json_t *doc, struct co_text *ret); /* NULL: nothing for people */
    struct co_text plain;                                   /* printed as it is, in place of doc (prometheus, reports, ...) */
    bool silent;                                            /* the command has printed by itself */
};

/* ---- output.c ---- */

/* Adds an error and returns the exit code that its kind has. */
int co_cli_error(struct co_cli *cli, const struct co_error *err);
int co_cli_exit_code(int error_code);
/* Wrong usage: 64. The hint names the command's help. */
int co_cli_usage(struct co_cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints document or text, and (for people) the errors. */
void co_cli_finish(struct co_cli *cli, int exit_code);
/* The envelope: schema, exit_code, errors in front of what doc holds. A new reference. */
json_t *co_cli_envelope(const char *command, int exit_code, json_t *errors, json_t *doc);
/* Writes to standard output; false when it can't be written to. */
bool co_cli_print(const char *data, size_t bytes);

json_t *co_json_text(const char *text_or_null); /* masked, made valid UTF-8; NULL: null */
json_t *co_json_known(const char *text);        /* "" counts as unknown: null */
json_t *co_json_count(int64_t value);           /* negative: null */
json_t *co_json_tristate(enum co_tristate value);
void co_json_set(json_t *object, const char *key, json_t *value); /* steals; out of memory: key is missing */
const char *co_get_str(const json_t *object, const char *key);    /* "" when null or absent */
int64_t co_get_int(const json_t *object, const char *key);        /* -1 when null or absent */
/* Errors name their pair; under the pair's own heading that is noise: "pair NAME, " is left out. */
const char *co_without_pair(const char *text, const char *pair);
bool co_get_true(const json_t *object, const char *key);

/* ---- session.c ---- */

enum co_cli_journal { CO_CLI_NO_JOURNAL, CO_CLI_LOOK_JOURNAL /* if it can be had */, CO_CLI_WRITE_JOURNAL };
/* Config, secrets, drivers, journal. 0, or the exit code after the error was reported. */
int co_cli_open(struct co_cli *cli, enum co_cli_journal journal);
int co_cli_load_config(struct co_cli *cli);                               /* the config alone */
int co_cli_journal_error(struct co_cli *cli, const struct co_error *err); /* reports it; the exit code */
void co_cli_close(struct co_cli *cli);
/* A duration given to an option; `missing` when it has none. 0 or 64. */
int co_cli_duration(struct co_cli *cli, enum co_option_id option, int64_t missing, int64_t *ret_ms);
int co_cli_run_options(struct co_cli *cli, struct co_run_options *ret); /* 0 or 64 */
const char *co_cli_operator(void);

/* ---- signals.c ---- */

void co_cli_ignore_signals(void);                      /* SIGHUP, SIGPIPE */
void co_cli_catch_signals(struct co_session *session); /* SIGINT and SIGTERM set session->interrupted; NULL: default */
void co_cli_harden(void);                              /* no core dumps, no ptrace by others */

/* ---- progress.c ---- */

void co_cli_watch(struct co_cli *cli); /* shows session events on standard error */
void co_cli_watch_end(struct co_cli *cli);
/* A moving line on a terminal; elsewhere a line on standard error now and then. */
void co_cli_show_transient(const char *text);

/* ---- confirm.c ---- */

#define CO_CLI_NO_PLAN (-1)
/* Shows the plan (kind: enum co_plan_kind, or CO_CLI_NO_PLAN) and asks. 0: go on. Else the exit code: 64 without a
 * terminal where an answer is needed, 130 when the answer is no. */
int co_cli_confirm(struct co_cli *cli, const char *what, bool needed_without_terminal, int kind);

/* ---- run_output.c: documents of runs and plans ---- */

void co_cli_run_document(struct co_cli *cli, const struct co_run_result *result);
int co_cli_dry_run(struct co_cli *cli, enum co_plan_kind kind);
void co_cli_render_plan(const json_t *doc, struct co_text *ret);
json_t *co_cli_plan_json(const struct co_plan *plan);

/* ---- lag_format.c ---- */

json_t *co_cli_lag_pair(const char *name, const struct co_lag_sample *sample);
void co_cli_lag_text(const json_t *doc, struct co_text *ret);
void co_cli_lag_prometheus(const json_t *doc, struct co_text *ret);
/* The one line, and the Nagios exit code. critical_ms and limits come from the config. */
int co_cli_lag_nagios(const json_t *doc, const struct co_config *config, struct co_text *ret);

/* ---- the commands ---- */

int co_cmd_init(struct co_cli *cli);
int co_cmd_check(struct co_cli *cli);
int co_cmd_setup(struct co_cli *cli);
int co_cmd_status(struct co_cli *cli);
int co_cmd_lag(struct co_cli *cli);
int co_cmd_cutover(struct co_cli *cli);
int co_cmd_resume(struct co_cli *cli);
int co_cmd_abort(struct co_cli *cli);
int co_cmd_rollback(struct co_cli *cli);
int co_cmd_detach(struct co_cli *cli);
int co_cmd_report(struct co_cli *cli);
int co_cmd_drivers(struct co_cli *cli);
int co_cmd_help(struct co_cli *cli);
int co_cmd_fault_points(struct co_cli *cli);
int co_cmd_config_reference(struct co_cli *cli);
int co_cmd_completion(struct co_cli *cli);
int co_cmd_manual(struct co_cli *cli);

#endif
