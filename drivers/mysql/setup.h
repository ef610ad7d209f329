/* setup.h - the setup steps' functions, for the table in steps.c. */
#ifndef MY_SETUP_H
#define MY_SETUP_H

#include "my.h"

#define SETUP_STEP(name)                                                                                                       \
    enum co_result my_setup_##name##_describe(struct co_call *call, struct co_text *ret);                                      \
    enum co_result my_setup_##name##_probe(struct co_call *call, enum co_presence *ret);                                       \
    enum co_result my_setup_##name##_apply(struct co_call *call);                                                              \
    enum co_result my_setup_##name##_revert(struct co_call *call)

SETUP_STEP(schema);
SETUP_STEP(user);
SETUP_STEP(table);
SETUP_STEP(closed);
SETUP_STEP(copy);
SETUP_STEP(follow);

bool my_setup_user_wanted(struct co_call *call);
bool my_setup_copy_wanted(struct co_call *call);
bool my_setup_method_is(struct co_call *call, const char *method);
bool my_setup_lock_wanted(struct co_call *call);
enum my_scope my_setup_scope(struct co_call *call); /* of the accounts that setup locks */

/* accounts.c: carried from the source to the target by statements, since the target keeps its own */
struct my_accounts {
    struct my_str create, grants; /* statements, each ended by a NUL */
    unsigned count;
};
void my_accounts_done(struct my_accounts *accounts);
enum co_result my_accounts_read(struct co_call *call, struct co_conn *from, struct co_conn *to, struct my_accounts *ret);
enum co_result my_accounts_write(struct co_call *call, struct co_conn *to, const struct my_accounts *accounts);

/* dump.c */
enum co_result my_dump_copy(struct co_call *call);
void my_dump_describe(struct co_call *call, struct co_text *ret);
/* Marks the copy as started and removes what is on the target, if that may be. */
enum co_result my_copy_begin(struct co_call *call);

enum co_result my_copy_allowed(struct co_call *call, struct my_sets *ret_schemas, bool *ret_ours);
/* name="value" of an option file */
void my_option_add(struct my_str *file, const char *name, const char *value);

/* machine.c */
struct my_words { /* a command line; the words are the caller's */
    const char **argv;
    size_t count, capacity;
    bool failed;
    struct my_str script;
};
#define MY_WORDS_AUTO __attribute__((cleanup(my_words_done))) struct my_words
void my_words_add(struct my_words *w, const char *word);
void my_words_done(struct my_words *w);

struct my_machine {
    enum co_side side;
    const char *script; /* sh; see the prologue in machine.c for what it begins with */
    const char *const *args;
    const char *input;
    const char *data; /* the data directory; NULL: host.data_directory */
};
bool my_machine_ready(struct co_call *call, enum co_side side);
enum co_result my_machine_command(struct co_call *call, const struct my_machine *machine, struct my_words *words,
                                  struct co_command *ret);
enum co_result my_machine_run(struct co_call *call, const struct my_machine *machine, const char **ret_out);
/* ": " and what the commands said at their end, on one line; "" when they said nothing. */
void my_add_last_words(struct co_call *call, const struct co_text *said, struct my_str *ret);

/* backup.c */
enum co_result my_backup_copy(struct co_call *call); /* also without a connection, while the data directory is replaced */
enum co_result my_backup_probe(struct co_call *call, enum co_presence *ret);
void my_backup_describe(struct co_call *call, struct co_text *ret);
/* The server is down because its data directory is being replaced: what setup does before the copy is done. */
enum co_result my_backup_under_way(struct co_call *call, enum co_presence *ret);

/* clone.c */
enum co_result my_logins_fit(struct co_call *call);
enum co_result my_start_server(struct co_call *call, const char *what);
enum co_result my_clone_copy(struct co_call *call); /* also without a connection: until the server is back */
enum co_result my_clone_probe(struct co_call *call, enum co_presence *ret);
void my_clone_describe(struct co_call *call, struct co_text *ret);

/* setup.c */
const char *my_link_tls(struct co_call *call); /* off, require, verify: towards the other side */
/* CREATE DATABASE list of the source: quoted names, separated */
enum co_result my_user_schemas(struct co_call *call, struct co_conn *conn, struct my_sets *ret);

/* steps.c */
enum co_result my_detach_stop(struct co_call *call);
void my_stop_sql(const struct co_conn *conn, const char *channel, struct my_str *sql);
void my_add_channel(const struct co_conn *conn, const char *channel, struct my_str *sql);
/* closed.c: ALTER EVENT ... ENABLE for rows of MY_EVENT_COLUMNS */
#define MY_EVENT_COLUMNS "EVENT_SCHEMA,EVENT_NAME,CONCAT(SQL_MODE,'\\n',DEFINER),CHARACTER_SET_CLIENT,COLLATION_CONNECTION"
void my_add_enable(struct my_str *sql, MYSQL_RES *rows);
/* the same, leaving them as a replica has them */
void my_add_slaveside(const struct co_conn *conn, struct my_str *sql, MYSQL_RES *rows);

#endif
