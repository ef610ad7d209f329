/* optime.h - a position of MongoDB: "<replica set id>/<term>/<seconds>.<increment>". */
#ifndef MG_OPTIME_H
#define MG_OPTIME_H

#include "changeover/driver.h"

struct mg_optime {
    int64_t term;
    uint32_t seconds, increment;
};

bool mg_position_parse(const char *text, char ret_set[64], struct mg_optime *ret);
/* Terms grow along one history, and so do times. */
enum co_order mg_compare(const char *have, const char *want);
void mg_distance(const char *have, const char *want, struct co_distance *ret);

#endif
