/* check.h - what the pre-flight's topics share. Codes are stable: `accept:` names them. */
#ifndef MY_CHECK_H
#define MY_CHECK_H

#include "my.h"

struct my_check {
    struct co_call *call;
    enum co_check_stage stage;
    struct co_conn *source, *target;         /* NULL: can't be reached */
    struct my_sets source_vars, target_vars; /* SHOW GLOBAL VARIABLES */
    enum co_side source_side, target_side;
    enum co_result result; /* the first failure that isn't a finding */
};

void my_find(struct my_check *check, const char *code, enum co_severity severity, int side, const char *remedy,
             const char *format, ...) __attribute__((format(printf, 6, 7)));
/* A query that may fail for lack of rights: then a finding `cant_see_<what>` says so. */
bool my_check_read(struct my_check *check, struct co_conn *conn, const char *what, const char *sql, struct my_sets *ret);
const char *my_var(const struct my_sets *vars, const char *name); /* NULL: this server hasn't got it */
bool my_following(struct my_check *check, struct co_conn *conn, struct my_follow *ret);

void my_check_server(struct my_check *check);
void my_check_replication(struct my_check *check);
void my_check_data(struct my_check *check);
void my_check_access(struct my_check *check);
void my_check_surroundings(struct my_check *check);

#endif
