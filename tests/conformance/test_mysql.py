"""What only MariaDB and MySQL have: locks held by clients, events, accounts, GTIDs that nobody may make."""
import json
import re
import threading

import pytest

from sandbox import wait_for
from sandbox.mariadb import PASSWORD
from sandbox.proxy import Proxy
from sandbox.scenario import PATIENTLY, now_ns

pytestmark = pytest.mark.engines("mariadb", "mysql")


def no_stray_gtids(scene):
    """Each transaction of the follower is one of the primary's."""
    primary, follower = scene.server(scene.primary), scene.server("b" if scene.primary == "a" else "a")

    def contained():
        own = follower.query("SELECT @@GLOBAL." + follower.gtid_variable)[0][0].replace("\n", "")
        return primary.query(primary.gtid_contains.format(own=own, all=primary.query("SELECT @@GLOBAL." + primary.gtid_variable)[0][0]
                                                          .replace("\n", "")))[0][0] == 1
    wait_for(contained, 20, "the follower has no transactions of its own")


def test_a_lock_that_a_client_holds_undoes_the_run_and_leaves_nothing_pending(ready):
    before = ready.a.settings()
    holder = ready.a.connect("root", database="app", timeout_s=60)
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLES ledger WRITE")
        result = ready.tool("cutover", "--yes", "--when-ready=20s", json=True)
        assert result.code == 4 and result.json["unavailable_ms"] <= 15000, result  # max_write_pause + undo_budget
        waiting = ready.a.query("SELECT ID, INFO FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for%lock%'")
        assert not waiting, waiting
        cursor.execute("INSERT INTO ledger VALUES ('while locked')")
        cursor.execute("UNLOCK TABLES")
    holder.close()
    assert ready.a.settings() == before
    assert ready.a.is_open() and not ready.b.is_open()
    assert ready.run("cutover").code == 0


def test_events_run_on_the_primary_and_nowhere_else(ready):
    ready.a.query("SET GLOBAL event_scheduler=ON")
    ready.b.query("SET GLOBAL event_scheduler=ON")
    connection = ready.a.connect("root", database="app")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE beat (at timestamp(6) PRIMARY KEY, host int)")
        cursor.execute("SET sql_mode='ANSI_QUOTES,NO_ZERO_DATE'")
        cursor.execute("CREATE DEFINER=app@'%' EVENT beats ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.beat VALUES (NOW(6), @@server_id)")
        cursor.execute("CREATE EVENT app.sleeps ON SCHEDULE EVERY 1 SECOND DISABLE DO INSERT INTO app.beat VALUES (NOW(6), -1)")
    connection.close()

    def events(server):
        return {name: (status, definer, mode) for name, status, definer, mode in
                server.query("SELECT EVENT_NAME, STATUS, DEFINER, SQL_MODE FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'app'")}

    def beats(server):
        return server.query(f"SELECT COUNT(*) FROM app.beat WHERE host = {server.port}")[0][0]
    wait_for(lambda: beats(ready.a) > 1, 20, "the event runs on A")
    wait_for(lambda: "sleeps" in events(ready.b), 20, "B has the events")
    told = events(ready.a)["beats"]
    for kind in ("cutover", "rollback"):
        assert ready.run(kind).code == 0
        primary = ready.server(ready.primary)
        old = ready.b if ready.primary == "a" else ready.a
        at, still = beats(primary), beats(old)
        wait_for(lambda: beats(primary) > at, 20, "the event runs on the new primary")
        assert events(primary)["beats"] == told, "definer and sql_mode as before"
        assert "ENABLED" not in [status for status, *_ in events(old).values()]
        assert events(primary)["sleeps"][0] != "ENABLED"
        assert old.query(f"SELECT COUNT(*) FROM app.beat WHERE host = {old.port}")[0][0] == still, "not on the old one"
    no_stray_gtids(ready)


