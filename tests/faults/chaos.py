"""Random runs: one to three faults of any kind, at random points or moments, on random engines and groups, with a random
load. The seed says which; the same seed gives the same runs."""
import dataclasses
import random
import threading
import time

from case import Outcome, leave, settings_of, settle
from inject import LEGS, legs_of
from matrix import REPLIES, actions_at
from sandbox import Violation, process, wait_for
from sandbox.scenario import OTHER, now_ns
from sandbox.tool import fault_points
from survey import read_met, stored, stored_path

TIMED = ("crash_source", "crash_target", "freeze_source", "freeze_target", "kill_tool", "kill_guardian", "kill_both", "stop_tool",
         *(name for name in LEGS))
FATAL = ("fence:end", "drain:end", "capture:end", "catch_up:end", "prove:end", "promote:begin", "promote:end", "journal.commit:before",
         "journal.commit:after", "journal.opening:after", "open:end", "switch:end")


@dataclasses.dataclass(frozen=True)
class Random:
    number: int
    seed: str

    @property
    def id(self):
        return f"random-{self.seed}-{self.number}"


def runs(options):
    """[(engine, run)], those of one engine together so that worlds can be shared."""
    engines = options.engine.split(",")
    options.server_versions = "engines " + ", ".join(engines)
    chooser = random.Random(options.seed)
    chosen = [(chooser.choice(engines), Random(number, options.seed)) for number in range(options.random)]
    return sorted(chosen, key=lambda one: one[0])


def server_versions(scene):
    """Product and version of every server, as the tool sees them."""
    found = scene.tool("status", json=True).json
    seen = {f"{pair['engine']} {pair[side].get('version') or '?'}" for pair in found["pairs"] for side in "ab"}
    return ", ".join(sorted(seen))


def passed_points(scene):
    """Those that a run is known to pass; where nobody has looked, those that every engine has."""
    if stored_path(scene.engine).exists():
        seen = stored(scene.engine)
        return {"tool": {**seen["undo"], **seen["tool"]}, "guardian": {**seen["guardian"], **seen["guardian_forward"]},
                "resume": {**seen["resume"], **seen["resume_forward"]}}
    known = [point for point in fault_points(scene.tool.config_path) if point.startswith("journal.") or point.endswith((":begin", ":end"))]
    return dict.fromkeys(("tool", "guardian", "resume"),
                         {point: (1, 1) for point in known if not point.startswith(("setup", "detach", "undo"))})


class Plan:
    """What will go wrong in this run."""

    def __init__(self, scene, case):
        self.chooser = random.Random(f"{case.seed}-{case.number}")
        pick = self.chooser
        points = passed_points(scene)
        self.faults = {"tool": [], "guardian": [], "resume": []}
        self.timed = []
        for _ in range(pick.choice((1, 2, 2, 3))):
            if pick.random() < 0.6:
                who = pick.choice(("tool", "tool", "tool", "guardian", "resume"))
                point = pick.choice(sorted(points[who]))
                if who != "tool":  # who takes over has nothing to do as long as the tool lives
                    fatal = "kill" if who == "guardian" else "kill_both"
                    self.faults["tool"].append(f"{pick.choice(FATAL)}={fatal}")
                action = pick.choice([name for name in actions_at("tool", point) if who == "tool" or name in (*REPLIES, "kill")
                                      if name != "stop_unkillable"])
                first, last = points[who][point]
                passing = "" if action == "persist" else f"#{pick.randint(first, last)}"
                word = {"delay": f"delay:{pick.randrange(50, 1500)}", "persist": "error"}.get(action, action)
                self.faults[who].append(f"{point}{passing}={word}")
            else:
                self.timed.append((pick.uniform(0.05, 1.0), pick.choice(TIMED), pick.uniform(0.1, 2.5)))
        self.writers = pick.choice((2, 4, 6, 8))
        self.pause_s = pick.choice((0.002, 0.01, 0.03))

    def text(self):
        timed = [f"{name} after {at:.2f} s for {length:.2f} s" for at, name, length in self.timed]
        return "; ".join([f"{who}: {','.join(what)}" for who, what in self.faults.items() if what] + timed)


