"""A server whose config file can't be written any more: what a run sets there is gone after a restart, so it isn't taken for set.

The file is mounted over itself, as containers do it: it can be read, and Redis 7.0 can't put another in its place (EBUSY)."""
import contextlib
import os
import subprocess

import pytest

from rediskit import run, scenario, set_up
from sandbox import process, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="redis: only root can mount a file over itself")


@contextlib.contextmanager
def unwritable(server):
    path = str(server.folder / "redis.conf")
    subprocess.run(["mount", "--bind", path, path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def cutover_with(scene, server, phase, *faults):
    """A cutover in which the config file can't be written from the beginning of that phase on, until what `resume` says then."""
    scene.tool.cutover["max_write_pause"] = "30s"  # it is the disk that ends it
    scene.tool.write_config()
    with contextlib.ExitStack() as disk:
        with scene.tool.held("cutover", "--yes", "--when-ready=20s", at=f"{phase}:begin", json=True, fault=",".join(faults)) as child:
            disk.enter_context(unwritable(server))
        result = scene.tool.finish(child, 90)
        for pid in scene.tool.guardians():  # one that insists
            process.send(pid, 9)
        scene.tool.wait_quiet()
        sides = scene.open_sides()
        resumed = scene.tool("resume", "--if-needed", timeout_s=90)
    return result, resumed, sides[0]


def says(*results):
    return any(word in result.out + result.err for result in results for word in ("config file", "CONFIG REWRITE"))


def restart_both(scene):
    for server in (scene.a, scene.b):
        server.crash_and_restart()


def test_a_server_whose_config_file_cannot_be_written_is_refused(box):
    scene = scenario(box)
    before = {side: scene.server(side).settings() for side in "ab"}
    with unwritable(scene.a):
        result = scene.tool("setup")
        assert result.code != 0 and says(result), result
        assert {side: scene.server(side).settings() for side in "ab"} == before
    scene.set_up()
    for server in (scene.a, scene.b):
        before = {side: scene.server(side).settings() for side in "ab"}
        with unwritable(server):
            result = scene.tool("cutover", "--yes", "--when-ready=20s")
            assert result.code == 1 and says(result), result
            assert scene.a.is_open() and {side: scene.server(side).settings() for side in "ab"} == before
        assert scene.tool("resume", "--if-needed").code in (0, 4)


@pytest.mark.parametrize("phase, side", [("warm_up", "b"), ("fence", "a"), ("promote", "b")])
def test_what_is_not_on_disk_is_not_taken_for_done(box, phase, side):
    """The setting is in force and would be gone after a restart: the run is undone. Where A's own file is the trouble, its marker
    can't be replaced either: it stays closed until somebody has mended that, and says so."""
    scene = set_up(box)
    result, resumed, sides = cutover_with(scene, scene.server(side), phase)
    assert result.code in ((1, 4) if side == "b" else (5, -9)), result
    assert says(result, resumed), (result, resumed)
    assert sides == (["a"] if side == "b" else []), sides
    assert scene.settle("a") == "a"
    restart_both(scene)
    assert scene.open_side() == "a"
    scene.must("lag", "--wait=60s", timeout_s=120)
    assert scene.run("cutover").code == 0


def test_an_opening_that_is_not_on_disk_is_said_and_resume_writes_it(box):
    scene = set_up(box)
    scene.tool.cutover.update(reverse_patience="2s")
    scene.tool.write_config()
    result, resumed, sides = cutover_with(scene, scene.b, "open")
    assert result.code in (5, 6) and resumed.code in (5, 6) and says(result) and says(resumed), (result, resumed)
    assert sides == ["b"], (sides, result)
    result = scene.tool("resume", timeout_s=90)
    assert result.code == 0, result
    restart_both(scene)
    assert scene.open_side() == "b"
    assert run(scene.a, "ROLE")[0] in ("slave", b"slave")


def test_an_undo_that_is_not_on_disk_is_said_and_resume_writes_it(box):
    scene = set_up(box)
    result, resumed, sides = cutover_with(scene, scene.a, "promote", "promote:end=error")
    assert result.code in (5, -9) and resumed.code == 5 and says(resumed), (result, resumed)
    assert sides == [], (sides, result)
    assert scene.settle("a") == "a"
    restart_both(scene)
    assert scene.open_side() == "a"
