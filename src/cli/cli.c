/* cli.c - the entry point behind main(). */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "changeover/exit_codes.h"

int co_cli_main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("changeover %s\n", CO_VERSION);
        return CO_EXIT_DONE;
    }
    fprintf(stderr, "changeover: no command is there yet\n");
    return CO_EXIT_USAGE;
}
