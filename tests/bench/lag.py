#!/usr/bin/python3
"""What measuring costs: `lag` in one shot, and `lag --watch` at one second.

    tests/bench/lag.py [--engine E] [--runs N] [--seconds S]

One shot: the whole process, from start to exit, on an idle pair and under writers, as minimum, median, maximum.
Watching: the share of one core (user + system) and the peak memory of the process. Nothing is asserted here.
"""
import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # instead of this folder, whose copy.py would hide the library's

from sandbox.box import Sandbox  # noqa: E402
from sandbox.engines import engine_reason  # noqa: E402
from sandbox.ledger import Load  # noqa: E402
from sandbox.wait import wait_for  # noqa: E402


def one_shots(tool, runs):
    took = []
    for _ in range(runs):
        begin = time.monotonic_ns()
        done = tool("lag", json=True)
        took.append((time.monotonic_ns() - begin) / 1e6)
        if done.code not in (0, 1):
            raise RuntimeError(done)
    return f"{min(took):7.1f} / {statistics.median(took):7.1f} / {max(took):7.1f} ms"


def watch(tool, seconds):
    """Core share and peak memory of `lag --watch`, after its first seconds."""
    child = subprocess.Popen(tool.argv(["lag", "--watch=1s"], True), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, env=tool.environment())
    ticks = os.sysconf("SC_CLK_TCK")

    def used():
        fields = pathlib.Path(f"/proc/{child.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    end = time.monotonic() + 3
    wait_for(lambda: time.monotonic() > end, 10, "the first samples")
    before, begin = used(), time.monotonic()
    wait_for(lambda: time.monotonic() > begin + seconds, seconds + 10, "the watch")
    share = (used() - before) / (time.monotonic() - begin) * 100
    status = pathlib.Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    child.send_signal(signal.SIGINT)
    child.wait(20)
    return share, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="postgresql")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    reason = engine_reason(options.engine)
    if reason:
        print(f"not measured: {reason}")
        return 3
    with Sandbox("bench-lag") as box:
        pair = box.pair(options.engine)
        tool = box.tool([pair])
        done = tool("setup", timeout_s=300)
        if done.code != 0:
            raise RuntimeError(done)
        print(f"{options.engine}: minimum / median / maximum of {options.runs}")
        print(f"  one shot, idle           {one_shots(tool, options.runs)}", flush=True)
        with Load(pair, writers=4, kinds=["ordinary"], follow=False) as load:
            wait_for(lambda: load.count() > 50, 30, "the load runs")
            print(f"  one shot, 4 writers      {one_shots(tool, options.runs)}", flush=True)
        share, peak = watch(tool, options.seconds)
        print(f"  --watch=1s for {options.seconds} s      {share:.2f} % of a core, peak {peak:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
