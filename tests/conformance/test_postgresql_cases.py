"""Counter-examples of PostgreSQL: each was tried on a real server, and broke an earlier draft of the protocol."""
import time

import psycopg2
import pytest

from sandbox import process
from sandbox.postgresql import PASSWORD
from sandbox.scenario import PATIENTLY, unchanged
from sandbox.wait import wait_for

pytestmark = pytest.mark.engines("postgresql")


def needs_rewind(scene):
    if scene.pair.extra.get("fence") == "stop":
        pytest.skip("with fence: stop the old primary follows without a rewind")


def refused(server, user, database, statement="SELECT 1"):
    try:
        server.query(statement, database, user)
    except psycopg2.Error as error:
        return str(error)
    return None


def test_04_a_superuser_is_held_by_the_fence_and_by_the_closure(ready):
    no_server = "Connection refused" if ready.pair.extra.get("fence") == "stop" else "not currently accepting connections"
    with ready.tool.held("cutover", *PATIENTLY, at="capture:end") as child:
        for database in ("app", "postgres", "template1"):
            assert no_server in (refused(ready.a, "postgres", database) or "")
            assert "pg_hba.conf" in (refused(ready.b, "postgres", database) or "")
    assert ready.tool.finish(child, 60).code == 0


def test_01_replaying_the_lifted_fence_does_not_open_a_promoted_target(ready):
    """Undo opens A, whose un-fence B replays before or after its promotion: B's closure is its own."""
    result = ready.run(fault="promote:end=error")
    assert result.code == 4, result
    assert ready.open_side() == "a"
    ready.caught_up()


def test_02_a_read_session_on_the_target_does_not_outlive_its_closure(ready):
    """Opened before the fence, it would write after the promotion."""
    reader = ready.b.connect("postgres", "app", timeout_s=20)
    with reader.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute("SELECT 1")
    assert ready.run().code == 0
    with pytest.raises(psycopg2.Error):
        with reader.cursor() as cursor:
            cursor.execute("INSERT INTO ledger VALUES ('from-the-reader')")


def test_03_a_client_slow_in_start_up_writes_nothing_after_the_final_position(ready):
    """It passed the check of its database before the fence, and no list of sessions shows it yet."""
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


def test_14_writes_do_not_hang_after_an_undo_that_took_the_synchronous_standby(ready):
    """synchronous_standby_names = '*' and B the only standby."""
    ready.a.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
    ready.a.query("SELECT pg_reload_conf()")
    result = ready.run(fault="promote:end=error")
    assert result.code == 4, result
    ready.a.query("INSERT INTO ledger VALUES ('after-the-undo')", "app", "app")


def test_15_an_undone_promotion_archives_no_history_file(scene):
    """Other standbys and restores would follow the dead branch."""
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


def test_20_stop_leaves_nothing_to_rewind_and_an_undo_starts_the_primary_again(scene):
    """standby.signal is placed before the stop; undo removes it and never promotes."""
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


def test_17_a_promotion_that_comes_late_does_not_open_b(ready):
    """The reply is lost, A is opened again, and then the promotion arrives."""
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        result = ready.tool("cutover", "--yes", "--when-ready=20s", fault="promote.server:before=late", json=True, timeout_s=120)
        assert result.code in (4, 5), result
        assert ready.settle("a") == "a"
        at = load.count("a")
        wait_for(lambda: load.count("a") > at + 20, 20, "A takes writes")
        assert not ready.b.is_open()
    assert ready.check(load, "a", committed=False) == "a"


def test_21_timeouts_of_the_server_do_not_end_the_tools_sessions(ready):
    """Timers of the server."""
    for server in (ready.a, ready.b):
        for name, value in (("idle_session_timeout", "800ms"), ("idle_in_transaction_session_timeout", "800ms"),
                            ("statement_timeout", "900ms"), ("lock_timeout", "500ms")):
            server.query(f"ALTER SYSTEM SET {name} = '{value}'")
        server.query("SELECT pg_reload_conf()")
    result = ready.run("cutover", fault="prove:begin=delay:2000,fence:begin=delay:2000", json=True)
    assert result.code == 0, result


def test_24_a_name_that_leads_to_the_other_server_is_not_followed(ready):
    """A's address is one that the switch of traffic re-points."""
    text = ready.tool.config_path.read_text()
    ready.tool.write_config(text.replace(f"127.0.0.1:{ready.a.port}/", f"127.0.0.1:{ready.b.port}/"))
    assert ready.tool("lag").code in (3, 65)
    assert ready.tool("cutover", "--yes").code in (3, 65)
    ready.tool.write_config(text)
    assert ready.open_side() == "a"
    assert ready.run("cutover").code == 0


def test_19_the_way_back_keeps_as_own_configuration(ready):
    """pg_rewind copies B's files over A's."""
    names = ("postgresql.conf", "pg_hba.conf")
    before = [(ready.a.data / name).read_text(encoding="utf-8") for name in names]
    assert ready.run("cutover").code == 0
    ready.caught_up()
    assert [(ready.a.data / name).read_text(encoding="utf-8") for name in names] == before
    assert ready.run("rollback").code == 0
    assert [(ready.a.data / name).read_text(encoding="utf-8") for name in names] == before


