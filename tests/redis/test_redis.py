"""What only Redis has: TLS, maxclients without a reserve, scripts behind the pause, settings in a config file."""
import json
import subprocess
import threading

import pytest

from sandbox import engine_reason, wait_for
from sandbox.scenario import Scenario


@pytest.fixture
def scene(box):
    reason = engine_reason("redis")
    if reason:
        pytest.skip(reason)
    return Scenario(box, "redis")


@pytest.fixture
def ready(scene):
    scene.set_up()
    return scene


def config(server, *arguments):
    connection = server.connect("default")
    try:
        return connection.execute_command(*arguments)
    finally:
        connection.close()


def codes(result):
    return {finding["code"] for finding in result.json["findings"]}


def certificates(folder):
    """A CA and one certificate for the name db.test and the address 127.0.0.1."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test ca", "-days", "2")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=db.test")
    (folder / "names").write_text("subjectAltName=DNS:db.test,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "server.pem", "-days", "2",
            "-extfile", "names")


def test_tls_is_verified_and_a_cutover_works_over_it(box, scene):
    certificates(box.folder)
    for server in (scene.a, scene.b):
        port = box.free_port()
        for name, value in (("tls-cert-file", f"{box.folder}/server.pem"), ("tls-key-file", f"{box.folder}/server.key"),
                            ("tls-ca-cert-file", f"{box.folder}/ca.pem"), ("tls-auth-clients", "no"), ("tls-replication", "yes"),
                            ("tls-port", port)):
            config(server, "CONFIG", "SET", name, value)
        server.tls_url, server.url = f"rediss://127.0.0.1:{port}", lambda server=server: server.tls_url
        plain = server.side_config
        server.side_config = lambda plain=plain: {**plain(), "tls": {"ca": f"{box.folder}/ca.pem", "mode": "verify"}}
    scene.tool.write_config()
    scene.set_up()
    for command in ("cutover", "rollback"):
        result = scene.tool(command, "--yes", "--when-ready=20s")
        assert result.code == 0, result

    # a name that isn't in the certificate, and a CA that didn't sign it
    (box.folder / "other").mkdir()
    certificates(box.folder / "other")
    for wrong in ({"ca": f"{box.folder}/ca.pem", "mode": "verify", "server_name": "elsewhere.test"},
                  {"ca": f"{box.folder}/other/ca.pem", "mode": "verify"}):
        document = scene.tool.document()
        document["pairs"][0]["a"]["tls"] = wrong
        scene.tool.write_config(json.dumps(document))
        result = scene.tool("status", json=True)
        assert result.code == 3, result
        assert "certificate" in result.out + result.err, result


def test_a_server_filled_with_clients_is_refused_before_and_not_lost_in_between(box, ready):
    config(ready.a, "CONFIG", "SET", "maxclients", 60)
    crowd = []

    def fill():
        try:
            while True:
                crowd.append(ready.a.connect("app"))
                crowd[-1].ping()
        except Exception:  # the server is full
            pass

    with ready.load(writers=2) as load:
        wait_for(lambda: load.count() > 10, 60, "the load runs")
        with ready.tool.held("cutover", "--yes", "--when-ready=20s", at="fence:begin", json=True) as child:
            fill()
        result = ready.tool.finish(child)
        assert result.code == 0, result
    for connection in crowd:
        connection.connection_pool.disconnect()
    ready.check(load, "a")


def test_a_full_server_is_an_error_of_check(ready):
    config(ready.a, "CONFIG", "SET", "maxclients", 12)
    assert "maxclients_reached" in codes(ready.tool("check", json=True))


def test_nothing_that_waited_on_the_old_primary_is_executed_there(ready):
    """Scripts wait behind the pause; at the end they meet a read-only replica."""
    answers, stop = [], threading.Event()

    def script():
        while not stop.is_set():
            connection = ready.a.connect("app", timeout_s=20)
            try:
                answers.append(connection.eval("return redis.call('INCR', 'scripted')", 0))
            except Exception as error:
                answers.append(error)
                return
            finally:
                connection.close()

    threads = [threading.Thread(target=script) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answers) > 20, 60, "scripts run")
    result = ready.tool("cutover", "--yes", "--when-ready=20s")
    stop.set()
    for thread in threads:
        thread.join(30)
    assert result.code == 0, result
    counted = max(answer for answer in answers if isinstance(answer, int))
    for server in (ready.a, ready.b):
        assert int(config(server, "GET", "scripted")) == counted


def test_the_old_primary_comes_back_by_partial_resync(ready):
    for command, new in (("cutover", ready.b), ("rollback", ready.a), ("cutover", ready.b)):
        before = config(new, "INFO", "stats")
        with ready.load(writers=4) as load:
            wait_for(lambda: load.count() > 20, 60, "the load runs")
            result = ready.tool(command, "--yes", "--when-ready=20s")
            assert result.code == 0, result
        after = config(new, "INFO", "stats")
        assert after["sync_full"] == before["sync_full"] and after["sync_partial_ok"] == before["sync_partial_ok"] + 1


def test_an_opened_b_stays_open_and_a_fenced_a_fenced_over_restarts(ready):
    assert ready.tool("cutover", "--yes", "--when-ready=20s").code == 0
    ready.b.crash_and_restart()
    ready.a.crash_and_restart()
    assert ready.b.is_open() and not ready.a.is_open()
    assert config(ready.a, "CONFIG", "GET", "min-replicas-to-write")[1] == "999"
    config(ready.a, "REPLICAOF", "NO", "ONE")  # by hand, by mistake
    assert not ready.a.is_open()


def test_no_setting_of_ours_is_left_after_detach(ready):
    before = ready.a.settings()
    for command in ("cutover", "rollback"):
        assert ready.tool(command, "--yes", "--when-ready=20s").code == 0
    result = ready.tool("detach", "--yes")
    assert result.code == 0, result
    after = ready.a.settings()
    assert after["setting cluster-announce-ip"] == "" and ready.a.is_open() and not ready.b.is_open()
    assert {name: after[name] for name in after if after[name] != before.get(name)} in (
        {}, {"setting cluster-announce-ip": ""})
    assert config(ready.a, "EXISTS", "changeover:fence") == 0


@pytest.mark.parametrize("change, code", [
    ((("b", "CONFIG", "SET", "replica-read-only", "no"),), "target_writable"),
    ((("b", "CONFIG", "SET", "min-replicas-to-write", "2"),), "target_min_replicas"),
    ((("a", "CONFIG", "SET", "timeout", "5"),), "idle_timeout"),
    ((("a", "CONFIG", "SET", "masterauth", "wrong"),), "masterauth_wrong"),
    ((("a", "CONFIG", "SET", "masterauth", ""),), "masterauth_missing"),
    ((("a", "ACL", "SETUSER", "more", "on", ">x"),), "user_missing"),
    ((("b", "CONFIG", "SET", "maxmemory", "1mb"),), "maxmemory_too_small"),
    ((("a", "CONFIG", "SET", "appendonly", "no"),), "no_persistence"),
])
def test_what_is_wrong_is_found(ready, change, code):
    for side, *command in change:
        config(ready.server(side), *command)
    result = ready.tool("check", json=True)
    assert code in codes(result), result


def test_the_markers_place_is_looked_at(scene):
    config(scene.a, "CONFIG", "SET", "cluster-announce-ip", "10.1.2.3")
    assert "marker_place_taken" in codes(scene.tool("check", json=True))
    assert scene.tool("setup").code == 1
    assert config(scene.a, "CONFIG", "GET", "cluster-announce-ip")[1] == "10.1.2.3"


def test_lag_says_broken_or_unknown_where_it_is(ready):
    def state():
        return ready.tool("lag", json=True).json["pairs"][0]["state"]

    assert state() == "open"
    ready.a.freeze()
    assert state() == "unknown"
    ready.a.thaw()
    ready.b.freeze()
    assert state() == "unknown"
    ready.b.thaw()
    ready.b.cut_link(True)
    assert state() == "broken"
    ready.b.cut_link(False)
    wait_for(lambda: state() == "open", 60, "the link is back")
    config(ready.b, "REPLICAOF", "NO", "ONE")
    assert state() == "broken"


def test_a_key_in_a_database_that_b_lacks_is_seen(box, scene):
    """The command fails on B, the offsets are equal, and the key is in another database."""
    path = scene.b.folder / "redis.conf"
    scene.b.stop()
    path.write_text(path.read_text() + "databases 4\n")
    scene.b.start()
    assert "databases_fewer" in codes(scene.tool("check", json=True))
    scene.pair.extra["accept"] = ["databases_fewer"]
    scene.tool.write_config()
    scene.set_up()
    connection = scene.a.connect("default")
    connection.execute_command("SELECT", 9)
    connection.set("misplaced", "x")
    connection.close()
    wait_for(lambda: scene.tool("lag", json=True).json["pairs"][0]["state"] == "broken", 60, "the failed command is seen")


def test_two_operators_at_once_have_one_winner(ready):
    met = ready.box.folder / "m.met"  # the winner goes on when the other has ended, however late that one is
    children = [ready.tool.spawn("cutover", "--yes", "--when-ready=20s", json=True, fault="gate:begin=hold",
                                 env={"CHANGEOVER_FAULT_MET": str(met)}) for _ in range(2)]
    wait_for(lambda: any(child.poll() is not None for child in children), 60, "one of them is refused")
    met.with_name("m.met.go").touch()
    results = sorted(ready.tool.finish(child).code for child in children)
    assert results == [0, 75], results
    assert ready.b.is_open() and not ready.a.is_open()
