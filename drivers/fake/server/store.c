/* store.c - the state on disk: `state` (key value lines, replaced as a whole and fsynced) and `log` (one entry a
 * line, appended).
 *
 * Invariant: a term stands in `state` before an entry of it stands in `log`, so that a kill between the two leaves
 * a history that holds for what the log has. A torn last line of the log was never acknowledged and is cut off.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

void fk_random_name(char *ret, size_t bytes)
{
    unsigned char raw[16];
    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw) {
        perror("changeover-fake-server: getrandom");
        exit(1);
    }
    for (size_t i = 0; i < bytes; i++) {
        snprintf(ret + 2 * i, 3, "%02x", raw[i]);
    }
}

void fk_set(char **where, const char *value)
{
    char *copy = strdup(value ? value : "");
    if (!copy) {
        fputs("changeover-fake-server: out of memory\n", stderr);
        exit(1);
    }
    free(*where);
    *where = copy;
}

struct durable_field {
    const char *name;
    char kind; /* s string, b bool, i integer */
    size_t offset;
};

#define FIELD(name, kind)                                                                                                      \
    {                                                                                                                          \
#name, kind, offsetof(struct fk_durable, name)                                                                         \
    }
static const struct durable_field durable_fields[] = {
    FIELD(follower, 'b'),  FIELD(source, 's'),         FIELD(slot, 's'),       FIELD(old_source, 's'),      FIELD(fence, 'b'),
    FIELD(closure, 'b'),   FIELD(retired, 'b'),        FIELD(events_off, 'b'), FIELD(token, 's'),           FIELD(info, 's'),
    FIELD(slots, 's'),     FIELD(apply_delay_ms, 'i'), FIELD(events_ms, 'i'),  FIELD(idle_timeout_ms, 'i'), FIELD(sync, 'b'),
    FIELD(streaming, 'b'),
};
#define FIELD_COUNT (sizeof durable_fields / sizeof durable_fields[0])

static void encode_state(struct fk_server *s, struct fk_buffer *out)
{
    char position[FK_POSITION_TEXT];
    fk_position_format(&s->at, position, sizeof position);
    fk_buffer_str(out, "state");
    fk_put(out, "instance", s->d.instance);
    fk_put(out, "position", position);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        const struct durable_field *field = &durable_fields[i];
        const char *at = (const char *)&s->d + field->offset;
        if (field->kind == 's') {
            fk_put(out, field->name, *(char *const *)(const void *)at);
        } else if (field->kind == 'b') {
            fk_put_int(out, field->name, *(const bool *)(const void *)at);
        } else {
            fk_put_int(out, field->name, *(const int64_t *)(const void *)at);
        }
    }
    fk_buffer_str(out, "\n");
}

static bool write_all(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(fd, data, bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        data += n;
        bytes -= (size_t)n;
    }
    return true;
}

bool fk_store_save(struct fk_server *s)
{
    struct fk_buffer out = {0};
    encode_state(s, &out);
    int fd = openat(s->state_dir, "state.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = fd >= 0 && !out.failed && write_all(fd, out.data, out.bytes) && fsync(fd) == 0 &&
                renameat(s->state_dir, "state.new", s->state_dir, "state") == 0 && fsync(s->state_dir) == 0;
    if (!good) {
        perror("changeover-fake-server: state");
    }
    if (fd >= 0) {
        close(fd);
    }
    fk_buffer_done(&out);
    return good;
}

static char *read_file(int dir, const char *name, size_t *ret_bytes)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0) {
        return NULL;
    }
    char *data = NULL;
    size_t have = 0;
    if (fstat(fd, &info) == 0) {
        data = malloc((size_t)info.st_size + 1);
        while (data && have < (size_t)info.st_size) {
            ssize_t n = read(fd, data + have, (size_t)info.st_size - have);
            if (n <= 0) {
                break;
            }
            have += (size_t)n;
        }
    }
    close(fd);
    if (data) {
        data[have] = 0;
        *ret_bytes = have;
    }
    return data;
}

static bool decode_state(struct fk_server *s, char *text)
{
    struct fk_message m;
    text[strcspn(text, "\n")] = 0;
    if (!fk_parse(text, &m) || strcmp(m.verb, "state") != 0) {
        return false;
    }
    snprintf(s->d.instance, sizeof s->d.instance, "%s", fk_get_or(&m, "instance", ""));
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        const struct durable_field *field = &durable_fields[i];
        char *at = (char *)&s->d + field->offset;
        if (field->kind == 's') {
            fk_set((char **)(void *)at, fk_get_or(&m, field->name, ""));
        } else if (field->kind == 'b') {
            *(bool *)(void *)at = fk_get_int(&m, field->name, 0) != 0;
        } else {
            *(int64_t *)(void *)at = fk_get_int(&m, field->name, 0);
        }
    }
    return fk_position_parse(fk_get_or(&m, "position", ""), &s->at);
}

