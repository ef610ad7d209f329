/* module.c - the MongoDB driver's table: the one symbol that this module exports leads here. */
#include <stdio.h>
#include <stdlib.h>

#include "mg.h"

static const struct co_engine engines[] = {
    {.name = "mongodb", .schemes = "mongodb", .default_port = 27017},
};

static const struct co_option options[] = {
    {.name = "host.data_directory",
     .scope = CO_OPT_SIDE,
     .type = CO_OPT_STRING,
     .help = "The server's dbPath on its machine; `check` looks there for room."},
};

static const char *const fault_points[] = {"mongodb.send", "mongodb.decide", "mongodb.reply", NULL};

static char library[64];

static struct co_driver driver = {
    .size = sizeof(struct co_driver),
    .abi = CO_DRIVER_ABI,
    .name = "mongodb",
    .version = CO_VERSION,
    .library = library,
    .engines = engines,
    .engine_count = sizeof engines / sizeof engines[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .steps = mg_steps,
    .fault_points = fault_points,
    .connect = mg_connect,
    .disconnect = mg_disconnect,
    .alive = mg_alive,
    .identify = mg_identify,
    .capabilities = mg_capabilities,
    .settings = mg_settings,
    .discover = mg_discover,
    .check = mg_check,
    .position = mg_position,
    .applied = mg_applied,
    .compare = mg_compare,
    .distance = mg_distance,
    .link = mg_link,
    .marker_get = mg_marker_get,
    .marker_set = mg_marker_set,
    .prepare = mg_prepare,
    .drain = mg_drain,
    .capture = mg_capture,
    .proof = mg_proof,
    .end_sessions = mg_end_sessions,
    .probe_write = mg_probe_write,
    .grants = mg_grants,
};

/* The library writes warnings to standard error unless it is told otherwise. */
static void silent(mongoc_log_level_t level, const char *domain, const char *message, void *data)
{
    (void)level;
    (void)domain;
    (void)message;
    (void)data;
}

/* The library keeps counters in /dev/shm under the process's id from the moment it is loaded: a process that is killed leaves
 * them there for good, and the next one of that id says so on standard error, whatever engine it works on. It is told
 * not to before it is there: this module is initialised first (-z initfirst). */
static __attribute__((constructor)) void no_shared_counters(void)
{
    setenv("MONGOC_DISABLE_SHM", "1", 1);
}

__attribute__((visibility("default"))) const struct co_driver *co_driver_entry(void)
{
    mongoc_log_set_handler(silent, NULL);
    mongoc_init();
    unsetenv("MONGOC_DISABLE_SHM");
    snprintf(library, sizeof library, "libmongoc %s", mongoc_get_version());
    driver.step_count = mg_step_count;
    return &driver;
}
