/* lock.c - the process lock of a journal: an open-file-description lock on "<path>.lock".
 *
 * Invariant: the lock belongs to the open file, so a guardian that inherits the descriptor shares it, and it
 * is released when the last of them is gone. It is therefore never unlocked by name (F_UNLCK would take it
 * from the other process too), only by closing, and the file is never removed (a second one could be made
 * and locked beside it).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "journal/internal.h"

#define SLOT_BYTES 160 /* slot 0: who took it; slot 1: the guardian that shares it */

static void write_slot(int fd, int slot, bool present)
{
    char host[65] = "";
    char line[SLOT_BYTES + 1];
    int used = 0;
    gethostname(host, sizeof host - 1);
    if (present)
        used = snprintf(line, sizeof line, "%ld %lld %.64s", (long)getpid(), (long long)co_wall_ms(), host);
    memset(line + used, ' ', (size_t)(SLOT_BYTES - used));
    line[SLOT_BYTES - 1] = '\n';
    /* Only for the message of a process that is refused: the lock holds whatever is written here. */
    if (pwrite(fd, line, SLOT_BYTES, (off_t)slot * SLOT_BYTES) != SLOT_BYTES)
        return;
}

static int refuse(const struct co_journal *journal, int fd, struct co_error *err)
{
    char lines[2 * SLOT_BYTES + 1] = "";
    ssize_t got = pread(fd, lines, sizeof lines - 1, 0);
    bool named = false;
    for (int slot = 0; slot < 2 && !named && got > slot * SLOT_BYTES; slot++) {
        char *line = lines + slot * SLOT_BYTES;
        long pid = 0;
        long long wall = 0;
        char host[65] = "", since[40];
        line[SLOT_BYTES - 1] = '\0';
        if (sscanf(line, "%ld %lld %64s", &pid, &wall, host) < 2 || pid <= 0)
            continue;
        if (kill((pid_t)pid, 0) < 0 && errno == ESRCH)
            continue;
        co_wall_format(wall, since, sizeof since);
        co_fail(err, CO_E_CONFLICT, "journal %s is in use by process %ld on %s since %s", journal->path, pid, host, since);
        named = true;
    }
    if (!named)
        co_fail(err, CO_E_CONFLICT, "journal %s is in use by another process", journal->path);
    co_hint(err, "One run at a time: wait for that process, or end it and run `changeover resume`. `changeover status` and "
                 "`report` work meanwhile.");
    return CO_E_CONFLICT;
}

static int try_lock(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &lock);
}

static bool same_file(int fd, const char *path)
{
    struct stat opened, named;
    return fstat(fd, &opened) == 0 && stat(path, &named) == 0 && opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

int co_journal_hold(struct co_journal *journal, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    if (journal->lock_fd >= 0)
        return 0;
    if (journal->mode != CO_JOURNAL_WRITE)
        return co_fail(err, CO_E_INTERNAL, "the journal %s is open for reading only", journal->path);
    CO_AUTOFREE char *name = co_printf("%s.lock", journal->path);
    if (!name)
        return co_fail(err, CO_E_NOMEM, "no memory to lock journal %s", journal->path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        int code = errno == ENOSPC                                       ? CO_E_SPACE
                   : errno == EACCES || errno == EPERM || errno == EROFS ? CO_E_PRIVILEGE
                                                                         : CO_E_IO;
        return co_fail(err, code, "can't open lock file %s: %s", name, strerror(errno));
    }
    int result = 0;
    if (try_lock(fd) < 0)
        result = errno == EAGAIN || errno == EACCES ? refuse(journal, fd, err)
                                                    : co_fail(err, CO_E_IO, "can't lock %s: %s", name, strerror(errno));
    else if (!same_file(fd, name))
        result = co_fail(err, CO_E_CONFLICT, "lock file %s was replaced while it was locked", name);
    if (result) {
        close(fd);
        return result;
    }
    journal->lock_fd = fd;
    journal->lock_slot = 0;
    write_slot(fd, 0, true);
    write_slot(fd, 1, false);
    return 0;
}

int co_journal_lock_fd(const struct co_journal *journal)
{
    return journal->lock_fd;
}

int co_journal_adopt_lock(struct co_journal *journal, int lock_fd)
{
    CO_JOURNAL_LOCKED(journal);
    CO_AUTOFREE char *name = co_printf("%s.lock", journal->path);
    if (!name)
        return CO_E_NOMEM;
    if (journal->lock_fd >= 0 || lock_fd < 0 || !same_file(lock_fd, name))
        return CO_E_STATE;
    /* Ours already, or nobody's; a descriptor that was opened anew fails here while the tool lives. */
    if (try_lock(lock_fd) < 0)
        return CO_E_CONFLICT;
    if (fcntl(lock_fd, F_SETFD, FD_CLOEXEC) < 0)
        return CO_E_IO;
    journal->lock_fd = lock_fd;
    journal->lock_slot = 1;
    journal->checkpoints = false;
    write_slot(lock_fd, 1, true);
    return 0;
}

void co_journal_release(struct co_journal *journal)
{
    if (!journal)
        return;
    CO_JOURNAL_LOCKED(journal);
    if (journal->lock_fd < 0)
        return;
    write_slot(journal->lock_fd, journal->lock_slot, false);
    close(journal->lock_fd);
    journal->lock_fd = -1;
}
