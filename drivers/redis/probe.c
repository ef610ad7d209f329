/* probe.c - a real write, as an ordinary client makes it.
 *
 * Invariant: the write goes over a session of its own, which prepare() opened where it could, so that a server whose
 * maxclients others have filled can still be probed. A write that gets no answer is *unknown*; its session is closed,
 * and a server drops what a closed session had waiting (CLIENT PAUSE) unexecuted.
 */
#include "rd.h"

#include <stdio.h>
#include <string.h>

enum co_result rd_probe_write(struct co_call *call)
{
    struct co_conn *own = NULL, *probe;
    RD_REPLIES(replies);
    enum co_result result;

    if (!rd_alive(call->conn->probe)) {
        rd_disconnect(call->conn->probe);
        call->conn->probe = NULL;
        result = rd_open_probe(call, &own);
        if (result != CO_DONE)
            return CO_NO_EFFECT;
        call->conn->probe = own;
    }
    probe = call->conn->probe;
    rd_out(probe, "SET", RD_PROBE_KEY, call->run ? call->run->id : "probe", "PX", "60000", NULL);
    result = rd_one(call, probe, true, "a real write", &replies);
    /* before 7.0 a fence takes the right to write (rights.c), and that is asked first */
    if (result == CO_NO_EFFECT && call->err->code == CO_E_PRIVILEGE && rd_rights_needed(&call->conn->version))
        call->err->code = CO_E_REFUSED;
    if (result != CO_DONE)
        return result;
    rd_out(probe, "DEL", RD_PROBE_KEY, NULL); /* it expires if this fails */
    {
        struct co_error kept = *call->err;

        if (rd_exchange(call, probe, true, &replies) != CO_DONE)
            *call->err = kept;
    }
    return CO_DONE;
}

enum co_result rd_grants(struct co_call *call, struct co_text *ret)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    const char *user = endpoint->user && *endpoint->user ? endpoint->user : "changeover";

    call->host->text_set(call->ctx, ret, "", 0);
    call->host->text_add(
        call->ctx, ret,
        "ACL SETUSER %s on ><password> ~* &* -@all +@connection +info +config +replicaof +multi +exec +client +get +set +del "
        "+command +acl +module +pubsub +time\n",
        user);
    call->host->text_add(call->ctx, ret, "ACL SETUSER replicator on ><password> -@all +psync +replconf +ping\n");
    call->host->text_add(call->ctx, ret,
                         "ACL SETUSER changeover_probe on ><password> ~" RD_PROBE_KEY " -@all +@connection +set +del\n");
    call->host->text_add(call->ctx, ret, "CONFIG REWRITE (or ACL SAVE, where an aclfile is used)\n");
    return CO_DONE;
}
