/* cmd_check.c - `check`: the findings of the pre-flight, errors first. */
#include <string.h>

#include "cli/internal.h"

static const char *severity_name(enum co_severity severity)
{
    return severity == CO_ERROR ? "error" : severity == CO_WARNING ? "warning" : "info";
}

static json_t *findings_json(const struct co_findings *findings)
{
    json_t *array = json_array();
    for (int severity = CO_ERROR; severity >= CO_INFO; severity--) {
        for (size_t i = 0; i < findings->count; i++) {
            const struct co_finding_row *row = &findings->rows[i];
            if ((int)row->severity != severity)
                continue;
            json_t *finding = json_object();
            co_json_set(finding, "pair", co_json_text(row->pair));
            co_json_set(finding, "side", row->side < 0 ? json_null() : json_string(co_side_name((enum co_side)row->side)));
            co_json_set(finding, "code", co_json_text(row->code));
            co_json_set(finding, "severity", json_string(severity_name(row->severity)));
            co_json_set(finding, "accepted", json_boolean(row->accepted));
            co_json_set(finding, "message", co_json_text(row->message));
            co_json_set(finding, "remedy", co_json_text(row->remedy ? row->remedy : ""));
            (void)json_array_append_new(array, finding);
        }
    }
    return array;
}

static void render(const json_t *doc, struct co_text *ret)
{
    size_t i, errors = 0, warnings = 0, accepted = 0;
    json_t *finding;
    json_array_foreach(json_object_get(doc, "findings"), i, finding)
    {
        const char *severity = co_get_str(finding, "severity"), *side = co_get_str(finding, "side");
        bool consent = co_get_true(finding, "accepted");
        errors += strcmp(severity, "error") == 0 && !consent;
        warnings += strcmp(severity, "warning") == 0 && !consent;
        accepted += consent;
        CO_TEXT_AUTO where = CO_TEXT_INIT;
        co_text_add(&where, "%s%s", *side ? "side " : "", side);
        const char *pair = co_get_str(finding, "pair"), *said = co_without_pair(co_get_str(finding, "message"), pair);
        bool named =
            *side && strncmp(said, co_text_str(&where), where.bytes) == 0; /* an error of the connection names its side */
        co_text_add(ret, "%-7s %s%s%s%s%s [%s]%s\n", severity, pair, *side || named ? ", " : "",
                    named ? "" : co_text_str(&where), named ? "" : ": ", said, co_get_str(finding, "code"),
                    consent ? " (accepted)" : "");
        if (*co_get_str(finding, "remedy"))
            co_text_add(ret, "        %s\n", co_get_str(finding, "remedy"));
    }
    if (*co_get_str(doc, "stage"))
        co_text_add(ret, "checked for a %s: ", co_get_str(doc, "stage"));
    co_text_add(ret, "%zu error%s, %zu warning%s", errors, errors == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
    co_text_add(ret, accepted ? ", %zu accepted\n" : "\n", accepted);
    if (errors > 0)
        co_text_add(ret, "next: mend the errors (or consent to one with `accept: [its-code]`) and check again\n");
    else if (strcmp(co_get_str(doc, "stage"), "setup") == 0)
        co_text_add(ret, "next: `changeover setup --dry-run`, then `changeover setup`\n");
    else if (strcmp(co_get_str(doc, "stage"), "cutover") == 0)
        co_text_add(ret, "next: `changeover lag --wait`, then `changeover cutover`\n");
}

int co_cmd_check(struct co_cli *cli)
{
    struct co_findings findings = {0};
    struct co_error err = {0};
    int stage = 0;
    const char *name = cli->value[CO_OPTION_FOR];
    if (name && strcmp(name, "setup") == 0)
        stage = CO_CHECK_SETUP;
    else if (name && strcmp(name, "cutover") == 0)
        stage = CO_CHECK_CUTOVER;
    else if (name)
        return co_cli_usage(cli, "--for: expected setup or cutover, got \"%s\"", name);
    int code = co_cli_open(cli, CO_CLI_LOOK_JOURNAL);
    if (code != 0)
        return code;
    code = (int)co_check(&cli->session, (enum co_check_stage)stage, cli->given[CO_OPTION_STRICT], &findings, &err);
    if (findings.stage)
        co_json_set(cli->doc, "stage", json_string(findings.stage == CO_CHECK_SETUP ? "setup" : "cutover"));
    if (err.code != 0)
        co_cli_error(cli, &err);
    co_json_set(cli->doc, "findings", findings_json(&findings));
    cli->render = render;
    co_findings_done(&findings);
    return code;
}
