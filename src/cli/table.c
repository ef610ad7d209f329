/* table.c - the tables of table.h. What stands here is what users read: names are added, never changed. */
#include "cli/table.h"

#include <string.h>

#include "changeover/exit_codes.h"
#include "cli/internal.h"

#define ON(command) (1u << CO_CMD_##command)
#define RUNS (ON(CUTOVER) | ON(ROLLBACK))

/* clang-format off */
const struct co_command_spec co_commands[] = {
    {.id = CO_CMD_INIT, .name = "init", .run = co_cmd_init, .summary = "write a commented config for two URLs",
     .description = "Writes a config with every key and its default as a comment, to the file after -c or to changeover.yaml. An existing "
                    "file is never overwritten. URLs with passwords are refused: passwords belong in files or the environment. With "
                    "--grants it reads the config that is there and prints, for an administrator, the statements that make the tool's "
                    "accounts; it doesn't log in anywhere."},
    {.id = CO_CMD_CHECK, .name = "check", .run = co_cmd_check, .summary = "look at both sides before a setup or a cutover",
     .description = "Pre-flight of both sides: each finding with its code, why it matters and what to do about it. Without --for it picks "
                    "its stage: setup while B doesn't follow A, else cutover. Nothing is changed."},
    {.id = CO_CMD_SETUP, .name = "setup", .run = co_cmd_setup, .summary = "start the replication from A to B",
     .description = "Copies A to B where that is needed and makes B follow A. B refuses client writes from then on; reads stay. It can be "
                    "interrupted and run again: it goes on where it stopped."},
    {.id = CO_CMD_STATUS, .name = "status", .run = co_cmd_status, .summary = "both sides, the link, the lag and what to do next",
     .description = "Shows what each side is, whether B follows A, how far behind it is, and what to do next. Needs no writable journal."},
    {.id = CO_CMD_LAG, .name = "lag", .run = co_cmd_lag, .summary = "measure how far the follower is behind",
     .description = "Takes the primary's position and measures how long the follower takes to get there: proven, not estimated. The exit "
                    "code is the gate's: 0 open, 1 closed, 2 broken, 3 unknown. After a cutover it measures the way back."},
    {.id = CO_CMD_CUTOVER, .name = "cutover", .run = co_cmd_cutover, .summary = "make B the primary",
     .description = "Fences A, lets B catch up, proves that nothing was lost, promotes B, commits and opens it. Before the commit any "
                    "failure, also SIGINT and SIGTERM, ends with A in service again (exit 4); after it the run finishes. On a terminal it "
                    "shows its plan and asks; elsewhere it needs --yes."},
    {.id = CO_CMD_RESUME, .name = "resume", .run = co_cmd_resume, .summary = "finish an interrupted run",
     .description = "Looks at the servers and at the journal and finishes what was interrupted, or backs it out."},
    {.id = CO_CMD_ABORT, .name = "abort", .run = co_cmd_abort, .summary = "back out of an interrupted run",
     .description = "Takes an interrupted run back: the old primary is in service again (exit 0). After the commit only resume goes on, "
                    "except with --b-is-lost while B was never opened."},
    {.id = CO_CMD_ROLLBACK, .name = "rollback", .run = co_cmd_rollback, .summary = "make A the primary again",
     .description = "A cutover in the other direction, over the reverse replication, with the same promises. On a terminal it shows its "
                    "plan and asks; elsewhere it needs --yes."},
    {.id = CO_CMD_DETACH, .name = "detach", .run = co_cmd_detach, .summary = "end the migration",
     .description = "Removes what the migration put on the servers: slots, users, markers, fences. Before a cutover A stays the primary, "
                    "after it B does. The way back closes."},
    {.id = CO_CMD_REPORT, .name = "report", .run = co_cmd_report, .summary = "show the record of a run",
     .description = "Who did what when, what was executed on which server, positions, settings before and after, and how long each phase "
                    "took. Works without the servers."},
    {.id = CO_CMD_DRIVERS, .name = "drivers", .run = co_cmd_drivers, .summary = "list the drivers that are installed",
     .description = "Shows each driver module with its version, client library, engines and what it can do, and those that were refused "
                    "with the reason."},
    {.id = CO_CMD_HELP, .name = "help", .argument = "[COMMAND]", .run = co_cmd_help, .summary = "explain a command",
     .description = "Shows a command's options, or the list of commands."},
    {.id = CO_CMD_VERIFY, .name = "verify", .hidden = true, .later = true},
    {.id = CO_CMD_SERVE, .name = "serve", .hidden = true, .later = true},
    {.id = CO_CMD_GUARDIAN, .name = "guardian", .hidden = true}, /* taken before options are read */
    {.id = CO_CMD_FAULT_POINTS, .name = "fault-points", .hidden = true, .run = co_cmd_fault_points,
     .summary = "list the points at which CHANGEOVER_FAULT can interfere"},
    {.id = CO_CMD_CONFIG_REFERENCE, .name = "config-reference", .argument = "[ENGINE]", .hidden = true,
     .run = co_cmd_config_reference, .summary = "print the reference of the config's keys"},
    {.id = CO_CMD_COMPLETION, .name = "completion", .argument = "[SHELL]", .hidden = true, .run = co_cmd_completion,
     .summary = "print the completion for bash"},
    {.id = CO_CMD_MANUAL, .name = "manual", .argument = "[PAGE]", .hidden = true, .run = co_cmd_manual, .summary = "print the manual's source"},
};
const size_t co_command_count = sizeof co_commands / sizeof co_commands[0];

