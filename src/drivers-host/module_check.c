/* module_check.c - whether what a module exports keeps the contract. Invariant: a driver that passes can be
 * called through the wrapper without a NULL pointer being followed, and every change it makes can be probed. */
#include "drivers-host/internal.h"

#include <stdlib.h>
#include <string.h>

/* What ABI 1 had from its first day: a module that says it knows less is broken. */
#define DRIVER_LEAST_BYTES (offsetof(struct co_driver, probe_write) + sizeof(void *))
#define STEP_LEAST_BYTES (offsetof(struct co_step, revert) + sizeof(void *))

static bool driver_has(const struct co_driver *driver, size_t offset)
{
    return driver->size >= offset + sizeof(void *);
}

#define MISSING(member)                                                                                                        \
    if (!driver->member)                                                                                                       \
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s lacks the required function %s", driver->name, #member);

static int check_functions(const struct co_driver *driver, struct co_error *err)
{
    MISSING(connect)
    MISSING(disconnect)
    MISSING(alive)
    MISSING(identify)
    MISSING(capabilities)
    MISSING(settings)
    MISSING(discover)
    MISSING(check)
    MISSING(position)
    MISSING(applied)
    MISSING(compare)
    MISSING(distance)
    MISSING(link)
    MISSING(marker_get)
    MISSING(marker_set)
    MISSING(prepare)
    MISSING(drain)
    MISSING(capture)
    MISSING(proof)
    MISSING(end_sessions)
    MISSING(probe_write)
    return 0;
}

static bool is_name(const char *text, const char *also)
{
    if (!text || !*text)
        return false;
    for (const char *c = text; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '_' || strchr(also, *c)))
            return false;
    return true;
}

static int check_step(const struct co_driver *driver, const struct co_step *step, size_t index, struct co_error *err)
{
    if (step->size < STEP_LEAST_BYTES || step->size > 65536)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s: step %zu has an impossible size of %u bytes", driver->name, index,
                       (unsigned)step->size);
    if (!is_name(step->name, ".") || !strchr(step->name, '.'))
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s: step %zu is named '%s'; '<phase>.<what>' in [a-z0-9_.] is needed",
                       driver->name, index, step->name ? step->name : "");
    if (!step->title || !*step->title)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s: step %s has no title", driver->name, step->name);
    if (step->phase < CO_PHASE_LOCK || step->phase > CO_PHASE_UNDO)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s: step %s belongs to the unknown phase %d", driver->name, step->name,
                       (int)step->phase);
    if (step->role != CO_SOURCE && step->role != CO_TARGET)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s: step %s has the unknown role %d", driver->name, step->name,
                       (int)step->role);
    if (!step->describe)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s: step %s can't describe itself", driver->name, step->name);
    if (!step->apply)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s: step %s has no apply", driver->name, step->name);
    if (!step->probe)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s: step %s has an apply and no probe", driver->name, step->name);
    if (!step->revert && !(step->flags & CO_STEP_NO_WAY_BACK))
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s: step %s has no revert and isn't marked CO_STEP_NO_WAY_BACK",
                       driver->name, step->name);
    return 0;
}

static const struct co_step *step_at(const struct co_driver *driver, size_t index)
{
    return (const struct co_step *)(const void *)((const char *)driver->steps + index * driver->steps[0].size);
}

static int check_steps(const struct co_driver *driver, struct co_error *err)
{
    if (driver->step_count > 0 && !driver->steps)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s counts %zu steps and lists none", driver->name, driver->step_count);
    if (driver->step_count > 1000)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s counts %zu steps", driver->name, driver->step_count);
    for (size_t i = 0; i < driver->step_count; i++) {
        const struct co_step *step = step_at(driver, i);
        int rc = check_step(driver, step, i, err);
        if (rc < 0)
            return rc;
        if (step->size != driver->steps[0].size)
            return co_fail(err, CO_E_UNSUPPORTED, "driver %s: step %s has another size than the first step", driver->name,
                           step->name);
        for (size_t j = 0; j < i; j++)
            if (strcmp(step_at(driver, j)->name, step->name) == 0)
                return co_fail(err, CO_E_UNSUPPORTED, "driver %s has two steps named %s", driver->name, step->name);
    }
    return 0;
}

