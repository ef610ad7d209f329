/* conn.c - connecting and logging in, never past the deadline.
 *
 * libmariadb resolves names and shakes hands for TLS with blocking calls, also in its non-blocking mode. So the login runs on
 * a thread of its own, which tells an eventfd that it is done; we wait for that with host->wait_fd. A login that isn't
 * done by the deadline is left to that thread, which closes it whenever it ends. Everything after the login uses the
 * non-blocking interface (query.c).
 *
 * Invariant: a login is freed by whoever lets go of it last, and its copy of the password is wiped before that.
 */
#include "my.h"

#include <errmsg.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

struct login {
    atomic_int holders;
    MYSQL *mysql;
    char *host, *user, *password, *socket;
    unsigned port;
    int done_fd;
    atomic_int state; /* the thread's results are read, and `mysql` taken, only when this isn't LOGIN_RUNS any more */
    unsigned error;
    int problem; /* what the system says of a connection that wasn't made; 0: nothing */
    char message[512];
};

enum { LOGIN_RUNS, LOGIN_OK, LOGIN_FAILED };

static void login_release(struct login *login)
{
    if (atomic_fetch_sub(&login->holders, 1) != 1)
        return;
    if (login->mysql)
        mysql_close(login->mysql);
    if (login->password) {
        explicit_bzero(login->password, strlen(login->password));
        free(login->password);
    }
    free(login->host);
    free(login->user);
    free(login->socket);
    close(login->done_fd);
    free(login);
}

/* The library says EINPROGRESS ("(115)") for whatever ended a connection that was not there at once. One more try tells: the
 * number of an error, or 0. */
static int why_not(const struct login *login)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char port[16];
    snprintf(port, sizeof port, "%u", login->port);
    if (getaddrinfo(login->host, port, &hints, &found) != 0)
        return 0;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), problem = 0;
    struct timeval patience = {.tv_sec = 1};
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0 &&
        connect(fd, found->ai_addr, found->ai_addrlen) != 0)
        problem = errno == EINPROGRESS || errno == EAGAIN ? ETIMEDOUT : errno;
    if (fd >= 0)
        close(fd);
    freeaddrinfo(found);
    return problem;
}

/* "Can't connect to server on 'db' (111)": the number in words; 0: the message has none. */
static int connect_problem(const struct login *login)
{
    const char *at = strrchr(login->message, '(');
    int problem = at ? (int)strtol(at + 1, NULL, 10) : 0;
    return problem == EINPROGRESS && login->host ? why_not(login) : problem;
}

static void *login_thread(void *arg)
{
    struct login *login = arg;
    mysql_thread_init();
    MYSQL *m = mysql_real_connect(login->mysql, login->host, login->user, login->password, NULL, login->port, login->socket,
                                  CLIENT_MULTI_STATEMENTS | CLIENT_FOUND_ROWS);
    if (!m) {
        login->error = mysql_errno(login->mysql);
        snprintf(login->message, sizeof login->message, "%s", mysql_error(login->mysql));
        if (login->error == CR_CONNECTION_ERROR || login->error == CR_CONN_HOST_ERROR)
            login->problem = connect_problem(login);
    }
    atomic_store(&login->state, m ? LOGIN_OK : LOGIN_FAILED); /* hands over all of the above, and `mysql` */
    uint64_t one = 1;
    ssize_t written = write(login->done_fd, &one, sizeof one);
    (void)written; /* an eventfd at 0 takes a 1 */
    login_release(login);
    mysql_thread_end();
    return NULL;
}

static bool login_start(struct login *login)
{
    sigset_t all, old;
    pthread_attr_t attr;
    pthread_t thread;
    if (pthread_attr_init(&attr) != 0)
        return false;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, (size_t)1 << 20);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    atomic_fetch_add(&login->holders, 1);
    int rc = pthread_create(&thread, &attr, login_thread, login);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc != 0)
        atomic_fetch_sub(&login->holders, 1);
    return rc == 0;
}

static char *copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

/* A socket may be given as the folder it is in. */
static char *socket_path(const char *address)
{
    struct stat st;
    if (stat(address, &st) != 0 || !S_ISDIR(st.st_mode))
        return strdup(address);
    static const char *const names[] = {"mysqld.sock", "mysql.sock", "mariadb.sock"};
    char *path = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        free(path);
        if (asprintf(&path, "%s/%s", address, names[i]) < 0)
            return NULL;
        if (stat(path, &st) == 0)
            return path;
    }
    return path;
}

