"""Findings of MariaDB's and MySQL's pre-flight that take servers or a config of their own; the others are in test_mysql_check.py.
The last test sees that each finding of the driver has a case."""
import ast
import contextlib
import json
import os
import pathlib
import re
import subprocess

import pytest

from sandbox import wait_for
from sandbox.box import Pair
from sandbox.scenario import Scenario
from sandbox.tool import ROOT

pytestmark = pytest.mark.engines("mariadb", "mysql")

# no test provokes these, and why
NOT_PROVOKED = {
    "read_only_not_persistent": "needs MySQL 5.7",
}


def findings(tool, stage="cutover"):
    result = tool("check", "--for", stage, json=True)
    assert result.code in (0, 1, 2, 3), result
    return {finding["code"]: finding for finding in reversed(result.json["findings"])}


def another(scene, change, name="another"):
    """The tool with another config: change(the pair's part)."""
    made = scene.box.tool([scene.pair], name=name)
    document = made.document()
    change(document["pairs"][0])
    made.write_config(json.dumps(document))
    return made


@contextlib.contextmanager
def configured(server, text, **environment):
    """The server runs with more in its configuration, and more in its environment."""
    path, argv = server.folder / "my.cnf", server.argv
    was = path.read_text(encoding="ascii")
    server.stop()
    path.write_text(was + text, encoding="ascii")
    server.argv = lambda: ["env", *(f"{name}={value}" for name, value in environment.items()), *argv()]
    server.start()
    try:
        yield
    finally:
        server.stop()
        path.write_text(was, encoding="ascii")
        del server.argv
        server.start()


def own(scene, side, *statements):
    """Statements that stay on that server, by root or, where that one is locked, by the tool's account."""
    server = scene.server(side)
    connection = server.connect("root" if side == scene.primary else "changeover")
    with connection.cursor() as cursor:
        read_only = scene.engine == "mysql" and side != scene.primary
        for one in ("SET sql_log_bin=0", *(["SET GLOBAL super_read_only=0"] if read_only else []), *statements,
                    *(["SET GLOBAL super_read_only=1"] if read_only else [])):
            cursor.execute(one)
    connection.close()


def shifted_clock(folder):
    library = folder / "shifted_clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(ROOT / "tests/sandbox/shifted_clock.c"), "-ldl"],
                   check=True, stdin=subprocess.DEVNULL)
    return str(library)


def test_what_only_a_server_s_configuration_can_say_is_found(ready):
    """And is gone when the configuration is as before."""
    mysql = ready.engine == "mysql"
    statements = ready.b.folder / "init.sql"
    statements.write_text("SELECT 1;\n")
    clean = findings(ready.tool)
    with configured(ready.a, "binlog-do-db=app\ninnodb-buffer-pool-size=256M\n"), \
            configured(ready.b, f"init-file={statements}\nslave-skip-errors=1062\n" + ("persisted-globals-load=OFF\n" if mysql else ""),
                       TZ="Asia/Tokyo", LD_PRELOAD=shifted_clock(ready.box.folder), CO_CLOCK_SHIFT_S="-90"):
        found = findings(ready.tool)
    wanted = {"binlog_filter": ("error", "a"), "buffer_pool_less": ("warning", "b"), "init_file": ("warning", "b"),
              "replica_skip_errors": ("error", "b"), "system_time_zone_differs": ("warning", None), "clock_difference": ("warning", None)}
    if mysql:
        wanted["persisted_globals_load_off"] = ("error", "b")
    assert {code: (found[code]["severity"], found[code]["side"]) for code in wanted if code in found} == wanted, sorted(found)
    assert "90" in found["clock_difference"]["message"] or "89" in found["clock_difference"]["message"]
    assert not set(wanted) & set(clean)
    ready.caught_up()
    assert findings(ready.tool).keys() == clean.keys()
    assert ready.run("cutover").code == 0


