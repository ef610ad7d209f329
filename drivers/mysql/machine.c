/* machine.c - acts on a side's machine through the host's command prefix: small POSIX scripts whose arguments are words, never
 * spliced into the script; what is secret goes in on standard input.
 */
#include "setup.h"

#include <stdlib.h>

/* What every script begins with. $1 is the data directory, $2 the folder of the server's programs (""; PATH and where systems
 * put servers), $3 the server's own configuration ("": where its programs look by themselves). `up PID`: does that process
 * run? */
#define PROLOGUE                                                                                                               \
    "d=${1%/} bin=$2 own=$3; shift 3; LC_ALL=C; export LC_ALL; umask 077; c=\"$d.changeover-copy\"\n"                          \
    "[ -n \"$bin\" ] && PATH=\"$bin:$PATH\" || PATH=\"$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/libexec\"; export PATH\n"     \
    "up() { { kill -0 \"$1\" 2>/dev/null || [ -d \"/proc/$1\" ]; } && ! grep -qs '^State:[[:space:]]*Z' \"/proc/$1/status\"; " \
    "}\n"                                                                                                                      \
    "[ -z \"$own\" ] || [ -r \"$own\" ] || { echo \"host.defaults_file can't be read there: $own\" >&2; exit 1; }\n"           \
    "state() { printf '%s\\n' \"$*\" > \"$c.state.new\" && mv -f \"$c.state.new\" \"$c.state\"; }\n"

bool my_machine_ready(struct co_call *call, enum co_side side)
{
    return call->host->endpoint(call->ctx, side)->has_host && call->host->side_option(call->ctx, side, "host.data_directory");
}

enum co_result my_machine_command(struct co_call *call, const struct my_machine *machine, struct my_words *words,
                                  struct co_command *ret)
{
    const char *bin = call->host->side_option(call->ctx, machine->side, "host.bin_directory");
    const char *own = call->host->side_option(call->ctx, machine->side, "host.defaults_file");
    const char *data = machine->data ? machine->data : call->host->side_option(call->ctx, machine->side, "host.data_directory");
    my_str_add(&words->script, PROLOGUE);
    my_str_add(&words->script, machine->script);
    const char *const first[] = {"sh",           "-c",          my_cstr(&words->script), "changeover", data ? data : "",
                                 bin ? bin : "", own ? own : ""};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        my_words_add(words, first[i]);
    for (size_t i = 0; machine->args && machine->args[i]; i++)
        my_words_add(words, machine->args[i]);
    if (words->failed || words->script.overflow)
        return my_out_of_memory(call);
    *ret = (struct co_command){.size = sizeof *ret,
                               .side = machine->side,
                               .argv = words->argv,
                               .input = machine->input,
                               .input_bytes = machine->input ? strlen(machine->input) : 0};
    return CO_DONE;
}

enum co_result my_machine_run(struct co_call *call, const struct my_machine *machine, const char **ret_out)
{
    MY_WORDS_AUTO words = {0};
    struct co_command command;
    struct co_text *out = call->host->text_new(call->ctx), *err_out = call->host->text_new(call->ctx);
    enum co_result r = my_machine_command(call, machine, &words, &command);
    if (r != CO_DONE || !out || !err_out)
        return r != CO_DONE ? r : my_out_of_memory(call);
    int status = -1;
    r = call->host->run(call->ctx, &command, call->deadline_ns, &status, out, err_out, call->err);
    if (r != CO_DONE)
        return r;
    if (ret_out)
        *ret_out = call->host->text_get(call->ctx, out, NULL);
    if (status == 0)
        return CO_DONE;
    size_t bytes = 0;
    const char *said = call->host->text_get(call->ctx, err_out, &bytes);
    while (bytes && (said[bytes - 1] == '\n' || said[bytes - 1] == ' '))
        bytes--;
    size_t from = bytes;
    while (from && bytes - from < 400 && said[from - 1] != '\n')
        from--;
    return my_fail(call, CO_EFFECT_UNKNOWN, CO_E_COMMAND,
                   "It ran as the account that host.run leads to, which has to own the data directory or be root.",
                   "a command on the machine of side %s ended with status %d: %.*s", machine->side == CO_SIDE_A ? "a" : "b",
                   status, (int)(bytes - from), said + from);
}

#define LAST_WORDS 500

void my_add_last_words(struct co_call *call, const struct co_text *said, struct my_str *ret)
{
    size_t bytes = 0;
    const char *text = said ? call->host->text_get(call->ctx, said, &bytes) : NULL;
    while (bytes && strchr("\n\r\t ", text[bytes - 1]))
        bytes--;
    const char *from = text + (bytes > LAST_WORDS ? bytes - LAST_WORDS : 0);
    if (!bytes)
        return;
    my_str_add(ret, from == text ? ": " : ": ...");
    my_str_addn(ret, from, (size_t)(text + bytes - from));
}

void my_words_add(struct my_words *w, const char *word)
{
    if (w->count + 2 > w->capacity) {
        size_t capacity = w->capacity ? w->capacity * 2 : 32;
        const char **grown = realloc(w->argv, capacity * sizeof *grown);
        if (!grown) {
            w->failed = true;
            return;
        }
        w->argv = grown;
        w->capacity = capacity;
    }
    w->argv[w->count++] = word;
    w->argv[w->count] = NULL;
}

void my_words_done(struct my_words *w)
{
    free(w->argv);
    my_str_done(&w->script);
}
