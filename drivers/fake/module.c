/* module.c - the fake driver's table: the one symbol that this module exports leads here. */
#include "fake.h"

static const struct co_engine engines[] = {
    {.name = "fake", .schemes = "fake", .default_port = FAKE_DEFAULT_PORT},
    {.name = "fake-rounds", .schemes = "fake-rounds", .default_port = FAKE_DEFAULT_PORT},
    {.name = "fake-novote", .schemes = "fake-novote", .default_port = FAKE_DEFAULT_PORT},
};

static const struct co_option options[] = {
    {.name = "slot",
     .scope = CO_OPT_PAIR,
     .type = CO_OPT_STRING,
     .default_value = "changeover",
     .help = "The name under which the follower is known to its source."},
};

static const char *const fault_points[] = {"fake.send", "fake.reply", NULL};

static const struct co_driver driver = {
    .size = sizeof(struct co_driver),
    .abi = CO_DRIVER_ABI,
    .name = "fake",
    .version = CO_VERSION,
    .library = "none",
    .engines = engines,
    .engine_count = sizeof engines / sizeof engines[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .steps = fake_steps,
    .step_count = FAKE_STEP_COUNT,
    .fault_points = fault_points,
    .connect = fake_connect,
    .disconnect = fake_disconnect,
    .alive = fake_alive,
    .identify = fake_identify,
    .capabilities = fake_capabilities,
    .settings = fake_settings,
    .discover = fake_discover,
    .check = fake_check,
    .position = fake_position,
    .applied = fake_applied,
    .compare = fake_compare,
    .distance = fake_distance,
    .link = fake_link,
    .marker_get = fake_marker_get,
    .marker_set = fake_marker_set,
    .prepare = fake_prepare,
    .drain = fake_drain,
    .capture = fake_capture,
    .proof = fake_proof,
    .end_sessions = fake_end_sessions,
    .probe_write = fake_probe_write,
    .wait_applied = fake_wait_applied,
    .round = fake_round,
    .digest = fake_digest,
    .grants = fake_grants,
};

__attribute__((visibility("default"))) const struct co_driver *co_driver_entry(void)
{
    return &driver;
}
