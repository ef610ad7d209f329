"""A or B frozen in each primitive of a run: the tool is stopped just before the call, the server is frozen, the tool goes on.

It never hangs: before the commit it or its guardian ends it while the server is frozen (the budgets are 2 s each); after the commit it tries
until the server is back."""
import time

import pytest

from rediskit import need
from sandbox import process, wait_for
from sandbox.scenario import Scenario

BEFORE = ("marker_get", "marker_set", "check", "identify", "link", "position", "applied", "prepare", "settings", "drain", "capture", "proof",
          "fence.refuse_writes", "warm_up.close_target", "promote.replicaof_no_one")
AFTER = ("open.accept_writes", "probe_write", "reverse.clean", "reverse.follow")
SIDES = {"check": "a", "drain": "a", "capture": "a", "position": "a", "applied": "b", "link": "b", "fence.refuse_writes": "a", "warm_up.close_target": "b",
         "promote.replicaof_no_one": "b", "open.accept_writes": "b", "reverse.clean": "b", "reverse.follow": "a"}
CASES = [(name, side) for name in BEFORE + AFTER for side in SIDES.get(name, "ab")]


@pytest.fixture
def ready(box):
    scene = Scenario(box, need("redis"))
    scene.tool.cutover.update(max_write_pause="2s", undo_budget="2s")
    scene.tool.write_config()
    scene.set_up()
    return scene


def stopped_or_over(child):
    return child.poll() is not None or (process.stat_of(child.pid) or "T")[0] in "Tt"


@pytest.mark.full
@pytest.mark.parametrize("primitive, side", CASES, ids=lambda value: value)
def test_frozen_in_a_primitive(ready, primitive, side):
    point = f"{primitive}:before" if "." in primitive else f"{primitive}.{'source' if side == 'a' else 'target'}:before"
    server = ready.server(side)
    with ready.load(writers=3, timeout_s=1.0) as load:
        wait_for(lambda: load.count() > 10, 60, "the load runs")
        child = ready.tool.spawn("cutover", "--yes", "--when-ready=5s", fault=f"{point}=stop")
        wait_for(lambda: stopped_or_over(child), 40, f"the tool is at {point}")
        assert child.poll() is None, f"{point} isn't passed: {ready.tool.finish(child)!r}"
        server.freeze()
        process.send(child.pid, 18)
        try:
            if primitive in BEFORE:
                # in warm_up one slow call may take a minute; nothing is fenced then
                wait_for(lambda: child.poll() is not None, 100 if primitive in ("prepare", "settings", "warm_up.close_target") else 40,
                         "the tool ends while the server is frozen")
            else:
                time.sleep(3)  # for how long it is frozen: the run is decided and tries until the server is back
        finally:
            server.thaw()
        result = ready.tool.finish(child, 40)
        assert "[still running" not in result.err and result.code in (0, 1, 2, 3, 4, 5, 6, -9), result
        side_now = ready.settle("a")
        at = load.count(side_now)
        wait_for(lambda: load.count(side_now) > at + 10, 60, "writes go on")
    if primitive in AFTER:
        assert side_now == "b"
    ready.check(load, "a")
