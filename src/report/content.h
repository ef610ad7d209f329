/* content.h - what a report says, in which order, for people. */
#ifndef CO_REPORT_CONTENT_H
#define CO_REPORT_CONTENT_H

#include "report/layout.h"

/* `document` as co_report_json makes it. */
void co_report_content(struct co_layout *layout, const json_t *document);
/* "cutover of shop: done" */
void co_report_title(const json_t *document, struct co_text *ret);

#endif
