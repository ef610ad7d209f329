/* machine.c - acts on a side's machine through the host's command prefix: small POSIX scripts whose arguments are
 * words (never spliced into the script), secrets on standard input.
 *
 * Invariant: a script that changes something on a server's machine in a run first compares the marker file's first
 * line with the token, so a process whose run was taken over changes nothing there either. */
#include "pg.h"

#include <stdio.h>

/* What every script begins with. $1 is the data directory, $2 the token ("" outside a run), $3 the folder of the
 * server's programs ("": PATH, or where Debian and Red Hat put them). */
const char pg_machine_prologue[] =
    "d=$1; token=$2; bin=$3; shift 3; export LC_ALL=C; umask 077\n"
    /* While pg_rewind works on the directory, the marker is the one that was kept beside it. */
    "k=\"$d.changeover-keep\"\n"
    "place() { mark=\"$d/" PG_MARKER_FILE "\"; [ ! -f \"$k/complete\" ] || mark=\"$k/" PG_MARKER_FILE "\"; }\n"
    /* A folder is the lock: mkdir either makes it or fails. A dead holder's is taken after it stood for a minute. */
    "lock() { find \"$1\" -maxdepth 0 -mmin +1 -exec rmdir {} \\; 2>/dev/null; mkdir \"$1\" 2>/dev/null; }\n"
    "ours() { case $held in \"$token\"|\"$token\n\"*) [ -n \"$token\" ];; *) false;; esac; }\n"
    /* A rewind begins and ends while others look. What was read where the marker no longer is counts for nothing, and what
     * isn't ours counts when it was read twice: a whole rewind may have gone by in between. */
    "held() { was=; while :; do place; at=$mark; held=; [ ! -f \"$at\" ] || held=$(cat \"$at\" 2>/dev/null); place; "
    "if [ \"$at\" = \"$mark\" ] && { ours || [ \"$was\" = \"$at:$held\" ]; }; then return 0; fi; was=\"$at:$held\"; done; }\n"
    "have() { [ -n \"$token\" ] || return 0; held; ours; }\n"
    "guard() { have || { echo \"the marker on this machine does not hold $token\" >&2; exit 75; }; }\n"
    "tool() { n=$1; shift; if [ -n \"$bin\" ]; then \"$bin/$n\" \"$@\"; else v=; [ -f \"$d/PG_VERSION\" ] && IFS= read -r v < "
    "\"$d/PG_VERSION\"; "
    "for p in \"/usr/lib/postgresql/$v/bin\" \"/usr/pgsql-$v/bin\"; do if [ -n \"$v\" ] && [ -x \"$p/$n\" ]; then \"$p/$n\" "
    "\"$@\"; return; fi; done; "
    "\"$n\" \"$@\"; fi; }\n"
    "up() { [ -f \"$d/postmaster.pid\" ] || return 1; p=; IFS= read -r p < \"$d/postmaster.pid\"; [ -n \"$p\" ] && kill -0 "
    "\"$p\" 2>/dev/null; }\n"
    "state() { tool pg_controldata -D \"$d\" | sed -n 's/^Database cluster state: *//p'; }\n";

enum co_result pg_machine(struct co_call *call, enum co_side side, const char *script, const char *const *args,
                          size_t arg_count, const char *input, const char **ret_out, int *ret_status)
{
    const struct co_host *host = call->host;
    const char *data = host->side_option(call->ctx, side, "host.data_directory");
    const struct co_endpoint_config *endpoint = host->endpoint(call->ctx, side);
    const char *name = side == CO_SIDE_A ? "a" : "b";
    if (!endpoint->has_host || !data)
        return pg_fail(call, CO_NO_EFFECT, CO_E_CONFIG,
                       "Set host.run, host.data_directory, host.start and host.stop of that side.",
                       "commands on the machine of side %s are needed, but its `host` is not configured", name);
    const char *bin = host->side_option(call->ctx, side, "host.bin_directory");
    PG_TEXT full = {0};
    pg_text_add(&full, pg_machine_prologue);
    pg_text_add(&full, script);
    const char *argv[220] = {"sh",          "-c", pg_text_str(&full), "changeover", data, call->run ? call->run->token : "",
                             bin ? bin : ""};
    size_t count = 7;
    if (count + arg_count >= sizeof argv / sizeof *argv)
        return pg_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "%zu arguments are too many for a script", arg_count);
    for (size_t i = 0; i < arg_count; i++)
        argv[count++] = args[i];
    struct co_text *out = host->text_new(call->ctx), *err_out = host->text_new(call->ctx);
    if (full.failed || !out || !err_out)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    struct co_command command = {
        .size = sizeof command, .side = side, .argv = argv, .input = input, .input_bytes = input ? strlen(input) : 0};
    int status = -1;
    enum co_result result = host->run(call->ctx, &command, call->deadline_ns, &status, out, err_out, call->err);
    if (result != CO_DONE)
        return result;
    if (ret_out)
        *ret_out = host->text_get(call->ctx, out, NULL);
    if (ret_status) {
        *ret_status = status;
        if (status != 75)
            return CO_DONE;
    }
    if (status == 0)
        return CO_DONE;
    char line[400];
    pg_one_line(line, sizeof line, host->text_get(call->ctx, err_out, NULL));
    if (status == 75)
        return pg_fail(call, CO_NO_EFFECT, CO_E_CONFLICT,
                       "Another process took this run over, or another run holds the server.", "side %s: %s", name, line);
    return pg_fail(call, CO_EFFECT_UNKNOWN, CO_E_COMMAND,
                   "The command ran as the account that host.run leads to; it must own the data directory.",
                   "a command on the machine of side %s ended with status %d: %s", name, status, *line ? line : "no message");
}