static int check_options(const struct co_driver *driver, struct co_error *err)
{
    if (driver->option_count > 0 && !driver->options)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s counts %zu options and lists none", driver->name,
                       driver->option_count);
    for (size_t i = 0; i < driver->option_count; i++) {
        const struct co_option *option = &driver->options[i];
        if (!is_name(option->name, "."))
            return co_fail(err, CO_E_UNSUPPORTED, "driver %s: option %zu is named '%s'", driver->name, i,
                           option->name ? option->name : "");
        if (option->type < CO_OPT_STRING || option->type > CO_OPT_ARGV)
            return co_fail(err, CO_E_UNSUPPORTED, "driver %s: option %s has the unknown type %d", driver->name, option->name,
                           (int)option->type);
        if (option->type == CO_OPT_ENUM && (!option->values || !*option->values))
            return co_fail(err, CO_E_UNSUPPORTED, "driver %s: option %s lists no values", driver->name, option->name);
        for (size_t j = 0; j < i; j++)
            if (driver->options[j].scope == option->scope && strcmp(driver->options[j].name, option->name) == 0)
                return co_fail(err, CO_E_UNSUPPORTED, "driver %s has two options named %s", driver->name, option->name);
    }
    return 0;
}

static int check_engines(const struct co_driver *driver, struct co_error *err)
{
    if (driver->engine_count == 0 || !driver->engines)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s serves no engine", driver->name);
    for (size_t i = 0; i < driver->engine_count; i++)
        if (!is_name(driver->engines[i].name, "-") || !driver->engines[i].schemes || !*driver->engines[i].schemes)
            return co_fail(err, CO_E_UNSUPPORTED, "driver %s: engine %zu has no proper name or URL scheme", driver->name, i);
    return 0;
}

int co_module_check(const struct co_driver *driver, struct co_error *err)
{
    if (!driver)
        return co_fail(err, CO_E_UNSUPPORTED, "the module's co_driver_entry() returned nothing");
    if (driver->abi != CO_DRIVER_ABI) { /* abi and size never move; everything else might */
        co_fail(err, CO_E_UNSUPPORTED, "the module was built for driver ABI %u, this program has %u", (unsigned)driver->abi,
                (unsigned)CO_DRIVER_ABI);
        co_hint(err, "Install the module that belongs to this version of changeover.");
        return CO_E_UNSUPPORTED;
    }
    if (driver->size < DRIVER_LEAST_BYTES)
        return co_fail(err, CO_E_UNSUPPORTED, "the module's driver table has %u bytes, at least %zu are needed",
                       (unsigned)driver->size, DRIVER_LEAST_BYTES);
    if (!is_name(driver->name, "-"))
        return co_fail(err, CO_E_UNSUPPORTED, "the module's driver is named '%s'; [a-z0-9_-] is needed",
                       driver->name ? driver->name : "");
    if (!driver->version || !driver->library)
        return co_fail(err, CO_E_UNSUPPORTED, "driver %s doesn't say its version or library", driver->name);
    int rc = check_engines(driver, err);
    if (rc == 0)
        rc = check_options(driver, err);
    if (rc == 0)
        rc = check_functions(driver, err);
    if (rc == 0)
        rc = check_steps(driver, err);
    return rc;
}

int co_module_adopt(const struct co_driver *driver, const struct co_driver **ret, struct co_error *err)
{
    int rc = co_module_check(driver, err);
    if (rc < 0)
        return rc;
    struct co_driver *copy = calloc(1, sizeof *copy);
    struct co_step *steps = calloc(driver->step_count + 1, sizeof *steps);
    if (!copy || !steps) {
        free(copy);
        free(steps);
        return co_fail(err, CO_E_NOMEM, "no memory for the driver %s", driver->name);
    }
    memcpy(copy, driver, driver->size < sizeof *copy ? driver->size : sizeof *copy);
    for (size_t i = 0; i < driver->step_count; i++) {
        const struct co_step *step = step_at(driver, i);
        memcpy(&steps[i], step, step->size < sizeof *steps ? step->size : sizeof *steps);
        steps[i].size = sizeof *steps;
    }
    copy->size = sizeof *copy;
    copy->steps = steps;
    if (!driver_has(driver, offsetof(struct co_driver, interrupt)))
        copy->interrupt = NULL; /* never half of a pointer */
    *ret = copy;
    return 0;
}
