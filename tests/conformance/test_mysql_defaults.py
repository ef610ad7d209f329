"""Servers whose defaults, accounts and events aren't what a tool is written with: every global default that a session takes over,
odd names, anonymous and proxied accounts, roles, definers that are gone, other character sets."""
import contextlib

import pymysql
import pytest

from sandbox import wait_for
from sandbox.mariadb import PASSWORD
from sandbox.scenario import now_ns, unchanged

pytestmark = pytest.mark.engines("mariadb", "mysql")

# name: (engines, {variable: value}); each is a GLOBAL that sessions begin with, or that changes how a server takes statements
DEFAULTS = {
    "autocommit": ("mariadb mysql", {"autocommit": 0}),
    "sql_mode": ("mariadb mysql", {"sql_mode": "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE,IGNORE_SPACE'"}),
    "sql_mode_oracle": ("mariadb", {"sql_mode": "'ORACLE,EMPTY_STRING_IS_NULL,PAD_CHAR_TO_FULL_LENGTH'"}),
    "engine": ("mariadb mysql", {"default_storage_engine": "MyISAM"}),
    "timeouts": ("mariadb mysql", {"wait_timeout": 5, "interactive_timeout": 5, "net_write_timeout": 5, "net_read_timeout": 5}),
    "idle_transactions": ("mariadb", {"idle_transaction_timeout": 1, "idle_write_transaction_timeout": 1, "max_statement_time": 1}),
    "locks": ("mariadb mysql", {"lock_wait_timeout": 1, "innodb_lock_wait_timeout": 1}),
    "isolation": ("mariadb", {"tx_isolation": "'SERIALIZABLE'"}),
    "isolation_mysql": ("mysql", {"transaction_isolation": "'SERIALIZABLE'", "max_execution_time": 1}),
    "short_lists": ("mariadb mysql", {"group_concat_max_len": 4}),
    "limits": ("mariadb mysql", {"sql_select_limit": 1}),
    "joins": ("mysql", {"max_join_size": 1}),  # neither a MariaDB's own replication nor mysqldump gets on with it
    "functions": ("mariadb mysql", {"log_bin_trust_function_creators": 1}),
    "init_connect": ("mariadb mysql", {"init_connect": "'SET sql_mode=''ANSI_QUOTES'', @said=1'"}),
    "character_sets": ("mariadb mysql", {"character_set_client": "latin1", "character_set_results": "latin1",
                                         "character_set_connection": "latin1", "character_set_server": "latin1"}),
    "keys": ("mysql", {"sql_require_primary_key": 1, "sql_generate_invisible_primary_key": 1}),
    "rows_query": ("mysql", {"binlog_rows_query_log_events": 1, "binlog_row_value_options": "'PARTIAL_JSON'",
                             "binlog_row_metadata": "'FULL'", "print_identified_with_as_hex": 1}),
    "gtid_strict_mode": ("mariadb", {"gtid_strict_mode": 0, "binlog_row_metadata": "'FULL'"}),
    "snapshots": ("mariadb", {"innodb_snapshot_isolation": 1}),
    "case": ("mariadb", {"sql_if_exists": 1}),
}


def of_engine(engine):
    return {name: values for name, (engines, values) in DEFAULTS.items() if engine in engines.split()}


@contextlib.contextmanager
def defaults(scene, values):
    """On both servers; put back over sessions that were there before."""
    undo = []
    try:
        for server in (scene.a, scene.b):
            connection = server.connect("changeover")
            undo.append(connection)
            connection.was = {}
            with connection.cursor() as cursor:
                for name, value in values.items():
                    cursor.execute(f"SELECT @@GLOBAL.{name}")
                    connection.was[name] = cursor.fetchone()[0]
                    cursor.execute(f"SET GLOBAL {name} = {value}")
            connection.close()
        yield
    finally:
        for server, connection in zip((scene.a, scene.b), undo):
            back = server.connect("changeover")
            with back.cursor() as cursor:
                for name, was in connection.was.items():
                    cursor.execute(f"SET GLOBAL {name} = %s", (was,))
            back.close()


def moved_with(scene, kind, values):
    source, since = scene.primary, now_ns()
    with scene.load(writers=5) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        with defaults(scene, values):
            result = scene.run(kind, json=True)
        assert result.code == 0, result
        at = load.count()
        wait_for(lambda: load.count() > at + 20, 20, "writes go on")
    assert scene.check(load, source, since, committed=True) != source
    probed = scene.server(scene.primary).query("SELECT COUNT(*) FROM changeover_probe.probe")
    assert probed == ((1,),), "the probe's write was one that lasts"
    scene.caught_up()


