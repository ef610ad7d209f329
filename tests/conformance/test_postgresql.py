"""What only PostgreSQL has; among it the counter-examples that broke earlier protocols, one test each."""
import glob
import threading

import pytest

from sandbox import wait_for
from sandbox.scenario import Scenario

pytestmark = pytest.mark.engines("postgresql")

OWN = "changeover"  # the one database that stays reachable while A is fenced


def try_insert(connection, key):
    """Whether the server acknowledged it."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO ledger VALUES (%s)", (key,))
        return True
    except Exception:  # refused, ended, timed out: not acknowledged
        return False


def at_phase(scene, phase, after):
    return lambda: scene.at_phase(phase, after=after)


def test_a_promotion_that_comes_late_does_not_open_b(ready):
    """The promotion's reply is lost, A is opened again, and then the promotion arrives."""
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        result = ready.tool("cutover", "--yes", "--when-ready=20s", fault="promote.server:before=late", json=True, timeout_s=120)
        assert result.code in (4, 5), result
        assert ready.settle("a") == "a"
        at = load.count("a")
        wait_for(lambda: load.count("a") > at + 20, 20, "A takes writes")
        assert not ready.b.is_open()
    assert ready.check(load, "a", committed=False) == "a"


def test_a_session_that_was_open_on_b_writes_nothing_there(ready):
    """It unlocks itself and writes from the moment B is promoted, while B is still closed."""
    reader = ready.b.connect("app", timeout_s=20)
    with reader.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
    runs = ready.runs()
    child = ready.tool.spawn("cutover", "--yes", "--when-ready=20s", fault="commit:begin=delay:1500", json=True)
    wait_for(at_phase(ready, "commit", runs), 60, "B is promoted and closed")
    assert not try_insert(reader, "too early"), "B acknowledged a write before the commit"
    result = ready.tool.finish(child, 60)
    assert result.code == 0, result
    assert "too early" not in ready.b.read_all()


def test_superusers_get_into_no_database_but_the_tools_own(ready):
    runs = ready.runs()
    child = ready.tool.spawn("cutover", "--yes", "--when-ready=20s", fault="prove:begin=delay:2000", json=True)
    wait_for(at_phase(ready, "prove", runs), 60, "A is fenced")
    entered = []
    for database in ("app", "postgres", "template1"):
        try:
            ready.a.connect("postgres", database, timeout_s=3).close()
            entered.append(database)
        except Exception:  # refused
            pass
    result = ready.tool.finish(child, 60)
    assert not entered, f"a superuser got into {entered} of the fenced A"
    assert result.code == 0, result


def test_a_client_slow_in_start_up_is_seen(ready):
    """It passed the check of its database before the fence, and isn't in pg_stat_activity yet."""
    with ready.load(writers=6, kinds=["slow"], pause_s=0.001) as load:
        wait_for(lambda: load.count() > 3, 40, "the slow clients write")
        assert ready.run("cutover", json=True).code == 0
    ready.check(load, "a")


def test_b_was_the_only_synchronous_standby_and_died(ready):
    """After the undo A's clients wait for nobody."""
    ready.a.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
    ready.a.query("SELECT pg_reload_conf()")
    ready.pair.extra["accept"] = ["synchronous_standby"]
    ready.tool.write_config()
    runs = ready.runs()
    child = ready.tool.spawn("cutover", "--yes", "--when-ready=20s", fault="catch_up:begin=delay:1500", json=True)
    wait_for(at_phase(ready, "catch_up", runs), 60, "A is fenced")
    ready.b.kill()
    result = ready.tool.finish(child, 90)
    assert result.code == 4, result
    assert ready.a.is_open(), "an ordinary client's commit hangs"
    ready.b.start()
    assert ready.settle("a") == "a"


