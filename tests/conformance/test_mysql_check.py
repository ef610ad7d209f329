"""Pre-flight of MariaDB and MySQL: each finding is provoked on a pair that is otherwise clean, named, and gone when its cause is."""
import json
import shutil
import time

import pytest

from sandbox import wait_for
from sandbox.proxy import Proxy
from sandbox.scenario import Scenario

pytestmark = pytest.mark.engines("mariadb", "mysql")
BOTH = ("mariadb", "mysql")


def codes(scene, stage="cutover"):
    result = scene.tool("check", "--for", stage, json=True)
    return {finding["code"]: finding for finding in result.json["findings"]}


def setting(side, name, value):
    """A global setting that is put back to what it was."""
    def provoke(scene):
        server = scene.server(side)
        was = server.query(f"SELECT @@GLOBAL.{name}")[0][0]
        server.query(f"SET GLOBAL {name} = {value}")
        return lambda: server.query(f"SET GLOBAL {name} = {was!r}")
    return provoke


def statements(side, begin, end):
    def provoke(scene):
        server = scene.server(side)
        for one in begin:
            server.query(one)
        return lambda: [server.query(one) for one in end]
    return provoke


def own(side, begin, end):
    """Statements of root's that don't replicate."""
    def run(scene, some):
        connection = scene.server(side).connect("root", database="app")
        with connection.cursor() as cursor:
            for one in ("SET sql_log_bin=0", *some):
                cursor.execute(one)
        connection.close()

    def provoke(scene):
        run(scene, begin)
        return lambda: run(scene, end)
    return provoke


def session(user, *begin, end=()):
    """Something that lives in a session of its own."""
    def provoke(scene):
        connection = scene.a.connect(user, database="app", timeout_s=60)
        cursor = connection.cursor()
        for one in begin:
            cursor.execute(one)
            cursor.fetchall()
        return lambda: ([cursor.execute(one) for one in end], connection.close())
    return provoke


def on_follower(stop, change, back, start):
    return statements("b", (stop, *change, start), (stop, *back, start))


SQL_THREAD = {"mariadb": ("STOP SLAVE SQL_THREAD", "START SLAVE SQL_THREAD"), "mysql": ("STOP REPLICA SQL_THREAD", "START REPLICA SQL_THREAD")}

