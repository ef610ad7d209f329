"""setup.method: mariabackup. B's data directory is replaced on its machine; the old one is kept."""
import os
import pathlib
import shutil
import signal

import pytest

from sandbox import process, ssh, wait_for

from test_mysql import make_read_only_last, no_stray_gtids

pytestmark = pytest.mark.engines("mariadb")


def starter(scene):
    script = scene.box.folder / "start-b"
    script.write_text(f"#!/bin/sh\npid=$(cat {scene.b.folder}/pid 2>/dev/null) && kill -0 $pid 2>/dev/null && exit 0\n"
                      f"exec setsid {' '.join(scene.b.argv())} </dev/null >/dev/null 2>&1 &\n")
    script.chmod(0o755)
    return str(script)


def by_backup(scene, **setup):
    if not shutil.which("mariadb-backup"):
        pytest.skip("mariadb: no mariadb-backup")
    scene.pair.extra["setup"] = {"method": "mariabackup", **setup}
    config, start = scene.b.side_config(), starter(scene)
    scene.b.side_config = lambda: {**config, "host": {"run": [], "data_directory": str(scene.b.data), "start": [start]}}
    config_a = scene.a.side_config()
    scene.a.side_config = lambda: {**config_a, "host": {"run": []}}
    scene.tool.write_config()


def kept(scene):
    return [path for path in scene.b.folder.iterdir() if ".before-changeover-" in path.name]


def leftovers(scene):
    return [path.name for path in scene.b.folder.iterdir() if ".changeover-copy" in path.name]


@pytest.mark.parametrize("compress", [False, True])
def test_setup_by_mariadb_backup_under_writers_and_b_is_closed_from_its_first_moment(scene, compress):
    scene.a.query("SET GLOBAL event_scheduler=ON")
    scene.a.query("CREATE TABLE app.beat (at timestamp(6) PRIMARY KEY, host int)")
    scene.a.query("CREATE EVENT app.beats ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.beat VALUES (NOW(6), @@server_id)")
    scene.a.query("CREATE USER dba@'%' IDENTIFIED BY 'x-7Q'")
    scene.a.query("GRANT ALL ON *.* TO dba@'%' WITH GRANT OPTION")
    by_backup(scene, compress=compress)
    with open(scene.b.folder / "my.cnf", "a", encoding="ascii") as file:
        file.write("event-scheduler=ON\n")  # from the next start on
    with scene.load(writers=3, follow=False) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        result = scene.must("setup", timeout_s=120)
    assert "bytes" in result.err + result.out or "MiB" in result.err + result.out or "KiB" in result.err + result.out, result
    scene.caught_up()
    assert kept(scene) and not leftovers(scene)
    assert "ENABLED" not in [row[0] for row in scene.b.query("SELECT STATUS FROM information_schema.EVENTS")]
    assert scene.b.query(f"SELECT COUNT(*) FROM app.beat WHERE host = {scene.b.port}")[0][0] == 0
    assert scene.b.is_locked("root") and scene.b.is_locked("dba") and not scene.b.is_open()
    load.check_not_lost(scene.b)
    no_stray_gtids(scene)
    scene.must("setup")  # again: nothing to do
    assert len(kept(scene)) == 1
    for kind in ("cutover", "rollback"):
        with scene.load(writers=3) as load:
            wait_for(lambda: load.count() > 20, 20, "the load runs")
            assert scene.run(kind).code == 0
        load.check_not_lost(scene.server(scene.primary))
        no_stray_gtids(scene)
    assert not scene.a.is_locked("dba")


def test_a_backup_for_a_b_that_holds_data_is_refused_unless_told_so_and_the_old_data_are_kept(scene):
    scene.b.query("CREATE DATABASE precious")
    by_backup(scene)
    result = scene.tool("setup", json=True)
    assert result.code == 1 and "precious" in result.out + result.err and "replace_b" in result.out + result.err, result
    assert scene.b.query("SHOW DATABASES LIKE 'precious'") and not kept(scene) and not leftovers(scene)
    scene.pair.extra["setup"]["replace_b"] = True
    scene.tool.write_config()
    scene.must("setup", timeout_s=120)
    assert not scene.b.query("SHOW DATABASES LIKE 'precious'")
    assert (kept(scene)[0] / "precious").is_dir()
    assert scene.run("cutover").code == 0


def test_where_read_only_lasts_ordinary_accounts_read_the_copy(scene):
    make_read_only_last(scene)
    by_backup(scene)
    scene.must("setup", timeout_s=120)
    assert scene.b.is_locked("root") and not scene.b.is_locked("app")
    assert scene.b.connect("app", database="app").cursor() and not scene.b.is_open()
    assert scene.run("cutover").code == 0


