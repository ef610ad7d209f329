"""Several pairs in one migration go together or not at all, also when one of them can't vote."""
import pytest

from sandbox import wait_for
from sandbox.tool import fault_points

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
    return tool(kind, "--yes", "--when-ready=20s", timeout_s=90, **how)


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
