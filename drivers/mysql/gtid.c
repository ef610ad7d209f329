/* gtid.c - see gtid.h. Invariant: malformed text never compares as anything but UNKNOWN, and numbers never wrap. */
#include "gtid.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct domain_pos {
    uint64_t domain, server, seq;
};

struct interval {
    const char *key; /* UUID, or UUID:tag; points into the text */
    size_t key_len;
    uint64_t first, last;
};

struct position {
    enum my_pos_kind kind;
    struct domain_pos *domains;
    struct interval *intervals;
    size_t count, capacity;
    const char *file;          /* file name, its number and the offset */
    size_t file_len, base_len; /* base: up to the number; whose log it is */
    uint64_t file_number, offset;
};

static void position_done(struct position *p)
{
    free(p->domains);
    free(p->intervals);
    p->domains = NULL;
    p->intervals = NULL;
}

#define POSITION_AUTO __attribute__((cleanup(position_done))) struct position

static void skip_space(const char **s)
{
    while (isspace((unsigned char)**s))
        (*s)++;
}

static bool parse_number(const char **s, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;
    const char *start = *s;
    for (; isdigit((unsigned char)**s); (*s)++) {
        uint64_t digit = (uint64_t)(**s - '0');
        if (value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *ret = value;
    return *s != start;
}

static bool grow(struct position *p, size_t item_bytes, void **items)
{
    if (p->count < p->capacity)
        return true;
    size_t capacity = p->capacity ? p->capacity * 2 : 8;
    if (capacity > SIZE_MAX / item_bytes)
        return false;
    void *grown = realloc(*items, capacity * item_bytes);
    if (!grown)
        return false;
    *items = grown;
    p->capacity = capacity;
    return true;
}

/* "0-1-270, 1-1-5" */
static bool parse_mariadb(const char *s, struct position *p)
{
    for (;;) {
        struct domain_pos d;
        skip_space(&s);
        if (!parse_number(&s, UINT32_MAX, &d.domain) || *s++ != '-' || !parse_number(&s, UINT32_MAX, &d.server) ||
            *s++ != '-' || !parse_number(&s, UINT64_MAX, &d.seq))
            return false;
        for (size_t i = 0; i < p->count; i++)
            if (p->domains[i].domain == d.domain)
                return false; /* a position has one GTID a domain */
        void *items = p->domains;
        if (!grow(p, sizeof d, &items))
            return false;
        p->domains = items;
        p->domains[p->count++] = d;
        skip_space(&s);
        if (!*s)
            return true;
        if (*s++ != ',')
            return false;
    }
}

static size_t uuid_length(const char *s)
{
    size_t i = 0;
    for (; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
            return 0;
    }
    return i;
}

static bool add_interval(struct position *p, struct interval iv)
{
    void *items = p->intervals;
    if (!grow(p, sizeof iv, &items))
        return false;
    p->intervals = items;
    p->intervals[p->count++] = iv;
    return true;
}

/* What follows a UUID: ":1-5:7:tag:1-3". */
static bool parse_intervals(const char **s, const char *uuid, struct position *p)
{
    struct interval iv = {.key = uuid, .key_len = 36};
    bool any = false;
    while (**s == ':') {
        (*s)++;
        skip_space(s);
        if (isalpha((unsigned char)**s) || **s == '_') { /* a tag: the key is told by where the tag ends */
            const char *tag = *s;
            while (isalnum((unsigned char)**s) || **s == '_')
                (*s)++;
            iv.key = tag;
            iv.key_len = (size_t)(*s - tag);
            any = false;
        } else {
            if (!parse_number(s, INT64_MAX, &iv.first) || iv.first == 0)
                return false;
            iv.last = iv.first;
            if (**s == '-') {
                (*s)++;
                if (!parse_number(s, INT64_MAX, &iv.last) || iv.last < iv.first)
                    return false;
            }
            if (!add_interval(p, iv))
                return false;
            any = true;
        }
        skip_space(s);
    }
    return any;
}

static int uuid_compare(const char *a, const char *b)
{
    for (size_t i = 0; i < 36; i++) {
        int d = tolower((unsigned char)a[i]) - tolower((unsigned char)b[i]);
        if (d)
            return d;
    }
    return 0;
}

struct keyed { /* an interval with its UUID beside it, for sorting */
    const char *uuid;
    struct interval iv;
};

static int keyed_compare(const void *left, const void *right)
{
    const struct keyed *a = left, *b = right;
    int d = uuid_compare(a->uuid, b->uuid);
    if (d)
        return d;
    bool at = a->iv.key != a->uuid, bt = b->iv.key != b->uuid; /* without a tag first */
    if (at != bt)
        return at ? 1 : -1;
    if (at) {
        size_t n = a->iv.key_len < b->iv.key_len ? a->iv.key_len : b->iv.key_len;
        d = strncasecmp(a->iv.key, b->iv.key, n);
        if (d)
            return d;
        if (a->iv.key_len != b->iv.key_len)
            return a->iv.key_len < b->iv.key_len ? -1 : 1;
    }
    return a->iv.first < b->iv.first ? -1 : a->iv.first > b->iv.first;
}

static bool same_key(const struct keyed *a, const struct keyed *b)
{
    struct keyed x = *a, y = *b;
    x.iv.first = y.iv.first = 0;
    return keyed_compare(&x, &y) == 0;
}

/* A GTID set, sorted and merged. */
struct gtid_set {
    struct keyed *items;
    size_t count, capacity;
};

static void gtid_set_done(struct gtid_set *set)
{
    free(set->items);
    set->items = NULL;
}

static bool parse_gtid_set(const char *s, struct gtid_set *set)
{
    for (;;) {
        skip_space(&s);
        const char *uuid = s;
        if (!uuid_length(s))
            return false;
        s += 36;
        skip_space(&s);
        POSITION_AUTO part = {0};
        if (!parse_intervals(&s, uuid, &part))
            return false;
        for (size_t i = 0; i < part.count; i++) {
            if (set->count == set->capacity) {
                size_t capacity = set->capacity ? set->capacity * 2 : 16;
                struct keyed *grown = realloc(set->items, capacity * sizeof *grown);
                if (!grown)
                    return false;
                set->items = grown;
                set->capacity = capacity;
            }
            set->items[set->count++] = (struct keyed){uuid, part.intervals[i]};
        }
        if (!*s)
            break;
        if (*s++ != ',')
            return false;
    }
    qsort(set->items, set->count, sizeof *set->items, keyed_compare);
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++) {
        struct keyed *last = kept ? &set->items[kept - 1] : NULL;
        if (last && same_key(last, &set->items[i]) && set->items[i].iv.first <= last->iv.last + 1) {
            if (set->items[i].iv.last > last->iv.last)
                last->iv.last = set->items[i].iv.last;
        } else {
            set->items[kept++] = set->items[i];
        }
    }
    set->count = kept;
    return true;
}

/* "file:binlog.000012:345" */
static bool parse_file(const char *s, struct position *p)
{
    if (strncmp(s, "file:", 5) != 0)
        return false;
    p->file = s + 5;
    const char *colon = strrchr(p->file, ':');
    if (!colon || colon == p->file)
        return false;
    p->file_len = (size_t)(colon - p->file);
    const char *end = colon + 1;
    if (!parse_number(&end, INT64_MAX, &p->offset) || *end)
        return false;
    const char *digits = colon;
    while (digits > p->file && isdigit((unsigned char)digits[-1]))
        digits--;
    p->base_len = (size_t)(digits - p->file);
    return digits < colon && digits > p->file && digits[-1] == '.' && parse_number(&digits, INT64_MAX, &p->file_number);
}

enum my_pos_kind my_pos_kind(const char *text)
{
    const char *s = text ? text : "";
    skip_space(&s);
    if (!*s || strcmp(s, MY_POS_NONE) == 0)
        return MY_POS_EMPTY;
    POSITION_AUTO p = {0};
    if (strncmp(s, "file:", 5) == 0)
        return parse_file(s, &p) ? MY_POS_FILE : MY_POS_BAD;
    if (uuid_length(s)) {
        __attribute__((cleanup(gtid_set_done))) struct gtid_set set = {0};
        return parse_gtid_set(s, &set) ? MY_POS_MYSQL : MY_POS_BAD;
    }
    return parse_mariadb(s, &p) ? MY_POS_MARIADB : MY_POS_BAD;
}

static const struct domain_pos *find_domain(const struct position *p, uint64_t domain)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->domains[i].domain == domain)
            return &p->domains[i];
    return NULL;
}