def test_nobody_makes_transactions_of_his_own_on_the_follower(ready):
    for kind in ("cutover", "rollback"):
        with ready.load(writers=4) as load:
            wait_for(lambda: load.count() > 20, 20, "the load runs")
            assert ready.run(kind).code == 0
        no_stray_gtids(ready)
    assert ready.tool("cutover", *PATIENTLY, fault="promote:end=error").code == 4
    no_stray_gtids(ready)


def test_accounts_that_were_locked_stay_locked(ready):
    ready.a.query("CREATE USER sleeper@'%' IDENTIFIED BY 'x-7Q' ACCOUNT LOCK")
    ready.must("lag", "--wait=30s")
    for kind in ("cutover", "rollback"):
        assert ready.run(kind).code == 0
        assert ready.server(ready.primary).is_locked("sleeper")
        assert not ready.server(ready.primary).is_locked("app")


def test_an_account_that_the_tool_shares_is_found(ready):
    other = ready.a.connect("changeover")
    result = ready.tool("check", "--for", "cutover", json=True)
    other.close()
    assert "account_shared" in [finding["code"] for finding in result.json["findings"]], result


def test_an_event_of_the_tools_account_is_no_other_session_of_it(ready):
    """Its thread bears the definer's name; a cutover was refused for that now and then."""
    ready.a.query("SET GLOBAL event_scheduler = ON")
    ready.a.query("CREATE EVENT app.naps ON SCHEDULE EVERY 1 HOUR DO DO SLEEP(20)")
    wait_for(lambda: ready.a.query("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(20)%' AND"
                                   " ID <> CONNECTION_ID()")[0][0], 10, "the event runs")
    result = ready.tool("check", "--for", "cutover", json=True)
    assert "account_shared" not in [finding["code"] for finding in result.json["findings"]], result


def test_transactions_made_on_the_follower_are_found_and_refused(ready, engine):
    if engine == "mysql-file":
        pytest.skip("mysql-file: without GTIDs they can't be seen; test_mysql_file.py sees that check says so")
    if ready.engine == "mysql":
        ready.b.query("SET GLOBAL super_read_only=0")
    ready.b.query("CREATE TABLE app.stray (a int)")
    result = ready.tool("check", "--for", "cutover", json=True)
    assert "errant_transactions" in [finding["code"] for finding in result.json["findings"]], result
    assert ready.tool("cutover", "--yes").code in (1, 2)
    assert ready.a.is_open()


def test_root_that_keeps_trying_writes_nothing_on_the_follower(ready):
    """Our own rows need super_read_only off for a moment: seen to let a write of root's through."""
    with ready.load(writers=1, kinds=("superuser",), pause_s=0.0005) as load:  # one writer alone stays with b
        wait_for(lambda: load.writers[0].tried > 20, 20, "root tries")
        assert ready.tool("cutover", *PATIENTLY, fault="promote:end=error").code == 4
    assert load.count() == 0, load.entries()[:5]
    no_stray_gtids(ready)


def test_a_setup_that_does_not_reach_b_is_3_and_says_why(scene):
    scene.b.stop()
    result = scene.tool("setup", json=True)
    said = result.json["errors"][0]["message"]
    assert result.code == 3 and "side b" in said and "Connection refused" in said, result


def make_read_only_last(scene):
    """Where the server itself can't keep read_only over a restart, its configuration says so."""
    if scene.engine == "mariadb":
        scene.b.stop()
        with open(scene.b.folder / "my.cnf", "a", encoding="ascii") as file:
            file.write("read-only=1\n")
        scene.b.start()


