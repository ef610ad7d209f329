#!/usr/bin/python3
"""The write pause of a group, side by side with that of each of its pairs alone.

    tests/bench/group.py [--engines postgresql,mariadb,redis] [--runs N] [--writers N] [--json FILE]

In one run of this program, in turn, on the same servers under the same writers (those of all pairs write all the time, so that
a pair alone has no quieter machine than the group): the whole group there and back, then each pair alone there and back
(`-p PAIR`). Printed: what the tool reports and what clients saw, as minimum, median and maximum,
and the group's pause in proportion to that of its slowest pair alone. Nothing is asserted here.
"""
import argparse
import json
import pathlib
import statistics
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # not this folder: its names would hide the library's

from bench.pause import gap_ms, load_of, settle, spread  # noqa: E402
from sandbox.box import Sandbox  # noqa: E402
from sandbox.engines import engine_reason  # noqa: E402
from sandbox.scenario import now_ns  # noqa: E402


def measure(tool, pairs, command, only, writers):
    """One switch under load: (what the tool reports, {pair: what its clients saw})."""
    moved = [pair for pair in pairs if only in (None, pair.name)]
    loads = [load_of(pair, writers) for pair in pairs]
    for load in loads:
        load.__enter__()
    try:
        for load in loads:
            settle(load, 50 * writers)
        since = now_ns()
        words = ["-p", only] if only else []
        result = tool(*words, command, "--yes", "--when-ready=60s", json=True, timeout_s=300)
        if result.code != 0:
            raise RuntimeError(f"{command}: {result}")
        for load in loads:
            settle(load, 50 * writers)
    finally:
        for load in loads:
            load.stop()
    target = "b" if command == "cutover" else "a"
    for load in loads:
        load.check_not_lost(load.pair.side(target if load.pair in moved else "a"))
    return result.json, {load.pair.name: gap_ms(load, since) for load in loads if load.pair in moved}


def run(engines, runs, writers):
    rows = []
    with Sandbox("bench-group") as box:
        pairs = [box.pair(engine, name=f"{engine}-{i}") for i, engine in enumerate(engines)]
        tool = box.tool(pairs, max_write_pause="30s", partial=True)
        done = tool("setup", timeout_s=300)
        if done.code != 0:
            raise RuntimeError(f"setup: {done}")
        for number in range(runs):
            for only in (None, *(pair.name for pair in pairs)):
                for command in ("cutover", "rollback"):
                    said, clients = measure(tool, pairs, command, only, writers)
                    rows.append({"who": only or "group", "run": number, "command": command, "reported_ms": said["write_pause_ms"],
                                 "clients_ms": max(clients.values()), "phases": {p["name"]: p.get("us", p["ms"] * 1000) / 1000
                                                                                for p in said["phases"]}})
                    print(f"  {only or 'group':14} {command:9} reported {said['write_pause_ms']:5} ms   clients {max(clients.values()):7.1f} ms",
                          flush=True)
    return rows


PAUSE = ("fence", "drain", "capture", "catch_up", "prove", "reverse_prepare", "promote", "commit", "open")


def print_table(rows):
    print("\nmilliseconds as minimum / median / maximum, cutovers and rollbacks together")
    middle = {}
    for who in dict.fromkeys(row["who"] for row in rows):
        mine = [row for row in rows if row["who"] == who]
        exact = [sum(row["phases"].get(name, 0) for name in PAUSE) for row in mine]
        middle[who] = {"reported": statistics.median(exact), "clients": statistics.median(row["clients_ms"] for row in mine)}
        print(f"  {who} ({len(mine)} runs)\n    reported          {spread(exact)}\n    seen by clients   {spread([r['clients_ms'] for r in mine])}")
        for name in PAUSE:
            print(f"      {name:15} {spread([r['phases'].get(name) for r in mine])}")
    for what in ("reported", "clients"):
        slowest = max((one for one in middle if one != "group"), key=lambda one: middle[one][what])
        print(f"{what}: the group's pause is {middle['group'][what] / middle[slowest][what]:.2f} times that of its slowest pair alone "
              f"({slowest}; medians {middle['group'][what]:.1f} and {middle[slowest][what]:.1f} ms)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="postgresql,mariadb,redis")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    engines = options.engines.split(",")
    reasons = [engine_reason(engine) for engine in engines if engine_reason(engine)]
    if reasons:
        print(f"not measured: {'; '.join(reasons)}")
        return 3
    rows = run(engines, options.runs, options.writers)
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
