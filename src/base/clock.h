/* clock.h - one clock: CLOCK_MONOTONIC in nanoseconds for everything that is measured or waited for; wall
 * time only to be shown and kept. */
#ifndef CO_BASE_CLOCK_H
#define CO_BASE_CLOCK_H

#include <stdint.h>

#define CO_NS_PER_MS INT64_C(1000000)
#define CO_NS_PER_S INT64_C(1000000000)
#define CO_FOREVER INT64_MAX

int64_t co_now_ns(void);
int64_t co_wall_ms(void);              /* since 1970, UTC */
int64_t co_deadline_in_ms(int64_t ms); /* now + ms; saturates */
int64_t co_min_deadline(int64_t a, int64_t b);
int64_t co_ms_left(int64_t deadline_ns);                                  /* >= 0, rounded up */
void co_wall_format(int64_t wall_ms, char *ret, unsigned long ret_bytes); /* "2026-11-23T18:14:37.123Z" */
void co_wait_until(int64_t time_ns, int wake_fd);                         /* returns earlier when wake_fd (or -1) is readable */

#endif
