/* gtid.h - positions of both flavours as text: parsing, comparing and counting, without a server.
 *
 * Three forms, told apart by their looks:
 *   MariaDB   "0-1-270,1-1-5"                     domain-server-sequence, at most one a domain
 *   MySQL     "3e11fa47-...:1-5:7,...:tag:1-3"    a GTID set; tags since 8.3
 *   file      "file:<uuid>/binlog.000012:345"     a server without GTIDs; of one server's log, which the uuid names
 * "none" (or "") is a valid position of a follower that has applied nothing, and never a valid position to wait for.
 */
#ifndef MY_GTID_H
#define MY_GTID_H

#include "changeover/driver.h"

#define MY_POS_NONE "none"

enum my_pos_kind { MY_POS_BAD = -1, MY_POS_EMPTY = 0, MY_POS_MARIADB, MY_POS_MYSQL, MY_POS_FILE };

/* What kind of position the text is; MY_POS_BAD when it is malformed. */
enum my_pos_kind my_pos_kind(const char *text);

/* `have` seen from `want`. Of parts that move on their own (domains, source UUIDs) one may be ahead while another
 * is behind, in the ordinary course of following: that is BEHIND, since `want` isn't contained yet. DIVERGED
 * is what can't be following: the same sequence number of a domain from two servers, or no source in common. */
enum co_order my_pos_compare(const char *have, const char *want);

/* Transactions in `want` that `have` lacks; bytes only within one binlog file. */
void my_pos_distance(const char *have, const char *want, struct co_distance *ret);

/* MariaDB: whether `have` equals `want` in every domain of `want` (another domain may be more). */
bool my_pos_equal_in(const char *have, const char *want);

#endif
