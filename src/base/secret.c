/* secret.c - secrets in memory and the mask. Invariant: a secret's bytes exist only in mappings made here
 * (locked where the limit allows, never in a core dump, wiped before they are unmapped) and in the buffers of
 * the client libraries that need them. */
#include "base/secret.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_MAX ((size_t)4096)
#define WHOLE_WORD_BYTES 4 /* shorter ones would blank out half of every message */

struct co_secret_value {
    size_t map_bytes;
    size_t bytes;
    char data[];
};

void co_wipe(void *data, size_t bytes)
{
    if (data && bytes > 0)
        explicit_bzero(data, bytes);
}

static void *map_new(size_t bytes, size_t *ret_map_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t map_bytes = (bytes + page - 1) / page * page;
    void *map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    (void)mlock(map, map_bytes); /* best effort: RLIMIT_MEMLOCK may be small */
    (void)madvise(map, map_bytes, MADV_DONTDUMP);
    *ret_map_bytes = map_bytes;
    return map;
}

int co_secret_new(const char *data, size_t bytes, struct co_secret_value **ret, struct co_error *err)
{
    if (bytes > SECRET_MAX)
        return co_fail(err, CO_E_CONFIG, "a secret is longer than %zu bytes", SECRET_MAX);
    if (memchr(data, '\0', bytes))
        return co_fail(err, CO_E_CONFIG, "a secret contains a NUL byte");
    size_t map_bytes = 0;
    struct co_secret_value *secret = map_new(sizeof *secret + bytes + 1, &map_bytes);
    if (!secret)
        return co_fail(err, CO_E_NOMEM, "no memory for a secret");
    secret->map_bytes = map_bytes;
    secret->bytes = bytes;
    memcpy(secret->data, data, bytes);
    secret->data[bytes] = '\0';
    *ret = secret;
    return 0;
}

const char *co_secret_str(const struct co_secret_value *secret)
{
    return secret ? secret->data : NULL;
}

void co_secret_free(struct co_secret_value *secret)
{
    if (!secret)
        return;
    size_t map_bytes = secret->map_bytes;
    co_wipe(secret, map_bytes);
    munmap(secret, map_bytes);
}

