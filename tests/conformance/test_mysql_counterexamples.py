"""What once broke a protocol like this one on MariaDB or MySQL, each by its name."""
import threading

import pytest

from sandbox import wait_for
from sandbox.scenario import PATIENTLY, now_ns

pytestmark = pytest.mark.engines("mariadb", "mysql")


def fenced_and_alone(scene):
    """A is fenced, B closed, and neither tool nor guardian lives."""
    assert scene.tool("cutover", *PATIENTLY, fault="capture:end=kill_both").code == -9
    scene.tool.wait_quiet()


def test_unlocking_b_does_not_travel_back_and_lift_a_s_fence(ready):
    """An ALTER USER ... ACCOUNT UNLOCK in B's binary log would reach A, which follows B."""
    assert ready.run("cutover").code == 0
    ready.caught_up()
    assert not ready.b.is_locked("app") and ready.a.is_locked("app")
    logs = [row[0] for row in ready.b.query("SHOW BINARY LOGS")]
    events = [str(row[5]) for log in logs for row in ready.b.query(f"SHOW BINLOG EVENTS IN '{log}'")]
    assert events and not [text for text in events if "ACCOUNT" in text or "`changeover`" in text], "nothing of the tool's own is in the log"


def test_root_and_a_flush_loop_get_nothing_in_while_the_tool_is_dead(ready):
    """read_only holds neither root nor FLUSH, and a lock that a session holds is gone with it: the accounts are locked."""
    fenced_and_alone(ready)
    position = ready.a.query("SELECT @@GLOBAL." + ready.a.gtid_variable)
    with ready.load(writers=4, kinds=("superuser", "flush", "reconnecting", "manual")) as load:
        wait_for(lambda: min(writer.tried for writer in load.writers) > 10, 30, "each has tried")
        assert ready.a.query("SELECT @@GLOBAL." + ready.a.gtid_variable) == position, "no GTID was made"
    assert load.count() == 0, load.entries()[:3]
    assert ready.settle("a") == "a"


def test_a_fenced_a_that_restarts_lets_nobody_in(ready):
    """MariaDB's read_only is off again after a restart, and its events would run."""
    ready.a.query("SET GLOBAL event_scheduler=ON")
    ready.a.query("CREATE EVENT app.beats ON SCHEDULE EVERY 1 SECOND DO INSERT INTO app.ledger VALUES (UUID())")
    ready.caught_up()
    fenced_and_alone(ready)
    ready.a.crash_and_restart()
    count = ready.a.query("SELECT COUNT(*) FROM app.ledger")
    with ready.load(writers=2, kinds=("superuser", "ordinary")) as load:
        wait_for(lambda: min(writer.tried for writer in load.writers) > 20, 30, "each has tried for a while")
    assert load.count() == 0 and ready.a.query("SELECT COUNT(*) FROM app.ledger") == count
    assert ready.settle("a") == "a"
    wait_for(lambda: ready.a.query("SELECT COUNT(*) FROM app.ledger") > count, 20, "the event runs again")


def test_a_statement_whose_client_is_gone_is_seen_gone_before_the_capture(ready):
    """root calls what will write in a while, and hangs up: read_only holds neither root nor what runs already."""
    caller = ready.a.connect("root", database="app", timeout_s=60)  # a call shows under the name of the routine's definer
    caller.cursor().execute("CREATE PROCEDURE later() BEGIN DO SLEEP(8); INSERT INTO ledger VALUES ('late'); END")

    def call():
        try:
            caller.cursor().execute("CALL later()")
        except Exception:  # its connection is cut below
            pass
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    watcher = ready.a.connect("root").cursor()  # not of the tool's account, whose other sessions `check` refuses

    def sleeping():
        return watcher.execute("SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'")
    wait_for(sleeping, 10, "it sleeps")
    caller._force_close()
    assert ready.run("cutover").code == 0
    assert not ready.a.query("SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'")
    ready.caught_up()
    for server in (ready.a, ready.b):
        assert not server.query("SELECT 1 FROM app.ledger WHERE k = 'late'")
    thread.join(10)