@pytest.mark.parametrize("point", ["reverse.follow:after", "reverse.follow:after#2", "reverse.follow:after#4"])
def test_killed_while_the_old_primary_is_down_for_its_rewind_it_follows_after_resume(ready, point):
    """Nobody could raise the run's token on a server that doesn't run, so its machine refused whoever took over."""
    if "#" in point:
        needs_rewind(ready)
    with ready.load(writers=2) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert ready.tool("cutover", *PATIENTLY, fault=f"{point}=kill_both").code == -9
        ready.tool.wait_quiet()
        result = ready.tool("resume", timeout_s=90)
        assert result.code == 0, result
    assert ready.check(load, "a", committed=True) == "b"
    ready.caught_up()
    assert ready.run("rollback").code == 0


@pytest.mark.parametrize("point", ["promote.server:revert", "promote.server:revert#2", "promote.server:revert#3"])
def test_killed_while_a_promotion_is_taken_back_resume_cleans_the_target_up(ready, point):
    """The target is down for its rewind: nobody could raise the run's token there either, and it stayed closed for good."""
    with ready.load(writers=2) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        result = ready.tool("cutover", *PATIENTLY, fault=f"promote:end=error,{point}=kill_both", timeout_s=90)
        assert result.code == -9, result
        ready.tool.wait_quiet()
        assert ready.tool("resume", "--if-needed", timeout_s=90).code in (0, 4)
        assert ready.tool("resume", "--if-needed", timeout_s=90).code == 0  # nothing is left of the run
    assert ready.check(load, "a", committed=False) == "a"
    ready.caught_up()
    assert ready.run().code == 0


def test_a_follow_up_makes_an_old_primary_follow_that_is_down(ready):
    assert ready.run(fault="reverse:begin=error").code == 6
    ready.a.stop()
    result = ready.tool("resume", timeout_s=90)
    assert result.code == 0, result
    ready.caught_up()
    assert ready.run("rollback").code == 0


def test_an_old_primary_that_is_down_is_rewound_only_after_the_new_ones_first_checkpoint(ready):
    """Until then the new primary's control file names the old timeline; pg_rewind before 16 reads it there and finds nothing to do,
    and the standby can't follow. The checkpointer is held from behind the fence's preparation on."""
    needs_rewind(ready)
    checkpointer, = [pid for pid in process.family(ready.b.pid()) if b"checkpointer" in process.command_line(pid)]
    ready.tool.cutover["freeze"] = [{"run": ["kill", "-STOP", str(checkpointer)], "timeout": "5s"}]
    ready.tool.write_config()
    assert ready.run(fault="reverse:begin=error").code == 6
    ready.a.stop()
    child = ready.tool.spawn("resume")
    try:
        wait_for(lambda: ready.b.query("SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query = 'CHECKPOINT'"), 30,
                 "the tool waits for the checkpoint")
    finally:
        process.send(checkpointer, 18)
    result = ready.tool.finish(child, 90)
    assert result.code == 0, result
    ready.caught_up()


def test_catch_up_is_made_impossible_and_a_is_back_within_the_promised_time(ready):
    """max_write_pause + undo_budget, by the journal's stamps and without a margin. The target stops applying when the gate is behind the
    run and the fence still ahead; the hook is where both wait for each other."""
    begun, go = ready.box.folder / "begun", ready.box.folder / "go"
    ready.tool.cutover.update(max_write_pause="1s", undo_budget="4s",
                              freeze=[{"run": ["sh", "-c", f"touch '{begun}'; until [ -e '{go}' ]; do sleep 0.05; done"]}])
    ready.tool.write_config()
    before = ready.a.settings(), ready.b.settings()
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        child = ready.tool.spawn("cutover", "--yes", "--when-ready=20s", json=True)
        wait_for(begun.exists, 60, "the gate is behind the run")
        ready.b.pause_apply(True)
        at = load.count("a")
        wait_for(lambda: load.count("a") > at + 20, 20, "A has what B doesn't apply")
        go.touch()
        result = ready.tool.finish(child, 90)
        assert result.code == 4, result
        at = load.count("a")
        wait_for(lambda: load.count("a") > at + 20, 20, "A takes writes again")
        ready.b.pause_apply(False)
    assert ready.check(load, "a", committed=False) == "a"
    last, = ready.ask_journal("SELECT id, unavailable_ms FROM run ORDER BY seq DESC LIMIT 1")
    phases = {row[0]: row[1:] for row in ready.ask_journal("SELECT name, begun_ns, ended_ns, outcome, error_message FROM phase "
                                                           "WHERE run = ?", last[0])}
    assert phases["catch_up"][2] == "failed" and "max_write_pause was over" in phases["catch_up"][3], phases
    assert "promote" not in phases
    fenced = phases["fence"][0]
    lifted = max(end for end, in ready.ask_journal("SELECT ended_ns FROM step WHERE run = ? AND side = 'a' AND action = 'revert' "
                                                   "AND step LIKE 'fence.%'", last[0]))
    assert phases["catch_up"][1] - fenced >= 1e9, "it was given up before its time"
    assert phases["undo"][0] < lifted <= fenced + 5e9, (lifted - fenced, phases)
    assert 1000 <= last[1] <= 5000 and result.json["unavailable_ms"] == last[1]
    wait_for(lambda: unchanged(before, (ready.a.settings(), ready.b.settings())), 20, "settings as before")
    ready.caught_up()
    ready.tool.cutover.pop("freeze")
    ready.tool.write_config()
    assert ready.run().code == 0  # and the next run isn't hindered


