"""Counter-examples of PostgreSQL: each was tried on a real server, and broke an earlier draft of the protocol."""
import time

import psycopg2
import pytest

from sandbox.wait import wait_for

pytestmark = pytest.mark.engines("postgresql")


def held(scene, point, ms=3000, **how):
    """A cutover that stands still for so long at a point; returns when it is in that phase."""
    child = scene.tool.spawn("cutover", "--yes", "--when-ready=20s", fault=f"{point}=delay:{ms}", **how)
    phase = point.split(":")[0]
    wait_for(lambda: child.poll() is not None or scene.at_phase(phase), 40, f"the run is at {phase}")
    return child


def refused(server, user, database, statement="SELECT 1"):
    try:
        server.query(statement, database, user)
    except psycopg2.Error as error:
        return str(error)
    return None


def test_a_superuser_is_held_by_the_fence_and_by_the_closure(ready):
    child = held(ready, "capture:end")
    time.sleep(0.3)
    for database in ("app", "postgres", "template1"):
        assert "not currently accepting connections" in (refused(ready.a, "postgres", database) or "")
        assert "pg_hba.conf" in (refused(ready.b, "postgres", database) or "")
    assert ready.tool.finish(child, 60).code == 0


def test_replaying_the_lifted_fence_does_not_open_a_promoted_target(ready):
    """1: undo opens A, whose un-fence B replays before or after its promotion: B's closure is its own."""
    result = ready.run(fault="promote:end=error")
    assert result.code == 4, result
    assert ready.open_side() == "a"
    ready.caught_up()


def test_a_read_session_on_the_target_does_not_outlive_its_closure(ready):
    """2: opened before the fence, it would write after the promotion."""
    reader = ready.b.connect("postgres", "app", timeout_s=20)
    with reader.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute("SELECT 1")
    assert ready.run().code == 0
    with pytest.raises(psycopg2.Error):
        with reader.cursor() as cursor:
            cursor.execute("INSERT INTO ledger VALUES ('from-the-reader')")


def test_a_client_slow_in_start_up_writes_nothing_after_the_final_position(ready):
    """3: it passed the check of its database before the fence, and no list of sessions shows it yet."""
    with ready.load(writers=4, kinds=["slow"], pause_s=0.005) as load:
        wait_for(lambda: load.count() > 2, 30, "the load runs")
        assert ready.run().code == 0
    ready.check(load, "a")


def test_a_prepared_transaction_is_named_and_never_ended(scene):
    with open(scene.a.data / "postgresql.conf", "a", encoding="ascii") as file:
        file.write("max_prepared_transactions = 5\n")
    with open(scene.b.data / "postgresql.conf", "a", encoding="ascii") as file:
        file.write("max_prepared_transactions = 5\n")
    for server in (scene.a, scene.b):
        server.stop()
        server.start()
    scene.set_up()
    connection = scene.a.connect("app")
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO ledger VALUES ('prepared')")
        cursor.execute("PREPARE TRANSACTION 'two-phase-7'")
    connection.close()
    result = scene.tool("cutover", "--yes", "--when-ready=20s", timeout_s=60)
    assert result.code == 1 and "two-phase-7" in result.out + result.err, result
    assert scene.a.query("SELECT gid FROM pg_prepared_xacts") == [("two-phase-7",)]
    scene.a.query("ROLLBACK PREPARED 'two-phase-7'", "app", "app")


def test_writes_do_not_hang_after_an_undo_that_took_the_synchronous_standby(ready):
    """14: synchronous_standby_names = '*' and B the only standby."""
    ready.a.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
    ready.a.query("SELECT pg_reload_conf()")
    result = ready.run(fault="promote:end=error")
    assert result.code == 4, result
    ready.a.query("INSERT INTO ledger VALUES ('after-the-undo')", "app", "app")


def test_an_undone_promotion_archives_no_history_file(scene):
    """15: other standbys and restores would follow the dead branch."""
    folder = scene.box.folder / "archive"
    folder.mkdir()
    folder.chmod(0o777)
    for server in (scene.a, scene.b):
        with open(server.data / "postgresql.conf", "a", encoding="ascii") as file:
            file.write(f"archive_mode = on\narchive_command = 'cp %p {folder}/{server.name}-%f'\n")
        server.stop()
        server.start()
    scene.box.folder.chmod(0o755)
    scene.set_up()
    assert scene.run(fault="promote:end=error").code == 4
    time.sleep(1)  # for an archiver that would be wrong
    assert not list(folder.glob("*.history"))
    scene.caught_up()
    assert scene.run().code == 0
    wait_for(lambda: list(folder.glob("*.history")), 20, "the new primary archives")


def test_stop_leaves_nothing_to_rewind_and_an_undo_starts_the_primary_again(scene):
    """20: standby.signal is placed before the stop; undo removes it and never promotes."""
    scene.pair.extra["fence"] = "stop"
    scene.tool.write_config()
    scene.set_up()
    with scene.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert scene.run(fault="capture:end=error").code == 4
        at = load.count("a")
        wait_for(lambda: load.count("a") > at + 20, 20, "A takes writes again")
    assert scene.check(load, "a", committed=False) == "a"
    assert not (scene.a.data / "standby.signal").exists()
    assert scene.a.query("SELECT timeline_id FROM pg_control_checkpoint()") == [(1,)]
    scene.caught_up()
    with scene.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert scene.run().code == 0
    assert scene.check(load, "a") == "b"
    assert scene.run("rollback").code == 0
