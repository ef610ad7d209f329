/* layout.h - headings, lines, tables and blocks, written as plain text, Markdown or HTML.
 *
 * Invariant: whatever stands in a value, the layout stays whole: markup is escaped, and control characters
 * (a hook's output may hold terminal sequences) are replaced. Running out of memory or space sets
 * out->overflow, to be checked once at the end.
 */
#ifndef CO_REPORT_LAYOUT_H
#define CO_REPORT_LAYOUT_H

#include "report/report.h"

#define CO_LAYOUT_COLUMNS 8

struct co_layout {
    enum co_report_format format;
    struct co_text *out;
    size_t columns;       /* of the open table; 0: none is open */
    struct co_text cells; /* of the open table: NUL-terminated, row by row */
    size_t cell_count;
};

void co_layout_begin(struct co_layout *layout, enum co_report_format format, struct co_text *out, const char *title);
void co_layout_end(struct co_layout *layout);
void co_layout_heading(struct co_layout *layout, const char *text);
void co_layout_paragraph(struct co_layout *layout, const char *text);
void co_layout_item(struct co_layout *layout, const char *text);
void co_layout_items_end(struct co_layout *layout);
void co_layout_block(struct co_layout *layout, const char *text); /* verbatim: statements, output */
/* The first row is the head. A NULL or "" cell shows as "-". */
void co_layout_table(struct co_layout *layout, size_t columns);
void co_layout_row(struct co_layout *layout, const char *const *cells);
void co_layout_table_end(struct co_layout *layout);

#endif
