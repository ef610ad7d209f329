/* shifted_clock.c - a machine whose clock goes wrong by $CO_CLOCK_SHIFT_S seconds. Loaded into a server with LD_PRELOAD; the
 * monotonic clock stays as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long shift_s(void)
{
    static long shift, known;
    if (!known) {
        const char *text = getenv("CO_CLOCK_SHIFT_S");
        shift = text ? strtol(text, NULL, 10) : 0;
        known = 1;
    }
    return shift;
}

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, ret);
    if (!failed && clock == CLOCK_REALTIME)
        ret->tv_sec += shift_s();
    return failed;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    static int (*real)(struct timeval *, void *);
    if (!real)
        real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int failed = real(ret, zone);
    if (!failed)
        ret->tv_sec += shift_s();
    return failed;
}

time_t time(time_t *ret)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (ret)
        *ret = now.tv_sec;
    return now.tv_sec;
}
