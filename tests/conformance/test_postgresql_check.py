"""Every finding of PostgreSQL's pre-flight, provoked on real servers: found where it should be, and gone when the cause is.

The cases of one stage share a pair of servers, so each takes back what it did."""
import ast
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import psycopg2
import pytest

from sandbox import Sandbox, engine_reason, wait_for
from sandbox.box import Pair
from sandbox.postgresql import PASSWORD, PostgreSQL, binaries, run_as
from sandbox.proxy import Proxy
from sandbox.scenario import Scenario
from sandbox.tool import ROOT

pytestmark = [pytest.mark.skipif(bool(engine_reason("postgresql")), reason=str(engine_reason("postgresql"))), pytest.mark.full]

# code: why no test provokes it
NOT_PROVOKED = {}


def conf(server, text):
    with open(server.data / "postgresql.conf", "a", encoding="ascii") as file:
        file.write(text + "\n")


class World:
    """A pair that is set up, and one that isn't, with the settings that some findings need."""

    def __init__(self):
        self.box = Sandbox("check")
        pair = self.box.pair("postgresql", start=False)
        for server in (pair.a, pair.b):
            conf(server, "wal_level = logical\narchive_mode = on\narchive_command = '/bin/true'\nautovacuum_freeze_max_age = 100000")
            server.start()
        pair.a.fill(pair)
        self.scene = Scenario.of(self.box, pair)
        self.scene.set_up()
        self.a, self.b = self.scene.a, self.scene.b
        self.bare = self.box.pair("postgresql", name="bare", start=False)
        for server in (self.bare.a, self.bare.b):
            server.start()
        self.bare_tool = self.box.tool([self.bare], name="bare")

    def tool(self, name, change):
        """Another config: change(document)."""
        made = self.box.tool([self.scene.pair], name=name)
        document = made.document()
        change(document["pairs"][0])
        made.write_config(json.dumps(document))
        return made


@pytest.fixture(scope="module")
def world():
    made = World()
    yield made
    made.box.close()


def found(tool, stage="cutover"):
    result = tool("check", "--for", stage, json=True, timeout_s=60)
    assert result.code in (0, 1, 2, 3), result
    return {finding["code"]: finding for finding in reversed(result.json["findings"])}


@contextlib.contextmanager
def setting(server, name, value, database="postgres"):
    server.query(f"ALTER SYSTEM SET {name} = {value}", database)
    server.query("SELECT pg_reload_conf()", database)
    wait_for(lambda: server.query(f"SELECT 1 FROM pg_file_settings WHERE name = '{name}' AND applied", database), 10, name)
    try:
        yield
    finally:
        server.query(f"ALTER SYSTEM RESET {name}", database)
        server.query("SELECT pg_reload_conf()", database)


@contextlib.contextmanager
def statement(server, do, undo, database="postgres"):
    server.query(do, database)
    try:
        yield
    finally:
        server.query(undo, database)


@contextlib.contextmanager
def hba(server, edit):
    """pg_hba.conf of the server, edited and loaded."""
    path = server.data / "pg_hba.conf"
    kept = path.read_text(encoding="utf-8")

    def write(text):
        path.write_text(text, encoding="utf-8")
        subprocess.run(["kill", "-HUP", str(server.pid())], check=True)
        time.sleep(0.3)  # until it is loaded; what was loaded can't be asked for when nobody is let in

    write(edit(kept))
    try:
        yield
    finally:
        write(kept)


@contextlib.contextmanager
def session(server, before="BEGIN; SELECT pg_current_xact_id()", **how):
    connection = server.connect("app", **how)
    try:
        with connection.cursor() as cursor:
            cursor.execute(before)
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def prepared(world):
    with session(world.a) as connection:
        with connection.cursor() as cursor:
            cursor.execute("PREPARE TRANSACTION 'in-the-check'")
    yield
    world.a.query("ROLLBACK PREPARED 'in-the-check'", "app", "app")


@contextlib.contextmanager
def long_transaction(world):
    with session(world.a, timeout_s=60):
        wait_for(lambda: world.a.query("SELECT 1 FROM pg_stat_activity WHERE xact_start < clock_timestamp() - interval '5.2 s' "
                                       "AND backend_type = 'client backend'"), 20, "it is long", 0.3)
        yield


