#!/usr/bin/python3
"""Setting up a Redis pair with many small keys: what it takes, what it shows, what `lag` says meanwhile.

    tests/bench/redis_full_copy.py [--engine redis] [--keys 10000000] [--json FILE]

Under two writers. Printed: the seconds of setup, the tool's peak memory (setup and lag), how often the progress on a terminal
moved, and what `lag` said while the copy was under way. Exit 1 when lag ever called an unfinished copy open, or B lacks keys.
"""
import argparse
import collections
import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import threading
import time

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # instead of this folder, whose copy.py would hide the library's

from sandbox.box import Sandbox  # noqa: E402
from sandbox.engines import engine_reason  # noqa: E402
from sandbox.ledger import Load  # noqa: E402
from sandbox.wait import wait_for  # noqa: E402

FILL = "for i = ARGV[1], ARGV[2] do redis.call('SET', 'small:' .. i, i) end"
CHUNK = 50000


def fill(server, keys):
    connection = server.connect("default", timeout_s=120)
    for first in range(1, keys + 1, CHUNK):
        connection.eval(FILL, 0, first, min(first + CHUNK - 1, keys))
    connection.close()


def size(server):
    connection = server.connect("default", timeout_s=60)
    count = connection.dbsize()
    connection.close()
    return count


def peak_kib(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        return 0


class OnTerminal(threading.Thread):
    """The tool with a terminal of its own: what it shows there, and the most memory that it had."""

    def __init__(self, tool, *arguments):
        super().__init__(daemon=True)
        self.shown, self.peak = b"", 0
        self.master, slave = pty.openpty()
        self.child = subprocess.Popen(tool.argv(arguments, False), stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
                                      env={**tool.environment(), "TERM": "xterm"})
        os.close(slave)
        self.start()

    def run(self):
        try:
            while data := os.read(self.master, 65536):
                self.shown += data
                self.peak = max(self.peak, peak_kib(self.child.pid))
        except OSError:  # the other end is closed
            pass

    def percentages(self):
        return [int(one) for one in re.findall(rb"\((\d+) %\)", self.shown)]


def sample_lag(tool):
    child = tool.spawn("lag", "--timeout=2s", json=True)
    peak = peak_kib(child.pid)
    result = tool.finish(child, 60)
    pair = result.json["pairs"][0] if result.out.strip() else {"state": f"exit {result.code}", "reason": result.err}
    return pair["state"], re.sub(r"\d+", "N", str(pair.get("reason") or ""))[:70], pair, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="redis")
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    reason = engine_reason(options.engine)
    if reason:
        print(f"not measured: {reason}")
        return 3
    said, early, lag_peak = collections.Counter(), [], 0
    with Sandbox("bench-copy") as box:
        pair = box.pair(options.engine)
        tool = box.tool([pair])
        for server in (pair.a, pair.b):  # the copy is measured, not the disk
            connection = server.connect("default")
            connection.config_set("appendonly", "no")
            connection.close()
        fill(pair.a, options.keys)
        with Load(pair, writers=2, kinds=["ordinary"], follow=False, pause_s=0.005):
            began = time.monotonic()
            setup = OnTerminal(tool, "setup")
            while setup.child.poll() is None:
                state, why, whole, peak = sample_lag(tool)
                lag_peak = max(lag_peak, peak)
                said[f"{state}: {why}"] += 1
                if state == "open" and size(pair.b) < options.keys:
                    early.append(whole)
            seconds = time.monotonic() - began
            setup.join(10)
            code = setup.child.returncode
            wait_for(lambda: tool("lag", "--wait=30s", timeout_s=60).code == 0, 90, "the gate opens")
        missing = max(0, size(pair.a) - size(pair.b))
        shown = setup.percentages()
    print(f"{options.engine}, {options.keys} keys: setup exit {code} in {seconds:.1f} s, peak {setup.peak / 1024:.1f} MiB")
    print(f"  progress: {len(shown)} times, {len(set(shown))} different percentages, from {min(shown, default=None)} to {max(shown, default=None)}")
    print(f"  lag, {sum(said.values())} times while it went on; peak {lag_peak / 1024:.1f} MiB")
    for what, count in said.most_common():
        print(f"    {count:4} {what}")
    print(f"  called open too early: {len(early)}; keys that B lacks: {missing}")
    if options.json:
        options.json.write_text(json.dumps({"seconds": seconds, "peak_kib": setup.peak, "said": said, "shown": shown, "early": early}))
    return 1 if code or early or missing else 0


if __name__ == "__main__":
    sys.exit(main())
