"""Interleavings in which a simpler protocol would open both sides or lose what was acknowledged; each is named after
what would happen. On the fake engines, whose servers keep the promises that the protocol needs of a server."""
import pytest

from sandbox import wait_for
from sandbox.scenario import PATIENTLY, Scenario


@pytest.fixture
def scene(box, request):
    made = Scenario(box, getattr(request, "param", "fake"))
    made.set_up()
    return made


def started(load):
    wait_for(lambda: load.count() > 10, 20, "the load runs")


def cut_over(scene, fault=None, **how):
    return scene.tool("cutover", *PATIENTLY, fault=fault, timeout_s=90, **how)


# ---------------------------------------------------------------- follow-ups

def test_a_follow_up_that_is_killed_opens_the_old_primary(scene):
    """`resume` of an exit 6 is a run of its own: killed before its end, it must not be undone."""
    with scene.load(writers=3) as load:
        started(load)
        assert cut_over(scene, fault="reverse:begin=error").code == 6
        assert scene.open_side() == "b"
        for point in ("journal.begin:after", "lock:begin", "journal.opening:before", "journal.opening:after", "switch:end",
                      "reverse:begin", "journal.end:before"):
            killed = scene.tool("resume", fault=f"{point}=kill")
            assert killed.code in (-9, 0, 1), killed
            scene.tool.wait_quiet()
            assert not scene.a.is_open(), point
            settled = scene.tool("resume", "--if-needed")
            assert settled.code in (0, 6), (point, settled)
            assert not scene.a.is_open(), point
    assert scene.check(load, "a", committed=True) == "b"
    done = scene.tool("resume", "--if-needed")
    assert done.code == 0, done
    assert scene.run("rollback").code == 0  # a follows b, and the way back is open


def test_a_follow_up_is_done_again_and_again(scene):
    assert cut_over(scene, fault="reverse:begin=error").code == 6
    assert scene.tool("resume").code == 0
    runs = scene.runs()
    assert scene.tool("resume", "--if-needed").code == 0
    assert scene.runs() == runs


# ---------------------------------------------------------------- the end of a run

@pytest.mark.parametrize("point", ["journal.end:before", "marker_set.target:after#3", "marker_set.source:before#3"])
def test_killed_while_it_removes_its_markers_it_never_ends(scene, point):
    with scene.load(writers=3) as load:
        started(load)
        result = cut_over(scene, fault=f"{point}=kill")
        assert result.code in (-9, 0), result
        assert scene.settle("a") == "b"
    assert scene.check(load, "a", committed=True) == "b"
    assert scene.tool("resume", "--if-needed").code == 0
    assert scene.run("rollback").code == 0


# ---------------------------------------------------------------- take-over

@pytest.mark.parametrize("point, primary", [("open:end", "b"), ("open.allow:after", "b"), ("journal.commit:after", "a"),
                                            ("fence:end", "a"), ("lock:end", "a")])
@pytest.mark.parametrize("command", ["resume", "abort"])
def test_taken_over_by_a_journal_that_does_not_know_the_decision_both_open(scene, point, primary, command):
    """Where the target was opened the run goes forward, and nowhere else; whoever wakes up later is revoked."""
    known = [line.split("=")[0] for line in points(scene)]
    if point not in known:
        point = next(name for name in known if name.startswith("open.") and name.endswith(":after"))
    with scene.load(writers=3) as load:
        started(load)
        result = cut_over(scene, fault=f"{point}=kill_both")
        assert result.code == -9, result
        scene.tool.wait_quiet()
        elsewhere = scene.box.tool([scene.pair], name="elsewhere")
        taken = elsewhere(command, "--take-over", "--yes") if command == "abort" else elsewhere(command, "--take-over")
        if primary == "b" and command == "abort":
            assert taken.code == 5, taken  # it can only go forward
            assert not scene.a.is_open()
            taken = elsewhere("resume")
        assert taken.code in (0, 4, 6), taken
        assert scene.open_side() == primary
        scene.tool("resume", "--if-needed")  # the first machine is back
        assert scene.open_side() == primary
    scene.check(load, "a", committed=primary == "b")


def test_taken_over_while_the_target_cant_be_seen(scene):
    """It may have been opened: nothing is opened until somebody says that it is lost."""
    assert cut_over(scene, fault="fence:end=kill_both").code == -9
    scene.tool.wait_quiet()
    scene.b.kill()
    elsewhere = scene.box.tool([scene.pair], name="elsewhere")
    taken = elsewhere("resume", "--take-over")
    assert taken.code == 5, taken
    assert not scene.a.is_open()
    assert elsewhere("resume").code == 5
    assert not scene.a.is_open()
    scene.b.start()
    assert elsewhere("resume").code in (0, 4)
    assert scene.open_side() == "a"


# ---------------------------------------------------------------- the pair that decides

def points(scene):
    from sandbox.tool import fault_points
    return fault_points(scene.tool.config_path)


@pytest.mark.parametrize("scene", ["fake-novote"], indirect=True)
@pytest.mark.parametrize("action", ["lost", "late", "error"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_deciders_promotion_arrives_after_it_was_asked(scene, action, when):
    """The reply is lost, or the statement is still under way: asked, the decider says what stays true."""
    step = next(name for name in points(scene) if name.startswith("promote.") and name.endswith(":before"))
    point = step.rsplit(":", 1)[0] + ":" + when
    with scene.load(writers=3) as load:
        started(load)
        result = cut_over(scene, fault=f"{point}={action}")
        assert result.code in (0, 4, 6), result
        side = scene.open_side()
        assert side == ("a" if result.code == 4 else "b")
    scene.check(load, "a", committed=side == "b")


@pytest.mark.parametrize("scene", ["fake-novote"], indirect=True)
@pytest.mark.parametrize("point", ["journal.deciding:after", "promote", "journal.commit:before", "journal.commit:after"])
@pytest.mark.parametrize("action", ["kill", "kill_both"])
def test_killed_while_the_server_decides(scene, point, action):
    if point == "promote":
        point = next(name for name in points(scene) if name.startswith("promote.") and name.endswith(":after"))
    with scene.load(writers=3) as load:
        started(load)
        assert cut_over(scene, fault=f"{point}={action}").code == -9
        side = scene.settle("a")
    scene.check(load, "a", committed=side == "b")
