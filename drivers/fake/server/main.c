/* main.c - changeover-fake-server: starts one fake server on a folder and one or two addresses. */
#include "server.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: changeover-fake-server --data FOLDER --listen HOST:PORT|/SOCKET [--listen ...] [--password-file FILE]\n"
    "\n"
    "A database to rehearse with: a log of keys and values, in memory and in FOLDER. It starts as an empty primary\n"
    "and goes on as what it was when it is started on the same FOLDER again. Stop it with SIGTERM; kill it as you like.\n";

void fk_restart(struct fk_server *s)
{
    execv("/proc/self/exe", s->argv);
    perror("changeover-fake-server: restart");
    _exit(1);
}

static char *read_password(const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t capacity = 0;
    if (!file || getline(&line, &capacity, file) < 0) {
        perror(path);
        exit(1);
    }
    fclose(file);
    line[strcspn(line, "\n")] = 0;
    return line;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                            {"listen", required_argument, NULL, 'l'},
                                            {"password-file", required_argument, NULL, 'p'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    static struct fk_server server; /* zeroed; large because of its positions */
    const char *listen[2] = {NULL, NULL};
    int listen_count = 0;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'd') {
            server.directory = optarg;
        } else if (c == 'l' && listen_count < 2) {
            listen[listen_count++] = optarg;
        } else if (c == 'p') {
            server.password = read_password(optarg);
        } else {
            fputs(usage, c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 64;
        }
    }
    if (!server.directory || listen_count == 0 || optind < argc) {
        fputs(usage, stderr);
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    server.argv = argv;
    server.listen_fd[0] = server.listen_fd[1] = server.up_fd = -1;
    server.received_end = &server.received;
    if (!fk_store_open(&server)) {
        return 1;
    }
    server.received_seq = server.at.seq;
    for (int i = 0; i < listen_count; i++) {
        if (!fk_listen(&server, listen[i], i)) {
            return 1;
        }
    }
    printf("ready %s\n", server.d.instance);
    fflush(stdout);
    fk_loop(&server);
    return 1;
}