def strike(scene, child, name, source, length, pick):
    """One fault at its moment; returns whether there was something to hit."""
    pair = pick.choice(scene.pairs)
    what, _, where = name.partition("_")
    server = pair.side({"source": source, "target": OTHER[source]}.get(where, "a"))
    if what == "crash":
        server.crash_and_restart()
    elif what == "freeze":
        server.freeze()
        time.sleep(length)  # how long it lasts: the fault itself
        server.thaw()
    elif what == "cut":
        legs = [leg for letter in LEGS[name] for leg in legs_of(scene, pair, letter, source)]
        for leg in legs:
            leg.cut()
        time.sleep(length)
        for leg in legs:
            leg.restore()
    else:
        guardians = [pid for pid in scene.tool.guardians() if pid != child.pid]
        hit = {"kill_tool": [child.pid], "kill_guardian": guardians, "kill_both": [child.pid, *guardians], "stop_tool": [child.pid]}
        met = [process.send(pid, 19 if name == "stop_tool" else 9) for pid in hit[name] if process.alive(pid)]
        if name == "stop_tool" and met:
            time.sleep(length)
            process.send(child.pid, 18)
        return bool(met)
    return child.poll() is None


def run_random(scene, case):
    plan, outcome, began = Plan(scene, case), Outcome(), time.monotonic()
    print(f"{case.id}: {plan.text()}", flush=True)
    source = scene.primary
    wait_for(lambda: scene.tool("lag", "--wait=15s").code == 0, 60, "the gate opens before the run")
    before = settings_of(scene)
    scene.mark_runs()
    met_path = scene.box.folder / "random.met"
    met_path.unlink(missing_ok=True)
    env = {"CHANGEOVER_FAULT_MET": str(met_path)}
    hits, broken = [], []
    kind = "cutover" if source == "a" else "rollback"
    with scene.loads(writers=plan.writers, timeout_s=1.0, pause_s=plan.pause_s) as load:
        wait_for(lambda: load.count(source) > 4, 20, "the load runs")
        since = now_ns()
        child = scene.tool.spawn(kind, "--yes", "--when-ready=15s", fault=",".join(plan.faults["tool"]) or None,
                                 guardian_fault=",".join(plan.faults["guardian"]) or None, env=env)

        def later(at, name, length, pick):
            try:
                if not over.wait(at):
                    hits.append(strike(scene, child, name, source, length, pick))
            except Exception as error:  # told by the run's own thread
                broken.append(error)

        over = threading.Event()
        threads = [threading.Thread(target=later, args=(*timed, random.Random(f"{case.id}-{i}"))) for i, timed in enumerate(plan.timed)]
        for thread in threads:
            thread.start()
        wake_up(scene, child)
        result = scene.tool.finish(child, 90)
        over.set()
        for thread in threads:
            thread.join()
        if broken:
            raise broken[0]
        outcome.codes.append(result.code)
        if "[still running" in result.err or result.code not in (0, 1, 2, 3, 4, 5, 6, 75, -9):
            raise Violation(f"{plan.text()}: exit {result.code}\n{result!r}")
        scene.tool.wait_quiet(90)
        settle(scene, Resume(env, ",".join(plan.faults["resume"]) or None), outcome)
        now = scene.open_side()
        at = load.count(now)
        wait_for(lambda: load.count(now) > at + 4, 20, f"writes go on at {now}")
    load.check_not_lost(now)
    load.check_one_open(source, OTHER[source], since, committed=now != source)
    outcome.met = bool(read_met(met_path)) or any(hits)
    outcome.writes = load.acknowledged()
    leave(scene, outcome, source, now, before)
    outcome.primary, outcome.seconds = now, time.monotonic() - began
    return outcome


def wake_up(scene, child):
    """A tool that a point has stopped is woken after a while."""
    end = time.monotonic() + 60
    while child.poll() is None and time.monotonic() < end:
        if scene.stopped(child) and child.poll() is None:
            seen = time.monotonic()
            while child.poll() is None and time.monotonic() < seen + 4:
                time.sleep(0.05)
            process.send(child.pid, 18)
        time.sleep(0.05)


@dataclasses.dataclass
class Resume:
    env: dict
    resume: str
    patience_s: float = 12
