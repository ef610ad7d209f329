"""What bad input gets: a clear error with what to do, the right exit code, and nothing changed."""
import json
import os
import subprocess

import pytest

from sandbox.disk import network_disk
from sandbox.fake import Fake

REFUSE = (("setup",), ("cutover", "--yes"))


def said(result):
    document = result.json
    parts = [f"{error['message']} {error['hint']}" for error in document["errors"]]
    parts += [f"{finding['message']} {finding['remedy']}" for finding in document.get("findings", [])]
    return " ".join(parts)


def state(fakes):
    return [(server.settings(), server.read_all()) for server in (fakes.a, fakes.b) if server.pid()]


def all_refuse(fakes, code, *words, commands=REFUSE):
    """Each command ends with this code (of one or several allowed), says the words, and leaves both servers as they are."""
    seen = state(fakes)
    codes = code if isinstance(code, tuple) else (code,)
    for command in commands:
        result = fakes.tool(*command, json=True)
        assert result.code in codes, result
        for word in words:
            assert word in said(result), (command, word, result)
        assert any(error["hint"] for error in result.json["errors"]), result
        assert state(fakes) == seen, command


def change(fakes, edit):
    document = fakes.tool.document()
    edit(document["pairs"][0])
    fakes.tool.write_config(json.dumps(document))


@pytest.mark.parametrize("text, words", [
    ("pairs:\n  - a: {url: 'fake://h:1'\n", ("m.yaml:", "not valid YAML")),
    ("pairs: [{a: {url: 'fake://h:1'}, b: {url: 'fake://h:2'}, a: {url: 'fake://h:3'}}]\n", ("m.yaml:1", "a: given twice")),
    ("pairs: {a: 1}\n", ("m.yaml:1", "pairs", "expected a list")),
    ("migration: x\n", ("pairs",)),
    ("pairs: [{a: {url: 'fake://h:1'}, b: {url: 'fake://h:2'}, gate: {max_seconds: soon}}]\n",
     ("pairs[0].gate.max_seconds", "expected a duration")),
    ("pairs: [{a: {url: 'fake://h:1'}, b: {url: 'fake://h:2'}, gate: {max_bytes: -1}}]\n", ("pairs[0].gate.max_bytes",)),
    ("pairs: [{a: {url: 'fake://h:1'}, b: {url: 'fake://h:2'}, drain: {on_timeout: wait}}]\n",
     ("pairs[0].drain.on_timeout", "end", "refuse")),
    ("pairs: [{a: {url: 'fake://h:99999'}, b: {url: 'fake://h:2'}}]\n", ("pairs[0].a.url",)),
    ("pairs: [{a: {url: 'nonsense'}, b: {url: 'fake://h:2'}}]\n", ("pairs[0].a.url",)),
    ("pairs: [{a: {url: '${CO_NO_SUCH_VARIABLE}'}, b: {url: 'fake://h:2'}}]\n", ("CO_NO_SUCH_VARIABLE",)),
    ("pairs: [{a: {url: 'fake://h:1', password_env: CO_NO_SUCH_VARIABLE}, b: {url: 'fake://h:2'}}]\n",
     ("password_env", "CO_NO_SUCH_VARIABLE")),
    ("pairs: [{a: {url: 'fake://h:1', password_file: none-there}, b: {url: 'fake://h:2'}}]\n", ("password_file", "none-there")),
    ("pairs: [{name: x, a: {url: 'fake://h:1'}, b: {url: 'fake://h:2'}}, {name: x, a: {url: 'fake://h:3'}, b: {url: 'fake://h:4'}}]\n",
     ("pairs[1]", "a pair named x is already")),
    ("pairs: [{a: {url: 'fake://h:1'}, b: {url: 'fake://h:2'}, engine: oracle}]\n", ("oracle", "fake")),
    ("cutover: {switch: [{run: 'a command line'}]}\npairs: [{a: {url: 'fake://h:1'}, b: {url: 'fake://h:2'}}]\n",
     ("cutover.switch[0].run", "list")),
])
def test_a_wrong_config_is_65_with_place_and_expectation(fakes, text, words):
    seen = state(fakes)
    fakes.tool.write_config(text)
    for command in ("check", "setup", "status"):
        result = fakes.tool(command, json=True)
        assert result.code == 65, result
        for word in words:
            assert word in said(result), (word, result)
    assert state(fakes) == seen


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_same_server_as_a_and_b(fakes, host):
    change(fakes, lambda pair: pair["b"].update(url=f"fake://{host}:{fakes.a.port}"))
    all_refuse(fakes, (1, 65), "same server", commands=(("check",), *REFUSE)[1:])
    result = fakes.tool("check", json=True)
    assert result.code in (1, 65) and "same server" in said(result), result


