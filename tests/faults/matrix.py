"""The cases of the fault suite, and how one is run.

A case: a cutover (or, when B is the primary, a rollback) under load, in which exactly one thing goes wrong, at one
point; then nothing is done but what an operator would do: wait for the guardian, wake what was stopped, restart
what was killed, `resume`. Then every acknowledged write must be on the side in service, exactly one side must take
writes, and after an undo both servers' settings must be what they were.
"""
import dataclasses
import time
import zlib

from sandbox import Violation, wait_for
from sandbox import process
from sandbox.scenario import OTHER, Scenario, now_ns

TOOL_ACTIONS = ("kill", "kill_both", "stop", "lost", "late", "error", "delay")
PHASES = ("lock", "check", "gate", "warm_up", "fence", "drain", "capture", "catch_up", "prove", "reverse_prepare", "promote",
          "commit", "open", "switch", "confirm", "reverse")
SERVER_ACTIONS = ("crash_source", "crash_target", "freeze_source", "freeze_target", "crash_both")
NETWORK_ACTIONS = ("cut_tool_source", "cut_tool_target", "cut_link", "cut_tool_both")
LEGS = ("fake", "redis", "valkey")  # engines whose sandbox has relays to cut
JOURNAL_ACTIONS = ("second_operator",)


@dataclasses.dataclass(frozen=True)
class Case:
    where: str   # "tool", "undo", "guardian", "resume", "server"
    point: str   # a fault point, or a phase for server faults
    action: str

    @property
    def id(self):
        return f"{self.where}-{self.point}-{self.action}"

    @property
    def phase(self):
        """For the table: the phase that the point belongs to."""
        head = self.point.split(":")[0].split(".")[0]
        return head if head in PHASES else {"journal": "decisions"}.get(head, "calls")


def cases(points):
    """All cases for the registered points."""
    found = []
    for point in points:
        spoils_undo = point.endswith(":revert") or point.startswith(("undo", "journal.undo", "end_sessions"))
        for action in TOOL_ACTIONS:
            found.append(Case("undo" if spoils_undo else "tool", point, action))
        if not point.startswith(("setup", "detach", "round")):
            found.append(Case("guardian", point, "kill"))
            found.append(Case("resume", point, "kill"))
            found.append(Case("guardian", point, "lost"))
    for phase in PHASES:
        for action in SERVER_ACTIONS + NETWORK_ACTIONS + JOURNAL_ACTIONS:
            found.append(Case("server", phase, action))
    return [case for case in found if not case.point.startswith(("setup", "detach", "round"))]


class World:
    """A set-up pair that cases share; made anew after a failure."""

    def __init__(self, make_box, engine):
        self.make_box, self.engine, self.box, self.scene = make_box, engine, None, None

    def get(self):
        if self.scene is None:
            self.box = self.make_box()
            self.scene = Scenario(self.box, self.engine, **({"legs": True} if self.engine.startswith(LEGS) else {}))
            self.scene.tool.cutover.update(max_write_pause="3s", undo_budget="3s")
            self.scene.tool.write_config()
            self.scene.set_up()
        return self.scene

    def drop(self, failed):
        if self.box:
            self.box.close(failed=failed)
        self.box = self.scene = None


class Outcome:
    def __init__(self):
        self.codes, self.reached, self.primary, self.seconds = [], True, None, 0.0


def nth(case):
    """Which passing of a point: calls are many, steps and decisions few."""
    return 1 + zlib.crc32(case.id.encode()) % 3 if case.phase == "calls" else 1


def arm(case):
    """(fault of the tool, fault of the guardian, fault of resume)"""
    action = "delay:600" if case.action == "delay" else case.action
    if case.where != "server" and not case.point.endswith((":begin", ":end")) and not case.action.startswith("kill"):
        case = dataclasses.replace(case, point=f"{case.point}#{nth(case)}")  # once, not each time
    if case.where == "tool":
        return f"{case.point}={action}", None, None
    if case.where == "undo":
        return f"promote:end=error,{case.point}={action}", None, None
    if case.where == "guardian":
        return "promote:end=kill", f"{case.point}={action}", None
    if case.where == "resume":
        return "promote:end=kill_both", None, f"{case.point}={action}"
    return f"{case.point}:begin=delay:700", None, None


def disturb(scene, case, source):
    """The server-side fault; returns what puts it right again."""
    side = {"source": source, "target": OTHER[source]}
    words = case.action.split("_")
    if words[0] == "crash":
        servers = [scene.server(side[name]) for name in (("source", "target") if words[1] == "both" else (words[1],))]
        for server in servers:
            server.crash_and_restart()
        return lambda: None
    if words[0] == "freeze":
        server = scene.server(side[words[1]])
        server.freeze()
        return server.thaw
    if words[0] == "cut":
        legs = scene.legs
        names = {"source": [f"tool_{source}"], "target": [f"tool_{OTHER[source]}"], "both": ["tool_a", "tool_b"],
                 "link": ["a_b", "b_a"]}[words[-1]]
        for name in names:
            legs[name].cut()
        return lambda: [legs[name].restore() for name in names]
    if case.action == "second_operator":
        elsewhere = scene.box.tool([scene.pair], name="elsewhere")
        for command in (("resume",), ("abort", "--yes"), ("cutover", "--yes")):
            result = elsewhere(*command, timeout_s=40)
            assert result.code in (1, 2, 3, 75), f"a second operator got through\n{result!r}"
        return lambda: None
    raise ValueError(case.action)