static void remember(struct fk_server *s, const char *key, const char *value)
{
    if (s->at.seq == s->log_capacity) {
        int64_t capacity = s->log_capacity ? 2 * s->log_capacity : 1024;
        struct fk_entry *grown = realloc(s->log, (size_t)capacity * sizeof *grown);
        if (!grown) {
            fputs("changeover-fake-server: out of memory\n", stderr);
            exit(1);
        }
        s->log = grown;
        s->log_capacity = capacity;
    }
    struct fk_entry *entry = &s->log[s->at.seq++];
    *entry = (struct fk_entry){0};
    fk_set(&entry->key, key);
    fk_set(&entry->value, value);
    s->log_bytes += (int64_t)(strlen(key) + strlen(value));
}

bool fk_log_append(struct fk_server *s, const char *key, const char *value)
{
    struct fk_buffer line = {0};
    fk_buffer_str(&line, "e");
    fk_put(&line, "k", key);
    fk_put(&line, "v", value);
    fk_buffer_str(&line, "\n");
    bool good = !line.failed && write_all(s->log_fd, line.data, line.bytes);
    fk_buffer_done(&line);
    if (good) {
        remember(s, key, value);
    }
    return good;
}

static void load_log(struct fk_server *s, char *data, size_t bytes)
{
    size_t at = 0;
    s->at.seq = 0;
    while (at < bytes) {
        char *end = memchr(data + at, '\n', bytes - at);
        if (!end) {
            break;
        }
        size_t next = (size_t)(end - data) + 1;
        *end = 0;
        struct fk_message m;
        if (!fk_parse(data + at, &m)) {
            break;
        }
        remember(s, fk_get_or(&m, "k", ""), fk_get_or(&m, "v", ""));
        at = next;
    }
    if (at < bytes && ftruncate(s->log_fd, (off_t)at) != 0) {
        perror("changeover-fake-server: log");
    }
    while (s->at.term_count > 1 && s->at.terms[s->at.term_count - 1].first > s->at.seq + 1) {
        s->at.term_count--; /* what the log lost is lost with its terms */
    }
}

void fk_log_truncate(struct fk_server *s, int64_t keep)
{
    while (s->at.seq > keep && s->at.seq > 0) {
        struct fk_entry *entry = &s->log[--s->at.seq];
        s->log_bytes -= (int64_t)(strlen(entry->key) + strlen(entry->value));
        free(entry->key);
        free(entry->value);
    }
    struct fk_buffer out = {0};
    for (int64_t i = 0; i < s->at.seq; i++) {
        fk_buffer_str(&out, "e");
        fk_put(&out, "k", s->log[i].key);
        fk_put(&out, "v", s->log[i].value);
        fk_buffer_str(&out, "\n");
    }
    if (out.failed || ftruncate(s->log_fd, 0) != 0 || (out.bytes && !write_all(s->log_fd, out.data, out.bytes))) {
        perror("changeover-fake-server: log");
    }
    fk_buffer_done(&out);
}

static void fresh(struct fk_server *s)
{
    char **strings[] = {&s->d.source, &s->d.slot, &s->d.old_source, &s->d.token, &s->d.info, &s->d.slots};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        fk_set(strings[i], "");
    }
    fk_random_name(s->d.instance, 8);
    s->d.streaming = true;
    fk_random_name(s->at.lineage, 8);
    s->at.term_count = 1;
    s->at.terms[0].first = 1;
    fk_random_name(s->at.terms[0].name, 4);
}

bool fk_store_open(struct fk_server *s)
{
    if (mkdir(s->directory, 0700) != 0 && errno != EEXIST) {
        perror(s->directory);
        return false;
    }
    s->state_dir = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    s->log_fd = s->state_dir < 0 ? -1 : openat(s->state_dir, "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (s->log_fd < 0) {
        perror(s->directory);
        return false;
    }
    fk_random_name(s->incarnation, 8);
    size_t bytes = 0;
    char *state = read_file(s->state_dir, "state", &bytes);
    if (!state) {
        fresh(s);
        return fk_store_save(s);
    }
    bool good = decode_state(s, state);
    free(state);
    char *log = good ? read_file(s->state_dir, "log", &bytes) : NULL;
    if (log) {
        load_log(s, log, bytes);
    } else {
        s->at.seq = 0;
    }
    free(log);
    if (!good) {
        fprintf(stderr, "changeover-fake-server: %s/state can't be read\n", s->directory);
    }
    return good;
}