# code: (engines, how severe, what provokes it and answers how it is taken back)
FINDINGS = {
    "sync_binlog_not_1": (BOTH, "warning", setting("a", "sync_binlog", 0)),
    "innodb_flush_not_1": (BOTH, "warning", setting("b", "innodb_flush_log_at_trx_commit", 2)),
    "binlog_format_not_row": (("mariadb",), "error", setting("a", "binlog_format", "'STATEMENT'")),
    "gtid_strict_mode_off": (("mariadb",), "warning", setting("b", "gtid_strict_mode", 0)),
    "binlog_row_image_not_full": (BOTH, "info", setting("a", "binlog_row_image", "'MINIMAL'")),
    "sql_mode_differs": (BOTH, "warning", setting("b", "sql_mode", "'ANSI_QUOTES'")),
    "time_zone_differs": (BOTH, "warning", setting("b", "time_zone", "'+03:00'")),
    "character_set_differs": (BOTH, "warning", setting("b", "character_set_server", "'latin2'")),
    "max_connections_less": (BOTH, "warning", setting("b", "max_connections", 40)),
    "max_allowed_packet_less": (BOTH, "warning", setting("b", "max_allowed_packet", 1048576)),
    "parallel_apply_off": (("mariadb",), "info", on_follower("STOP SLAVE SQL_THREAD", ["SET GLOBAL slave_parallel_threads=0"],
                                                            ["SET GLOBAL slave_parallel_threads=4"], "START SLAVE SQL_THREAD")),
    "replication_delayed": (BOTH, "error", {
        "mariadb": on_follower("STOP SLAVE", ["CHANGE MASTER TO MASTER_DELAY=1"], ["CHANGE MASTER TO MASTER_DELAY=0"], "START SLAVE"),
        "mysql": on_follower("STOP REPLICA SQL_THREAD", ["CHANGE REPLICATION SOURCE TO SOURCE_DELAY=1"],
                             ["CHANGE REPLICATION SOURCE TO SOURCE_DELAY=0"], "START REPLICA SQL_THREAD")}),
    "replication_filter": (BOTH, "error", {
        "mariadb": on_follower("STOP SLAVE", ["SET GLOBAL replicate_ignore_table='app.nothing'"], ["SET GLOBAL replicate_ignore_table=''"],
                               "START SLAVE"),
        "mysql": on_follower("STOP REPLICA SQL_THREAD", ["CHANGE REPLICATION FILTER REPLICATE_IGNORE_TABLE=(app.nothing)"],
                             ["CHANGE REPLICATION FILTER REPLICATE_IGNORE_TABLE=()"], "START REPLICA SQL_THREAD")}),
    "replication_without_gtid": (("mariadb",), "error", on_follower("STOP SLAVE", ["CHANGE MASTER TO MASTER_USE_GTID=no"],
                                                                   ["CHANGE MASTER TO MASTER_USE_GTID=slave_pos"], "START SLAVE")),
    "replication_broken": (BOTH, "error", {
        engine: statements("b", (stop,), (start,)) for engine, (stop, start) in SQL_THREAD.items()}),
    "replication_account_too_powerful": (BOTH, "error", statements(
        "a", ["GRANT INSERT ON *.* TO changeover_repl@'%'"], ["REVOKE INSERT ON *.* FROM changeover_repl@'%'"])),
    "accounts_missing": (BOTH, "warning", session(
        "root", "SET sql_log_bin=0", "CREATE USER only_here@'%'", end=("DROP USER only_here@'%'",))),
    "non_transactional_tables": (BOTH, "warning", statements(
        "a", ["CREATE TABLE app.plain (a int PRIMARY KEY) ENGINE=MyISAM"], ["DROP TABLE app.plain"])),
    "tables_without_key": (BOTH, "warning", statements("a", ["CREATE TABLE app.keyless (a int) ENGINE=InnoDB"], ["DROP TABLE app.keyless"])),
    "events_move": (BOTH, "info", statements("a", ["CREATE EVENT app.later ON SCHEDULE EVERY 1 YEAR DO DO 0"], ["DROP EVENT app.later"])),
    "xa_prepared": (BOTH, "error", session("root", "XA START 'x'", "INSERT INTO ledger VALUES ('xa')", "XA END 'x'", "XA PREPARE 'x'",
                                           end=("XA ROLLBACK 'x'",))),
    "manager_in_charge": (BOTH, "warning", lambda scene: (
        scene.a.query("CREATE USER orchestrator@'%' IDENTIFIED BY 'my-secret-7Q'"), session_of(scene, "orchestrator"))[1]),
    "account_shared": (BOTH, "error", session("changeover")),
    "offline_mode_on": (("mysql",), "error", setting("b", "offline_mode", 1)),
    "client_defaults_differ": (BOTH, "warning", setting("b", "innodb_lock_wait_timeout", 7)),
    "auth_plugin_missing": (BOTH, "warning", {
        "mariadb": own("a", ["INSTALL SONAME 'auth_ed25519'", "CREATE USER signs@'%' IDENTIFIED VIA ed25519 USING PASSWORD('x-7Q')"],
                       ["DROP USER signs@'%'", "UNINSTALL SONAME 'auth_ed25519'"]),
        "mysql": own("a", ["INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'", "CREATE USER signs@'%' IDENTIFIED WITH auth_socket"],
                     ["DROP USER signs@'%'", "UNINSTALL PLUGIN auth_socket"])}),
}

# what the replication account, which stays unlocked, might have besides: statements, and their opposites
POWERS = {
    "everything": (BOTH, ["GRANT INSERT ON *.* TO {0}"], ["REVOKE INSERT ON *.* FROM {0}"]),
    "a database": (BOTH, ["GRANT UPDATE ON app.* TO {0}"], ["REVOKE UPDATE ON app.* FROM {0}"]),
    "a table": (BOTH, ["GRANT DELETE ON app.ledger TO {0}"], ["REVOKE DELETE ON app.ledger FROM {0}"]),
    "a column": (BOTH, ["GRANT INSERT (k) ON app.ledger TO {0}"], ["REVOKE INSERT (k) ON app.ledger FROM {0}"]),
    "a routine": (BOTH, ["GRANT EXECUTE ON PROCEDURE app.enter TO {0}"], ["REVOKE EXECUTE ON PROCEDURE app.enter FROM {0}"]),
    "a role": (BOTH, ["CREATE ROLE powerful", "GRANT powerful TO {0}"], ["REVOKE powerful FROM {0}", "DROP ROLE powerful"]),
    "past read_only": (BOTH, {"mariadb": ["GRANT READ ONLY ADMIN ON *.* TO {0}"], "mysql": ["GRANT CONNECTION_ADMIN ON *.* TO {0}"]},
                       {"mariadb": ["REVOKE READ ONLY ADMIN ON *.* FROM {0}"], "mysql": ["REVOKE CONNECTION_ADMIN ON *.* FROM {0}"]}),
    "what all have": (("mariadb",), ["GRANT INSERT ON app.* TO PUBLIC"], ["REVOKE INSERT ON app.* FROM PUBLIC"]),
}


def session_of(scene, user):
    connection = scene.a.connect(user)
    return lambda: (connection.close(), scene.a.query(f"DROP USER {user}@'%'"))


