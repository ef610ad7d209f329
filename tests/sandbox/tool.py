"""The program under test: writes its config, runs it, reads what it says."""
import contextlib
import json
import os
import pathlib
import shlex
import signal
import subprocess

from . import process
from .wait import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]


def build_folder():
    return pathlib.Path(os.environ.get("CO_BUILD", ROOT / "build" / "dev"))


def program():
    return build_folder() / "changeover"


class Result:
    def __init__(self, code, out, err, argv):
        self.code, self.out, self.err, self.argv = code, out, err, argv

    @property
    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"<{' '.join(self.argv[1:])}: exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}>"


class Tool:
    """tool("cutover", "--yes", json=True) -> Result. `fault` and `guardian_fault` arm fault points."""

    MAX_WRITE_PAUSE = "5s"

    def __init__(self, box, pairs, name="m", journal=None, **cutover):
        self.box, self.pairs, self.name = box, pairs, name
        self.config_path = box.folder / f"{name}.yaml"
        self.journal = journal or box.folder / f"{name}.journal"
        self.cutover = {"max_write_pause": self.MAX_WRITE_PAUSE, "undo_budget": "10s", **cutover}
        self.running = []
        self.variables = {}  # of every command's environment
        self.write_config()

    def document(self):
        return {"migration": "test", "journal": str(self.journal), "pairs": [pair.config() for pair in self.pairs],
                "cutover": self.cutover}

    def write_config(self, text=None):
        self.config_path.write_text(text if text is not None else json.dumps(self.document(), indent=1))
        self.config_path.chmod(0o600)

    def environment(self, fault=None, guardian_fault=None, **more):
        keep = ("PATH", "LANG", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS")
        env = {name: os.environ[name] for name in keep if name in os.environ}
        env.update(HOME=str(self.box.folder), XDG_STATE_HOME=str(self.box.folder), LC_ALL="C.UTF-8")
        if fault:
            env["CHANGEOVER_FAULT"] = fault
        if guardian_fault:
            env["CHANGEOVER_GUARDIAN_FAULT"] = guardian_fault
        env.update(self.variables)
        env.update(more)
        return env

    def argv(self, arguments, as_json):
        prefix = self.box.network.homes["tool"].prefix if self.box.network else []
        return [*prefix, *shlex.split(os.environ.get("CO_WRAPPER", "")), str(program()), "-c", str(self.config_path), *(["--json"] if as_json else []), *arguments]

    def spawn(self, *arguments, fault=None, guardian_fault=None, json=False, env=None):
        """Starts it and returns the Popen; for killing it, or for a second operator."""
        with process.adopted.lock:
            child = subprocess.Popen(self.argv(arguments, json), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True, start_new_session=True,
                                     env=self.environment(fault, guardian_fault, **(env or {})))
            process.adopted.awaited.add(child.pid)
        child.takes_guardian_along = "kill_both" in f"{fault} {guardian_fault}"
        self.running.append(child)
        return child

    @contextlib.contextmanager
    def held(self, *arguments, at, fault=None, env=None, **how):
        """Starts it and yields the Popen when it stands at the fault point `at`; it goes on from there when the block is left."""
        met, go = (self.box.folder / f"{self.name}.{name}" for name in ("met", "met.go"))
        for path in (met, go):
            path.unlink(missing_ok=True)
        child = self.spawn(*arguments, fault=",".join(filter(None, [f"{at}=hold", fault])),
                           env={"CHANGEOVER_FAULT_MET": str(met), **(env or {})}, **how)
        try:
            wait_for(lambda: child.poll() is not None or (met.exists() and f" {at}#" in met.read_text()), 60, f"it is at {at}")
            assert child.poll() is None, f"it never was at {at}: {self.finish(child)}"
            yield child
        finally:
            go.touch()

    def finish(self, child, timeout_s=60.0):
        try:
            out, err = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.send(child.pid, signal.SIGABRT)
            process.end(child.pid)
            out, err = child.communicate()
            err += f"\n[still running after {timeout_s} s]"
        process.adopted.awaited.discard(child.pid)
        self.running.remove(child)
        if child.takes_guardian_along and child.returncode == -signal.SIGKILL:
            self.wait_quiet()  # killed as well, but whoever is killed in an fsync still holds the journal's lock
        return Result(child.returncode, out, err, child.args)

    def __call__(self, *arguments, timeout_s=60.0, **how):
        # A killed tool's guardian holds the pipes no longer than it lives; its output goes to the journal.
        return self.finish(self.spawn(*arguments, **how), timeout_s)

    def guardians(self):
        process.adopted.reap(program().name)
        dying = process.adopted.dying(program().name)
        return sorted({pid for pid in process.with_argument(str(self.config_path)) if process.alive(pid)} | set(dying))

    def wait_quiet(self, timeout_s=40.0):
        """Until neither a tool nor a guardian of this config runs."""
        wait_for(lambda: not self.guardians(), timeout_s, "the guardian ends", 0.05)

    def end(self):
        for child in self.running:
            process.end(child.pid)
            child.wait()
            process.adopted.awaited.discard(child.pid)
            for pipe in (child.stdout, child.stderr):
                if pipe:
                    pipe.close()
        for pid in self.guardians():
            process.end(pid)


def fault_points(config_path=None):
    """The registered fault points that the program prints."""
    argv = [str(program()), *(["-c", str(config_path)] if config_path else []), "fault-points"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise RuntimeError(f"fault-points: exit {done.returncode}: {done.stderr}")
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