def test_an_undone_promotion_archives_no_history(box):
    """Other standbys and PITR would follow the dead branch."""
    archive = box.folder / "archive"
    archive.mkdir(mode=0o777)
    archive.chmod(0o777)
    pair = box.pair("postgresql", start=False)
    for server in (pair.a, pair.b):
        with open(server.data / "postgresql.conf", "a", encoding="ascii") as file:
            file.write(f"archive_mode = on\narchive_command = 'cp %p {archive}/%f'\n")
        server.start()
    pair.a.fill(pair)
    scene = Scenario.of(box, pair)
    scene.set_up()
    result = scene.tool("cutover", "--yes", "--when-ready=20s", fault="commit:begin=error", json=True, timeout_s=120)
    assert result.code == 4, result
    assert not glob.glob(f"{archive}/*.history")


def test_timeouts_of_the_server_do_not_end_the_tools_sessions(ready):
    for server in (ready.a, ready.b):
        for name, value in (("idle_session_timeout", "800ms"), ("idle_in_transaction_session_timeout", "800ms"),
                            ("statement_timeout", "900ms"), ("lock_timeout", "500ms")):
            server.query(f"ALTER SYSTEM SET {name} = '{value}'")
        server.query("SELECT pg_reload_conf()")
    result = ready.run("cutover", fault="prove:begin=delay:2000,fence:begin=delay:2000", json=True)
    assert result.code == 0, result


def test_a_name_that_leads_to_the_other_server_is_not_followed(ready):
    """A's address is one that the switch of traffic re-points."""
    text = ready.tool.config_path.read_text()
    ready.tool.write_config(text.replace(f"127.0.0.1:{ready.a.port}/", f"127.0.0.1:{ready.b.port}/"))
    assert ready.tool("lag").code in (3, 65)
    assert ready.tool("cutover", "--yes").code in (3, 65)
    ready.tool.write_config(text)
    assert ready.open_side() == "a"
    assert ready.run("cutover").code == 0


def test_the_way_back_keeps_as_own_configuration(ready):
    """pg_rewind copies B's files over A's."""
    names = ("postgresql.conf", "pg_hba.conf")
    before = [(ready.a.data / name).read_text(encoding="utf-8") for name in names]
    assert ready.run("cutover").code == 0
    ready.caught_up()
    assert [(ready.a.data / name).read_text(encoding="utf-8") for name in names] == before
    assert ready.run("rollback").code == 0
    assert [(ready.a.data / name).read_text(encoding="utf-8") for name in names] == before


def test_a_held_by_the_stop_fence_crashes_before_its_clean_stop(box):
    """A restart after standby.signal was placed is a standby; undo makes it a primary on its own timeline again."""
    pair = box.pair("postgresql", fence="stop")
    scene = Scenario.of(box, pair)
    scene.set_up()
    timeline = "SELECT timeline_id FROM pg_control_checkpoint()"
    before = scene.a.query(timeline)
    with scene.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert scene.tool("cutover", "--yes", "--when-ready=20s", fault="fence.stop:before=kill_both", timeout_s=90).code == -9
        scene.tool.wait_quiet()
        scene.a.crash_and_restart()
        assert not scene.a.is_open()
        assert scene.settle("a", timeout_s=120) == "a"
    scene.check(load, "a", committed=False)
    assert scene.a.query(timeline) == before


def test_prepared_transactions_are_named_and_hold_the_run_up(ready):
    """Nobody can end them for their owner: the run is refused, or undone, and says which."""
    for server in (ready.a, ready.b):
        if server.query("SHOW max_prepared_transactions")[0][0] == "0":
            pytest.skip("max_prepared_transactions is 0 in the sandbox")
    connection = ready.a.connect("app")
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO ledger VALUES ('prepared')")
        cursor.execute("PREPARE TRANSACTION 'forgotten'")
    result = ready.tool("cutover", "--yes", json=True)
    assert result.code in (1, 4), result
    assert "forgotten" in result.out, result


def test_a_restart_of_a_between_proof_and_commit_is_seen(ready):
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        runs = ready.runs()
        child = ready.tool.spawn("cutover", "--yes", "--when-ready=20s", fault="promote:begin=delay:2000", json=True)
        wait_for(at_phase(ready, "promote", runs), 60, "everything is proven")
        restart = threading.Thread(target=ready.a.crash_and_restart)
        restart.start()
        result = ready.tool.finish(child, 120)
        restart.join(60)
        assert result.code in (4, 5), result
        assert ready.settle("a") == "a"
    ready.check(load, "a", committed=False)
