/* entry.c - the driver's table: engine, options, steps in their order, functions. */
#include "pg.h"

#include <stdio.h>

static const struct co_engine engines[] = {{.name = "postgresql", .schemes = "postgresql|postgres", .default_port = 5432}};

static const struct co_option options[] = {
    {"mode", CO_OPT_PAIR, CO_OPT_ENUM, "physical", "physical",
     "How b follows a: physical (streaming replication of the whole cluster)."},
    {"fence", CO_OPT_PAIR, CO_OPT_ENUM, "soft|stop", "soft",
     "How the old primary refuses writes: soft (it keeps running, shortest pause) or stop (it is shut down cleanly; needs "
     "`host` of that side)."},
    {"setup.method", CO_OPT_PAIR, CO_OPT_ENUM, "basebackup", "basebackup", "How setup copies a to b."},
    {"setup.replace_b", CO_OPT_PAIR, CO_OPT_BOOL, NULL, "false",
     "Setup may replace a cluster on b that holds data; its data directory is moved aside and kept."},
    {"setup.tablespaces", CO_OPT_PAIR, CO_OPT_ARGV, NULL, NULL,
     "Where a's tablespaces go on b when not to the same path: [/folder/on/a=/folder/on/b, ...]."},
    {"host.data_directory", CO_OPT_SIDE, CO_OPT_STRING, NULL, NULL, "The server's data directory on that side's machine."},
    {"host.bin_directory", CO_OPT_SIDE, CO_OPT_STRING, NULL, NULL,
     "The folder of the server's programs on that side's machine; default: where Debian and Red Hat put them, else PATH."},
    {"host.start", CO_OPT_SIDE, CO_OPT_ARGV, NULL, NULL, "The command that starts the server on that side's machine."},
    {"host.stop", CO_OPT_SIDE, CO_OPT_ARGV, NULL, NULL, "The command that stops the server cleanly on that side's machine."},
};

#define STEP_COUNT 23
static struct co_step steps[STEP_COUNT]; /* filled once, by co_driver_entry */

static const struct co_step *const ordered[] = {&pg_step_setup_database, &pg_step_setup_replication,
                                                &pg_step_setup_probe,    &pg_step_setup_slot,
                                                &pg_step_setup_copy,     &pg_step_setup_place,
                                                &pg_step_setup_start,    &pg_step_autovacuum,
                                                &pg_step_standby_conf,   &pg_step_archive,
                                                &pg_step_close,          &pg_step_fence,
                                                &pg_step_standby_signal, &pg_step_stop,
                                                &pg_step_promote,        &pg_step_open,
                                                &pg_step_open_archive,   &pg_step_reverse_slot,
                                                &pg_step_follow,         &pg_step_follower_settings,
                                                &pg_step_undo_sync,      &pg_step_detach_follower,
                                                &pg_step_detach_primary};
_Static_assert(sizeof ordered / sizeof *ordered == STEP_COUNT, "every step has a place");

static char library[32];

static struct co_driver driver = {
    .size = sizeof driver,
    .abi = CO_DRIVER_ABI,
    .name = "postgresql",
    .version = CO_VERSION,
    .library = library,
    .engines = engines,
    .engine_count = sizeof engines / sizeof *engines,
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .steps = steps,
    .step_count = STEP_COUNT,
    .connect = pg_connect,
    .disconnect = pg_disconnect,
    .alive = pg_alive,
    .identify = pg_identify,
    .capabilities = pg_capabilities,
    .settings = pg_settings,
    .discover = pg_discover,
    .check = pg_check,
    .position = pg_position,
    .applied = pg_applied,
    .compare = pg_compare,
    .distance = pg_distance,
    .link = pg_link,
    .marker_get = pg_marker_get,
    .marker_set = pg_marker_set,
    .prepare = pg_prepare,
    .drain = pg_drain,
    .capture = pg_capture,
    .proof = pg_proof,
    .end_sessions = pg_end_sessions,
    .probe_write = pg_probe_write,
    .wait_applied = pg_wait_applied,
    .grants = pg_grants,
};

__attribute__((visibility("default"))) const struct co_driver *co_driver_entry(void)
{
    for (size_t i = 0; i < STEP_COUNT; i++)
        steps[i] = *ordered[i];
    snprintf(library, sizeof library, "libpq %d.%d", PQlibVersion() / 10000, PQlibVersion() % 10000);
    return &driver;
}
