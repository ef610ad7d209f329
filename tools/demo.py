#!/usr/bin/python3
"""The demo's second half: servers, load, and the commands as a person would type them. See tools/demo."""
import contextlib
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from sandbox import Load, Loads, Sandbox, ServerMissing, engine_reason, wait_for  # noqa: E402
from sandbox.scenario import now_ns  # noqa: E402

BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


def title(text):
    print(f"\n{BOLD}== {text}{PLAIN}", flush=True)


ENGINES = (("orders", "postgresql", 8), ("stock", "mariadb", 6), ("sessions", "redis", 6))  # pair, engine, writers


class Demo:
    def __init__(self, box):
        self.box = box
        self.pairs = [box.pair(engine, name=name) for name, engine, _ in ENGINES]
        for pair in self.pairs:
            pair.extra["gate"] = {"max_seconds": 1, "stable_for": "1s"}
        self.tool = box.tool(self.pairs, name="changeover")

    def show(self, *arguments, expect=0, lines=None, timeout_s=90):
        print(f"{BOLD}$ changeover {' '.join(arguments)}{PLAIN}", flush=True)
        result = self.tool(*arguments, timeout_s=timeout_s)
        text = (result.err + result.out).rstrip().replace(str(self.box.folder), "…")
        shown = text.splitlines()
        if lines and len(shown) > lines:
            shown = shown[:lines] + [f"… {len(shown) - lines} more lines"]
        print("\n".join(f"  {line}" for line in shown), flush=True)
        if result.code != expect:
            raise SystemExit(f"demo: exit {result.code}, expected {expect}")
        return result

    def move(self, loads, command, source, target):
        """One switch of the whole group: what each pair's clients saw, and the group's pause as the tool reports it."""
        since, before = now_ns(), [load.count() for load in loads.loads]
        self.show(command, "--yes", "--when-ready=30s")
        wait_for(lambda: loads.count(target) > 0 and all(load.count() > at + 100 for load, at in zip(loads.loads, before)), 30,
                 "the writers have found the new primaries")
        loads.check_one_open(source, target, since)
        run = self.tool("report", "--format", "json").json
        run = run.get("run", run)
        return {load.pair.name: load.pause_ms(since) for load in loads.loads}, run.get("write_pause_ms")


def all_writers(demo, stack):
    """Of A alone until setup: until then B is a server of its own, and a writer there would write what setup replaces."""
    loads = [Load(pair, writers=count) for pair, (_, _, count) in zip(demo.pairs, ENGINES)]
    for load in loads:
        load.stay("a")
    return Loads([stack.enter_context(load) for load in loads])


def main():
    for _, engine, _ in ENGINES:
        reason = engine_reason(engine)
        if reason:
            raise SystemExit(f"demo: {reason}")
    began = time.monotonic()
    box = Sandbox("demo", keep=bool(os.environ.get("CO_DEMO_KEEP")))
    try:
        title("six real servers on loopback: three A with data, three B new and empty; one migration")
        demo = Demo(box)
        for pair in demo.pairs:
            print(f"  {pair.name:9} A {pair.a.url():48} B {pair.b.url()}")
        print(f"  config    {demo.tool.config_path}")
        title("pre-flight")
        demo.show("check", lines=30)
        title("20 writers begin: ordinary, superuser, reconnecting, scripts, procedures, long transactions")
        with contextlib.ExitStack() as stack:
            loads = all_writers(demo, stack)
            wait_for(lambda: loads.count("a") > 100, 20, "the load runs")
            title("replication is set up; the writers go on")
            demo.show("setup", timeout_s=120, lines=40)
            for load in loads.loads:
                load.follow()
            demo.show("lag", "--wait=60s")
            demo.show("status", lines=40)
            title("what a cutover would do")
            demo.show("cutover", "--dry-run", lines=30)
            title("cutover: the three B become the primaries, together")
            there = demo.move(loads, "cutover", "a", "b")
            title("rollback: the three A become the primaries again, over the reverse replication")
            demo.show("lag", "--wait=60s")
            back = demo.move(loads, "rollback", "b", "a")
        loads.check_not_lost("a")
        title("the record of the last run")
        demo.show("report", lines=40)
        title("result")
        for name, (pairs, group) in (("cutover", there), ("rollback", back)):
            print(f"  {name}: write pause of the group {group} ms as the tool reports it")
            for pair, seen in pairs.items():
                print(f"    {pair:9} {seen:4.0f} ms without an acknowledged write, as its clients saw it")
        for load in loads.loads:
            print(f"  {load.pair.name}: {load.count()} writes were acknowledged ({load.count('a')} by A, {load.count('b')} by B)")
        print("  none is lost; no A acknowledged one after any B's first")
        print(f"  {time.monotonic() - began:.0f} s")
        box.close()
    except BaseException:
        box.close(failed=True)
        raise


if __name__ == "__main__":
    try:
        main()
    except ServerMissing as error:
        raise SystemExit(f"demo: {error}") from error
