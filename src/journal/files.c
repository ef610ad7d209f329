/* files.c - whether a journal may live where the config wants it: not on a network file system, and in files
 * that nobody else can write.
 *
 * Invariant: the database file itself is never opened here. SQLite's locks are POSIX locks: closing any
 * descriptor of that file would drop those of the whole process.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "journal/internal.h"

#define FUSE_MAGIC 0x65735546u

/* Magic numbers: statfs(2) and linux/magic.h. Locks or shared memory of these aren't those of one machine. */
static const struct {
    unsigned magic;
    const char *name;
} network_types[] = {
    {0x6969u, "nfs"},       {0x517Bu, "smb"},       {0xFF534D42u, "cifs"},     {0xFE534D42u, "smb2"},
    {0x564Cu, "ncp"},       {0x5346414Fu, "afs"},   {0x6B414653u, "afs"},      {0x73757245u, "coda"},
    {0x00C36400u, "ceph"},  {0x01021997u, "9p"},    {0x786F4256u, "vboxsf"},   {0xBACBACBCu, "vmhgfs"},
    {0x7461636Fu, "ocfs2"}, {0x01161970u, "gfs2"},  {0x0BD00BD0u, "lustre"},   {0x47504653u, "gpfs"},
    {0xAAD7AAEAu, "panfs"}, {0x19830326u, "fhgfs"}, {0x20030528u, "orangefs"},
};

/* The folder of a path, "." when it has none. NULL: no memory. */
static char *folder_of(const char *path)
{
    CO_AUTOFREE char *copy = co_strdup(path);
    return copy ? co_strdup(dirname(copy)) : NULL;
}

/* FUSE is local or remote, which only the mount table tells. */
static bool fuse_is_local(dev_t device)
{
    FILE *table = fopen("/proc/self/mountinfo", "re");
    if (!table)
        return false;
    char wanted[32];
    snprintf(wanted, sizeof wanted, "%u:%u", major(device), minor(device));
    char *line = NULL;
    size_t capacity = 0;
    bool local = false;
    while (getline(&line, &capacity, table) > 0) {
        char *save = NULL;
        strtok_r(line, " ", &save);
        strtok_r(NULL, " ", &save);
        const char *id = strtok_r(NULL, " ", &save);
        if (!id || strcmp(id, wanted) != 0 || !save)
            continue;
        const char *rest = strstr(save, " - ");
        if (rest)
            local = strncmp(rest + 3, "fuseblk ", 8) == 0 || strncmp(rest + 3, "fuse.fuse-overlayfs ", 20) == 0;
    }
    free(line);
    fclose(table);
    return local;
}

static int refuse_network(const char *path, const char *type, struct co_error *err)
{
    co_fail(err, CO_E_UNSUPPORTED, "journal %s is on a network file system (%s), where locks and fsync can't be relied on",
            path, type);
    co_hint(err, "Set `journal:` in the config to a path on a local disk of this machine.");
    return CO_E_UNSUPPORTED;
}

int co_journal_check_place(const char *path, struct co_error *err)
{
    CO_AUTOFREE char *folder = folder_of(path);
    if (!folder)
        return co_fail(err, CO_E_NOMEM, "no memory to open journal %s", path);
    struct stat info;
    struct statfs system;
    if (stat(folder, &info) < 0 || statfs(folder, &system) < 0) {
        int code = errno == EACCES ? CO_E_PRIVILEGE : CO_E_STATE;
        co_fail(err, code, "can't look at %s, the folder of the journal: %s", folder, strerror(errno));
        co_hint(err, "Set `journal:` in the config to a path that this account can reach.");
        return code;
    }
    unsigned magic = (unsigned)system.f_type;
    for (size_t i = 0; i < sizeof network_types / sizeof network_types[0]; i++)
        if (network_types[i].magic == magic)
            return refuse_network(path, network_types[i].name, err);
    if (magic == FUSE_MAGIC && !fuse_is_local(info.st_dev))
        return refuse_network(path, "fuse", err);
    if ((info.st_mode & S_IWOTH) && !(info.st_mode & S_ISVTX)) {
        co_fail(err, CO_E_PRIVILEGE, "%s, the folder of the journal, is writable by everybody (mode %04o)", folder,
                (unsigned)(info.st_mode & 07777));
        co_hint(err, "Anybody could replace the journal: run `chmod o-w %s`, or set `journal:` to another path.", folder);
        return CO_E_PRIVILEGE;
    }
    return 0;
}

/* Makes the missing folders above the journal, for this account alone. */
int co_journal_make_folder(const char *path, struct co_error *err)
{
    CO_AUTOFREE char *folder = folder_of(path);
    if (!folder)
        return co_fail(err, CO_E_NOMEM, "no memory to open journal %s", path);
    for (char *at = folder + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char end = *at;
        *at = '\0';
        if (mkdir(folder, 0700) < 0 && errno != EEXIST && errno != EISDIR) {
            struct stat info;
            int saved = errno;
            if (stat(folder, &info) < 0) { /* EACCES or EROFS on a folder that exists is fine */
                int code = saved == ENOSPC ? CO_E_SPACE : saved == EACCES || saved == EROFS ? CO_E_PRIVILEGE : CO_E_IO;
                co_fail(err, code, "can't make %s, the folder of the journal: %s", folder, strerror(saved));
                co_hint(err, "Make it, writable by this account, or set `journal:` in the config to another path.");
                return code;
            }
        }
        if (end == '\0')
            return 0;
        *at = end;
    }
}

/* The journal says what is done to databases, so nobody else may write it, and what is in it concerns only
 * those who run migrations. */
int co_journal_check_files(const char *path, struct co_error *err)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        CO_AUTOFREE char *name = co_printf("%s%s", path, suffixes[i]);
        struct stat info;
        if (!name)
            return co_fail(err, CO_E_NOMEM, "no memory to open journal %s", path);
        if (stat(name, &info) < 0) {
            if (errno == ENOENT)
                continue;
            return co_fail(err, errno == EACCES ? CO_E_PRIVILEGE : CO_E_IO, "can't look at journal file %s: %s", name,
                           strerror(errno));
        }
        if (!S_ISREG(info.st_mode))
            return co_fail(err, CO_E_STATE, "journal file %s is not a regular file", name);
        if (i == 0 && info.st_size == 0) {
            co_fail(err, CO_E_STATE, "journal %s is an empty file", name);
            co_hint(err, "Remove it: a journal is made when a run needs it. If it was emptied, look at the servers with "
                         "`changeover status` first.");
            return CO_E_STATE;
        }
        if (info.st_uid != geteuid()) {
            co_fail(err, CO_E_PRIVILEGE, "journal file %s belongs to user id %u, this process runs as %u", name,
                    (unsigned)info.st_uid, (unsigned)geteuid());
            co_hint(err, "Run changeover as the account that began the migration, or change the files' owner.");
            return CO_E_PRIVILEGE;
        }
        if (info.st_mode & 077) {
            co_fail(err, CO_E_PRIVILEGE, "journal file %s is open to other accounts (mode %04o)", name,
                    (unsigned)(info.st_mode & 07777));
            co_hint(err, "Run `chmod 600 %s`.", name);
            return CO_E_PRIVILEGE;
        }
    }
    return 0;
}

int co_journal_sync_folder(const char *path)
{
    CO_AUTOFREE char *folder = folder_of(path);
    if (!folder) {
        errno = ENOMEM;
        return -1;
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int result = fsync(fd);
    int saved = errno;
    close(fd);
    errno = saved;
    return result;
}
