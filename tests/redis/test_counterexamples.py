"""The ways in which Redis loses data or gets two writers, each by its name."""
import re
import threading

import pytest
import redis

from rediskit import add_lines, need, refuses_writes, run, set_up
from sandbox import wait_for
from sandbox.scenario import Scenario


@pytest.fixture
def ready(box):
    scene = set_up(box)
    scene.tool.cutover["max_write_pause"] = "30s"  # what is done in a pause here takes as long as it takes; none is to end by that
    scene.tool.write_config()
    return scene


def stop_at(scene, point, code=-9):
    result = scene.tool("cutover", "--yes", "--when-ready=20s", fault=f"{point}=kill_both")
    assert result.code == code, result
    scene.tool.wait_quiet()


def on_disk(server, name):
    found = re.findall(rf"^{name} (.*)$", (server.folder / "redis.conf").read_text(), re.M)
    return found[-1].strip('"') if found else None


def test_the_closure_is_on_bs_disk_before_it_is_promoted_and_a_follows_only_after_the_commit(ready):
    """Else a B that restarts comes back open and old, and A is copied down to it."""
    stop_at(ready, "promote.replicaof_no_one:before")
    assert on_disk(ready.b, "min-replicas-to-write") == "999" and on_disk(ready.a, "min-replicas-to-write") == "999"
    assert ready.settle("a") == "a"
    ready.caught_up()
    stop_at(ready, "journal.commit:before")
    assert run(ready.a, "ROLE")[0] == "master" and on_disk(ready.a, "replicaof") is None
    assert run(ready.b, "ROLE")[0] == "master" and on_disk(ready.b, "replicaof") is None
    ready.b.crash_and_restart()
    assert refuses_writes(ready.b) and refuses_writes(ready.a)
    assert ready.settle("a") == "a"


def test_a_b_without_persistence_that_restarts_empty_does_not_destroy_a(box):
    """After the commit, before it was opened: B has nothing, A has everything. Both stay closed; the operator turns back."""
    scene = Scenario(box, need("redis"))
    add_lines(scene.b, "appendonly no")
    scene.set_up()
    with scene.load(writers=3) as load:
        wait_for(lambda: load.count() > 30, 60, "the load runs")
        stop_at(scene, "journal.commit:after")
        scene.b.crash_and_restart()
        result = scene.tool("resume", "--if-needed", timeout_s=90)
        assert result.code == 5, result
        assert refuses_writes(scene.a) and refuses_writes(scene.b)
        assert run(scene.a, "ROLE")[0] == "master" and run(scene.a, "DBSIZE") > 200
        result = scene.tool("abort", "--b-is-lost", "--yes", timeout_s=90)
        assert result.code in (0, 4), result
        assert scene.open_side() == "a"
    load.check_not_lost(scene.a)


@pytest.mark.parametrize("point", ["prove", "promote", "commit"])
def test_an_a_that_restarts_between_proof_and_commit_is_seen(ready, point):
    with ready.load(writers=3) as load:
        with ready.tool.held("cutover", "--yes", "--when-ready=20s", at=f"{point}:begin", json=True) as child:
            ready.a.crash_and_restart()
        result = ready.tool.finish(child)
        side = ready.settle("a")
        assert result.code == (0 if side == "b" else 4) or side == "a", result
        if point != "commit":  # the proof is taken again after the promotion; then the commit follows at once
            assert side == "a"
    ready.check(load, "a")


def test_a_pause_that_ends_early_lets_no_write_through(ready):
    """CLIENT UNPAUSE by somebody, or the wall clock of A jumping: min-replicas-to-write is the fence, the pause only helps."""
    answers, stop = [], threading.Event()

    def knock():
        while not stop.is_set():
            try:
                answers.append(("done", run(ready.a, "EVAL", "return redis.call('SET', 'unpaused', 'x')", 0, user="app")))
            except redis.RedisError as error:
                answers.append(("refused", str(error)))  # the error itself keeps its connection open: thousands on a fast machine

    with ready.tool.held("cutover", "--yes", "--when-ready=20s", at="capture:end") as child:
        assert run(ready.a, "CONFIG", "GET", "min-replicas-to-write")[1] == "999"
        run(ready.a, "CLIENT", "UNPAUSE")
        thread = threading.Thread(target=knock)
        thread.start()
        wait_for(lambda: len(answers) > 3, 60, "somebody has tried to write")
    result = ready.tool.finish(child)
    stop.set()
    thread.join(20)
    assert result.code == 0, result
    assert len(answers) > 3 and not [answer for answer in answers if answer[0] != "refused"], answers[:5]


def test_how_the_old_primary_follows_is_in_the_report(ready):
    """By a partial resync; where the pause ran out and keys expired on the closed old primary, by a full copy, and why."""
    connection = ready.a.connect("default")
    keys = [f"short:{number}" for number in range(4000)]  # some expire in each moment of the runs, however slow they are
    for number, key in enumerate(keys):
        connection.set(key, "x", px=1000 + number * 30)
    connection.close()
    for pause, words in (("60s", "partial resync"), ("100ms", "when the pause ran out")):
        ready.pair.extra["pause"] = pause
        ready.tool.write_config()
        source = ready.primary
        with ready.tool.held("rollback" if source == "b" else "cutover", "--yes", "--when-ready=20s", at="commit:begin") as child:
            if pause == "100ms":
                server = ready.server(source)
                before = run(server, "INFO", "replication")["master_repl_offset"]

                def one_has_expired():
                    run(server, "MGET", *keys)  # by itself the server looks at a few of them now and then
                    return run(server, "INFO", "replication")["master_repl_offset"] > before
                wait_for(one_has_expired, 20, "a key expires on the closed old primary")
        result = ready.tool.finish(child)
        assert result.code == 0, result
        ready.note(result.code, source)
        texts = [event["text"] for event in ready.report()["events"] if event["kind"] == "remark"]
        assert len(texts) == 1 and words in texts[0] and texts[0].startswith(f"side {source} "), texts
        assert texts[0] in " ".join(ready.must("report").out.split())