@pytest.mark.full
def test_a_cutover_and_a_rollback_under_each_default(ready):
    for name, values in of_engine(ready.engine).items():
        for kind in ("cutover", "rollback"):
            try:
                moved_with(ready, kind, values)
            except BaseException as error:
                error.args = (f"{kind} under {name} ({values})", *error.args)
                raise


def test_setup_cutover_undo_and_rollback_under_all_defaults_at_once(scene):
    """Tables without keys, on a B that wants keys, among what is copied."""
    connection = scene.a.connect("root", database="app")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE keyless (a int, b varchar(20) CHARACTER SET utf8mb4) ENGINE=InnoDB")
        cursor.execute("INSERT INTO keyless VALUES (1, 'grün'), (1, 'grün')")
    connection.close()
    values = {}
    for name, some in of_engine(scene.engine).items():
        if name != "sql_mode_oracle":
            values.update(some)
    with defaults(scene, values):  # sql_select_limit: a dump program would stop after the first row
        assert scene.tool("setup").code == 1
        result = scene.tool("check", "--for", "setup", json=True)
    assert "sql_select_limit_set" in [finding["code"] for finding in result.json["findings"]], result
    with defaults(scene, {name: value for name, value in values.items() if name not in ("sql_select_limit", "max_join_size")}):
        scene.set_up()
    columns = "SELECT GROUP_CONCAT(COLUMN_NAME) FROM information_schema.COLUMNS WHERE TABLE_NAME = 'keyless'"
    assert scene.b.query(columns) == scene.a.query(columns), "no key that A hasn't got"
    assert scene.b.query("SELECT * FROM app.keyless") == scene.a.query("SELECT * FROM app.keyless")
    scene.a.query("INSERT INTO app.keyless VALUES (2, 'blau')")
    scene.caught_up()
    before = scene.a.settings()
    with defaults(scene, values):
        assert scene.run("cutover", fault="promote:end=error").code == 4
    unchanged([before], [scene.a.settings()])
    scene.caught_up()
    for kind in ("cutover", "rollback"):
        moved_with(scene, kind, values)


ODD = ["o'x", "back\\slash", "a%b", "ñandú", "per cent%s", 'double"quote', "back`tick", ""]


def odd_accounts(server):
    connection = server.connect("root", database="app")
    with connection.cursor() as cursor:
        cursor.execute("SET NAMES utf8mb4")
        for user in ODD:
            cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", (user, PASSWORD))
            cursor.execute("GRANT ALL ON app.* TO %s@'%%'", (user,))
        cursor.execute("CREATE ROLE app_role")
        cursor.execute("GRANT ALL ON app.* TO app_role")
        cursor.execute("CREATE USER through_role@'%%' IDENTIFIED BY %s", (PASSWORD,))
        cursor.execute("GRANT app_role TO through_role@'%'")
        cursor.execute("SET DEFAULT ROLE app_role " + ("TO" if server.engine == "mysql" else "FOR") + " through_role@'%'")
        cursor.execute("CREATE USER proxy_of@'%%' IDENTIFIED BY %s", (PASSWORD,))
        cursor.execute("CREATE USER CHANGEOVER_REPL@'%%' IDENTIFIED BY %s", (PASSWORD,))  # not replication's: names are told apart by case
        cursor.execute("GRANT ALL ON *.* TO CHANGEOVER_REPL@'%'")
    connection.close()
    local = pymysql.connect(unix_socket=f"{server.folder}/s", user="root", password=PASSWORD, autocommit=True)  # who may give it on
    local.cursor().execute("GRANT PROXY ON app@'%' TO proxy_of@'%'")
    local.close()
    return [*ODD, "through_role", "proxy_of", "CHANGEOVER_REPL"]


def gets_in(server, user):
    try:
        server.connect(user).close()
        return True
    except Exception as error:  # whatever the library raises
        assert error.args[0] in (1045, 3118, 4151), (user, error)
        return False


