"""What only MariaDB and MySQL have: locks held by clients, events, accounts, GTIDs that nobody may make."""
import pytest

from sandbox import wait_for
from sandbox.scenario import now_ns

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
        began = now_ns()
        result = ready.tool("cutover", "--yes", "--when-ready=20s", json=True)
        took_ms = (now_ns() - began) // 1000000
        assert result.code == 4, result
        assert took_ms < 20000
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
    assert ready.tool("cutover", "--yes", "--when-ready=20s", fault="promote:end=error").code == 4
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


def test_transactions_made_on_the_follower_are_found_and_refused(ready):
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
        assert ready.tool("cutover", "--yes", "--when-ready=20s", fault="promote:end=error").code == 4
    assert load.count() == 0, load.entries()[:5]
    no_stray_gtids(ready)
