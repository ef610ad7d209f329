"""PostgreSQL set up where it isn't simple: interrupted at every step, paths that a shell would take apart, TLS between the servers,
configuration outside of the data directory, tablespaces."""
import contextlib
import os
import re
import shutil
import subprocess

import pytest

from sandbox import wait_for
from sandbox.box import Pair
from sandbox.postgresql import own
from sandbox.postgresql_debian import PostgreSQLDebian
from sandbox.scenario import Scenario
from sandbox.terminal import on_terminal

pytestmark = [pytest.mark.engines("postgresql"), pytest.mark.full]


def test_a_setup_that_is_killed_at_each_step_goes_on(scene):
    """Kills do not add up: what is done stays, a copy goes on by itself or is begun again, and nothing is deleted."""
    for point in ("setup.database:before", "setup.database:after", "setup.replication_user:after", "setup.probe:before", "setup.slot:before",
                  "setup.slot:after", "setup.copy:before", "setup.copy:after", "setup.place:before", "setup.place:after",
                  "setup.start:before", "setup.start:after"):
        killed = scene.tool("setup", fault=f"{point}=kill", timeout_s=120)
        assert killed.code == -9, (point, killed)
        scene.tool.wait_quiet()
        assert scene.a.is_open(), point
    scene.set_up()
    assert len([folder for folder in scene.b.folder.iterdir() if folder.name.startswith("data.before-changeover-")]) == 1
    with scene.load(writers=2) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert scene.run().code == 0
    assert scene.check(load, "a") == "b"


def test_a_setup_that_was_taken_over_stops_no_server(scene):
    """It has looked at everything and stands before it would stop the target and put the copy in its place."""
    with scene.tool.held("setup", at="setup.place:before") as child:
        was = scene.b.pid()
        marker = scene.b.data / "changeover.marker"
        assert marker.exists()
        marker.write_text("another run's\n", encoding="ascii")
    result = scene.tool.finish(child)
    assert result.code not in (0, -9) and "marker" in result.err, result
    assert scene.b.pid() == was and scene.b.query("SELECT 1") == [(1,)]
    assert not [folder for folder in scene.b.folder.iterdir() if folder.name.startswith("data.before-changeover-")]


@pytest.mark.parametrize("fence", ["soft", "stop"])
def test_paths_with_spaces_and_quotes(box, engine, fence):
    """As far as pg_ctl bears it, which has a shell take apart what stands in double quotes."""
    pair = box.pair(engine, name="it's a place; (#1)", fence=fence)
    pair.name = "main"
    scene = Scenario.of(box, pair)
    scene.set_up()
    assert scene.run().code == 0
    scene.caught_up()
    assert scene.run("rollback").code == 0


def certificate(folder, name, ca=None):
    """A key and a certificate for 127.0.0.1, signed by `ca` or a CA itself."""
    key, cert = folder / f"{name}.key", folder / f"{name}.crt"
    extra = ["-CA", str(folder / f"{ca}.crt"), "-CAkey", str(folder / f"{ca}.key"), "-addext", "subjectAltName=IP:127.0.0.1"] if ca else []
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key),
                    "-out", str(cert), *extra], check=True, capture_output=True)
    return cert, key


