/* script.c - how to misbehave, on command of the account `control`, whose own lines no rule and no freeze touches.
 *
 *   rule verb=NAME do=ACTION [ms=N] [count=N] [message=TEXT]   for the next N (default 1) lines with that verb
 *       lose           executed; the connection is closed instead of a reply
 *       late           the connection is closed at once; executed after ms
 *       delay          executed, and answered, after ms
 *       lie            answered as done at once; executed after ms (ms=-1: never)
 *       hang           never executed, never answered
 *       close          the connection is closed, nothing is executed
 *       refuse         answered with an error
 *       restart, restart_after, crash, crash_after   before or after it was executed, without a reply
 *   rules clear=1
 *   freeze on=0|1 [name=PART]    nothing is answered but to control; with name: only sessions so named
 *   cut on=0|1                   the follower's connection to its source
 *   apply paused=0|1 [error=TEXT]
 *   set [apply_delay_ms=] [events_ms=] [idle_timeout_ms=] [sync=]
 *   restart; crash [lose=N]      comes back as another incarnation; exits (lose: without the last N entries)
 *   force [fence=] [closure=] [follower=] [retired=]     what an administrator may do, without any token
 */
#include "server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fk_rule *fk_rule_for(struct fk_server *s, const char *verb)
{
    for (struct fk_rule *rule = s->rules; rule; rule = rule->next) {
        if (rule->count > 0 && strcmp(rule->verb, verb) == 0) {
            rule->count--;
            return rule;
        }
    }
    return NULL;
}

static void add_rule(struct fk_server *s, const struct fk_message *m)
{
    struct fk_rule *rule = calloc(1, sizeof *rule);
    if (!rule) {
        return;
    }
    fk_set(&rule->verb, fk_get_or(m, "verb", ""));
    fk_set(&rule->action, fk_get_or(m, "do", "lose"));
    fk_set(&rule->message, fk_get_or(m, "message", "refused by a rule"));
    rule->ms = fk_get_int(m, "ms", 0);
    rule->count = fk_get_int(m, "count", 1);
    struct fk_rule **end = &s->rules;
    while (*end) {
        end = &(*end)->next;
    }
    *end = rule;
}

static void clear_rules(struct fk_server *s)
{
    while (s->rules) {
        struct fk_rule *rule = s->rules;
        s->rules = rule->next;
        free(rule->verb);
        free(rule->action);
        free(rule->message);
        free(rule);
    }
}

static void freeze(struct fk_server *s, const struct fk_message *m)
{
    bool on = fk_get_int(m, "on", 1) != 0;
    const char *name = fk_get(m, "name");
    if (!name) {
        s->frozen = on;
        return;
    }
    for (struct fk_session *at = s->sessions; at; at = at->next) {
        if (at->account != FK_CONTROL && strstr(at->name, name)) {
            at->frozen = on;
        }
    }
}

static void set_numbers(struct fk_server *s, const struct fk_message *m)
{
    s->d.apply_delay_ms = fk_get_int(m, "apply_delay_ms", s->d.apply_delay_ms);
    s->d.events_ms = fk_get_int(m, "events_ms", s->d.events_ms);
    s->d.idle_timeout_ms = fk_get_int(m, "idle_timeout_ms", s->d.idle_timeout_ms);
    s->d.sync = fk_get_int(m, "sync", s->d.sync) != 0;
}

static void force(struct fk_server *s, const struct fk_message *m)
{
    s->d.fence = fk_get_int(m, "fence", s->d.fence) != 0;
    s->d.closure = fk_get_int(m, "closure", s->d.closure) != 0;
    s->d.follower = fk_get_int(m, "follower", s->d.follower) != 0;
    s->d.retired = fk_get_int(m, "retired", s->d.retired) != 0;
}

bool fk_script(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    const char *verb = m->verb;
    if (strcmp(verb, "rule") == 0) {
        add_rule(s, m);
    } else if (strcmp(verb, "rules") == 0) {
        clear_rules(s);
    } else if (strcmp(verb, "freeze") == 0) {
        freeze(s, m);
    } else if (strcmp(verb, "cut") == 0) {
        s->link_cut = fk_get_int(m, "on", 1) != 0;
        if (s->link_cut) {
            fk_up_close(s, "the link is cut");
        }
    } else if (strcmp(verb, "apply") == 0) {
        const char *error = fk_get(m, "error");
        s->apply_paused = fk_get_int(m, "paused", 0) != 0;
        free(s->apply_error);
        s->apply_error = NULL;
        if (error && *error) {
            fk_set(&s->apply_error, error);
        }
    } else if (strcmp(verb, "set") == 0) {
        set_numbers(s, m);
        fk_store_save(s);
    } else if (strcmp(verb, "force") == 0) {
        force(s, m);
        fk_store_save(s);
    } else if (strcmp(verb, "restart") == 0) {
        fk_restart(s);
    } else if (strcmp(verb, "crash") == 0) {
        int64_t lose = fk_get_int(m, "lose", 0);
        if (lose > 0) {
            fk_log_truncate(s, s->at.seq - lose);
        }
        _exit(9);
    } else {
        return false;
    }
    fk_reply_ok(session, id, "");
    return true;
}
