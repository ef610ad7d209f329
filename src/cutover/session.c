/* session.c - the pairs a command works on, and the journal they share. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cutover/cutover.h"

static bool named(const char *const *names, const char *name)
{
    if (!names || !names[0])
        return true;
    for (size_t i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static int know_all(const struct co_config *config, const char *const *names, struct co_error *err)
{
    for (size_t i = 0; names && names[i]; i++) {
        bool known = false;
        for (size_t k = 0; k < config->pair_count; k++)
            known = known || strcmp(config->pairs[k].name, names[i]) == 0;
        if (!known) {
            co_fail(err, CO_E_CONFIG, "%s has no pair named %s", config->path, names[i]);
            return err->code;
        }
    }
    return 0;
}

int co_session_open(struct co_session *session, const struct co_config *config, const char *const *pair_names,
                    struct co_error *err)
{
    *session = (struct co_session){.config = config, .wake_fd = -1, .config_path = config->path};
    int failed = know_all(config, pair_names, err);
    if (failed)
        return failed;
    session->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    session->pairs = calloc(config->pair_count ? config->pair_count : 1, sizeof *session->pairs);
    if (session->wake_fd < 0 || !session->pairs)
        failed = co_fail(err, CO_E_NOMEM, "no memory or no descriptor");
    for (size_t i = 0; i < config->pair_count && !failed; i++) {
        if (!named(pair_names, config->pairs[i].name)) {
            session->partial = true;
            continue;
        }
        failed = co_pair_new(config, i, &session->pairs[session->pair_count], err);
        if (!failed)
            session->pair_count++;
    }
    if (failed)
        co_session_close(session);
    return failed;
}

int co_session_use_journal(struct co_session *session, enum co_journal_mode mode, struct co_error *err)
{
    struct co_run_row last;
    int failed = co_journal_open(session->config->journal, session->config->migration, mode, &session->journal, err);
    bool known = !failed && co_journal_last_done(session->journal, &last, NULL) == 0;
    for (size_t i = 0; i < session->pair_count && !failed; i++) {
        struct co_pair *pair = session->pairs[i];
        failed = co_pair_use_journal(pair, session->journal, NULL, err);
        for (int side = 0; side < 2 && !failed; side++) {
            struct co_text instance = CO_TEXT_INIT, lineage = CO_TEXT_INIT;
            if (co_journal_identity(session->journal, co_pair_name(pair), co_side_name((enum co_side)side), &instance, &lineage,
                                    NULL) == 0)
                co_pair_record_identity(pair, (enum co_side)side, co_text_str(&instance), co_text_str(&lineage));
            co_text_done(&instance);
            co_text_done(&lineage);
        }
        if (known)
            co_pair_set_source(pair, co_side_other((enum co_side)last.source));
    }
    return failed;
}

void co_session_close(struct co_session *session)
{
    for (size_t i = 0; i < session->pair_count; i++)
        co_pair_free(session->pairs[i]);
    free(session->pairs);
    co_journal_close(session->journal);
    if (session->wake_fd >= 0)
        close(session->wake_fd);
    *session = (struct co_session){.wake_fd = -1};
}

void co_session_wake(struct co_session *session)
{
    uint64_t one = 1;
    if (write(session->wake_fd, &one, sizeof one) < 0) { /* full: awake already */
    }
}
