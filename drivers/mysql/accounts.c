/* accounts.c - carries accounts, roles and grants from the source to the target, by the statements that the source itself
 * gives.
 *
 * The target keeps its own accounts of the same name (its administrators', the tool's): what is there is left alone.
 * Invariant: statements run with sql_log_bin=0; password hashes pass through memory that is wiped.
 */
#include "setup.h"

#include <stdlib.h>

void my_accounts_done(struct my_accounts *accounts)
{
    my_str_done(&accounts->create);
    my_str_done(&accounts->grants);
}

static void add_statement(struct my_str *to, const char *sql)
{
    my_str_add(to, sql);
    my_str_addn(to, "", 1);
}

/* CREATE USER ... as the source shows it, made to bear being repeated. */
static enum co_result read_create(struct co_call *call, struct co_conn *from, const char *account, struct my_accounts *ret)
{
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_str_addf(&sql, "SHOW CREATE USER %s", account);
    enum co_result r = my_read(call, from, my_cstr(&sql), &sets);
    const char *create = r == CO_DONE ? my_value(&sets, 0, 0) : NULL;
    if (r != CO_DONE || !create || strncmp(create, "CREATE USER ", 12) != 0)
        return r;
    MY_STR_AUTO safe = {0};
    my_str_addf(&safe, "CREATE USER IF NOT EXISTS %s", create + 12);
    add_statement(&ret->create, my_cstr(&safe));
    ret->count++;
    return CO_DONE;
}

static enum co_result read_grants(struct co_call *call, struct co_conn *from, const char *account, struct my_accounts *ret)
{
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_str_addf(&sql, "SHOW GRANTS FOR %s", account);
    enum co_result r = my_read(call, from, my_cstr(&sql), &sets);
    if (r != CO_DONE)
        return r;
    for (MYSQL_ROW row; (row = mysql_fetch_row(sets.set[0]));)
        if (row[0] && (strncmp(row[0], "GRANT ", 6) == 0 || strncmp(row[0], "SET DEFAULT ROLE", 16) == 0))
            add_statement(&ret->grants, row[0]);
    return CO_DONE;
}

static bool is_there(MYSQL_RES *accounts, const char *user, const char *host)
{
    mysql_data_seek(accounts, 0);
    for (MYSQL_ROW row; (row = mysql_fetch_row(accounts));)
        if (strcmp(row[0], user) == 0 && strcmp(row[1], host) == 0)
            return true;
    return false;
}

enum co_result my_accounts_read(struct co_call *call, struct co_conn *from, struct co_conn *to, struct my_accounts *ret)
{
    MY_SETS_AUTO sets = {0};
    MY_SETS_AUTO there = {0};
    MY_STR_AUTO sql = {0};
    my_str_add(&sql,
               my_is_mysql(from)
                   ? "SELECT User,Host,0 FROM mysql.user WHERE User NOT IN ('mysql.sys','mysql.session','mysql.infoschema',"
                   : "SELECT User,Host,COALESCE(JSON_VALUE(Priv,'$.is_role'),'0') IN ('1','true') FROM mysql.global_priv "
                     "WHERE User NOT IN ('mariadb.sys','PUBLIC',");
    my_str_quote(&sql, from->account_user);
    my_str_add(&sql, ")");
    enum co_result r = my_read(call, from, my_cstr(&sql), &sets);
    if (r == CO_DONE)
        r = my_read(call, to, "SELECT a,b FROM " MY_SCHEMA ".originals WHERE kind='kept'", &there);
    if (r != CO_DONE)
        return r;
    for (MYSQL_ROW row; r == CO_DONE && (row = mysql_fetch_row(sets.set[0]));) {
        if (is_there(there.set[0], row[0], row[1]))
            continue;
        MY_STR_AUTO account = {0};
        if (my_truth(row[2])) {
            MY_STR_AUTO create = {0};
            my_str_name(&account, row[0]);
            my_str_addf(&create, "CREATE ROLE IF NOT EXISTS %s", my_cstr(&account));
            add_statement(&ret->create, my_cstr(&create));
        } else {
            my_str_account(&account, row[0], row[1]);
            r = read_create(call, from, my_cstr(&account), ret);
        }
        if (r == CO_DONE)
            r = read_grants(call, from, my_cstr(&account), ret);
    }
    return r == CO_DONE && (ret->create.overflow || ret->grants.overflow) ? my_out_of_memory(call) : r;
}

