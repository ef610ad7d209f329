"""Several pairs in one migration go together or not at all, also when one of them can't vote; on the fake engine, and on real
servers of several engines at once."""

import pytest

from case import World
from sandbox import ENGINES, engine_reason, wait_for
from sandbox.scenario import OTHER, PATIENTLY, Scenario, now_ns
from sandbox.tool import fault_points

ENGINES.setdefault("mongodb-double-4.0", ("mongodb", "MongoDBDouble40", "mongodb"))

TOGETHER = ["fake", "fake"]
WITH_DECIDER = ["fake", "fake-novote", "fake"]


@pytest.fixture
def make(box):
    def made(engines):
        pairs = [box.pair(engine, name=f"p{i}") for i, engine in enumerate(engines)]
        tool = box.tool(pairs)
        done = tool("setup", timeout_s=120)
        assert done.code == 0, done
        assert tool("lag", "--wait=30s", timeout_s=60).code == 0
        return pairs, tool
    return made


def step_point(tool, phase, when):
    return next(name for name in fault_points(tool.config_path)
                if name.startswith(phase + ".") and name.endswith(":" + when))


def open_sides(pairs):
    """One side for every pair, the same for all."""
    def look():
        found = [[side for side in ("a", "b") if pair.side(side).pid() and pair.side(side).is_open()] for pair in pairs]
        assert all(len(sides) < 2 for sides in found), f"both sides of a pair take writes: {found}"
        return [sides[0] for sides in found] if all(found) else None
    sides = wait_for(look, 15, "every pair has an open side", 0.1)
    assert len(set(sides)) == 1, f"the group is torn: {sides}"
    return sides[0]


def run(tool, kind="cutover", **how):
    return tool(kind, *PATIENTLY, timeout_s=90, **how)


@pytest.mark.parametrize("engines", [TOGETHER, WITH_DECIDER], ids="+".join)
def test_a_group_goes_there_and_back(make, engines):
    pairs, tool = make(engines)
    for kind, side in (("cutover", "b"), ("rollback", "a")):
        result = run(tool, kind)
        assert result.code == 0, result
        assert open_sides(pairs) == side


@pytest.mark.parametrize("engines", [TOGETHER, WITH_DECIDER], ids="+".join)
@pytest.mark.parametrize("action", ["kill_both", pytest.param("kill", marks=pytest.mark.full)])
@pytest.mark.parametrize("point", ["fence:end", "promote:end", "journal.commit:before", "journal.commit:after", "opening",
                                   "open.1", "open.2"])
def test_killed_a_group_stays_together(make, engines, point, action):
    pairs, tool = make(engines)
    if point == "opening":
        point = "journal.opening:after"
    elif point.startswith("open."):
        point = f"{step_point(tool, 'open', 'after')}#{point[-1]}"
    result = run(tool, fault=f"{point}={action}")
    assert result.code in (-9, 0), result
    tool.wait_quiet()
    for _ in range(3):
        result = tool("resume", "--if-needed", timeout_s=90)
        if result.code in (0, 4, 6):
            break
    assert result.code in (0, 4, 6), result
    open_sides(pairs)


@pytest.mark.parametrize("action", ["lost", "late", "error"])
@pytest.mark.parametrize("passing", [1, 2, 3])
def test_a_promotion_that_isnt_answered(make, passing, action):
    """Passing 3 is the decider's: it goes last."""
    pairs, tool = make(WITH_DECIDER)
    result = run(tool, fault=f"{step_point(tool, 'promote', 'before')}#{passing}={action}")
    if result.code == 5:
        tool.wait_quiet()
        result = tool("resume", "--if-needed", timeout_s=90)
    assert result.code in (0, 4, 6), result
    assert open_sides(pairs) == ("a" if result.code == 4 else "b")


# ---------------------------------------------------------------- real servers of several engines, under load

REAL = "postgresql+mariadb+redis"
DECIDER = "postgresql+mariadb+redis+mongodb-double-4.0"  # the last one can't be promoted closed: its success is the decision
FOUR = "postgresql+mariadb+redis+mongodb"  # the same with a real mongod, where MONGOD names one


ONE_OF_THREE = [pytest.param(0, marks=pytest.mark.full), 1, pytest.param(2, marks=pytest.mark.full)]


