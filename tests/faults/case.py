"""Runs one case: load, run, fault, then what an operator would do (wait for the guardian, wake what was stopped, start what
was killed, `resume`), then the promises: every acknowledged write is on the side in service, never two sides took writes,
exactly one does now, an undone run leaves every server's settings as they were.
"""
import time

from inject import Faults, disturb, wake
from sandbox import Sandbox, Violation, process, wait_for
from sandbox.disk import FailingSync, SmallDisk, disk_reason
from sandbox.network import network_reason
from sandbox.scenario import OTHER, Scenario, now_ns

RELAYS = ("fake", "redis", "valkey")  # engines whose sandbox has relays, where there are no network namespaces
CODES = (0, 1, 2, 3, 4, 5, 6, 75, -9)


class World:
    """A pair or group that is set up, which cases share; made anew after a failure."""

    def __init__(self, engine, name="faults", limit=None):
        """limit: of the write pause and of the undo, where nothing in the cases waits for it to be over."""
        self.engine, self.name, self.limit, self.box, self.scene = engine, name, limit, None, None

    def get(self):
        if self.scene is None:
            self.scene = self.make()
        return self.scene

    def make(self):
        network = network_reason() is None
        self.box = Sandbox(self.name, network=network)
        relays = not network and all(engine.startswith(RELAYS) for engine in self.engine.split("+"))
        scene = Scenario(self.box, self.engine, **({"legs": True} if relays else {}))
        if disk_reason() is None:
            scene.disk = SmallDisk(self.box.folder)
            self.box.mounts.append(scene.disk)
            scene.tool.journal = scene.disk.path / "m.journal"
        scene.sync = FailingSync(self.box.folder)
        scene.tool.variables.update(scene.sync.environment)
        limit = self.limit or f"{max(pair.a.FAULT_LIMIT_S for pair in scene.pairs)}s"
        scene.tool.cutover.update(max_write_pause=limit, undo_budget=limit)
        scene.tool.write_config()
        scene.set_up()
        return scene

    def drop(self, failed):
        if self.box:
            self.box.close(failed=failed)
        self.box = self.scene = None


def can(engine):
    """(network, disk): whether these faults can be had here; else the reasons."""
    network = network_reason()
    if network and all(one.startswith(RELAYS) for one in engine.split("+")):
        network = None
    return network, disk_reason()


class Outcome:
    def __init__(self):
        self.codes, self.met, self.primary, self.seconds, self.pause_ms = [], False, None, 0.0, None


def run_case(scene, case, alone=False):
    """Raises Violation or AssertionError; returns the Outcome. `alone`: no other case follows on this pair, so a way back that is
    lost needs no repair."""
    outcome, began = Outcome(), time.monotonic()
    source = scene.primary
    wait_for(lambda: scene.tool("lag", "--wait=15s").code == 0, 90, "the gate opens before the case")
    before = settings_of(scene)
    faults = Faults(scene, case)
    runs = scene.runs()
    with scene.loads(writers=4, timeout_s=1.0, pause_s=0.008) as load:
        wait_for(lambda: load.count(source) > 4, 20, "the load runs")
        since = now_ns()
        repair = meet(scene, case, faults, source, runs, outcome)
        if not case.action.startswith(("freeze", "cut")):
            scene.open_sides()  # never two; what is frozen or cut off is asked when it is over
        repair()
        if faults.patience_s:
            end_guardian(scene, faults.patience_s)
        scene.tool.wait_quiet(60)
        settle(scene, faults, outcome)
        now = scene.open_side()
        at = load.count(now)
        wait_for(lambda: load.count(now) > at + 4, 20, f"writes go on at {now}")
    load.check_not_lost(now)
    load.check_one_open(source, OTHER[source], since, committed=now != source)
    outcome.met = faults.met() and (case.action != "fsync_fails" or scene.sync.met())
    if not (alone and now != source):
        leave(scene, outcome, source, now, before, crashed_target=case.action in ("crash_target", "crash_both"))
    outcome.primary, outcome.seconds = now, time.monotonic() - began
    return outcome


