/* modules.c - finds, loads and keeps driver modules. Invariant: a module that is in the list passed
 * co_module_check, serves engines nobody else serves, and stays loaded until the process ends. */
#include "drivers-host/internal.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#ifndef CO_LIBDIR
#define CO_LIBDIR "/usr/lib/changeover"
#endif

struct entry {
    struct entry *next;
    struct co_module module; /* driver NULL: refused */
    struct co_error refused;
};

static pthread_mutex_t modules_lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *modules;
static bool modules_loaded;

static struct entry *entry_add(const char *path)
{
    struct entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    entry->module.path = co_strdup(path);
    if (!entry->module.path) {
        free(entry);
        return NULL;
    }
    struct entry **end = &modules;
    while (*end)
        end = &(*end)->next;
    *end = entry;
    return entry;
}

static const struct co_engine *engine_of_name(const struct co_driver *driver, const char *name)
{
    for (size_t i = 0; driver && i < driver->engine_count; i++)
        if (strcmp(driver->engines[i].name, name) == 0)
            return &driver->engines[i];
    return NULL;
}

/* A config without `engine` has the URL's scheme there: "postgres", "rediss". */
static const struct co_engine *engine_of_scheme(const struct co_driver *driver, const char *scheme)
{
    size_t bytes = strlen(scheme);
    for (size_t i = 0; driver && i < driver->engine_count; i++)
        for (const char *at = driver->engines[i].schemes; *at; at += strcspn(at, "|"), at += *at == '|')
            if (strcspn(at, "|") == bytes && memcmp(at, scheme, bytes) == 0)
                return &driver->engines[i];
    return NULL;
}

static struct entry *serves(const char *engine)
{
    for (struct entry *entry = modules; entry; entry = entry->next)
        if (engine_of_name(entry->module.driver, engine))
            return entry;
    return NULL;
}

static struct entry *serves_scheme(const char *scheme)
{
    for (struct entry *entry = modules; entry; entry = entry->next)
        if (engine_of_scheme(entry->module.driver, scheme))
            return entry;
    return NULL;
}

static int adopt(struct entry *entry, const struct co_driver *exported)
{
    const struct co_driver *driver = NULL;
    int rc = co_module_adopt(exported, &driver, &entry->refused);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < driver->engine_count; i++) {
        struct entry *taken = serves(driver->engines[i].name);
        if (taken) {
            rc = co_fail(&entry->refused, CO_E_UNSUPPORTED, "%s: the engine %s is already served by %s", entry->module.path,
                         driver->engines[i].name, taken->module.path);
            free((void *)driver->steps);
            free((void *)driver);
            return rc;
        }
    }
    entry->module.driver = driver;
    return 0;
}

static void load_file(const char *path)
{
    struct entry *entry = entry_add(path);
    if (!entry)
        return;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) {
        co_fail(&entry->refused, CO_E_UNSUPPORTED, "%s can't be loaded: %s", path, dlerror());
        co_hint(&entry->refused, "Install the client library that the module needs, or remove the module.");
        return;
    }
    void *symbol = dlsym(handle, "co_driver_entry");
    if (!symbol) {
        co_fail(&entry->refused, CO_E_UNSUPPORTED, "%s exports no co_driver_entry()", path);
        return;
    }
    const struct co_driver *(*function)(void) = NULL;
    memcpy(&function, &symbol, sizeof function); /* ISO C has no cast from an object to a function pointer */
    if (adopt(entry, function()) < 0 && !strstr(entry->refused.message, path))
        co_error_prefix(&entry->refused, "%s: ", path);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_module(const struct dirent *item)
{
    return fnmatch("changeover-*.so", item->d_name, 0) == 0;
}

static bool known_file(const char *name)
{
    for (struct entry *entry = modules; entry; entry = entry->next) {
        const char *slash = strrchr(entry->module.path, '/');
        if (slash && strcmp(slash + 1, name) == 0)
            return true;
    }
    return false;
}

static void load_folder(const char *folder)
{
    struct dirent **items = NULL;
    int count = scandir(folder, &items, is_module, by_name);
    for (int i = 0; i < count; i++) {
        CO_AUTOFREE char *path = co_printf("%s/%s", folder, items[i]->d_name);
        if (path && !known_file(items[i]->d_name)) /* an earlier folder's module hides later ones of its name */
            load_file(path);
        free(items[i]);
    }
    free(items);
}