def test_accounts_of_every_kind_of_name_are_fenced_and_given_back(ready):
    """Quotes, wildcards, letters beyond ASCII, no name at all; through a role, a proxy; one that looks like replication's."""
    users = odd_accounts(ready.a)
    wait_for(lambda: ready.b.query("SELECT COUNT(*) FROM mysql.user WHERE User = 'CHANGEOVER_REPL'")[0][0], 20, "they arrive")
    ready.must("setup")  # on a MariaDB what gets past read_only has to be locked there
    ready.caught_up()
    assert all(gets_in(ready.a, user) for user in users)
    before = ready.a.settings()
    held = ready.a.connect("CHANGEOVER_REPL", database="app")
    with ready.tool.held("cutover", "--yes", "--when-ready=20s", "--max-write-pause=60s", at="capture:end", fault="promote:end=error") as child:
        assert not [user for user in users if gets_in(ready.a, user)], "fenced"
        with pytest.raises(Exception, match="Lost connection|gone away|killed|\\(0, ''\\)|4031|2006|2013"):
            with held.cursor() as cursor:
                cursor.execute("INSERT INTO ledger VALUES ('past the fence')")
        late = "CREATE USER late@'%' IDENTIFIED BY 'x-7Q'"
        assert not gets_in(ready.b, "root"), late
    result = ready.tool.finish(child, 90)
    assert result.code == 4, result
    unchanged([before], [ready.a.settings()])
    assert all(gets_in(ready.a, user) for user in users)
    ready.caught_up()
    for kind in ("cutover", "rollback"):
        assert ready.run(kind).code == 0
        new, old = (ready.b, ready.a) if ready.primary == "b" else (ready.a, ready.b)
        assert all(gets_in(new, user) for user in users) and not [user for user in users if gets_in(old, user)]
        ready.caught_up()


def test_an_account_and_an_event_that_come_just_before_the_fence_are_fenced_too(ready):
    ready.a.query("SET GLOBAL event_scheduler=ON")
    with ready.tool.held("cutover", "--yes", "--when-ready=20s", "--max-write-pause=60s", at="fence:begin") as child:
        connection = ready.a.connect("root", database="app")
        with connection.cursor() as cursor:
            cursor.execute("CREATE USER late@'%%' IDENTIFIED BY %s", (PASSWORD,))
            cursor.execute("GRANT ALL ON *.* TO late@'%'")
            cursor.execute("CREATE EVENT app.late ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.ledger VALUES (UUID())")
        connection.close()
    result = ready.tool.finish(child, 90)
    ready.note(result.code, "a")
    new, old = (ready.b, ready.a) if ready.primary == "b" else (ready.a, ready.b)
    assert result.code in (0, 4), result
    assert gets_in(new, "late") and (result.code == 4 or not gets_in(old, "late"))
    events = "SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_NAME = 'late' AND STATUS = 'ENABLED'"
    assert new.query(events)[0][0] == 1 and old.query(events)[0][0] == 0


def test_an_account_that_goes_just_before_the_fence_ends_no_run(ready):
    """What warm_up has noted to lock on A and to unlock on B isn't there any more."""
    ready.a.query("CREATE USER gone@'%' IDENTIFIED BY 'x-7Q'")
    ready.caught_up()
    with ready.tool.held("cutover", "--yes", "--when-ready=20s", "--max-write-pause=60s", at="fence:begin") as child:
        ready.a.query("DROP USER gone@'%'")
    result = ready.tool.finish(child, 90)
    assert result.code == 0, result
    assert gets_in(ready.b, "app") and not gets_in(ready.a, "app")
    for server in (ready.a, ready.b):
        assert server.query("SELECT COUNT(*) FROM mysql.user WHERE User = 'gone'")[0][0] == 0


def test_a_function_that_b_would_want_declared_is_copied_and_the_setting_named(scene):
    """log_bin_trust_function_creators is on where it was made, and off on B: there such a statement stops replication."""
    def found():
        result = scene.tool("check", "--for", "cutover", json=True)
        return {finding["code"]: finding["severity"] for finding in result.json["findings"]}
    scene.a.query("SET GLOBAL log_bin_trust_function_creators=1")
    scene.a.query("CREATE FUNCTION app.twice(a int) RETURNS int RETURN a * 2")
    scene.set_up()
    assert scene.b.query("SELECT app.twice(2), @@GLOBAL.log_bin_trust_function_creators") == ((4, 0),)
    assert found()["function_creators_not_trusted"] == "warning"
    scene.a.query("CREATE FUNCTION app.thrice(a int) RETURNS int RETURN a * 3")
    wait_for(lambda: scene.tool("lag", json=True).json["gate"] == "broken", 20, "the applier stopped")
    scene.b.query("SET GLOBAL log_bin_trust_function_creators=1")
    assert "function_creators_not_trusted" not in found()
    scene.b.pause_apply(False)
    scene.caught_up()
    assert scene.b.query("SELECT app.thrice(2)") == ((6,),)


EVENTS = ("SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER, SQL_MODE, TIME_ZONE, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, "
          "HEX(EVENT_DEFINITION), INTERVAL_VALUE, ON_COMPLETION, EVENT_COMMENT FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'")


