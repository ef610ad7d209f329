"""Hooks: what they get, when they run, what their failure means, and that no secret of theirs is shown."""
import http.server
import json
import signal
import threading

import pytest

from sandbox import process, wait_for


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append(self.path)
        self.send_response(self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def health():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health)
    server.answers, server.seen = [200], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(server, path="/healthz"):
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def script(fakes, name, text):
    path = fakes.box.folder / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def set_up(fakes, **cutover):
    fakes.tool.cutover.update(cutover)
    fakes.tool.write_config()
    fakes.must("setup")


def hooks_of(report):
    return [step for step in report["steps"] if step["action"] == "hook"]


def test_each_list_runs_in_its_place_with_the_run_in_its_environment(fakes):
    log = fakes.box.folder / "log.txt"
    note = script(fakes, "note", f'echo "$1 $CHANGEOVER_PHASE $CHANGEOVER_SIDE $CHANGEOVER_PAIR $CHANGEOVER_RUN" >>{log}\n')
    set_up(fakes, freeze=[{"run": [note, "{side}"]}], switch=[{"run": [note, "to-{side}"]}], confirm=[{"run": [note, "x"]}],
           unfreeze=[{"run": [note, ""]}], after_undo=[{"run": [note, "undone"]}])
    result = fakes.must("cutover", "--yes", json=True)
    run = result.json["run"]
    assert log.read_text().splitlines() == [f"a freeze a main {run}", f"to-b switch b main {run}", f"x confirm b main {run}",
                                            f" unfreeze b main {run}"]
    log.unlink()
    result = fakes.must("rollback", "--yes", code=4, json=True, fault="prove:begin=error")
    run = result.json["run"]
    assert log.read_text().splitlines() == [f"b freeze b main {run}", f"undone after_undo b main {run}"]


def test_a_failed_freeze_refuses_and_nothing_was_changed(fakes):
    set_up(fakes, freeze=[{"run": ["false"]}])
    seen = fakes.a.settings(), fakes.b.settings()
    result = fakes.must("cutover", "--yes", code=1, json=True)
    assert "hook freeze: false ended with status 1" in str(result.json["errors"]), result
    assert (fakes.a.settings(), fakes.b.settings()) == seen


def test_a_failed_switch_never_delays_the_opening_and_is_6(fakes):
    fail = script(fakes, "fail", "echo it said this; echo and this >&2; exit 3\n")
    set_up(fakes, switch=[{"run": [fail], "retries": 2}])
    result = fakes.must("cutover", "--yes", code=6, json=True)
    assert fakes.open_side() == "b"
    report = fakes.report()
    assert len(hooks_of(report)) == 3
    assert all("it said this\nand this" in step["detail"] for step in hooks_of(report))
    names = [phase["name"] for phase in result.json["phases"]]
    assert names.index("open") < names.index("switch")
    fakes.tool.cutover["switch"] = []
    fakes.tool.write_config()
    fakes.must("resume")


def test_with_open_after_switch_a_failed_switch_is_taken_back(fakes):
    log = fakes.box.folder / "log.txt"
    half = script(fakes, "half", f'echo "$1" >>{log}; [ "$1" = a ]\n')
    set_up(fakes, switch=[{"run": [half, "{side}"]}], open="after_switch", max_write_pause="20s")
    fakes.must("cutover", "--yes", code=4)
    assert log.read_text().split() == ["b", "a"]
    assert fakes.open_side() == "a"


def test_a_hook_that_hangs_is_killed_with_all_it_started(fakes):
    pid = fakes.box.folder / "pid"
    hang = script(fakes, "hang", f"sleep 60 & echo $! >{pid}; wait\n")
    set_up(fakes, switch=[{"run": [hang], "timeout": "3s"}])  # it has noted what it started by then
    result = fakes.must("cutover", "--yes", code=6, json=True)
    said = result.json["errors"][0]["message"]
    assert said.startswith("hook switch: ") and "didn't end within its time" in said and "was killed" in said, result
    started = int(pid.read_text())
    wait_for(lambda: not process.alive(started), 60, "what the hook started is gone")  # killed, and nobody waits for it


def test_secrets_in_a_hooks_output_are_masked(fakes):
    secret = fakes.box.folder / "password"
    secret.write_text("tiefes-geheimnis\n")
    secret.chmod(0o600)
    tell = script(fakes, "tell", f"cat {secret}; exit 1\n")
    fakes.pair.extra["replication"] = {"user": "repl", "password_file": str(secret)}
    set_up(fakes, switch=[{"run": [tell]}])
    result = fakes.must("cutover", "--yes", code=6, json=True)
    assert "geheimnis" not in result.out + result.err
    for form in ("json", "text", "markdown", "html"):
        assert "geheimnis" not in fakes.must("report", "--format", form).out
    assert b"geheimnis" not in fakes.tool.journal.read_bytes()


def test_an_http_check_waits_for_its_status(fakes, health):
    health.answers[:] = [503, 503, 200]
    set_up(fakes, confirm=[{"http": {"url": url(health), "expect": 200, "within": "20s"}}])
    fakes.must("cutover", "--yes")
    assert health.seen == ["/healthz"] * 3


def test_an_http_check_that_fails_is_6_and_shows_no_query(fakes, health):
    health.answers[:] = [500]
    address = url(health, "/healthz?token=tiefes-geheimnis").replace("http://", "http://user:tiefes-geheimnis@")
    set_up(fakes, confirm=[{"http": {"url": address, "within": "3s"}}])
    dry = fakes.must("cutover", "--dry-run")
    result = fakes.must("cutover", "--yes", code=6, json=True)
    assert f"{url(health)} answered 500, expected 200" in str(result.json["errors"]), result
    assert fakes.open_side() == "b"
    assert health.seen[0] == "/healthz?token=tiefes-geheimnis"
    assert "geheimnis" not in dry.out + dry.err + result.out + result.err + fakes.must("report", "--format", "json").out


def test_an_http_check_nobody_answers_says_why(fakes, health):
    health.server_close()
    set_up(fakes, confirm=[{"http": {"url": url(health), "within": "3s"}}])
    result = fakes.must("cutover", "--yes", code=6, json=True)
    said = json.dumps(result.json["errors"])
    assert "hook confirm" in said and url(health) in said and "onnect" in said, result


def test_a_switch_may_be_interrupted_before_the_commit(fakes):
    mark = fakes.box.folder / "mark"
    wait = script(fakes, "wait", f'[ "$1" = a ] || {{ touch {mark}; sleep 60; }}\n')
    set_up(fakes, switch=[{"run": [wait, "{side}"], "timeout": "50s"}], open="after_switch", max_write_pause="60s")
    child = fakes.tool.spawn("cutover", "--yes")
    wait_for(mark.exists, 60, "the hook runs")
    child.send_signal(signal.SIGTERM)
    assert fakes.tool.finish(child, 20).code == 4
    assert fakes.open_side() == "a"
