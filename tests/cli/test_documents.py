"""JSON documents, texts and exit codes of the commands, against the fake servers: the fields that DESIGN fixed are
there with the right types, and unknown is null."""
import json
import re
import signal

from sandbox.process import unread
from sandbox.terminal import on_terminal
from sandbox.tool import program
from sandbox.wait import wait_for

INT_OR_NULL = (int, type(None))
STR_OR_NULL = (str, type(None))
PHASES = ["lock", "check", "gate", "warm_up", "fence", "drain", "capture", "catch_up", "prove", "reverse_prepare", "promote",
          "commit", "open", "switch", "confirm", "reverse"]


def holds(document, fields):
    for name, kind in fields.items():
        assert name in document, f"{name} is missing in {document}"
        value = document[name]
        good = isinstance(value, kind) and not (isinstance(value, bool) and kind in (int, INT_OR_NULL))
        assert good, f"{name} is {value!r}, expected {kind}"


def envelope(result, command):
    document = result.json
    assert document["schema"] == f"changeover.{command}/1"
    assert document["exit_code"] == result.code
    for error in document["errors"]:
        holds(error, {"code": str, "message": str, "hint": STR_OR_NULL, "native": STR_OR_NULL})
    return document


def lag_fields(document, gate):
    assert document["gate"] == gate
    for pair in document["pairs"]:
        holds(pair, {"name": str, "direction": str, "state": str, "reason": str, "lag_ms": INT_OR_NULL,
                     "lag_at_least_ms": INT_OR_NULL, "lag_bytes": INT_OR_NULL, "lag_transactions": INT_OR_NULL,
                     "primary_position": STR_OR_NULL, "applied_position": STR_OR_NULL})


def run_fields(document, outcome, primary):
    holds(document, {"run": str, "outcome": str, "primary": STR_OR_NULL, "write_pause_ms": INT_OR_NULL,
                     "unavailable_ms": INT_OR_NULL, "phases": list, "pairs": list})
    assert (document["outcome"], document["primary"]) == (outcome, primary)
    for phase in document["phases"]:
        holds(phase, {"name": str, "ms": int})
        assert phase["name"] in PHASES
    for pair in document["pairs"]:
        holds(pair, {"name": str, "primary": STR_OR_NULL, "position": STR_OR_NULL, "write_pause_ms": INT_OR_NULL,
                     "promotion_ms": INT_OR_NULL})


def test_a_whole_migration(fakes):
    tool = fakes.tool
    document = envelope(tool("check", json=True), "check")
    assert document["exit_code"] == 0
    for finding in document["findings"]:
        holds(finding, {"pair": str, "side": STR_OR_NULL, "code": str, "severity": str, "message": str, "remedy": str})
    result = tool("lag", json=True)
    assert result.code == 2
    lag_fields(envelope(result, "lag"), "broken")
    assert result.json["pairs"][0]["lag_ms"] is None
    assert envelope(tool("setup", json=True), "setup")["outcome"] == "done"
    lag_fields(envelope(tool("lag", "--wait=20s", json=True), "lag"), "open")
    result = tool("lag", json=True)
    assert result.code == 0
    lag_fields(envelope(result, "lag"), "open")
    assert result.json["pairs"][0]["direction"] == "a_to_b"

    document = envelope(tool("status", json=True), "status")
    pair = document["pairs"][0]
    holds(pair, {"name": str, "engine": str, "a": dict, "b": dict, "link": str, "next": str})
    for side in ("a", "b"):
        holds(pair[side], {"version": str, "instance": str, "lineage": str, "role": str, "accepts_writes": bool, "fenced": bool})
    assert (pair["a"]["role"], pair["b"]["role"], pair["link"]) == ("primary", "follower", "running")
    assert (pair["a"]["accepts_writes"], pair["b"]["accepts_writes"]) == (True, False)
    assert document["run"] is None

    dry = envelope(tool("cutover", "--dry-run", json=True), "cutover")
    assert dry["dry_run"] is True and {step["phase"] for step in dry["steps"]} <= set(PHASES)
    assert any(step["statements"] for step in dry["steps"])

    result = tool("cutover", "--yes", json=True)
    assert result.code == 0, result
    document = envelope(result, "cutover")
    run_fields(document, "done", "b")
    assert [phase["name"] for phase in document["phases"]] == PHASES
    assert re.search(r"^  fence  ", result.err, re.M), result  # progress is on standard error
    assert tool("lag", json=True).json["pairs"][0]["direction"] == "b_to_a"

    document = envelope(tool("rollback", "--check", json=True), "rollback")
    assert document["pairs"][0]["open"] is True
    document = envelope(tool("rollback", "--yes", json=True), "rollback")
    run_fields(document, "done", "a")

    assert tool("resume", "--if-needed").code == 0
    assert tool("resume").code == 1
    assert tool("abort").code == 1
    assert envelope(tool("lag", "--history", json=True), "lag")["samples"]

    document = tool("report", json=True).json
    assert document["schema"] == "changeover.report/1" and document["run"]["kind"] == "rollback"
    for form in ("text", "json", "markdown", "html"):
        assert tool("report", "--format", form).out
    assert tool("report", "--run", "nosuch").code == 1
    assert len(tool("report", "--list").out.splitlines()) >= 4
    assert envelope(tool("detach", json=True), "detach")["outcome"] == "done"
    assert tool("status", json=True).json["pairs"][0]["link"] == "none"