#define NOT_REGISTERED 1149 /* what MySQL calls a dynamic privilege that it, or a plugin that it hasn't got, doesn't know */

/* One of a GRANT's privileges; `of` is what follows the list of them. *ret_error: the server's. */
static enum co_result grant_one(struct co_call *call, struct co_conn *to, const char *privilege, size_t len, const char *of,
                                unsigned *ret_error)
{
    static const char renamed[] = "SET_USER_ID"; /* until 8.4 */
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    bool old = len == strlen(renamed) && strncmp(privilege, renamed, len) == 0 && to->version >= 80400;
    my_str_add(&sql, "GRANT ");
    if (old)
        my_str_add(&sql, "SET_ANY_DEFINER,ALLOW_NONEXISTENT_DEFINER");
    else
        my_str_addn(&sql, privilege, len);
    my_str_add(&sql, of);
    enum co_result r = sql.overflow ? my_out_of_memory(call) : my_exec(call, to, my_cstr(&sql), &sets);
    *ret_error = sets.error;
    return r;
}

/* "GRANT A,B ON *.* TO ...", of which the target doesn't know all: one by one, and what is left out is said. */
static enum co_result grant_known(struct co_call *call, struct co_conn *to, const char *statement)
{
    const char *of = strstr(statement, " ON *.* TO ");
    MY_STR_AUTO unknown = {0};
    enum co_result r = CO_DONE;
    if (!of)
        return CO_NO_EFFECT;
    for (const char *at = statement + strlen("GRANT "); at < of && r == CO_DONE;) {
        const char *comma = memchr(at, ',', (size_t)(of - at)), *end = comma ? comma : of;
        unsigned error = 0;
        r = grant_one(call, to, at, (size_t)(end - at), of, &error);
        if (r != CO_DONE && error == NOT_REGISTERED) {
            my_str_add(&unknown, unknown.len ? ", " : "");
            my_str_addn(&unknown, at, (size_t)(end - at));
            r = CO_DONE;
        }
        at = comma ? comma + strspn(comma, ", ") : of;
    }
    if (r == CO_DONE && unknown.len) {
        MY_STR_AUTO text = {0};
        my_str_addf(&text, "the target doesn't know the privileges %s, which were not granted there%s", my_cstr(&unknown),
                    of + strlen(" ON *.*"));
        call->host->remark(call->ctx, my_cstr(&text));
    }
    return r;
}

static enum co_result run_each(struct co_call *call, struct co_conn *to, const struct my_str *statements)
{
    enum co_result r = CO_DONE;
    for (const char *at = my_cstr(statements); r == CO_DONE && at < my_cstr(statements) + statements->len;
         at += strlen(at) + 1) {
        MY_SETS_AUTO sets = {0};
        r = my_exec(call, to, at, &sets);
        /* it came from elsewhere meanwhile; or the right to be somebody's proxy, which only its holders can give */
        if (r != CO_DONE && (sets.error == 1396 || (sets.error == 1698 && strncmp(at, "GRANT PROXY", 11) == 0)))
            r = CO_DONE;
        else if (r != CO_DONE && sets.error == NOT_REGISTERED && my_is_mysql(to) && strncmp(at, "GRANT ", 6) == 0)
            r = grant_known(call, to, at);
    }
    return r;
}

enum co_result my_accounts_write(struct co_call *call, struct co_conn *to, const struct my_accounts *accounts)
{
    enum co_result r = run_each(call, to, &accounts->create);
    if (r == CO_DONE && my_setup_lock_wanted(call)) /* before they have any right: none may write what nobody would notice */
        r = my_accounts_lock(call);
    return r == CO_DONE ? run_each(call, to, &accounts->grants) : r;
}
