/* failing_fsync.c - a disk that answers EIO: while the file $CO_FSYNC_FAILS exists, fsync and fdatasync of files with
 * ".journal" in their names fail, and $CO_FSYNC_SEEN is made. Loaded with LD_PRELOAD by tests/sandbox/disk.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd)
{
    char link[64], path[4096];
    const char *trigger = getenv("CO_FSYNC_FAILS"), *seen = getenv("CO_FSYNC_SEEN");
    if (!trigger || access(trigger, F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t bytes = readlink(link, path, sizeof path - 1);
    if (bytes <= 0)
        return 0;
    path[bytes] = '\0';
    if (!strstr(path, ".journal"))
        return 0;
    int mark = seen ? open(seen, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (mark >= 0)
        close(mark);
    errno = EIO;
    return 1;
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return fails(fd) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return fails(fd) ? -1 : real(fd);
}
