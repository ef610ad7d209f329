/* cli.h - the command line: one table of commands and options that feeds getopt_long, help, completion and the
 * manual. */
#ifndef CO_CLI_CLI_H
#define CO_CLI_CLI_H

int co_cli_main(int argc, char **argv);

#endif
