#!/usr/bin/python3
"""The demo's second half: servers, load, and the commands as a person would type them. See tools/demo."""
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from sandbox import Load, Sandbox, ServerMissing, engine_reason, wait_for  # noqa: E402
from sandbox.scenario import now_ns  # noqa: E402

BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


def title(text):
    print(f"\n{BOLD}== {text}{PLAIN}", flush=True)


class Demo:
    def __init__(self, box, engine):
        self.box, self.engine = box, engine
        self.pair = box.pair(engine, name="shop")
        self.pair.extra["gate"] = {"max_seconds": 1, "stable_for": "1s"}
        self.tool = box.tool([self.pair], name="changeover")

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

    def move(self, load, command, source, target):
        since, before = now_ns(), load.count()
        self.show(command, "--yes", "--when-ready=30s")
        wait_for(lambda: load.count(target) > 0 and load.count() > before + 200, 30, "the writers have found the new primary")
        load.check_one_open(source, target, since)
        said = self.tool("report", "--format", "json").json
        run = said.get("run", said)
        return load.pause_ms(since), run.get("write_pause_ms")


def main():
    engine = "postgresql"
    reason = engine_reason(engine)
    if reason:
        raise SystemExit(f"demo: {reason}")
    began = time.monotonic()
    box = Sandbox("demo", keep=bool(os.environ.get("CO_DEMO_KEEP")))
    try:
        title("two real servers on loopback: A with data, B new and empty")
        demo = Demo(box, engine)
        print(f"  A {demo.pair.a.url()}\n  B {demo.pair.b.url()}\n  config {demo.tool.config_path}")
        title("pre-flight")
        demo.show("check")
        title("8 writers begin: ordinary, superuser, reconnecting, self-unlocking, slow, with long transactions")
        with Load(demo.pair, writers=8) as load:
            # B is a server of its own until setup: a writer there would write what setup replaces
            wait_for(lambda: load.count("a") > 200, 20, "the load runs")
            title("replication is set up; the writers go on")
            demo.show("setup", timeout_s=120)
            demo.show("lag", "--wait=60s")
            demo.show("status")
            title("what a cutover would do")
            demo.show("cutover", "--dry-run", lines=40)
            title("cutover: B becomes the primary")
            there = demo.move(load, "cutover", "a", "b")
            title("rollback: A becomes the primary again, over the reverse replication")
            demo.show("lag", "--wait=60s")
            back = demo.move(load, "rollback", "b", "a")
        load.check_not_lost(demo.pair.a)
        title("the record of the last run")
        demo.show("report", lines=60)
        title("result")
        for name, (clients, tool) in (("cutover", there), ("rollback", back)):
            print(f"  {name}: write pause {tool} ms as the tool reports it, {clients:.0f} ms without an acknowledged write as clients saw it")
        print(f"  {load.count()} writes were acknowledged ({load.count('a')} by A, {load.count('b')} by B); "
              "none is lost, and A acknowledged none after B's first")
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
