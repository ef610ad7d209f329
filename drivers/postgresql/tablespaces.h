/* tablespaces.h - where a copy's tablespaces go on the target's machine. */
#ifndef CO_PG_TABLESPACES_H
#define CO_PG_TABLESPACES_H

#include "pg.h"

/* The source's tablespaces that lie outside of its data directory, with the folder of each on the target. */
struct pg_space {
    char *name, *from, *to;
    int64_t bytes;
};
struct pg_spaces {
    struct pg_space *items;
    size_t count;
};
void pg_spaces_done(struct pg_spaces *spaces);
#define PG_SPACES __attribute__((cleanup(pg_spaces_done))) struct pg_spaces
#define PG_SPACES_MAX 60

/* Asks `source` (not NULL); setup.tablespaces (FOLDER ON A=FOLDER ON B) is applied, backwards when the target is a. */
enum co_result pg_spaces_look(struct co_call *call, struct co_conn *source, enum co_side target, struct pg_spaces *ret);
/* "OLD=NEW" for pg_basebackup's -T. */
void pg_space_mapping(const struct pg_space *space, struct pg_text *ret);

/* Shell: `usable FOLDER` says on standard error why a copy's tablespace can't be made there. $c is the copy's folder; the
 * folders that an earlier, interrupted copy was making are in $c.spaces, and what is in them is that copy's. Unless the data
 * directory that is there has a tablespace in it. */
#define PG_SPACE_USABLE                                                                                                        \
    "usable() {\n"                                                                                                             \
    "  for l in \"$d\"/pg_tblspc/*; do if [ -e \"$l\" ] && [ \"$l\" -ef \"$1\" ]; then echo \"$1 belongs to the data "         \
    "directory that is there\" >&2; return 1; fi; done\n"                                                                      \
    "  if [ -f \"$c.spaces\" ] && grep -qxF -e \"$1\" \"$c.spaces\"; then return 0; fi\n"                                      \
    "  if [ -d \"$1\" ]; then if [ -n \"$(ls -A \"$1\" 2>&1)\" ]; then echo \"$1 is not empty\" >&2; return 1; fi; q=$1\n"     \
    "  elif [ -e \"$1\" ]; then echo \"$1 is no folder\" >&2; return 1\n"                                                      \
    "  else q=$1; while [ ! -e \"$q\" ]; do q=$(dirname \"$q\"); done; fi\n"                                                   \
    "  [ -d \"$q\" ] && [ -w \"$q\" ] || { echo \"$1: $(id -un) can't write in $q\" >&2; return 1; }\n"                        \
    "}\n"

#endif