const struct co_option_spec co_options[CO_OPTION_COUNT] = {
    [CO_OPTION_CONFIG] = {CO_OPTION_CONFIG, "config", 'c', CO_ARITY_REQUIRED, "FILE", NULL, CO_ALL_COMMANDS,
                          "the config; default: $CHANGEOVER_CONFIG, then changeover.yaml"},
    [CO_OPTION_PAIR] = {CO_OPTION_PAIR, "pair", 'p', CO_ARITY_REQUIRED, "PAIR", NULL, CO_ALL_COMMANDS,
                        "work on this pair only; may be repeated"},
    [CO_OPTION_JSON] = {CO_OPTION_JSON, "json", 0, CO_ARITY_NONE, NULL, NULL, CO_ALL_COMMANDS,
                        "print one JSON document to standard output"},
    [CO_OPTION_QUIET] = {CO_OPTION_QUIET, "quiet", 'q', CO_ARITY_NONE, NULL, NULL, CO_ALL_COMMANDS, "no progress, no notes"},
    [CO_OPTION_VERBOSE] = {CO_OPTION_VERBOSE, "verbose", 'v', CO_ARITY_NONE, NULL, NULL, CO_ALL_COMMANDS,
                           "show each step; twice: what the drivers do"},
    [CO_OPTION_HELP] = {CO_OPTION_HELP, "help", 'h', CO_ARITY_NONE, NULL, NULL, CO_ALL_COMMANDS, "show help and exit"},
    [CO_OPTION_VERSION] = {CO_OPTION_VERSION, "version", 0, CO_ARITY_NONE, NULL, NULL, CO_ALL_COMMANDS, "show the version and exit"},
    [CO_OPTION_A] = {CO_OPTION_A, "a", 0, CO_ARITY_REQUIRED, "URL", NULL, ON(INIT), "where the database runs today"},
    [CO_OPTION_B] = {CO_OPTION_B, "b", 0, CO_ARITY_REQUIRED, "URL", NULL, ON(INIT), "where it will run"},
    [CO_OPTION_ENGINE] = {CO_OPTION_ENGINE, "engine", 0, CO_ARITY_REQUIRED, "ENGINE", NULL, ON(INIT),
                          "the engine; default: the URL's scheme"},
    [CO_OPTION_NAME] = {CO_OPTION_NAME, "name", 0, CO_ARITY_REQUIRED, "NAME", NULL, ON(INIT),
                        "the migration's name; default: the file's name, or that of the folder of a changeover.yaml"},
    [CO_OPTION_GRANTS] = {CO_OPTION_GRANTS, "grants", 0, CO_ARITY_NONE, NULL, NULL, ON(INIT),
                          "print the statements that make the accounts, for a config that is there"},
    [CO_OPTION_FOR] = {CO_OPTION_FOR, "for", 0, CO_ARITY_REQUIRED, "STAGE", "setup|cutover", ON(CHECK),
                       "what to check for: setup or cutover"},
    [CO_OPTION_STRICT] = {CO_OPTION_STRICT, "strict", 0, CO_ARITY_NONE, NULL, NULL, ON(CHECK), "warnings count as errors"},
    [CO_OPTION_DRY_RUN] = {CO_OPTION_DRY_RUN, "dry-run", 0, CO_ARITY_NONE, NULL, NULL, RUNS | ON(SETUP) | ON(DETACH),
                           "print every step that would be taken, change nothing"},
    [CO_OPTION_WAIT] = {CO_OPTION_WAIT, "wait", 0, CO_ARITY_OPTIONAL, "TIMEOUT", NULL, ON(LAG),
                        "wait until the gate is open, through broken and unknown"},
    [CO_OPTION_WATCH] = {CO_OPTION_WATCH, "watch", 0, CO_ARITY_OPTIONAL, "INTERVAL", NULL, ON(LAG),
                         "go on measuring until interrupted; default: every second"},
    [CO_OPTION_HISTORY] = {CO_OPTION_HISTORY, "history", 0, CO_ARITY_OPTIONAL, "SINCE", NULL, ON(LAG),
                           "show the samples that were recorded; default: of the last hour"},
    [CO_OPTION_FAIL_FAST] = {CO_OPTION_FAIL_FAST, "fail-fast", 0, CO_ARITY_NONE, NULL, NULL, ON(LAG),
                             "with --wait: stop at broken and unknown"},
    [CO_OPTION_TIMEOUT] = {CO_OPTION_TIMEOUT, "timeout", 0, CO_ARITY_REQUIRED, "TIME", NULL, ON(LAG),
                           "how long one measurement may take; default: gate.max_seconds + 1 s"},
    [CO_OPTION_FORMAT] = {CO_OPTION_FORMAT, "format", 0, CO_ARITY_REQUIRED, "FORMAT",
                          "text|json|prometheus|nagios|markdown|html", ON(LAG) | ON(REPORT),
                          "lag: text, json, prometheus or nagios; report: text, json, markdown or html"},
    [CO_OPTION_YES] = {CO_OPTION_YES, "yes", 'y', CO_ARITY_NONE, NULL, NULL, RUNS | ON(DETACH) | ON(ABORT),
                       "don't ask"},
    [CO_OPTION_WHEN_READY] = {CO_OPTION_WHEN_READY, "when-ready", 0, CO_ARITY_OPTIONAL, "TIMEOUT", NULL, RUNS,
                              "wait for the gate to open"},
    [CO_OPTION_MAX_WRITE_PAUSE] = {CO_OPTION_MAX_WRITE_PAUSE, "max-write-pause", 0, CO_ARITY_REQUIRED, "TIME", NULL, RUNS,
                                   "in place of the config's cutover.max_write_pause"},
    [CO_OPTION_IF_NEEDED] = {CO_OPTION_IF_NEEDED, "if-needed", 0, CO_ARITY_NONE, NULL, NULL, ON(RESUME),
                             "nothing to resume is fine (exit 0); for boot"},
    [CO_OPTION_TAKE_OVER] = {CO_OPTION_TAKE_OVER, "take-over", 0, CO_ARITY_NONE, NULL, NULL, ON(RESUME) | ON(ABORT),
                             "also a run that is on the servers and not in this journal"},
    [CO_OPTION_FORGET] = {CO_OPTION_FORGET, "forget", 0, CO_ARITY_NONE, NULL, NULL, ON(ABORT),
                          "end a run here that was ended from another machine, without touching a server"},
    [CO_OPTION_CHECK] = {CO_OPTION_CHECK, "check", 0, CO_ARITY_NONE, NULL, NULL, ON(ROLLBACK),
                         "is the way back open, and what would it lose; changes nothing"},
    [CO_OPTION_B_IS_LOST] = {CO_OPTION_B_IS_LOST, "b-is-lost", 0, CO_ARITY_NONE, NULL, NULL, ON(ROLLBACK) | ON(ABORT),
                             "state that B will not return; what only B has is given up"},
    [CO_OPTION_RUN] = {CO_OPTION_RUN, "run", 0, CO_ARITY_REQUIRED, "RUN", NULL, ON(REPORT), "this run; default: the last one"},
    [CO_OPTION_LIST] = {CO_OPTION_LIST, "list", 0, CO_ARITY_NONE, NULL, NULL, ON(REPORT), "list the runs there are"},
};

