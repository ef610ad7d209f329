"""Writers, and the ledger of every write that a server acknowledged to them.

Each write has a key of its own and two stamps of one monotonic clock: before the request left, and after the
acknowledgement came. What is checked afterwards:

  lost      an acknowledged write that the server in service doesn't have
  two open  a write that one side acknowledged although its request was sent after the other side had, in the
            same run, acknowledged its first
"""
import random
import threading
import time


class Violation(AssertionError):
    """A promise was broken."""


class Entry:
    __slots__ = ("key", "side", "sent", "acked", "kind")

    def __init__(self, key, side, sent, acked, kind):
        self.key, self.side, self.sent, self.acked, self.kind = key, side, sent, acked, kind

    def __repr__(self):
        return f"{self.key} on {self.side} ({self.kind})"


class Writer(threading.Thread):
    """Writes to the sides in `sides`: stays where it succeeds, and tries the next one when it doesn't."""

    def __init__(self, load, number, kind, sides, pause_s):
        super().__init__(name=f"writer-{number}-{kind}", daemon=True)
        self.load, self.number, self.kind, self.sides, self.pause_s = load, number, kind, sides, pause_s
        self.entries, self.errors, self.tried = [], {}, 0
        self.random = random.Random(number)

    def run(self):
        client, at, where = None, 0, None
        while not self.load.stopping.is_set():
            side = self.sides[at % len(self.sides)]
            if side != where:  # also when `sides` was changed meanwhile
                client, where = self.drop(client), side
            self.tried += 1
            key = f"w{self.number}-{self.tried}-{self.load.tag}"
            try:
                if client is None:
                    client = self.load.pair.side(side).client(self.kind, timeout_s=self.load.timeout_s)
                sent = time.monotonic_ns()
                client.write(key)
                self.entries.append(Entry(key, side, sent, time.monotonic_ns(), self.kind))
                pause = self.pause_s
            except Exception as error:  # refused, cut off, timed out: not acknowledged
                name = f"{side}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                self.errors[name] = self.errors.get(name, 0) + 1
                client = self.drop(client)
                at += 1
                pause = self.pause_s * 2
            self.load.stopping.wait(pause * (0.5 + self.random.random()))
        self.drop(client)

    @staticmethod
    def drop(client):
        if client:
            try:
                client.close()
            except Exception:  # already gone
                pass
        return None


class Loads:
    """The loads of a group's pairs: what must hold for one of them holds for each."""

    def __init__(self, loads):
        self.loads = loads

    def count(self, side=None):
        return min(load.count(side) for load in self.loads)

    def acknowledged(self):
        return sum(load.count() for load in self.loads)

    def check_not_lost(self, side):
        for load in self.loads:
            load.check_not_lost(load.pair.side(side))

    def check_one_open(self, source, target, since_ns=0, until_ns=None, committed=True):
        for load in self.loads:
            load.check_one_open(source, target, since_ns, until_ns, committed=committed)
        self.check_together(source, target, since_ns)

    def check_together(self, source, target, since_ns=0):
        """Every pair's source is shut before any pair's target is opened."""
        entries = [entry for load in self.loads for entry in load.entries() if entry.sent >= since_ns]
        first = min((entry.acked for entry in entries if entry.side == target), default=None)
        if first is not None:
            late = [entry for entry in entries if entry.side == source and entry.sent > first]
            if late:
                raise Violation(f"one pair's target took writes while another pair's source did: {late[:5]}")

    def pause_ms(self, since_ns=0):
        return [load.pause_ms(since_ns) for load in self.loads]


class Load:
    """Writers over one pair for as long as the `with` block lasts."""

    def __init__(self, pair, writers=8, kinds=None, pause_s=0.01, timeout_s=2.0, follow=True):
        self.pair, self.timeout_s = pair, timeout_s
        self.tag = f"{random.getrandbits(24):06x}"
        self.stopping = threading.Event()
        kinds = kinds or pair.a.kinds
        self.writers = []
        for i in range(writers):
            # two stay with one side whatever happens, as a client with an old address does
            sides = ("a", "b") if follow else ("a",)
            if follow and i == writers - 1:
                sides = ("b",)
            elif follow and i == writers - 2:
                sides = ("a",)
            self.writers.append(Writer(self, i, kinds[i % len(kinds)], sides, pause_s))

    def stay(self, side):
        """All writers write to this side only, until follow()."""
        self.before = [writer.sides for writer in self.writers]
        for writer in self.writers:
            writer.sides = (side,)

    def follow(self):
        for writer, sides in zip(self.writers, self.before):
            writer.sides = sides

    def __enter__(self):
        for writer in self.writers:
            writer.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        for writer in self.writers:
            writer.join(30)
            if writer.is_alive():
                raise RuntimeError(f"{writer.name} hangs")

    def entries(self):
        return [entry for writer in self.writers for entry in list(writer.entries)]

    def count(self, side=None):
        return sum(1 for entry in self.entries() if side in (None, entry.side))

    def errors(self):
        return {writer.name: writer.errors for writer in self.writers if writer.errors}

    def check_not_lost(self, server):
        have = server.read_all()
        lost = [entry for entry in self.entries() if entry.key not in have]
        if lost:
            violation = Violation(f"{len(lost)} acknowledged writes are lost: {lost[:5]}")
            violation.lost = lost
            raise violation

    def check_one_open(self, source, target, since_ns=0, until_ns=None, committed=True):
        """Within one run: nothing on the source that was sent after the target's first acknowledgement."""
        entries = [e for e in self.entries() if e.sent >= since_ns and (until_ns is None or e.sent < until_ns)]
        on_target = [e for e in entries if e.side == target]
        if not committed and on_target:
            raise Violation(f"the target acknowledged writes of a run that was undone: {on_target[:5]}")
        if on_target:
            first = min(e.acked for e in on_target)
            both = [e for e in entries if e.side == source and e.sent > first]
            if both:
                raise Violation(f"the source acknowledged {len(both)} writes after the target's first: {both[:5]}")

    def pause_ms(self, since_ns=0):
        """The longest time without an acknowledgement, as clients saw it."""
        stamps = sorted(e.acked for e in self.entries() if e.acked >= since_ns)
        return max(((b - a) / 1e6 for a, b in zip(stamps, stamps[1:])), default=0.0)
