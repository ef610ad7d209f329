/* main.c - hands over to the command line; everything else is in the library. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
    return co_cli_main(argc, argv);
}
