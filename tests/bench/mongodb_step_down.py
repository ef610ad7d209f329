#!/usr/bin/python3
"""Where a MongoDB step-down spends its time, and what settings and commands change it. A real mongod only (MONGOD).

    tests/bench/mongodb_step_down.py [--runs N] [--writers N] [--only VARIANT]... [--json FILE]

Two voting members step down for each other in turn, without the tool (the last variant: by it), under writers that wait for a
majority. Printed per variant, as minimum, median and maximum: what clients saw, and the server's own parts, from its log of version 4.0:
    step down   from the command to "transition to SECONDARY"
    election    to the heir's "election succeeded"
    catch up    to "Stopping replication producer"
    drain       to "transition to primary complete"
    vote        (by the tool, and by the bare script with the tool's commands) from there until the heir has a config in use without
                the old primary's vote: from then on a write that waits for a majority is acknowledged by the heir alone
    before      (by the tool) its pause before the step-down was sent; without a fence clients don't see that part, A takes writes in it
    more        what clients saw less the server's four parts and the vote: their own way to the new primary
So the server's time is "step down" to "drain", and the tool's own addition to the clients' pause is "vote". Nothing is asserted here."""
import argparse
import datetime
import json
import pathlib
import re
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from bench.pause import gap_ms, load_of, settle  # noqa: E402
from sandbox.box import Sandbox  # noqa: E402
from sandbox.engines import engine_reason  # noqa: E402
from sandbox.wait import wait_for  # noqa: E402

BARE = "the tool's commands, bare"
# name: (replica set settings, server parameters, replSetStepUp sent to the heir at once, writers)
VARIANTS = {
    "defaults": ({}, {}, False, True),
    "and replSetStepUp": ({}, {}, True, True),
    "no handoff, replSetStepUp": ({}, {"enableElectionHandoff": False}, True, True),
    "heartbeats every 200 ms": ({"heartbeatIntervalMillis": 200}, {}, False, True),
    "election timeout 3 s": ({"electionTimeoutMillis": 3000}, {}, False, True),
    "no catch-up": ({"catchUpTimeoutMillis": 0}, {}, False, True),
    "no chaining": ({"chainingAllowed": False}, {}, False, True),
    "batches of 1": ({}, {"replBatchLimitOperations": 1}, False, True),
    "idle": ({}, {}, False, False),
    BARE: ({}, {}, True, True),
    "changeover": ({}, {}, False, True),
}
PARTS = ("step down", "election", "catch up", "drain")
MARKS = (("asked", "Attempting to step down"), ("stepped", "transition to SECONDARY from PRIMARY"), ("elected", "election succeeded"),
         ("caught", "Stopping replication producer"), ("complete", "transition to primary complete"))
IN_USE = "New replica set config in use"


def reconfigure(primary, change):
    connection = primary.connect("root")
    config = connection.command("admin", {"replSetGetConfig": 1})["config"]
    config["version"] += 1
    config["settings"] = {**config["settings"], "heartbeatIntervalMillis": 2000, "electionTimeoutMillis": 10000,
                          "catchUpTimeoutMillis": -1, "chainingAllowed": True, **change}
    connection.command("admin", {"replSetReconfig": config})
    connection.close()


def parameters(servers, change):
    for server in servers:
        connection = server.connect("root")
        for name, value in {"enableElectionHandoff": True, "replBatchLimitOperations": 5000, **change}.items():
            connection.command("admin", {"setParameter": 1, name: value})
        connection.close()


def set_vote(connection, host, votes):
    config = connection.command("admin", {"replSetGetConfig": 1})["config"]
    member = next(one for one in config["members"] if one["host"] == host)
    if member["votes"] == votes:
        return False
    member.update(votes=votes, priority=float(votes))
    config["version"] += 1
    connection.command("admin", {"replSetReconfig": config})
    return True


def ready(source, target):
    """The target votes and follows, and nothing keeps it from standing."""
    to_source, to_target = source.connect("root"), target.connect("root")
    if set_vote(to_source, target.host(), 1):
        wait_for(lambda: target.member(target.host())[0] == 1, 60, "the target has heard of its vote")

    def follows():
        status = to_target.command("admin", {"replSetGetStatus": 1})
        if not status["syncSourceHost"]:
            to_source.command("admin", {"appendOplogNote": 1, "data": {"bench": 1}})
            time.sleep(0.3)
        return status["syncSourceHost"]
    wait_for(follows, 60, "the target follows")
    to_target.command("admin", {"replSetFreeze": 0})
    for connection in (to_source, to_target):
        connection.command("admin", {"isMaster": 1, "hangUpOnStepDown": False})
    return to_source, to_target


