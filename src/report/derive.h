/* derive.h - what the report concludes from the record: nothing that the record doesn't show. */
#ifndef CO_REPORT_DERIVE_H
#define CO_REPORT_DERIVE_H

#include "report/report.h"

/* Adds "outcome", "primary", "write_pause", "changes" and "next" to the dump of a run. False: no memory. */
bool co_report_derive(json_t *document);

/* Is it a kind of run that moves the primary, or follows up one that did? */
bool co_report_moves(const json_t *run);

/* json_string_value of a member, "" where it is null or absent. */
const char *co_report_string(const json_t *object, const char *name);

#endif