def gone(scene, code):
    """A session that was closed is seen for some moments more."""
    try:
        return wait_for(lambda: code not in codes(scene), 20, f"{code} goes")
    except TimeoutError:
        return False


def test_each_finding_is_provoked_and_goes_with_its_cause(ready):
    clean = codes(ready)
    unseen, stayed = [], []
    for code, (engines, severity, provoke) in FINDINGS.items():
        if ready.engine not in engines:
            continue
        provoke = provoke[ready.engine] if isinstance(provoke, dict) else provoke
        undo = provoke(ready)
        try:
            found = codes(ready).get(code)
        finally:
            undo()
        if not found or found["severity"] != severity or (severity != "info" and not found["remedy"]):
            unseen.append((code, found))
        elif code not in clean and not gone(ready, code):
            stayed.append(code)
    assert not unseen, f"provoked and not found: {unseen}"
    assert not stayed, f"still found when its cause was gone: {stayed}"
    ready.caught_up()
    assert codes(ready).keys() == clean.keys()
    assert ready.run("cutover").code == 0


def test_a_replication_account_that_may_do_more_than_replicate_is_found(ready):
    """It stays unlocked through the fence, and a MariaDB that is started again has forgotten read_only."""
    ready.a.query("GRANT SELECT ON app.* TO changeover_repl@'%'")
    ready.a.query("GRANT PROCESS, REPLICATION CLIENT ON *.* TO changeover_repl@'%'")
    assert "replication_account_too_powerful" not in codes(ready)
    for what, (engines, begin, end) in POWERS.items():
        if ready.engine not in engines:
            continue
        of = {name: [one.format("changeover_repl@'%'") for one in (some[ready.engine] if isinstance(some, dict) else some)]
              for name, some in (("begin", begin), ("end", end))}
        back = own("a", of["begin"], of["end"])(ready)
        found = codes(ready)
        back()
        assert "replication_account_too_powerful" in found, what
        assert found["replication_account_too_powerful"]["severity"] == "error"
    assert "replication_account_too_powerful" not in codes(ready)


def test_a_link_without_a_sign_of_life_is_broken_though_both_of_its_threads_say_yes(scene):
    """A firewall that drops packets: nothing is to be sent, so nothing fails. `lag` sees that no heartbeat comes."""
    relay = Proxy(scene.box.free_port(), scene.a.port)
    scene.box.proxies.append(relay)
    config = scene.a.side_config()
    scene.a.side_config = lambda: {**config, "peer": {"address": f"127.0.0.1:{relay.port}"}}
    scene.tool.write_config()
    scene.set_up()
    scene.b.query(f"SET GLOBAL {'replica' if scene.engine == 'mysql' else 'slave'}_net_timeout=600")  # the server itself waits
    scene.b.cut_link(True)
    scene.b.cut_link(False)
    scene.caught_up()
    relay.cut()
    lines = []
    child = scene.tool.spawn("lag", "--watch=500ms", json=True)

    def broken():
        lines.append(json.loads(child.stdout.readline()))
        return lines[-1]["gate"] == "broken"
    wait_for(broken, 60, "the link is broken")
    assert "nothing was heard" in lines[-1]["pairs"][0]["reason"], lines[-1]
    child.terminate()
    scene.tool.finish(child)
    relay.restore()
    scene.caught_up()


def test_a_follower_that_does_not_get_in_is_broken_with_the_server_s_error(ready):
    """The password was changed on A alone; A itself answers, and nothing is behind."""
    wrong = {"mariadb": "ALTER USER changeover_repl@'%' IDENTIFIED BY 'another-7Q'", "mysql": "ALTER USER changeover_repl@'%' IDENTIFIED BY 'another-7Q'"}
    own("a", [wrong[ready.engine]], [])(ready)
    ready.b.cut_link(True)
    ready.b.cut_link(False)
    wait_for(lambda: "1045" in (ready.tool("lag", json=True).json["pairs"][0]["reason"] or ""), 30, "the server's error is named")
    result = ready.tool("lag", json=True)
    assert result.code == 2 and result.json["gate"] == "broken" and "Access denied" in result.json["pairs"][0]["reason"], result
    assert ready.tool("cutover", "--yes").code in (1, 2) and ready.a.is_open()


