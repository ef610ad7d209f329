"""MongoDB's own cases, on doubles of replica set members (no mongod): members that can't be promoted closed, step-downs that
fail, a target that dies while its vote is needed."""
import pytest

from sandbox import ENGINES, engine_reason, wait_for
from sandbox.scenario import Scenario, now_ns

# Not in the table that the suite runs over: without a fence some of its cases mean nothing.
ENGINES.setdefault("mongodb-double-4.0", ("mongodb", "MongoDBDouble40", "mongodb"))
pytestmark = pytest.mark.skipif(bool(engine_reason("mongodb-double")), reason="no MongoDB driver was built")


def made(box, kind):
    scene = Scenario(box, kind)
    scene.set_up()
    return scene


def inject(server, command, **how):
    connection = server.connect("tool")
    connection.command("admin", {"doubleInject": command, **how})
    connection.close()


def end_it(scene, load, result):
    """Whatever the run came to: done or undone, never in between, and nothing lost."""
    assert result.code in (0, 1, 3, 4, -9), result  # 3: refused before anything was fenced; -9: the guardian ended it
    side = scene.settle("a") if result.code == -9 else scene.open_side()
    assert result.code == -9 or side == ("b" if result.code == 0 else "a"), result
    at = load.count()
    wait_for(lambda: load.count() > at + 20, 20, "writes go on")
    scene.check(load, "a")


def test_before_6_0_the_step_down_decides(box):
    scene = made(box, "mongodb-double-4.0")
    for kind in ("cutover", "rollback"):
        source, since = scene.primary, now_ns()
        with scene.load(writers=4) as load:
            wait_for(lambda: load.count() > 20, 20, "the load runs")
            assert scene.run(kind).code == 0
            at = load.count()
            wait_for(lambda: load.count() > at + 20, 20, "writes go on")
        assert scene.check(load, source, since, committed=True) != source


@pytest.mark.parametrize("code", [24, 262, 189, 11602])
@pytest.mark.parametrize("times", [1, 1000])
def test_a_step_down_that_is_refused_is_retried_or_undone(box, code, times):
    scene = made(box, "mongodb-double-4.0")
    with scene.load(writers=3) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        inject(scene.a, "replSetStepDown", code=code, times=times)
        end_it(scene, load, scene.tool("cutover", "--yes", "--when-ready=20s", timeout_s=90))


@pytest.mark.parametrize("kind, command", [("mongodb-double-4.0", "replSetStepDown"), ("mongodb-double", "replSetStepUp"),
                                             ("mongodb-double", "setUserWriteBlockMode"), ("mongodb-double", "replSetReconfig")])
def test_a_lost_reply_is_resolved_by_looking(box, kind, command):
    scene = made(box, kind)
    with scene.load(writers=3) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        for server in (scene.a, scene.b):
            inject(server, command, lose=True)
        end_it(scene, load, scene.tool("cutover", "--yes", "--when-ready=20s", timeout_s=90))


@pytest.mark.parametrize("phase", ["fence", "catch_up", "promote"])
def test_b_killed_while_it_has_a_vote_and_a_is_in_service_again(box, phase):
    scene = made(box, "mongodb-double")
    with scene.load(writers=3, timeout_s=1.0) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        child = scene.tool.spawn("cutover", "--yes", "--when-ready=20s", fault=f"{phase}:begin=delay:1500")
        wait_for(lambda: scene.at_phase(phase), 40, f"the run is at {phase}")
        scene.b.kill()
        result = scene.tool.finish(child, 60)
        assert result.code in (4, 5, -9), result
        scene.tool.wait_quiet()
        wait_for(scene.a.is_open, 20, "A takes writes again, without B")
        scene.b.start()
        assert scene.settle("a") == "a"
    scene.check(load, "a", committed=False)
