/* clock.c - one monotonic clock; wall time only to be shown. All sums saturate: no deadline ever wraps. */
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>

int64_t co_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * CO_NS_PER_S + now.tv_nsec;
}

int64_t co_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t co_deadline_in_ms(int64_t ms)
{
    int64_t now = co_now_ns();
    if (ms <= 0)
        return now;
    if (ms >= (CO_FOREVER - now) / CO_NS_PER_MS)
        return CO_FOREVER;
    return now + ms * CO_NS_PER_MS;
}

int64_t co_min_deadline(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t co_ms_left(int64_t deadline_ns)
{
    if (deadline_ns == CO_FOREVER)
        return INT64_MAX;
    int64_t now = co_now_ns();
    if (deadline_ns <= now)
        return 0;
    int64_t left = deadline_ns - now;
    return left / CO_NS_PER_MS + (left % CO_NS_PER_MS != 0);
}

void co_wall_format(int64_t wall_ms, char *ret, unsigned long ret_bytes)
{
    int64_t ms = wall_ms % 1000;
    time_t seconds = (time_t)(wall_ms / 1000);
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    struct tm parts;
    if (!gmtime_r(&seconds, &parts)) {
        snprintf(ret, ret_bytes, "?");
        return;
    }
    snprintf(ret, ret_bytes, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
             parts.tm_hour, parts.tm_min, parts.tm_sec, (int)ms);
}

void co_wait_until(int64_t time_ns, int wake_fd)
{
    for (;;) {
        struct pollfd fd = {.fd = wake_fd, .events = POLLIN};
        struct timespec timeout = {0};
        int64_t now = co_now_ns();
        if (time_ns > now && time_ns != CO_FOREVER) {
            timeout.tv_sec = (time_t)((time_ns - now) / CO_NS_PER_S);
            timeout.tv_nsec = (long)((time_ns - now) % CO_NS_PER_S);
        }
        int ready = ppoll(&fd, wake_fd >= 0 ? 1 : 0, time_ns == CO_FOREVER ? NULL : &timeout, NULL);
        if (ready > 0 || (ready < 0 && errno != EINTR))
            return;
        if (time_ns != CO_FOREVER && co_now_ns() >= time_ns)
            return;
    }
}
