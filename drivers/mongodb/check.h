/* check.h - what the two files of the pre-flight share. */
#ifndef MG_CHECK_H
#define MG_CHECK_H

#include "mg.h"

struct mg_check_sides {
    enum co_side source, target;
    enum co_check_stage stage;
};

void mg_report(struct co_call *call, const char *code, enum co_severity severity, int side, const char *message,
               const char *remedy);
/* The source's replica set: majorities, members, oplog, long operations. data_bytes: -1 unknown. */
void mg_check_set(struct co_call *call, const struct mg_state *state, struct co_conn *conn, const struct mg_check_sides *sides,
                  int64_t data_bytes);
/* Room on the target's disk: for the copy, or (copied) for what comes. */
void mg_check_disk(struct co_call *call, struct co_conn *conn, const struct mg_check_sides *sides, bool copied,
                   int64_t data_bytes);

/* What the tool's own account may not do (check_account.c). */
void mg_check_account(struct co_call *call, struct co_conn *conn, const struct mg_state *state, int side);

#endif
