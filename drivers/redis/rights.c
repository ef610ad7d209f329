/* rights.c - what Redis 6 needs besides min-replicas-to-write: rights that are taken from every ACL user.
 *
 * Before 7.0 a Lua script writes past min-replicas-to-write. ACLs exist from 6.0 on, so there a fence or closure also
 * takes @write and @scripting from every user that has any of them, the default user and the tool's own included
 * (which needs neither: CONFIG, REPLICAOF, ACL and MULTI are in neither category). Commands that were queued in MULTI
 * before are checked again at EXEC (multi.c of 6.0.20 and 6.2.16).
 *
 * Originals are kept on the server itself: for each such user another one, "changeover.kept.<name>", which is off and has no
 * password and no keys, holds the rules as they were. It is made, saved and removed in the same transaction as the
 * taking, so whoever opens the server has the originals, after a restart and from another machine too. Passwords are
 * never read into anything that is kept.
 *
 * Invariant: "taken" is judged from the rules of every user that the server lists, against the server's own lists of
 * categories, each time anew: a user that was added or given rights meanwhile is seen.
 */
#include "rd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT "changeover.kept."
#define SCRATCH "changeover.scratch"
#define LINE_ROOM 1000 /* before 7.0 a config line stays below 1024 bytes */

bool rd_rights_needed(const struct rd_version *version)
{
    return version->compatible >= 600 && version->compatible < 700;
}

/* ---------------------------------------------------------------- lines of ACL LIST: "user <name> on ... +@all -@x" */

struct user {
    const char *name, *rules; /* into the list */
    size_t name_bytes, line_bytes, rules_bytes;
    bool kept;
};

static bool next_user(const char **list, struct user *ret)
{
    while (**list) {
        const char *line = *list, *end = strchr(line, '\n'), *rest, *rules;
        size_t bytes = end ? (size_t)(end - line) : strlen(line);

        *list = end ? end + 1 : line + bytes;
        if (bytes < 6 || memcmp(line, "user ", 5) != 0)
            continue;
        memset(ret, 0, sizeof(*ret));
        ret->line_bytes = bytes;
        ret->name = line + 5;
        while (ret->name_bytes < bytes - 5 && ret->name[ret->name_bytes] != ' ')
            ret->name_bytes++;
        ret->kept = ret->name_bytes > strlen(KEPT) && memcmp(ret->name, KEPT, strlen(KEPT)) == 0;
        /* the rules come last and begin with one of these two; a user may be named like one */
        rest = ret->name + ret->name_bytes;
        rules = memmem(rest, (size_t)(line + bytes - rest), " +@all", 6);
        if (!rules)
            rules = memmem(rest, (size_t)(line + bytes - rest), " -@all", 6);
        ret->rules = rules ? rules + 1 : line + bytes;
        ret->rules_bytes = (size_t)(line + bytes - ret->rules);
        return true;
    }
    return false;
}

static bool find_user(const char *list, const char *name, size_t bytes, struct user *ret)
{
    while (next_user(&list, ret)) {
        if (ret->name_bytes == bytes && memcmp(ret->name, name, bytes) == 0)
            return true;
    }
    return false;
}

static bool find_kept(const char *list, const struct user *user, struct user *ret)
{
    while (next_user(&list, ret)) {
        if (ret->kept && ret->name_bytes == user->name_bytes + strlen(KEPT) &&
            memcmp(ret->name + strlen(KEPT), user->name, user->name_bytes) == 0)
            return true;
    }
    return false;
}

/* "user changeover.kept.app ..." */
bool rd_rights_is_kept(const char *line)
{
    return strncmp(line, "user " KEPT, strlen("user " KEPT)) == 0;
}

bool rd_rights_are_kept_for(const char *list, const char *name, size_t bytes)
{
    struct user user = {.name = name, .name_bytes = bytes}, kept;

    return list && find_kept(list, &user, &kept);
}

char *rd_rights_join(const redisReply *list)
{
    size_t bytes = 1;
    char *text, *to;

    for (size_t at = 0; at < list->elements; at++)
        bytes += strlen(rd_text(list->element[at])) + 1;
    text = to = malloc(bytes);
    if (!text)
        return NULL;
    for (size_t at = 0; at < list->elements; at++) {
        size_t part = strlen(rd_text(list->element[at]));

        memcpy(to, rd_text(list->element[at]), part);
        to += part;
        *to++ = '\n';
    }
    *to = '\0';
    return text;
}