static int check_secret_file(int fd, const char *path, struct co_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return co_fail(err, CO_E_IO, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return co_fail(err, CO_E_CONFIG, "%s is not a regular file", path);
    if (info.st_mode & 077) {
        co_fail(err, CO_E_CONFIG, "%s holds a secret and can be used by others than its owner (mode %04o)", path,
                (unsigned)info.st_mode & 07777u);
        co_hint(err, "Run: chmod 600 %s", path);
        return CO_E_CONFIG;
    }
    return 0;
}

int co_secret_from_file(const char *path, struct co_secret_value **ret, struct co_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        co_fail(err, errno == ENOMEM ? CO_E_NOMEM : CO_E_CONFIG, "cannot read %s: %s", path, strerror(errno));
        co_hint(err, "The file must exist and be readable by the user that runs changeover, and by nobody else.");
        return errno == ENOMEM ? CO_E_NOMEM : CO_E_CONFIG;
    }
    char data[SECRET_MAX + 2];
    size_t bytes = 0;
    int rc = check_secret_file(fd, path, err);
    while (rc == 0 && bytes < sizeof data) {
        ssize_t got = read(fd, data + bytes, sizeof data - bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = co_fail(err, CO_E_IO, "cannot read %s: %s", path, strerror(errno));
        if (got <= 0)
            break;
        bytes += (size_t)got;
        if (memchr(data, '\n', bytes))
            break;
    }
    close(fd);
    if (rc == 0) {
        const char *end = memchr(data, '\n', bytes);
        size_t length = end ? (size_t)(end - data) : bytes;
        if (length > 0 && data[length - 1] == '\r')
            length--;
        if (length == 0)
            rc = co_fail(err, CO_E_CONFIG, "the first line of %s is empty: expected a password", path);
        else
            rc = co_secret_new(data, length, ret, err);
        if (rc == CO_E_CONFIG && length > 0)
            co_error_prefix(err, "%s: ", path);
    }
    co_wipe(data, sizeof data);
    return rc;
}

int co_secret_from_env(const char *name, struct co_secret_value **ret, struct co_error *err)
{
    const char *value = getenv(name);
    if (!value || *value == '\0')
        return co_fail(err, CO_E_CONFIG, "the environment variable %s is %s", name, value ? "empty" : "not set");
    return co_secret_new(value, strlen(value), ret, err);
}

/* ---------------------------------------------------------------- the mask */

struct mask_form {
    const char *data; /* in the block */
    size_t bytes;
    bool whole_word;
};

#define MASK_FORMS 7

struct mask_entry {
    struct mask_entry *next;
    struct mask_form forms[MASK_FORMS];
    size_t form_count;
    struct co_secret_value *block; /* all forms, one after the other; forms[0] is the secret itself */
};

static struct {
    pthread_rwlock_t lock;
    struct mask_entry *first;
    unsigned char begins[256]; /* bytes that some form begins with */
} mask = {.lock = PTHREAD_RWLOCK_INITIALIZER};

static void add_url_encoded(struct co_text *text, const char *secret, bool upper)
{
    for (const unsigned char *at = (const unsigned char *)secret; *at; at++) {
        if (isalnum(*at) || strchr("-._~", *at))
            co_text_add_bytes(text, (const char *)at, 1);
        else
            co_text_add(text, upper ? "%%%02X" : "%%%02x", *at);
    }
}

/* Every byte of `special` is written as `with` and the byte itself; with NULL: doubled. */
static void add_escaped(struct co_text *text, const char *secret, const char *special, const char *with)
{
    for (const char *at = secret; *at; at++) {
        if (strchr(special, *at)) {
            char doubled[2] = {*at, '\0'};
            co_text_add(text, "%s", with ? with : doubled);
        }
        co_text_add_bytes(text, at, 1);
    }
}

static void build_forms(struct co_text *text, const char *secret, size_t ends[MASK_FORMS])
{
    co_text_add(text, "%s", secret);
    ends[0] = text->bytes;
    add_url_encoded(text, secret, true);
    ends[1] = text->bytes;
    add_url_encoded(text, secret, false);
    ends[2] = text->bytes;
    add_escaped(text, secret, "'", "'\\'"); /* shell: ' becomes '\'' */
    ends[3] = text->bytes;
    add_escaped(text, secret, "'", NULL); /* SQL: '' */
    ends[4] = text->bytes;
    add_escaped(text, secret, "'\\", "\\"); /* E'', MySQL, libpq connection strings */
    ends[5] = text->bytes;
    add_escaped(text, secret, "\"\\", "\\"); /* JSON, C */
    ends[6] = text->bytes;
}

void co_mask_add(const char *secret)
{
    if (!secret || *secret == '\0')
        return;
    CO_TEXT_AUTO text = {.secret = true, .max = MASK_FORMS * 4 * SECRET_MAX};
    size_t ends[MASK_FORMS];
    build_forms(&text, secret, ends);
    struct mask_entry *entry = calloc(1, sizeof *entry);
    size_t map_bytes = 0;
    struct co_secret_value *block = text.overflow ? NULL : map_new(sizeof *block + text.bytes + 1, &map_bytes);
    if (!entry || !block) {
        /* A secret that can't be masked must not go on: whatever is printed next could hold it. */
        fputs("changeover: no memory to protect a secret\n", stderr);
        abort();
    }
    block->map_bytes = map_bytes;
    block->bytes = text.bytes;
    memcpy(block->data, co_text_str(&text), text.bytes);
    entry->block = block;
    size_t start = 0;
    for (size_t i = 0; i < MASK_FORMS; i++) {
        struct mask_form form = {.data = block->data + start, .bytes = ends[i] - start};
        form.whole_word = form.bytes < WHOLE_WORD_BYTES;
        start = ends[i];
        bool known = false;
        for (size_t k = 0; k < entry->form_count; k++)
            known |= entry->forms[k].bytes == form.bytes && memcmp(entry->forms[k].data, form.data, form.bytes) == 0;
        if (!known)
            entry->forms[entry->form_count++] = form;
    }
    pthread_rwlock_wrlock(&mask.lock);
    bool known = false;
    for (struct mask_entry *other = mask.first; other; other = other->next)
        known |= other->forms[0].bytes == entry->forms[0].bytes &&
                 memcmp(other->forms[0].data, entry->forms[0].data, entry->forms[0].bytes) == 0;
    if (!known) {
        for (size_t i = 0; i < entry->form_count; i++)
            mask.begins[(unsigned char)entry->forms[i].data[0]] = 1;
        entry->next = mask.first;
        mask.first = entry;
        entry = NULL;
    }
    pthread_rwlock_unlock(&mask.lock);
    if (entry) {
        co_secret_free(entry->block);
        free(entry);
    }
}

void co_mask_clear(void)
{
    pthread_rwlock_wrlock(&mask.lock);
    while (mask.first) {
        struct mask_entry *entry = mask.first;
        mask.first = entry->next;
        co_secret_free(entry->block);
        free(entry);
    }
    memset(mask.begins, 0, sizeof mask.begins);
    pthread_rwlock_unlock(&mask.lock);
}

static bool is_word(char byte)
{
    return isalnum((unsigned char)byte) || byte == '_';
}

/* The longest form that stands at data[at], or 0. */
static size_t match_at(const char *data, size_t bytes, size_t at)
{
    size_t longest = 0;
    if (!mask.begins[(unsigned char)data[at]])
        return 0;
    for (const struct mask_entry *entry = mask.first; entry; entry = entry->next) {
        for (size_t i = 0; i < entry->form_count; i++) {
            const struct mask_form *form = &entry->forms[i];
            if (form->bytes <= longest || form->bytes > bytes - at || memcmp(data + at, form->data, form->bytes) != 0)
                continue;
            if (form->whole_word &&
                ((at > 0 && is_word(data[at - 1])) || (at + form->bytes < bytes && is_word(data[at + form->bytes]))))
                continue;
            longest = form->bytes;
        }
    }
    return longest;
}

void co_mask_text(struct co_text *text)
{
    if (!text->data || text->bytes == 0)
        return;
    pthread_rwlock_rdlock(&mask.lock);
    size_t at = 0, length = 0;
    if (mask.first)
        while (at < text->bytes && (length = match_at(text->data, text->bytes, at)) == 0)
            at++;
    if (length > 0) {
        struct co_text masked = {.max = text->max, .secret = text->secret};
        size_t clean = 0; /* what comes before this is copied */
        while (at < text->bytes) {
            length = match_at(text->data, text->bytes, at);
            if (length > 0) {
                co_text_add_bytes(&masked, text->data + clean, at - clean);
                co_text_add_bytes(&masked, "***", 3);
                at += length;
                clean = at;
            } else {
                at++;
            }
        }
        co_text_add_bytes(&masked, text->data + clean, text->bytes - clean);
        bool overflow = text->overflow || masked.overflow;
        co_wipe(text->data, text->bytes);
        co_text_done(text);
        *text = masked;
        text->overflow = overflow;
    }
    pthread_rwlock_unlock(&mask.lock);
}

/* A full buffer was probably cut: does it end, from `at` on, in the beginning of a secret? */
static bool cut_secret_at(const char *data, size_t bytes, size_t at)
{
    if (!mask.begins[(unsigned char)data[at]] || bytes - at < 2)
        return false;
    for (const struct mask_entry *entry = mask.first; entry; entry = entry->next)
        for (size_t i = 0; i < entry->form_count; i++)
            if (entry->forms[i].bytes > bytes - at && memcmp(data + at, entry->forms[i].data, bytes - at) == 0)
                return true;
    return false;
}

void co_mask_buffer(char *buffer, size_t buffer_bytes)
{
    if (buffer_bytes == 0)
        return;
    size_t bytes = strnlen(buffer, buffer_bytes);
    if (bytes == buffer_bytes)
        bytes--;
    pthread_rwlock_rdlock(&mask.lock);
    size_t from = 0, to = 0; /* what lies at `from` and behind it is as it was */
    while (from < bytes) {
        size_t length = mask.first ? match_at(buffer, bytes, from) : 0;
        if (length == 0 && bytes + 1 == buffer_bytes && cut_secret_at(buffer, bytes, from))
            length = bytes - from;
        if (length == 0) {
            buffer[to++] = buffer[from++];
            continue;
        }
        size_t stars = length < 3 ? length : 3;
        memset(buffer + to, '*', stars);
        to += stars;
        from += length;
    }
    buffer[to] = '\0';
    pthread_rwlock_unlock(&mask.lock);
}