@contextlib.contextmanager
def other_standby(world):
    folder = world.box.folder / "received"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    child = subprocess.Popen([*run_as(), f"{binaries()}/pg_receivewal", "-D", str(folder), "-h", "127.0.0.1", "-p", str(world.a.port),
                              "-U", "postgres"], env={**os.environ, "PGPASSWORD": PASSWORD, "PGAPPNAME": "elsewhere"},
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    wait_for(lambda: world.a.query("SELECT 1 FROM pg_stat_replication WHERE application_name = 'elsewhere'"), 20, "it follows")
    yield
    world.a.query("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'elsewhere'")
    child.kill()
    child.wait()


@contextlib.contextmanager
def archive_fails(world):
    with setting(world.a, "archive_command", "'/bin/false'"):
        world.a.query("SELECT pg_logical_emit_message(true, 'x', 'x'); SELECT pg_switch_wal()")
        wait_for(lambda: world.a.query("SELECT 1 FROM pg_stat_archiver WHERE last_failed_time > coalesce(last_archived_time, "
                                       "'-infinity')"), 30, "archiving fails")
        yield
    wait_for(lambda: world.a.query("SELECT 1 FROM pg_stat_archiver WHERE last_archived_time > last_failed_time"), 90, "it is archived")


@contextlib.contextmanager
def replay_paused(world):
    world.b.pause_apply(True)
    yield
    world.b.pause_apply(False)


@contextlib.contextmanager
def subscription(world):
    world.a.query("CREATE SUBSCRIPTION one CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)", "app")
    world.a.query("ALTER SUBSCRIPTION one SET (slot_name = 'one')", "app")
    world.a.query("ALTER SUBSCRIPTION one ENABLE", "app")
    yield
    world.a.query("ALTER SUBSCRIPTION one DISABLE", "app")
    world.a.query("ALTER SUBSCRIPTION one SET (slot_name = NONE)", "app")
    world.a.query("DROP SUBSCRIPTION one", "app")


@contextlib.contextmanager
def slot_lost(world):
    """The log that the standby needs is gone: it was away too long. Ends the world's replication."""
    world.b.stop()
    with setting(world.a, "wal_keep_size", "0"), setting(world.a, "max_slot_wal_keep_size", "'1MB'"):
        def lost():
            world.a.query("SELECT pg_logical_emit_message(true, 'x', 'x')")
            world.a.query("SELECT pg_switch_wal()")
            world.a.query("CHECKPOINT")
            return world.a.query("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'changeover_b' AND wal_status = 'lost'")
        wait_for(lost, 40, "the slot is lost")
        yield
    world.b.start()


@contextlib.contextmanager
def wraparound(world):
    """A transaction that is as old as the hills holds back what a vacuum, forced or not, may freeze."""
    with session(world.a, timeout_s=120):
        world.a.query("CREATE TABLE burnt (n int)")
        for _ in range(2):
            world.a.query("DO $$ BEGIN FOR n IN 1..60000 LOOP BEGIN INSERT INTO burnt VALUES (n); EXCEPTION WHEN division_by_zero THEN END; "
                          "END LOOP; END $$")
        yield
    world.a.query("DROP TABLE burnt")
    limit = "SELECT 1 FROM pg_database WHERE age(datfrozenxid) > 100000"
    wait_for(lambda: not world.a.query(limit), 120, "the server has vacuumed every database", 0.5)


def first(lines):
    return lambda text: "\n".join(lines) + "\n" + text


def without(pattern):
    return lambda text: "\n".join(line for line in text.splitlines() if not re.search(pattern, line)) + "\n"


# code, side, what provokes it on the pair that is set up
CUTOVER = [
    ("fsync_off", "a", lambda w: setting(w.a, "fsync", "off")),
    ("prepared_transactions", "a", prepared),
    ("long_transactions", "a", long_transaction),
    ("other_standbys", "a", other_standby),
    ("inactive_slots", "a", lambda w: statement(w.a, "SELECT pg_create_physical_replication_slot('idle', true)",
                                                "SELECT pg_drop_replication_slot('idle')")),
    ("logical_slots_lost", "a", lambda w: statement(w.a, "SELECT pg_create_logical_replication_slot('logical', 'test_decoding')",
                                                    "SELECT pg_drop_replication_slot('logical')", "app")),
    ("wal_retention_limited", "a", lambda w: setting(w.a, "max_slot_wal_keep_size", "'10GB'")),
    ("archive_failing", "a", archive_fails),
    ("synchronous_standby", "a", lambda w: setting(w.a, "synchronous_standby_names", "'*'")),
    ("target_waits_for_standby", "b", lambda w: setting(w.b, "synchronous_standby_names", "'*'")),
    ("target_read_only_default", "b", lambda w: setting(w.b, "default_transaction_read_only", "on")),
    ("apply_delay", "b", lambda w: setting(w.b, "recovery_min_apply_delay", "'1ms'")),
    ("replay_paused", "b", replay_paused),
    ("hba_error", "b", lambda w: hba(w.b, lambda text: text + "this is no rule\n")),
    ("hba_differs", "b", lambda w: hba(w.a, lambda text: text + "host all all 203.0.113.7/32 reject\n")),
    ("not_in_our_database", "b", lambda w: hba(w.b, first(["host changeover postgres all reject"]))),
    ("no_replication_rule", "b", lambda w: hba(w.b, without(r"\breplication\b"))),
    ("probe_login_refused", "b", lambda w: hba(w.b, first(["host all app all reject"]))),
    ("subscriptions", "a", subscription),
    ("wraparound_vacuum", "a", wraparound),
    ("unlogged_tables", "a", lambda w: statement(w.a, "CREATE UNLOGGED TABLE volatile (a int)", "DROP TABLE volatile", "app")),
    ("rewind_impossible", "a", lambda w: setting(w.a, "full_page_writes", "off")),
    ("extension_missing", "b", lambda w: statement(w.a, "UPDATE pg_extension SET extname = 'gone' WHERE extname = 'plpgsql'",
                                                   "UPDATE pg_extension SET extname = 'plpgsql' WHERE extname = 'gone'", "app")),
    ("managed_service", "a", lambda w: statement(w.a, "CREATE ROLE rdsadmin", "DROP ROLE rdsadmin")),
    ("cluster_manager", "a", lambda w: session(w.a, "SET application_name = 'Patroni heartbeat'")),
]


@pytest.mark.parametrize("code, side, provoke", CUTOVER, ids=[case[0] for case in CUTOVER])
def test_it_is_found_before_a_cutover(world, code, side, provoke):
    assert code not in found(world.scene.tool)
    with provoke(world):
        finding = wait_for(lambda: found(world.scene.tool).get(code), 10, f"{code} is found")
        assert finding["side"] == side, finding
        assert finding["message"] and (finding["remedy"] or finding["severity"] == "info"), finding
        if finding["severity"] == "error":
            assert world.scene.tool("check", "--for", "cutover").code != 0
    wait_for(lambda: code not in found(world.scene.tool), 20, f"{code} is gone with its cause")


# code, side, change of the config's pair
CONFIGS = [
    ("not_superuser", "a", lambda pair, w: pair["a"].update(url=w.a.url().replace("postgres@", "app@"))),
    ("not_checked", "b", lambda pair, w: pair["b"].update(url=w.b.url().replace("postgres@", "app@"))),
    ("source_is_standby", "a", lambda pair, w: pair.update(a=w.b.side_config(), b=w.a.side_config())),
    ("target_not_standby", "b", lambda pair, w: pair.update(a=w.b.side_config(), b=w.a.side_config())),
    ("same_server", None, lambda pair, w: pair.update(b=dict(w.a.side_config(), url=w.a.url().replace("127.0.0.1", "localhost")))),
    ("other_cluster", "b", lambda pair, w: pair.update(b=w.bare.b.side_config())),
    ("reverse_not_configured", "a", lambda pair, w: pair["a"].pop("host")),
    ("stop_needs_host", "a", lambda pair, w: (pair["a"].pop("host"), pair.update(fence="stop"))),
]


@pytest.mark.parametrize("code, side, change", CONFIGS, ids=[case[0] for case in CONFIGS])
def test_it_is_found_in_how_a_pair_is_configured(world, code, side, change):
    tool = world.tool(f"config-{code}", lambda pair: change(pair, world))
    findings = found(tool)
    assert code in findings, findings
    assert findings[code]["side"] == side, findings[code]


def test_a_pooler_is_found(world):
    """It announces a server process of its own choice, and another one answers."""
    def spoil(data):
        at = data.find(b"K\x00\x00\x00\x0c")
        return data if at < 0 else data[:at + 5] + bytes([data[at + 5] ^ 1]) + data[at + 6:]

    relay = Proxy(world.box.free_port(), world.b.port, spoil)
    world.box.proxies.append(relay)
    tool = world.tool("pooler", lambda pair: pair["b"].update(url=world.b.url().replace(str(world.b.port), str(relay.port))))
    assert "pooler" in found(tool)


def another_machine(folder, server):
    """A library that makes a server say what the C library, ICU and the clock of another machine would."""
    symbols = subprocess.run(["nm", "-D", "--undefined-only", f"{server.programs}/postgres"], capture_output=True, text=True, check=True)
    icu = re.search(r"\bU (ucol_getVersion_\d+)", symbols.stdout)
    source = folder / "other.c"
    source.write_text("#include <stddef.h>\n#include <sys/time.h>\n#include <time.h>\n"
                      "const char *gnu_get_libc_version(void) { return \"9.99\"; }\n"
                      "int gettimeofday(struct timeval *restrict tv, void *restrict tz) { struct timespec t; (void)tz;\n"
                      "clock_gettime(CLOCK_REALTIME, &t); tv->tv_sec = t.tv_sec + 10; tv->tv_usec = t.tv_nsec / 1000; return 0; }\n"
                      + (f"void {icu.group(1)}(const void *c, unsigned char v[4]) {{ (void)c; v[0] = 200; v[1] = 1; v[2] = v[3] = 0; }}\n"
                         if icu else ""), encoding="ascii")
    library = folder / "other.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(library), str(source)], check=True)
    library.chmod(0o755)
    return {"LD_PRELOAD": str(library)}


def test_23_a_target_that_sorts_differently_is_refused_and_only_consent_lets_it_pass(world):
    """Indexes on text would be silently wrong there; and its clock is another one."""
    world.b.stop()
    world.b.start(another_machine(world.box.folder, world.b))
    try:
        wait_for(lambda: world.scene.tool("lag").code == 0, 30, "it follows")
        findings = found(world.scene.tool)
        assert findings["collation_version_differs"]["severity"] == "error", findings
        assert "clocks_differ" in findings
        refused = world.scene.tool("cutover", "--yes", "--when-ready=20s")
        assert refused.code == 1 and "collation_version_differs" in refused.out + refused.err, refused
        assert world.a.is_open()
        consent = world.tool("consent", lambda pair: pair.update(accept=["collation_version_differs"]))
        assert consent("check", "--for", "cutover").code == 0
    finally:
        world.b.stop()
        world.b.start()
    wait_for(lambda: "collation_version_differs" not in found(world.scene.tool), 20, "it is as before")
    wait_for(lambda: world.scene.tool("lag").code == 0, 30, "it follows")


def test_libraries_and_archiving_of_the_source_alone_are_named(world):
    """preload_missing, archive_differs"""
    conf(world.a, "shared_preload_libraries = 'pg_prewarm'")
    conf(world.b, "archive_mode = off")
    for server in (world.a, world.b):
        server.stop()
        server.start()
    findings = found(world.scene.tool)
    assert findings["preload_missing"]["side"] == "b" and "pg_prewarm" in findings["preload_missing"]["message"]
    assert findings["archive_differs"]["side"] == "b"


# ---------------------------------------------------------------- before setup

@contextlib.contextmanager
def restarted(server, text):
    path = server.data / "postgresql.conf"
    kept = path.read_text(encoding="ascii")
    conf(server, text)
    server.stop()
    server.start()
    yield
    path.write_text(kept, encoding="ascii")
    server.stop()
    server.start()


@contextlib.contextmanager
def slots_used_up(world):
    for number in range(10):
        world.bare.a.query(f"SELECT pg_create_physical_replication_slot('s{number}')")
    yield
    for number in range(10):
        world.bare.a.query(f"SELECT pg_drop_replication_slot('s{number}')")


@contextlib.contextmanager
def tablespace(world):
    folder = world.box.folder / "space of its own"
    folder.mkdir(exist_ok=True)
    shutil.chown(folder, *(("postgres",) * 2 if os.getuid() == 0 else (None, None)))
    world.bare.a.query(f"CREATE TABLESPACE apart LOCATION '{folder}'")
    yield
    world.bare.a.query("DROP TABLESPACE apart")


SETUP = [
    ("wal_level_too_low", "a", lambda w: restarted(w.bare.a, "wal_level = minimal\nmax_wal_senders = 0")),
    ("no_free_walsender", "a", lambda w: restarted(w.bare.a, "max_wal_senders = 1")),
    ("no_free_slot", "a", slots_used_up),
    ("tablespaces", "a", tablespace),
    ("tablespace_not_usable", "b", tablespace),
    ("standby_setting_too_low", "b", lambda w: restarted(w.bare.b, "max_connections = 20")),
    ("target_holds_data", "b", lambda w: statement(w.bare.b, "CREATE DATABASE mine", "DROP DATABASE mine")),
]


@pytest.mark.parametrize("code, side, provoke", SETUP, ids=[case[0] for case in SETUP])
def test_it_is_found_before_setup(world, code, side, provoke):
    assert code not in found(world.bare_tool, "setup")
    with provoke(world):
        findings = found(world.bare_tool, "setup")
        assert code in findings and findings[code]["side"] == side, findings
    assert code not in found(world.bare_tool, "setup")


BARE_CONFIGS = [
    ("host_not_configured", lambda pair, w: pair["b"].pop("host")),
    ("host_run_failed", lambda pair, w: pair["b"]["host"].update(run=["false"])),
    ("parent_not_writable", lambda pair, w: pair["b"]["host"].update(data_directory="/proc/none")),
]


@pytest.mark.parametrize("code, change", BARE_CONFIGS, ids=[case[0] for case in BARE_CONFIGS])
def test_it_is_found_before_setup_in_how_a_pair_is_configured(world, code, change):
    tool = world.box.tool([world.bare], name=f"bare-{code}")
    document = tool.document()
    change(document["pairs"][0], world)
    tool.write_config(json.dumps(document))
    findings = found(tool, "setup")
    assert code in findings and findings[code]["side"] == "b", findings


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_too_small_is_found_before_the_copy(world):
    disk = world.box.folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("mounting isn't allowed here")
    try:
        tool = world.box.tool([world.bare], name="small")
        document = tool.document()
        document["pairs"][0]["b"]["host"]["data_directory"] = str(disk / "data")
        tool.write_config(json.dumps(document))
        assert "no_disk_space" in found(tool, "setup")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_another_major_version_is_refused(world):
    if engine_reason("postgresql17"):
        pytest.skip(engine_reason("postgresql17"))
    other = world.box.pair("postgresql17", name="other", start=False)
    other.b.start()
    tool = world.box.tool([world.bare], name="versions")
    document = tool.document()
    document["pairs"][0]["b"] = other.b.side_config()
    tool.write_config(json.dumps(document))
    assert "version_differs" in found(tool, "setup")
    assert tool("setup").code != 0


class Older(PostgreSQL):
    """The same major version as the system's, an earlier release of it."""
    major = "15"


@pytest.mark.skipif(not Older.missing() and binaries().split("/")[-2] != "15", reason="this system's PostgreSQL isn't 15")
@pytest.mark.parametrize("older, severity", [("b", "warning"), ("a", "info")])
def test_another_minor_version_is_named(older, severity):
    """minor_version_differs: an older target is to be updated first; a newer one is how people update. Both are moved to."""
    if Older.missing():
        pytest.skip(Older.missing())
    box = Sandbox("check-minor")
    try:
        a, b = (box.add((Older if side == older else PostgreSQL)(box, f"main-{side}")) for side in "ab")
        pair = Pair("main", "postgresql", a, b)
        PostgreSQL.prepare_pair(pair)
        for server in (a, b):
            server.start()
        PostgreSQL.fill(pair)
        numbers = [server.query("SHOW server_version")[0][0].split()[0] for server in (a, b)]
        if len(set(numbers)) == 1:
            pytest.skip(f"both are {numbers[0]}: CO_POSTGRESQL_SERVERS has no other minor version")
        scene = Scenario.of(box, pair)
        for stage in ("setup", "cutover"):
            findings = found(scene.tool, stage)
            assert "minor_version_differs" in findings, findings
            finding = findings["minor_version_differs"]
            assert (finding["side"], finding["severity"]) == ("b", severity), finding
            assert all(number in finding["message"] for number in numbers), finding
            assert ("Update the target" in finding["remedy"]) == (older == "b")
            if stage == "setup":
                scene.set_up()
        assert scene.run().code == 0
        scene.caught_up()
        assert scene.run("rollback").code == 0
    finally:
        box.close()


@pytest.mark.skipif(not os.path.exists(f"{os.path.dirname(binaries() or '')}/lib/pg_cron.so"),
                    reason="pg_cron isn't here (package postgresql-<version>-cron)")
def test_an_extensions_worker_is_named_and_held(box):
    """background_workers: pg_cron's launcher connects to a database; ended by the fence, it ends for good until the server is
    restarted, also after an undo, and that is said before."""
    pair = box.pair("postgresql", start=False)
    for server in (pair.a, pair.b):
        conf(server, "shared_preload_libraries = 'pg_cron'\ncron.database_name = 'app'\ncron.host = '127.0.0.1'")
        server.start()
    pair.a.fill(pair)
    pair.a.query("CREATE EXTENSION pg_cron", "app", "postgres")
    scene = Scenario.of(box, pair)

    def launchers(server):
        return server.query("SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'cron' OR application_name ~ 'cron'")[0][0]

    wait_for(lambda: launchers(scene.a) == 1, 20, "it runs on A")
    scene.set_up()
    findings = found(scene.tool)
    assert "background_workers" in findings, findings
    finding = findings["background_workers"]
    assert (finding["side"], finding["severity"]) == ("a", "warning") and "pg_cron" in finding["message"], finding
    assert "after_undo" in finding["remedy"], finding
    assert scene.run(fault="prove:end=error").code == 4
    assert launchers(scene.a) == 0
    scene.a.stop()
    scene.a.start()
    wait_for(lambda: launchers(scene.a) == 1, 20, "it runs on A again")
    scene.caught_up()
    with scene.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert scene.run(fault="prove:begin=delay:2500").code == 0  # longer than a worker's second until it is started again
    assert scene.check(load, "a", committed=True) == "b"
    wait_for(lambda: launchers(scene.b) == 1, 30, "it runs on B")


# ---------------------------------------------------------------- what only other versions have

@contextlib.contextmanager
def version(engine, configuration="", before_setup=lambda source: None):
    """A pair of another version that is set up."""
    if engine_reason(engine):
        pytest.skip(engine_reason(engine))
    box = Sandbox("check-version")
    try:
        pair = box.pair(engine, start=False)
        for server in (pair.a, pair.b):
            conf(server, configuration)
            server.start()
        pair.a.fill(pair)
        before_setup(pair.a)
        scene = Scenario.of(box, pair)
        scene.set_up()
        yield scene
    finally:
        box.close()


def test_an_exclusive_backup_is_named():
    """backup_running: before 15 a backup could be begun by one session and left standing."""
    with version("postgresql13") as scene:
        assert "backup_running" not in found(scene.tool)
        scene.a.query("SELECT pg_start_backup('left standing', true)")
        assert found(scene.tool)["backup_running"]["side"] == "a"
        refused = scene.tool("cutover", "--yes", "--when-ready=20s", timeout_s=60)
        assert refused.code == 1 and "backup_running" in refused.out + refused.err, refused
        assert scene.a.is_open()
        scene.a.query("SELECT pg_stop_backup()")
        assert "backup_running" not in found(scene.tool)


def test_failover_slots_that_are_not_synchronised_are_named():
    """failover_slots_not_synced: the slot's position lies before what the standby still has, until its consumer goes on."""
    def old_slot(source):
        source.query("SELECT pg_create_logical_replication_slot('moves', 'test_decoding', false, false, true)", "app")
        source.query("CREATE TABLE since (n int)", "app")  # what the base backup's log doesn't have
        source.query("SELECT pg_switch_wal()")
        source.query("CHECKPOINT")

    with version("postgresql17", "wal_level = logical\nhot_standby_feedback = on\nsync_replication_slots = on", old_slot) as scene:
        assert "dbname='postgres'" in scene.b.query("SHOW primary_conninfo")[0][0]  # where the server's worker asks

        def synced(ready):
            return lambda: scene.b.query("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'moves' AND synced AND "
                                         f"temporary = {not ready}")

        wait_for(synced(False), 60, "the standby tries")
        scene.caught_up()
        assert found(scene.tool)["failover_slots_not_synced"]["side"] == "b"
        assert scene.tool("check", "--for", "cutover").code != 0

        def consumed():
            scene.a.query("SELECT pg_log_standby_snapshot()")
            scene.a.query("SELECT count(*) FROM pg_logical_slot_get_changes('moves', NULL, NULL)", "app")
            return synced(True)()

        wait_for(consumed, 60, "it is synchronised", 0.5)
        assert not {"failover_slots_not_synced", "logical_slots_lost"} & set(found(scene.tool))
        assert scene.run().code == 0
        assert scene.b.query("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'moves' AND failover")  # it moved
        scene.b.query("SELECT count(*) FROM pg_logical_slot_get_changes('moves', NULL, NULL)", "app")
        assert "dbname='postgres'" in scene.a.query("SHOW primary_conninfo")[0][0]


# ---------------------------------------------------------------- what ends the shared pair comes last

@pytest.mark.skipif(os.getuid() != 0, reason="a file of another account needs root")
def test_a_pg_hba_conf_that_the_server_cant_replace_is_found(world):
    folder = world.box.folder / "etc"
    folder.mkdir()
    shutil.copy(world.b.data / "pg_hba.conf", folder)
    folder.chmod(0o755)
    (folder / "pg_hba.conf").chmod(0o644)
    with restarted(world.b, f"hba_file = '{folder}/pg_hba.conf'"):
        assert found(world.scene.tool)["hba_not_writable"]["side"] == "b"


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_server_that_is_down_is_named(world, side):
    server = world.scene.server(side)
    server.stop()
    findings = found(world.scene.tool)
    server.start()
    assert findings["unreachable"]["side"] == side and findings["unreachable"]["severity"] == "error", findings


def test_log_that_the_standby_needs_is_gone(world):
    with slot_lost(world):
        assert found(world.scene.tool)["slot_lost"]["side"] == "a"


def codes_of_the_driver():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "drivers/postgresql").glob("check*.c"))
    codes = set(re.findall(r'"([a-z][a-z_]+)",\s*(?:CO_ERROR|CO_WARNING|CO_INFO)', sources))
    codes |= set(re.findall(r'(?:CO_ERROR|CO_WARNING|CO_INFO),\s*"([a-z][a-z_]+)"', sources))
    codes |= set(re.findall(r'CO_WARNING : CO_(?:ERROR|INFO), "([a-z_]+)"', sources))
    return codes | set(re.findall(r'^    \{"([a-z_]+)",$', sources, re.M))