def test_a_side_that_is_down_is_unknown_never_zero(fakes):
    tool = fakes.tool
    tool("setup")
    fakes.b.kill()
    result = tool("lag", json=True)
    assert result.code == 3, result
    pair = result.json["pairs"][0]
    assert (pair["state"], pair["lag_ms"], pair["lag_bytes"], pair["applied_position"]) == ("unknown", None, None, None)
    assert pair["reason"]
    document = tool("status", json=True).json
    assert document["exit_code"] == 3
    side = document["pairs"][0]["b"]
    assert side["reached"] is False and side["error"]
    assert all(side[name] is None for name in ("version", "instance", "lineage", "role", "accepts_writes", "fenced"))
    nagios = tool("lag", "--format", "nagios")
    assert nagios.code == 3 and nagios.out.startswith("CHANGEOVER UNKNOWN - ") and nagios.err == "", nagios
    prometheus = tool("lag", "--format", "prometheus")
    assert "changeover_lag_seconds{" not in prometheus.out
    assert 'changeover_gate_open{migration="test",' in prometheus.out
    assert tool("check", json=True).code == 3


def test_looking_needs_no_journal(fakes):
    tool = fakes.tool
    tool("setup")
    tool.journal.unlink()
    for name in ("-wal", "-shm", ".lock"):
        tool.journal.with_name(tool.journal.name + name).unlink(missing_ok=True)
    for command in ("lag", "status", "check"):
        result = tool(command)
        assert result.code == 0, result
        assert not tool.journal.exists()
    assert tool("report").code == 1
    assert tool("lag", "--history").code == 1


def test_wait_gives_up_in_time_and_fail_fast_at_once(fakes):
    tool = fakes.tool
    result = tool("lag", "--wait=300ms", json=True)
    assert result.code == 2 and result.json["gate"] == "broken", result
    result = tool("lag", "--wait=50s", "--fail-fast", json=True)
    assert result.code == 2, result
    tool("setup")
    fakes.b.set_apply_delay(60000)
    client = fakes.a.client("ordinary")
    client.write("late")
    client.close()
    result = tool("lag", "--timeout=200ms", json=True)
    pair = result.json["pairs"][0]
    assert result.code == 1 and pair["state"] == "closed", result
    assert pair["lag_ms"] is None and pair["lag_at_least_ms"] >= 200
    assert tool("lag", "--wait=500ms").code == 1
    assert tool("lag", "--wait=500ms", "--format", "nagios").code == 1


def test_watch_prints_one_document_a_line_until_it_is_interrupted(fakes):
    tool = fakes.tool
    tool("setup")
    child = tool.spawn("lag", "--watch=100ms", json=True)
    lines = [json.loads(child.stdout.readline()) for _ in range(3)]
    child.send_signal(signal.SIGINT)
    result = tool.finish(child, 20)
    assert result.code == 130, result
    for line in lines:
        assert line["schema"] == "changeover.lag/1" and line["time"].endswith("Z")
        assert line["gate"] in ("open", "closed")
    child = tool.spawn("lag", "--watch=100ms")
    assert child.stdout.readline().startswith("20")
    child.stdout.close()  # nobody reads any more: it ends
    wait_for(lambda: child.poll() is not None, 60, "watch ends")
    child.stderr.close()
    tool.running.remove(child)


def test_a_frozen_server_does_not_hold_up_an_interrupt(fakes):
    tool = fakes.tool
    tool("setup")
    fakes.b.freeze()
    child = tool.spawn("lag", "--wait")
    wait_for(lambda: unread(fakes.b.port), 60, "it has asked the frozen server something")
    child.send_signal(signal.SIGTERM)
    assert tool.finish(child, 8).code == 130


def test_partial_needs_the_config_to_say_so(box):
    first, second = box.pair("fake", "one"), box.pair("fake", "two")
    for pair in (first, second):
        pair.extra["gate"] = {"stable_for": "0s"}
    tool = box.tool([first, second])
    names = [one["name"] for one in tool.document()["pairs"]]
    assert tool("setup").code == 0
    result = tool("-p", names[0], "cutover", "--yes")
    assert result.code == 64 and "cutover.partial" in result.err, result
    result = tool("lag", "--wait=20s", json=True)
    assert result.code == 0 and [pair["name"] for pair in result.json["pairs"]] == names
    result = tool("lag", "-p", names[1], json=True)
    assert [pair["name"] for pair in result.json["pairs"]] == names[1:]


def test_on_a_terminal_the_plan_is_shown_and_an_answer_asked(fakes):
    tool = fakes.tool
    tool("setup")
    argv = [str(program()), "-c", str(tool.config_path), "cutover"]
    code, shown = on_terminal(argv, tool.environment(), "no")
    assert code == 130 and "Nothing was changed." in shown, shown
    assert "refuse clients' writes on the source" in shown
    assert fakes.open_side() == "a"
    code, shown = on_terminal(argv, tool.environment(), "test")
    assert code == 0 and "the primary is b" in shown, shown


def test_the_last_run_is_not_stopped_by_a_closed_terminal(fakes):
    """SIGHUP and a broken pipe in the middle of a cutover end nothing."""
    tool = fakes.tool
    tool("setup")
    with tool.held("cutover", "--yes", at="catch_up:begin") as child:
        child.stderr.close()
        child.stdout.close()
        child.send_signal(signal.SIGHUP)
    child.wait(60)
    tool.running.remove(child)
    assert child.returncode == 0
    assert fakes.open_side() == "b"


def test_no_core_dump_and_no_debugger(fakes):
    tool = fakes.tool
    tool("setup")
    child = tool.spawn("lag", "--watch=100ms")
    child.stdout.readline()
    limits = open(f"/proc/{child.pid}/limits", encoding="ascii").read()
    child.send_signal(signal.SIGINT)
    tool.finish(child, 20)
    assert re.search(r"Max core file size +0 +0", limits), limits