@pytest.mark.parametrize("on_timeout", ["end", "refuse"])
def test_a_statement_that_waits_for_a_row_is_ended_or_the_run_undone_as_configured(ready, on_timeout):
    """read_only waits for what is writing, also for what waits for a row. Nothing of the tool's is left waiting behind it."""
    ready.pair.extra["drain"] = {"timeout": "300ms", "on_timeout": on_timeout}
    ready.tool.write_config()
    holder = ready.a.connect("root", database="app", timeout_s=60)
    holder.begin()
    holder.cursor().execute("SELECT * FROM ledger WHERE k = 'before-1' FOR UPDATE")
    waiting = ready.a.connect("root", database="app", timeout_s=60)
    before = ready.a.settings()

    def update():
        try:
            waiting.cursor().execute("UPDATE ledger SET k = 'late' WHERE k = 'before-1'")
        except Exception:  # the run ended it, or the test
            pass
    thread = threading.Thread(target=update, daemon=True)
    thread.start()
    wait_for(lambda: ready.a.query("SELECT 1 FROM information_schema.PROCESSLIST WHERE INFO LIKE 'UPDATE ledger%'"), 10, "it waits")
    result = ready.tool("cutover", *PATIENTLY, json=True)
    ready.note(result.code, "a")
    assert result.code == (0 if on_timeout == "end" else 4), result
    assert not ready.server(ready.primary).query("SELECT 1 FROM app.ledger WHERE k = 'late'")
    if result.code == 4:
        assert ready.a.settings() == before and ready.a.is_open()
        assert not ready.a.query("SELECT 1 FROM information_schema.PROCESSLIST WHERE INFO LIKE '%read_only%' AND ID <> CONNECTION_ID()")
    for connection in (holder, waiting):
        try:
            connection.close()
        except Exception:  # the run ended it
            pass
    thread.join(10)


def test_a_follower_that_answers_half_a_second_late_while_it_catches_up_ends_no_run(ready):
    """Its connection was given up after 0.2 s, and in the write pause there is no other."""
    with ready.tool.held("cutover", *PATIENTLY, at="catch_up:begin") as child:
        ready.b.freeze()
        threading.Timer(0.5, ready.b.thaw).start()
    result = ready.tool.finish(child, 60)
    ready.note(result.code, "a")
    assert result.code == 0, result