@pytest.fixture
def real(box, request):
    engines = getattr(request, "param", REAL)
    reason = next(filter(None, map(engine_reason, engines.split("+"))), None)
    if reason:
        pytest.skip(reason)
    scene = Scenario(box, engines)
    scene.set_up()
    return scene


def moved(scene, load, kind, **how):
    """One run under load: its result, with the promises checked over all pairs."""
    source, since = scene.primary, now_ns()
    wait_for(lambda: load.count(source) > 10, 30, "the load runs")
    result = scene.tool(kind, *PATIENTLY, timeout_s=120, **how)
    scene.tool.wait_quiet()
    if result.code not in (0, 4):
        scene.settle(source)
    side = scene.open_side()
    at = load.count(side)
    wait_for(lambda: load.count(side) > at + 10, 30, f"writes go on at {side}")
    load.check_one_open(source, OTHER[source], since, committed=side != source)
    return result


@pytest.mark.parametrize("real", [REAL, pytest.param(DECIDER, marks=pytest.mark.full), pytest.param(FOUR, marks=pytest.mark.full)],
                         indirect=True)
def test_a_group_of_real_engines_goes_there_and_back_under_load(real):
    """What is acknowledged while it moves is on the side in service, of every pair; a report of it names every server."""
    with real.loads(writers=4, timeout_s=1.0) as load:
        for kind, side in (("cutover", "b"), ("rollback", "a")):
            real.caught_up()
            result = moved(real, load, kind)
            assert result.code == 0, result
            assert real.primary == side
    load.check_not_lost("a")


@pytest.mark.parametrize("number", ONE_OF_THREE, ids=REAL.split("+"))
def test_a_target_that_freezes_undoes_all_pairs_of_the_group(real, number):
    """One pair's B doesn't answer any more when it is to be promoted: no pair goes."""
    victim = real.pairs[number].b
    with real.loads(writers=3, timeout_s=1.0) as load:
        since = now_ns()
        wait_for(lambda: load.count("a") > 10, 30, "the load runs")
        with real.tool.held("cutover", "--yes", "--when-ready=30s", "--max-write-pause=10s", at="promote:begin") as child:
            victim.freeze()
        result = real.tool.finish(child, 90)
        assert result.code in (4, 5, -9), result
        at = load.count("a")
        wait_for(lambda: load.count("a") > at + 10, 60, "every A serves again while the B is frozen")
        victim.thaw()
        real.tool.wait_quiet()
        assert real.settle("a") == "a"
    load.check_not_lost("a")
    load.check_one_open("a", "b", since, committed=False)


@pytest.mark.parametrize("number", ONE_OF_THREE, ids=REAL.split("+"))
def test_a_primary_that_dies_in_the_pause_undoes_all_pairs_of_the_group(real, number):
    victim = real.pairs[number].a
    with real.loads(writers=3, timeout_s=1.0) as load:
        since = now_ns()
        wait_for(lambda: load.count("a") > 10, 30, "the load runs")
        with real.tool.held("cutover", *PATIENTLY, at="prove:begin") as child:
            victim.kill()
        victim.start()
        result = real.tool.finish(child, 90)
        assert result.code in (4, 5, -9), result
        real.tool.wait_quiet()
        assert real.settle("a") == "a"
    load.check_not_lost("a")
    load.check_one_open("a", "b", since, committed=False)


def test_the_report_of_a_group_tells_an_auditor_what_happened(real):
    """Who, when, what was executed on which server, positions, versions, sizes and settings before and after, how long each phase
    took, which faults were met: of a run that was undone and of one that was done."""
    for fault, code in (("prove:end=error", 4), (None, 0)):
        real.caught_up()
        assert real.tool("cutover", *PATIENTLY, fault=fault, timeout_s=120).code == code
        said = real.report()
        run = said["run"]
        assert run["operator"] and run["host"] and run["started"] and run["ended"] and run["exit_code"] == code
        assert [phase["name"] for phase in said["phases"]][:3] == ["lock", "check", "gate"]
        assert all(phase["us"] is not None for phase in said["phases"])
        met = [phase["error"]["message"] for phase in said["phases"] if phase["error"]]
        assert any("fault injected" in message for message in met) if fault else met == []
        for pair in real.pairs:
            executed = {step["side"] for step in said["steps"] if step["pair"] == pair.name and step["action"] == "apply"}
            assert executed == {"a", "b"}, (pair.name, executed)
            assert all(step["statement"] for step in said["steps"] if step["pair"] == pair.name)
            where = {(one["what"], one["side"]) for one in said["positions"] if one["pair"] == pair.name}
            assert {("captured", "a"), ("applied", "b")} <= where
            seen = {(one["side"], one["moment"], one["group"]) for one in said["facts"] if one["pair"] == pair.name}
            assert {(side, moment, group) for side in "ab" for moment in ("before", "after") for group in ("version", "size", "setting")} <= seen
        text = real.must("report").out
        assert all(pair.name in text for pair in real.pairs) and "secret" not in text.replace("secrets", "")