def provoked(codes):
    """Those that a table of cases has, or that a test of this file asserts by name."""
    cases = {case[0] for table in (CUTOVER, CONFIGS, SETUP, BARE_CONFIGS) for case in table}
    for test in ast.parse(pathlib.Path(__file__).read_text(encoding="utf-8")).body:
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
            asserted = [node for node in ast.walk(test) if isinstance(node, ast.Assert)]
            words = [word.value for one in asserted for word in ast.walk(one.test) if isinstance(word, ast.Constant)]
            cases |= {word for word in words if isinstance(word, str) and word in codes}
    return cases


def test_every_finding_of_the_driver_is_documented_and_has_a_case():
    codes = codes_of_the_driver()
    page = (ROOT / "docs/postgresql.md").read_text(encoding="utf-8").split("## Findings of `check`")[1]
    documented = set(re.findall(r"`([a-z_]+)`", page)) - {"check", "accept"}
    assert codes == documented, f"only in the driver: {codes - documented}; only in docs: {documented - codes}"
    cases, excused = provoked(codes), set(NOT_PROVOKED)
    assert not cases & excused, f"said not to be provoked, and is: {cases & excused}"
    assert codes == cases | excused, f"without a case: {codes - cases - excused}; unknown to the driver: {(cases | excused) - codes}"
    missing = {name for reason in NOT_PROVOKED.values() for name in re.findall(r"test_\w+", reason) if name not in globals()}
    assert not missing, f"tests that are named and don't exist: {missing}"
