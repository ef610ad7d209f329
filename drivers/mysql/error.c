/* error.c - errors of the server and the library in the core's kinds. Invariant: a message names what was tried. */
#include "my.h"

#include <stdio.h>

int my_error_code(unsigned number)
{
    switch (number) {
    case 1045:
    case 1251:
    case 1698:
    case 1820:
    case 1862:
    case 2049:
    case 2058:
    case 2059:
    case 2061:
    case 3118:
    case 3955:
    case 4151:
    case 1524:
    case 1275:
    case 1130:
        return CO_E_AUTH;
    case 1044:
    case 1142:
    case 1143:
    case 1227:
    case 1370:
    case 1410:
    case 1419:
    case 1095:
    case 3879:
    case 3566:
        return CO_E_PRIVILEGE;
    case 1290:
    case 1792:
    case 1836:
    case 3032:
        return CO_E_REFUSED;
    case 1205:
    case 1969:
    case 3024:
    case 1907:
        return CO_E_TIMEOUT;
    case 2002:
    case 2003:
    case 2005:
    case 2006:
    case 2012:
    case 2013:
    case 2026:
    case 2055:
    case 1040:
    case 1053:
    case 1152:
    case 1158:
    case 1159:
    case 1160:
    case 1161:
    case 1184:
    case 1203:
    case 1226:
    case 1317:
    case 1927:
        return CO_E_UNREACHABLE;
    case 1021:
    case 1114:
        return CO_E_SPACE;
    case 2008:
    case 1037:
    case 1041:
        return CO_E_NOMEM;
    case 1064:
    case 1193:
    case 1235:
    case 1238:
    case 1295:
    case 1305:
        return CO_E_UNSUPPORTED;
    default:
        return CO_E_SERVER;
    }
}

static const char *hint_for(unsigned number)
{
    switch (number) {
    case 1045:
    case 1698:
        return "Check user and password; on the server: SHOW GRANTS FOR the account, and from which hosts it may log in.";
    case 3118:
    case 4151:
        return "The account is locked: ALTER USER ... ACCOUNT UNLOCK as an administrator.";
    case 1044:
    case 1142:
    case 1227:
    case 1095:
    case 1370:
        return "Grant the account what `changeover init --grants` prints.";
    case 1205:
    case 1907:
        return "A session on the server holds a lock: look for LOCK TABLES, FLUSH TABLES WITH READ LOCK, long statements and "
               "ALTER TABLE in SHOW FULL PROCESSLIST, and try again when they are done.";
    case 1040:
    case 1203:
        return "The server has no connection to spare: raise max_connections, or end sessions.";
    case 2005:
        return "Check the host name in the url.";
    case 2002:
    case 2003:
        return "Check that the server runs, its address and port, bind_address and firewalls.";
    case 2026:
        return "TLS failed: see that tls.ca names the authority that signed the server's certificate, that the certificate is "
               "valid "
               "today, and that the name in the url is one of the certificate's.";
    case 1290:
        return "The server runs with an option that forbids this, such as read_only or skip_grant_tables.";
    default:
        return "";
    }
}

__attribute__((format(printf, 3, 0))) static void put(char *to, size_t size, const char *format, va_list args)
{
    vsnprintf(to, size, format, args);
    for (char *c = to; *c; c++) /* the server's texts have line breaks */
        if (*c == '\n' || *c == '\r' || *c == '\t')
            *c = ' ';
}

enum co_result my_fail(struct co_call *call, enum co_result result, int code, const char *hint, const char *format, ...)
{
    struct co_error *e = call->err;
    if (!e)
        return result;
    va_list args;
    va_start(args, format);
    e->code = code;
    e->native[0] = 0;
    put(e->message, sizeof e->message, format, args);
    va_end(args);
    snprintf(e->hint, sizeof e->hint, "%s", hint ? hint : "");
    return result;
}

enum co_result my_fail_server(struct co_call *call, enum co_result result, unsigned number, const char *what, const char *text)
{
    my_fail(call, result, my_error_code(number), hint_for(number), "%s: %s (%u)", what, text, number);
    if (call->err)
        snprintf(call->err->native, sizeof call->err->native, "%u", number);
    return result;
}

enum co_result my_out_of_memory(struct co_call *call)
{
    return my_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
}
