/* url.h - the URL of a server, taken apart.
 *
 *   scheme://[user[:password]@][host[:port]][/database][?name=value&...]
 *
 * host: a name, an IPv4 address, [IPv6], or the percent-encoded path of a socket (%2Frun%2Fpostgresql). Also a
 * socket: host=/path or socket=/path among the parameters (with port= beside it), and unix:///path (or a
 * scheme that ends in +unix) whose path is the socket and whose database is the parameter db. Several hosts
 * (h1:27017,h2:27017) stay together in `address`, with port 0: drivers that know such lists take them from
 * the URL.
 *
 * The password never stays in `url`: it is cut out, as are the values of parameters whose name contains
 * "password", "secret" or "token". Messages never repeat the URL.
 */
#ifndef CO_CONFIG_URL_H
#define CO_CONFIG_URL_H

#include "base/secret.h"

struct co_url {
    char *url;    /* without secrets */
    char *scheme; /* lower case */
    char *user;
    struct co_secret_value *password; /* NULL: none; registered with the mask */
    char *address;
    int port; /* 0: none given */
    char *database;
    char **params;   /* name, value, ..., NULL; decoded; those that hold secrets too (masked) */
    bool has_secret; /* the text contained one */
};

int co_url_parse(const char *text, struct co_url *ret, struct co_error *err); /* CO_E_CONFIG: no location in it */
void co_url_done(struct co_url *url);
/* "host", "host:port", "[::1]:port" */
int co_url_parse_address(const char *text, char **ret_address, int *ret_port, struct co_error *err);
/* A socket, localhost or a loopback address; of a list: all of them. */
bool co_url_is_local(const char *address);
/* Does this text (a command-line argument) look like a URL that holds a password? */
bool co_url_holds_password(const char *text);

#endif