static enum co_order compare_mariadb(const char *have_text, const char *want_text)
{
    POSITION_AUTO have = {0};
    POSITION_AUTO want = {0};
    if (!parse_mariadb(have_text, &have) || !parse_mariadb(want_text, &want))
        return CO_ORDER_UNKNOWN;
    bool behind = false, ahead = false, common = false;
    for (size_t i = 0; i < want.count; i++) {
        const struct domain_pos *h = find_domain(&have, want.domains[i].domain);
        if (!h) {
            behind = true;
            continue;
        }
        common = true;
        if (h->seq == want.domains[i].seq && h->server != want.domains[i].server)
            return CO_ORDER_DIVERGED;
        behind |= h->seq < want.domains[i].seq;
        ahead |= h->seq > want.domains[i].seq;
    }
    for (size_t i = 0; i < have.count; i++)
        ahead |= !find_domain(&want, have.domains[i].domain);
    if (!common)
        return CO_ORDER_DIVERGED;
    return behind ? CO_ORDER_BEHIND : ahead ? CO_ORDER_AHEAD : CO_ORDER_EQUAL;
}

bool my_pos_equal_in(const char *have_text, const char *want_text)
{
    POSITION_AUTO have = {0};
    POSITION_AUTO want = {0};
    if (!parse_mariadb(have_text ? have_text : "", &have) || !parse_mariadb(want_text ? want_text : "", &want))
        return false;
    for (size_t i = 0; i < want.count; i++) {
        const struct domain_pos *h = find_domain(&have, want.domains[i].domain);
        if (!h || h->seq != want.domains[i].seq || h->server != want.domains[i].server)
            return false;
    }
    return true;
}

