/* parse.c - numbers, durations and sizes. Nothing is rounded silently, nothing overflows, no locale. */
#include "base/parse.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    int64_t factor;
};

/* Digits at *text into *ret; moves *text. False on overflow or when there is no digit. */
static bool digits(const char **text, uint64_t *ret)
{
    uint64_t value = 0;
    const char *at = *text;
    if (*at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *text = at;
    *ret = value;
    return true;
}

int co_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret, struct co_error *err)
{
    const char *at = text;
    bool negative = *at == '-';
    uint64_t value = 0;
    if (negative)
        at++;
    bool good = digits(&at, &value) && *at == '\0';
    uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    if (good && value <= limit) {
        int64_t number = !negative ? (int64_t)value : value == limit ? INT64_MIN : -(int64_t)value;
        if (number >= min && number <= max) {
            *ret = number;
            return 0;
        }
    }
    if (min == INT64_MIN && max == INT64_MAX)
        return co_fail(err, CO_E_CONFIG, "expected a whole number, got \"%s\"", text);
    if (max == INT64_MAX)
        return co_fail(err, CO_E_CONFIG, "expected a whole number of at least %lld, got \"%s\"", (long long)min, text);
    return co_fail(err, CO_E_CONFIG, "expected a whole number from %lld to %lld, got \"%s\"", (long long)min, (long long)max,
                   text);
}

/* "<digits>[.<digits>]<unit>" times the unit's factor; the result must be a whole number. */
static bool with_unit(const char *text, const struct unit *units, size_t count, int64_t *ret)
{
    const char *at = text;
    uint64_t whole = 0, fraction = 0, scale = 1;
    if (!digits(&at, &whole))
        return false;
    if (*at == '.') {
        at++;
        const char *start = at;
        if (!digits(&at, &fraction) || at - start > 9)
            return false;
        for (const char *digit = start; digit < at; digit++)
            scale *= 10;
    }
    if (*at == ' ')
        at++;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(at, units[i].name) != 0)
            continue;
        uint64_t factor = (uint64_t)units[i].factor;
        if (fraction > UINT64_MAX / factor || (fraction * factor) % scale != 0)
            return false;
        uint64_t rest = fraction * factor / scale;
        if (whole > ((uint64_t)INT64_MAX - rest) / factor)
            return false;
        *ret = (int64_t)(whole * factor + rest);
        return true;
    }
    return false;
}

int co_parse_duration_ms(const char *text, int64_t *ret, struct co_error *err)
{
    static const struct unit units[] = {{"ms", 1},        {"s", 1000},        {"", 1000},
                                        {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 24 * 3600 * 1000}};
    if (with_unit(text, units, sizeof units / sizeof units[0], ret))
        return 0;
    return co_fail(err, CO_E_CONFIG, "expected a duration such as 500ms, 10s, 2m or 1h (in whole milliseconds), got \"%s\"",
                   text);
}

int co_parse_bytes(const char *text, int64_t *ret, struct co_error *err)
{
    static const struct unit units[] = {
        {"", 1},
        {"B", 1},
        {"KiB", INT64_C(1) << 10},
        {"MiB", INT64_C(1) << 20},
        {"GiB", INT64_C(1) << 30},
        {"TiB", INT64_C(1) << 40},
        {"kB", 1000},
        {"KB", 1000},
        {"MB", 1000 * 1000},
        {"GB", 1000 * 1000 * 1000},
        {"TB", INT64_C(1000) * 1000 * 1000 * 1000},
    };
    if (with_unit(text, units, sizeof units / sizeof units[0], ret))
        return 0;
    return co_fail(err, CO_E_CONFIG, "expected a size in bytes such as 1024, 64KiB, 1MiB or 1GB, got \"%s\"", text);
}

int co_parse_bool(const char *text, bool *ret, struct co_error *err)
{
    static const struct {
        const char *name;
        bool value;
    } names[] = {{"true", true}, {"yes", true}, {"on", true}, {"false", false}, {"no", false}, {"off", false}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcasecmp(text, names[i].name) == 0) {
            *ret = names[i].value;
            return 0;
        }
    }
    return co_fail(err, CO_E_CONFIG, "expected true or false, got \"%s\"", text);
}

const char *co_format_duration_ms(int64_t ms, char ret[32])
{
    int64_t seconds = ms / 1000;
    if (ms < 0)
        snprintf(ret, 32, "unknown");
    else if (ms < 1000)
        snprintf(ret, 32, "%lld ms", (long long)ms);
    else if (ms < 60 * 1000 && ms % 1000 < 100)
        snprintf(ret, 32, "%lld s", (long long)seconds);
    else if (ms < 60 * 1000)
        snprintf(ret, 32, "%lld.%lld s", (long long)seconds, (long long)(ms % 1000 / 100));
    else if (seconds < 3600)
        snprintf(ret, 32, "%lld m %lld s", (long long)(seconds / 60), (long long)(seconds % 60));
    else if (seconds < 86400)
        snprintf(ret, 32, "%lld h %lld m", (long long)(seconds / 3600), (long long)(seconds % 3600 / 60));
    else
        snprintf(ret, 32, "%lld d %lld h", (long long)(seconds / 86400), (long long)(seconds % 86400 / 3600));
    return ret;
}

const char *co_format_bytes(int64_t bytes, char ret[32])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 0) {
        snprintf(ret, 32, "unknown");
        return ret;
    }
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1023.95 && unit + 1 < sizeof names / sizeof names[0]) {
        value /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(ret, 32, "%lld B", (long long)bytes);
    else
        snprintf(ret, 32, "%.1f %s", value, names[unit]);
    return ret;
}
