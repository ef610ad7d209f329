"""What bad circumstances get: a clear error, the right exit code, nothing changed."""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from sandbox.terminal import on_terminal
from sandbox.tool import program
from sandbox.wait import wait_for


def refused(result, code, *words):
    assert result.code == code, result
    document = result.json
    assert document["exit_code"] == code
    said = " ".join(error["message"] + " " + (error["hint"] or "") for error in document["errors"])
    for word in words:
        assert word in said, f"{word!r} isn't said in {said!r}"
    return document


def before_and_after(fakes):
    return fakes.a.settings(), fakes.b.settings()


def test_a_journal_that_is_no_database(fakes):
    fakes.tool("setup")
    seen = before_and_after(fakes)
    for name in ("-wal", "-shm"):
        fakes.tool.journal.with_name(fakes.tool.journal.name + name).unlink(missing_ok=True)
    fakes.tool.journal.write_bytes(b"this is no database, and it is longer than a header would be " * 20)
    refused(fakes.tool("cutover", "--yes", json=True), 1, str(fakes.tool.journal))
    assert before_and_after(fakes) == seen


def test_a_journal_of_another_migration(fakes):
    fakes.tool("setup")
    text = fakes.tool.config_path.read_text()
    fakes.tool.write_config(text.replace('"migration": "test"', '"migration": "other"'))
    refused(fakes.tool("cutover", "--yes", json=True), 65, "other")


def test_a_journal_where_none_can_be(fakes):
    text = fakes.tool.config_path.read_text()
    fakes.tool.write_config(text.replace(str(fakes.tool.journal), "/proc/nowhere/m.journal"))
    result = fakes.tool("setup", json=True)
    assert result.code == 1, result
    assert "/proc/nowhere" in result.json["errors"][0]["message"]
    assert fakes.tool("lag").code == 2  # looking needs none
    assert fakes.tool("status").code in (0, 2)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv to be another user")
def test_a_journal_that_may_only_be_read(fakes):
    fakes.tool("setup")
    fakes.box.folder.chmod(0o755)
    fakes.tool.journal.chmod(0o644)
    fakes.tool.config_path.chmod(0o644)

    # the build may lie where nobody else gets in, such as in /root
    copied = fakes.box.folder / "program"
    shutil.copytree(program().parent / "drivers", copied / "drivers", ignore=shutil.ignore_patterns("CMakeFiles"))
    shutil.copy(program(), copied)
    copied.chmod(0o755)

    def as_nobody(*arguments):
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(copied / "changeover"), "-c", str(fakes.tool.config_path), *arguments]
        return subprocess.run(argv, env=fakes.tool.environment(), capture_output=True, text=True, check=False, timeout=60)

    for command in ("lag", "status", "check"):
        done = as_nobody(command)
        assert done.returncode == 0, done
    done = as_nobody("cutover", "--yes")
    assert done.returncode == 1 and str(fakes.tool.journal) in done.stderr, done
    assert fakes.open_side() == "a"


def test_a_second_run_at_the_same_time_is_75_and_says_who(fakes):
    tool = fakes.tool
    tool("setup")
    with tool.held("cutover", "--yes", at="gate:begin") as child:
        for command in (("cutover", "--yes"), ("setup",), ("detach",), ("resume",)):
            document = refused(tool(*command, json=True), 75)
            assert str(child.pid) in document["errors"][0]["message"] + document["errors"][0]["hint"], document
        assert tool("status").code in (0, 1) and tool("lag").code in (0, 1)
        assert "running cutover" in tool("status").out and "changeover resume" not in tool("status").out
        assert "[run_under_way]" in tool("check").out
        child.send_signal(signal.SIGTERM)
    assert tool.finish(child).code in (130, 4)
    assert fakes.open_side() == "a"


def test_check_names_a_run_that_was_left_and_resume_says_how_the_last_one_ended(fakes):
    """With A fenced by it, check found no error and sent on to the cutover."""
    fakes.must("setup")
    refused(fakes.tool("resume", json=True), 1, "nothing to resume", "the setup", "ended: done")
    fakes.must("cutover", "--yes", code=-9, fault="prove:begin=kill_both")
    document = fakes.must("check", code=1, json=True).json
    assert [one["code"] for one in document["findings"] if one["severity"] == "error"] == ["run_unfinished"], document
    assert "unfinished cutover" in fakes.must("status", code=5).out
    fakes.must("resume", code=4)
    assert "run_unfinished" not in fakes.must("check").out
    refused(fakes.tool("resume", json=True), 1, "nothing to resume", "the cutover", "ended: undone")


def test_after_a_cutover_from_another_journal_every_command_says_so(fakes):
    """`status` and `rollback --check` sent to a rollback that then called a the primary."""
    other = fakes.box.tool([fakes.pair], name="other")
    fakes.must("setup")
    fakes.must("cutover", "--yes")
    status = other("status", json=True)
    assert status.code == 0 and "this journal doesn't know of it" in status.json["pairs"][0]["next"], status
    assert "If that one is lost: exchange a and b" in status.json["pairs"][0]["next"], status
    looked = other("rollback", "--check")
    assert looked.code == 1 and "this journal doesn't know of it" in looked.out, looked
    refused(other("rollback", "--yes", json=True), 1, "by this journal a is the primary", "run with another journal")
    before = before_and_after(fakes)
    refused(other("detach", "--yes", json=True), 1, "side b is the primary, and this journal doesn't know of it")
    assert before_and_after(fakes) == before
    fakes.must("rollback", "--check")
    fakes.must("rollback", "--yes")
    fakes.must("detach", "--yes")


