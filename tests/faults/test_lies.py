"""Servers that lie, and whether the suite itself would see a broken promise."""
import pytest

from sandbox import Load, Violation, wait_for
from sandbox.scenario import PATIENTLY, Scenario

CHANGES = ("marker_set", "events", "fence", "close", "end_clients", "retire", "promote", "open", "slot", "follow")


@pytest.fixture
def ready(box):
    scene = Scenario(box, "fake")
    scene.set_up()
    return scene


LIES = [pytest.param(verb, ms, id=f"{verb}-{'late' if ms > 0 else 'never'}",
                     # the way back is waited for a minute
                     marks=[pytest.mark.full] if verb in ("slot", "follow") and ms < 0 else [])
        for verb in CHANGES for ms in (-1, 300)]


@pytest.mark.parametrize("verb, ms", LIES)
def test_a_server_says_done_before_it_is(ready, verb, ms):
    """The reply is `ok`; the change comes 0.3 s later, or never."""
    for server in (ready.a, ready.b):
        server.rule(verb, "lie", ms=ms, count=1)
    with ready.load(writers=4, timeout_s=1.0) as load:
        wait_for(lambda: load.count() > 10, 20, "the load runs")
        result = ready.tool("cutover", "--yes", "--when-ready=10s", timeout_s=90)
        assert result.code in (0, 1, 3, 4, 5, 6, 75, -9), result
        for server in (ready.a, ready.b):
            server.control("rules", clear=1)
        ready.settle("a")
    ready.check(load, "a")
    if verb == "promote" and ms < 0:
        assert result.code == 4, result  # the proof after the promotion sees it


@pytest.mark.parametrize("verb", CHANGES + ("look", "capture", "proof", "wait", "marker_get"))
@pytest.mark.parametrize("do", ["hang", "lose", "late", "close", "refuse", "restart", "restart_after"])
@pytest.mark.full
def test_a_server_fails_one_request(ready, verb, do):
    for server in (ready.a, ready.b):
        server.rule(verb, do, ms=400, count=1)
    with ready.load(writers=4, timeout_s=1.0) as load:
        wait_for(lambda: load.count() > 10, 20, "the load runs")
        result = ready.tool("cutover", "--yes", "--when-ready=10s", timeout_s=120)
        assert result.code in (0, 1, 3, 4, 5, 6, 75, -9), result
        for server in (ready.a, ready.b):
            server.control("rules", clear=1)
        ready.settle("a")
    ready.check(load, "a")


def test_the_suite_sees_two_open_sides(box):
    pair = box.pair("fake")  # no setup: both are primaries
    with Load(pair, writers=4) as load:
        wait_for(lambda: load.count("a") > 20 and load.count("b") > 20, 20, "both take writes")
    with pytest.raises(Violation):
        load.check_one_open("a", "b")


def test_the_suite_sees_a_lost_write(ready):
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
    load.check_not_lost(ready.a)
    with pytest.raises((ConnectionError, OSError)):
        ready.a.control("crash", lose=3)
    ready.a.start()
    with pytest.raises(Violation):
        load.check_not_lost(ready.a)


def test_a_primary_that_lost_its_tail_isn_t_opened_over_a_follower_that_has_it(ready):
    """A was captured at a position; it comes back behind it. Undo would lose what only B has: both stay closed."""
    with ready.load(writers=4, timeout_s=1.0) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert ready.tool("cutover", *PATIENTLY, fault="prove:end=kill_both").code == -9
        ready.tool.wait_quiet()
        wait_for(lambda: ready.b.look()["position"].split(":")[-1] == ready.a.look()["position"].split(":")[-1], 10, "B has it all")
        with pytest.raises((ConnectionError, OSError)):
            ready.a.control("crash", lose=3)
        ready.a.start()
        result = ready.tool("resume", timeout_s=60)
        assert result.code == 5, result
        assert not ready.a.is_open() and not ready.b.is_open()
    load.stop()
    load.check_not_lost(ready.b)
