/* log.h - messages to standard error. Library code uses co_debug only; cli/ and serve/ speak to people.
 * Everything is masked. Writes never block the caller: with a pipe or terminal that doesn't take them they
 * are dropped and counted. */
#ifndef CO_BASE_LOG_H
#define CO_BASE_LOG_H

#include <stdbool.h>

enum co_verbosity { CO_QUIET = -1, CO_NORMAL = 0, CO_VERBOSE = 1, CO_DEBUG = 2 };

void co_log_setup(enum co_verbosity verbosity);
enum co_verbosity co_log_verbosity(void);
void co_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
void co_say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* progress, notes: not with -q */
void co_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The one report of an error, with the program's name in front; also with -q. */
void co_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
long co_log_dropped(void);

/* How long a message may wait for a reader that is slow: 0 (the default) inside runs; the command line is
 * patient before and after them, so that an error isn't lost in a full pipe. */
void co_log_patience(int ms);
bool co_log_is_terminal(void);
/* One transient line at the bottom of a terminal (progress); other messages go above it. NULL removes it.
 * Nothing where standard error isn't a terminal. */
void co_log_status(const char *line);

#endif
