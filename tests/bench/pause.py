#!/usr/bin/python3
"""The write pause of a cutover, side by side with a bare script that has a fence of equal strength.

    tests/bench/pause.py [--engine E] [--runs N] [--writers N] [--json FILE] [--fence stop] [--dirty-mb N]

In one run of this program, in turn: a cutover or rollback by the tool, then the bare script on a pair of its own,
each under the same writers. Printed: what clients saw (the longest time without an acknowledgement from either
side), what the tool reports, its phases, and the same for the script, as minimum, median and maximum. A noise
floor is the longest gap that the same writers see while nothing is switched. Nothing is asserted here.
"""
import argparse
import bisect
import json
import pathlib
import statistics
import sys
import time

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # instead of this folder, whose copy.py would hide the library's

from bench import baselines  # noqa: E402
from sandbox.box import Sandbox  # noqa: E402
from sandbox.engines import engine_reason  # noqa: E402
from sandbox.ledger import Load  # noqa: E402
from sandbox.wait import wait_for  # noqa: E402

SETTLE_S = 1.0  # writers run for so long before and after a switch


def load_of(pair, writers):
    load = Load(pair, writers=writers, kinds=["ordinary"], pause_s=0.001, follow=True)
    for writer in load.writers:
        writer.sides = ("a", "b")
    return load


def settle(load, at_least):
    """Until the writers have so many more acknowledgements."""
    start = load.count()
    wait_for(lambda: load.count() >= start + at_least, 60, "the writers write")


def gap_ms(load, since_ns, until_ns=None):
    """A gap counts that began before since_ns: the last acknowledgement before it is its beginning."""
    stamps = sorted(e.acked for e in load.entries() if until_ns is None or e.acked < until_ns)
    stamps = stamps[max(bisect.bisect_left(stamps, since_ns) - 1, 0):]
    return max(((b - a) / 1e6 for a, b in zip(stamps, stamps[1:])), default=0.0)


def measure(pair, writers, switch):
    """switch() under load: (what it returned, the clients' pause, the noise floor)."""
    with load_of(pair, writers) as load:
        settle(load, 100 * writers)
        begin = time.monotonic_ns()
        settle(load, 100 * writers)
        switched = time.monotonic_ns()
        result = switch()
        settle(load, 100 * writers)
    return result, gap_ms(load, switched), gap_ms(load, begin, switched), load


def make_pair(box, engine, fence, dirty_mb):
    """A pair whose fence is as asked for and (PostgreSQL) whose buffers can hold so many dirty megabytes."""
    options = {"fence": fence} if fence else {}
    if not dirty_mb:
        return box.pair(engine, **options)
    pair = box.pair(engine, start=False, **options)
    for server in (pair.a, pair.b):
        with open(server.data / "postgresql.conf", "a", encoding="ascii") as file:
            file.write(f"shared_buffers = {dirty_mb * 2}MB\nmax_wal_size = 16GB\ncheckpoint_timeout = 1h\n"
                       "bgwriter_lru_maxpages = 0\n")
        server.start()
    pair.a.fill(pair)
    return pair


def make_dirty(server, megabytes):
    """Fresh rows of about 8 KiB each, so that so many megabytes of buffers wait to be written."""
    connection = server.connect("postgres", "app", timeout_s=300)
    try:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS dirty (n int, filler text)")
            cursor.execute("ALTER TABLE dirty ALTER filler SET STORAGE PLAIN")
            cursor.execute("TRUNCATE dirty")
            cursor.execute("CHECKPOINT")
            cursor.execute(f"INSERT INTO dirty SELECT n, repeat('x', 7900) FROM generate_series(1, {megabytes * 128}) n")
    finally:
        connection.close()


def tool_runs(box, engine, runs, writers, rows, fence=None, dirty_mb=0):
    pair = make_pair(box, engine, fence, dirty_mb)
    tool = box.tool([pair], max_write_pause="30s")
    done = tool("setup", timeout_s=300)
    if done.code != 0:
        raise RuntimeError(f"setup: {done}")
    for number in range(runs):
        command = "rollback" if number % 2 else "cutover"
        if dirty_mb:
            make_dirty(pair.side("b" if number % 2 else "a"), dirty_mb)
        done, pause, noise, load = measure(pair, writers, lambda c=command: tool(c, "--yes", "--when-ready=60s", json=True, timeout_s=300))
        if done.code != 0:
            raise RuntimeError(f"{command}: {done}")
        target = "a" if number % 2 else "b"
        load.check_not_lost(pair.side(target))
        document = done.json
        rows.append({"who": "changeover", "command": command, "clients_ms": pause, "noise_ms": noise,
                     "reported_ms": document["write_pause_ms"], "promotion_ms": document["pairs"][0]["promotion_ms"],
                     "phases": {p["name"]: p.get("us", p["ms"] * 1000) / 1000 for p in document["phases"]}})
        print(f"  {command:9} clients {pause:7.1f} ms   reported {document['write_pause_ms']:5} ms   noise {noise:6.1f} ms", flush=True)


def script_runs(box, engine, runs, writers, rows, who, make):
    for number in range(runs):
        pair = box.pair(engine, name=f"bare{number}")
        baseline = make(pair, box)
        parts, pause, noise, load = measure(pair, writers, baseline.switch)
        load.check_not_lost(pair.b)
        rows.append({"who": who, "clients_ms": pause, "noise_ms": noise, "phases": parts,
                     "reported_ms": sum(parts.values())})
        print(f"  {who:9.9} clients {pause:7.1f} ms   reported {sum(parts.values()):5.0f} ms   noise {noise:6.1f} ms", flush=True)
        pair.a.end()
        pair.b.end()


def spread(values):
    values = [v for v in values if v is not None]
    if not values:
        return "-"
    return f"{min(values):8.1f} / {statistics.median(values):8.1f} / {max(values):8.1f}"


def print_table(engine, rows):
    print(f"\n{engine}: milliseconds as minimum / median / maximum")
    for who in dict.fromkeys(row["who"] for row in rows):
        mine = [row for row in rows if row["who"] == who]
        if not mine:
            continue
        print(f"  {who} ({len(mine)} runs)")
        print(f"    seen by clients   {spread([r['clients_ms'] for r in mine])}")
        print(f"    reported          {spread([r['reported_ms'] for r in mine])}")
        print(f"    noise floor       {spread([r['noise_ms'] for r in mine])}")
        if who == "changeover":
            print(f"    promotion itself  {spread([r['promotion_ms'] for r in mine])}")
        names = list(dict.fromkeys(name for row in mine for name in row["phases"]))
        for name in names:
            print(f"      {name:15} {spread([r['phases'].get(name) for r in mine])}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="postgresql")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--fence", help="the pair's `fence:`, e.g. stop")
    parser.add_argument("--dirty-mb", type=int, default=0, help="PostgreSQL: dirty buffers at each switch")
    parser.add_argument("--no-script", action="store_true", help="only the tool")
    options = parser.parse_args()
    reason = engine_reason(options.engine)
    if reason:
        print(f"not measured: {reason}")
        return 3
    rows = []
    with Sandbox("bench") as box:
        tool_runs(box, options.engine, options.runs, options.writers, rows, options.fence, options.dirty_mb)
    if not options.no_script:
        for who, make in baselines.of(options.engine):
            with Sandbox("bench-bare") as box:
                script_runs(box, options.engine, options.runs, options.writers, rows, who, make)
    print_table(options.engine, rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
