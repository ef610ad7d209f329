/* commands.c - commands on a side's machine. Invariants: a command's words arrive there byte for byte; what the
 * tool started doesn't go on when the tool, or the connection, is gone; "done" is only said when the command's
 * end was seen on its own machine, not when some client of it ended.
 *
 * How: the words after the prefix are `sh -c SCRIPT sh MARKER BYTES WORD...`. Standard input stays open from here
 * to there for as long as the command runs. The script passes the first BYTES of it to the command and watches the
 * rest: its end means that nobody is there any more, and the command's process group is killed. At the end of
 * the command the script writes "MARKER STATUS" to standard error.
 * Limits: a machine that the network is cut from learns of it only from its own sshd (ClientAliveInterval) or from
 * TCP; a command that leaves the process group (a daemon) is left alone; a prefix that doesn't pass standard
 * input (docker exec without -i) gets neither input nor the watch. In each of these a command that wasn't seen
 * to end is CO_EFFECT_UNKNOWN, as always.
 */
#include "drivers-host/internal.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "base/secret.h"

#define LOOK_MS 30000
#define NASTY "a b'c\"d\\e$f`g\n*~#!;h\t\xc3\xa9"

/* Runs the command with the first bytes of standard input, watches what follows. The inner braces put the watcher
 * out of the shell's sight, so that the shell waits for the command alone. */
static const char watched_script[] =
    "m=$1 n=$2; shift 2; LC_ALL=C; export LC_ALL; exec 3<&0\n"
    "{ { if [ \"$n\" -gt 0 ]; then head -c \"$n\" <&3; fi; exec >/dev/null 2>&1; cat <&3\n"
    "if kill -0 $$; then trap '' TERM; kill -TERM 0; sleep 3; kill -KILL 0; fi; } & } | \"$@\" 3<&-\n"
    "s=$?; printf '\\n%s %s\\n' \"$m\" \"$s\" >&2; exit \"$s\"";
/* The same in a process group of its own; $1 is the script above. */
static const char grouped_script[] =
    "i=$1; shift; if command -v setsid >/dev/null 2>&1; then exec 3<&0; setsid sh -c \"$i\" sh \"$@\" <&3 3<&- & wait $!\n"
    "else exec sh -c \"$i\" sh \"$@\"; fi";
/* Standard input is the command's own. */
static const char plain_script[] =
    "m=$1; shift; LC_ALL=C; export LC_ALL; \"$@\"; s=$?; printf '\\n%s %s\\n' \"$m\" \"$s\" >&2; exit \"$s\"";

/* ---------------------------------------------------------------- words */

struct words {
    char **items; /* NULL-terminated */
    size_t count;
    bool failed;
};

static void words_done(struct words *words)
{
    for (size_t i = 0; i < words->count; i++)
        free(words->items[i]);
    free(words->items);
}

static char *quoted(const char *word)
{
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    co_text_add_bytes(&text, "'", 1);
    for (const char *c = word; *c; c++)
        if (*c == '\'')
            co_text_add_bytes(&text, "'\\''", 4);
        else
            co_text_add_bytes(&text, c, 1);
    co_text_add_bytes(&text, "'", 1);
    return text.overflow ? NULL : co_text_take(&text);
}

/* Adds a word that `shells` shells will evaluate in turn. */
static void words_add(struct words *words, const char *word, unsigned shells)
{
    char *copy = co_strdup(word);
    for (unsigned i = 0; copy && i < shells; i++) {
        char *next = quoted(copy);
        free(copy);
        copy = next;
    }
    char **items = copy ? realloc(words->items, (words->count + 2) * sizeof *items) : NULL;
    if (!items) {
        free(copy);
        words->failed = true;
        return;
    }
    items[words->count++] = copy;
    items[words->count] = NULL;
    words->items = items;
}

static void words_add_all(struct words *words, const char *const *list, unsigned shells)
{
    for (; list && *list; list++)
        words_add(words, *list, shells);
}

/* ---------------------------------------------------------------- one command on its machine */

struct placed {
    const char *const *prefix; /* NULL or empty: this machine */
    struct co_host_known known;
    bool stream; /* standard input is the command's own, nothing watches it */
    char marker[40];
    char bytes[24];
    struct words words;
    struct co_process_spec spec;
};

