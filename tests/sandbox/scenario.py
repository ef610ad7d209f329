"""One pair or a group of pairs, its tool, and the things that every case does with them."""
import contextlib
import sqlite3
import time

from . import process
from .ledger import Load, Loads, Violation
from .wait import wait_for

OPEN_AFTER = {0: "target", 6: "target", 1: "source", 4: "source", 130: "source"}
OTHER = {"a": "b", "b": "a"}
# Of a run that is to get through, or to a point of it, however busy the machine is: nothing waits for these limits to be over.
PATIENTLY = ("--yes", "--when-ready=40s", "--max-write-pause=20s")


class Scenario:
    def __init__(self, box, engine, **options):
        """`engine`: one, or several with a plus between them."""
        engines = engine.split("+")
        names = ["main"] if len(engines) == 1 else [f"{one}-{i}" for i, one in enumerate(engines)]
        self.begin(box, *(box.pair(one, name=name, **options) for one, name in zip(engines, names)))
        self.engine = engine if len(engines) > 1 else self.engine

    @classmethod
    def of(cls, box, pair):
        """With a pair that the test made itself."""
        scene = cls.__new__(cls)
        scene.begin(box, pair)
        return scene

    def begin(self, box, pair, *more):
        """`pair`, `a` and `b` are the first pair's; of a group, `pairs` are all."""
        self.box, self.engine, self.pair, self.pairs = box, pair.engine, pair, [pair, *more]
        self.a, self.b = self.pair.a, self.pair.b
        self.legs = box.network.legs if box.network else self.pair.legs
        self.tool = box.tool(self.pairs)
        self.primary = "a"

    # ------------------------------------------------------------ commands that must succeed

    def must(self, *arguments, code=0, **how):
        result = self.tool(*arguments, **how)
        assert result.code == code, f"expected exit {code}\n{result!r}"
        return result

    def set_up(self):
        self.must("setup", timeout_s=120)
        self.must("lag", "--wait=30s", timeout_s=60)

    def caught_up(self, wait="60s"):
        """Waits until the gate is open. `lag` only looks: where replication comes in rounds, somebody must make one."""
        if self.engine.endswith("-rounds"):
            self.must("setup", timeout_s=120)
        self.must("lag", f"--wait={wait}", timeout_s=120)

    def server(self, side):
        return self.pair.side(side)

    def load(self, **how):
        return Load(self.pair, **how)

    @contextlib.contextmanager
    def loads(self, **how):
        """Writers over every pair."""
        with contextlib.ExitStack() as stack:
            yield Loads([stack.enter_context(Load(pair, **how)) for pair in self.pairs])

    # ------------------------------------------------------------ a run and what must be true after it

    def run(self, kind="cutover", **how):
        """cutover or rollback with --yes; knows the primary afterwards where the exit code tells it. Patiently, unless the test has
        chosen a limit of the pause."""
        before = self.primary
        words = PATIENTLY if self.tool.cutover["max_write_pause"] == self.tool.MAX_WRITE_PAUSE else PATIENTLY[:2]
        result = self.tool(kind, *words, timeout_s=how.pop("timeout_s", 120), **how)
        self.note(result.code, before)
        return result

    def moved(self, load, kind):
        """A run that is done, and writes go on after it."""
        result = self.run(kind)
        assert result.code == 0, result
        at = load.count()
        wait_for(lambda: load.count() > at + 20, 20, "writes go on")

    def moved_under_load(self, kind):
        source, since = self.primary, now_ns()
        with self.load(writers=4) as load:
            wait_for(lambda: load.count() > 20, 20, "the load runs")
            self.moved(load, kind)
        side = self.check(load, source, since, committed=True)
        assert side != source, side

    def note(self, code, before):
        where = OPEN_AFTER.get(code)
        if where:
            self.primary = before if where == "source" else OTHER[before]
        return self.primary

    def settle(self, before, timeout_s=60.0):
        """After a kill: lets the guardian finish, then resumes until nothing is left to do. The open side."""
        self.tool.wait_quiet(timeout_s)
        result = None
        for _ in range(3):
            result = self.tool("resume", "--if-needed", timeout_s=timeout_s)
            if result.code in (0, 4, 6):
                break
        assert result.code in (0, 4, 6), f"resume doesn't end it\n{result!r}"
        self.tool.wait_quiet(timeout_s)
        return self.open_side()

    def open_side(self, timeout_s=None):
        """The one side that takes writes, of every pair the same; a Violation when both do, or when a group is torn."""
        timeout_s = timeout_s or max(pair.a.OPENS_IN_S for pair in self.pairs)

        def look():
            sides = self.open_sides()
            return sides if all(sides) else None
        found = wait_for(look, timeout_s, "one side takes writes", 0.1)
        if len({side[0] for side in found}) > 1:
            raise Violation(f"the group is torn: {dict(zip((pair.name for pair in self.pairs), found))}")
        self.primary = found[0][0]
        return self.primary

    def open_sides(self):
        """For each pair the sides that take writes."""
        found = [[side for side in "ab" if pair.side(side).pid() and pair.side(side).is_open()] for pair in self.pairs]
        if any(len(sides) == 2 for sides in found):
            raise Violation(f"both sides take writes: {found}")
        return found

    def check(self, load, source, since_ns=0, committed=None):
        """The promises over everything that `load` wrote: call it when its writers have stopped."""
        load.stop()
        now = self.open_side()
        load.check_not_lost(self.server(now))
        target = OTHER[source]
        committed = now == target if committed is None else committed
        load.check_one_open(source, target, since_ns, committed=committed)
        return now

    def agreed(self):
        """Until what has been done is known to both servers of each pair: then nothing changes any more that nobody changes."""
        wait_for(lambda: all(pair.a.agrees(pair.b) for pair in self.pairs), 40, "both servers of each pair have heard of it")

    # ------------------------------------------------------------ journal

    def ask_journal(self, query, *values):
        with sqlite3.connect(f"file:{self.tool.journal}?mode=ro", uri=True, timeout=5) as journal:
            return journal.execute(query, values).fetchall()

    def runs(self):
        """How many runs there have been, setups included."""
        return self.ask_journal("SELECT count(*) FROM run")[0][0]

    def at_phase(self, name, after=None):
        """Whether the last run (of those behind the first `after`) has begun this phase."""
        try:
            rows = self.ask_journal("SELECT id FROM run ORDER BY seq")
            if len(rows) <= (after if after is not None else 1):  # the first run is the setup
                return False
            return bool(self.ask_journal("SELECT 1 FROM phase WHERE run = ? AND name = ?", rows[-1][0], name))
        except sqlite3.OperationalError:
            return False

    # ------------------------------------------------------------ of the run that was begun after mark_runs()

    def mark_runs(self):
        self.marked = self.runs()

    def last_run(self, *columns):
        """Of the last run behind the mark, or None."""
        try:
            rows = self.ask_journal(f"SELECT {', '.join(columns)} FROM run ORDER BY seq")
        except sqlite3.OperationalError:
            return None
        return rows[-1] if len(rows) > self.marked else None

    def in_pause(self):
        """Whether it stands between its fence and its opening, so that its guardian would act."""
        row = self.last_run("opened", "ended_wall_ms")
        return row is not None and not any(row) and self.at_phase("fence", self.marked)

    def run_ended(self):
        """None: there was no run."""
        row = self.last_run("ended_wall_ms")
        return bool(row[0]) if row else None

    @staticmethod
    def stopped(child):
        return (process.stat_of(child.pid) or "T")[0] == "T"

    def report(self):
        return self.must("report", "--format", "json").json


def now_ns():
    return time.monotonic_ns()


def unchanged(before, after):
    """For settings() of servers: what differs is in the error."""
    for was, now in zip(before, after):
        different = {name: (was.get(name), now.get(name)) for name in {*was, *now} if was.get(name) != now.get(name)}
        if different:
            raise LookupError(f"changed: {different}")
    return True
