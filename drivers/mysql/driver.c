/* driver.c - the module's table. Stateless: everything lives in connections, in notes and on the servers. */
#include "my.h"

#include <stdio.h>

static const struct co_engine engines[] = {
    {"mariadb", "mariadb|mysql", 3306},
    {"mysql", "mysql", 3306},
};

static const struct co_option options[] = {
    {"setup.method", CO_OPT_PAIR, CO_OPT_ENUM, "dump|clone|mariabackup|copied|adopt", "dump",
     "How b gets its first copy: the server's dump program, CLONE INSTANCE (MySQL 8.0.17 on), mariadb-backup on the "
     "machines of both, a copy that is there already (with setup.position), or a replication that runs."},
    {"setup.replace_b", CO_OPT_PAIR, CO_OPT_BOOL, NULL, "false",
     "Whether a b that holds databases may be replaced: they are deleted, or (mariabackup) its data directory is moved aside."},
    {"setup.position", CO_OPT_PAIR, CO_OPT_STRING, NULL, NULL,
     "The GTID position that an existing copy stands for (setup.method: copied)."},
    {"setup.compress", CO_OPT_PAIR, CO_OPT_BOOL, NULL, "false",
     "Whether the copy is compressed on its way: the protocol of the dump and load programs, or (mariabackup) gzip on both "
     "machines."},
    {"setup.dump_program", CO_OPT_PAIR, CO_OPT_ARGV, NULL, NULL,
     "The dump program, when it isn't mariadb-dump or mysqldump in the PATH."},
    {"setup.load_program", CO_OPT_PAIR, CO_OPT_ARGV, NULL, NULL,
     "The client that loads the dump, when it isn't mariadb or mysql in the PATH."},
    {"setup.closure", CO_OPT_PAIR, CO_OPT_ENUM, "auto|read_only|accounts", "auto",
     "What keeps clients from writing to b after setup. auto: read_only and locks on the accounts that get past it, so that "
     "others may read; every account is locked where read_only would not outlive a restart (MariaDB without read_only in its "
     "own configuration, MySQL 5.7). accounts: every account. read_only: that alone."},
    {"host.data_directory", CO_OPT_SIDE, CO_OPT_STRING, NULL, NULL,
     "The server's data directory on that side's machine (b, setup.method: mariabackup)."},
    {"host.bin_directory", CO_OPT_SIDE, CO_OPT_STRING, NULL, NULL,
     "The folder of mariadb-backup, mbstream and mariadbd on that side's machine; default: PATH and where systems put them."},
    {"host.defaults_file", CO_OPT_SIDE, CO_OPT_STRING, NULL, NULL,
     "The server's own configuration file on that side's machine, where mariadb-backup wouldn't look for it."},
    {"host.start", CO_OPT_SIDE, CO_OPT_ARGV, NULL, NULL,
     "The command that starts the server on that side's machine: after a clone where nothing starts it again by itself, and "
     "for "
     "setup.method: mariabackup."},
    {"host.stop", CO_OPT_SIDE, CO_OPT_ARGV, NULL, NULL,
     "The command that stops the server cleanly on that side's machine (mariabackup); default: SHUTDOWN."},
    {"link.tls", CO_OPT_PAIR, CO_OPT_ENUM, "auto|off|require|verify", "auto",
     "TLS between the servers; auto: as towards the side that is followed, unverified."},
    {"link.ca", CO_OPT_PAIR, CO_OPT_STRING, NULL, NULL, "Path of the CA file on the servers' machines, for link.tls: verify."},
};

static const char *const fault_points[] = {"mysql.before_change", "mysql.after_change", NULL};

static struct co_driver driver = {
    .size = sizeof driver,
    .abi = CO_DRIVER_ABI,
    .name = "mysql",
    .version = MY_MODULE_VERSION,
    .engines = engines,
    .engine_count = sizeof engines / sizeof *engines,
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .fault_points = fault_points,
    .connect = my_connect,
    .disconnect = my_disconnect,
    .alive = my_alive,
    .identify = my_identify,
    .capabilities = my_capabilities,
    .settings = my_settings,
    .discover = my_discover,
    .check = my_check,
    .position = my_position,
    .applied = my_applied,
    .compare = my_pos_compare,
    .distance = my_pos_distance,
    .link = my_link,
    .marker_get = my_marker_get,
    .marker_set = my_marker_set,
    .prepare = my_prepare,
    .drain = my_drain,
    .capture = my_capture,
    .proof = my_proof,
    .end_sessions = my_end_sessions,
    .probe_write = my_probe_write,
    .wait_applied = my_wait_applied,
    .digest = my_digest,
    .grants = my_grants,
};

__attribute__((visibility("default"))) const struct co_driver *co_driver_entry(void)
{
    static char library[64];
    mysql_library_init(0, NULL, NULL);
    snprintf(library, sizeof library, "libmariadb %s", mysql_get_client_info());
    driver.library = library;
    driver.steps = my_steps;
    driver.step_count = my_step_count;
    return &driver;
}