def test_what_makes_replication_impossible_is_found_before_setup(box, engine):
    pair = box.pair(engine, start=False)
    with open(pair.b.folder / "my.cnf", "a", encoding="ascii") as file:
        file.write("skip-log-bin\nlog-slave-updates=0\n" + ("gtid-mode=OFF\nenforce-gtid-consistency=OFF\n" if engine == "mysql" else ""))
    for server in (pair.a, pair.b):
        server.start()
    pair.a.fill(pair)
    scene = Scenario.of(box, pair)
    found = findings(scene.tool, "setup")
    wanted = {"log_bin_off": ("error", "b"), "log_replica_updates_off": ("error", "b")}
    if engine == "mysql":
        wanted["gtid_mode_off"] = ("error", "b")
    assert {code: (found[code]["severity"], found[code]["side"]) for code in wanted if code in found} == wanted, sorted(found)
    before = scene.b.settings()
    assert scene.tool("setup").code == 1
    assert scene.b.settings() == before and scene.a.is_open()


@pytest.mark.engines("mysql")
def test_a_copy_that_kept_the_server_s_uuid_is_found(box, engine):
    pair = box.pair(engine, start=False)
    for server in (pair.a, pair.b):
        (server.data / "auto.cnf").write_text("[auto]\nserver-uuid=11111111-2222-3333-4444-555555555555\n")
        server.start()
    pair.a.fill(pair)
    scene = Scenario.of(box, pair)
    result = scene.tool("check", "--for", "setup", json=True)
    assert result.code in (1, 65), result
    assert "server_uuid_same" in result.out or "the same server" in result.out + result.err, result
    assert scene.tool("setup").code != 0 and scene.a.is_open()


def test_what_the_config_says_wrong_or_not_is_found(ready):
    """Accounts, programs, sockets."""
    def root(pair):
        pair["a"]["url"] = pair["a"]["url"].replace("changeover@", "root@")

    if ready.engine == "mariadb":
        own(ready, "a", "CREATE USER IF NOT EXISTS changeover@localhost IDENTIFIED BY 'my-secret-7Q'",
            "GRANT ALL ON *.* TO changeover@localhost WITH GRANT OPTION")
    cases = {
        "account_not_dedicated": ("error", root),
        "probe_not_configured": ("warning", lambda pair: pair.pop("probe")),
        "replication_not_configured": ("error", lambda pair: pair.pop("replication")),
        "peer_needed": ("error", lambda pair: pair["a"].update(url=f"{ready.engine}://changeover@/?socket={ready.a.folder}/s")),
    }
    clean = findings(ready.tool)
    for code, (severity, change) in cases.items():
        found = findings(another(ready, change, code))
        assert found[code]["severity"] == severity and found[code]["remedy"], (code, sorted(found))
        assert code not in clean


def test_programs_and_room_for_the_copy_are_looked_at_before_setup(scene):
    programs = scene.box.folder / "bin"
    programs.mkdir()
    df = programs / "df"
    df.write_text("#!/bin/sh\necho Filesystem 1024-blocks Used Available Capacity Mounted on\necho disk 9 8 1 99% /\n")
    df.chmod(0o755)
    on_b = {"run": ["env", f"PATH={programs}:{os.environ['PATH']}"]}
    clean = findings(scene.tool, "setup")
    assert clean["space_unknown"]["severity"] == "info"
    scarce = findings(another(scene, lambda pair: pair["b"].update(host=on_b), "scarce"), "setup")
    assert scarce["space_scarce"]["severity"] == "error" and "space_unknown" not in scarce
    missing = findings(another(scene, lambda pair: pair.update(setup={"dump_program": ["/nowhere/dump"]}), "missing"), "setup")
    assert missing["program_missing"]["severity"] == "error" and "/nowhere/dump" in missing["program_missing"]["message"]
    assert not {"space_scarce", "program_missing"} & set(clean)


def test_a_target_that_follows_nobody_or_holds_data_is_found(scene):
    assert findings(scene.tool)["not_following"]["severity"] == "error"
    assert "target_not_empty" not in findings(scene.tool, "setup")
    scene.b.query("CREATE DATABASE precious")
    refused = findings(scene.tool, "setup")["target_not_empty"]
    assert refused["severity"] == "error" and "precious" in refused["message"] and "replace_b" in refused["remedy"]
    scene.pair.extra["setup"] = {**scene.pair.extra.get("setup", {}), "replace_b": True}
    scene.tool.write_config()
    assert findings(scene.tool, "setup")["target_not_empty"]["severity"] == "warning"


def test_a_transaction_that_stays_open_is_found(ready):
    holder = ready.a.connect("app", database="app", timeout_s=60)
    holder.begin()
    holder.cursor().execute("INSERT INTO ledger VALUES ('open')")
    wait_for(lambda: findings(ready.tool).get("long_transactions", {}).get("severity") == "warning", 30, "it has been open for more than 5 s", 0.5)
    holder.rollback()
    wait_for(lambda: "long_transactions" not in findings(ready.tool), 30, "it is over (MySQL's list of transactions is a copy)", 0.5)
    holder.close()