def test_two_pairs_on_one_server(fakes):
    document = fakes.tool.document()
    first = document["pairs"][0]
    again = {**first, "a": {"url": f"fake://localhost:{fakes.a.port}"}, "b": {"url": f"fake://localhost:{fakes.b.port}"}}
    document["pairs"] = [{**first, "name": "one"}, {**again, "name": "two"}]
    fakes.tool.write_config(json.dumps(document))
    seen = state(fakes)
    result = fakes.tool("cutover", "--yes", json=True)
    assert result.code == 65 and "share the server" in said(result) and "of its own" in said(result), result
    result = fakes.tool("check", json=True)
    assert result.code == 1 and "share the server" in said(result), result
    result = fakes.tool("setup", json=True)
    assert result.code in (1, 65) and "share the server" in said(result), result
    assert state(fakes) == seen


def test_b_that_follows_nobody_is_not_cut_over_to(fakes):
    all_refuse(fakes, (1, 2), "doesn't follow", "changeover setup", commands=(("cutover", "--yes"),))


def test_b_that_follows_another_server(fakes):
    third = fakes.box.add(Fake(fakes.box, "third"))
    third.start()
    fakes.must("setup")
    other = fakes.tool.document()
    other["pairs"][0]["a"] = third.side_config()
    other["migration"] = "other"
    other["journal"] = str(fakes.box.folder / "other.journal")
    fakes.tool.write_config(json.dumps(other))
    seen = state(fakes), third.settings()
    result = fakes.tool("cutover", "--yes", json=True)
    assert result.code in (1, 2) and "doesn't follow" in said(result), result
    assert (state(fakes), third.settings()) == seen


def test_b_that_holds_data_is_not_overwritten(fakes):
    client = fakes.b.client("ordinary")
    client.write("somebody's")
    client.close()
    all_refuse(fakes, (1, 2), "data of its own", "empty server", commands=(("setup",),))
    assert "somebody's" in fakes.b.read_all()


def test_a_that_is_a_replica_itself(fakes):
    fakes.must("setup")
    third = fakes.box.add(Fake(fakes.box, "third"))
    third.start()
    document = fakes.tool.document()
    pair = document["pairs"][0]
    pair["a"], pair["b"] = fakes.b.side_config(), third.side_config()
    document.update(migration="other", journal=str(fakes.box.folder / "other.journal"))
    fakes.tool.write_config(json.dumps(document))
    all_refuse(fakes, (1, 2), "follows another server")
    assert not third.read_all()


