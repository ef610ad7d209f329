/* alloc.h - allocations that fail on demand, and a count of those that live.
 *
 * Covers what the core allocates (by -Wl,--wrap), SQLite and jansson. What libc allocates inside of itself
 * (getline, fopen) isn't reached.
 */
#ifndef CO_TESTS_ALLOC_H
#define CO_TESTS_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

void alloc_setup(void); /* once, before SQLite and jansson are used */
/* The nth allocation from now fails; with `all`, every one from the nth on. 0: none. */
void alloc_fail_at(long nth, bool all);
/* Ends failing; true when one did fail. */
bool alloc_stop(void);
long alloc_count(void); /* since alloc_fail_at */
long alloc_live(void);  /* the core's and jansson's; SQLite keeps caches */

#endif