static void make_marker(char ret[40])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char random[8];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        int64_t now_ns = co_now_ns(); /* it has to be unlikely, not secret */
        memcpy(random, &now_ns, sizeof random);
    }
    static const char name[] = "changeover-end-";
    size_t at = sizeof name - 1;
    memcpy(ret, name, at);
    for (size_t i = 0; i < sizeof random; i++) {
        ret[at++] = digits[random[i] >> 4];
        ret[at++] = digits[random[i] & 15];
    }
    ret[at] = '\0';
}

static bool is_local(const struct placed *placed)
{
    return !placed->prefix || !placed->prefix[0];
}

static int place(struct placed *placed, const char *const *argv, const void *input, size_t input_bytes, struct co_error *err)
{
    unsigned shells = placed->known.shells;
    bool watched = placed->known.watched && !placed->stream;
    make_marker(placed->marker);
    CO_AUTOFREE char *bytes = co_printf("%zu", input_bytes);
    struct words *words = &placed->words;
    words_add_all(words, placed->prefix, 0);
    words_add(words, "sh", shells);
    words_add(words, "-c", shells);
    if (watched && !is_local(placed)) {
        words_add(words, grouped_script, shells);
        words_add(words, "sh", shells);
        words_add(words, watched_script, shells);
    } else {
        words_add(words, watched ? watched_script : plain_script, shells);
        words_add(words, "sh", shells);
    }
    words_add(words, placed->marker, shells);
    if (watched)
        words_add(words, bytes ? bytes : "", shells);
    words_add_all(words, argv, shells);
    if (words->failed || !bytes)
        return co_fail(err, CO_E_NOMEM, "no memory for the command %s", argv[0]);
    placed->spec = (struct co_process_spec){.argv = (const char *const *)words->items,
                                            .input = input,
                                            .input_bytes = input_bytes,
                                            .wake_fd = -1,
                                            .keep_input = watched,
                                            .end_marker = placed->marker};
    return 0;
}

/* What the words are for people: without prefix and script. */
static void trace_command(const struct co_call_state *state, const char *where, const char *const *argv)
{
    if (co_log_verbosity() < CO_DEBUG)
        return;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    for (; *argv; argv++)
        co_text_add(&text, " %s", *argv);
    co_debug("%s: runs on %s:%s", state->what, where, co_text_str(&text));
}

/* The last line that says something, for an error message. */
static const char *last_words(const struct co_text *output, struct co_text *ret)
{
    const char *data = co_text_str(output);
    size_t end = output->bytes;
    while (end > 0 && (data[end - 1] == '\n' || data[end - 1] == '\r' || data[end - 1] == ' '))
        end--;
    size_t start = end;
    while (start > 0 && data[start - 1] != '\n')
        start--;
    co_text_set(ret, data + start, end - start);
    co_mask_text(ret);
    return ret->bytes ? co_text_str(ret) : "it said nothing";
}

/* ---------------------------------------------------------------- what a prefix does to words */

struct look {
    struct co_call_state *state;
    const char *const *prefix;
    const char *side;
    int64_t deadline_ns;
    struct co_error *err;
};

static int look_failed(const struct look *look, const char *complaint, const char *detail)
{
    co_fail(look->err, CO_E_COMMAND, "host.run of side %s (%s ...): %s%s%s", look->side, look->prefix[0], complaint,
            detail ? ": " : "", detail ? detail : "");
    co_hint(look->err,
            "It must be a command prefix that runs the words after it on that machine, prints nothing of its own and asks "
            "nothing, such as [ssh, -o, BatchMode=yes, user@host], [runuser, -u, user, --] or [docker, exec, -i, name].");
    return look->err->code;
}

/* Runs words behind the prefix as they stand. */
static int look_run(const struct look *look, const struct words *words, const char *input, struct co_text *out,
                    struct co_process_result *result)
{
    CO_TEXT_AUTO err_out = CO_TEXT_INIT;
    struct co_process_spec spec = {.argv = (const char *const *)words->items,
                                   .input = input,
                                   .input_bytes = input ? strlen(input) : 0,
                                   .wake_fd = look->state->ep->wake_fd,
                                   .deadline_ns = look->deadline_ns};
    struct co_error err = {0};
    int rc = co_process_run(&spec, out, &err_out, result, &err);
    if (rc == CO_E_INTERRUPTED) {
        *look->err = err;
        return rc;
    }
    if (rc < 0)
        return look_failed(look, err.message, NULL);
    if (result->status != 0) {
        CO_TEXT_AUTO words_text = CO_TEXT_INIT;
        CO_AUTOFREE char *complaint = co_printf("a test command ended with status %d", result->status);
        return look_failed(look, complaint ? complaint : "a test command failed", last_words(&err_out, &words_text));
    }
    return 0;
}