def provoked_one_by_one(scene, cases):
    """cases: {code: (severity, side, begin, end)}, callables; each is found, and gone when its cause is."""
    clean = findings(scene.tool)
    for code, (severity, side, begin, end) in cases.items():
        assert code not in clean, f"{code}: there without a cause"
        begin()
        try:
            found = findings(scene.tool)
        finally:
            end()
        assert code in found, f"{code}: provoked and not found: {sorted(found)}"
        assert (found[code]["severity"], found[code]["side"]) == (severity, side), found[code]
        assert found[code]["remedy"], code
        wait_for(lambda: code not in findings(scene.tool), 20, f"{code} is gone with its cause", 0.5)
    scene.caught_up()


def test_rights_that_an_account_lacks_are_found(ready):
    tool = "changeover@'%'" if ready.engine == "mysql" else "changeover@'127.0.0.1'"
    log_bin = "SUPER, SYSTEM_VARIABLES_ADMIN, SESSION_VARIABLES_ADMIN" if ready.engine == "mysql" else "SUPER, BINLOG ADMIN"

    def a(*statements):
        return lambda: own(ready, "a", *statements)

    def b(*statements):
        return lambda: own(ready, "b", *statements)
    again = f"GRANT ALL ON *.* TO {tool} WITH GRANT OPTION"
    cases = {
        "privileges_missing": ("error", "a", a(f"REVOKE EVENT ON *.* FROM {tool}"), a(again)),
        "sql_log_bin_denied": ("error", "a", a(f"REVOKE {log_bin} ON *.* FROM {tool}"), a(again)),
        "replication_account_powerless": ("error", "b", b("REVOKE REPLICATION SLAVE ON *.* FROM changeover_repl@'%'"),
                                          b("GRANT REPLICATION SLAVE ON *.* TO changeover_repl@'%'")),
        "replication_account_missing": ("error", "b", b("RENAME USER changeover_repl@'%' TO elsewhere@'%'"),
                                        b("RENAME USER elsewhere@'%' TO changeover_repl@'%'")),
    }
    if ready.engine == "mysql":
        cases["cant_see"] = ("warning", "a", a(f"REVOKE XA_RECOVER_ADMIN ON *.* FROM {tool}"), a(again))
    else:
        cases["unreachable"] = ("error", "b", ready.b.stop, ready.b.start)
    provoked_one_by_one(ready, cases)
    assert ready.run("cutover").code == 0


def test_accounts_that_get_past_read_only_are_named(ready):
    """MariaDB: information. On MySQL super_read_only holds them."""
    ready.a.query("CREATE USER dba@'%' IDENTIFIED BY 'x-7Q'")
    ready.a.query("GRANT ALL ON *.* TO dba@'%'" if ready.engine == "mysql" else "GRANT READ ONLY ADMIN ON *.* TO dba@'%'")
    found = findings(ready.tool)
    if ready.engine == "mysql":
        assert "accounts_bypass_read_only" not in found
    else:
        assert found["accounts_bypass_read_only"]["severity"] == "info" and "dba" in found["accounts_bypass_read_only"]["message"]


def test_replication_that_is_not_this_pair_s_is_found(ready):
    mysql = ready.engine == "mysql"
    change = "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.9', SOURCE_PORT=1, SOURCE_USER='x'" if mysql else \
        "CHANGE MASTER TO MASTER_HOST='127.0.0.9', MASTER_PORT=1, MASTER_USER='x'"
    named = f"{change} FOR CHANNEL 'two'" if mysql else change.replace("MASTER TO", "MASTER 'two' TO")
    reset = "RESET REPLICA ALL" if mysql else "RESET SLAVE ALL"
    reset_named = "RESET REPLICA ALL FOR CHANNEL 'two'" if mysql else "RESET SLAVE 'two' ALL"

    def do(side, one):
        return lambda: ready.server(side).query(one)
    provoked_one_by_one(ready, {
        "source_is_replica": ("error", "a", do("a", change), do("a", reset)),
        "follows_several": ("error", "b", do("b", named), do("b", reset_named)),
    })
    other = ready.box.pair(ready.engine, name="other")
    mixed = Pair("mixed", ready.engine, other.a, ready.b, dict(ready.pair.extra))
    found = findings(ready.box.tool([mixed], name="mixed"))
    assert found["follows_another"]["severity"] == "error" and str(ready.a.port) in found["follows_another"]["message"]


