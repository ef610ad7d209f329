"""Replication by file and position: MySQL with gtid_mode=OFF; and a MariaDB whose replication doesn't use its GTIDs."""
import pytest

from sandbox import wait_for
from sandbox.proxy import Proxy
from sandbox.scenario import PATIENTLY, now_ns

only_without = pytest.mark.engines("mysql-file")


def status(server):
    return dict(zip(("file", "offset"), server.query("SHOW BINARY LOG STATUS")[0][:2]))


def rows(server):
    return dict(server.query("SELECT kind, value FROM changeover.originals WHERE kind IN ('follow_from', 'promoted_at')"))


def there_and_back(scene, rounds=1):
    for _ in range(rounds):
        for kind in ("cutover", "rollback"):
            source, since = scene.primary, now_ns()
            with scene.load(writers=4) as load:
                wait_for(lambda: load.count() > 20, 20, "the load runs")
                result = scene.run(kind, json=True)
                assert result.code == 0, result
                at = load.count()
                wait_for(lambda: load.count() > at + 20, 20, "writes go on")
            assert scene.check(load, source, since, committed=True) != source
            scene.caught_up()
    same(scene)


def same(scene):
    scene.caught_up()
    wait_for(lambda: scene.a.read_all() == scene.b.read_all(), 20, "both have the same rows")


@only_without
def test_the_old_primary_follows_from_exactly_where_the_new_ones_log_stood(ready):
    for _ in range(3):  # the logs of the two drift apart, in numbers and in offsets
        ready.b.query("FLUSH BINARY LOGS")
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 50, 20, "the load runs")
        assert ready.run("cutover").code == 0
        at = load.count()
        wait_for(lambda: load.count() > at + 20, 20, "writes go on")
    kept = rows(ready.b)
    assert "follow_from" not in kept, "it is a primary"
    assert f"/{status(ready.b)['file'].split('.')[0]}." in kept["promoted_at"] and status(ready.b)["file"] in kept["promoted_at"]
    same(ready)
    assert ready.a.query("SELECT COUNT(*) FROM performance_schema.replication_connection_configuration WHERE AUTO_POSITION = '0'")[0][0] == 1
    there_and_back_from_b(ready)


def there_and_back_from_b(scene):
    assert scene.run("rollback").code == 0
    same(scene)
    there_and_back(scene)


@only_without
@pytest.mark.parametrize("where", ["prove:end", "promote:end", "promote.stop_following:after"])
def test_an_undo_after_the_promotion_follows_again_from_where_it_was(ready, where):
    for _ in range(2):
        with ready.load(writers=4) as load:
            wait_for(lambda: load.count() > 20, 20, "the load runs")
            assert ready.tool("cutover", *PATIENTLY, fault=f"{where}=error").code == 4
        ready.check(load, "a", committed=False)
        same(ready)
    there_and_back(ready)


@only_without
@pytest.mark.parametrize("where", ["promote:begin", "promote:end", "commit:end", "reverse:begin"])
def test_a_tool_that_is_killed_around_the_promotion_leaves_both_with_the_same_rows(ready, where):
    with ready.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        before = ready.primary
        ready.tool("cutover", *PATIENTLY, fault=f"{where}=kill")
        ready.settle(before)
    ready.check(load, "a")
    same(ready)


@only_without
def test_a_log_that_was_rotated_is_no_lag_and_no_obstacle(ready):
    ready.a.query("FLUSH BINARY LOGS")
    ready.caught_up()
    lag = ready.must("lag", json=True).json["pairs"][0]
    assert lag["lag_bytes"] == 0 and status(ready.a)["file"] in lag["primary_position"], lag
    ready.b.pause_apply(True)
    ready.a.query("INSERT INTO app.ledger VALUES ('late')")
    ready.b.pause_apply(False)
    there_and_back(ready)


@only_without
def test_lag_is_in_bytes_while_the_replica_holds_back(ready):
    ready.b.set_apply_delay(5000)
    ready.a.query("INSERT INTO app.ledger VALUES ('delayed')")
    lag = ready.tool("lag", "--timeout=500ms", json=True).json["pairs"][0]
    assert lag["lag_bytes"] > 0 and lag["lag_transactions"] is None and lag["state"] == "closed", lag
    ready.b.set_apply_delay(0)
    same(ready)


@only_without
def test_a_replication_by_file_and_position_that_runs_is_adopted(scene):
    scene.set_up()
    scene.must("detach", "--yes")
    by_hand(scene)
    scene.pair.extra["setup"] = {"method": "adopt"}
    scene.tool.write_config()
    scene.must("setup", timeout_s=60)
    there_and_back(scene)


def by_hand(scene):
    """What a person does: an account, the position, START."""
    scene.a.query("CREATE USER changeover_repl@'%' IDENTIFIED BY 'my-secret-7Q'")
    scene.a.query("GRANT REPLICATION SLAVE ON *.* TO changeover_repl@'%'")
    at = status(scene.a)
    scene.b.query("STOP REPLICA")
    scene.b.query(f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={scene.a.port}, SOURCE_USER='changeover_repl', "
                  f"SOURCE_PASSWORD='my-secret-7Q', SOURCE_LOG_FILE='{at['file']}', SOURCE_LOG_POS={at['offset']}, GET_SOURCE_PUBLIC_KEY=1")
    scene.b.query("START REPLICA")


