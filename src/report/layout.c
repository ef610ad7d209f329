/* layout.c - the three writers behind layout.h. */
#include "report/layout.h"

#include <string.h>

static bool html(const struct co_layout *layout)
{
    return layout->format == CO_REPORT_HTML;
}

static bool markdown(const struct co_layout *layout)
{
    return layout->format == CO_REPORT_MARKDOWN;
}

static void add(struct co_layout *layout, const char *text)
{
    co_text_add_bytes(layout->out, text, strlen(text));
}

enum place { IN_LINE, IN_CELL, IN_BLOCK };

/* What one character becomes; NULL: itself. */
static const char *escape(const struct co_layout *layout, enum place place, char c)
{
    if (c == '\n')
        return place == IN_BLOCK ? NULL : place == IN_CELL && layout->format != CO_REPORT_TEXT ? "<br>" : " ";
    if (c == '\t')
        return place == IN_BLOCK ? NULL : " ";
    if ((unsigned char)c < 0x20 || c == 0x7f)
        return "?";
    if (html(layout))
        return c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&quot;" : NULL;
    if (markdown(layout) && place != IN_BLOCK)
        switch (c) {
        case '|':
            return "\\|";
        case '*':
            return "\\*";
        case '_':
            return "\\_";
        case '`':
            return "\\`";
        case '[':
            return "\\[";
        case '\\':
            return "\\\\";
        case '#':
            return "\\#";
        case '<':
            return "&lt;";
        case '&':
            return "&amp;";
        default:
            break;
        }
    return NULL;
}

static void add_escaped(struct co_layout *layout, enum place place, const char *text)
{
    for (; *text; text++) {
        /* C1 controls, as UTF-8: some terminals obey them */
        if ((unsigned char)text[0] == 0xc2 && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] < 0xa0) {
            add(layout, "?");
            text++;
            continue;
        }
        const char *replacement = escape(layout, place, *text);
        if (replacement)
            add(layout, replacement);
        else
            co_text_add_bytes(layout->out, text, 1);
    }
}

static const char html_head[] =
    "<style>\n"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;"
    "color:#1c1c1c;background:#fff}\n"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ccc}\n"
    "table{border-collapse:collapse;margin:.5rem 0}td,th{border:1px solid #ccc;padding:.2rem .6rem;"
    "text-align:left;vertical-align:top;overflow-wrap:anywhere}th{background:#f2f2f2}\n"
    "pre{background:#f6f6f6;border:1px solid #ddd;padding:.5rem;overflow-x:auto}\n"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#e6e6e6}th,pre{background:#262626}"
    "td,th,pre,h2{border-color:#444}}\n"
    "</style>\n";

void co_layout_begin(struct co_layout *layout, enum co_report_format format, struct co_text *out, const char *title)
{
    memset(layout, 0, sizeof *layout);
    layout->format = format;
    layout->out = out;
    layout->cells.max = (size_t)64 << 20;
    if (html(layout)) {
        add(layout, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
                    "content=\"width=device-width, initial-scale=1\">\n<title>");
        add_escaped(layout, IN_LINE, title);
        add(layout, "</title>\n");
        add(layout, html_head);
        add(layout, "</head>\n<body>\n<h1>");
    } else if (markdown(layout)) {
        add(layout, "# ");
    }
    add_escaped(layout, IN_LINE, title);
    add(layout, html(layout) ? "</h1>\n" : "\n");
}

void co_layout_end(struct co_layout *layout)
{
    if (html(layout))
        add(layout, "</body>\n</html>\n");
    co_text_done(&layout->cells);
}

void co_layout_heading(struct co_layout *layout, const char *text)
{
    add(layout, html(layout) ? "<h2>" : markdown(layout) ? "\n## " : "\n");
    add_escaped(layout, IN_LINE, text);
    add(layout, html(layout) ? "</h2>\n" : markdown(layout) ? "\n" : "\n");
    if (layout->format == CO_REPORT_TEXT) {
        for (size_t i = 0; i < strlen(text); i++)
            add(layout, "-");
        add(layout, "\n");
    }
}

void co_layout_paragraph(struct co_layout *layout, const char *text)
{
    add(layout, html(layout) ? "<p>" : markdown(layout) ? "\n" : "");
    add_escaped(layout, IN_LINE, text);
    add(layout, html(layout) ? "</p>\n" : "\n");
}

void co_layout_item(struct co_layout *layout, const char *text)
{
    add(layout, html(layout) ? "<li>" : "- ");
    add_escaped(layout, IN_LINE, text);
    add(layout, html(layout) ? "</li>\n" : "\n");
}

void co_layout_items_end(struct co_layout *layout)
{
    if (markdown(layout))
        add(layout, "\n");
}