def test_an_operator_on_another_machine_is_75(fakes):
    tool = fakes.tool
    tool("setup")
    other = fakes.box.tool([fakes.pair], name="other")
    with tool.held("cutover", "--yes", at="gate:begin") as child:
        result = other("cutover", "--yes", json=True)
        assert result.code == 75 and os.uname().nodename in str(result.json["errors"]), result
        child.send_signal(signal.SIGTERM)
    tool.finish(child)
    assert fakes.open_side() == "a"


def test_a_server_that_is_down_does_not_hide_the_run_of_another_machine(fakes):
    """Its fence may have stopped A: 75 and who it is, not 3 because of a server that doesn't answer."""
    fakes.must("setup")
    fakes.must("cutover", "--yes", code=-9, fault="prove:begin=kill_both")
    fakes.a.kill()
    other = fakes.box.tool([fakes.pair], name="other")
    document = refused(other("cutover", "--yes", json=True), 75, "side b is marked by run", os.uname().nodename)
    assert len(document["errors"]) == 2 and "can't connect" in document["errors"][0]["message"], document
    fakes.a.start()
    fakes.must("resume", code=4)
    assert fakes.open_side() == "a"


@pytest.fixture
def asked(fakes):
    """B's address leads to somebody who hangs up on everyone: [how often he was asked]."""
    listener = socket.create_server(("127.0.0.1", 0))
    times = []

    def hang_up():
        with contextlib.suppress(OSError):
            while True:
                caller = listener.accept()[0]
                times.append(1)  # before he hears of it: who is asked for the count may have ended by then
                caller.close()
    thread = threading.Thread(target=hang_up)
    thread.start()
    document = fakes.tool.document()
    document["pairs"][0]["b"]["url"] = f"fake://tool@127.0.0.1:{listener.getsockname()[1]}"
    fakes.tool.write_config(json.dumps(document))
    yield times
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_side_that_is_not_met_is_not_waited_for_a_second_time(fakes, asked):
    """It may take ten seconds to hear nothing, and no marker can be there before both sides were met."""
    refused(fakes.tool("cutover", "--yes", json=True), 3, "side b")
    assert len(asked) == 1


def test_a_setup_that_does_not_reach_a_side_is_3_and_says_which(fakes, asked):
    refused(fakes.tool("setup", json=True), 3, "side b", "connect")
    assert asked


def test_a_wait_for_the_gate_says_what_it_waits_for_without_a_terminal_too(fakes, asked):
    done = fakes.tool("lag", "--wait=300ms")
    assert done.code == 3 and asked, done
    assert done.err.strip().startswith("gate unknown") and "side b" in done.err, done


def test_a_connection_that_is_waited_for_is_named_on_a_terminal(fakes):
    """Ten seconds of silence look like a tool that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        document = fakes.tool.document()
        document["pairs"][0]["b"]["url"] = f"fake://tool@{where}"
        fakes.tool.write_config(json.dumps(document))
        code, shown = on_terminal([str(program()), "-c", str(fakes.tool.config_path), "lag"], fakes.tool.environment())
        assert code == 3 and f"side b: connecting to {where}" in shown, shown


def test_a_name_that_leads_to_another_server_is_not_followed(fakes):
    tool = fakes.tool
    tool("setup")
    document = tool.document()
    sides = document["pairs"][0]
    sides["a"], sides["b"] = sides["b"], sides["a"]
    tool.write_config(json.dumps(document))
    seen = before_and_after(fakes)
    result = tool("lag", json=True)
    assert result.code == 3 and result.json["gate"] == "unknown", result
    result = tool("cutover", "--yes", json=True)
    assert result.code in (1, 3), result
    assert before_and_after(fakes) == seen


def test_a_cutover_before_setup_is_refused(fakes):
    result = fakes.tool("cutover", "--yes", json=True)
    assert result.code in (1, 2), result
    assert result.json["outcome"] == "refused" and result.json["primary"] == "a", result
    assert fakes.a.settings()["token"] == ""


def test_a_gate_that_stays_closed_refuses(fakes):
    tool = fakes.tool
    tool("setup")
    fakes.b.pause_apply(True)
    client = fakes.a.client("ordinary")
    client.write("late")
    client.close()
    result = tool("cutover", "--yes", "--when-ready=500ms", json=True)
    assert result.code in (1, 2), result
    assert result.json["outcome"] == "refused", result
    assert fakes.open_side() == "a"


def test_sigterm_before_the_fence_changes_nothing(fakes):
    tool = fakes.tool
    tool("setup")
    seen = before_and_after(fakes)
    with tool.held("cutover", "--yes", "--when-ready=30s", json=True, at="gate:begin") as child:
        child.send_signal(signal.SIGINT)
    result = tool.finish(child)
    assert result.code == 130 and result.json["outcome"] == "refused", result
    assert before_and_after(fakes) == seen