def test_tls_is_verified_between_the_servers_too(box, engine):
    """verify: the tool, replication and pg_rewind refuse a certificate of another authority; nothing goes over plain TCP."""
    certificate(box.folder, "ca")
    pair = box.pair(engine, start=False)
    for server in (pair.a, pair.b):
        for made, name in zip(certificate(box.folder, server.name, "ca"), ("server.crt", "server.key")):
            shutil.copy(made, server.data / name)
            (server.data / name).chmod(0o600)
        with open(server.data / "postgresql.conf", "a", encoding="ascii") as file:
            file.write("ssl = on\n")
        (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n"
                                                 "hostssl replication all 127.0.0.1/32 scram-sha-256\n", encoding="ascii")
        server.own_all()
        server.start()
    pair.a.fill(pair)
    authority = box.folder / "ca.crt"
    authority.chmod(0o644)
    scene = Scenario.of(box, pair)
    plain = type(pair.a).side_config
    for server in (pair.a, pair.b):
        server.side_config = lambda one=server: {**plain(one), "tls": {"mode": "verify", "ca": str(authority)}}
    scene.tool.write_config()
    scene.set_up()
    assert "verify-full" in scene.b.query("SHOW primary_conninfo")[0][0]
    assert scene.a.query("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)") == [(True,)]
    assert scene.run().code == 0
    scene.caught_up()
    assert "verify-full" in scene.a.query("SHOW primary_conninfo")[0][0]
    assert scene.run("rollback").code == 0
    certificate(box.folder, "stranger")
    shutil.copy(box.folder / "stranger.crt", authority)
    assert scene.tool("lag").code == 3
    assert os.path.exists(scene.a.data / "server.key")


def on_a_terminal(argv, environment):
    """What the command writes to its terminal; it must end with 0."""
    code, shown = on_terminal(argv, {**environment, "TERM": "xterm"}, timeout_s=120, columns=120)
    assert code == 0, shown
    return shown


def test_a_terminal_shows_how_far_a_base_backup_is_and_what_is_waited_for(box, engine):
    """Bytes done of total, rate, time left; then each wait by name. The copy is slowed down where pg_basebackup is called."""
    pair = box.pair(engine)
    pair.a.query("CREATE TABLE big AS SELECT n, repeat('x', 900) FROM generate_series(1, 40000) n", "app", "postgres")
    programs = box.folder / "programs"
    programs.mkdir()
    for one in os.listdir(pair.b.programs):
        (programs / one).symlink_to(f"{pair.b.programs}/{one}")
    (programs / "pg_basebackup").unlink()
    (programs / "pg_basebackup").write_text(f'#!/bin/sh\nexec {pair.b.programs}/pg_basebackup --max-rate=12M "$@"\n', encoding="ascii")
    (programs / "pg_basebackup").chmod(0o755)
    plain = type(pair.b).side_config
    pair.b.side_config = lambda: (lambda config: (config["host"].update(bin_directory=str(programs)), config)[1])(plain(pair.b))
    scene = Scenario.of(box, pair)
    shown = on_a_terminal(scene.tool.argv(("setup",), False), scene.tool.environment())
    lines = re.findall(r"base backup: ([\d.]+) MiB of ([\d.]+) MiB \((\d+) %\), [\d.]+ [KM]iB/s, \d+ s left", shown)
    assert len(lines) >= 3, shown
    done = [float(line[0]) for line in lines]
    assert done == sorted(done) and done[-1] <= float(lines[-1][1]) and int(lines[-1][2]) <= 100, lines
    assert "put the copy in its place" in shown and "start the standby and see it replay" in shown, shown
    scene.caught_up()
    shown = on_a_terminal(scene.tool.argv(("cutover", "--yes", "--when-ready=20s"), False), scene.tool.environment())
    waits = ["gate closed: within the limits for"]
    if pair.extra.get("fence") != "stop":
        waits += ["stopping the server that is to follow", "pg_rewind takes back what only this server has"]
    for wait in [*waits, "starting it as a standby"]:
        assert wait in shown, (wait, shown)


# ---------------------------------------------------------------- Debian's clusters

def debian_pair(box, **options):
    if PostgreSQLDebian.missing():
        pytest.skip(PostgreSQLDebian.missing())
    a, b = (box.add(PostgreSQLDebian(box, name)) for name in ("main-a", "main-b"))
    pair = Pair("main", "postgresql", a, b)
    a.prepare_pair(pair, **options)
    for server in (a, b):
        server.start()
    a.fill(pair)
    return pair


def there(scene, side):
    """In service with what is its own: the port, the paths, who is let in."""
    server = scene.server(side)
    return server.query("SELECT current_setting('port')::int, current_setting('data_directory'), current_setting('config_file'), "
                        "current_setting('hba_file'), current_setting('unix_socket_directories')")[0]