/* A Markdown fence that is longer than any run of backticks inside. */
static size_t fence_length(const char *text)
{
    size_t longest = 2, run = 0;
    for (; *text; text++) {
        run = *text == '`' ? run + 1 : 0;
        if (run > longest)
            longest = run;
    }
    return longest + 1;
}

void co_layout_block(struct co_layout *layout, const char *text)
{
    size_t fence = markdown(layout) ? fence_length(text) : 0;
    if (html(layout))
        add(layout, "<pre>");
    for (size_t i = 0; i < fence; i++)
        add(layout, "`");
    if (fence)
        add(layout, "\n");
    size_t bytes = strlen(text);
    while (bytes > 0 && text[bytes - 1] == '\n')
        bytes--;
    for (const char *at = text, *end = text + bytes; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t line_bytes = (size_t)((newline ? newline : end) - at);
        CO_TEXT_AUTO line = CO_TEXT_INIT;
        co_text_set(&line, at, line_bytes);
        if (line.overflow)
            layout->out->overflow = true;
        if (layout->format == CO_REPORT_TEXT)
            add(layout, "    ");
        add_escaped(layout, IN_BLOCK, co_text_str(&line));
        add(layout, "\n");
        at += line_bytes + (newline ? 1 : 0);
    }
    for (size_t i = 0; i < fence; i++)
        add(layout, "`");
    add(layout, html(layout) ? "</pre>\n" : fence ? "\n" : "");
}

/* ---------------------------------------------------------------- tables */

void co_layout_table(struct co_layout *layout, size_t columns)
{
    co_text_clear(&layout->cells);
    layout->columns = columns < CO_LAYOUT_COLUMNS ? columns : CO_LAYOUT_COLUMNS;
    layout->cell_count = 0;
}

void co_layout_row(struct co_layout *layout, const char *const *cells)
{
    for (size_t i = 0; i < layout->columns; i++) {
        const char *cell = cells[i] && cells[i][0] ? cells[i] : "-";
        co_text_add_bytes(&layout->cells, cell, strlen(cell) + 1);
        layout->cell_count++;
    }
}

static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void text_rows(struct co_layout *layout)
{
    size_t widths[CO_LAYOUT_COLUMNS] = {0};
    const char *cell = layout->cells.data;
    for (size_t i = 0; i < layout->cell_count; i++, cell += strlen(cell) + 1) {
        size_t width = width_of(cell), *column = &widths[i % layout->columns];
        if (width > *column && width <= 60) /* a longer one sticks out alone */
            *column = width;
    }
    cell = layout->cells.data;
    for (size_t i = 0; i < layout->cell_count; i++, cell += strlen(cell) + 1) {
        size_t column = i % layout->columns;
        add_escaped(layout, IN_CELL, cell);
        if (column + 1 == layout->columns) {
            add(layout, "\n");
            continue;
        }
        for (size_t pad = width_of(cell); pad < widths[column] + 2; pad++)
            add(layout, " ");
        if (width_of(cell) >= widths[column] + 2)
            add(layout, "  ");
    }
}

static void markdown_rows(struct co_layout *layout)
{
    const char *cell = layout->cells.data;
    add(layout, "\n");
    for (size_t i = 0; i < layout->cell_count; i++, cell += strlen(cell) + 1) {
        size_t column = i % layout->columns;
        add(layout, "| ");
        add_escaped(layout, IN_CELL, cell);
        add(layout, column + 1 == layout->columns ? " |\n" : " ");
        if (i + 1 == layout->columns) {
            for (size_t k = 0; k < layout->columns; k++)
                add(layout, "| --- ");
            add(layout, "|\n");
        }
    }
    add(layout, "\n");
}

static void html_rows(struct co_layout *layout)
{
    const char *cell = layout->cells.data;
    add(layout, "<table>\n");
    for (size_t i = 0; i < layout->cell_count; i++, cell += strlen(cell) + 1) {
        size_t column = i % layout->columns;
        bool head = i < layout->columns;
        if (column == 0)
            add(layout, "<tr>");
        add(layout, head ? "<th>" : "<td>");
        add_escaped(layout, IN_CELL, cell);
        add(layout, head ? "</th>" : "</td>");
        if (column + 1 == layout->columns)
            add(layout, "</tr>\n");
    }
    add(layout, "</table>\n");
}

void co_layout_table_end(struct co_layout *layout)
{
    if (layout->cells.overflow) {
        layout->out->overflow = true;
    } else if (layout->cell_count > 0) {
        if (html(layout))
            html_rows(layout);
        else if (markdown(layout))
            markdown_rows(layout);
        else
            text_rows(layout);
    }
    layout->columns = layout->cell_count = 0;
    co_text_clear(&layout->cells);
}