/* act WHICH COMMAND...: the configured command runs in a session of its own, so that the end of a call doesn't cut a start
 * or a stop short; a later call finds it under way. A stop is over when the server is gone: its command may look for that
 * only now and then. */
#define ACT                                                                                                                    \
    "act() {\n"                                                                                                                \
    "a=$1; s=\"$d/changeover.$1\"; o=\"$d/changeover.stop\"; w=none; p=; q=; shift\n" /* a stop that still looks would */      \
    "if [ $a = start ] && [ -f \"$o.state\" ]; then read -r w p < \"$o.state\"\n"     /* take the new server for the old */    \
    "  while [ \"$w\" = running ] && kill -0 \"$p\" 2>/dev/null; do sleep 0.02; done; rm -f \"$o.state\" \"$o.log\"; w=none\n" \
    "fi\n"                                                                                                                     \
    "if [ -f \"$s.state\" ]; then read -r w p < \"$s.state\"; fi\n"                                                            \
    "if [ \"$w\" = running ] && kill -0 \"$p\" 2>/dev/null; then q=$p; else\n"                                                 \
    "  rm -f \"$s.state\"\n"                                                                                                   \
    "  setsid sh -c 's=$1; shift; echo \"running $$\" > \"$s.state\"; \"$@\"; echo \"ended $?\" > \"$s.state.new\"; mv -f "    \
    "\"$s.state.new\" \"$s.state\"' sh \"$s\" \"$@\" < /dev/null > \"$s.log\" 2>&1 &\n  q=$!\n"                                \
    "fi\n"                                                                                                                     \
    "while kill -0 \"$q\" 2>/dev/null; do if [ $a = stop ] && ! up; then return 0; fi; sleep 0.005; done\n"                    \
    "w=; p=1; [ -f \"$s.state\" ] && read -r w p < \"$s.state\"; rm -f \"$s.state\"\n"                                         \
    "if [ \"$w\" = ended ] && [ \"$p\" = 0 ]; then rm -f \"$s.log\"; return 0; fi\n"                                           \
    "tail -n 3 \"$s.log\" >&2; [ \"$p\" -gt 0 ] 2>/dev/null && [ \"$p\" != 75 ] && return \"$p\"; return 1\n"                  \
    "}\n"

/* look: prints "up" or "down", whose turn its next start is, the cluster's state, checkpoint location, timeline. */
#define LOOK                                                                                                                   \
    "look() {\n"                                                                                                               \
    "if up; then echo up; else echo down; fi\n"                                                                                \
    "if [ -f \"$d/standby.signal\" ]; then echo standby; else echo primary; fi\n"                                              \
    "if [ -d \"$k\" ]; then echo half-rewound; fi\n"                                                                           \
    "tool pg_controldata -D \"$d\" | sed -n -e 's/^Database cluster state: */state /p' "                                       \
    "-e 's/^Latest checkpoint location: */checkpoint /p' -e \"s/^Latest checkpoint's TimeLineID: */timeline /p\"\n"            \
    "}\n"

static enum co_result act(struct co_call *call, enum co_side side, const char *option, const char *script, const char **ret_out)
{
    const char *const *argv = call->host->argv_option(call->ctx, (int)side, option);
    const char *name = side == CO_SIDE_A ? "a" : "b";
    if (!argv || !argv[0])
        return pg_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Set it, for example to [pg_ctlcluster, \"15\", main, start].",
                       "%s of side %s is not configured", option, name);
    const char *args[40] = {strchr(option, '.') + 1};
    size_t count = 1;
    for (; argv[count - 1]; count++) {
        if (count >= sizeof args / sizeof *args)
            return pg_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Put it into a script.", "%s of side %s has too many words", option,
                           name);
        args[count] = argv[count - 1];
    }
    /* Whatever this does to the server, the connection to it is not to be trusted any more. */
    if (call->conn && side == call->side)
        call->conn->broken = true;
    struct co_call shorter = *call;
    shorter.deadline_ns -= 100 * PG_MS;
    enum co_result result = pg_machine(&shorter, side, script, args, count, NULL, ret_out, NULL);
    if (result == CO_EFFECT_UNKNOWN && call->err->code == CO_E_TIMEOUT)
        return CO_AGAIN; /* still under way */
    if (result == CO_EFFECT_UNKNOWN && call->err->code == CO_E_COMMAND)
        snprintf(call->err->hint, sizeof call->err->hint,
                 "This was %s of side %s; run it by hand on that machine. The server's log says more.", option, name);
    return result;
}

