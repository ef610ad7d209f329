"""Every finding of the pre-flight, provoked: on a real server where that can be, else by a relay that changes an answer."""
import pathlib
import re
import subprocess
import threading

import pytest

from liar import Error, answer, line_of_info, setting
from rediskit import add_lines, codes, reach_through, run, scenario, set_up
from sandbox import wait_for


@pytest.fixture
def ready(box):
    return set_up(box)


@pytest.mark.parametrize("side, command, code", [
    ("b", "CONFIG SET replica-read-only no", "target_writable"),
    ("b", "CONFIG SET min-replicas-to-write 2", "target_min_replicas"),
    ("a", "CONFIG SET timeout 5", "idle_timeout"),
    ("a", "CONFIG SET masterauth wrong", "masterauth_wrong"),
    ("a", "CONFIG SET masterauth %", "masterauth_missing"),
    ("b", "CONFIG SET masterauth wrong", "masterauth_wrong"),
    ("b", "CONFIG SET masterauth %", "masterauth_missing"),
    ("a", "ACL SETUSER more on >x", "user_missing"),
    ("b", "ACL SETUSER app -del", "user_differs"),
    ("b", "CONFIG SET maxmemory 1mb", "maxmemory_too_small"),
    ("b", "CONFIG SET maxmemory 900mb", "maxmemory_differs"),
    ("a", "CONFIG SET appendonly no", "no_persistence"),
    ("b", "CONFIG SET appendfsync everysec", "aof_not_synced"),
    ("b", "CONFIG SET maxmemory-policy allkeys-lru", "setting_differs"),
    ("a", "CONFIG SET maxclients 12", "maxclients_reached"),
    ("b", "CONFIG SET repl-backlog-size 20000", "backlog_smaller"),
    ("a", "CONFIG SET min-replicas-to-write 999", "source_refuses_writes"),
    ("b", "CONFIG SET requirepass other", "password_differs"),
])
def test_a_setting_that_is_wrong_is_found(ready, side, command, code):
    run(ready.server(side), *("" if word == "%" else word for word in command.split()))
    if code == "password_differs":
        (ready.box.folder / "redis-b.password").write_text("other\n")
        (ready.box.folder / "redis-b.password").chmod(0o600)
        plain = ready.b.side_config
        ready.b.side_config = lambda: {**plain(), "password_file": str(ready.box.folder / "redis-b.password")}
        ready.tool.write_config()
    assert code in codes(ready)


def test_a_target_that_stopped_following_is_refused(ready):
    run(ready.b, "REPLICAOF", "NO", "ONE")
    assert "not_following" in codes(ready, "--for", "cutover")
    assert ready.tool("cutover", "--yes").code in (1, 2) and ready.a.is_open()


def test_snapshots_only_is_found(ready):
    run(ready.a, "CONFIG", "SET", "appendonly", "no")
    run(ready.a, "CONFIG", "SET", "save", "900 1")
    assert "rdb_only" in codes(ready)


def test_cached_scripts_and_other_replicas_are_told(box, ready):
    run(ready.a, "SCRIPT", "LOAD", "return 1")
    other = box.pair("redis", name="other").b
    run(other, "REPLICAOF", "127.0.0.1", ready.a.port)
    wait_for(lambda: run(ready.a, "INFO", "replication")["connected_slaves"] == 2, 60, "another replica")
    found = codes(ready)
    assert {"scripts_not_copied", "other_replicas"} <= found


def test_many_clients_are_a_warning(ready):
    run(ready.a, "CONFIG", "SET", "maxclients", 100)
    crowd = [ready.a.connect("app") for _ in range(82)]
    for one in crowd:
        one.ping()
    found = codes(ready)
    for one in crowd:
        one.close()
    assert "maxclients_near" in found or "maxclients_reached" in found


