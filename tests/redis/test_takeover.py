"""A run that another machine began. What it noted travels in the marker, which before 7.0 is one config line of less than 1024
bytes: it is written short there, and where it doesn't fit, whoever comes is told where the notes are."""
import os
import shutil
import socket

import pytest

from rediskit import need, run, set_up

OLDER = ("redis5.0", "redis6.0", "redis6.2")


def stopped(scene, point):
    result = scene.tool("cutover", "--yes", "--when-ready=20s", fault=f"{point}=kill_both")
    assert result.code == -9, result
    scene.tool.wait_quiet()


def far_away(box, letters):
    """A journal with so many letters in its path that take six characters each in a config line (SQLite bears 512 bytes)."""
    folder = box.folder
    while letters > 0:
        folder = folder / ("é" * min(60, letters))
        letters -= 60
    folder.mkdir(parents=True)
    return folder / "m.journal"


def own_settings(scene):
    found = {side: scene.server(side).settings() for side in "ab"}
    # a server that was restarted lists single commands of an ACL user in another order
    return {side: {name: " ".join(sorted(value.split())) if name.startswith("acl") else value for name, value in settings.items()}
            for side, settings in found.items()}


@pytest.mark.parametrize("engine", [*OLDER, "redis"])
@pytest.mark.parametrize("point, open_side", [("fence:end", "a"), ("promote:end", "a"), ("open:end", "b")])
def test_another_machine_takes_the_run_over_after_a_restart_of_both(box, engine, point, open_side):
    scene = set_up(box, need(engine))
    for server in (scene.a, scene.b):
        run(server, "CONFIG", "SET", "min-replicas-max-lag", 7)  # an original that isn't the default
    before = own_settings(scene)
    stopped(scene, point)
    for server in (scene.a, scene.b):
        server.crash_and_restart()
    elsewhere = box.tool([scene.pair], name="elsewhere")
    for command in (("resume",), ("abort", "--yes"), ("cutover", "--yes")):
        told = elsewhere(*command)
        assert told.code == 75 and socket.gethostname() in told.out + told.err and str(scene.tool.journal) in told.out + told.err, told
    result = elsewhere(*("abort", "--yes") if open_side == "a" else ("resume",), "--take-over")
    assert result.code in (0, 4), result
    assert scene.open_side() == open_side
    if open_side == "a":
        scene.must("lag", "--wait=60s", timeout_s=120)
        assert own_settings(scene) == before
        again = scene.tool("resume")  # at home nothing is changed any more
        assert again.code in (0, 4, 5, 75) and own_settings(scene) == before, again


@pytest.mark.parametrize("engine", OLDER)
def test_notes_that_do_not_fit_are_in_the_journal_which_is_named(box, engine):
    scene = set_up(box, need(engine))
    scene.tool.journal = far_away(box, 110)
    scene.tool.write_config()
    scene.must("lag", "--wait=30s", timeout_s=60)
    before = own_settings(scene)
    stopped(scene, "promote:end")
    fenced = own_settings(scene)
    elsewhere = box.tool([scene.pair], name="elsewhere")
    for command in (("resume",), ("abort", "--yes")):
        result = elsewhere(*command, "--take-over")
        assert result.code == 5, result
        for word in ("no room", socket.gethostname(), str(scene.tool.journal), "-wal"):
            assert word in result.out + result.err, (word, result)
        assert own_settings(scene) == fenced, "nothing was changed"
    # the machine is gone, its disk isn't
    for tail in ("", "-wal"):
        if os.path.exists(f"{scene.tool.journal}{tail}"):
            shutil.copy(f"{scene.tool.journal}{tail}", f"{elsewhere.journal}{tail}")
    result = elsewhere("resume")
    assert result.code == 4, result
    assert scene.open_side() == "a"
    elsewhere("lag", "--wait=60s", timeout_s=120)
    assert own_settings(scene) == before


@pytest.mark.parametrize("engine", OLDER)
def test_where_not_even_the_machine_fits_the_run_is_named(box, engine):
    scene = set_up(box, need(engine))
    scene.tool.journal = far_away(box, 175)
    scene.tool.write_config()
    scene.must("lag", "--wait=30s", timeout_s=60)
    stopped(scene, "capture:end")
    elsewhere = box.tool([scene.pair], name="elsewhere")
    name = scene.ask_journal("SELECT id FROM run ORDER BY seq")[-1][0]
    for command in (("resume",), ("abort", "--take-over", "--yes")):
        result = elsewhere(*command)
        assert result.code in (5, 75) and name in result.out + result.err, result
    assert scene.settle("a") == "a"