/* Each shell on the way halves the backslashes; the quotes vanish at the first. */
static int count_shells(const struct look *look, unsigned *ret)
{
    static const char *const answers[] = {"a''b\\\\\\\\\\\\\\\\c", "ab\\\\\\\\c", "ab\\\\c", "ab\\c"};
    struct words words = {0};
    words_add_all(&words, look->prefix, 0);
    words_add(&words, "printf", 0);
    words_add(&words, "%s", 0);
    words_add(&words, answers[0], 0);
    CO_TEXT_AUTO out = CO_TEXT_INIT;
    struct co_process_result result;
    int rc =
        words.failed ? co_fail(look->err, CO_E_NOMEM, "no memory for a command") : look_run(look, &words, NULL, &out, &result);
    words_done(&words);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < sizeof answers / sizeof *answers; i++)
        if (strcmp(co_text_str(&out), answers[i]) == 0) {
            *ret = i;
            return 0;
        }
    co_mask_text(&out);
    return look_failed(look, "a test word came back changed", out.bytes ? co_text_str(&out) : "empty");
}

/* Does a nasty word arrive, and standard input with it? */
static int try_script(const struct look *look, struct co_host_known known, bool *ret_fits)
{
    static const char *const argv_input[] = {"sh", "-c", "cat; printf %s \"$1\"", "sh", NASTY, NULL};
    static const char *const argv_plain[] = {"printf", "%s", NASTY, NULL};
    struct placed placed = {.prefix = look->prefix, .known = known};
    const char *input = known.watched ? "xyz" : NULL;
    int rc = place(&placed, known.watched ? argv_input : argv_plain, input, input ? 3 : 0, look->err);
    CO_TEXT_AUTO out = CO_TEXT_INIT;
    CO_TEXT_AUTO err_out = CO_TEXT_INIT;
    struct co_process_result result = {0};
    struct co_error err = {0};
    if (rc == 0) {
        placed.spec.wake_fd = look->state->ep->wake_fd;
        placed.spec.deadline_ns = look->deadline_ns;
        rc = co_process_run(&placed.spec, &out, &err_out, &result, &err);
        if (rc < 0)
            *look->err = err;
    }
    words_done(&placed.words);
    if (rc < 0)
        return rc;
    *ret_fits = result.marked && result.status == 0 && strcmp(co_text_str(&out), known.watched ? "xyz" NASTY : NASTY) == 0;
    if (!*ret_fits)
        co_debug("host.run of side %s, %s: status %d, output '%s', errors '%s'", look->side,
                 known.watched ? "watched" : "plain", result.status, co_text_str(&out), co_text_str(&err_out));
    return 0;
}

static int look_at_host(const struct look *look, struct co_host_known *ret)
{
    struct co_host_known known = {.known = true, .watched = true};
    int rc = count_shells(look, &known.shells);
    bool fits = false;
    if (rc == 0)
        rc = try_script(look, known, &fits);
    if (rc == 0 && !fits) {
        known.watched = false;
        rc = try_script(look, known, &fits);
    }
    if (rc < 0)
        return rc;
    if (!fits)
        return look_failed(look, "words with quotes, spaces or newlines don't arrive as they were sent",
                           "is the login shell there a POSIX shell?");
    co_debug("host.run of side %s: %u shells on the way, %s", look->side, known.shells,
             known.watched ? "commands end with their connection" : "standard input isn't passed on");
    *ret = known;
    return 0;
}

/* Waits until nobody else looks at the host and marks it as looked at by this call, unless it is known. */
static int host_claim(struct co_pair *pair, enum co_side side, int64_t deadline_ns, bool *ret_claimed, struct co_error *err)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / CO_NS_PER_S), .tv_nsec = (long)(deadline_ns % CO_NS_PER_S)};
    struct co_host_known *host = &pair->host[side];
    int rc = 0;
    pthread_mutex_lock(&pair->lock);
    while (!host->known && host->looked_at && rc == 0)
        rc = pthread_cond_timedwait(&pair->host_looked, &pair->lock, &until);
    bool claimed = !host->known && !host->looked_at;
    if (claimed)
        host->looked_at = true;
    bool known = host->known;
    pthread_mutex_unlock(&pair->lock);
    *ret_claimed = claimed;
    if (!known && !claimed)
        return co_fail(err, CO_E_TIMEOUT,
                       "another call was still finding out about the host of side %s when the deadline passed",
                       co_side_name(side));
    return 0;
}