def test_small_buffers_are_measured_against_the_write_rate(box):
    scene = scenario(box)
    run(scene.a, "CONFIG", "SET", "repl-backlog-size", 20000)
    run(scene.a, "CONFIG", "SET", "client-output-buffer-limit", "replica 1mb 1mb 60")
    connection, stop = scene.a.connect("app", timeout_s=60), threading.Event()
    value = "x" * 20000

    def write():  # all the time: the server's rate is of the last two seconds
        while not stop.is_set():
            with connection.pipeline(transaction=False) as pipeline:
                for number in range(200):
                    pipeline.set(f"big:{number}", value)
                pipeline.execute()
            stop.wait(0.1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        wait_for(lambda: {"backlog_small", "replica_buffer_small"} <= codes(scene, "--for", "setup"), 60, "the write rate is seen")
    finally:
        stop.set()
        thread.join(60)
        connection.close()


def test_two_names_of_the_same_server_are_found(box):
    scene = scenario(box)
    plain = scene.b.side_config
    scene.b.side_config = lambda: {**plain(), "url": f"redis://localhost:{scene.a.port}", "tls": {"mode": "off"}}
    scene.tool.write_config()
    assert "same_server" in codes(scene)


def test_a_socket_path_needs_a_peer(box):
    scene = scenario(box)
    path = f"{scene.a.folder}/s"
    add_lines(scene.a, f"unixsocket {path}")
    plain = scene.a.side_config
    scene.a.side_config = lambda: {**plain(), "url": f"redis://{path.replace('/', '%2F')}"}
    scene.tool.write_config()
    result = scene.tool("check", json=True)
    assert "peer_unknown" in {finding["code"] for finding in result.json["findings"]}, result


def test_a_side_that_is_down_is_a_finding(ready):
    ready.b.kill()
    result = ready.tool("check", json=True)
    assert result.code == 3 and [(one["code"], one["side"]) for one in result.json["findings"] if one["severity"] == "error"] == [("unreachable", "b")], result


def test_a_server_without_a_config_file_is_refused(box):
    scene = scenario(box)
    scene.a.stop()
    scene.a.child = subprocess.Popen([scene.a.binary(), "--port", str(scene.a.port), "--requirepass", "rd-secret-7Q", "--dir",
                                      str(scene.a.folder)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(scene.a.answers, 60, "it answers")
    assert "config_file_missing" in codes(scene, "--for", "setup")
    assert scene.tool("setup").code == 1


def test_a_config_that_cannot_be_asked_for_is_refused(box):
    scene = scenario(box)
    add_lines(scene.a, 'rename-command CONFIG ""')
    assert "config_refused" in codes(scene, "--for", "setup")


def test_cluster_mode_is_refused(box):
    scene = scenario(box)
    # else its second port is 10000 above the first: of one port in five there is none
    add_lines(scene.a, "cluster-enabled yes", f"cluster-port {box.free_port()}")
    assert "cluster_mode" in codes(scene, "--for", "setup")


def test_a_sentinel_is_seen_and_may_be_consented_to(box, ready):
    folder = box.folder / "sentinel"
    folder.mkdir()
    port = box.free_port()
    (folder / "sentinel.conf").write_text(f"port {port}\ndir {folder}\nsentinel monitor it 127.0.0.1 {ready.a.port} 1\n"
                                          "sentinel auth-pass it rd-secret-7Q\n")
    child = subprocess.Popen([ready.a.binary(), str(folder / "sentinel.conf"), "--sentinel"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: "sentinel" in codes(ready), 60, "the sentinel is seen")
        assert ready.tool("cutover", "--yes", "--when-ready=5s").code == 1
    finally:
        child.kill()
        child.wait()


def test_a_target_that_holds_data_is_not_replaced(box):
    scene = scenario(box)
    run(scene.b, "SET", "precious", "x")
    assert "target_not_empty" in codes(scene, "--for", "setup")
    assert scene.tool("setup").code == 1
    assert run(scene.b, "GET", "precious") == "x"


def test_a_source_that_is_a_replica_is_refused(box):
    scene = scenario(box)
    run(scene.a, "REPLICAOF", "127.0.0.1", scene.b.port)
    assert "source_not_primary" in codes(scene, "--for", "setup")


def test_fewer_databases_are_found(box):
    scene = scenario(box)
    add_lines(scene.b, "databases 4")
    assert "databases_fewer" in codes(scene, "--for", "setup")


def test_commands_that_failed_on_b_are_an_error(box):
    scene = scenario(box)
    scene.set_up()
    reach_through(scene, "b", line_of_info("unexpected_error_replies", 3))
    assert "apply_errors" in codes(scene, "--for", "cutover")


@pytest.mark.parametrize("side, lie, code", [
    ("a", line_of_info("rdb_last_bgsave_status", "err"), "saves_fail"),
    ("b", line_of_info("aof_last_write_status", "err"), "aof_fails"),
    ("a", line_of_info("total_system_memory", 1000), "fork_memory"),
    ("a", line_of_info("redis_version", "4.0.9"), "version_too_old"),
    ("b", line_of_info("redis_version", "6.2.1"), "rdb_version"),
    ("a", line_of_info("loading", 1), "loading"),
    ("b", answer("TIME", lambda real: [str(int(real[0]) + 5).encode(), real[1]]), "clock_skew"),
    ("a", answer("MODULE LIST", [[b"name", b"search", b"ver", 1]]), "module_missing"),
    ("a", answer("ACL LIST", Error("NOPERM no permissions")), "users_not_seen"),
    ("b", setting("tls-port", "1"), "tls_replication"),
])
def test_what_a_server_says_of_itself_is_judged(box, side, lie, code):
    scene = scenario(box)
    if code == "tls_replication":
        lie = setting("tls-replication", "yes")
    reach_through(scene, side, lie)
    assert code in codes(scene, "--for", "setup")


def test_an_older_target_of_the_same_data_format_is_refused(box):
    scene = scenario(box, "redis7.4")
    reach_through(scene, "a", line_of_info("redis_version", "7.5.0"))
    assert "version_older" in codes(scene, "--for", "setup")


def test_a_newer_redis_is_not_moved_to_valkey(box):
    scene = scenario(box, "valkey")
    reach_through(scene, "a", lambda words, reply: reply.replace(b"valkey_version:", b"x:").replace(b"redis_version:7.2.4", b"redis_version:7.4.0")
                  if words[0] == "INFO" and isinstance(reply, bytes) else reply)
    assert "rdb_version" in codes(scene, "--for", "setup")
    assert scene.tool("setup").code == 1


def test_the_way_back_to_an_older_version_is_named(box):
    scene = scenario(box, "redis-to-valkey")
    assert "way_back_version" in codes(scene, "--for", "setup")


def test_values_that_valkey_8_1_would_write_wrongly_are_refused(box):
    scene = scenario(box, "valkey")
    if scene.a.version() != (8, 1):
        pytest.skip(f"valkey: this is {scene.a.version()}, and the flaw is 8.1's")
    run(scene.a, "CONFIG", "SET", "tls-ciphers", 'a"b')
    assert "config_rewrite_unsafe" in codes(scene, "--for", "setup")


@pytest.mark.parametrize("engine, expected", [
    ("redis5.0", {"no_pause", "short_marker", "scripts_unfenced"}),
    ("redis6.0", {"no_pause", "short_marker", "rights_taken"}),
])
def test_what_older_versions_lack_is_said(box, engine, expected):
    scene = set_up(box, engine)
    found = codes(scene)
    assert expected <= found
    if engine == "redis5.0":
        run(scene.a, "EVAL", "return 1", 0)
        assert "scripts_pass_fence" in codes(scene)
        assert scene.tool("cutover", "--yes", "--when-ready=5s").code == 1


def test_more_users_than_a_fence_can_hold_are_refused(box):
    scene = scenario(box, "redis6.2")
    for number in range(129):
        run(scene.a, "ACL", "SETUSER", f"u{number}", "on", ">x", "~*", "+@all")
    assert "users_too_many" in codes(scene, "--for", "setup")
    assert scene.tool("setup").code == 1


def test_a_port_that_speaks_tls_to_a_follower_that_does_not_is_found(box):
    scene = scenario(box)
    plain = setting("port", "1")
    tls = setting("tls-port", str(scene.a.port))
    reach_through(scene, "a", lambda words, reply: tls(words, plain(words, reply)))
    assert "tls_replication" in codes(scene, "--for", "setup")


def test_a_rollback_to_an_older_version_that_follows_is_a_warning(box):
    """It follows by the stream of commands already and needs no data file."""
    scene = set_up(box, "redis-to-valkey")
    assert scene.run("cutover").code == 0
    found = {finding["code"]: finding["severity"] for finding in scene.tool("check", "--for", "cutover", json=True).json["findings"]}
    assert found.get("rdb_version", found.get("version_older")) == "warning", found


def test_functions_come_along(box):
    """They replicate from 7.0 on, and are there on the new primary without a client doing anything."""
    scene = set_up(box)
    run(scene.a, "FUNCTION", "LOAD", "#!lua name=mine\nredis.register_function('answer', function() return 42 end)")
    assert scene.run("cutover").code == 0
    assert run(scene.b, "FCALL", "answer", 0) == 42


def test_every_code_is_provoked_by_a_test_here():
    assert not {code for code in codes_in_the_driver() if f'"{code}"' not in every_test()}


def every_test():
    return "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py"))


def codes_in_the_driver():
    root = pathlib.Path(__file__).resolve().parents[2]
    source = "".join(path.read_text() for path in (root / "drivers/redis").glob("check*.c"))
    return set(re.findall(r'rd_find\(\s*call,\s*[^"]*?"(\w+)"', source)) | {"user_missing"}


def test_every_code_in_the_driver_is_in_the_manual():
    """And the other way round."""
    root = pathlib.Path(__file__).resolve().parents[2]
    made = codes_in_the_driver()
    assert len(made) > 50
    manual = (root / "docs/redis.md").read_text()
    table = manual[manual.index("## Findings"):]
    table = table[:table.index("\n## ", 5)]
    told = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))))
    assert made == told, (made - told, told - made)