/* How many members of `want` are not in `have`; saturates. */
static uint64_t missing(const struct gtid_set *have, const struct gtid_set *want, bool *ret_common)
{
    uint64_t total = 0;
    size_t h = 0;
    for (size_t w = 0; w < want->count; w++) {
        const struct keyed *need = &want->items[w];
        uint64_t from = need->iv.first;
        while (h < have->count && !same_key(&have->items[h], need) && keyed_compare(&have->items[h], need) < 0)
            h++;
        for (size_t i = h; i < have->count && same_key(&have->items[i], need) && from <= need->iv.last; i++) {
            const struct interval *iv = &have->items[i].iv;
            *ret_common = true;
            if (iv->last < from)
                continue;
            if (iv->first > need->iv.last)
                break;
            if (iv->first > from)
                total += iv->first - from;
            from = iv->last + 1;
        }
        if (from <= need->iv.last)
            total += need->iv.last - from + 1;
        if (total > INT64_MAX)
            total = INT64_MAX;
    }
    return total;
}

static enum co_order compare_mysql(const char *have_text, const char *want_text)
{
    __attribute__((cleanup(gtid_set_done))) struct gtid_set have = {0};
    __attribute__((cleanup(gtid_set_done))) struct gtid_set want = {0};
    if (!parse_gtid_set(have_text, &have) || !parse_gtid_set(want_text, &want))
        return CO_ORDER_UNKNOWN;
    bool common = false;
    uint64_t lacks = missing(&have, &want, &common);
    uint64_t extra = missing(&want, &have, &common);
    if (lacks && !common)
        return CO_ORDER_DIVERGED;
    return lacks ? CO_ORDER_BEHIND : extra ? CO_ORDER_AHEAD : CO_ORDER_EQUAL;
}