def end_stopped_tool(scene, child):
    """The tool was stopped: the guardian acts, or there is none yet; then it wakes up and must do no harm."""
    try:
        wait_for(lambda: not [pid for pid in scene.tool.guardians() if pid != child.pid], 15, "the guardian ends")
    except TimeoutError:
        pass  # a guardian that can't finish goes on trying; the tool wakes up beside it
    process.send(child.pid, 18)


def run_case(scene, case):
    """Raises Violation or AssertionError; returns the Outcome."""
    outcome, began = Outcome(), time.monotonic()
    source = scene.primary
    kind = "cutover" if source == "a" else "rollback"
    wait_for(lambda: scene.tool("lag", "--wait=15s").code == 0, 40, "the gate opens before the case")
    before = {side: scene.server(side).settings() for side in "ab"}
    fault, guardian_fault, resume_fault = arm(case)
    runs = scene.runs()
    repair = lambda: None
    with scene.load(writers=4, timeout_s=1.0, pause_s=0.008) as load:
        wait_for(lambda: load.count(source) > 8, 20, "the load runs")
        since = now_ns()
        child = scene.tool.spawn(kind, "--yes", "--when-ready=15s", fault=fault, guardian_fault=guardian_fault)
        if case.where == "server":
            wait_for(lambda: child.poll() is not None or scene.at_phase(case.point, runs), 40, f"phase {case.point}")
            repair = disturb(scene, case, source)
            # the trouble lasts until the tool has ended, at most for six seconds
            try:
                wait_for(lambda: child.poll() is not None, 6, "the tool ends")
            except TimeoutError:
                repair()
                repair = lambda: None
        if case.action == "stop":
            wait_for(lambda: child.poll() is not None or (process.stat_of(child.pid) or "T")[0] == "T", 40, "the tool stops")
            if child.poll() is None:
                end_stopped_tool(scene, child)
        result = scene.tool.finish(child, 90)
        assert "[still running" not in result.err, f"the tool hangs\n{result!r}"
        outcome.codes.append(result.code)
        assert result.code in (0, 1, 2, 3, 4, 5, 6, 75, -9), f"exit {result.code}\n{result!r}"
        outcome.reached = case.where == "server" or result.code != 0
        never_two(scene, case)
        repair()
        scene.tool.wait_quiet(60)
        for attempt in range(4):
            result = scene.tool("resume", "--if-needed", fault=resume_fault if attempt == 0 else None, timeout_s=60)
            outcome.codes.append(result.code)
            scene.tool.wait_quiet(60)
            if result.code in (0, 4, 6):
                break
        assert result.code in (0, 4, 6), f"resume doesn't end the run\n{result!r}"
        now = scene.open_side()
        at = load.count(now)
        wait_for(lambda: load.count(now) > at + 8, 20, f"writes go on at {now}")
    load.check_not_lost(scene.server(now))
    load.check_one_open(source, OTHER[source], since, committed=now != source)
    if now == source:
        wait_for(lambda: same_settings(scene, before, source), 10, "the source's settings as before the run that was undone")
        if not scene.engine.startswith("fake") and scene.tool("lag", "--wait=5s", timeout_s=40).code != 0:
            setup = scene.tool("setup", timeout_s=180)  # an undone promotion may cost the target its copy
            assert setup.code == 0, setup
        else:
            wait_for(lambda: same_settings(scene, before, OTHER[source]), 20, "the target's settings as before the run")
    elif 6 in outcome.codes or scene.tool("lag").code > 1:
        repair_follower(scene)
    outcome.primary, outcome.seconds = now, time.monotonic() - began
    return outcome


def never_two(scene, case):
    if case.action.startswith(("freeze", "cut")):
        return  # asked again when it is over
    sides = [side for side in "ab" if scene.server(side).pid() and scene.server(side).is_open()]
    if len(sides) == 2:
        raise Violation("both sides take writes")


def same_settings(scene, before, side):
    was, now = before[side], scene.server(side).settings()
    different = {name: (was.get(name), now.get(name)) for name in {*was, *now} if was.get(name) != now.get(name)}
    if different:
        raise LookupError(f"changed on {side}: {different}")
    return True


def repair_follower(scene):
    """The way back isn't there after exit 6: what an operator would do about it is setup in the new direction."""
    if scene.tool("lag", "--wait=10s", timeout_s=40).code != 0:
        raise Violation("after the run the old primary doesn't follow the new one")