enum co_result pg_machine_option(struct co_call *call, enum co_side side, const char *option)
{
    /* a server without a marker is in nobody's hands yet */
    return act(call, side, option, ACT "held; [ -z \"$held\" ] || guard\nact \"$@\"\n", NULL);
}

static enum co_result take_state(struct co_call *call, const char *out, struct pg_machine_state *ret)
{
    if (pg_machine_state_parse(out, ret))
        return CO_DONE;
    return pg_fail(call, CO_NO_EFFECT, CO_E_COMMAND, "Set host.bin_directory to the folder of the server's programs.",
                   "pg_controldata on the machine said nothing useful");
}

enum co_result pg_machine_look(struct co_call *call, enum co_side side, struct pg_machine_state *ret)
{
    const char *out = NULL;
    *ret = (struct pg_machine_state){0};
    enum co_result result = pg_machine(call, side, LOOK "look\n", NULL, 0, NULL, &out, NULL);
    return result == CO_DONE ? take_state(call, out, ret) : CO_NO_EFFECT;
}

enum co_result pg_machine_stop(struct co_call *call, enum co_side side, struct pg_machine_state *ret)
{
    const char *out = NULL;
    *ret = (struct pg_machine_state){0};
    enum co_result result =
        act(call, side, "host.stop",
            ACT LOOK "guard\n[ -f \"$d/standby.signal\" ] || { echo 'standby.signal is not there: a restart would make a "
                     "second primary' >&2; exit 1; }\n! up || act \"$@\" && look\n",
            &out);
    return result == CO_DONE ? take_state(call, out, ret) : result;
}

/* ---------------------------------------------------------------- a source that is stopped on purpose */

enum co_result pg_machine_is_down(struct co_call *call)
{
    struct pg_machine_state state;
    enum co_result result = pg_machine_look(call, call->side, &state);
    if (result != CO_DONE)
        return result;
    if (state.up)
        return CO_AGAIN;
    if (!state.clean)
        return pg_fail(call, CO_NO_EFFECT, CO_E_STATE, "The server crashed instead of stopping; the run goes back.",
                       "the server is down but was not shut down cleanly");
    return CO_DONE;
}

/* The server didn't answer, and neither does its machine. */
static enum co_result away(struct co_call *call, enum co_result result)
{
    if (call->err->code != CO_E_CONFLICT && call->err->code != CO_E_INTERRUPTED && call->err->code != CO_E_NOMEM)
        call->err->code = CO_E_UNREACHABLE;
    return result;
}

static enum co_result no_machine(struct co_call *call)
{
    return pg_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "Start it, or see why it can't be reached.",
                   "the server doesn't answer, and its machine's `host` is not configured");
}

enum co_result pg_machine_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info)
{
    if (!pg_machine_ready(call, call->side))
        return no_machine(call);
    const char *out = NULL;
    enum co_result result = pg_machine(call, call->side, "held; printf %s \"$held\"\n", NULL, 0, NULL, &out, NULL);
    if (result != CO_DONE)
        return away(call, CO_NO_EFFECT);
    const char *end = strchr(out, '\n');
    call->host->text_set(call->ctx, ret_token, out, end ? (size_t)(end - out) : strlen(out));
    const char *info = end ? end + 1 : "";
    call->host->text_set(call->ctx, ret_info, info, strlen(info));
    return CO_DONE;
}

enum co_result pg_machine_marker_set(struct co_call *call, const char *expected, const char *token, const char *info)
{
    if (!pg_machine_ready(call, call->side))
        return no_machine(call);
    PG_TEXT content = {0};
    if (token)
        pg_text_addf(&content, "%s\n%s", token, info ? info : "");
    const char *args[] = {expected ? expected : "", token ? "set" : "remove"};
    if (content.failed)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    /* A server that runs has its own lock for the same file, so nothing is changed beside it. */
    enum co_result result = pg_machine(
        call, call->side,
        "token=$1; [ -f \"$d/PG_VERSION\" ] || { echo 'there is no cluster' >&2; exit 1; }\n"
        /* the beginning and the end of a rewind hold it for as long as they copy the marker, which then has another place */
        "n=0; while place; m=$mark; ! lock \"$m.lock\" || { place; [ \"$m\" != \"$mark\" ] && rmdir \"$m.lock\"; }; do\n"
        "  n=$((n + 1)); [ $n -lt 250 ] || { echo 'somebody else is changing the marker' >&2; exit 1; }; sleep 0.02\n"
        "done; trap 'rmdir \"$m.lock\"' EXIT\n"
        "up && { echo 'the server runs and does not answer' >&2; exit 1; }\n"
        "if [ -n \"$token\" ]; then guard; elif [ -s \"$m\" ]; then echo 'there is a marker on this machine' >&2; exit 75; fi\n"
        "if [ \"$2\" = remove ]; then rm -f \"$m\"; else cat > \"$m.new\" && sync \"$m.new\" && mv -f \"$m.new\" \"$m\"; fi && "
        "sync \"$d\"\n",
        args, 2, pg_text_str(&content), NULL, NULL);
    return result == CO_DONE ? CO_DONE : away(call, result);
}