def meet(scene, case, faults, source, runs, outcome):
    """The run and its fault, until the tool has ended; returns what is still to be put right."""
    kind = "cutover" if source == "a" else "rollback"
    repair = lambda: None
    limit = ["--max-write-pause=1500ms"] if case.action in ("stop", "stop_unkillable") and scene.engine.startswith("fake") else []
    if case.action == "second_operator":  # the guardian isn't to end the run while the other one tries
        limit = ["--max-write-pause=40s"]
    scene.mark_runs()
    child = scene.tool.spawn(kind, "--yes", "--when-ready=15s", *limit, fault=faults.tool, guardian_fault=faults.guardian,
                             env=faults.env)
    if case.way == "server":
        wait_for(lambda: child.poll() is not None or faults.met(), 40, f"phase {case.point}")
        if child.poll() is None:
            repair = disturb(scene, case, source, faults.go_on)
        try:  # the trouble lasts until the tool has ended, at most for six seconds
            wait_for(lambda: child.poll() is not None, 6, "the tool ends")
        except TimeoutError:
            repair()
            repair = lambda: None
    if case.way in ("tool", "undo") and faults.patience_s:
        end_after(child, faults.patience_s)
    if case.action.startswith("stop"):
        wait_for(lambda: child.poll() is not None or scene.stopped(child), 40, "the tool stops")
        if child.poll() is None:
            wake(scene, child, case)
    result = scene.tool.finish(child, 90)
    outcome.codes.append(result.code)
    if result.code not in CODES or "[still running" in result.err:
        raise Violation(f"exit {result.code}\n{result!r}")
    return repair


def settle(scene, faults, outcome):
    """`resume`, the first one with the case's fault, until the run is over: exit 4 alone may mean that the target is still to be
    tidied up."""
    for attempt in range(5):
        child = scene.tool.spawn("resume", "--if-needed", fault=faults.resume if attempt == 0 else None, env=faults.env)
        if attempt == 0 and faults.resume and faults.patience_s:
            end_after(child, faults.patience_s)
        result = scene.tool.finish(child, 90)
        outcome.codes.append(result.code)
        scene.tool.wait_quiet(60)
        if result.code in (0, 4, 6) and scene.run_ended() is not False and not (attempt == 0 and faults.resume):
            return
    raise Violation(f"resume doesn't end the run\n{result!r}")


def end_after(child, seconds):
    """What insists on a call that always fails is ended by its operator."""
    try:
        wait_for(lambda: child.poll() is not None, seconds, "it gives up")
    except TimeoutError:
        process.send(child.pid, 9)


def end_guardian(scene, seconds):
    try:
        scene.tool.wait_quiet(seconds)
    except TimeoutError:
        for pid in scene.tool.guardians():
            process.send(pid, 9)


def settings_of(scene):
    return [{side: pair.side(side).settings() for side in "ab"} for pair in scene.pairs]


def leave(scene, outcome, source, now, before, crashed_target=False):
    """What the run left is as it was, or as it must be; and the next case can begin."""
    if now != source:
        if 6 in outcome.codes or scene.tool("lag").code > 1:
            repair_follower(scene)
        return
    wait_for(lambda: same(scene, before, source), 30, "the source's settings as before the run that was undone")
    if not scene.engine.startswith("fake") and scene.tool("lag", "--wait=5s", timeout_s=40).code != 0:
        again = scene.tool("setup", timeout_s=180)  # an undone promotion may cost the target its copy
        if again.code != 0:
            raise Violation(f"setup after an undone run\n{again!r}")
    else:
        wait_for(lambda: same(scene, before, OTHER[source], crashed_target), 60, "the target's settings as before the run")


def same(scene, before, side, crashed=False):
    for pair, was in zip(scene.pairs, before):
        now = pair.side(side).settings()
        itself = pair.side(side).restart_resets if crashed else ()  # the server's own doing
        different = {name: (was[side].get(name), now.get(name)) for name in {*was[side], *now}
                     if was[side].get(name) != now.get(name) and name not in itself}
        if different:
            raise LookupError(f"changed on {side} of {pair.name}: {different}")
    return True


def repair_follower(scene):
    """The way back isn't there after exit 6: what an operator would do about it is setup in the new direction."""
    if scene.tool("lag", "--wait=10s", timeout_s=40).code == 0:
        return
    again = scene.tool("setup", timeout_s=180)
    if again.code != 0 or scene.tool("lag", "--wait=10s", timeout_s=40).code != 0:
        raise Violation(f"after the run the old primary doesn't follow the new one\n{again!r}")
