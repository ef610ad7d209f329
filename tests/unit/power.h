/* power.h - an SQLite VFS over the real one that fails and crashes like a machine does.
 *
 * It follows what of the two files (database and log) is on the disk, in sectors. A sync that succeeds puts
 * every written sector there. One that fails puts an arbitrary part there and forgets the rest, as Linux does:
 * a later sync says nothing about pages that weren't written again. A power cut keeps an arbitrary part of
 * what wasn't synced; a kill keeps all. Every choice comes from a seed.
 */
#ifndef CO_TESTS_POWER_H
#define CO_TESTS_POWER_H

#include <sqlite3.h>

#include "unit.h"

#define POWER_SECTOR 512
#define POWER_MAX ((size_t)12 << 20)

struct power_image {
    char path[PATH_MAX];
    unsigned char *now, *disk;
    unsigned char *dirty;          /* a byte a sector */
    size_t first_dirty, end_dirty; /* no dirty sector outside */
    size_t now_bytes, disk_bytes;
};

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    struct power_image images[2]; /* database, log */
    unsigned long long seed;
    int fail_sync_percent;      /* of all syncs */
    int fail_log_syncs;         /* the next N of the log fail */
    long crash_in;              /* at the Nth write or sync; 0: never */
    bool power_cut;             /* what a crash is; else a kill */
    sqlite3_int64 log_grows_to; /* -1: any size; growing further is a full disk */
    void (*crash)(void);        /* doesn't return */
    long calls;
} power = {.log_grows_to = -1};

struct power_file {
    sqlite3_file base;
    struct power_image *image;
    bool log;
};
#define POWER_REAL(file) ((sqlite3_file *)((struct power_file *)(file) + 1))
#define POWER_IMAGE(file) (((struct power_file *)(file))->image)

static unsigned power_random(void)
{
    power.seed = power.seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(power.seed >> 33);
}

static void power_settle(struct power_image *image, bool all)
{
    size_t reach = 0;
    for (size_t i = image->first_dirty; i < image->end_dirty; i++) {
        if (!image->dirty[i])
            continue;
        if (all || power_random() % 2) {
            memcpy(image->disk + i * POWER_SECTOR, image->now + i * POWER_SECTOR, POWER_SECTOR);
            reach = (i + 1) * POWER_SECTOR;
        }
        image->dirty[i] = 0;
    }
    image->first_dirty = POWER_MAX / POWER_SECTOR;
    image->end_dirty = 0;
    if (all || power_random() % 2)
        image->disk_bytes = image->now_bytes;
    else if (reach > image->disk_bytes)
        image->disk_bytes = reach < image->now_bytes ? reach : image->now_bytes;
}

static void power_tick(void)
{
    power.calls++;
    if (power.crash_in > 0 && --power.crash_in == 0)
        power.crash();
}

/* Writes what a crash leaves beside the files: "<path><suffix>". */
static UNIT_UNUSED void power_leave(const char *folder)
{
    for (int i = 0; i < 2; i++) {
        struct power_image *image = &power.images[i];
        power_settle(image, !power.power_cut);
        char *path = NULL;
        const char *name = strrchr(image->path, '/');
        if (asprintf(&path, "%s%s", folder, name) < 0)
            abort();
        FILE *file = fopen(path, "w");
        if (!file || fwrite(image->disk, 1, image->disk_bytes, file) != image->disk_bytes || fclose(file) || chmod(path, 0600))
            abort();
        free(path);
    }
}

static int power_close(sqlite3_file *file)
{
    return POWER_REAL(file)->pMethods->xClose(POWER_REAL(file));
}

static int power_read(sqlite3_file *file, void *data, int bytes, sqlite3_int64 at)
{
    return POWER_REAL(file)->pMethods->xRead(POWER_REAL(file), data, bytes, at);
}

static int power_write(sqlite3_file *file, const void *data, int bytes, sqlite3_int64 at)
{
    struct power_image *image = POWER_IMAGE(file);
    size_t end = (size_t)at + (size_t)bytes;
    if (image && ((struct power_file *)file)->log && power.log_grows_to >= 0 && (sqlite3_int64)end > power.log_grows_to &&
        end > image->now_bytes)
        return SQLITE_FULL;
    int rc = POWER_REAL(file)->pMethods->xWrite(POWER_REAL(file), data, bytes, at);
    if (rc != SQLITE_OK || !image)
        return rc;
    if (end > POWER_MAX)
        abort();
    memcpy(image->now + at, data, (size_t)bytes);
    for (size_t sector = (size_t)at / POWER_SECTOR; sector * POWER_SECTOR < end; sector++) {
        image->dirty[sector] = 1;
        if (sector < image->first_dirty)
            image->first_dirty = sector;
        if (sector >= image->end_dirty)
            image->end_dirty = sector + 1;
    }
    if (end > image->now_bytes)
        image->now_bytes = end;
    power_tick(); /* after the write: all, some or nothing of it is on the disk */
    return SQLITE_OK;
}

static int power_truncate(sqlite3_file *file, sqlite3_int64 bytes)
{
    struct power_image *image = POWER_IMAGE(file);
    int rc = POWER_REAL(file)->pMethods->xTruncate(POWER_REAL(file), bytes);
    if (rc == SQLITE_OK && image) {
        if ((size_t)bytes < image->now_bytes)
            memset(image->now + bytes, 0, image->now_bytes - (size_t)bytes);
        image->now_bytes = (size_t)bytes;
        power_tick();
    }
    return rc;
}