def test_a_write_that_came_in_because_the_fence_was_taken_down_is_seen_and_kept(ready):
    """An administrator takes the fence down between the capture and the commit: the run is undone and his write is there."""
    with ready.tool.held("cutover", "--yes", "--when-ready=20s", at="prove:begin") as child:
        run(ready.a, "CLIENT", "UNPAUSE")
        run(ready.a, "CONFIG", "SET", "min-replicas-to-write", "0")
        run(ready.a, "SET", "through", "x")
    result = ready.tool.finish(child)
    assert result.code == 4, result
    assert ready.open_side() == "a" and run(ready.a, "GET", "through") == "x"


def test_sessions_of_a_dead_tool_are_gone_before_anything_is_undone(ready):
    """What a dead tool had under way would bite later: its sessions are ended, and seen gone."""
    stop_at(ready, "capture:end")
    marker = run(ready.a, "CONFIG", "GET", "cluster-announce-ip")[1]
    run_id = re.search(r"token=([^: ]+):", marker)[1]
    ghost = ready.a.connect("default")
    ghost.client_setname(f"changeover:{run_id}:ghost")
    ghost.ping()
    assert ready.settle("a") == "a"
    with pytest.raises(redis.ConnectionError):
        ghost.ping()


def test_a_name_that_leads_to_b_is_not_followed(box):
    """A's address is re-pointed to B in the middle of a run: what answers there isn't A, and nothing is done to it."""
    scene = Scenario(box, need("redis"), legs=True)
    scene.tool.cutover.update(max_write_pause="2s", undo_budget="2s")
    scene.tool.write_config()
    scene.set_up()
    stop_at(scene, "capture:end")
    leg = scene.legs["tool_a"]
    leg.target = scene.b.port
    leg.cut()
    leg.restore()
    result = scene.tool("resume", "--if-needed", timeout_s=90)
    assert result.code in (3, 4, 5), result
    assert refuses_writes(scene.b), "B was taken for A and opened"
    leg.target = scene.a.port
    leg.cut()
    leg.restore()
    assert scene.settle("a") == "a"


def test_equal_offsets_of_another_history_are_no_lag_0(ready):
    """B follows a third server whose offset is the same: the ids differ."""
    other = ready.box.pair("redis", name="other").a
    run(ready.b, "REPLICAOF", "127.0.0.1", other.port)
    wait_for(lambda: run(ready.b, "INFO", "replication")["master_link_status"] == "up", 60, "it follows the third one")
    found = ready.tool("lag", json=True)
    assert found.json["pairs"][0]["state"] == "broken" and found.code == 2, found


def test_a_full_copy_that_starts_over_is_ended_with_the_reason(box):
    """The output buffer is smaller than what is written during the copy: without a look it would go on for ever."""
    scene = Scenario(box, need("redis"))
    # a copy takes a second at least: there is something written during each, on a fast machine too
    add_lines(scene.a, 'client-output-buffer-limit "replica 100000 100000 1"', "repl-backlog-size 20000", "rdb-key-save-delay 300")
    connection = scene.a.connect("default", timeout_s=60)
    connection.execute_command("EVAL", "for i = 1, 3000 do redis.call('SET', 'fat:' .. i, string.rep('x', 20000)) end", 0)
    stop = threading.Event()

    def write():
        value = "y" * 30000
        while not stop.is_set():
            with connection.pipeline(transaction=False) as pipeline:
                for number in range(50):
                    pipeline.set(f"more:{number}", value)
                pipeline.execute()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        result = scene.tool("setup", timeout_s=180)
    finally:
        stop.set()
        thread.join(20)
        connection.close()
    assert result.code in (1, 2) and "started over" in result.out + result.err, result


def test_a_frozen_b_does_not_hide_behind_a_link_that_is_up(ready):
    ready.b.freeze()
    try:
        found = ready.tool("lag", json=True)
    finally:
        ready.b.thaw()
    assert found.json["pairs"][0]["state"] == "unknown" and found.code == 3


@pytest.mark.full
@pytest.mark.parametrize("engine", ["redis", "redis8", "redis-to-valkey"])
def test_20_cutovers_and_20_rollbacks_each_come_back_by_a_partial_resync(box, engine):
    """Eight writers: plain, superuser, reconnecting, MULTI, Lua, pipelined, blocking, expiring. Back to the older server, too."""
    ready = set_up(box, need(engine))
    lost = 0
    for number in range(40):
        command = "rollback" if number % 2 else "cutover"
        source, new = ready.primary, ready.a if number % 2 else ready.b
        before = run(new, "INFO", "stats")
        with ready.load(writers=8) as load:
            wait_for(lambda: load.count() > 40, 60, "the load runs")
            result = ready.run(command)
            assert result.code == 0, result
            at = load.count(ready.primary)
            wait_for(lambda: load.count(ready.primary) > at + 30, 60, "writes go on")
        ready.check(load, source, committed=True)
        after = run(new, "INFO", "stats")
        assert (after["sync_full"], after["sync_partial_ok"]) == (before["sync_full"], before["sync_partial_ok"] + 1), f"run {number}"
        lost += load.count()
    print(f"{lost} acknowledged writes, none lost, 40 of 40 partial resyncs")
