/* place_test.c - file systems on which a journal is refused, by what statfs says (replaced here). */
#include "journal_test.h"

#include <sys/vfs.h>

int __real_statfs(const char *path, struct statfs *ret);
int __wrap_statfs(const char *path, struct statfs *ret);

static unsigned pretended; /* 0: the truth */

int __wrap_statfs(const char *path, struct statfs *ret)
{
    int result = __real_statfs(path, ret);
    if (result == 0 && pretended)
        ret->f_type = (__typeof__(ret->f_type))pretended;
    return result;
}

static int open_on(const struct place *place, unsigned magic, enum co_journal_mode mode, struct co_error *err)
{
    struct co_journal *journal = NULL;
    pretended = magic;
    int result = co_journal_open(place->path, "shop", mode, &journal, err);
    pretended = 0;
    co_journal_close(journal);
    return result;
}

static void network_file_systems_are_refused(void **state)
{
    static const struct {
        unsigned magic;
        const char *name;
    } refused[] = {{0x6969, "nfs"},      {0xFF534D42, "cifs"}, {0xFE534D42, "smb2"}, {0x517B, "smb"},
                   {0x65735546, "fuse"}, {0x01021997, "9p"},   {0x00C36400, "ceph"}};
    struct place *place = *state;
    struct co_error err;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(open_on(place, refused[i].magic, CO_JOURNAL_WRITE, &err), CO_E_UNSUPPORTED);
        assert_contains(err.message, refused[i].name);
        assert_contains(err.hint, "local disk");
        assert_int_equal(access(place->path, F_OK), -1); /* nothing was made there */
    }
    /* ext4, xfs, btrfs, tmpfs, overlayfs, zfs */
    static const unsigned local[] = {0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630, 0x2FC12FC1};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        assert_int_equal(open_on(place, local[i], CO_JOURNAL_WRITE, &err), 0);
    assert_int_equal(open_on(place, 0x6969, CO_JOURNAL_READ, &err), CO_E_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(network_file_systems_are_refused, make_place, remove_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
