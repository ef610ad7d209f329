/* report.c - the record of a run as one document, and its formats. Invariant: what leaves here was masked after
 * everything else was done to it; in JSON string by string, since a mask across a number would break it. */
#include "report/report.h"

#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "base/secret.h"
#include "report/content.h"
#include "report/derive.h"

#define REPORT_MAX ((size_t)64 << 20)

int co_report_format_parse(const char *name, enum co_report_format *ret, struct co_error *err)
{
    static const struct {
        const char *name;
        enum co_report_format format;
    } formats[] = {{"text", CO_REPORT_TEXT},
                   {"json", CO_REPORT_JSON},
                   {"markdown", CO_REPORT_MARKDOWN},
                   {"md", CO_REPORT_MARKDOWN},
                   {"html", CO_REPORT_HTML}};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(name, formats[i].name) == 0) {
            *ret = formats[i].format;
            return 0;
        }
    return co_fail(err, CO_E_CONFIG, "unknown format \"%s\": text, json, markdown or html was expected", name);
}

static int no_memory(struct co_error *err)
{
    return co_fail(err, CO_E_NOMEM, "no memory for the report");
}

static json_t *envelope(const char *schema)
{
    return json_pack("{s:s, s:i, s:[]}", "schema", schema, "exit_code", 0, "errors");
}

int co_report_json(struct co_journal *journal, const char *run_or_null_for_last, json_t **ret, struct co_error *err)
{
    json_t *dump = NULL;
    int result = co_journal_dump(journal, run_or_null_for_last, &dump, err);
    if (result)
        return result;
    CO_TEXT_AUTO path = CO_TEXT_INIT;
    co_text_set_str(&path, co_journal_path(journal));
    co_mask_text(&path);
    json_t *document = envelope("changeover.report/1");
    json_t *shown = path.overflow ? NULL : json_string(co_text_str(&path)); /* NULL, too: not UTF-8 */
    if (!document || path.overflow || json_object_set(document, "journal", shown ? shown : json_null()) < 0 ||
        json_object_update(document, dump) < 0 || !co_report_derive(document)) {
        json_decref(document);
        document = NULL;
        result = no_memory(err);
    }
    json_decref(shown);
    json_decref(dump);
    *ret = document;
    return result;
}

static int to_sink(const char *data, size_t bytes, void *arg)
{
    struct co_text *text = arg;
    co_text_add_bytes(text, data, bytes);
    return text->overflow ? -1 : 0;
}

static int render_json(const json_t *document, struct co_text *ret)
{
    if (json_dump_callback(document, to_sink, ret, JSON_INDENT(2)) < 0)
        return -1;
    co_text_add_bytes(ret, "\n", 1);
    return 0;
}

int co_report_render(struct co_journal *journal, const char *run_or_null_for_last, enum co_report_format format,
                     struct co_text *ret, struct co_error *err)
{
    json_t *document = NULL;
    int result = co_report_json(journal, run_or_null_for_last, &document, err);
    if (result)
        return result;
    co_text_clear(ret);
    if (ret->max == 0)
        ret->max = REPORT_MAX;
    if (format == CO_REPORT_JSON) {
        if (render_json(document, ret) < 0)
            result = no_memory(err);
    } else {
        struct co_layout layout;
        CO_TEXT_AUTO title = CO_TEXT_INIT;
        co_report_title(document, &title);
        co_layout_begin(&layout, format, ret, co_text_str(&title));
        co_report_content(&layout, document);
        co_layout_end(&layout);
        co_mask_text(ret);
        ret->overflow |= title.overflow;
    }
    json_decref(document);
    if (!result && ret->overflow)
        result = no_memory(err);
    return result;
}

static void list_rows(const json_t *runs, enum co_report_format format, struct co_text *ret)
{
    struct co_layout layout;
    char pause[32];
    co_layout_begin(&layout, format, ret, "runs");
    co_layout_table(&layout, 6);
    co_layout_row(&layout, (const char *const[]){"run", "kind", "began", "by", "outcome", "write pause"});
    for (size_t i = json_array_size(runs); i-- > 0;) {
        const json_t *run = json_array_get(runs, i), *ms = json_object_get(run, "write_pause_ms");
        const char *outcome = json_is_null(json_object_get(run, "ended")) ? "unfinished" : co_report_string(run, "outcome");
        co_layout_row(&layout,
                      (const char *const[]){co_report_string(run, "id"), co_report_string(run, "kind"),
                                            co_report_string(run, "started"), co_report_string(run, "operator"), outcome,
                                            json_is_integer(ms) ? co_format_duration_ms(json_integer_value(ms), pause) : ""});
    }
    co_layout_table_end(&layout);
    co_layout_end(&layout);
}

int co_report_list(struct co_journal *journal, enum co_report_format format, struct co_text *ret, struct co_error *err)
{
    json_t *runs = NULL;
    int result = co_journal_list_runs(journal, &runs, err);
    if (result)
        return result;
    co_text_clear(ret);
    if (ret->max == 0)
        ret->max = REPORT_MAX;
    if (format == CO_REPORT_JSON) {
        json_t *document = envelope("changeover.runs/1");
        if (!document || json_object_set(document, "runs", runs) < 0 || render_json(document, ret) < 0)
            result = no_memory(err);
        json_decref(document);
    } else {
        list_rows(runs, format, ret);
        co_mask_text(ret);
    }
    json_decref(runs);
    if (!result && ret->overflow)
        result = no_memory(err);
    return result;
}