/* ---------------------------------------------------------------- what a user may do */

/* The commands of @write and @scripting, and which of them are in each category: the server's own answer to ACL CAT. */
struct rd_rights_map {
    char **commands;
    size_t command_count, category_count;
    struct {
        char *name;
        bool *has; /* [command_count] */
    } categories[RD_MAX_CATEGORIES];
};

void rd_rights_map_free(struct rd_rights_map *map)
{
    if (!map)
        return;
    for (size_t at = 0; at < map->command_count; at++)
        free(map->commands[at]);
    for (size_t at = 0; at < map->category_count; at++) {
        free(map->categories[at].name);
        free(map->categories[at].has);
    }
    free(map->commands);
    free(map);
}

static size_t command_index(const struct rd_rights_map *map, const char *name, size_t bytes)
{
    size_t at = 0;

    while (at < map->command_count && (strncasecmp(map->commands[at], name, bytes) != 0 || map->commands[at][bytes] != '\0'))
        at++;
    return at;
}

static bool add_commands(struct rd_rights_map *map, const redisReply *list)
{
    char **grown = realloc(map->commands, (map->command_count + list->elements + 1) * sizeof(*grown));

    if (!grown)
        return false;
    map->commands = grown;
    for (size_t at = 0; at < list->elements; at++) {
        const char *name = rd_text(list->element[at]);

        if (command_index(map, name, strlen(name)) < map->command_count)
            continue;
        map->commands[map->command_count] = strdup(name);
        if (!map->commands[map->command_count])
            return false;
        map->command_count++;
    }
    return true;
}

static bool is_taken(const char *category)
{
    return strcmp(category, "write") == 0 || strcmp(category, "scripting") == 0;
}

static bool fill_map(struct rd_rights_map *map, const redisReply *names, const struct rd_replies *members)
{
    for (size_t at = 0; at < members->count; at++) {
        if (is_taken(rd_text(names->element[at])) && !add_commands(map, members->reply[at]))
            return false;
    }
    for (size_t at = 0; at < members->count; at++) {
        const redisReply *list = members->reply[at];
        bool *has = calloc(map->command_count + 1, sizeof(*has));

        if (!has)
            return false;
        map->categories[at].has = has;
        map->categories[at].name = strdup(rd_text(names->element[at]));
        map->category_count = at + 1;
        if (!map->categories[at].name)
            return false;
        for (size_t item = 0; item < list->elements; item++) {
            const char *name = rd_text(list->element[item]);
            size_t index = command_index(map, name, strlen(name));

            if (index < map->command_count)
                has[index] = true;
        }
    }
    return true;
}

struct rd_rights_map *rd_rights_map_new(const redisReply *names, const struct rd_replies *members)
{
    struct rd_rights_map *map = calloc(1, sizeof(*map));

    if (map && !fill_map(map, names, members)) {
        rd_rights_map_free(map);
        return NULL;
    }
    return map;
}

enum co_result rd_rights_learn(struct co_call *call, struct co_conn *conn)
{
    RD_REPLIES(names);
    RD_REPLIES(members);
    enum co_result result;
    struct rd_rights_map *map;

    if (conn->rights || !rd_rights_needed(&conn->version))
        return CO_DONE;
    rd_out(conn, "ACL", "CAT", NULL);
    result = rd_one(call, conn, false, "the ACL categories can't be listed", &names);
    if (result != CO_DONE)
        return result;
    if (names.reply[0]->type != REDIS_REPLY_ARRAY || names.reply[0]->elements > RD_MAX_CATEGORIES)
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "", "ACL CAT lists no categories that are known");
    for (size_t at = 0; at < names.reply[0]->elements; at++)
        rd_out(conn, "ACL", "CAT", rd_text(names.reply[0]->element[at]), NULL);
    result = rd_one(call, conn, false, "the ACL categories can't be listed", &members);
    if (result != CO_DONE)
        return result;
    map = rd_rights_map_new(names.reply[0], &members);
    if (!map)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    if (map->command_count == 0) {
        rd_rights_map_free(map);
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "", "the categories write and scripting are empty");
    }
    conn->rights = map;
    return CO_DONE;
}

