/* position.c - see position.h. */
#include "position.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool take_name(const char **at, const char *stop, char *ret)
{
    size_t bytes = strcspn(*at, stop);
    if (bytes == 0 || bytes >= FK_NAME_MAX) {
        return false;
    }
    memcpy(ret, *at, bytes);
    ret[bytes] = 0;
    *at += bytes;
    return true;
}

static bool take_int(const char **at, int64_t *ret)
{
    if (**at < '0' || **at > '9') {
        return false;
    }
    char *end = NULL;
    long long value = strtoll(*at, &end, 10);
    *ret = (int64_t)value;
    *at = end;
    return true;
}

bool fk_position_parse(const char *text, struct fk_position *ret)
{
    memset(ret, 0, sizeof *ret);
    if (!*text) {
        return true;
    }
    const char *at = text;
    if (!take_name(&at, "/", ret->lineage) || *at++ != '/') {
        return false;
    }
    for (;;) {
        if (ret->term_count == FK_TERMS_MAX) {
            return false;
        }
        struct fk_term *term = &ret->terms[ret->term_count++];
        if (!take_name(&at, ".", term->name) || *at++ != '.' || !take_int(&at, &term->first)) {
            return false;
        }
        if (*at == ':') {
            break;
        }
        if (*at++ != '+') {
            return false;
        }
    }
    at++;
    return take_int(&at, &ret->seq) && *at == 0;
}

void fk_position_format(const struct fk_position *position, char *ret, size_t size)
{
    ret[0] = 0;
    if (position->term_count == 0) {
        return;
    }
    size_t used = (size_t)snprintf(ret, size, "%s/", position->lineage);
    for (int i = 0; i < position->term_count && used < size; i++) {
        used += (size_t)snprintf(ret + used, size - used, "%s%s.%lld", i ? "+" : "", position->terms[i].name,
                                 (long long)position->terms[i].first);
    }
    if (used < size) {
        snprintf(ret + used, size - used, ":%lld", (long long)position->seq);
    }
}

enum co_order fk_position_compare(const struct fk_position *have, const struct fk_position *want)
{
    if (have->term_count == 0 || want->term_count == 0) {
        /* An empty server is behind every other. */
        return have->term_count == want->term_count ? CO_ORDER_EQUAL : have->term_count ? CO_ORDER_AHEAD : CO_ORDER_BEHIND;
    }
    if (strcmp(have->lineage, want->lineage) != 0) {
        return CO_ORDER_DIVERGED;
    }
    int common = 0;
    while (common < have->term_count && common < want->term_count &&
           strcmp(have->terms[common].name, want->terms[common].name) == 0 &&
           have->terms[common].first == want->terms[common].first) {
        common++;
    }
    bool have_more = common < have->term_count;
    bool want_more = common < want->term_count;
    if (common == 0 || (have_more && want_more)) {
        return CO_ORDER_DIVERGED;
    }
    if (have_more) {
        return want->seq < have->terms[common].first ? CO_ORDER_AHEAD : CO_ORDER_DIVERGED;
    }
    if (want_more) {
        return have->seq < want->terms[common].first ? CO_ORDER_BEHIND : CO_ORDER_DIVERGED;
    }
    return have->seq < want->seq ? CO_ORDER_BEHIND : have->seq > want->seq ? CO_ORDER_AHEAD : CO_ORDER_EQUAL;
}