def test_settings_that_differ_or_hold_commits_up_are_found(ready):
    mysql = ready.engine == "mysql"

    def do(side, *statements):
        return lambda: [ready.server(side).query(one) for one in statements]
    collation = ready.b.query("SELECT @@GLOBAL.collation_server")[0][0]
    semi = "rpl_semi_sync_source_enabled" if mysql else "rpl_semi_sync_master_enabled"
    plugin = (["INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'"], ["UNINSTALL PLUGIN rpl_semi_sync_source"]) \
        if mysql else ([], [])
    stamps = ready.b.query("SELECT @@GLOBAL.explicit_defaults_for_timestamp")[0][0]
    provoked_one_by_one(ready, {
        "collation_differs": ("warning", None, do("b", "SET GLOBAL collation_server=utf8mb4_bin"),
                              do("b", f"SET GLOBAL collation_server={collation}")),
        "timestamp_defaults_differ": ("warning", None, do("b", f"SET GLOBAL explicit_defaults_for_timestamp={1 - stamps}"),
                                      do("b", f"SET GLOBAL explicit_defaults_for_timestamp={stamps}")),
        "semi_sync": ("warning", "a", do("a", *plugin[0], f"SET GLOBAL {semi}=1"), do("a", f"SET GLOBAL {semi}=0", *plugin[1])),
    })


@pytest.mark.engines("mysql")
def test_a_b_that_insists_on_tls_is_found(ready):
    def encrypted(pair):
        for side in ("a", "b"):
            pair[side]["tls"] = {"mode": "require"}
    tool = another(ready, encrypted)
    assert "secure_transport_differs" not in findings(tool)
    ready.b.query("SET GLOBAL require_secure_transport=1")
    assert findings(tool)["secure_transport_differs"]["severity"] == "warning"


@pytest.mark.engines("mysql")
def test_transactions_that_b_needs_and_a_purged_are_found(ready, engine):
    ready.b.cut_link(True)
    ready.a.query("CREATE TABLE app.lost (a int PRIMARY KEY)")
    ready.a.query("FLUSH BINARY LOGS")
    last = ready.a.query("SHOW BINARY LOGS")[-1][0]
    ready.a.query(f"PURGE BINARY LOGS TO '{last}'")
    found = findings(ready.tool)
    if engine == "mysql-file":  # nothing says what B needs, but that it doesn't run
        assert found["replication_broken"]["severity"] == "error"
    else:
        assert found["purged_transactions_needed"]["severity"] == "error" and found["purged_transactions_needed"]["remedy"]
    assert ready.tool("cutover", "--yes").code in (1, 2) and ready.a.is_open()


@pytest.mark.engines("mariadb")
def test_a_gtid_domain_that_b_has_never_seen_is_found(ready):
    ready.b.pause_apply(True)
    connection = ready.a.connect("root", database="app")
    with connection.cursor() as cursor:
        cursor.execute("SET gtid_domain_id=7")
        cursor.execute("INSERT INTO ledger VALUES ('domain-7')")
    connection.close()
    assert findings(ready.tool)["gtid_domain_missing"]["severity"] == "error"
    ready.b.pause_apply(False)
    ready.caught_up()
    assert "gtid_domain_missing" not in findings(ready.tool)
    assert ready.run("cutover").code == 0


@pytest.mark.engines("mariadb")
def test_a_server_that_checks_no_accounts_is_found(ready):
    with configured(ready.b, "skip-grant-tables\n"):
        assert findings(ready.tool)["skip_grant_tables"]["severity"] == "error"
        assert ready.tool("cutover", "--yes").code in (1, 2) and ready.a.is_open()


