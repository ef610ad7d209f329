"""The cases of the fault suite: in a cutover (or, when B is the primary, a rollback) under load exactly one thing goes
wrong, at one point.

Which points a run passes, and how often, is not assumed but surveyed (survey.py), for each way that a run can take:

    tool             a run that nothing else disturbs
    undo             the tool undoes it: an error at the end of `promote`
    guardian         the tool was killed at the end of `promote`, the guardian undoes; the fault is the guardian's
    guardian_forward the tool was killed right after the commit, the guardian goes forward
    resume           both were killed at the end of `promote`, `resume` undoes; the fault is its
    resume_forward   both were killed right after the commit
    server           at the beginning of a phase something happens to a server, a leg of the network, the journal's disk
"""
import dataclasses
import random
import zlib

PHASES = ("lock", "check", "gate", "warm_up", "fence", "drain", "capture", "catch_up", "prove", "reverse_prepare", "promote",
          "commit", "open", "switch", "confirm", "reverse")
WAYS = {
    "tool": (None, None),
    "undo": ("promote:end=error", "tool"),
    "guardian": ("promote:end=kill", "guardian"),
    "guardian_forward": ("journal.commit:after=kill", "guardian"),
    "resume": ("promote:end=kill_both", "resume"),
    "resume_forward": ("journal.commit:after=kill_both", "resume"),
}
KILLS = ("kill", "kill_both", "stop", "stop_unkillable")
REPLIES = ("lost", "late", "error", "persist", "delay")
SERVER_ACTIONS = ("crash_source", "crash_target", "crash_both", "freeze_source", "freeze_target", "freeze_both")
NETWORK_ACTIONS = ("cut_tool_source", "cut_tool_target", "cut_link", "cut_tool_both", "cut_tool_source_link",
                   "cut_tool_target_link", "cut_all")
JOURNAL_ACTIONS = ("second_operator", "disk_full", "fsync_fails")


@dataclasses.dataclass(frozen=True)
class Case:
    way: str      # of WAYS, or "server"
    point: str    # a fault point, or a phase for what happens to servers
    passing: int  # which passing of the point
    action: str

    @property
    def id(self):
        return f"{self.way}-{self.point}-{self.action}" if self.way == "server" else \
            f"{self.way}-{self.point}#{self.passing}-{self.action}"

    @property
    def phase(self):
        """For the table: the phase that the point belongs to."""
        head = self.point.split(":")[0].split(".")[0]
        return head if head in PHASES else {"journal": "decisions", "undo": "undo"}.get(head, "calls")

    def pick(self, choices):
        """The same choice for the same case, spread over all of them."""
        return choices[zlib.crc32(self.id.encode()) % len(choices)]


def parse(text):
    """A case by its id."""
    way, rest = text.split("-", 1)
    point, action = rest.rsplit("-", 1)
    name, _, passing = point.partition("#")
    return Case(way, name, int(passing or 1), action)


def actions_at(way, point):
    """What can happen there: before a call everything, after it its reply can be lost, at a phase's edge nothing is called."""
    kills = KILLS if way in ("tool", "undo") else ("kill",)
    if point.endswith((":begin", ":end")):
        return (*kills, "delay", "error") if way == "tool" else (*kills, "delay")
    if point.endswith(":after"):
        return (*kills, "lost", "delay")
    return (*kills, *REPLIES)


def cases(survey, network=True, disk=True):
    """All of them, for what a survey saw. Of a point that is passed several times the first and the last passing."""
    found = []
    for way, points in survey.items():
        for point, (first, last) in sorted(points.items()):
            if point.startswith(("setup", "detach", "round", "guardian.kill")):
                continue
            for action in actions_at(way, point):
                passings = {first, last} if action != "persist" else {first}
                found += [Case(way, point, passing, action) for passing in sorted(passings)]
    wanted = SERVER_ACTIONS + (NETWORK_ACTIONS if network else ()) + \
        tuple(action for action in JOURNAL_ACTIONS if disk or action != "disk_full")
    found += [Case("server", phase, 1, action) for phase in PHASES for action in wanted]
    return found


def spread(found, count, seed):
    """A sample in which every way and action has its turn, and then every point."""
    chooser = random.Random(seed)
    groups = {}
    for case in found:
        groups.setdefault((case.way, case.action), []).append(case)
    order = sorted(groups)
    chooser.shuffle(order)
    for group in groups.values():
        chooser.shuffle(group)
    picked = []
    while len(picked) < count and any(groups.values()):
        for name in order:
            if groups[name] and len(picked) < count:
                picked.append(groups[name].pop())
    return picked
