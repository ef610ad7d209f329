"""The command line as people and scripts meet it: exact output, exit codes, JSON documents."""
import os
import subprocess

import pytest

from sandbox.scenario import Scenario
from sandbox.tool import Result, program


class Cli:
    """cli("lag", "--json") -> Result, in the box's folder, with nothing of this machine's environment."""

    def __init__(self, box):
        self.folder = box.folder
        self.env = {name: os.environ[name] for name in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS")
                    if name in os.environ}
        self.env.update(HOME=str(box.folder), XDG_STATE_HOME=str(box.folder / "state"), LC_ALL="C.UTF-8")

    def __call__(self, *arguments, env=None, **how):
        argv = [str(program()), *map(str, arguments)]
        how.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(argv, cwd=self.folder, env={**self.env, **(env or {})}, timeout=60, check=False,
                              stdout=how.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, text=True, **how)
        return Result(done.returncode, done.stdout, done.stderr, argv)

    def config(self, text, mode=0o600, name="changeover.yaml"):
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path


@pytest.fixture
def cli(box):
    return Cli(box)


@pytest.fixture
def fakes(box):
    """A pair of fake servers with a gate that opens at once, set up."""
    scene = Scenario(box, "fake")
    scene.pair.extra["gate"] = {"stable_for": "0s"}
    scene.tool.write_config()
    return scene