/* Prefix of a side and what is known of it; found out by the first who asks. */
static int host_of(struct co_call_state *state, enum co_side side, int64_t deadline_ns, struct placed *ret,
                   struct co_error *err)
{
    static const char *const here[] = {NULL};
    ret->prefix = here;
    ret->known = (struct co_host_known){.known = true, .watched = true};
    if (side == CO_SIDE_LOCAL)
        return 0;
    struct co_pair *pair = state->pair;
    const char *const *run = (const char *const *)pair->pair_config->side[side].host_run;
    if (!run) {
        co_fail(err, CO_E_CONFIG, "a command must be run on the machine of side %s, and the config has no host.run for it",
                co_side_name(side));
        co_hint(err, "Add `host: {run: [...]}` to side %s of pair %s; [] means this machine.", co_side_name(side),
                co_pair_name(pair));
        return CO_E_CONFIG;
    }
    ret->prefix = run;
    if (!run[0])
        return 0;
    bool claimed;
    int rc = host_claim(pair, side, deadline_ns, &claimed, err);
    if (rc < 0)
        return rc;
    struct co_host_known known = {0};
    if (claimed) {
        struct look look = {.state = state,
                            .prefix = run,
                            .side = co_side_name(side),
                            .deadline_ns = co_min_deadline(deadline_ns, co_deadline_in_ms(LOOK_MS)),
                            .err = err};
        rc = look_at_host(&look, &known);
    }
    pthread_mutex_lock(&pair->lock);
    if (claimed) {
        pair->host[side] = known; /* not known after a failure: the next call looks again */
        pthread_cond_broadcast(&pair->host_looked);
    }
    ret->known = pair->host[side];
    pthread_mutex_unlock(&pair->lock);
    return rc;
}

/* ---------------------------------------------------------------- host functions */

static int check_command(const struct co_command *command, struct co_error *err)
{
    if (!command || !command->argv || !command->argv[0] || (int)command->side < CO_SIDE_A || (int)command->side > CO_SIDE_LOCAL)
        return co_fail(err, CO_E_INTERNAL, "the driver gave a command without words or side");
    return 0;
}

static int place_command(struct co_call_state *state, const struct co_command *command, int64_t deadline_ns, bool stream,
                         struct placed *placed, struct co_error *err)
{
    *placed = (struct placed){.stream = stream};
    int rc = check_command(command, err);
    if (rc == 0)
        rc = host_of(state, command->side, deadline_ns, placed, err);
    if (rc < 0)
        return rc;
    if (!placed->known.watched && (command->input_bytes > 0 || stream)) {
        co_fail(err, CO_E_CONFIG, "%s needs standard input, which host.run of side %s doesn't pass on", command->argv[0],
                co_side_name(command->side));
        co_hint(err, "With docker, use [docker, exec, -i, ...]; with ssh, drop -n and -f.");
        return CO_E_CONFIG;
    }
    rc = place(placed, command->argv, command->input, command->input ? command->input_bytes : 0, err);
    placed->spec.deadline_ns = deadline_ns;
    placed->spec.wake_fd = state->ep->wake_fd;
    trace_command(state, co_side_name(command->side), command->argv);
    return rc;
}

/* It was started and its end wasn't seen. */
static enum co_result not_seen(const struct co_command *command, const struct co_process_result *result,
                               const struct co_text *err_out, struct co_error *err)
{
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    co_fail(err, CO_E_COMMAND,
            "%s on the machine of side %s: the connection ended (status %d) before the command's end was seen: %s",
            command->argv[0], co_side_name(command->side), result->status, last_words(err_out, &text));
    co_hint(err, "Whether it ran is unknown; what it was to change is looked at before anything else is done.");
    return CO_EFFECT_UNKNOWN;
}

