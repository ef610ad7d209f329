"""What goes wrong in a case, how it is put right again, and how one sees that it was met."""
import pathlib
import subprocess

from matrix import WAYS
from sandbox import Violation, process, wait_for
from sandbox.scenario import OTHER
from survey import read_met

LEGS = {"cut_tool_source": ("S",), "cut_tool_target": ("T",), "cut_link": ("L",), "cut_tool_both": ("S", "T"),
        "cut_tool_source_link": ("S", "L"), "cut_tool_target_link": ("T", "L"), "cut_all": ("S", "T", "L")}


class Faults:
    """The environment of a case's commands: what each process injects, and the file in which it says so."""

    def __init__(self, scene, case):
        self.case, self.way = case, case.way
        self.met_path = scene.box.folder / "faults.met"
        self.go_path = pathlib.Path(f"{self.met_path}.go")
        for path in (self.met_path, self.go_path):
            path.unlink(missing_ok=True)
        self.patience_s = 12 if case.action == "persist" else 0  # an error that never ends is insisted on for long
        self.env = {"CHANGEOVER_FAULT_MET": str(self.met_path)}
        self.tool, self.guardian, self.resume = self.arm()

    def arm(self):
        """(of the tool, of the guardian, of the first resume)"""
        case = self.case
        if self.way == "server":
            return f"{case.point}:begin=hold", None, None  # at most 30 s
        action = {"delay": "delay:600", "persist": "error", "stop_unkillable": "stop"}.get(case.action, case.action)
        point = case.point if case.action == "persist" else f"{case.point}#{case.passing}"
        before, who = WAYS[self.way]
        mine = f"{point}={action}"
        guardian = "guardian.kill=error" if case.action == "stop_unkillable" else None
        if who is None or who == "tool":
            return (f"{before},{mine}" if before else mine), guardian, None
        return before, mine if who == "guardian" else None, mine if who == "resume" else None

    def met(self):
        """Whether the case's own fault was."""
        wanted = f"{self.case.point}:begin" if self.way == "server" else self.case.point
        return any(point == wanted and (self.way == "server" or self.case.action == "persist" or passing == self.case.passing)
                   for _, point, passing in read_met(self.met_path))

    def go_on(self):
        self.go_path.touch()


def disturb(scene, case, source, go_on):
    """Does to the servers, the network or the disk what the case says, lets the tool go on, and returns what puts it right."""
    target = OTHER[source]
    pair = case.pick(scene.pairs)
    side = {"source": [source], "target": [target], "both": [source, target]}
    kind, _, what = case.action.partition("_")
    if kind in ("crash", "restart"):
        servers = [pair.side(name) for name in side[what]]
        for server in servers:
            server.kill() if kind == "crash" else server.stop()
        if case.pick((True, False)):  # it is back before the tool speaks to it again, or it isn't
            start(servers)
            go_on()
        else:
            go_on()
            start(servers)
        return lambda: None
    if kind == "freeze":
        servers = [pair.side(name) for name in side[what]]
        for server in servers:
            server.freeze()
        go_on()
        return lambda: [server.thaw() for server in servers]
    if kind == "cut":
        legs = [leg for name in LEGS[case.action] for leg in legs_of(scene, pair, name, source)]
        for leg in legs:
            leg.cut()
        go_on()
        return lambda: [leg.restore() for leg in legs]
    if case.action == "second_operator":
        second_operator(scene, marked=case.point != "lock")
        go_on()
        return lambda: None
    if case.action == "disk_full":
        scene.disk.fill()
        go_on()
        return scene.disk.clear
    if case.action == "fsync_fails":
        scene.sync.begin()
        go_on()
        return scene.sync.end
    raise ValueError(case.action)


def start(servers):
    for server in servers:
        wait_for(lambda: started(server), 60, f"{server.name} is started")


def started(server):
    """In `reverse` the tool starts a source that is down as well, and works on its files before: who comes second is refused, and
    an operator would look, and try again."""
    if server.pid():
        return True
    try:
        server.start()
    except subprocess.CalledProcessError:
        return False
    return True


def legs_of(scene, pair, letter, source):
    """Cables between namespaces, or relays of the pair's own."""
    legs = scene.box.network.legs if scene.box.network else pair.legs
    names = {"S": f"tool_{source}", "T": f"tool_{OTHER[source]}"}
    if letter in names:
        return [legs[names[letter]]]
    return [legs[name] for name in ("a_b", "b_a") if name in legs]


def second_operator(scene, marked):
    """On another machine, with a journal of its own: whatever it tries, it gets nowhere. Before the servers are marked there is
    nothing to find yet, and who begins first wins (that race has a test of its own)."""
    elsewhere = scene.box.tool(scene.pairs, name="elsewhere")
    for command in (("resume",), ("abort", "--yes"), ("cutover", "--yes"), ("rollback", "--yes"))[: 4 if marked else 2]:
        result = elsewhere(*command, timeout_s=60)
        if result.code not in (1, 2, 3, 75):
            raise Violation(f"a second operator got through: {result!r}")
        if marked and result.code == 1 and command[0] in ("resume", "abort"):
            raise Violation(f"a second operator isn't told of the run: {result!r}")


def wake(scene, child, case):
    """The tool was stopped. The guardian ends the run, or there is none that would; then the tool wakes up."""
    def guardian_done():
        others = [pid for pid in scene.tool.guardians() if pid != child.pid]
        return not others or child.poll() is not None or not scene.in_pause()
    try:
        wait_for(guardian_done, 8, "the guardian ends")
    except TimeoutError:
        pass  # one that can't finish goes on trying; the tool wakes up beside it
    if case.action == "stop_unkillable" and child.poll() is None:
        return wake_harmlessly(scene, child)
    process.send(child.pid, 18)
    return None


def wake_harmlessly(scene, child):
    """What the run's end left on the servers is what is there after the tool has woken up and ended."""
    ended = scene.run_ended()
    if ended:
        scene.agreed()
    before = [{side: pair.side(side).settings() for side in "ab"} for pair in scene.pairs] if ended else None
    process.send(child.pid, 18)
    wait_for(lambda: child.poll() is not None, 60, "the tool that woke up ends")
    if ended:
        after = [{side: pair.side(side).settings() for side in "ab"} for pair in scene.pairs]
        if after != before:
            raise Violation(f"a tool that woke up after its run was over changed a server: {difference(before, after)}")
    return ended


def difference(before, after):
    return [(pair, side, name, was[side].get(name), now[side].get(name))
            for pair, (was, now) in enumerate(zip(before, after)) for side in "ab"
            for name in {*was[side], *now[side]} if was[side].get(name) != now[side].get(name)]
