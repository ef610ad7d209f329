/* unit.h - what every unit test needs: cmocka, and a temporary folder that is removed when the test passed. */
#ifndef CO_TESTS_UNIT_H
#define CO_TESTS_UNIT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIT_UNUSED __attribute__((unused))

/* A fresh folder; the string is static. */
static UNIT_UNUSED const char *unit_folder(void)
{
    static char path[PATH_MAX];
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/changeover-test-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(path))
        fail_msg("mkdtemp %s", path);
    return path;
}

static UNIT_UNUSED int unit_remove_one(const char *path, const struct stat *info, int flag, struct FTW *ftw)
{
    (void)info;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static UNIT_UNUSED void unit_remove(const char *folder)
{
    nftw(folder, unit_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes folder/name with exactly this mode; the path is static, one a call in turn of eight. */
static UNIT_UNUSED const char *unit_file(const char *folder, const char *name, const char *content, mode_t mode)
{
    static char paths[8][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 8];
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX)
        fail_msg("path too long");
    FILE *file = fopen(path, "w");
    if (!file)
        fail_msg("fopen %s", path);
    if (fputs(content, file) < 0 || fclose(file) != 0 || chmod(path, mode) != 0)
        fail_msg("write %s", path);
    return path;
}

#define assert_contains(text, part)                                                                                            \
    do {                                                                                                                       \
        if (!strstr((text), (part)))                                                                                           \
            fail_msg("\"%s\" does not contain \"%s\"", (text), (part));                                                        \
    } while (0)
#define assert_lacks(text, part)                                                                                               \
    do {                                                                                                                       \
        if (strstr((text), (part)))                                                                                            \
            fail_msg("\"%s\" contains \"%s\"", (text), (part));                                                                \
    } while (0)

#endif