def test_an_xa_transaction_that_is_prepared_after_the_check_undoes_the_run(ready):
    """It outlives its session: it could be committed after the position was captured."""
    with ready.tool.held("cutover", "--yes", "--when-ready=20s", "--max-write-pause=60s", at="fence:begin", json=True) as child:
        connection = ready.a.connect("root", database="app")
        with connection.cursor() as cursor:
            for one in ("XA START 'late'", "INSERT INTO ledger VALUES ('xa')", "XA END 'late'", "XA PREPARE 'late'"):
                cursor.execute(one)
        connection.close()
    result = ready.tool.finish(child, 90)
    assert result.code == 4 and "XA" in result.out + result.err, result
    assert ready.a.is_open()
    ready.a.query("XA COMMIT 'late'")
    ready.caught_up()
    assert ready.run("cutover").code == 0 and "xa" in ready.b.read_all()


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_in_every_time_zone_a_transaction_is_long_after_five_seconds(ready, zone):
    """InnoDB's list of transactions is in the system's time zone, the tool's session in UTC."""
    from test_mysql_findings import configured

    with configured(ready.a, "", TZ=zone):
        ready.caught_up("40s")
        holder = ready.a.connect("app", database="app", timeout_s=60)
        began = time.monotonic()
        holder.begin()
        holder.cursor().execute("INSERT INTO ledger VALUES ('open')")
        wait_for(lambda: "long_transactions" in codes(ready), 30, "it is found", 0.2)
        assert time.monotonic() - began > 3, "not before it was long (the clock counts whole seconds)"
        age_s = int(codes(ready)["long_transactions"]["message"].rsplit(" s", 1)[0].rsplit(" ", 1)[1])
        assert 5 <= age_s < 120
        holder.rollback()
        holder.close()


@pytest.mark.engines("mysql")
def test_privileges_that_the_target_does_not_know_are_left_out_and_the_others_given(scene):
    """A newer server, or one without the plugin that brought them: SHOW GRANTS has them, and the target refuses the statement."""
    scene.a.query("CREATE USER dba@'%' IDENTIFIED BY 'x-7Q'")
    scene.a.query("GRANT RELOAD, BACKUP_ADMIN, CLONE_ADMIN ON *.* TO dba@'%'")
    scene.a.query("INSERT INTO mysql.global_grants VALUES ('dba','%','SET_USER_ID','N'), ('dba','%','VERSION_TOKEN_ADMIN','N')")
    scene.a.query("FLUSH PRIVILEGES")
    assert "SET_USER_ID" in str(scene.a.query("SHOW GRANTS FOR dba@'%'"))
    scene.set_up()
    given = str(scene.b.query("SHOW GRANTS FOR dba@'%'"))
    assert all(name in given for name in ("RELOAD", "BACKUP_ADMIN", "CLONE_ADMIN", "SET_ANY_DEFINER", "ALLOW_NONEXISTENT_DEFINER")), given
    assert "VERSION_TOKEN_ADMIN" not in given
    assert "VERSION_TOKEN_ADMIN" in str(scene.ask_journal("SELECT * FROM event")), "the record says what was left out"


def test_a_copy_of_the_files_goes_on_from_the_gtid_position_it_stands_for(box, engine):
    """setup.method: copied, from what a tool that copies pages makes: A's whole data folder, accounts and all, but for what makes a
    server itself."""
    if engine == "mysql-file":
        pytest.skip("mysql-file: test_mysql_file.py has it")
    pair = box.pair(engine, start=False)
    pair.a.start()
    pair.b.start()
    pair.a.fill(pair)
    position = pair.a.query("SELECT @@GLOBAL." + pair.a.gtid_variable)[0][0].replace("\n", "")
    for server in (pair.a, pair.b):
        server.stop()
    shutil.rmtree(pair.b.data)
    shutil.copytree(pair.a.data, pair.b.data, ignore=shutil.ignore_patterns("auto.cnf", "binlog.*", "*.pid"))
    for server in (pair.a, pair.b):
        server.start()
    scene = Scenario.of(box, pair)
    scene.pair.extra["setup"] = {**scene.pair.extra.get("setup", {}), "method": "copied", "position": position}
    scene.tool.write_config()
    with scene.load(writers=2, follow=False) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        scene.must("setup", timeout_s=120)
    scene.caught_up()
    load.check_not_lost(scene.b)
    assert not scene.b.is_open()
    for kind in ("cutover", "rollback"):
        scene.moved_under_load(kind)
        scene.caught_up()


def test_servers_that_pass_for_each_other_and_lower_case_names_are_refused_before_setup(box, engine):
    pair = box.pair(engine, start=False)
    with open(pair.b.folder / "my.cnf", "a", encoding="ascii") as file:
        file.write(f"server-id={pair.a.port}\nlower-case-table-names=1\n" if engine == "mariadb" else f"server-id={pair.a.port}\n")
    for server in (pair.a, pair.b):
        server.start()
    pair.a.fill(pair)
    scene = Scenario.of(box, pair)
    found = codes(scene, "setup")
    assert found["server_id_same"]["severity"] == "error"
    assert engine != "mariadb" or found["lower_case_table_names_differ"]["severity"] == "error"
    before = scene.b.settings()
    assert scene.tool("setup").code == 1
    assert scene.b.settings() == before and scene.a.is_open()
