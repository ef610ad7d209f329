/* check.h - what the files of the pre-flight share. A check reports findings and fails only when the connection does:
 * a question that this account may not ask is a finding too. */
#ifndef CO_PG_CHECK_H
#define CO_PG_CHECK_H

#include "pg.h"

struct pg_checkup {
    struct co_call *call;
    enum co_check_stage stage;
    enum co_side source_side, target_side;
    struct co_conn *source, *target; /* NULL: not reached */
    bool follows;                    /* the target is a standby of the source's cluster */
};

void pg_say(struct pg_checkup *checkup, int side, enum co_severity severity, const char *code, const char *remedy,
            const char *format, ...) __attribute__((format(printf, 6, 7)));

/* One question to one server: no row, or NULL, means that all is well; else the first row's text is the detail. */
struct pg_question {
    const char *code;
    enum co_severity severity;
    unsigned stages; /* PG_AT_SETUP | PG_AT_CUTOVER */
    enum { PG_OF_SOURCE = 1, PG_OF_TARGET = 2, PG_OF_BOTH = 3 } of;
    int since, before; /* server_version_num, 0: any */
    const char *sql;
    const char *message; /* with one %s for the detail */
    const char *remedy;
};
#define PG_AT_SETUP 1u
#define PG_AT_CUTOVER 2u
#define PG_AT_ALL 3u
enum co_result pg_ask(struct pg_checkup *checkup, const struct pg_question *questions, size_t count);

enum co_result pg_check_server(struct pg_checkup *checkup);      /* check_server.c: each server by itself */
enum co_result pg_check_pair(struct pg_checkup *checkup);        /* check_pair.c: b against a */
enum co_result pg_check_environment(struct pg_checkup *checkup); /* check_environment.c: what is around them */

#endif
