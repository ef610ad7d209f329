/* modules.h - finding, loading and checking driver modules.
 *
 * Searched: $CHANGEOVER_DRIVERS (a folder; when set, the only one), else <folder of the program>/drivers
 * (running from the build tree), the libdir beside it (installed) and <libdir>/changeover, where a file hides later ones of its
 * name. Files "changeover-*.so". A module is refused, with the reason, when its ABI number differs, a required function is
 * missing, an apply has no probe, a step without revert isn't marked CO_STEP_NO_WAY_BACK, step names repeat, or an engine name
 * is already taken. RTLD_NOW | RTLD_LOCAL. Modules stay loaded until the process ends.
 */
#ifndef CO_DRIVERS_HOST_MODULES_H
#define CO_DRIVERS_HOST_MODULES_H

#include "changeover/driver.h"

struct co_module {
    char *path;
    const struct co_driver *driver;
};

/* The module that serves `engine`: an engine's name, else a scheme of its URLs (what a config without `engine` has).
 * CO_E_UNSUPPORTED: none does (the message lists those that are there). */
int co_module_for_engine(const char *engine, const struct co_module **ret, struct co_error *err);
/* Loads all; fn gets each, or module->driver NULL with err filled for one that was refused. */
void co_modules_each(void (*fn)(const struct co_module *module, const struct co_error *err, void *arg), void *arg);
/* Checks a driver struct as the loader does; for the conformance suite and unit tests. */
int co_module_check(const struct co_driver *driver, struct co_error *err);
/* Adds a driver that is linked into this program, and looks for no files from then on; for unit tests. */
int co_module_register(const struct co_driver *driver, struct co_error *err);
const struct co_engine *co_module_engine(const struct co_module *module, const char *engine);

#endif