def test_what_init_prints_is_enough_for_every_command(scene):
    """An administrator pastes what `init --grants` says; with nothing else everything works, and who only looks sees lag and status."""
    make_read_only_last(scene)  # else every account of B is locked, that of who only looks too
    document = scene.tool.document()
    pair = document["pairs"][0]

    def log_in_as(user):
        for side in ("a", "b"):
            pair[side]["url"] = re.sub(r"//\w+@", f"//{user}@", pair[side]["url"])
        scene.tool.write_config(json.dumps(document))
    pair["probe"]["user"] = "prober"
    log_in_as("mover")
    printed = scene.tool("init", "--grants", json=True).json["grants"]
    assert [one["side"] for one in printed] == [None], printed
    for server in (scene.a, scene.b):
        connection = server.connect("root")
        with connection.cursor() as cursor:
            for statement in re.sub(r"--.*", "", printed[0]["statements"]).replace("<password>", PASSWORD).split(";"):
                if statement.strip():
                    cursor.execute(statement)
        connection.close()
    for command in (("check",), ("setup",), ("check", "--for", "cutover"), ("lag", "--wait=30s"), ("status",)):
        scene.must(*command, timeout_s=120)
    log_in_as("changeover_monitor")
    scene.must("lag", "--wait=20s")
    sides = scene.must("status", json=True).json["pairs"][0]
    assert (sides["a"]["role"], sides["b"]["role"]) == ("primary", "follower"), sides
    log_in_as("mover")
    for command in (("cutover", "--yes", "--when-ready=20s"), ("rollback", "--check"), ("rollback", "--yes", "--when-ready=20s"), ("detach", "--yes")):
        scene.must(*command, timeout_s=120)


def write_on_b(scene, user):
    connection = scene.b.connect(user, database="app")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM ledger")
            assert cursor.fetchone()[0] >= 200, "reads stay"
            cursor.execute("INSERT INTO ledger VALUES ('on b')")
    finally:
        connection.close()


def test_after_setup_b_is_read_by_ordinary_accounts_and_written_by_nobody(scene):
    make_read_only_last(scene)
    scene.set_up()
    for restart in (False, True):
        if restart:
            scene.b.crash_and_restart()
            scene.caught_up("40s")
        with pytest.raises(Exception, match="read-only|read_only|1290|1836"):
            write_on_b(scene, "app")
        with pytest.raises(Exception, match="lock"):
            write_on_b(scene, "root")
    before = scene.b.settings()
    with scene.load(writers=3, kinds=("ordinary", "superuser", "reconnecting")) as load:
        wait_for(lambda: load.count() > 10, 20, "the load runs")
        assert scene.tool("cutover", *PATIENTLY, fault="prove:end=error").code == 4
    scene.check(load, "a", committed=False)
    assert scene.b.settings() == before, "reads stay after an undo, too"
    assert scene.run("cutover").code == 0
    assert scene.b.is_open() and not scene.a.is_open()
    no_stray_gtids(scene)


def test_an_account_that_gets_past_read_only_on_b_makes_the_lag_broken(scene):
    """On MySQL super_read_only holds it; on MariaDB nothing but a lock does."""
    make_read_only_last(scene)
    scene.set_up()
    scene.a.query("CREATE USER dba@'%' IDENTIFIED BY 'x-7Q'")
    scene.a.query("GRANT ALL ON *.* TO dba@'%' WITH GRANT OPTION")
    wait_for(lambda: scene.b.query("SELECT COUNT(*) FROM mysql.user WHERE User = 'dba'")[0][0], 20, "the account arrives")
    if scene.engine == "mariadb":
        result = scene.tool("lag", json=True)
        assert result.code == 2 and "dba" in result.json["pairs"][0]["reason"], result
        scene.must("setup")
    scene.caught_up()
    assert scene.run("cutover").code == 0
    assert not scene.b.is_locked("dba")
    scene.b.query("CREATE USER late@'%' IDENTIFIED BY 'x-7Q'")
    scene.b.query("GRANT ALL ON *.* TO late@'%' WITH GRANT OPTION")
    wait_for(lambda: scene.a.query("SELECT COUNT(*) FROM mysql.user WHERE User = 'late'")[0][0], 20, "the account arrives")
    if scene.engine == "mariadb":
        assert scene.tool("lag", json=True).code == 2
        scene.must("setup")  # on the way back too
    scene.caught_up()
    assert scene.run("rollback").code == 0