static enum co_order compare_file(const char *have_text, const char *want_text)
{
    struct position have = {0}, want = {0};
    if (!parse_file(have_text, &have) || !parse_file(want_text, &want))
        return CO_ORDER_UNKNOWN;
    if (have.base_len != want.base_len || strncmp(have.file, want.file, have.base_len) != 0)
        return CO_ORDER_DIVERGED; /* positions of two logs are in no order */
    if (have.file_number != want.file_number)
        return have.file_number < want.file_number ? CO_ORDER_BEHIND : CO_ORDER_AHEAD;
    return have.offset < want.offset ? CO_ORDER_BEHIND : have.offset > want.offset ? CO_ORDER_AHEAD : CO_ORDER_EQUAL;
}

enum co_order my_pos_compare(const char *have, const char *want)
{
    enum my_pos_kind h = my_pos_kind(have), w = my_pos_kind(want);
    if (h == MY_POS_BAD || w == MY_POS_BAD || w == MY_POS_EMPTY)
        return CO_ORDER_UNKNOWN;
    if (h == MY_POS_EMPTY)
        return CO_ORDER_BEHIND;
    if (h != w)
        return CO_ORDER_UNKNOWN;
    while (isspace((unsigned char)*have))
        have++;
    while (isspace((unsigned char)*want))
        want++;
    return h == MY_POS_MARIADB ? compare_mariadb(have, want)
           : h == MY_POS_MYSQL ? compare_mysql(have, want)
                               : compare_file(have, want);
}

static int64_t distance_mariadb(const char *have_text, const char *want_text)
{
    POSITION_AUTO have = {0};
    POSITION_AUTO want = {0};
    if (*have_text && !parse_mariadb(have_text, &have))
        return -1;
    if (!parse_mariadb(want_text, &want))
        return -1;
    uint64_t total = 0;
    for (size_t i = 0; i < want.count; i++) {
        const struct domain_pos *h = find_domain(&have, want.domains[i].domain);
        uint64_t from = h ? h->seq : 0;
        uint64_t lacks = want.domains[i].seq > from ? want.domains[i].seq - from : 0;
        if (lacks > (uint64_t)INT64_MAX - total)
            return INT64_MAX;
        total += lacks;
    }
    return (int64_t)total;
}

void my_pos_distance(const char *have, const char *want, struct co_distance *ret)
{
    ret->bytes = -1;
    ret->transactions = -1;
    enum my_pos_kind h = my_pos_kind(have), w = my_pos_kind(want);
    if (h == MY_POS_BAD || w == MY_POS_BAD || w == MY_POS_EMPTY || (h != MY_POS_EMPTY && h != w))
        return;
    const char *from = h == MY_POS_EMPTY ? "" : have;
    while (isspace((unsigned char)*from))
        from++;
    while (isspace((unsigned char)*want))
        want++;
    if (w == MY_POS_MARIADB) {
        ret->transactions = distance_mariadb(from, want);
    } else if (w == MY_POS_MYSQL) {
        __attribute__((cleanup(gtid_set_done))) struct gtid_set hs = {0};
        __attribute__((cleanup(gtid_set_done))) struct gtid_set ws = {0};
        bool common = false;
        if ((!*from || parse_gtid_set(from, &hs)) && parse_gtid_set(want, &ws))
            ret->transactions = (int64_t)missing(&hs, &ws, &common);
    } else {
        struct position hp = {0}, wp = {0};
        if (parse_file(from, &hp) && parse_file(want, &wp) && hp.file_number == wp.file_number && hp.base_len == wp.base_len &&
            strncmp(hp.file, wp.file, hp.base_len) == 0)
            ret->bytes = wp.offset > hp.offset ? (int64_t)(wp.offset - hp.offset) : 0;
    }
}