@pytest.mark.parametrize("fence", ["soft", "stop"])
def test_a_debian_cluster_keeps_its_configuration_there_and_back(box, fence):
    """pg_createcluster's: configuration in a folder of its own, another one on each side, pg_ctlcluster to start and stop."""
    scene = Scenario.of(box, debian_pair(box, fence=fence))
    with open(scene.b.etc / "pg_hba.conf", "a", encoding="ascii") as file:
        file.write("host app app 192.0.2.7/32 scram-sha-256  # only on B\n")
    with open(scene.b.etc / "conf.d" / "own.conf", "w", encoding="ascii") as file:
        file.write("work_mem = 7MB\n")
    scene.b.query("SELECT pg_reload_conf()")
    files = {side: scene.server(side).own_files() for side in "ab"}
    before = {side: there(scene, side) for side in "ab"}
    assert before["a"][0] != before["b"][0] and before["b"][2] == str(scene.b.etc / "postgresql.conf")
    scene.set_up()
    assert not (scene.b.data / "postgresql.conf").exists()
    for kind, primary in (("cutover", "b"), ("rollback", "a"), ("cutover", "b")):
        source = scene.primary
        with scene.load(writers=4) as load:
            wait_for(lambda: load.count() > 20, 20, "the load runs")
            assert scene.run(kind).code == 0
        assert scene.check(load, source, committed=True) == primary
        scene.caught_up()
        assert {side: there(scene, side) for side in "ab"} == before
        assert {side: scene.server(side).own_files() for side in "ab"} == files
        assert scene.b.query("SHOW work_mem") == [("7MB",)]
    scene.must("detach", "--yes")
    assert scene.b.own_files() == files["b"]


# ---------------------------------------------------------------- tablespaces

def tablespace(pair, folder):
    """On the source, with a table that is read after each move."""
    folder.mkdir()
    own(folder)
    pair.a.query(f"CREATE TABLESPACE apart LOCATION '{folder}'")
    pair.a.query("CREATE TABLE there TABLESPACE apart AS SELECT n FROM generate_series(1, 20000) n", "app", "postgres")


def in_tablespace(server):
    """(rows that are read, the folder as the server sees it)"""
    return server.query("SELECT count(*), (SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'apart') FROM there",
                        "app", "postgres")[0]


def there_and_back_with_tablespace(scene, of_a, of_b):
    """Cutover, a write into the tablespace on B, rollback (with a rewind), a write on A, cutover."""
    rows = 20000
    for kind in ("cutover", "rollback", "cutover"):
        assert scene.run(kind).code == 0
        scene.caught_up()
        server = scene.server(scene.primary)
        server.query(f"INSERT INTO there SELECT generate_series(1, {rows // 2})", "app", "postgres")
        rows += rows // 2
        scene.caught_up()
        for side, folder in (("a", of_a), ("b", of_b)):
            wait_for(lambda: in_tablespace(scene.server(side)) == (rows, str(folder)), 20, f"{side} has it after {kind}")


def test_tablespaces_on_one_machine_need_folders_of_their_own(box, engine):
    """The same path is A's: refused before anything is changed, with what to do; named in the config, it is another one."""
    pair = box.pair(engine)
    of_a, of_b = box.folder / "spaces of = a", box.folder / "spaces of = b"
    tablespace(pair, of_a)
    scene = Scenario.of(box, pair)
    before = scene.a.settings(), sorted(path.name for path in scene.b.folder.iterdir())
    for command in ("check", "setup"):
        refused = scene.tool(command, json=True)
        said = refused.out + refused.err
        assert refused.code == 1 and "tablespace_not_usable" in said and "is not empty" in said, refused
        assert "setup: {tablespaces: [/folder/on/a=/folder/on/b]}" in said, refused
    assert (scene.a.settings(), sorted(path.name for path in scene.b.folder.iterdir())) == before

    scene.pair.extra["setup"]["tablespaces"] = ["nonsense"]
    scene.tool.write_config()
    assert "setup.tablespaces can't be read" in scene.tool("check").out

    scene.pair.extra["setup"]["tablespaces"] = [f"{of_a}={of_b}"]
    scene.tool.write_config()
    own(box.folder)
    planned = scene.must("setup", "--dry-run").out
    assert str(of_b).replace("=", "\\=") in planned, planned
    scene.set_up()
    assert in_tablespace(scene.b) == (20000, str(of_b))
    assert not list(scene.b.folder.glob("*.spaces"))
    there_and_back_with_tablespace(scene, of_a, of_b)