@pytest.mark.full
def test_20_there_and_back_with_an_event_a_second_and_no_errant_gtid(ready):
    """8 writers (root, autocommit=0, a stored procedure, a FLUSH loop, reconnecting, long) and an event that writes."""
    ready.a.query("SET GLOBAL event_scheduler=ON")
    ready.b.query("SET GLOBAL event_scheduler=ON")
    ready.a.query("CREATE TABLE app.beat (at timestamp(6) PRIMARY KEY, host int)")
    ready.a.query("CREATE EVENT app.beats ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.beat VALUES (NOW(6), @@server_id)")
    ready.caught_up()
    for _ in range(20):
        for kind in ("cutover", "rollback"):
            source, since = ready.primary, now_ns()
            with ready.load(writers=8) as load:
                wait_for(lambda: load.count() > 50, 20, "the load runs")
                before = load.count()
                result = ready.run(kind, json=True)
                assert result.code == 0, result
                wait_for(lambda: load.count() > before + 50, 20, "writes go on")
            assert ready.check(load, source, since, committed=True) != source
            no_stray_gtids(ready)
    assert {row[0] for row in ready.a.query("SELECT DISTINCT host FROM app.beat")} == {ready.a.port, ready.b.port}


class Slowed:
    """Stops a server nine tenths of the time."""

    def __init__(self, server):
        self.server, self.ending = server, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.ending.is_set():
            self.server.freeze()
            self.ending.wait(0.09)
            self.server.thaw()
            self.ending.wait(0.01)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        self.server.thaw()


def test_a_replica_that_applies_slower_than_a_writes_is_found_at_the_gate(ready):
    single = "replica_parallel_workers=1" if ready.engine == "mysql" else "slave_parallel_threads=0"
    ready.b.pause_apply(True)
    ready.b.query(f"SET GLOBAL {single}")
    ready.b.pause_apply(False)
    ready.caught_up()
    before = ready.a.settings()
    with ready.load(writers=8, kinds=("ordinary",), pause_s=0.0005, follow=False) as load:
        wait_for(lambda: load.count() > 100, 20, "the load runs")
        with Slowed(ready.b):
            result = ready.tool("cutover", "--yes", "--when-ready=8s", json=True, timeout_s=90)
        assert result.code in (1, 2), result
        at = load.count("a")
        wait_for(lambda: load.count("a") > at + 50, 20, "A takes writes")
    assert "fence" not in [phase["name"] for phase in result.json["phases"]], "found before anything is fenced"
    assert "parallel" in result.out + result.err, "the remedy is named"
    load.check_not_lost(ready.a)
    assert ready.a.settings() == before


@pytest.mark.engines("mysql")
def test_over_tls_a_frozen_target_does_not_hang_the_tool(scene):
    """Its reads blocked, whatever the deadline: the guardian had to end the tool, and hung on the target itself."""
    for side in ("a", "b"):
        server = scene.server(side)
        server.side_config = lambda made=server.side_config(): {**made, "tls": {"mode": "require"}}
    scene.tool.write_config()
    scene.set_up()
    with scene.tool.held("cutover", "--yes", "--when-ready=20s", at="catch_up:begin", json=True) as child:
        scene.b.freeze()
    result = scene.tool.finish(child, 40)
    assert result.code == 4 and result.json["primary"] == "a", result
    assert scene.a.is_open()
    looked = scene.tool("lag", json=True)
    assert looked.code == 3, looked
    scene.b.thaw()
    scene.must("resume", code=4)
    scene.caught_up()


def logins(server):
    return {user: plugin for user, plugin in server.query("SELECT User, plugin FROM mysql.user WHERE User IN "
                                                          "('changeover', 'changeover_repl', 'app')")}