def test_10_a_restart_of_a_between_proof_and_commit_is_seen(ready):
    """The proof is taken again after the last promotion."""
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        with ready.tool.held("cutover", "--yes", "--when-ready=20s", "--max-write-pause=30s", at="promote:begin", json=True) as child:
            ready.a.crash_and_restart()
        result = ready.tool.finish(child, 120)
        assert result.code in (4, 5), result
        assert ready.settle("a") == "a"
    ready.check(load, "a", committed=False)


# ---------------------------------------------------------------- the tool's account lacks a right

def as_mover(scene, attributes):
    """The tool's account is one of its own."""
    for server in (scene.a, scene.b):
        server.query(f"CREATE ROLE mover LOGIN {attributes} PASSWORD '{PASSWORD}'")
        server.url = lambda port=server.port: f"postgresql://mover@127.0.0.1:{port}/postgres"
    scene.tool.write_config()


def of_mover(scene, attributes, database="postgres"):
    scene.a.query(f"ALTER ROLE mover {attributes}", database)


def test_an_account_that_may_not_is_refused_before_anything_is_changed(scene):
    as_mover(scene, "NOSUPERUSER")
    before = scene.a.settings(), scene.b.settings()
    for command in (("check",), ("setup",), ("cutover", "--yes")):
        result = scene.tool(*command, json=True)
        assert result.code in (1, 2), result
        assert command[0] == "cutover" or "mover is not a superuser" in result.out and "init --grants" in result.out, result
    assert unchanged(before, (scene.a.settings(), scene.b.settings()))
    assert scene.a.is_open()


@pytest.mark.parametrize("phase, database", [("fence", "postgres"), ("prove", "changeover")])
def test_an_account_that_loses_its_right_in_the_middle_ends_with_one_open_side(scene, phase, database):
    """Before the fence: A stays open, whatever can't be tidied up. Behind it nobody can lift it until the right is back; then
    `resume` does."""
    if phase == "prove" and scene.pair.extra.get("fence") == "stop":
        pytest.skip("with fence: stop there is no server any more whose account could lose a right")
    as_mover(scene, "SUPERUSER")
    scene.set_up()
    before = scene.a.settings(), scene.b.settings()
    with scene.load(writers=3) as load:
        wait_for(lambda: load.count() > 10, 20, "the load runs")
        with scene.tool.held("cutover", *PATIENTLY, at=f"{phase}:begin", json=True) as child:
            of_mover(scene, "NOSUPERUSER", database)
        result = scene.tool.finish(child, 90)
        assert result.code in (1, 4, 5), result
        assert "permission denied" in result.out or "superuser" in result.out, result
        assert scene.a.is_open() == (phase == "fence") and not scene.b.is_open()
        of_mover(scene, "SUPERUSER", database)
        assert scene.settle("a") == "a"
        at = load.count("a")
        wait_for(lambda: load.count("a") > at + 10, 20, "A takes writes")
    assert scene.check(load, "a", committed=False) == "a"
    wait_for(lambda: unchanged(before, (scene.a.settings(), scene.b.settings())), 20, "settings as before")
    scene.caught_up()
    assert scene.run().code == 0


@pytest.mark.parametrize("point", ["lock:end", "prepare.source:before"])
def test_killed_before_it_noted_anything_an_undo_leaves_settings_that_look_like_its_own(ready, point):
    """The administrator had switched autovacuum off, or the primary had followed once: the undo took that for the run's and removed it."""
    ready.a.query("ALTER SYSTEM SET autovacuum = off")
    ready.a.query("ALTER SYSTEM SET primary_conninfo = 'host=192.0.2.9'")
    ready.a.query("ALTER SYSTEM SET primary_slot_name = 'changeover_a'")
    ready.a.query("SELECT pg_reload_conf()")
    before = ready.a.settings(), ready.b.settings()
    assert ready.tool("cutover", *PATIENTLY, fault=f"{point}=kill_both").code == -9
    ready.tool.wait_quiet()
    assert ready.tool("resume", "--if-needed", timeout_s=60).code in (0, 4)
    assert unchanged(before, (ready.a.settings(), ready.b.settings()))
    assert ready.run(fault="prove:end=error").code == 4
    wait_for(lambda: unchanged(before, (ready.a.settings(), ready.b.settings())), 20, "settings as before")
