/* cmd_drivers.c - `drivers`: the modules that are there, and why some were refused. */
#include <string.h>

#include "cli/internal.h"
#include "drivers-host/modules.h"

struct listing {
    json_t *drivers, *refused;
};

static bool has_phase(const struct co_driver *driver, enum co_phase phase)
{
    for (size_t i = 0; i < driver->step_count; i++)
        if (driver->steps[i].phase == phase)
            return true;
    return false;
}

static void add(const struct co_module *module, const struct co_error *err, void *arg)
{
    struct listing *listing = arg;
    const struct co_driver *driver = module->driver;
    json_t *object = json_object();
    co_json_set(object, "path", co_json_text(module->path));
    if (!driver) {
        co_json_set(object, "reason", co_json_text(err ? err->message : ""));
        (void)json_array_append_new(listing->refused, object);
        return;
    }
    json_t *engines = json_array(), *options = json_array();
    for (size_t i = 0; i < driver->engine_count; i++) {
        json_t *engine = json_object();
        co_json_set(engine, "name", co_json_text(driver->engines[i].name));
        co_json_set(engine, "schemes", co_json_text(driver->engines[i].schemes));
        co_json_set(engine, "default_port", co_json_count(driver->engines[i].default_port));
        (void)json_array_append_new(engines, engine);
    }
    for (size_t i = 0; i < driver->option_count; i++)
        (void)json_array_append_new(options, co_json_text(driver->options[i].name));
    co_json_set(object, "name", co_json_text(driver->name));
    co_json_set(object, "version", co_json_text(driver->version));
    co_json_set(object, "library", co_json_text(driver->library));
    co_json_set(object, "abi", json_integer(driver->abi));
    co_json_set(object, "engines", engines);
    co_json_set(object, "options", options);
    /* What can be said without a server; the rest of the capabilities depends on the versions that are met. */
    json_t *capabilities = json_object();
    co_json_set(capabilities, "setup", json_boolean(has_phase(driver, CO_PHASE_SETUP)));
    co_json_set(capabilities, "reverse", json_boolean(has_phase(driver, CO_PHASE_REVERSE)));
    co_json_set(capabilities, "detach", json_boolean(has_phase(driver, CO_PHASE_DETACH)));
    co_json_set(capabilities, "server_side_wait", json_boolean(driver->wait_applied != NULL));
    co_json_set(capabilities, "rounds", json_boolean(driver->round != NULL));
    co_json_set(capabilities, "digest", json_boolean(driver->digest != NULL));
    co_json_set(object, "capabilities", capabilities);
    (void)json_array_append_new(listing->drivers, object);
}

static void render(const json_t *doc, struct co_text *ret)
{
    size_t i, k;
    json_t *driver, *engine, *value;
    json_array_foreach(json_object_get(doc, "drivers"), i, driver)
    {
        const char *key;
        co_text_add(ret, "%s %s (%s)\n  engines:", co_get_str(driver, "name"), co_get_str(driver, "version"),
                    co_get_str(driver, "library"));
        json_array_foreach(json_object_get(driver, "engines"), k, engine)
            co_text_add(ret, "%s %s", k > 0 ? "," : "", co_get_str(engine, "name"));
        co_text_add(ret, "\n  can:");
        json_object_foreach(json_object_get(driver, "capabilities"), key, value) if (json_is_true(value))
            co_text_add(ret, " %s", key);
        co_text_add(ret, "\n  %s\n", co_get_str(driver, "path"));
    }
    if (i == 0)
        co_text_add(ret, "no driver module was found\n");
    json_array_foreach(json_object_get(doc, "refused"), i, driver)
        co_text_add(ret, "refused: %s: %s\n", co_get_str(driver, "path"), co_get_str(driver, "reason"));
}

int co_cmd_drivers(struct co_cli *cli)
{
    struct listing listing = {.drivers = json_array(), .refused = json_array()};
    co_modules_each(add, &listing);
    size_t count = json_array_size(listing.drivers), refused = json_array_size(listing.refused);
    co_json_set(cli->doc, "drivers", listing.drivers);
    co_json_set(cli->doc, "refused", listing.refused);
    cli->render = render;
    return count > 0 && refused == 0 ? CO_EXIT_DONE : CO_EXIT_NO;
}