@pytest.mark.engines("mysql")
@pytest.mark.parametrize("tls", ["off", "require"])
def test_caching_sha2_password_logs_in_with_and_without_tls_in_both_directions(scene, tls):
    """The tool, the probe and the replication account; each server is restarted, so that none has the password in its cache."""
    for side in (scene.a, scene.b):
        side.stop()
        side.start()
    scene.pair.extra["link"] = {"tls": tls}
    for side in (scene.a, scene.b):
        config = side.side_config()
        side.side_config = lambda config=config: {**config, "tls": {"mode": tls}}
    scene.tool.write_config()
    scene.set_up()
    for server in (scene.a, scene.b):
        assert set(logins(server).values()) == {"caching_sha2_password"} and len(logins(server)) == 3
    for kind in ("cutover", "rollback"):
        follower = scene.server("a" if scene.primary == "b" else "b")
        assert scene.run(kind).code == 0
        follower = scene.server("a" if scene.primary == "b" else "b")
        encrypted = follower.query("SELECT SSL_ALLOWED FROM performance_schema.replication_connection_configuration")[0][0]
        assert encrypted == ("YES" if tls == "require" else "NO")
        primary = scene.server(scene.primary)
        primary.crash_and_restart()  # its cache of passwords is empty: the replica logs in anew
        scene.caught_up("40s")


class Counted(Proxy):
    """A relay that counts what the source sends."""

    def __init__(self, port, target):
        self.sent = 0
        super().__init__(port, target, change=self.count)

    def count(self, data):
        self.sent += len(data)
        return data


def test_a_dump_that_is_compressed_on_its_way_takes_less_of_the_wire(scene):
    """The same data twice, through a relay between the source and the tool."""
    connection = scene.a.connect("root", database="app")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE long_texts (id INT PRIMARY KEY, t TEXT) ENGINE=InnoDB")
        cursor.executemany("INSERT INTO long_texts VALUES (%s, REPEAT('the same again ', 3000))", [(n,) for n in range(100)])
    connection.close()
    port = scene.box.free_port()
    relay = Counted(port, scene.a.port)
    scene.box.proxies.append(relay)
    config = scene.a.side_config()
    url = config["url"].replace(f":{scene.a.port}", f":{port}")
    scene.a.side_config = lambda: {**config, "url": url, "peer": {"address": f"127.0.0.1:{scene.a.port}"}}
    setup = scene.pair.extra.get("setup", {})
    sent = {}
    for compress in (False, True):
        scene.pair.extra["setup"] = {**setup, "method": "dump", "replace_b": True, "compress": compress}
        scene.tool.write_config()
        before = relay.sent
        scene.must("setup", timeout_s=120)
        sent[compress] = relay.sent - before
        scene.caught_up()
        assert scene.b.query("SELECT SUM(LENGTH(t)) FROM app.long_texts") == scene.a.query("SELECT SUM(LENGTH(t)) FROM app.long_texts")
        if not compress:
            scene.must("detach", "--yes")
            scene.b.query("SET GLOBAL read_only=0")  # the old target stays closed; it is to be replaced
    assert sent[False] > 4500000 and sent[True] < sent[False] / 5, sent
    assert scene.run("cutover").code == 0


@pytest.mark.full
def test_a_copy_that_takes_more_than_a_minute_is_not_ended(scene):
    setup = scene.pair.extra.get("setup", {})
    dump = setup.get("dump_program", ["mariadb-dump"])
    script = "program=$1; shift; \"$program\" \"$@\" | { head -c 1500; sleep 70; cat; }"
    scene.pair.extra["setup"] = {**setup, "dump_program": ["sh", "-c", script, "slow", *dump]}
    scene.tool.write_config()
    began = now_ns()
    with scene.load(writers=2, follow=False) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        scene.must("setup", timeout_s=180)
    assert now_ns() - began > 70e9
    scene.caught_up()
    load.check_not_lost(scene.b)
    assert scene.run("cutover").code == 0