static void set_tls(MYSQL *mysql, const struct co_tls *tls)
{
    my_bool on = 1, off = 0;
    if (tls->mode == CO_TLS_OFF) {
        mysql_options(mysql, MYSQL_OPT_SSL_ENFORCE, &off);
        mysql_options(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &off); /* libmariadb 3.4 would turn it on */
        return;
    }
    mysql_options(mysql, MYSQL_OPT_SSL_ENFORCE, &on);
    mysql_options(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, tls->mode == CO_TLS_VERIFY ? &on : &off);
    if (tls->ca)
        mysql_options(mysql, MYSQL_OPT_SSL_CA, tls->ca);
    if (tls->cert)
        mysql_options(mysql, MYSQL_OPT_SSL_CERT, tls->cert);
    if (tls->key)
        mysql_options(mysql, MYSQL_OPT_SSL_KEY, tls->key);
}

static void set_options(struct co_call *call, MYSQL *mysql, const struct co_endpoint_config *ep, bool own_password)
{
    my_bool off = 0;
    int64_t left_s = (call->deadline_ns - call->host->now_ns(call->ctx)) / 1000000000;
    unsigned timeout_s = left_s < 1 ? 1 : left_s > 300 ? 300 : (unsigned)left_s;
    mysql_options(mysql, MYSQL_OPT_NONBLOCK, 0);
    mysql_options(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &timeout_s); /* so that an abandoned login ends */
    mysql_options(mysql, MYSQL_OPT_RECONNECT, &off);
    unsigned no_files = 0;
    mysql_options(mysql, MYSQL_OPT_LOCAL_INFILE, &no_files);
    mysql_options(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    mysql_options4(mysql, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name", call->run ? call->run->session_name : "changeover");
    if (!own_password)
        mysql_options(mysql, MYSQL_READ_DEFAULT_GROUP, "client"); /* ~/.my.cnf may have it */
    set_tls(mysql, &ep->tls);
}

static enum co_result login_wait(struct co_call *call, struct login *login, const char *where)
{
    int ready = call->host->wait_fd(call->ctx, login->done_fd, POLLIN, call->deadline_ns);
    if (ready < 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_INTERRUPTED, "", "interrupted while connecting to %s", where);
    if (ready == 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_TIMEOUT,
                       "Check that the name is resolved, that the server runs and answers, and that no firewall drops packets.",
                       "no connection to %s in time", where);
    if (atomic_load(&login->state) == LOGIN_OK)
        return CO_DONE;
    MY_STR_AUTO what = {0};
    if (login->problem) {
        my_str_addf(&what, "can't connect to %s", where);
        return my_fail_server(call, CO_NO_EFFECT, login->error, my_cstr(&what), strerrordesc_np(login->problem));
    }
    my_str_addf(&what, "can't log in to %s as %s", where, login->user ? login->user : "");
    return my_fail_server(call, CO_NO_EFFECT, login->error, my_cstr(&what), login->message);
}

/* The library leaves the socket of a login blocking. Without TLS its non-blocking interface doesn't mind, as it says so with
 * each packet; OpenSSL reads and writes as the socket is, and would wait there past every deadline. */
static bool unblock(MYSQL *mysql)
{
    int fd = (int)mysql_get_socket(mysql), flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

static struct co_conn *conn_new(struct login *login, enum co_side side)
{
    struct co_conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        return NULL;
    conn->mysql = login->mysql;
    login->mysql = NULL;
    conn->side = side;
    conn->version = mysql_get_server_version(conn->mysql);
    conn->flavour = mariadb_connection(conn->mysql) ? MY_MARIADB : MY_MYSQL;
    const char *info = mysql_get_server_info(conn->mysql);
    conn->version_text = strndup(info ? info : "", strcspn(info ? info : "", "-"));
    return conn;
}

static enum co_result open_session(struct co_call *call, const char *user, const char *password, struct co_conn **ret)
{
    const struct co_endpoint_config *ep = call->host->endpoint(call->ctx, call->side);
    bool local = ep->address && ep->address[0] == '/';
    if (ep->tls.mode == CO_TLS_VERIFY && ep->tls.server_name && ep->address && strcmp(ep->tls.server_name, ep->address) != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_CONFIG,
                       "Put the name that the certificate carries into the url (with an entry in /etc/hosts if need be), "
                       "and leave tls.server_name out.",
                       "tls.server_name %s differs from the address %s: the client library verifies the name it connects to",
                       ep->tls.server_name, ep->address);
    struct login *login = calloc(1, sizeof *login);
    if (!login)
        return my_out_of_memory(call);
    atomic_init(&login->holders, 1);
    atomic_init(&login->state, LOGIN_RUNS);
    login->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    login->mysql = login->done_fd >= 0 ? mysql_init(NULL) : NULL;
    login->host = local ? NULL : copy(ep->address ? ep->address : "127.0.0.1");
    login->socket = local ? socket_path(ep->address) : NULL;
    login->user = copy(user);
    login->password = copy(password);
    login->port = ep->port ? (unsigned)ep->port : 3306;
    MY_STR_AUTO where = {0};
    if (local)
        my_str_add(&where, login->socket);
    else
        my_str_addf(&where, "%s:%u", login->host ? login->host : "", login->port);
    enum co_result r;
    if (!login->mysql || (!login->host && !login->socket) || (user && !login->user) || (password && !login->password)) {
        r = my_out_of_memory(call);
    } else {
        set_options(call, login->mysql, ep, password != NULL);
        if (!login_start(login))
            r = my_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "can't start a thread to connect to %s", my_cstr(&where));
        else
            r = login_wait(call, login, my_cstr(&where));
    }
    if (r == CO_DONE && !unblock(login->mysql))
        r = my_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "the connection to %s can't be made non-blocking", my_cstr(&where));
    if (r == CO_DONE) {
        *ret = conn_new(login, call->side);
        if (!*ret)
            r = my_out_of_memory(call);
    }
    login_release(login);
    return r;
}

static enum co_result session_setup(struct co_call *call, struct co_conn *conn)
{
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_read(call, conn, my_word_session(conn), &sets);
    if (r != CO_DONE)
        return r;
    /* needs a privilege that a monitoring account may lack: what changes a server insists on it later */
    MY_SETS_AUTO unlogged = {0};
    r = my_read(call, conn, "SET SESSION sql_log_bin=0", &unlogged);
    if (r != CO_DONE && !unlogged.error)
        return r;
    conn->unlogged = r == CO_DONE;
    /* statements with passwords shouldn't be in the general log */
    MY_SETS_AUTO quiet = {0};
    r = my_read(call, conn, "SET SESSION sql_log_off=1", &quiet);
    if (r != CO_DONE && !quiet.error)
        return r;
    MY_SETS_AUTO who = {0};
    MY_STR_AUTO ask = {0};
    my_str_addf(&ask,
                "SELECT CONNECTION_ID(), SUBSTRING_INDEX(CURRENT_USER(),'@',LENGTH(CURRENT_USER())-"
                "LENGTH(REPLACE(CURRENT_USER(),'@',''))), SUBSTRING_INDEX(CURRENT_USER(),'@',-1),%s",
                my_is_mysql(conn) ? "@@GLOBAL.server_uuid,@@GLOBAL.gtid_mode" : "'','ON'");
    r = my_read(call, conn, my_cstr(&ask), &who);
    if (r != CO_DONE)
        return r;
    conn->id = (uint64_t)my_int(my_value(&who, 0, 0), 0);
    conn->account_user = copy(my_value(&who, 0, 1));
    conn->account_host = copy(my_value(&who, 0, 2));
    conn->uuid = copy(my_value(&who, 0, 3));
    const char *gtid = my_value(&who, 0, 4);
    conn->by_file = gtid && (strcmp(gtid, "OFF") == 0 || strcmp(gtid, "OFF_PERMISSIVE") == 0);
    if (!conn->uuid || !conn->account_user || !conn->account_host || !conn->version_text)
        return my_out_of_memory(call);
    return CO_DONE;
}

static enum co_result version_ok(struct co_call *call, const struct co_conn *conn)
{
    unsigned long least = my_is_mysql(conn) ? 50700 : 100500;
    if (conn->version >= least)
        return CO_DONE;
    return my_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "MariaDB from 10.5 and MySQL from 5.7 are supported.",
                   "the server is %s %s", my_is_mysql(conn) ? "MySQL" : "MariaDB",
                   conn->version_text ? conn->version_text : "");
}