/* One rule after the other, as the server applies them: +@all, -@write, +get, -config|set ... */
static void apply_rule(const struct rd_rights_map *map, const char *rule, size_t bytes, bool *may)
{
    bool grant = *rule == '+';
    size_t at;

    if (bytes > 2 && rule[1] == '@') {
        bool all = bytes == 5 && memcmp(rule + 2, "all", 3) == 0;
        const bool *has = NULL;

        for (at = 0; !all && !has && at < map->category_count; at++) {
            if (strlen(map->categories[at].name) == bytes - 2 && memcmp(map->categories[at].name, rule + 2, bytes - 2) == 0)
                has = map->categories[at].has;
        }
        for (at = 0; at < map->command_count; at++) {
            if (has ? has[at] : all || grant) /* a category that isn't known gives everything */
                may[at] = grant;
        }
        return;
    }
    for (at = 1; at < bytes && rule[at] != '|'; at++) {
    }
    if (grant || at == bytes) { /* a subcommand that is taken leaves the others */
        size_t index = command_index(map, rule + 1, at - 1);

        if (index < map->command_count)
            may[index] = grant;
    }
}

/* Whether a user with these rules may run anything of @write or @scripting. */
static bool may_write(const struct rd_rights_map *map, const char *rules, size_t bytes, bool *scratch)
{
    memset(scratch, 0, map->command_count * sizeof(*scratch));
    for (size_t at = 0; at < bytes;) {
        size_t word = 0;

        while (at + word < bytes && rules[at + word] != ' ')
            word++;
        if (word > 1 && (rules[at] == '+' || rules[at] == '-'))
            apply_rule(map, rules + at, word, scratch);
        at += word + 1;
    }
    for (size_t at = 0; at < map->command_count; at++) {
        if (scratch[at])
            return true;
    }
    return false;
}

enum rd_rights rd_rights_judge(const struct co_conn *conn, const char *list)
{
    struct user user;
    bool kept = false, writes = false, *scratch;

    if (!rd_rights_needed(&conn->version))
        return RD_RIGHTS_NOT_NEEDED;
    if (!list || !conn->rights)
        return RD_RIGHTS_UNKNOWN;
    scratch = calloc(conn->rights->command_count + 1, sizeof(*scratch));
    if (!scratch)
        return RD_RIGHTS_UNKNOWN;
    while (next_user(&list, &user)) {
        if (user.kept)
            kept = true;
        else if (may_write(conn->rights, user.rules, user.rules_bytes, scratch))
            writes = true;
    }
    free(scratch);
    return writes ? kept ? RD_RIGHTS_PARTLY : RD_RIGHTS_FREE : kept ? RD_RIGHTS_TAKEN : RD_RIGHTS_NOBODYS;
}

/* ---------------------------------------------------------------- taking and giving back, in a transaction */

/* ACL SETUSER <name> <first...> <each of the rules> <last...> */
static void out_set_user(struct co_conn *conn, const char *name, const char *first, const char *rules, size_t bytes,
                         const char *last)
{
    RD_TEXT text = NULL;
    const char **argv;
    size_t words = 0;
    char *save = NULL;

    if (asprintf(&text, "%s %.*s %s", first, (int)bytes, rules, last) < 0) {
        text = NULL;
        conn->nomem = true;
        return;
    }
    argv = calloc(strlen(text) / 2 + 5, sizeof(*argv));
    if (!argv) {
        conn->nomem = true;
        return;
    }
    argv[words++] = "ACL";
    argv[words++] = "SETUSER";
    argv[words++] = name;
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[words++] = word;
    rd_out_list(conn, words, argv);
    free(argv);
}

static char *kept_name(const struct user *user)
{
    char *name;

    return asprintf(&name, KEPT "%.*s", (int)user->name_bytes, user->name) < 0 ? NULL : name;
}

void rd_out_take_rights(struct co_conn *conn, const struct rd_state *state)
{
    const char *list = state->users;
    struct user user, kept;
    bool *scratch;

    if (!conn->rights || !list)
        return;
    scratch = calloc(conn->rights->command_count + 1, sizeof(*scratch));
    if (!scratch)
        conn->nomem = true;
    for (size_t count = 0; scratch && next_user(&list, &user) && count < RD_MAX_USERS;) {
        RD_TEXT name = rd_strndup(user.name, user.name_bytes);
        RD_TEXT keep = kept_name(&user);

        if (user.kept || !may_write(conn->rights, user.rules, user.rules_bytes, scratch))
            continue;
        if (!name || !keep) {
            conn->nomem = true;
            break;
        }
        if (!find_kept(state->users, &user, &kept)) /* else its originals are there, and what it has now is not them */
            out_set_user(conn, keep, "reset", user.rules, user.rules_bytes, "");
        rd_out(conn, "ACL", "SETUSER", name, "-@write", "-@scripting", NULL);
        count++;
    }
    free(scratch);
}