@pytest.mark.engines("mysql")  # on MariaDB a follower's read_only isn't off for the length of a packet
def test_read_only_on_a_follower_waits_for_what_is_being_applied(ready):
    """It was given up after the lock timeout, and the run refused. Here the applier waits for a row for longer than that."""
    holder = ready.b.connect("app", database="app", timeout_s=60)  # a reader whose reads lock
    holder.cursor().execute("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    holder.begin()
    holder.cursor().execute("SELECT * FROM ledger WHERE k = 'before-1'")
    tries = set()  # each statement of the tool that was seen waiting

    def tried_again():
        tries.update(ready.b.query(
            "SELECT t.THREAD_ID, s.EVENT_ID FROM performance_schema.threads t JOIN performance_schema.events_statements_current s "
            "USING (THREAD_ID) WHERE t.PROCESSLIST_STATE LIKE 'Waiting for%lock' AND t.PROCESSLIST_INFO LIKE '%read_only%' "
            "AND t.PROCESSLIST_ID <> CONNECTION_ID()"))
        return len(tries) > 2
    with ready.tool.held("cutover", *PATIENTLY, at="warm_up.target_read_only:before") as child:
        ready.a.query("UPDATE app.ledger SET k = 'before-1b' WHERE k = 'before-1'")
        wait_for(lambda: ready.b.query("SELECT 1 FROM performance_schema.data_lock_waits"), 20, "the applier waits for the row")
    wait_for(tried_again, 40, "read_only waits for the applier, is given up and tried again, twice", 0.02)
    holder.rollback()
    result = ready.tool.finish(child, 60)
    ready.note(result.code, "a")
    assert result.code == 0, result
    assert ready.b.query("SELECT 1 FROM app.ledger WHERE k = 'before-1b'")


def test_idle_timers_of_the_servers_do_not_end_the_tool_s_connections(ready):
    for server in (ready.a, ready.b):
        server.query("SET GLOBAL wait_timeout=1")
        server.query("SET GLOBAL interactive_timeout=1")
    result = ready.tool("cutover", *PATIENTLY, fault="warm_up:end=delay:3000", timeout_s=90)
    ready.note(result.code, "a")
    assert result.code == 0, result
    assert ready.b.is_open()


def test_an_a_that_restarts_between_the_proof_and_the_commit_is_not_committed(ready):
    """With sync_binlog=0 it may have lost its tail, and would give the same GTIDs to other transactions."""
    with ready.load(writers=3, follow=False) as load:
        wait_for(lambda: load.count() > 10, 20, "the load runs")
        since = now_ns()
        with ready.tool.held("cutover", "--yes", "--when-ready=20s", at="promote:begin") as child:
            ready.a.crash_and_restart()
        result = ready.tool.finish(child, 60)
        assert result.code in (4, 5, -9), result
        assert ready.settle("a") == "a"
    ready.check(load, "a", since, committed=False)


def test_a_client_that_reads_on_b_can_not_write_there_after_the_promotion(ready):
    """A session that was open before the fence is ended before B is promoted."""
    ready.tool.cutover.update(max_write_pause="10s")
    ready.tool.write_config()
    ready.b.query("SET GLOBAL max_connections=80")
    with ready.load(writers=2, kinds=("superuser", "ordinary")) as load:
        with ready.tool.held("cutover", "--yes", "--when-ready=20s", at="promote:end") as child:
            tried = [writer.tried for writer in load.writers]
            wait_for(lambda: all(writer.tried > at + 5 for writer, at in zip(load.writers, tried)), 20, "they try while B is promoted and closed")
            assert load.count("b") == 0, load.entries()[:3]
        result = ready.tool.finish(child, 60)
    ready.note(result.code, "a")
    assert result.code in (0, 4), result
    ready.check(load, "a", committed=result.code == 0)


def before_the_fence(scene, happens):
    """A cutover, in which `happens()` just before B is to come level with A; what B holds when the fence is about to begin; its result."""
    held, go = (scene.box.folder / name for name in ("held", "go"))
    scene.tool.cutover["freeze"] = [{"run": ["sh", "-c", f"touch '{held}'; until [ -e '{go}' ]; do sleep 0.05; done"], "timeout": "30s"}]
    scene.tool.write_config()
    with scene.tool.held("cutover", "--yes", "--when-ready=20s", at="warm_up.target_level:before") as child:  # B is closed
        happens()
    wait_for(held.exists, 40, "the fence is about to begin")
    rows = scene.b.read_all()
    go.touch()
    result = scene.tool.finish(child, 60)
    scene.note(result.code, "a")
    remarks = [event["text"] for event in scene.report()["events"] if event["kind"] == "remark"]
    return result, rows, [text for text in remarks if "level" in text]


@pytest.mark.engines("mariadb", "mysql")
def test_a_backlog_that_b_has_at_the_last_moment_is_not_waited_for_with_writes_refused(ready):
    """A follower whose lag came and went was fenced at any moment of it: the pause was up to 5.6 s instead of 0.05."""
    def happens():
        ready.b.set_apply_delay(1000)
        ready.a.query("INSERT INTO app.ledger VALUES ('at the last moment')")
    result, rows, remarks = before_the_fence(ready, happens)
    assert result.code == 0, result
    assert "at the last moment" in rows or remarks, "B had it before the fence, or the record says that it wasn't level in time"


@pytest.mark.engines("mariadb", "mysql")
def test_a_b_that_is_never_level_is_not_waited_for_for_ever_and_the_record_says_so(ready):
    def happens():
        ready.b.pause_apply(True)
        ready.a.query("INSERT INTO app.ledger VALUES ('at the last moment')")
    result, rows, remarks = before_the_fence(ready, happens)
    assert result.code == 4, result
    assert "at the last moment" not in rows and len(remarks) == 1, remarks
    assert ready.a.is_open()