def slowed(scene, name, seconds):
    """A program of that name before the real one in PATH: it waits for the file `go`, so long at most."""
    folder = scene.box.folder / f"slow-{name}"
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\ntouch {folder}/here; n=0; until [ -e {folder}/go ] || [ $n -ge {seconds}0 ]; do sleep 0.1; n=$((n + 1)); done\nexec {shutil.which(name)} \"$@\"\n")
    (folder / name).chmod(0o755)
    config = scene.b.side_config()
    scene.b.side_config = lambda: {**config, "host": {**config["host"], "bin_directory": str(folder)}}
    scene.tool.write_config()
    return folder


def backup_gone(scene):
    """A killed tool's programs are ended behind it, and A may not have seen yet that theirs is gone: a session of the tool's account."""
    others = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'changeover' AND ID <> CONNECTION_ID()"
    return not process.with_argument(str(scene.a.data)) and not scene.a.query(others)


@pytest.mark.parametrize("where", ["mbstream", "mariadb-backup", "mariadbd"])
def test_a_setup_that_was_killed_in_the_copy_begins_again_cleanly(scene, where):
    by_backup(scene)
    folder = slowed(scene, where, 60)
    child = scene.tool.spawn("setup")
    wait_for((folder / "here").exists, 60, f"{where} was begun")
    child.send_signal(signal.SIGKILL)
    child.wait()
    (folder / "go").touch()
    assert scene.a.is_open() and not kept(scene), "B's own data are where they were"
    scene.b.query("SELECT 1")
    wait_for(lambda: backup_gone(scene), 30, "the backup program has ended")
    scene.must("setup", timeout_s=180)
    scene.caught_up()
    assert not leftovers(scene) and len(kept(scene)) == 1
    assert scene.run("cutover").code == 0


def test_a_setup_that_was_killed_with_b_down_goes_on(scene):
    """Nothing is in the place of the data directory in the worst moment."""
    by_backup(scene)
    start = pathlib.Path(scene.b.side_config()["host"]["start"][0])
    right = start.read_text()
    start.write_text(f"#!/bin/sh\ntouch {scene.box.folder}/started; exit 0\n")
    child = scene.tool.spawn("setup")
    wait_for((scene.box.folder / "started").exists, 60, "B was to be started")
    child.send_signal(signal.SIGKILL)
    child.wait()
    os.rename(scene.b.data, f"{scene.b.data}.changeover-copy")
    state = pathlib.Path(f"{scene.b.data}.changeover-copy.state")
    state.write_text(state.read_text().replace("placed", "ready"))
    start.write_text(right)
    scene.must("setup", timeout_s=120)
    scene.caught_up()
    assert not leftovers(scene)
    assert scene.run("cutover").code == 0


def test_a_source_without_a_host_is_told_so(scene):
    by_backup(scene)
    config = scene.a.side_config()
    scene.a.side_config = lambda: {key: value for key, value in config.items() if key != "host"}
    scene.tool.write_config()
    result = scene.tool("setup", json=True)
    assert result.code == 65 and "host.run" in result.out + result.err, result
    assert not leftovers(scene)


def text_of(path):
    """Of a file that others may remove meanwhile."""
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, IsADirectoryError):
        return ""


def test_the_password_is_in_no_command_line_and_in_no_file_while_the_backup_runs(scene):
    by_backup(scene)
    folder = slowed(scene, "mbstream", 60)
    child = scene.tool.spawn("setup")
    wait_for((folder / "here").exists, 60, "mbstream was begun")

    def backup_runs():
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            words = process.command_line(pid)
            if words.startswith(b"mariadb-backup\0") and str(scene.a.data).encode() in words:
                found.append(words)
        return found
    found = wait_for(backup_runs, 30, "mariadb-backup runs")
    assert not [words for words in found if b"my-secret-7Q" in words]
    assert not [path for path in pathlib.Path(os.environ.get("TMPDIR", "/tmp")).glob("tmp.*") if "my-secret-7Q" in text_of(path)]
    (folder / "go").touch()
    assert child.wait(120) == 0