void rd_out_give_rights(struct co_conn *conn, const struct rd_state *state)
{
    const char *list = state->users;
    struct user kept, user;

    if (!rd_rights_needed(&conn->version) || !list)
        return;
    for (size_t count = 0; next_user(&list, &kept) && count < RD_MAX_USERS;) {
        RD_TEXT keep = rd_strndup(kept.name, kept.name_bytes);

        if (!kept.kept)
            continue;
        if (!keep) {
            conn->nomem = true;
            return;
        }
        /* only command rules: passwords and keys may have been changed meanwhile, and a removed user stays removed */
        if (find_user(state->users, keep + strlen(KEPT), strlen(keep + strlen(KEPT)), &user))
            out_set_user(conn, keep + strlen(KEPT), "-@all", kept.rules, kept.rules_bytes, "");
        rd_out(conn, "ACL", "DELUSER", keep, NULL);
        count++;
    }
}

void rd_out_persist(struct co_conn *conn, const struct rd_state *state)
{
    rd_out(conn, "CONFIG", "REWRITE", NULL); /* writes users too, unless there is a file of their own */
    if (rd_rights_needed(&conn->version) && state->acl_file)
        rd_out(conn, "ACL", "SAVE", NULL);
}

/* ---------------------------------------------------------------- beforehand */

static enum co_result unfit(struct co_call *call, const struct user *user, const char *why)
{
    return rd_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED,
                   "Shorten the user's rules (ACL SETUSER), or keep users in a file of their own (aclfile).",
                   "the rights of ACL user %.*s can't be taken and given back: %s", (int)user->name_bytes, user->name, why);
}

/* Sets a user that is off to the rules, takes the rights, and removes it again, all in one transaction that nobody sees. */
static enum co_result try_user(struct co_call *call, const struct rd_state *state, const struct user *user, bool *scratch)
{
    RD_REPLIES(replies);
    struct co_conn *conn = call->conn;
    RD_SECRET before = NULL; /* hashes of passwords */
    RD_SECRET after = NULL;
    struct user as_before, as_after;
    size_t fixed = user->line_bytes - user->rules_bytes;
    enum co_result result;

    rd_out(conn, "MULTI", NULL);
    out_set_user(conn, SCRATCH, "reset", user->rules, user->rules_bytes, "");
    rd_out(conn, "ACL", "LIST", NULL);
    rd_out(conn, "ACL", "SETUSER", SCRATCH, "-@write", "-@scripting", NULL);
    rd_out(conn, "ACL", "LIST", NULL);
    rd_out(conn, "ACL", "DELUSER", SCRATCH, NULL);
    result = rd_exec(call, conn, true, "the ACL users can't be changed", &replies);
    if (result == CO_DONE && rd_exec_failed(call, &replies, "the ACL users can't be changed"))
        return CO_NO_EFFECT;
    if (result != CO_DONE)
        return result;
    before = rd_rights_join(replies.exec->element[1]);
    after = rd_rights_join(replies.exec->element[3]);
    if (!before || !after)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    if (!find_user(before, SCRATCH, strlen(SCRATCH), &as_before) || !find_user(after, SCRATCH, strlen(SCRATCH), &as_after))
        return unfit(call, user, "a trial user wasn't made");
    if (as_before.rules_bytes != user->rules_bytes || memcmp(as_before.rules, user->rules, user->rules_bytes) != 0)
        return unfit(call, user, "the same rules given to another user read differently");
    if (may_write(conn->rights, as_after.rules, as_after.rules_bytes, scratch))
        return unfit(call, user, "it could still write");
    if (!state->acl_file &&
        (fixed + as_after.rules_bytes > LINE_ROOM || as_before.line_bytes + user->name_bytes + strlen(KEPT) > LINE_ROOM))
        return unfit(call, user,
                     "its line in the config file would be longer than the 1023 bytes that CONFIG REWRITE can handle");
    return CO_DONE;
}