@only_without
def test_what_cant_be_seen_without_gtids_is_said(ready):
    found = {finding["code"]: finding for finding in ready.tool("check", "--for", "cutover", json=True).json["findings"]}
    assert found["without_gtid"]["severity"] == "warning" and "can't be seen" in found["without_gtid"]["message"]
    assert "gtid_mode_off" not in found and "replication_without_gtid" not in found
    assert "relay_log_recovery_off" not in found
    ready.b.stop()
    with open(ready.b.folder / "my.cnf", "a", encoding="ascii") as file:
        file.write("relay-log-recovery=OFF\n")
    ready.b.start()
    found = {finding["code"]: finding for finding in ready.tool("check", "--for", "cutover", json=True).json["findings"]}
    assert found["relay_log_recovery_off"]["severity"] == "warning" and found["relay_log_recovery_off"]["side"] == "b"


@only_without
def test_gtids_on_one_server_alone_are_refused(scene):
    for mode in ("OFF_PERMISSIVE", "ON_PERMISSIVE"):
        scene.b.query(f"SET GLOBAL gtid_mode={mode}")
    result = scene.tool("setup", json=True)
    assert result.code == 1 and "gtid_mode" in result.out + result.err, result


@only_without
def test_a_copy_of_ones_own_goes_on_from_the_position_it_stands_for(scene):
    at = status(scene.a)
    scene.b.query("CREATE DATABASE app")
    scene.b.query("CREATE TABLE app.ledger (k varchar(100) PRIMARY KEY) ENGINE=InnoDB")
    for (key,) in scene.a.query("SELECT k FROM app.ledger"):
        scene.b.query(f"INSERT INTO app.ledger VALUES ('{key}')")
    scene.b.query("CREATE USER app@'%' IDENTIFIED BY 'my-secret-7Q'")
    scene.b.query("GRANT ALL ON app.* TO app@'%'")
    scene.a.query("INSERT INTO app.ledger VALUES ('since')")
    scene.pair.extra["setup"] = {"method": "copied", "position": f"file:{at['file']}:{at['offset']}"}
    scene.tool.write_config()
    scene.must("setup", timeout_s=60)
    same(scene)
    assert scene.run("cutover").code == 0


@pytest.mark.engines("mariadb")
def test_a_mariadb_that_follows_by_file_and_position_goes_on_by_gtid_after_setup(ready):
    ready.b.query("STOP SLAVE")
    ready.b.query("CHANGE MASTER TO MASTER_USE_GTID=no")
    ready.b.query("START SLAVE")
    found = {finding["code"]: finding for finding in ready.tool("check", "--for", "cutover", json=True).json["findings"]}
    assert found["replication_without_gtid"]["severity"] == "error"
    with ready.load(writers=3, follow=False) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        ready.must("setup", timeout_s=60)
    ready.caught_up()
    load.check_not_lost(ready.b)
    assert ready.run("cutover").code == 0 and ready.run("rollback").code == 0


class Pretends(Proxy):
    """A relay behind which a server gives other answers: {bytes of it: as many others}."""

    def __init__(self, port, target, answers):
        self.answers, self.held, self.source = answers, {}, None
        super().__init__(port, target, change=self.put)

    def forward(self, source):
        self.source = source
        super().forward(source)

    def put(self, data):
        """What may be the beginning of one that goes on with the next bytes waits for them."""
        data = self.held.pop(self.source, b"") + data
        for told, other in self.answers.items():
            data = data.replace(told, other)
        keep = max(n for told in self.answers for n in range(len(told)) if data.endswith(told[:n]))
        self.held[self.source] = data[len(data) - keep:]
        return data[:len(data) - keep]


@only_without
def test_a_b_that_keeps_in_a_file_how_far_it_has_applied_is_found(ready):
    """Only MySQL 5.7 and 8.0 can; here a relay puts that variable in the place of another one."""
    told, other = b"\x19binlog_row_event_max_size\x048192", b"\x19relay_log_info_repository\x04FILE"
    assert len(told) == len(other)
    relay = Pretends(ready.box.free_port(), ready.b.port, {told: other})
    ready.box.proxies.append(relay)
    config = ready.b.side_config()
    ready.b.side_config = lambda: {**config, "url": config["url"].replace(f":{ready.b.port}", f":{relay.port}"),
                                   "peer": {"address": f"127.0.0.1:{ready.b.port}"}}
    before = ready.tool("check", "--for", "cutover", json=True)
    assert "relay_log_info_in_file" not in [finding["code"] for finding in before.json["findings"]]
    ready.tool.write_config()
    result = ready.tool("check", "--for", "cutover", json=True)
    found = {finding["code"]: finding for finding in result.json["findings"]}
    assert found["relay_log_info_in_file"]["severity"] == "error" and found["relay_log_info_in_file"]["side"] == "b", result
    assert ready.tool("cutover", "--yes").code == 1