def test_check_says_which_program_is_missing_on_which_machine(scene):
    """A machine that has a shell and little else."""
    by_backup(scene)
    folder = scene.box.folder / "little"
    folder.mkdir()
    for name in ("sh", "setsid", "head", "cat", "sleep", "sed", "printf", "kill"):
        if shutil.which(name):
            (folder / name).symlink_to(shutil.which(name))
    config = scene.b.side_config()
    scene.b.side_config = lambda: {**config, "host": {**config["host"], "run": ["env", f"PATH={folder}"]}}
    scene.tool.write_config()
    findings = scene.tool("check", "--for", "setup", json=True).json["findings"]
    found = [finding for finding in findings if finding["code"] == "backup_program_missing"]
    assert {finding["code"] for finding in found} == {"backup_program_missing"}
    assert [finding["side"] for finding in found] == ["b"] and "mariadb-backup" in found[0]["message"], findings
    assert scene.tool("setup").code == 1 and not leftovers(scene)


def test_check_says_when_a_machine_runs_nothing_or_has_the_program_of_another_version(scene):
    by_backup(scene)
    folder = scene.box.folder / "other"
    folder.mkdir()
    (folder / "mariadb-backup").write_text("#!/bin/sh\necho mariadb-backup based on MariaDB server 10.5.9-MariaDB Linux\n")
    (folder / "mariadb-backup").chmod(0o755)
    config = scene.b.side_config()
    for run, code, word in ((["/nowhere/run"], "host_unusable", "/nowhere/run"),
                            (["env", f"PATH={folder}:{os.environ['PATH']}"], "backup_version_differs", "10.5")):
        scene.b.side_config = lambda run=run: {**config, "host": {**config["host"], "run": run}}
        scene.tool.write_config()
        found = {finding["code"]: finding for finding in scene.tool("check", "--for", "setup", json=True).json["findings"]}
        assert code in ("host_unusable", "backup_version_differs") and code in found, found
        assert (found[code]["severity"], found[code]["side"]) == ("error", "b") and word in found[code]["message"], found[code]


def on_machines(scene, run_a, run_b):
    """mariabackup with everything that a side's `host` can say. B's server is stopped and started by what the config names."""
    by_backup(scene)
    stopped = scene.b.folder / "stopped by host.stop"
    stop = scene.b.folder / "stop b"
    stop.write_text(f"#!/bin/sh\necho \"$1\" >>'{stopped}'\nkill $(cat '{scene.b.folder}/pid')\n")
    stop.chmod(0o755)
    a, b = scene.a.side_config(), scene.b.side_config()
    programs = str(pathlib.Path(shutil.which("mariadbd")).parent)
    b["host"].update(run=run_b, stop=[str(stop), "now, please"], defaults_file=str(scene.b.folder / "my.cnf"), bin_directory=programs)
    a["host"] = {"run": run_a, "defaults_file": str(scene.a.folder / "my.cnf")}
    scene.a.side_config, scene.b.side_config = (lambda: a), (lambda: b)
    scene.tool.write_config()
    return stopped


def test_between_machines_over_ssh_with_the_configuration_and_the_stop_that_the_config_names(scene):
    if ssh.missing():
        pytest.skip(ssh.missing())
    with ssh.Machine(scene.box, "a") as machine_a, ssh.Machine(scene.box, "b") as machine_b:
        stopped = on_machines(scene, machine_a.run, machine_b.run)
        with scene.load(writers=3, follow=False) as load:
            wait_for(lambda: load.count() > 20, 20, "the load runs")
            scene.must("setup", timeout_s=180)
        assert machine_a.logins() and machine_b.logins(), "both machines were reached that way"
        assert stopped.read_text() == "now, please\n", "once, with its words as they were"
        scene.caught_up()
        load.check_not_lost(scene.b)
        assert kept(scene) and not leftovers(scene)
        assert scene.run("cutover").code == 0
        scene.caught_up()
        assert scene.run("rollback").code == 0
        load.check_not_lost(scene.a)


def test_a_configuration_that_the_config_names_and_nobody_finds_is_told_so(scene):
    by_backup(scene)
    a = scene.a.side_config()
    a["host"]["defaults_file"] = str(scene.a.folder / "no such.cnf")
    scene.a.side_config = lambda: a
    scene.tool.write_config()
    result = scene.tool("setup", timeout_s=120)
    assert result.code == 1 and "no such.cnf" in result.err, result
    assert not leftovers(scene) and not kept(scene)


def test_a_stop_that_fails_leaves_b_as_it_was_and_is_told_so(scene):
    on_machines(scene, [], [])
    b = scene.b.side_config()
    b["host"]["stop"] = ["sh", "-c", "exit 7"]
    scene.tool.write_config()
    result = scene.tool("setup", timeout_s=120)
    assert result.code == 1 and "host.stop" in result.err and "7" in result.err, result
    assert not kept(scene)
    b["host"].pop("stop")
    scene.tool.write_config()
    scene.must("setup", timeout_s=180)
    scene.caught_up()