enum co_result co_host_run(void *ctx, const struct co_command *command, int64_t deadline_ns, int *ret_status,
                           struct co_text *out, struct co_text *err_out, struct co_error *err)
{
    struct co_call_state *state = ctx;
    CO_TEXT_AUTO own_err_out = CO_TEXT_INIT;
    if (!err_out)
        err_out = &own_err_out;
    if (out)
        co_text_clear(out);
    co_text_clear(err_out);
    deadline_ns = co_min_deadline(deadline_ns, state->deadline_ns);
    struct placed placed;
    int rc = place_command(state, command, deadline_ns, false, &placed, err);
    if (rc < 0) {
        words_done(&placed.words);
        return CO_NO_EFFECT;
    }
    struct co_process_result result;
    rc = co_process_run(&placed.spec, out, err_out, &result, err);
    words_done(&placed.words);
    co_mask_text(err_out);
    if (rc < 0) {
        if (result.started)
            co_error_prefix(err, "%s on the machine of side %s: ", command->argv[0], co_side_name(command->side));
        return result.started ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT;
    }
    if (!result.marked)
        return not_seen(command, &result, err_out, err);
    if (ret_status)
        *ret_status = result.status;
    return CO_DONE;
}

struct pipe_progress {
    struct co_call_state *state;
    const char *what;
    int64_t total_bytes;
    int64_t next_ns;
    void (*tick)(void *arg, int64_t done_bytes);
    void *arg;
};

static void pipe_bytes(int64_t total, void *arg)
{
    struct pipe_progress *progress = arg;
    int64_t now_ns = co_now_ns();
    if (now_ns < progress->next_ns)
        return;
    progress->next_ns = now_ns + (progress->tick ? 1000 : 200) * CO_NS_PER_MS;
    if (progress->tick) {
        progress->tick(progress->arg, total);
        return;
    }
    struct co_progress report = {.what = progress->what, .done = total, .total = progress->total_bytes, .unit = "bytes"};
    co_host_progress(progress->state, &report);
}

static enum co_result pipe_commands(struct co_call_state *state, const struct co_command *from, const struct co_command *to,
                                    struct pipe_progress *progress, int64_t deadline_ns, int *ret_from, int *ret_to,
                                    struct co_text *err_out, struct co_error *err)
{
    CO_TEXT_AUTO own_err_out = CO_TEXT_INIT;
    if (!err_out)
        err_out = &own_err_out;
    co_text_clear(err_out);
    deadline_ns = co_min_deadline(deadline_ns, state->deadline_ns);
    struct placed source = {0}, sink = {0};
    int rc = place_command(state, from, deadline_ns, false, &source, err);
    if (rc == 0)
        rc = place_command(state, to, deadline_ns, true, &sink, err);
    struct co_process_result from_result = {0}, to_result = {0};
    bool tried = rc == 0;
    if (tried) {
        rc = co_process_pipe(&source.spec, &sink.spec, pipe_bytes, progress, err_out, &from_result, &to_result, err);
        co_mask_text(err_out);
    }
    words_done(&source.words);
    words_done(&sink.words);
    if (rc < 0)
        return tried && to_result.started ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT;
    bool from_failed = !from_result.marked || from_result.status != 0;
    if (!from_result.marked && to_result.marked && to_result.status == 0)
        return not_seen(from, &from_result, err_out, err);
    if (!to_result.marked && !from_failed)
        return not_seen(to, &to_result, err_out, err);
    if (ret_from) /* a side that was cut short because the other one failed counts as failed, too */
        *ret_from = from_result.status;
    if (ret_to)
        *ret_to = to_result.marked ? to_result.status : to_result.status > 0 ? to_result.status : 128 + 9;
    return CO_DONE;
}

enum co_result co_host_pipe(void *ctx, const struct co_command *from, const struct co_command *to, const char *what,
                            int64_t total_bytes, int64_t deadline_ns, int *ret_from, int *ret_to, struct co_text *err_out,
                            struct co_error *err)
{
    struct pipe_progress progress = {.state = ctx, .what = what ? what : "copying", .total_bytes = total_bytes};
    return pipe_commands(ctx, from, to, &progress, deadline_ns, ret_from, ret_to, err_out, err);
}

enum co_result co_host_pipe_ticking(void *ctx, const struct co_command *from, const struct co_command *to,
                                    void (*tick)(void *arg, int64_t done_bytes), void *arg, int64_t deadline_ns, int *ret_from,
                                    int *ret_to, struct co_text *err_out, struct co_error *err)
{
    struct pipe_progress progress = {.state = ctx, .what = "copying", .total_bytes = -1, .tick = tick, .arg = arg};
    return pipe_commands(ctx, from, to, &progress, deadline_ns, ret_from, ret_to, err_out, err);
}
