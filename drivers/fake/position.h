/* position.h - positions of the fake server: "<lineage>/<term>.<first>+<term>.<first>:<seq>".
 *
 * A term is what a server wrote between becoming a primary and the next promotion; its name is unique, `first`
 * is the number of the first entry that belongs to it, and seq the number of the last entry (0: none). Because a
 * position carries its whole history, two of them can be compared without asking a server, and histories that
 * parted are seen as diverged even when the numbers look alike.
 */
#ifndef FAKE_POSITION_H
#define FAKE_POSITION_H

#include <stdbool.h>
#include <stdint.h>

#include "changeover/driver.h"

#define FK_TERMS_MAX 256
#define FK_NAME_MAX 40 /* of a term or lineage: made by the server, hex */

struct fk_term {
    char name[FK_NAME_MAX];
    int64_t first;
};

struct fk_position {
    char lineage[FK_NAME_MAX];
    struct fk_term terms[FK_TERMS_MAX];
    int term_count;
    int64_t seq;
};

/* False: malformed (or more than FK_TERMS_MAX promotions). "" is the empty server's position. */
bool fk_position_parse(const char *text, struct fk_position *ret);
/* Writes at most `size` bytes; 64 KiB are always enough. */
void fk_position_format(const struct fk_position *position, char *ret, size_t size);
enum co_order fk_position_compare(const struct fk_position *have, const struct fk_position *want);

#define FK_POSITION_TEXT 32768

#endif
