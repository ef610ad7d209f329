/* report.h - the record of a run for people, scripts and auditors.
 *
 * The record says who did what, when, from where, and what was executed on which server; positions, versions,
 * sizes and settings before and after; phases and the parts of the write pause; findings with remedies and
 * acceptances; hooks with their output; faults met; the outcome and what to do next. It is made from
 * co_journal_dump alone, so it works without the servers. Every string is masked once more.
 * Threads: any; nothing is shared.
 */
#ifndef CO_REPORT_REPORT_H
#define CO_REPORT_REPORT_H

#include "journal/journal.h"

enum co_report_format {
    CO_REPORT_TEXT, /* plain, at most 100 columns but for statements and output */
    CO_REPORT_JSON, /* changeover.report/1, one document */
    CO_REPORT_MARKDOWN,
    CO_REPORT_HTML /* one page, nothing loaded from anywhere */
};

/* "text", "json", "markdown" ("md"), "html". CO_E_CONFIG names what is known. */
int co_report_format_parse(const char *name, enum co_report_format *ret, struct co_error *err);

/* The document changeover.report/1: schema, exit_code (of the report: 0), errors, migration's journal path,
 * and the dump; with what is derived from it: "write_pause" (ms and parts[]), "changes"[] (facts that differ
 * before and after), "outcome" and "next". A new reference. CO_E_STATE: there is no such run. */
int co_report_json(struct co_journal *journal, const char *run_or_null_for_last, json_t **ret, struct co_error *err);

/* One run, rendered into ret (set ret->max for large ones: a default of 64 MiB is used when it is 0). */
int co_report_render(struct co_journal *journal, const char *run_or_null_for_last, enum co_report_format format,
                     struct co_text *ret, struct co_error *err);

/* The runs there are, one a line, newest first; JSON: changeover.runs/1 with runs[]. */
int co_report_list(struct co_journal *journal, enum co_report_format format, struct co_text *ret, struct co_error *err);

#endif
