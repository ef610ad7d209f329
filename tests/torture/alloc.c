/* alloc.c - see alloc.h. The table of live pointers tells the core's allocations from those that libc made and
 * the core frees (getline), which came by without being seen. */
#include "alloc.h"

#include <jansson.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *data, size_t bytes);
void __real_free(void *data);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *data, size_t bytes);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t bytes);
void __wrap_free(void *data);

#define TABLE (1u << 20)
#define GONE ((void *)(uintptr_t)1)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *table[TABLE];
static long live, count, fail_from;
static bool fail_all, failed;

static bool fails(void)
{
    pthread_mutex_lock(&lock);
    count++;
    bool now = fail_from > 0 && (fail_all ? count >= fail_from : count == fail_from);
    failed |= now;
    pthread_mutex_unlock(&lock);
    return now;
}

static size_t slot_of(const void *data)
{
    return (size_t)(((uintptr_t)data >> 4) * 11400714819323198485ULL >> 44) % TABLE;
}

static void *came(void *data)
{
    if (!data)
        return NULL;
    pthread_mutex_lock(&lock);
    size_t at = slot_of(data);
    while (table[at] && table[at] != GONE)
        at = (at + 1) % TABLE;
    table[at] = data;
    live++;
    pthread_mutex_unlock(&lock);
    return data;
}

static void went(const void *data)
{
    pthread_mutex_lock(&lock);
    for (size_t at = slot_of(data); table[at]; at = (at + 1) % TABLE)
        if (table[at] == data) {
            table[at] = GONE;
            live--;
            break;
        }
    pthread_mutex_unlock(&lock);
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : came(__real_malloc(bytes));
}

void *__wrap_calloc(size_t number, size_t bytes)
{
    return fails() ? NULL : came(__real_calloc(number, bytes));
}

void *__wrap_realloc(void *data, size_t bytes)
{
    if (fails())
        return NULL;
    if (data)
        went(data);
    void *moved = __real_realloc(data, bytes);
    return came(moved);
}

char *__wrap_strndup(const char *text, size_t bytes)
{
    size_t length = strnlen(text, bytes);
    char *copy = __wrap_malloc(length + 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, SIZE_MAX - 1);
}

void __wrap_free(void *data)
{
    if (data)
        went(data);
    __real_free(data);
}

static sqlite3_mem_methods sqlite_memory;

static void *sqlite_malloc(int bytes)
{
    return fails() ? NULL : sqlite_memory.xMalloc(bytes);
}

static void *sqlite_realloc(void *data, int bytes)
{
    return fails() ? NULL : sqlite_memory.xRealloc(data, bytes);
}

void alloc_setup(void)
{
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_memory) != SQLITE_OK)
        abort();
    sqlite3_mem_methods methods = sqlite_memory;
    methods.xMalloc = sqlite_malloc;
    methods.xRealloc = sqlite_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK)
        abort();
}

void alloc_fail_at(long nth, bool all)
{
    pthread_mutex_lock(&lock);
    count = 0;
    fail_from = nth;
    fail_all = all;
    failed = false;
    pthread_mutex_unlock(&lock);
}

bool alloc_stop(void)
{
    pthread_mutex_lock(&lock);
    fail_from = 0;
    pthread_mutex_unlock(&lock);
    return failed;
}

long alloc_count(void)
{
    return count;
}

long alloc_live(void)
{
    return live;
}