def stamps_of(server, since):
    """{mark: seconds} of the log's newest lines."""
    found = {}
    for line in (server.folder / "log.txt").read_text(errors="replace").splitlines()[-4000:]:
        match = re.match(r"(\d{4}-\d\d-\d\dT[\d:.]+[+-]\d{4}) ", line)
        if not match:
            continue
        at = datetime.datetime.strptime(match.group(1), "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()
        for name, text in MARKS:
            if text in line and at >= since:
                found.setdefault(name, at)
        if IN_USE in line and "complete" in found:
            found.setdefault("voted", at)
    return found


def switch(source, target, nudge, take_vote=False):
    to_source, to_target = ready(source, target)
    since = time.time() - 0.002
    to_source.command("admin", {"replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5})
    if nudge:
        try:
            to_target.command("admin", {"replSetStepUp": 1})
        except RuntimeError:
            pass  # it is being elected
    while not to_target.command("admin", {"isMaster": 1})["ismaster"]:
        time.sleep(0.001)
    if take_vote:
        set_vote(to_target, source.host(), 0)
    took = time.time() - since
    wait_for(lambda: not take_vote or "voted" in stamps_of(target, since), 10, "the config is in the log")
    to_source.close()
    to_target.close()
    return parts_of(source, target, since, took * 1000)


def switch_by(tool, command, source, target):
    since = time.time()
    done = tool(command, "--yes", "--when-ready=60s", json=True, timeout_s=300)
    if done.code != 0:
        raise RuntimeError(f"{command}: {done}")
    parts = parts_of(source, target, since, done.json["write_pause_ms"])
    parts["before"] = parts["whole"] - sum(parts.get(name, 0) for name in (*PARTS, "vote"))
    return parts


def parts_of(source, target, since, whole_ms):
    old, new = stamps_of(source, since), stamps_of(target, since)
    stamps = [old.get("asked"), old.get("stepped"), new.get("elected"), new.get("caught"), new.get("complete")]
    parts = {"whole": whole_ms}
    for name, before, after in zip(PARTS, stamps, stamps[1:]):
        if before and after:
            parts[name] = (after - before) * 1000
    if new.get("voted"):
        parts["vote"] = (new["voted"] - new["complete"]) * 1000
    return parts


def measure(box, pair, name, runs, writers):
    settings, knobs, nudge, loaded = VARIANTS[name]
    tool = box.tool([pair], max_write_pause="30s") if name == "changeover" else None
    primary = "a" if pair.a.hello().get("ismaster") else "b"
    reconfigure(pair.side(primary), settings)
    parameters((pair.a, pair.b), knobs)
    if tool and primary == "b":  # the tool begins at a
        switch(pair.b, pair.a, False)
        primary = "a"
    if tool:
        tool("setup", timeout_s=120)
    time.sleep(1)
    rows = []
    for _ in range(runs):
        source, target = pair.side(primary), pair.side("b" if primary == "a" else "a")
        if loaded:
            with load_of(pair, writers) as load:
                settle(load, 20 * writers)
                begin = time.monotonic_ns()
                parts = switch_by(tool, "rollback" if primary == "b" else "cutover", source, target) if tool else \
                    switch(source, target, nudge, take_vote=name == BARE)
                settle(load, 20 * writers)
            parts["clients"] = gap_ms(load, begin)
            if all(name in parts for name in PARTS):
                parts["more"] = parts["clients"] - sum(parts.get(name, 0) for name in (*PARTS, "vote"))
        else:
            time.sleep(1.5)
            parts = switch(source, target, nudge)
        rows.append(parts)
        primary = "b" if primary == "a" else "a"
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--only", action="append", choices=list(VARIANTS))
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    reason = engine_reason("mongodb")
    if reason:
        print(f"not measured: {reason}")
        return 3
    found = {}
    with Sandbox("step-down") as box:
        pair = box.pair("mongodb")
        pair.a.join(pair.b)
        for name in options.only or VARIANTS:
            rows = found[name] = measure(box, pair, name, options.runs, options.writers)
            print(f"{name} ({len(rows)} runs)")
            for part in dict.fromkeys(part for row in rows for part in row):
                values = [row[part] for row in rows if part in row]
                print(f"    {part:10} {min(values):8.0f} / {statistics.median(values):8.0f} / {max(values):8.0f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
