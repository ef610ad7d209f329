"""What an undo leaves behind: each server as it was; and what a tool that was frozen meanwhile may still do: nothing."""
import pytest

from case import World
from inject import difference
from sandbox import engine_reason, process, wait_for

ENGINES = ("fake", "redis", "mariadb", "postgresql", "mongodb-double", "mongodb")
CI = {("fake", "tool"), ("fake", "guardian"), ("fake", "resume"), ("redis", "resume"), ("mariadb", "guardian"), ("postgresql", "tool"),
      ("mongodb-double", "guardian")}
POINTS = ("fence:end", "reverse_prepare:end", "promote:end", "journal.commit:before")
GROUPS = ("fake+fake-novote+fake", pytest.param("postgresql+mariadb+redis", marks=pytest.mark.full))


@pytest.fixture
def world(in_budget, engine):
    reason = next(filter(None, map(engine_reason, engine.split("+"))), None)
    if reason:
        pytest.skip(reason)
    made, failed = World(engine, "undo", limit="20s"), True
    try:
        yield made
        failed = False
    finally:
        made.drop(failed)


def settings_of(scene):
    return [{side: pair.side(side).settings() for side in "ab"} for pair in scene.pairs]


def data_of(scene):
    return [{side: pair.side(side).read_all() for side in "ab"} for pair in scene.pairs]


# ---------------------------------------------------------------- settings, accounts, limits, slots, users

def make_uncommon(server):
    """What a hasty undo would get wrong: things that were switched off, locked or limited before the run."""
    if server.engine == "postgresql":
        for statement in ("CREATE ROLE sleeper NOLOGIN", "CREATE ROLE limited LOGIN CONNECTION LIMIT 3",
                          "CREATE DATABASE archive ALLOW_CONNECTIONS false", "CREATE DATABASE small CONNECTION LIMIT 4",
                          "ALTER ROLE limited SET default_transaction_read_only = on", "ALTER DATABASE small SET work_mem = '5MB'"):
            server.query(statement)
    elif server.engine == "mariadb":
        for statement in ("CREATE USER asleep@'%' IDENTIFIED BY 'x' ACCOUNT LOCK", "CREATE USER limited@'%' WITH MAX_USER_CONNECTIONS 3",
                          "CREATE EVENT app.off ON SCHEDULE EVERY 1 DAY DISABLE DO INSERT INTO app.ledger VALUES (UUID())",
                          "CREATE EVENT app.on_ ON SCHEDULE EVERY 1 DAY STARTS '2035-01-01' DO INSERT INTO app.ledger VALUES (UUID())"):
            server.query(statement)
    elif server.engine == "redis":
        connection = server.connect("default")
        connection.execute_command("ACL", "SETUSER", "off", "off", ">x", "~*", "+@read")
        connection.execute_command("ACL", "SETUSER", "limited", "on", ">x", "~cache:*", "+get", "+set")
        connection.config_set("min-replicas-max-lag", 7)
        connection.close()


@pytest.mark.parametrize("engine, who", [pytest.param(engine, who, marks=() if (engine, who) in CI else pytest.mark.full)
                                         for engine in ENGINES for who in ("tool", "guardian", "resume")])
def test_undo_leaves_each_server_as_it_was(world, engine, who):
    """At every depth: after the fence alone, after the drain, before the promotion. Settings, accounts, limits, slots and
    users of both sides, compared before and after."""
    action = {"tool": "error", "guardian": "kill", "resume": "kill_both"}[who]
    scene = world.get()
    make_uncommon(scene.a)
    if scene.engine == "redis":
        make_uncommon(scene.b)  # accounts of Redis don't replicate
    scene.must("lag", "--wait=20s", timeout_s=60)
    before = settings_of(scene)
    for point in ("warm_up:end", "fence:end", "capture:end", "reverse_prepare:end"):
        result = scene.tool("cutover", "--yes", "--when-ready=20s", fault=f"{point}={action}", timeout_s=90)
        assert result.code in ((1, 4) if who == "tool" else (-9,)), result
        scene.tool.wait_quiet()
        scene.settle("a")
        assert scene.primary == "a"

        def as_before():
            found = difference(before, settings_of(scene))
            if found:
                raise LookupError(f"{point}: {found}")
            return True
        wait_for(as_before, 20, "both servers are as they were")