/* The folders that are searched, in order, until fn says that it has enough. */
static void each_folder(bool (*fn)(const char *folder, const char *engine), const char *engine)
{
    const char *variable = getenv("CHANGEOVER_DRIVERS");
    if (variable && *variable) {
        fn(variable, engine); /* and no other: tests and packagers say exactly what they mean */
        return;
    }
    char program[PATH_MAX];
    ssize_t bytes = readlink("/proc/self/exe", program, sizeof program - 1);
    if (bytes > 0) {
        program[bytes] = '\0';
        char *slash = strrchr(program, '/');
        if (slash) {
            *slash = '\0';
            CO_AUTOFREE char *folder = co_printf("%s/drivers", program);
            if (folder && fn(folder, engine))
                return;
#ifdef CO_LIBDIR_FROM_BINDIR
            CO_AUTOFREE char *installed = co_printf("%s/" CO_LIBDIR_FROM_BINDIR, program);
            if (installed && fn(installed, engine))
                return;
#endif
        }
    }
    fn(CO_LIBDIR, engine);
}

static bool load_every(const char *folder, const char *engine)
{
    (void)engine;
    load_folder(folder);
    return false;
}

static void load_all(void)
{
    if (modules_loaded)
        return;
    modules_loaded = true;
    each_folder(load_every, NULL);
}

/* The module that is named like the engine: most are, and then the others' client libraries stay out of the process. */
static bool load_namesake(const char *folder, const char *engine)
{
    CO_AUTOFREE char *name = co_printf("changeover-%s.so", engine);
    CO_AUTOFREE char *path = name ? co_printf("%s/%s", folder, name) : NULL;
    if (!path || strchr(engine, '/') || access(path, R_OK) != 0)
        return false;
    if (!known_file(name))
        load_file(path);
    return true;
}

static void list_engines(struct co_text *ret)
{
    for (struct entry *entry = modules; entry; entry = entry->next)
        for (size_t i = 0; entry->module.driver && i < entry->module.driver->engine_count; i++)
            co_text_add(ret, "%s%s", ret->bytes ? ", " : "", entry->module.driver->engines[i].name);
}

int co_module_for_engine(const char *engine, const struct co_module **ret, struct co_error *err)
{
    pthread_mutex_lock(&modules_lock);
    if (!modules_loaded && !serves(engine))
        each_folder(load_namesake, engine);
    struct entry *entry = serves(engine);
    if (!entry) {
        load_all();
        entry = serves(engine);
    }
    if (!entry)
        entry = serves_scheme(engine);
    int rc = 0;
    if (entry) {
        *ret = &entry->module;
    } else {
        CO_TEXT_AUTO list = CO_TEXT_INIT;
        list_engines(&list);
        rc = co_fail(err, CO_E_UNSUPPORTED, "no driver module serves the engine '%s'; there are: %s", engine,
                     list.bytes ? co_text_str(&list) : "none");
        const struct co_error *why = NULL;
        for (struct entry *e = modules; e && !why; e = e->next)
            if (!e->module.driver)
                why = &e->refused;
        if (why)
            co_hint(err, "A module was refused: %s.", why->message);
        else
            co_hint(
                err,
                "Install the module, or name its folder in $CHANGEOVER_DRIVERS; `changeover drivers` lists what is loaded.");
    }
    pthread_mutex_unlock(&modules_lock);
    return rc;
}

void co_modules_each(void (*fn)(const struct co_module *module, const struct co_error *err, void *arg), void *arg)
{
    pthread_mutex_lock(&modules_lock);
    load_all();
    for (struct entry *entry = modules; entry; entry = entry->next)
        fn(&entry->module, entry->module.driver ? NULL : &entry->refused, arg);
    pthread_mutex_unlock(&modules_lock);
}

int co_module_register(const struct co_driver *driver, struct co_error *err)
{
    pthread_mutex_lock(&modules_lock);
    modules_loaded = true;
    struct entry *entry = entry_add("(linked in)");
    int rc = entry ? adopt(entry, driver) : CO_E_NOMEM;
    if (rc < 0 && entry && err)
        *err = entry->refused;
    pthread_mutex_unlock(&modules_lock);
    return rc;
}

const struct co_engine *co_module_engine(const struct co_module *module, const char *engine)
{
    if (!engine || !module)
        return NULL;
    const struct co_engine *found = engine_of_name(module->driver, engine);
    return found ? found : engine_of_scheme(module->driver, engine);
}