def odd_events(server):
    connection = server.connect("root", database="app")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE said (at timestamp(6) PRIMARY KEY, host int, words varchar(40) CHARACTER SET utf8mb4)")
        cursor.execute("CREATE USER leaves@'%' IDENTIFIED BY 'x-7Q'")
        cursor.execute("CREATE ROLE app_role")
        cursor.execute("GRANT ALL ON app.* TO app_role, leaves@'%'")
        cursor.execute("CREATE DEFINER=leaves@'%' EVENT orphan ON SCHEDULE EVERY 1 YEAR DO DO 0")
        cursor.execute("DROP USER leaves@'%'")
        if server.engine == "mariadb":
            cursor.execute("CREATE DEFINER=app_role EVENT of_a_role ON SCHEDULE EVERY 1 YEAR DO DO 0")
        cursor.execute("SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES'")
        cursor.execute("CREATE EVENT \"back\\slash\" ON SCHEDULE EVERY 1 YEAR ON COMPLETION PRESERVE COMMENT 'it''s' DO DO '\\'")
        cursor.execute("SET sql_mode='', time_zone='+05:00', NAMES utf8mb4 COLLATE utf8mb4_unicode_ci")
        cursor.execute("CREATE EVENT `größe``s` ON SCHEDULE EVERY 1 YEAR DO DO 'ü'".encode())
        cursor.execute("SET NAMES latin1 COLLATE latin1_german1_ci")
        cursor.execute("CREATE EVENT speaks ON SCHEDULE EVERY 1 SECOND DO "
                       "INSERT INTO app.said VALUES (NOW(6), @@server_id, 'caf".encode() + b"\xe9')")
    connection.close()


def test_events_of_every_kind_are_as_before_after_an_undone_run_and_run_as_before_after_a_cutover(ready):
    """ALTER EVENT takes the session's character set for the event's: what it says beyond ASCII was another text from then on."""
    for server in (ready.a, ready.b):
        server.query("SET GLOBAL event_scheduler=ON")
    odd_events(ready.a)
    ready.caught_up()
    before = set(ready.a.query(EVENTS))
    assert len(before) == (5 if ready.engine == "mariadb" else 4)
    assert ready.run("cutover", fault="promote:end=error").code == 4
    assert set(ready.a.query(EVENTS)) == before
    ready.caught_up()
    for kind in ("cutover", "rollback"):
        assert ready.run(kind).code == 0
        new = ready.server(ready.primary)
        assert set(new.query(EVENTS)) == before, kind
        wait_for(lambda: new.query(f"SELECT COUNT(*) FROM app.said WHERE host = {new.port}")[0][0], 20, "the event runs there")
        assert new.query("SELECT DISTINCT HEX(words) FROM app.said") == (("636166C3A9",),)
        ready.caught_up()


def test_a_server_that_has_no_room_for_more_clients_is_left_alone_or_cut_over(ready):
    """max_connections is reached: the tool has what the server keeps for its administrators, or says that it can't get in."""
    most = ready.a.query("SELECT @@GLOBAL.max_connections")[0][0]
    idle = []
    with pytest.raises(Exception, match="Too many connections"):
        for _ in range(most + 1):
            idle.append(ready.a.connect("app"))
    result = ready.tool("cutover", "--yes", "--when-ready=5s", json=True, timeout_s=90)
    assert result.code in (1, 3), result
    for connection in idle:
        connection.close()
    wait_for(lambda: ready.a.is_open(), 20, "A takes writes")
    ready.caught_up()
    assert ready.run("cutover").code == 0


def test_a_server_that_starts_no_replication_by_itself_is_cut_over_and_back(box, engine):
    """skip_slave_start; and names in lower case alone, as on other systems."""
    from sandbox.scenario import Scenario

    template = box.pair(engine, start=False)
    if engine.startswith("mysql"):
        pytest.skip(f"{engine}: lower_case_table_names has to be chosen when the data folder is made")
    for server in (template.a, template.b):
        with open(server.folder / "my.cnf", "a", encoding="ascii") as file:
            file.write("skip-slave-start\nlower-case-table-names=1\n")
        server.start()
    template.a.fill(template)
    scene = Scenario.of(box, template)
    scene.a.query("CREATE TABLE app.UPPER (a int PRIMARY KEY)")
    scene.set_up()
    scene.b.crash_and_restart()
    assert scene.tool("lag", json=True).json["gate"] == "broken"
    scene.must("setup")
    scene.caught_up()
    for kind in ("cutover", "rollback"):
        scene.moved_under_load(kind)
        scene.caught_up()