@pytest.mark.engines("mysql")
def test_setup_by_clone_copies_everything_and_the_server_that_nobody_supervises_is_started(scene):
    """Accounts and events come along with the pages; B refuses writes when it comes up."""
    scene.a.query("CREATE EVENT app.beats ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.ledger VALUES (UUID())")
    scene.a.query("CREATE USER dba@'%' IDENTIFIED BY 'x-7Q'")
    scene.a.query("GRANT ALL ON *.* TO dba@'%' WITH GRANT OPTION")
    script = scene.box.folder / "start-b"
    script.write_text(f"#!/bin/sh\npid=$(cat {scene.b.folder}/pid 2>/dev/null) && kill -0 $pid 2>/dev/null && exit 0\n"
                      f"exec setsid {' '.join(scene.b.argv())} </dev/null >/dev/null 2>&1 &\n")
    script.chmod(0o755)
    scene.pair.extra["setup"] = {"method": "clone"}
    config = scene.b.side_config()
    scene.b.side_config = lambda: {**config, "host": {"run": [], "start": [str(script)]}}
    scene.tool.write_config()
    with scene.load(writers=3, follow=False) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        scene.must("setup", timeout_s=120)
    scene.caught_up()
    assert "ENABLED" not in [row[0] for row in scene.b.query("SELECT STATUS FROM information_schema.EVENTS")]
    assert scene.b.is_locked("root") and scene.b.is_locked("dba") and not scene.b.is_open()
    assert scene.b.query("SELECT COUNT(*) FROM performance_schema.persisted_variables WHERE VARIABLE_NAME = 'event_scheduler'")[0][0] == 0
    load.check_not_lost(scene.b)
    no_stray_gtids(scene)
    scene.must("setup")  # again: nothing to do
    assert scene.run("cutover").code == 0 and scene.b.is_open()
    assert not scene.b.is_locked("dba")


@pytest.mark.engines("mysql")
def test_a_clone_over_a_b_that_holds_data_is_refused_unless_told_so(scene):
    scene.b.query("CREATE DATABASE precious")
    scene.pair.extra["setup"] = {"method": "clone"}
    scene.tool.write_config()
    result = scene.tool("setup", json=True)
    assert result.code == 1 and "precious" in result.out + result.err, result
    assert scene.b.query("SHOW DATABASES LIKE 'precious'")


def towards(scene, port, channel=""):
    """Statements that make a server follow whoever is at that port of this host."""
    password = (scene.box.folder / "my.password").read_text(encoding="ascii").strip()
    if scene.engine == "mysql":
        return [f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='changeover_repl', "
                f"SOURCE_PASSWORD='{password}', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1 FOR CHANNEL '{channel}'",
                f"START REPLICA FOR CHANNEL '{channel}'"]
    name = f" '{channel}'" if channel else ""
    return [f"CHANGE MASTER{name} TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='changeover_repl', "
            f"MASTER_PASSWORD='{password}', MASTER_USE_GTID=slave_pos", f"START SLAVE{name}"]


def test_of_two_sources_on_one_host_the_pair_s_own_is_looked_after(ready, engine):
    """Told by the host alone, the first one was: its lag stood for the pair's."""
    if engine == "mysql-file":
        pytest.skip("mysql-file: a second replication of file and position says nothing new")
    word = "REPLICA" if ready.engine == "mysql" else "SLAVE"
    for statement in (f"STOP {word}", f"RESET {word} ALL", *towards(ready, ready.a.port, "two"), *towards(ready, 1)):
        ready.b.query(statement)
    ready.must("lag", "--wait=30s", timeout_s=60)


def test_an_old_primary_that_follows_another_server_of_the_host_is_pointed_to_the_new_one(ready, engine):
    """Told by the host alone, it was taken to follow already."""
    if engine == "mysql-file":
        pytest.skip("mysql-file: there it has a position of the other server's log")
    with ready.tool.held("cutover", *PATIENTLY, at="reverse:begin") as child:  # B is open
        for statement in towards(ready, 1):
            ready.a.query(statement)
    result = ready.tool.finish(child, 90)
    ready.note(result.code, "a")
    assert result.code == 0, result
    ready.caught_up()