const struct co_exit_spec co_exit_specs[] = {
    {CO_EXIT_DONE, "done; the gate is open; no differences; abort backed out"},
    {CO_EXIT_NO, "no: the gate is closed, a check failed, differences were found; nothing was changed"},
    {CO_EXIT_BROKEN, "replication is broken or not set up"},
    {CO_EXIT_UNKNOWN, "unknown: a side can't be reached or measured"},
    {CO_EXIT_UNDONE, "backed out: the old primary takes writes"},
    {CO_EXIT_UNFINISHED, "unfinished: `changeover resume` is needed"},
    {CO_EXIT_FOLLOW_UP, "the new primary takes writes, but switch, reverse or confirm failed: see `changeover report`"},
    {CO_EXIT_USAGE, "wrong usage"},
    {CO_EXIT_CONFIG, "the config is wrong (file, line, key, what was expected)"},
    {CO_EXIT_INTERNAL, "an internal error"},
    {CO_EXIT_LOCKED, "another run holds the lock (who, where, since when)"},
    {CO_EXIT_INTERRUPTED, "interrupted before anything changed (an interrupted cutover ends in 4, 5 or 0)"},
};
/* clang-format on */
const size_t co_exit_count = sizeof co_exit_specs / sizeof co_exit_specs[0];

const struct co_command_spec *co_command_find(const char *name)
{
    for (size_t i = 0; i < co_command_count; i++)
        if (strcmp(co_commands[i].name, name) == 0)
            return &co_commands[i];
    return NULL;
}

bool co_option_applies(const struct co_option_spec *option, const struct co_command_spec *command)
{
    return (option->commands & (1u << command->id)) != 0;
}