def test_a_wrong_password_is_3_and_never_shown(fakes):
    change(fakes, lambda pair: pair["a"].update(url=f"fake://control@127.0.0.1:{fakes.a.port}"))
    secret = fakes.box.folder / "password"
    secret.write_text("richtig-geheim\n")
    secret.chmod(0o600)
    fakes.a.kill()
    fakes.a.child = None
    log = open(fakes.a.folder / "log.txt", "ab")
    from sandbox.tool import build_folder
    from sandbox.wait import wait_for
    from sandbox.fake import Connection

    fakes.a.child = subprocess.Popen([str(build_folder() / "changeover-fake-server"), "--data", str(fakes.a.folder / "data"), "--listen",
                                      f"127.0.0.1:{fakes.a.port}", "--password-file", str(secret)],
                                     stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    log.close()
    wait_for(lambda: Connection(fakes.a.port, "control", password="richtig-geheim").close() or True, 60, "it answers")
    wrong = fakes.box.folder / "wrong"
    wrong.write_text("falsch-geheim\n")
    wrong.chmod(0o600)
    change(fakes, lambda pair: pair["a"].update(password_file=str(wrong)))
    for command in (("check",), *REFUSE, ("lag",), ("status",)):
        result = fakes.tool(*command, json=True)
        assert result.code == 3, result
        assert "geheim" not in result.out + result.err
        assert "side a" in result.out or '"a"' in result.out
    change(fakes, lambda pair: pair["a"].update(password_file=str(secret)))
    assert fakes.tool("check").code == 0


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_side_that_nobody_answers_on(fakes, side):
    fakes.must("setup")
    getattr(fakes, side).kill()
    seen = state(fakes)
    for command in (("cutover", "--yes"), ("check",), ("lag",)):
        result = fakes.tool(*command, json=True)
        assert result.code == 3, result
        assert f"side {side}" in result.out or f'"side": "{side}"' in result.out, result
    assert state(fakes) == seen
    assert (fakes.a if side == "b" else fakes.b).settings()["token"] == ""


@pytest.mark.parametrize("how, words", [("paused", "paused"), ("cut", "cut"), ("error", "kaputt")])
def test_a_replica_that_is_paused_or_disconnected_is_never_lag_0(fakes, how, words):
    fakes.must("setup")
    fakes.must("lag", "--wait=20s")
    if how == "paused":
        fakes.b.pause_apply(True)
    elif how == "cut":
        fakes.b.cut_link(True)
    else:
        fakes.b.control("apply", paused=0, error="kaputt")
    seen = state(fakes)
    result = fakes.tool("lag", json=True)
    pair = result.json["pairs"][0]
    assert result.code == 2 and pair["state"] == "broken" and pair["lag_ms"] is None and words in pair["reason"], result
    result = fakes.tool("cutover", "--yes", json=True)
    assert result.code in (1, 2) and words in said(result), result
    assert state(fakes) == seen


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_is_met_before_anything_is_changed(fakes):
    fakes.must("setup")
    small = fakes.box.folder / "small"
    small.mkdir()
    document = fakes.tool.document()
    document["journal"] = str(small / "m.journal")
    fakes.tool.write_config(json.dumps(document))
    seen = state(fakes)
    for size, command in (("8k", ("setup", "--json")), ("400k", ("cutover", "--yes", "--json"))):
        script = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
        done = subprocess.run(["unshare", "-m", "sh", "-c", script, str(small), *fakes.tool.argv(command, False)], check=False,
                              env=fakes.tool.environment(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, done
        text = str(json.loads(done.stdout)["errors"])
        assert "space" in text.lower() or "full" in text.lower(), done
    assert state(fakes) == seen
    assert fakes.open_side() == "a"


def test_a_journal_open_to_others_or_in_a_folder_of_all_is_refused(fakes):
    fakes.must("setup")
    fakes.tool.journal.chmod(0o644)
    all_refuse(fakes, 1, "mode 0644", "chmod 600")
    fakes.tool.journal.chmod(0o600)
    loose = fakes.box.folder / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    document = fakes.tool.document()
    document["journal"] = str(loose / "m.journal")
    fakes.tool.write_config(json.dumps(document))
    all_refuse(fakes, 1, "writable by everybody", "chmod o-w")


def test_a_damaged_journal_is_named_and_left_alone(fakes):
    fakes.must("setup")
    content = bytearray(fakes.tool.journal.read_bytes())
    content[100:len(content) // 2] = bytes(len(content) // 2 - 100)
    fakes.tool.journal.write_bytes(content)
    for name in ("-wal", "-shm"):
        fakes.tool.journal.with_name(fakes.tool.journal.name + name).unlink(missing_ok=True)
    all_refuse(fakes, 1, str(fakes.tool.journal))
    assert fakes.tool.journal.read_bytes() == bytes(content)


@pytest.mark.parametrize("name, magic", [("nfs", 0x6969), ("smb2", 0xFE534D42), ("ceph", 0x00C36400), ("fuse", 0x65735546)])
def test_a_journal_on_a_network_file_system_is_refused(fakes, name, magic):
    """Its kind is a stub's word. What only looks needs no journal; what changes something is refused before it does, also when the
    journal is there from before."""
    fakes.must("setup")
    shared = fakes.box.folder / "shared"
    shared.mkdir(mode=0o700)
    (shared / "m.journal").write_bytes(b"")
    document = fakes.tool.document()
    document["journal"] = str(shared / "m.journal")
    fakes.tool.write_config(json.dumps(document))
    fakes.tool.variables.update(network_disk(shared, magic))
    all_refuse(fakes, 1, "network file system", f"({name})", str(shared / "m.journal"), "a local disk of this machine",
               commands=(*REFUSE, ("rollback", "--yes"), ("detach", "--yes")))
    assert (shared / "m.journal").read_bytes() == b"" and len(list(shared.iterdir())) == 1
    for command in ("check", "lag", "status"):
        assert fakes.tool(command).code == 0, command
    fakes.tool.variables.clear()
    document["journal"] = str(fakes.tool.journal)
    fakes.tool.write_config(json.dumps(document))
    fakes.must("cutover", "--yes")

