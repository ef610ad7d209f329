/* facts.h - what the pre-flight knows of one server: everything is read once, then judged (check*.c). */
#ifndef RD_FACTS_H
#define RD_FACTS_H

#include "rd.h"

struct rd_facts {
    bool reached;
    enum co_side side;
    const char *name; /* "a", "b" */
    struct rd_state state;
    char *info; /* every section that was asked for */
    struct rd_replies replies;
    const redisReply *config, *modules, *users, *sentinels; /* inside replies; NULL: refused or unknown */
    const char *clients;
    int64_t clock_us, asked_ns, answered_ns; /* TIME there, and when on our clock */
};

enum co_result rd_facts_read(struct co_call *call, struct co_conn *conn, enum co_side side, struct rd_facts *ret);
void rd_facts_done(struct rd_facts *facts);
const char *rd_facts_config(const struct rd_facts *facts, const char *name); /* "" when unknown */
int64_t rd_facts_config_int(const struct rd_facts *facts, const char *name, int64_t otherwise);
int64_t rd_facts_calls(const struct rd_facts *facts, const char *command); /* INFO commandstats; 0 when never called */
int64_t rd_facts_keys(const struct rd_facts *facts);                       /* over all databases */

/* check.c: one finding; side NULL: the pair */
void rd_find(struct co_call *call, enum co_severity severity, const struct rd_facts *side, const char *code, const char *remedy,
             const char *format, ...) __attribute__((format(printf, 6, 7)));

/* check_side.c, check_pair.c */
void rd_check_side(struct co_call *call, enum co_check_stage stage, const struct rd_facts *side, bool source);
void rd_check_pair(struct co_call *call, enum co_check_stage stage, const struct rd_facts *source,
                   const struct rd_facts *target);

#endif