enum co_result rd_rights_try(struct co_call *call, const struct rd_state *state)
{
    const char *list = state->users;
    struct user user;
    enum co_result result = CO_DONE;
    bool *scratch;
    size_t count = 0;

    if (!rd_rights_needed(&call->conn->version))
        return CO_DONE;
    if (!list || !call->conn->rights)
        return rd_fail(call, CO_NO_EFFECT, CO_E_PRIVILEGE, "Grant the account what docs/redis.md lists.",
                       "the ACL users can't be listed, and before 7.0 the fence needs them");
    scratch = calloc(call->conn->rights->command_count + 1, sizeof(*scratch));
    if (!scratch)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    while (result == CO_DONE && next_user(&list, &user)) {
        if (user.kept || !may_write(call->conn->rights, user.rules, user.rules_bytes, scratch))
            continue;
        if (++count > RD_MAX_USERS)
            result = unfit(call, &user, "there are more users than a run handles");
        else
            result = try_user(call, state, &user, scratch);
    }
    free(scratch);
    return result;
}

void rd_rights_describe(struct co_call *call, const struct rd_state *state, bool give, struct co_text *ret)
{
    const char *list = state->users;
    struct user user;
    bool *scratch;

    if (!list || !call->conn->rights)
        return;
    scratch = calloc(call->conn->rights->command_count + 1, sizeof(*scratch));
    while (scratch && next_user(&list, &user)) {
        if (give && user.kept)
            call->host->text_add(call->ctx, ret, "ACL SETUSER %.*s -@all %.*s\nACL DELUSER %.*s\n",
                                 (int)(user.name_bytes - strlen(KEPT)), user.name + strlen(KEPT), (int)user.rules_bytes,
                                 user.rules, (int)user.name_bytes, user.name);
        else if (!user.kept && !give && may_write(call->conn->rights, user.rules, user.rules_bytes, scratch))
            call->host->text_add(call->ctx, ret, "ACL SETUSER " KEPT "%.*s reset %.*s\nACL SETUSER %.*s -@write -@scripting\n",
                                 (int)user.name_bytes, user.name, (int)user.rules_bytes, user.rules, (int)user.name_bytes,
                                 user.name);
    }
    free(scratch);
}

static int compare_words(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "on ~* +@all -@admin +b +a" without passwords, into `to`. The server lists single commands in an order that changes with
 * each start and says nothing: they are sorted. */
static void write_fact(char *rest, char *to, char **words)
{
    size_t count = 0, single;
    char *save = NULL;

    *to = '\0';
    for (char *word = strtok_r(rest, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        if (*word != '#' && *word != '>' && *word != '<')
            words[count++] = word;
    }
    for (single = count; single > 0 && strchr("+-", *words[single - 1]) && words[single - 1][1] != '@'; single--) {
    }
    qsort(words + single, count - single, sizeof(*words), compare_words);
    for (size_t at = 0; at < count; at++)
        to += snprintf(to, strlen(words[at]) + 2, "%s%s", at ? " " : "", words[at]);
}

/* Flags, keys and rules of every user that is the operators' own. */
void rd_rights_facts(struct co_call *call, const redisReply *list)
{
    for (size_t at = 0; list->type == REDIS_REPLY_ARRAY && at < list->elements; at++) {
        const char *line = rd_text(list->element[at]);
        size_t bytes = strlen(line), name_bytes = bytes > 5 ? strcspn(line + 5, " ") : 0;
        RD_TEXT name = NULL;
        RD_TEXT fact = malloc(bytes + 1);
        char *rest = name_bytes ? strdup(line + 5 + name_bytes) : NULL, **words = calloc(bytes / 2 + 1, sizeof(*words));

        if (asprintf(&name, "acl user %.*s", (int)name_bytes, name_bytes ? line + 5 : "") < 0)
            name = NULL;
        if (rest && fact && words && name && strncmp(line, "user ", 5) == 0 && !rd_rights_is_kept(line)) {
            write_fact(rest, fact, words);
            call->host->fact(call->ctx, "setting", name, fact);
        }
        if (rest)
            explicit_bzero(rest, bytes - 5 - name_bytes);
        free(rest);
        free(words);
    }
}