enum co_result my_connect(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret)
{
    (void)purpose; /* both are alike: autocommit sessions that hold a name for as long as they live */
    const struct co_endpoint_config *ep = call->host->endpoint(call->ctx, call->side);
    struct co_conn *conn = NULL;
    enum co_result r = open_session(call, ep->user, call->host->secret(call->ctx, call->side, CO_SECRET_PASSWORD), &conn);
    if (r != CO_DONE)
        return r;
    r = version_ok(call, conn);
    if (r == CO_DONE)
        r = session_setup(call, conn);
    conn->in_run = call->run != NULL;
    if (r == CO_DONE)
        r = my_take_slot(call, conn);
    if (r != CO_DONE) {
        my_disconnect(conn);
        return r;
    }
    *ret = conn;
    return CO_DONE;
}

enum co_result my_login(struct co_call *call, const char *user, const char *password, struct co_conn **ret)
{
    return open_session(call, user, password ? password : "", ret);
}

void my_disconnect(struct co_conn *conn)
{
    if (!conn)
        return;
    if (conn->mysql) {
        /* a goodbye on a frozen connection would block */
        if (conn->dead && mysql_get_socket(conn->mysql) >= 0)
            shutdown(mysql_get_socket(conn->mysql), SHUT_RDWR);
        mysql_close(conn->mysql);
    }
    free(conn->version_text);
    free(conn->account_user);
    free(conn->account_host);
    free(conn->uuid);
    free(conn->seen.progress);
    free(conn->bypass);
    free(conn->kept_accounts);
    free(conn->to_unlock);
    free(conn->channel);
    free(conn->started);
    free(conn);
}

bool my_alive(struct co_conn *conn)
{
    return conn && !conn->dead;
}
