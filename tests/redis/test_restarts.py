"""With persistence on, a restart of A or B or both at every phase, in cutovers and rollbacks in turn: the promises hold. The
cases are the fault suite's own; here they are named, one a phase and side, and always all of them.

With an append-only file the servers are killed (-9), whatever its appendfsync; with snapshots they are told to end, since kill -9
there loses what was written since the last one, run or no run. What must hold even then has a test of its own."""
import pathlib
import sys

import pytest

from rediskit import need, run, set_up
from sandbox import wait_for
from sandbox.redis_server import Redis
from sandbox.scenario import now_ns

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "faults"))

from case import World, run_case  # noqa: E402
from matrix import PHASES, Case  # noqa: E402

KINDS = {
    "everysec": ('appendonly yes\nappendfsync everysec\nsave ""\n', "crash"),
    "always": ('appendonly yes\nappendfsync always\nsave ""\n', "crash"),
    "snapshots": ("appendonly no\nsave 900 1\n", "restart"),
}

BEFORE_FENCE = PHASES[:PHASES.index("fence") + 1]  # each is disturbed where it begins


@pytest.fixture(scope="module", params=[(engine, kind) for engine in ("redis", "redis8") for kind in KINDS], ids="-".join)
def world(request):
    engine, kind = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Redis, "persistence", KINDS[kind][0])
        made = World(need(engine), "restarts")
        made.kind, made.action = kind, KINDS[kind][1]
        yield made
        made.drop(failed=False)


def note_kills(scene):
    """The moment of the first kill of each side."""
    killed = {}

    def noting(side, kill):
        def noted():
            killed.setdefault(side, now_ns())
            kill()
        return noted

    for side in "ab":
        scene.server(side).kill = noting(side, type(scene.server(side)).kill.__get__(scene.server(side)))
    return killed


def servers_own_loss(violation, killed, source):
    """What the server itself says it may lose: with everysec it answers before it has written while a sync is under way. Of the run's
    making it never is: nothing was fenced yet, and the writes are the last ones before the kill."""
    return source in killed and all(entry.side == source and killed[source] - 2_000_000_000 < entry.acked <= killed[source]
                                    for entry in violation.lost)


@pytest.mark.full
@pytest.mark.parametrize("who", ["source", "target", "both"])
@pytest.mark.parametrize("phase", PHASES)
def test_restarted_in_phase(world, phase, who):
    scene = world.get()
    source, killed = scene.primary, note_kills(scene)
    try:
        outcome = run_case(scene, Case("server", phase, 1, f"{world.action}_{who}"))
    except BaseException as error:
        world.drop(failed=True)
        if world.kind == "everysec" and phase in BEFORE_FENCE and hasattr(error, "lost") and servers_own_loss(error, killed, source):
            pytest.skip(f"redis: kill -9 before the fence lost {len(error.lost)} writes of the last moment, as everysec may")
        raise
    assert outcome.met


@pytest.mark.parametrize("phase, side", [("prove", "a"), ("commit", "a"), ("commit", "b"), ("open", "b")])
@pytest.mark.parametrize("engine", ["redis", "redis8"])
def test_a_killed_server_with_snapshots_only_is_not_served_without_what_was_captured(box, monkeypatch, engine, phase, side):
    """It comes back as it was at its last snapshot: it isn't opened without what was captured, whatever that costs."""
    monkeypatch.setattr(Redis, "persistence", KINDS["snapshots"][0])
    scene = set_up(box, engine)
    scene.tool.cutover.update(max_write_pause="3s", undo_budget="3s")
    scene.tool.write_config()
    run(scene.a, "SET", "ledger:late", "x")
    wait_for(lambda: run(scene.b, "GET", "ledger:late") == "x", 60, "it is on both")
    result = scene.tool("cutover", "--yes", "--when-ready=20s", fault=f"{phase}:begin=kill_both")
    assert result.code == -9, result
    scene.tool.wait_quiet()
    killed, other = (scene.server(side), scene.server("ab".replace(side, "")))
    killed.crash_and_restart()
    assert run(killed, "GET", "ledger:late") is None, "the test's own ground: it lost its tail"
    result = scene.tool("resume", "--if-needed", timeout_s=90)
    if (phase, side) == ("commit", "b"):  # not committed: A serves, which lost nothing
        assert result.code == 4, result
    else:
        assert result.code == 5 and scene.open_sides() == [[]], result
    if phase != "prove":  # there B still follows A, and is made the same by the servers themselves
        assert run(other, "GET", "ledger:late") == "x", "and nothing was copied over it"
    if phase == "open":
        result = scene.tool("abort", "--b-is-lost", "--yes", timeout_s=90)
        assert result.code == 0 and scene.open_sides() == [["a"]], result
        assert run(scene.a, "GET", "ledger:late") == "x"
