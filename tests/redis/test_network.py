"""Names, TLS and full servers: what stands between the tool and a server."""
import json
import subprocess
import threading

import pytest

from rediskit import need, run, set_up
from sandbox import wait_for
from sandbox.scenario import Scenario

# getaddrinfo() of a resolver that doesn't answer, for as long as the file is there; addresses are answered at once
HANGING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");

    if (!hints || !(hints->ai_flags & AI_NUMERICHOST))
        while (access(getenv("HANGING_RESOLVER"), F_OK) == 0)
            sleep(1);
    return real(node, service, hints, res);
}
"""


@pytest.fixture
def resolver(box):
    """(environment for the tool, the file that makes it hang)"""
    source, library, flag = box.folder / "hang.c", box.folder / "hang.so", box.folder / "hanging"
    source.write_text(HANGING)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "HANGING_RESOLVER": str(flag)}, flag


def by_name(scene):
    for server in (scene.a, scene.b):
        plain = server.side_config
        server.side_config = lambda plain=plain, server=server: {
            **plain(), "url": f"redis://localhost:{server.port}", "tls": {"mode": "off"}, "peer": {"address": f"127.0.0.1:{server.port}"}}
    scene.tool.write_config()


def test_a_resolver_that_hangs_is_unknown_and_hangs_nothing(box, resolver):
    scene = Scenario(box, need("redis"))
    by_name(scene)
    scene.set_up()
    environment, flag = resolver
    flag.touch()
    for command in ("status", "lag", "check"):
        result = scene.tool.finish(scene.tool.spawn(command, json=True, env=environment), 60)
        assert result.code in (1, 3) and "resolver" in result.out + result.err, result
    flag.unlink()
    assert scene.tool.finish(scene.tool.spawn("status", json=True, env=environment), 60).code == 0


def test_a_resolver_that_hangs_from_the_fence_on_costs_the_run_nothing(box, resolver):
    """Nothing is resolved in the write pause, nor for an undo: the connections are there."""
    scene = Scenario(box, need("redis"))
    by_name(scene)
    scene.set_up()
    environment, flag = resolver
    for fault, code in (("promote:end=error", 4), (None, 0)):
        scene.caught_up()
        with scene.tool.held("cutover", "--yes", "--when-ready=20s", at="fence:begin", fault=fault, env=environment, json=True) as child:
            flag.touch()
        try:
            result = scene.tool.finish(child, 60)
        finally:
            flag.unlink()
        assert result.code == code, result
        assert scene.open_side() == ("b" if code == 0 else "a")


def certificates(folder):
    """A CA, a server's certificate for 127.0.0.1, a client's."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test ca", "-days", "2")
    (folder / "names").write_text("subjectAltName=DNS:db.test,IP:127.0.0.1\n")
    for who in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{who}.key", "-out", f"{who}.csr", "-subj", f"/CN={who}.test")
        openssl("x509", "-req", "-in", f"{who}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{who}.pem", "-days", "2",
                "-extfile", "names")


def test_a_client_certificate_is_shown_and_a_missing_one_is_said(box):
    scene = Scenario(box, need("redis"))
    certificates(box.folder)
    for server in (scene.a, scene.b):
        port = box.free_port()
        for name, value in (("tls-cert-file", "server.pem"), ("tls-key-file", "server.key"), ("tls-ca-cert-file", "ca.pem")):
            run(server, "CONFIG", "SET", name, f"{box.folder}/{value}")
        for name, value in (("tls-auth-clients", "yes"), ("tls-replication", "yes"), ("tls-port", port)):
            run(server, "CONFIG", "SET", name, value)
        plain = server.side_config
        server.side_config = lambda plain=plain, port=port: {
            **plain(), "url": f"rediss://127.0.0.1:{port}",
            "tls": {"ca": f"{box.folder}/ca.pem", "cert": f"{box.folder}/client.pem", "key": f"{box.folder}/client.key"}}
    scene.tool.write_config()
    scene.set_up()
    for command in ("cutover", "rollback"):
        assert scene.run(command).code == 0
    document = scene.tool.document()
    for side in "ab":
        del document["pairs"][0][side]["tls"]["cert"], document["pairs"][0][side]["tls"]["key"]
    scene.tool.write_config(json.dumps(document))
    result = scene.tool("status", json=True)
    assert result.code == 3 and ("certificate" in result.out + result.err or "TLS" in result.out + result.err), result


@pytest.mark.parametrize("fault, code", [(None, 0), ("promote:end=error", 4), ("capture:end=kill", -9)])
def test_others_fill_both_servers_in_the_middle_of_a_run(box, fault, code):
    """maxclients has no reserve: whatever the run still needs was opened beforehand, for an undo and the guardian too. (The servers'
    own links come back when the others have left.)"""
    scene = set_up(box)
    for server in (scene.a, scene.b):
        run(server, "CONFIG", "SET", "maxclients", 60)
    crowd, stop = [], threading.Event()

    def fill(server):
        while not stop.is_set():
            try:
                crowd.append(server.connect("app"))
            except Exception:  # the server is full: again, when somebody leaves
                stop.wait(0.005)

    threads = [threading.Thread(target=fill, args=(server,)) for server in (scene.a, scene.b)]
    with scene.tool.held("cutover", "--yes", "--when-ready=20s", at="fence:begin", fault=fault, json=True) as child:
        for thread in threads:
            thread.start()
    try:
        if code == 0:
            wait_for(lambda: child.poll() is not None or scene.at_phase("reverse"), 40, "the run is at reverse")
        else:
            wait_for(lambda: not scene.tool.guardians() and scene.ask_journal("SELECT 1 FROM run WHERE kind = 'cutover' AND ended_wall_ms > 0"), 40,
                     "the run is undone while the servers are full")
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
        for one in crowd:
            one.close()
            one.connection_pool.disconnect()  # close() alone gives it back to its pool, still open
    result = scene.tool.finish(child, 60)
    assert result.code == code, result
    scene.tool.wait_quiet()
    assert scene.open_side() == ("b" if code == 0 else "a")