def test_a_copy_with_tablespaces_that_dies_is_begun_again(box, engine):
    """What it left in the tablespace's folder isn't taken for somebody's data; what is somebody's is."""
    pair = box.pair(engine)
    of_a, of_b = box.folder / "of-a", box.folder / "of-b"
    tablespace(pair, of_a)
    pair.a.query("CREATE TABLE big TABLESPACE apart AS SELECT n, repeat('x', 500) FROM generate_series(1, 60000) n", "app", "postgres")
    scene = Scenario.of(box, pair)
    of_b.mkdir()
    own(of_b)
    scene.pair.extra["setup"]["tablespaces"] = [f"{of_a}={of_b}"]
    scene.tool.write_config()
    killed = scene.tool("setup", fault="setup.copy:after=kill", timeout_s=60)
    assert killed.code == -9, killed
    scene.tool.wait_quiet()
    state = scene.b.folder / "data.changeover-copy.state"
    wait_for(lambda: state.read_text(encoding="ascii").startswith("done"), 60, "the copy is there")
    state.write_text("running 999999 gone\n", encoding="ascii")  # as if its machine had been switched off meanwhile
    assert list(of_b.iterdir())
    scene.set_up()
    assert in_tablespace(scene.b) == (20000, str(of_b))
    # a new copy over a standby that has its tablespace there: that is not the copy's to remove
    scene.pair.extra["setup"]["replace_b"] = True
    scene.tool.write_config()
    scene.b.stop()
    (scene.b.data / "standby.signal").unlink()
    refused = scene.tool("setup", json=True, timeout_s=60)
    assert refused.code == 1 and "belongs to the data directory that is there" in refused.out, refused
    assert list(of_b.iterdir())


@contextlib.contextmanager
def machine_of_its_own(folder, over):
    """A mount namespace in which `folder` lies over `over`: as if another machine had another disk there. Yields its command prefix."""
    child = subprocess.Popen(["unshare", "-m", "sh", "-c", 'mount --make-rprivate / && mount --bind "$1" "$2" && echo ready && exec sleep 600',
                              "sh", str(folder), str(over)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = child.stdout.readline()
        if said != "ready\n":
            pytest.skip(f"a mount namespace can't be had here: {said.strip()}")
        yield ["nsenter", f"--mount=/proc/{child.pid}/ns/mnt", "--"]
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(os.getuid() != 0, reason="another machine's disk is a mount namespace, which needs root")
def test_tablespaces_on_another_machine_keep_their_paths(box, engine):
    """Without a word in the config."""
    of_a, disk = box.folder / "fast", box.folder / "disk-of-b"
    disk.mkdir()
    own(disk)
    pair = box.pair(engine, start=False)
    pair.a.start()
    pair.a.fill(pair)
    tablespace(pair, of_a)
    with machine_of_its_own(disk, of_a) as prefix:
        pair.b.__class__ = type("Elsewhere", (type(pair.b),), {"prefix": prefix})
        pair.b.start()
        scene = Scenario.of(box, pair)
        assert "tablespace_not_usable" not in scene.must("check").out
        scene.set_up()
        there_and_back_with_tablespace(scene, of_a, of_a)
        assert list(disk.iterdir()) and list(of_a.iterdir())
        pair.b.stop()
