"""The marker of an old primary that is being rewound: while pg_rewind works on the data directory it is kept beside it, and it is
read and raised there by others meanwhile. In each case shims before the machine's commands hold both until they meet at the one moment
that the case is about."""
import json
import os
import shutil

import pytest

from sandbox import process
from sandbox.scenario import PATIENTLY, Scenario
from sandbox.wait import wait_for

pytestmark = pytest.mark.engines("postgresql")

MARKER = "changeover.marker"


@pytest.fixture
def ready(box, engine):
    scene = Scenario(box, engine)
    if scene.pair.extra.get("fence") == "stop":
        pytest.skip("an old primary that was stopped before the promotion isn't rewound")
    scene.set_up()
    return scene


class Machine:
    """Side A's commands run behind `shims`: scripts that end by running the real program, or say how it ended. `flags` are files with
    which they wait for each other, and by which the case knows that they met."""

    def __init__(self, scene):
        self.data, self.folder = scene.a.data, scene.box.folder / "shims"
        self.keep, self.flags = f"{self.data}.changeover-keep", self.folder / "flags"
        self.folder.mkdir(mode=0o755)
        self.flags.mkdir()
        self.flags.chmod(0o777)
        document = json.loads(scene.tool.config_path.read_text(encoding="utf-8"))
        document["pairs"][0]["a"]["host"]["run"] += ["env", f"PATH={self.folder}:{os.environ['PATH']}"]
        scene.tool.write_config(json.dumps(document))

    def shim(self, program, script):
        path = self.folder / program
        real = shutil.which(program)
        path.write_text(f"#!/bin/sh\nd='{self.data}' k='{self.keep}' m={MARKER} f='{self.flags}' real={real}\n"
                        # bounded, so that a case that doesn't come about fails instead of hanging
                        "until_true() { n=0; until eval \"$1\"; do n=$((n + 1)); [ $n -le 6000 ] || exit 99; /bin/sleep 0.01; done; }\n"
                        f"{script}\nexec $real \"$@\"\n", encoding="utf-8")
        path.chmod(0o755)

    def met(self, flag):
        return (self.flags / flag).exists()


def comes_back(ready):
    ready.caught_up()
    assert ready.run("rollback").code == 0


def cut_over_and_back(ready, machine, flag):
    result = ready.run("cutover")
    assert machine.met(flag)
    assert result.code == 0, result
    comes_back(ready)


def killed_and_resumed(ready, machine, flag):
    """The tool and its guardian are killed when the rewind has come to that flag, and it goes on by itself."""
    child = ready.tool.spawn("cutover", *PATIENTLY)
    wait_for(lambda: child.poll() is not None or machine.met(flag), 90, f"the rewind is {flag}")
    for pid in (*ready.tool.guardians(), child.pid):
        process.send(pid, 9)
    assert ready.tool.finish(child).code == -9
    ready.tool.wait_quiet()
    result = ready.tool("resume", timeout_s=90)
    assert result.code == 0, result
    assert not (ready.a.data / MARKER).exists()
    comes_back(ready)


def test_a_marker_that_is_read_in_the_moment_in_which_the_rewind_ends_is_still_the_runs(ready):
    """The reader looks for the kept one, and it is gone when it opens it: that was no marker, and another's run."""
    machine = Machine(ready)
    machine.shim("sync", 'if [ "$1" = "$k" ] && [ -e "$k/rewound" ]; then until_true \'[ -e "$f/reading" ]\'; fi')
    machine.shim("cat", 'if [ "$1" = "$k/$m" ] && [ -e "$k/rewound" ] && mkdir "$f/reading" 2>/dev/null; then\n'
                        '  until_true \'[ ! -e "$k" ]\'; : > "$f/too_late"\nfi')
    cut_over_and_back(ready, machine, "too_late")


def test_a_marker_that_is_read_while_a_whole_rewind_goes_by_is_still_the_runs(ready):
    """Its place is the same before and after, and in between there is no file there: a reader that was frozen for as long."""
    machine = Machine(ready)
    machine.shim("mkdir", 'if [ "$1" = "$k" ]; then : > "$f/begun"; until_true \'[ -e "$f/reading" ]\'; fi')
    machine.shim("cp", 'if [ "$2" = "$k/$m" ]; then until_true \'[ -e "$f/was_read" ]\'; fi')
    machine.shim("cat", 'if [ "$1" = "$d/$m" ] && [ -e "$f/begun" ] && mkdir "$f/reading" 2>/dev/null; then\n'
                        '  until_true \'[ -e "$k/rewound" ] && [ ! -e "$d/$m" ]\'; $real "$@"; status=$?\n'
                        '  : > "$f/was_read"; until_true \'[ ! -e "$k" ]\'; exit $status\nfi')
    cut_over_and_back(ready, machine, "was_read")


def test_a_marker_that_is_raised_in_the_moment_in_which_the_rewind_ends_is_not_lost(ready):
    """The kept one is raised by who takes the run over, and is copied back by the rewind's end: one after the other."""
    machine = Machine(ready)
    machine.shim("sync", 'if [ "$1" = "$k" ] && [ -e "$k/rewound" ]; then : > "$f/rewound"; until_true \'[ -e "$f/raising" ]\'; fi\n'
                         'if [ "$1" = "$k/$m.new" ] && mkdir "$f/raising" 2>/dev/null; then\n'
                         '  until_true \'[ -e "$f/waiting" ] || [ ! -e "$k" ]\'\nfi')
    machine.shim("mkdir", 'if [ "$1" = "$k/$m.lock" ]; then $real "$1" 2>/dev/null && exit 0; : > "$f/waiting"; exit 1; fi')
    killed_and_resumed(ready, machine, "rewound")
    assert machine.met("raising") and machine.met("waiting")


def test_a_marker_that_is_raised_while_the_rewind_puts_it_back_waits_for_that(ready):
    """It was told that it couldn't be raised, went on without, and was refused by the marker of the killed run."""
    machine = Machine(ready)
    machine.shim("cp", 'if [ "$2" = "$k/$m" ]; then : > "$f/putting_back"; until_true \'[ -e "$f/waiting" ]\'; fi')
    machine.shim("mkdir", 'case $1 in "$k/$m.lock"|"$d/$m.lock") $real "$1" 2>/dev/null && exit 0\n'
                          '  [ ! -e "$f/putting_back" ] || : > "$f/waiting"; exit 1;; esac')
    killed_and_resumed(ready, machine, "putting_back")
    assert machine.met("waiting")


def test_a_marker_that_is_raised_in_the_moment_in_which_a_rewind_begins_is_not_lost(ready):
    """What the rewind keeps is what was raised, whoever is first."""
    machine = Machine(ready)
    machine.shim("mkdir", 'if [ "$1" = "$d/$m.lock" ] && [ -e "$f/beginning" ]; then\n'
                          '  $real "$1" 2>/dev/null && exit 0; : > "$f/waiting"; exit 1\nfi\n'
                          'if [ "$1" = "$k" ]; then : > "$f/beginning"; until_true \'[ -e "$f/raising" ] || [ -e "$f/waiting" ]\'; fi')
    machine.shim("sync", 'if [ "$1" = "$d/$m.new" ]; then : > "$f/raising"; until_true \'[ -e "$k/rewound" ] || [ -e "$f/waiting" ]\'; fi')
    killed_and_resumed(ready, machine, "beginning")
    assert machine.met("waiting")