@pytest.mark.parametrize("engine", ENGINES)
def test_undo_after_the_promotion_leaves_the_old_primary_as_it_was(world, engine):
    """The target was promoted: it may need a new copy. The source doesn't show a trace."""
    scene = world.get()
    make_uncommon(scene.a)
    if scene.engine == "redis":
        make_uncommon(scene.b)  # accounts of Redis don't replicate
    scene.must("lag", "--wait=20s", timeout_s=60)
    before = scene.a.settings()
    for action, code in (("error", 4), ("kill", -9), ("kill_both", -9)):
        result = scene.tool("cutover", "--yes", "--when-ready=20s", fault=f"promote:end={action}", timeout_s=90)
        assert result.code == code, result
        scene.tool.wait_quiet()
        scene.settle("a")
        after = scene.a.settings()
        assert difference([{"a": before, "b": {}}], [{"a": after, "b": {}}]) == [], action
        if scene.tool("lag", "--wait=5s", timeout_s=40).code != 0:
            scene.must("setup", timeout_s=180)


# ---------------------------------------------------------------- a tool that wakes up

@pytest.mark.parametrize("engine, point", [pytest.param(engine, point, marks=() if engine == "fake" or point == "promote:end" else pytest.mark.full)
                                           for engine in (*ENGINES, "fake+fake-novote+fake") for point in POINTS]
                         + [pytest.param("postgresql+mariadb+redis", point, marks=pytest.mark.full) for point in POINTS])
def test_a_frozen_tool_that_wakes_up_after_its_undo_changes_nothing(world, engine, point):
    """Nothing could kill it. Its run was undone by the guardian; then it goes on where it stood."""
    scene = world.get()
    scene.mark_runs()
    with scene.loads(writers=3) as load:
        wait_for(lambda: load.count("a") > 10, 20, "the load runs")
        child = scene.tool.spawn("cutover", "--yes", "--when-ready=20s", "--max-write-pause=2s", fault=f"{point}=stop",
                                 guardian_fault="guardian.kill=error")
        wait_for(lambda: child.poll() is not None or scene.stopped(child), 40, "the tool stops")
        wait_for(scene.run_ended, 40, "the guardian has undone the run")
        at = load.count("a")
        wait_for(lambda: load.count("a") > at + 5, 20, "the old primary serves")
    scene.agreed()
    before, data = settings_of(scene), data_of(scene)
    process.send(child.pid, 18)
    result = scene.tool.finish(child, 90)
    assert result.code in (4, 5, 75), result
    assert difference(before, settings_of(scene)) == []
    now = data_of(scene)
    assert [side["a"] for side in now] == [side["a"] for side in data]
    assert scene.open_side() == "a"
    load.check_not_lost("a")


@pytest.mark.parametrize("engine", ["fake"])
def test_a_frozen_tool_that_finds_its_target_opened_by_another_leaves_the_rest_to_it(world, engine):
    """It had stopped before it opened. When it wakes up the target is open, and the run isn't its any more: neither the hooks
    nor the markers are."""
    scene = world.get()
    scene.mark_runs()
    hooked = scene.box.folder / "switched"
    scene.tool.cutover["switch"] = [{"run": ["touch", str(hooked)], "timeout": "5s"}]
    scene.tool.write_config()
    child = scene.tool.spawn("cutover", "--yes", "--when-ready=20s", fault="journal.opening:after=stop",
                             guardian_fault="guardian.kill=error")
    wait_for(lambda: child.poll() is not None or scene.stopped(child), 40, "the tool stops")
    wait_for(lambda: not [pid for pid in scene.tool.guardians() if pid != child.pid], 60, "the guardian has opened the target")
    before = settings_of(scene)
    process.send(child.pid, 18)
    result = scene.tool.finish(child, 90)
    assert result.code == 5 and difference(before, settings_of(scene)) == [] and not hooked.exists(), result
    assert scene.settle("a") == "b" and hooked.exists()


@pytest.mark.parametrize("engine", [*ENGINES, *GROUPS])
def test_a_frozen_tool_that_wakes_up_after_its_commit_was_finished_changes_nothing(world, engine):
    """The guardian opened the target and left the rest to `resume`, which is kept out until the tool is gone."""
    scene = world.get()
    scene.mark_runs()
    with scene.loads(writers=3) as load:
        wait_for(lambda: load.count("a") > 10, 20, "the load runs")
        child = scene.tool.spawn("cutover", "--yes", "--when-ready=20s", "--max-write-pause=6s", fault="journal.commit:after=stop",
                                 guardian_fault="guardian.kill=error")
        wait_for(lambda: child.poll() is not None or scene.stopped(child), 40, "the tool stops")
        wait_for(lambda: load.count("b") > 5, 60, "the guardian has opened the target")
        wait_for(lambda: not [pid for pid in scene.tool.guardians() if pid != child.pid], 60, "the guardian has ended")
    scene.agreed()
    before = settings_of(scene)
    process.send(child.pid, 18)
    result = scene.tool.finish(child, 90)
    assert result.code in (5, 6, 0, 75), result
    if result.code in (5, 75):
        assert difference(before, settings_of(scene)) == []
    assert scene.settle("a") == "b"
    load.check_not_lost("b")
