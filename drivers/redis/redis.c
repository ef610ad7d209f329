/* redis.c - the module: what it serves, its options, and the one table of its steps.
 *
 * Redis 5.0 to 8 and Valkey 7.2 to 9. The connection speaks RESP2 through hiredis' codec only (net.c, resp.c).
 */
#include "rd.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static const struct co_engine engines[] = {
    {"redis", "redis|rediss|valkey|valkeys", 6379},
    {"valkey", "redis|rediss|valkey|valkeys", 6379},
};

static const struct co_option options[] = {
    {"setup.replace_b", CO_OPT_PAIR, CO_OPT_BOOL, NULL, "false", "Let setup replace the data of a server that isn't empty."},
    {"pause", CO_OPT_PAIR, CO_OPT_DURATION_MS, NULL, "60s",
     "How long expiry stands still on the fenced server (CLIENT PAUSE), so that the way back needs no full copy; the fence "
     "doesn't "
     "depend on it."},
};

#define MAX_STEPS 24
static struct co_step steps[MAX_STEPS];
static char library[48];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static struct co_driver driver = {
    .size = sizeof(struct co_driver),
    .abi = CO_DRIVER_ABI,
    .name = "redis",
    .version = CO_VERSION,
    .library = library,
    .engines = engines,
    .engine_count = sizeof(engines) / sizeof(*engines),
    .options = options,
    .option_count = sizeof(options) / sizeof(*options),
    .steps = steps,
    .connect = rd_connect,
    .disconnect = rd_disconnect,
    .alive = rd_alive,
    .identify = rd_identify,
    .capabilities = rd_capabilities,
    .settings = rd_settings,
    .discover = rd_discover,
    .check = rd_check,
    .position = rd_position,
    .applied = rd_applied,
    .compare = rd_compare,
    .distance = rd_distance,
    .link = rd_link,
    .marker_get = rd_marker_get,
    .marker_set = rd_marker_set,
    .prepare = rd_prepare,
    .drain = rd_drain,
    .capture = rd_capture,
    .proof = rd_proof,
    .end_sessions = rd_end_sessions,
    .probe_write = rd_probe_write,
    .grants = rd_grants,
};

static void add_steps(const struct co_step *from, size_t count)
{
    for (size_t at = 0; at < count && driver.step_count < MAX_STEPS; at++)
        steps[driver.step_count++] = from[at];
}

static void assemble(void)
{
    (void)snprintf(library, sizeof(library), "hiredis %d.%d.%d", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    add_steps(rd_setup_steps, rd_setup_step_count);
    add_steps(rd_promote_steps, rd_promote_step_count);
    add_steps(rd_fence_steps, rd_fence_step_count);
    add_steps(rd_reverse_steps, rd_reverse_step_count);
}

__attribute__((visibility("default"))) const struct co_driver *co_driver_entry(void)
{
    pthread_once(&once, assemble);
    return &driver;
}