@pytest.mark.engines("mariadb")
def test_a_member_of_a_galera_cluster_is_refused(ready):
    provider = "/usr/lib/galera/libgalera_smm.so"
    if not os.path.exists(provider):
        pytest.skip(f"mariadb: no {provider}")
    with configured(ready.a, f"wsrep_on=ON\nwsrep_provider={provider}\nwsrep_cluster_address=gcomm://\nwsrep_sst_method=rsync\n"
                    f"wsrep_node_address=127.0.0.1\nwsrep_provider_options=gmcast.listen_addr=tcp://127.0.0.1:{ready.box.free_port()}\n"
                    "binlog-format=ROW\ninnodb-autoinc-lock-mode=2\n"):
        wait_for(lambda: ready.a.query("SHOW STATUS LIKE 'wsrep_ready'")[0][1] == "ON", 40, "the cluster of one is ready")
        found = findings(ready.tool)
        assert (found["galera_member"]["severity"], found["galera_member"]["side"]) == ("error", "a")
        assert ready.tool("cutover", "--yes").code in (1, 2) and ready.a.is_open()


@pytest.mark.engines("mysql")
def test_a_member_of_a_replication_group_is_refused(ready, engine):
    if engine == "mysql-file":
        pytest.skip("mysql-file: a group needs GTIDs")
    port = ready.box.free_port()
    for one in ("INSTALL PLUGIN group_replication SONAME 'group_replication.so'",
                "SET GLOBAL group_replication_group_name='aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee'",
                f"SET GLOBAL group_replication_local_address='127.0.0.1:{port}'",
                f"SET GLOBAL group_replication_group_seeds='127.0.0.1:{port}'",
                "SET GLOBAL group_replication_bootstrap_group=ON", "START GROUP_REPLICATION"):
        connection = ready.a.connect("root", timeout_s=60)
        connection.cursor().execute(one)
        connection.close()
    found = findings(ready.tool)
    assert (found["group_replication_member"]["severity"], found["group_replication_member"]["side"]) == ("error", "a")
    assert ready.tool("cutover", "--yes").code in (1, 2) and ready.a.is_open()


@pytest.mark.engines("mariadb")
def test_a_server_of_a_provider_is_refused(scene):
    """Told here by its machine's name: Google's are called so."""
    if os.getuid() != 0:
        pytest.skip("needs root, for a name of its own")
    assert "managed_service" not in findings(scene.tool, "setup")
    argv = scene.a.argv
    scene.a.stop()
    scene.a.argv = lambda: ["unshare", "--uts", "sh", "-c", 'hostname cloudsql-1 && exec "$@"', "sh", *argv()]
    scene.a.start()
    found = findings(scene.tool, "setup")["managed_service"]
    assert (found["severity"], found["side"]) == ("error", "a") and "Cloud SQL" in found["message"]


@pytest.mark.engines("mariadb")
def test_servers_of_two_makers_are_refused(box, engine):
    from sandbox import engine_reason
    from sandbox.mariadb import MySQL

    if engine_reason("mysql"):
        pytest.skip(engine_reason("mysql"))
    pair, other = box.pair(engine), box.pair("mysql", name="other")
    mixed = Pair("mixed", "mariadb", pair.a, other.b, dict(pair.extra))
    assert isinstance(other.b, MySQL)
    other.b.engine = "mariadb"
    found = findings(box.tool([mixed], name="mixed"), "setup")
    assert found["flavour_differs"]["severity"] == "error", sorted(found)


def codes_of_the_driver():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "drivers/mysql").glob("*.c"))
    codes = set(re.findall(r'my_find\(\s*&?\w+,\s*"([a-z0-9_]+)"', sources))
    return codes | set(re.findall(r'(?:differ|less)\(c, "[a-z_0-9]+", "([a-z0-9_]+)"', sources))


def provoked():
    """Codes in tables of cases, and those in assertions of the tests for these servers."""
    found = set()
    for path in pathlib.Path(__file__).parent.glob("test_mysql*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            parts = node.keys if isinstance(node, ast.Dict) else [node.test] if isinstance(node, ast.Assert) else \
                node.args[:1] if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "wait_for" else []
            found |= {word.value for one in parts if one for word in ast.walk(one)
                      if isinstance(word, ast.Constant) and isinstance(word.value, str)}
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
                found |= {word.value for word in ast.walk(node.targets[0]) if isinstance(word, ast.Constant) and isinstance(word.value, str)}
    return found


def test_every_finding_of_the_driver_has_a_case():
    codes, cases = codes_of_the_driver(), provoked()
    assert len(codes) > 60, "the pattern finds them"
    missing = codes - cases - set(NOT_PROVOKED)
    assert not missing, f"without a case: {sorted(missing)}"
    assert not set(NOT_PROVOKED) - codes, "unknown to the driver"
