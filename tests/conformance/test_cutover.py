"""Cutover, rollback, undo and resume under load: never two writers, nothing acknowledged is lost."""
import json
import time

import pytest

from sandbox import wait_for

from sandbox.scenario import PATIENTLY, now_ns, unchanged


def cant_vote(scene):
    """Its promotion, before the commit record, is the decision."""
    return scene.engine == "fake-novote" or getattr(scene.a, "cant_vote", False)


def needs_fence(scene):
    """What is asserted here is the fence; a server that has none can't show it."""
    if getattr(scene.a, "no_fence", False):
        pytest.skip(f"{scene.engine}: this server version has no fence: it takes writes until it has stepped down")


def there_and_back(scene, rounds, writers=8):
    for _ in range(rounds):
        for kind in ("cutover", "rollback"):
            source, since = scene.primary, now_ns()
            with scene.load(writers=writers) as load:
                wait_for(lambda: load.count() > 50, 20, "the load runs")
                before = load.count()
                result = scene.run(kind, json=True)
                assert result.code == 0, result
                wait_for(lambda: load.count() > before + 50, 20, "writes go on")
            assert scene.check(load, source, since, committed=True) != source
            assert result.json["outcome"] == "done"
            assert result.json["primary"] == scene.primary
            assert result.json["write_pause_ms"] >= 0
            # Without a fence the step-down is the decision: what its heir drains afterwards is waited for (docs/mongodb.md).
            assert getattr(scene.a, "no_fence", False) or result.json["write_pause_ms"] <= 20000  # its limit, see PATIENTLY


def test_cutover_and_rollback_under_8_writers(ready):
    there_and_back(ready, 1)


@pytest.mark.full
def test_20_cutovers_and_rollbacks_under_8_writers(ready):
    there_and_back(ready, 20)


@pytest.mark.parametrize("point", ["warm_up:end", "prove:end", "reverse_prepare:end"])
def test_an_undone_run_leaves_the_settings_as_before(ready, point):
    before = ready.a.settings(), ready.b.settings()
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        result = ready.tool("cutover", *PATIENTLY, fault=f"{point}=error", json=True)
        assert result.code == (1 if point == "warm_up:end" else 4), result
        at = load.count("a")
        wait_for(lambda: load.count("a") > at + 20, 20, "A takes writes again")
    assert result.json["outcome"] in ("undone", "refused") and result.json["primary"] == "a"
    assert ready.check(load, "a", committed=False) == "a"
    wait_for(lambda: unchanged(before, (ready.a.settings(), ready.b.settings())), 20, "settings as before")
    ready.caught_up()
    assert ready.run("cutover").code == 0  # and the next run isn't hindered


def test_an_undone_promotion_leaves_a_as_before_and_b_can_follow_again(ready):
    before = ready.a.settings()
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        result = ready.tool("cutover", *PATIENTLY, fault="promote:end=error", json=True, timeout_s=120)
        assert result.code == 4, result
        at = load.count("a")
        wait_for(lambda: load.count("a") > at + 20, 20, "A takes writes again")
    assert ready.check(load, "a", committed=False) == "a"
    wait_for(lambda: unchanged((before,), (ready.a.settings(),)), 20, "A's settings as before")
    if ready.tool("lag", "--wait=10s", timeout_s=60).code != 0:
        ready.must("setup", timeout_s=180)  # some engines need a new copy of B, and say so
        ready.caught_up()
    assert ready.run("cutover").code == 0


def test_catching_up_takes_too_long_and_a_takes_writes_again_in_time(ready):
    """max_write_pause + undo_budget, from the journal's own stamps; the margin is a second."""
    if not hasattr(ready.b, "pause_apply"):
        pytest.skip(f"{ready.engine}: the sandbox can't hold up applying")
    ready.tool.cutover.update(max_write_pause="1s", undo_budget="4s")
    ready.tool.write_config()
    ready.b.pause_apply(False)
    with ready.load(writers=4, pause_s=0.005) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        with ready.tool.held("cutover", "--yes", "--when-ready=20s", at="warm_up:end", json=True) as child:
            ready.b.pause_apply(True)
            of_a = [(writer, writer.tried) for writer in load.writers if "b" not in writer.sides]  # a write that waits for B counts too: A has it
            wait_for(lambda: all(writer.tried > at + 1 for writer, at in of_a), 20, "B has something to catch up with")
        result = ready.tool.finish(child, 60)
        ready.tool.wait_quiet()
    ready.b.pause_apply(False)
    assert of_a and result.code in (4, -9), result  # -9: it was late by a quarter of a second, and the guardian did it
    unavailable_ms = result.json["unavailable_ms"] if result.code == 4 else None
    assert unavailable_ms is None or unavailable_ms <= 5000 + 1000, result
    assert ready.check(load, "a", committed=False) == "a"


@pytest.mark.parametrize("point", ["warm_up:end", "fence:end", "capture:end", "promote:end", "journal.commit:before",
                                   "journal.commit:after", "open:begin", "open:end", "reverse:begin"])
@pytest.mark.parametrize("who", ["kill", "kill_both"])
def test_killed_at_a_point_it_ends_with_one_open_side_and_no_loss(ready, point, who):
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        result = ready.tool("cutover", *PATIENTLY, fault=f"{point}={who}")
        assert result.code == -9, result
        side = ready.settle("a")
        at = load.count()
        wait_for(lambda: load.count() > at + 20, 20, "writes go on")
    after_commit = point in ("journal.commit:after", "open:begin", "open:end", "reverse:begin")
    if cant_vote(ready):
        after_commit = after_commit or point == "journal.commit:before"
    assert side == ("b" if after_commit else "a")
    ready.check(load, "a")