static int power_sync(sqlite3_file *file, int flags)
{
    struct power_image *image = POWER_IMAGE(file);
    if (image) {
        bool fails = power.fail_sync_percent && (int)(power_random() % 100) < power.fail_sync_percent;
        if (((struct power_file *)file)->log && power.fail_log_syncs > 0) {
            power.fail_log_syncs--;
            fails = true;
        }
        power_tick(); /* before anything is sure */
        power_settle(image, !fails);
        if (fails)
            return SQLITE_IOERR_FSYNC;
    }
    return POWER_REAL(file)->pMethods->xSync(POWER_REAL(file), flags);
}

static int power_size(sqlite3_file *file, sqlite3_int64 *ret)
{
    return POWER_REAL(file)->pMethods->xFileSize(POWER_REAL(file), ret);
}

static int power_lock(sqlite3_file *file, int level)
{
    return POWER_REAL(file)->pMethods->xLock(POWER_REAL(file), level);
}

static int power_unlock(sqlite3_file *file, int level)
{
    return POWER_REAL(file)->pMethods->xUnlock(POWER_REAL(file), level);
}

static int power_reserved(sqlite3_file *file, int *ret)
{
    return POWER_REAL(file)->pMethods->xCheckReservedLock(POWER_REAL(file), ret);
}

static int power_control(sqlite3_file *file, int op, void *arg)
{
    return POWER_REAL(file)->pMethods->xFileControl(POWER_REAL(file), op, arg);
}

static int power_sector_size(sqlite3_file *file)
{
    return POWER_REAL(file)->pMethods->xSectorSize(POWER_REAL(file));
}

static int power_traits(sqlite3_file *file)
{
    return POWER_REAL(file)->pMethods->xDeviceCharacteristics(POWER_REAL(file));
}

static int power_shm_map(sqlite3_file *file, int page, int bytes, int extend, void volatile **ret)
{
    return POWER_REAL(file)->pMethods->xShmMap(POWER_REAL(file), page, bytes, extend, ret);
}

static int power_shm_lock(sqlite3_file *file, int at, int count, int flags)
{
    return POWER_REAL(file)->pMethods->xShmLock(POWER_REAL(file), at, count, flags);
}

static void power_shm_barrier(sqlite3_file *file)
{
    POWER_REAL(file)->pMethods->xShmBarrier(POWER_REAL(file));
}

static int power_shm_unmap(sqlite3_file *file, int remove_it)
{
    return POWER_REAL(file)->pMethods->xShmUnmap(POWER_REAL(file), remove_it);
}

static const sqlite3_io_methods power_methods = {
    .iVersion = 2,
    .xClose = power_close,
    .xRead = power_read,
    .xWrite = power_write,
    .xTruncate = power_truncate,
    .xSync = power_sync,
    .xFileSize = power_size,
    .xLock = power_lock,
    .xUnlock = power_unlock,
    .xCheckReservedLock = power_reserved,
    .xFileControl = power_control,
    .xSectorSize = power_sector_size,
    .xDeviceCharacteristics = power_traits,
    .xShmMap = power_shm_map,
    .xShmLock = power_shm_lock,
    .xShmBarrier = power_shm_barrier,
    .xShmUnmap = power_shm_unmap,
};

static int power_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    (void)vfs;
    struct power_file *at = (struct power_file *)file;
    memset(at, 0, sizeof *at);
    int rc = power.real->xOpen(power.real, name, POWER_REAL(file), flags, ret_flags);
    if (rc == SQLITE_OK || POWER_REAL(file)->pMethods)
        at->base.pMethods = &power_methods;
    for (int i = 0; i < 2; i++)
        if (name && strcmp(name, power.images[i].path) == 0)
            at->image = &power.images[i];
    at->log = at->image == &power.images[1];
    return rc;
}

static void power_load(struct power_image *image)
{
    image->now = calloc(1, POWER_MAX);
    image->disk = calloc(1, POWER_MAX);
    image->dirty = calloc(1, POWER_MAX / POWER_SECTOR);
    FILE *file = fopen(image->path, "r");
    if (file) {
        image->now_bytes = fread(image->now, 1, POWER_MAX, file);
        fclose(file);
    }
    memcpy(image->disk, image->now, POWER_MAX);
    image->disk_bytes = image->now_bytes;
    image->first_dirty = POWER_MAX / POWER_SECTOR;
}

/* From now on SQLite of this process works through the VFS; what is in the files counts as on the disk. */
static UNIT_UNUSED void power_on(const char *path, unsigned long long seed)
{
    power.seed = seed * 2 + 1;
    for (int i = 0; i < 8; i++)
        power_random();
    power.real = sqlite3_vfs_find("unix");
    snprintf(power.images[0].path, sizeof power.images[0].path, "%s", path);
    snprintf(power.images[1].path, sizeof power.images[1].path, "%.*s-wal", PATH_MAX - 8, path);
    for (int i = 0; i < 2; i++)
        power_load(&power.images[i]);
    power.vfs = *power.real;
    power.vfs.zName = "power";
    power.vfs.pNext = NULL;
    power.vfs.szOsFile = (int)sizeof(struct power_file) + power.real->szOsFile;
    power.vfs.xOpen = power_open;
    sqlite3_vfs_register(&power.vfs, 1);
}

#endif
