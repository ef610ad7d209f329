/* table.h - every command, option and exit code, once: what getopt_long, --help, the manual and the completion
 * are made from.
 */
#ifndef CO_CLI_TABLE_H
#define CO_CLI_TABLE_H

#include <stddef.h>

#include "base/text.h"

struct co_cli;

enum co_command_id {
    CO_CMD_INIT,
    CO_CMD_CHECK,
    CO_CMD_SETUP,
    CO_CMD_STATUS,
    CO_CMD_LAG,
    CO_CMD_CUTOVER,
    CO_CMD_RESUME,
    CO_CMD_ABORT,
    CO_CMD_ROLLBACK,
    CO_CMD_DETACH,
    CO_CMD_REPORT,
    CO_CMD_DRIVERS,
    CO_CMD_HELP,
    /* not listed */
    CO_CMD_VERIFY,
    CO_CMD_SERVE,
    CO_CMD_GUARDIAN,
    CO_CMD_FAULT_POINTS,
    CO_CMD_CONFIG_REFERENCE,
    CO_CMD_COMPLETION,
    CO_CMD_MANUAL
};

struct co_command_spec {
    enum co_command_id id;
    const char *name;
    const char *argument;           /* "[COMMAND]"; NULL: none allowed */
    const char *summary;            /* one line */
    const char *description;        /* sentences, for help and the manual */
    int (*run)(struct co_cli *cli); /* returns the exit code */
    bool hidden;
    bool later; /* known, not there yet */
};

enum co_option_id {
    CO_OPTION_CONFIG,
    CO_OPTION_PAIR,
    CO_OPTION_JSON,
    CO_OPTION_QUIET,
    CO_OPTION_VERBOSE,
    CO_OPTION_HELP,
    CO_OPTION_VERSION,
    CO_OPTION_A,
    CO_OPTION_B,
    CO_OPTION_ENGINE,
    CO_OPTION_NAME,
    CO_OPTION_GRANTS,
    CO_OPTION_FOR,
    CO_OPTION_STRICT,
    CO_OPTION_DRY_RUN,
    CO_OPTION_WAIT,
    CO_OPTION_WATCH,
    CO_OPTION_HISTORY,
    CO_OPTION_FAIL_FAST,
    CO_OPTION_TIMEOUT,
    CO_OPTION_FORMAT,
    CO_OPTION_YES,
    CO_OPTION_WHEN_READY,
    CO_OPTION_MAX_WRITE_PAUSE,
    CO_OPTION_IF_NEEDED,
    CO_OPTION_TAKE_OVER,
    CO_OPTION_FORGET,
    CO_OPTION_CHECK,
    CO_OPTION_B_IS_LOST,
    CO_OPTION_RUN,
    CO_OPTION_LIST,
    CO_OPTION_COUNT
};

enum co_option_arity { CO_ARITY_NONE, CO_ARITY_REQUIRED, CO_ARITY_OPTIONAL };

struct co_option_spec {
    enum co_option_id id;
    const char *name;
    char letter; /* or 0 */
    enum co_option_arity arity;
    const char *argument; /* "FILE" */
    const char *values;   /* for completion: "setup|cutover" */
    unsigned commands;    /* bits of co_command_id; CO_ALL_COMMANDS: global */
    const char *help;
};

#define CO_ALL_COMMANDS (~0u)

struct co_exit_spec {
    int code;
    const char *text;
};

extern const struct co_command_spec co_commands[];
extern const size_t co_command_count;
extern const struct co_option_spec co_options[CO_OPTION_COUNT]; /* in the order of their ids */
extern const struct co_exit_spec co_exit_specs[];
extern const size_t co_exit_count;

const struct co_command_spec *co_command_find(const char *name);
bool co_option_applies(const struct co_option_spec *option, const struct co_command_spec *command);

/* help.c */
void co_help_usage(struct co_text *ret);                                          /* changeover --help */
void co_help_command(const struct co_command_spec *command, struct co_text *ret); /* changeover help CMD */
void co_help_manual(struct co_text *ret);                                         /* scdoc source of changeover(1) */
void co_help_completion(struct co_text *ret);                                     /* bash */

#endif