PHASES = ["warm_up", "fence", "drain", "capture", "catch_up", "prove", "reverse_prepare", "promote", "commit", "open", "switch",
          "confirm", "reverse"]


@pytest.mark.parametrize("action", ["kill", "kill_both"])
@pytest.mark.full
def test_killed_at_each_phase_a_group_of_real_engines_stays_together(real, action):
    """There and back, killed at the end of each phase in turn; the guardian or `resume` ends it."""
    with real.loads(writers=3, timeout_s=1.0) as load:
        for phase in PHASES:
            if real.tool("lag", "--wait=20s", timeout_s=60).code != 0:
                real.must("setup", timeout_s=180)  # an undone promotion may cost a target its copy
                real.caught_up()
            result = moved(real, load, "cutover" if real.primary == "a" else "rollback", fault=f"{phase}:end={action}")
            assert result.code == -9, (phase, result)
            real.settle(real.primary)
    load.check_not_lost(real.primary)


@pytest.mark.full
@pytest.mark.parametrize("real", [DECIDER], indirect=True)
@pytest.mark.parametrize("point, side", [("journal.deciding:after", None), ("journal.commit:before", "b"), ("journal.commit:after", "b"),
                                         ("promote:end", "a")])
def test_a_group_whose_last_pair_decides_is_killed(real, point, side):
    with real.loads(writers=3, timeout_s=1.5) as load:
        result = moved(real, load, "cutover", fault=f"{point}=kill_both")
        assert result.code == -9, result
        assert side in (None, real.primary)
    load.check_not_lost(real.primary)


# ---------------------------------------------------------------- a part of the group

def test_a_part_of_a_group_moves_only_where_the_config_allows_it(make):
    pairs, tool = make(TOGETHER)
    refused = tool("-p", "p0", "cutover", "--yes", "--when-ready=20s", timeout_s=60)
    assert refused.code == 64, refused
    tool.cutover["partial"] = True
    tool.write_config()
    assert tool("-p", "p0", "cutover", *PATIENTLY, timeout_s=60).code == 0
    assert [pairs[0].b.is_open(), pairs[0].a.is_open()] == [True, False]
    assert [pairs[1].a.is_open(), pairs[1].b.is_open()] == [True, False]
    assert tool("-p", "p0", "rollback", *PATIENTLY, timeout_s=60).code == 0
    assert open_sides(pairs) == "a"


def test_a_group_has_one_pause_and_each_pair_keeps_its_budget(make):
    """The reports of both: the group's pause begins with the first fence and ends with the last opening."""
    pairs, tool = make(TOGETHER)
    result = tool("cutover", *PATIENTLY, json=True, timeout_s=60)
    assert result.code == 0, result
    said = result.json
    longest = max(pair["write_pause_ms"] for pair in said["pairs"])
    assert longest <= said["write_pause_ms"] <= 20000  # max_write_pause
    assert {pair["primary"] for pair in said["pairs"]} == {"b"}


# ---------------------------------------------------------------- a network of its own

def test_a_leg_that_is_cut_is_that_leg_alone():
    """The suite's own cables: of three namespaces every leg can be cut alone and joined again."""
    from sandbox.network import network_reason
    if network_reason():
        pytest.skip(network_reason())
    world, failed = World("fake", "network"), True
    try:
        scene = world.get()
        legs = scene.box.network.legs
        said = {}
        for name in ("tool_a", "tool_b", "a_b"):
            legs[name].cut()
            status = scene.tool("status", json=True, timeout_s=60)
            pair = status.json["pairs"][0]
            said[name] = (pair["a"]["version"] is not None, pair["b"]["version"] is not None)
            legs[name].restore()
            scene.caught_up()
        assert said == {"tool_a": (False, True), "tool_b": (True, False), "a_b": (True, True)}
        assert scene.a.is_open()
        failed = False
    finally:
        world.drop(failed)