@pytest.mark.parametrize("point, opens", [("capture:end", "a"), ("promote:end", "a"), ("journal.commit:after", "b")])
def test_servers_that_restart_while_fenced_and_closed_stay_so(ready, point, opens):
    needs_fence(ready)
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert ready.tool("cutover", *PATIENTLY, fault=f"{point}=kill_both").code == -9
        ready.tool.wait_quiet()
        for server in (ready.a, ready.b):
            server.crash_and_restart()
        assert not ready.a.is_open()
        assert not ready.b.is_open() or (cant_vote(ready) and opens == "b")
        assert ready.settle("a") == opens
    ready.check(load, "a")


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("point", ["warm_up:begin", "fence:begin", "catch_up:begin", "promote:begin", "open:begin",
                                   "reverse:begin"])
def test_a_frozen_server_never_hangs_the_tool(ready, point, side):
    """Frozen at the beginning of a phase. Before the commit the tool ends by itself, or its guardian ends it; after it
    the tool goes on trying until the server is back: B is open by then, or both are closed."""
    ready.tool.cutover.update(max_write_pause="6s", undo_budget="2s")
    ready.tool.write_config()
    phase = point.split(":")[0]
    with ready.load(writers=3, timeout_s=1.0) as load:
        wait_for(lambda: load.count() > 10, 20, "the load runs")
        with ready.tool.held("cutover", "--yes", "--when-ready=20s", at=point) as child:
            server = ready.server(side)
            if server.pid():  # a fence that stops the server leaves nothing to freeze
                server.freeze()
        try:
            if phase not in ("open", "reverse"):
                wait_for(lambda: child.poll() is not None, 40, "the tool ends while the server is frozen")
            else:
                time.sleep(3)  # for how long it is frozen
        finally:
            server.thaw()
        result = ready.tool.finish(child, 30)
        assert result.code in (0, 1, 3, 4, 5, 6, -9), result
        ready.settle("a")
    ready.check(load, "a")


def test_a_second_operator_on_this_machine_is_refused(ready):
    with ready.tool.held("cutover", "--yes", "--when-ready=20s", at="fence:begin") as first:
        second = ready.tool("cutover", "--yes")
        assert second.code == 75, second
    assert ready.tool.finish(first).code in (0, 4)


def test_a_second_operator_on_another_machine_is_refused(ready):
    """Another journal: only the markers on the servers tell of the first run."""
    needs_fence(ready)
    first = ready.tool("cutover", *PATIENTLY, fault="capture:end=kill_both")
    assert first.code == -9
    ready.tool.wait_quiet()
    elsewhere = ready.box.tool([ready.pair], name="elsewhere")
    for command in (("cutover", "--yes"), ("rollback", "--yes"), ("detach", "--yes"), ("resume",), ("abort", "--yes")):
        result = elsewhere(*command)
        assert result.code in (75, 1, 2), result
        assert not ready.a.is_open() and not ready.b.is_open()
    assert elsewhere("cutover", "--yes").code == 75
    assert ready.settle("a") == "a"


def test_a_run_is_taken_over_from_another_machine(ready):
    with ready.load(writers=3) as load:
        wait_for(lambda: load.count() > 10, 20, "the load runs")
        assert ready.tool("cutover", *PATIENTLY, fault="capture:end=kill_both").code == -9
        ready.tool.wait_quiet()
        elsewhere = ready.box.tool([ready.pair], name="elsewhere")
        result = elsewhere("abort", "--take-over", "--yes")
        assert result.code in (0, 4), result
        assert ready.open_side() == "a"
        late = ready.tool("resume", "--if-needed")  # the first machine wakes up: it does nothing more
        assert ready.open_side() == "a", late
    ready.check(load, "a", committed=False)


def test_where_the_journal_is_lost_another_migration_goes_back(ready):
    """One in which the sides have changed names: it adopts the replication that runs."""
    assert ready.run("cutover").code == 0
    document = ready.tool.document()
    document.update(migration="back", journal=str(ready.box.folder / "back.journal"))
    for pair in document["pairs"]:
        pair["a"], pair["b"] = pair["b"], pair["a"]
    ready.tool.write_config(json.dumps(document))
    ready.must("setup", timeout_s=120)
    since = now_ns()
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count("b") > 20, 60, "writes go on")
        result = ready.tool("cutover", *PATIENTLY, json=True, timeout_s=120)
        assert result.code == 0, result
        wait_for(lambda: load.count("a") > 20, 60, "writes go on")
    assert ready.check(load, "b", since, committed=True) == "a"


def test_dry_run_prints_what_the_journal_records(ready):
    planned = ready.must("cutover", "--dry-run", json=True).json
    before = ready.a.settings(), ready.b.settings()
    assert (ready.a.settings(), ready.b.settings()) == before
    assert ready.run("cutover").code == 0
    report = ready.report()
    done = [(step["side"], step["step"]) for step in report["steps"] if step["action"] == "apply"]
    plan = [(step["side"], step.get("step", step.get("name"))) for step in planned["steps"]]
    missing = [step for step in done if step not in plan]
    assert not missing, f"executed and not planned: {missing}"


def test_detach_ends_the_migration_and_leaves_the_primary_open(ready):
    ready.must("detach", "--yes")
    assert ready.a.is_open() and not (ready.b.pid() and ready.b.is_open())


def test_detach_after_a_cutover_leaves_b_open(ready):
    assert ready.run("cutover").code == 0
    ready.must("detach", "--yes")
    assert ready.b.is_open() and not ready.a.is_open()
