"""MongoDB's own cases, on doubles of replica set members and, where there is one, on a real mongod: members that can't be
promoted closed, step-downs that fail, a target that dies while its vote is needed, sets with more members."""
import os
import pathlib

import pytest

from sandbox import ENGINES, engine_reason, process, wait_for
from sandbox.engines import server_class
from sandbox.mongodb import Transaction
from sandbox.mongodb_double_wire import CommandError
from sandbox.scenario import PATIENTLY, Scenario

# Not in the table that the suite runs over: without a fence some of its cases mean nothing.
ENGINES.setdefault("mongodb-double-4.0", ("mongodb", "MongoDBDouble40", "mongodb"))
ENGINES.setdefault("mongodb-plain", ("mongodb", "MongoDBPlain", "mongodb"))
ENGINES.setdefault("mongodb-double-5.0-to-6.0", ("mongodb", "MongoDBDouble50To60", "mongodb"))
pytestmark = pytest.mark.skipif(bool(engine_reason("mongodb-double")), reason="no MongoDB driver was built")
CHOSEN = os.environ.get("CO_ENGINES", "mongodb,mongodb-double").split(",")
DOUBLES = ["mongodb-double-4.0", "mongodb-double"] if "mongodb-double" in CHOSEN else []
REAL = ["mongodb"] if "mongodb" in CHOSEN and not engine_reason("mongodb") else []
EITHER = DOUBLES + REAL
HAS_FENCE = bool(REAL) and server_class("mongodb").major() >= 6
WITHOUT_FENCE = DOUBLES[:1] + ([] if HAS_FENCE else REAL)
FENCED = DOUBLES[1:] + (REAL if HAS_FENCE else [])


def made(box, kind):
    scene = Scenario(box, kind)
    scene.set_up()
    return scene


def with_third(box, kind):
    """A pair whose source's set has one more member that can be elected."""
    scene = Scenario(box, kind)
    third = box.add(server_class(kind)(box, "main-c"))
    third.start()
    scene.a.join(third)
    scene.set_up()
    return scene, third


def inject(server, command, **how):
    server.inject(command, **how)


def end_it(scene, load, result):
    """Whatever the run came to: done or undone, never in between, and nothing lost."""
    assert result.code in (0, 1, 3, 4, -9), result  # 3: refused before anything was fenced; -9: the guardian ended it
    side = scene.settle("a") if result.code == -9 else scene.open_side(30)
    assert result.code == -9 or side == ("b" if result.code == 0 else "a"), result
    at = load.count()
    wait_for(lambda: load.count() > at + 20, 20, "writes go on")
    scene.check(load, "a")


@pytest.mark.parametrize("member", WITHOUT_FENCE)
def test_before_6_0_the_step_down_decides(box, member):
    scene = made(box, member)
    for kind in ("cutover", "rollback"):
        scene.moved_under_load(kind)


@pytest.mark.parametrize("member", ["mongodb-plain"] if REAL else [])
def test_nothing_is_sent_that_only_a_server_with_test_commands_knows(box, member):
    scene = made(box, member)
    with scene.load(writers=2) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert scene.tool("cutover", *PATIENTLY, fault="promote:begin=error", timeout_s=60).code == 4
        for kind in ("cutover", "rollback"):
            scene.moved(load, kind)
    load.check_not_lost(scene.a)
    assert scene.open_side() == "a"
    scene.must("detach", "--yes", timeout_s=60)


@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize("member", [kind for kind in ("mongodb-double-5.0-to-6.0",) if DOUBLES])
def test_a_newer_server_blocks_no_writes_before_the_sets_feature_version_is_raised(box, member, raised):
    """A set of 5.0 moves to a server of 6.0: what counts isn't the server's own version. Whoever raised it can't go back."""
    scene = made(box, member)
    found = {one["code"]: one for one in scene.tool("check", json=True).json["findings"]}
    assert "no_write_block" in found
    for kind in ("cutover", "rollback"):
        if kind == "rollback" and raised:
            connection = scene.b.connect("root")
            connection.command("admin", {"setFeatureCompatibilityVersion": "6.0"})
            connection.close()
            assert scene.tool("rollback", "--yes", timeout_s=90).code == 1 and scene.b.is_open()
            break
        scene.moved_under_load(kind)


@pytest.mark.parametrize("member", EITHER)
def test_a_target_that_was_detached_can_be_set_up_again(box, member):
    """It was removed from the set and knows that; it still has the data, its own config and its accounts."""
    scene = made(box, member)
    scene.must("detach", "--yes", timeout_s=60)
    scene.set_up()
    assert scene.a.member(scene.b.host()) == (0, 0.0)
    assert scene.run("cutover").code == 0


@pytest.mark.parametrize("member", EITHER)
def test_a_vote_that_the_server_refuses_leaves_everything_as_it_was(box, member):
    """103, as where arbiters vote and no default write concern is set (5.0 on)."""
    scene = made(box, member)
    before = [server.settings() for server in (scene.a, scene.b)]
    inject(scene.a, "replSetReconfig", code=103, times=1000)
    result = scene.tool("cutover", "--yes", "--when-ready=20s", timeout_s=60)
    assert result.code == 1 and scene.a.is_open(), result
    assert [server.settings() for server in (scene.a, scene.b)] == before


@pytest.mark.parametrize("member", WITHOUT_FENCE)
@pytest.mark.parametrize("code", [24, 117, 262, 189, 11602])
@pytest.mark.parametrize("times", [1, 1000])
def test_a_step_down_that_is_refused_is_retried_or_undone(box, member, code, times):
    scene = made(box, member)
    with scene.load(writers=3) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        inject(scene.a, "replSetStepDown", code=code, times=times)
        end_it(scene, load, scene.tool("cutover", "--yes", "--when-ready=20s", timeout_s=90))


@pytest.mark.parametrize("member, command", [(member, command) for member in EITHER for command in (
    ("replSetStepDown", "replSetReconfig") if member in WITHOUT_FENCE else
    ("replSetStepUp", "setUserWriteBlockMode", "replSetReconfig"))])
def test_a_lost_reply_is_resolved_by_looking(box, member, command):
    scene = made(box, member)
    with scene.load(writers=3) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        for server in (scene.a, scene.b):
            inject(server, command, lose=True)
        end_it(scene, load, scene.tool("cutover", "--yes", "--when-ready=20s", timeout_s=90))


@pytest.mark.parametrize("member, phase", [(member, phase) for member in DOUBLES[1:] + REAL for phase in ("fence", "catch_up", "promote")] +
                         [(member, "commit") for member in WITHOUT_FENCE])
def test_b_killed_while_it_has_a_vote_and_a_is_in_service_again(box, member, phase):
    """Without a fence `commit` is where B is elected: A may step down for a B that has just died."""
    scene = made(box, member)
    with scene.load(writers=3, timeout_s=1.0) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        with scene.tool.held("cutover", "--yes", "--when-ready=20s", at=f"{phase}:begin") as child:
            scene.b.kill()
        result = scene.tool.finish(child, 60)
        assert result.code in (4, 5, -9), result
        scene.tool.wait_quiet()
        wait_for(scene.a.is_open, 40, "A takes writes again, without B")
        scene.b.start()
        assert scene.settle("a") == "a"
    scene.check(load, "a", committed=False)


@pytest.mark.parametrize("member", EITHER)
def test_a_new_marker_outlives_a_crash_of_both_members(box, member):
    """The collection is younger than the members' last checkpoint, unless somebody saw to it."""
    scene = made(box, member)
    with scene.load(writers=2) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert scene.tool("cutover", *PATIENTLY, fault="warm_up:end=kill_both").code == -9
        marked = [server.settings()["marker"] for server in (scene.a, scene.b)]
        for server in (scene.a, scene.b):
            server.kill()
        for server in (scene.a, scene.b):
            server.start()
            wait_for(lambda who=server: who.hello().get("secondary") or who.is_primary(), 30, "it can be read again")
        assert all(marked) and [server.settings()["marker"] for server in (scene.a, scene.b)] == marked
        assert scene.settle("a") == "a"
    scene.check(load, "a", committed=False)


@pytest.mark.parametrize("member", WITHOUT_FENCE)
def test_b_that_is_behind_keeps_a_from_stepping_down(box, member):
    scene = made(box, member)
    if not hasattr(scene.b, "pause_apply"):
        pytest.skip(f"{member}: the sandbox can't hold up applying")
    with scene.load(writers=3, timeout_s=1.0) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        with scene.tool.held("cutover", "--yes", "--when-ready=20s", at="commit:begin") as child:
            scene.b.pause_apply(True)
        result = scene.tool.finish(child, 60)
        scene.b.pause_apply(False)
        end_it(scene, load, result)
    assert result.code in (0, 4, -9), result


@pytest.mark.parametrize("member", EITHER)
def test_other_members_are_kept_out_and_let_in_again(box, member):
    scene, third = with_third(box, member)
    before = scene.a.member(third.host())
    with scene.load(writers=3) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        with scene.tool.held("cutover", *PATIENTLY, at="fence:begin") as child:
            assert scene.a.member(third.host())[1] == 0
        result = scene.tool.finish(child, 60)
        assert result.code == 0, result
        scene.primary = "b"
        at = load.count()
        wait_for(lambda: load.count() > at + 20, 20, "writes go on")
    scene.check(load, "a", committed=True)
    assert scene.b.member(third.host()) == before
    scene.b.change_member(third, priority=0)  # b may step down without a majority; then it is to be elected again, not the third
    third.kill()  # of b and the third member, the voters that would remain, one is up
    wait_for(lambda: scene.b.hears(third) == 0, 30, "b sees that the third member is down")
    scene.must("detach", "--yes", code=1, timeout_s=60)  # it would leave no majority
    third.start()
    wait_for(lambda: scene.tool("detach", "--yes", timeout_s=60).code == 0, 60, "detach goes through with both up")
    assert scene.b.is_open() and f"member {scene.a.host()}" not in scene.b.settings()


@pytest.mark.parametrize("member", EITHER)
def test_an_undone_run_gives_other_members_their_priority_back(box, member):
    scene, third = with_third(box, member)
    before = scene.a.settings()
    result = scene.tool("cutover", *PATIENTLY, fault="promote:end=error", timeout_s=90)
    assert result.code == 4, result
    after = scene.a.settings()
    assert {key: after[key] for key in before} == before and third.hello().get("secondary")


@pytest.mark.parametrize("member", EITHER)
def test_a_member_in_another_state_is_broken_not_lag_0(box, member):
    scene = made(box, member)
    states = [("RECOVERING", [{"replSetMaintenance": True}], [{"replSetMaintenance": False}])]
    if member in DOUBLES:
        states += [("ROLLBACK", [{"doubleState": 9}], [{"doubleState": 0}]),
                   ("no sync source", [{"doubleCut": True}], [{"doubleCut": False}]),
                   ("STARTUP2", [{"doubleCut": True}, {"doubleState": 5}], [{"doubleState": 0}, {"doubleCut": False}])]
    for name, there, back in states:
        connection = scene.b.connect("root")
        for command in there:
            connection.command("admin", command)
        if name == "no sync source":
            wait_for(lambda: not connection.command("admin", {"replSetGetStatus": 1})["syncSourceHost"], 10, "it has none")
        result = scene.tool("lag", json=True)
        if name == "STARTUP2" and scene.b.auth:  # it has no accounts and says nothing of its data
            assert result.code == 3 and result.json["pairs"][0]["state"] == "unknown", result
        else:
            assert result.code == 2 and name in result.json["pairs"][0]["reason"], result
        assert result.json["pairs"][0]["lag_ms"] is None
        for command in back:
            connection.command("admin", command)
        connection.close()
        scene.caught_up("40s")


@pytest.mark.parametrize("member", EITHER)
def test_b_is_lost_and_a_goes_on_alone(box, member):
    scene = made(box, member)
    with scene.load(writers=2) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert scene.run("cutover").code == 0
        at = load.count()
        wait_for(lambda: load.count() > at + 20, 20, "writes go on")
    load.stop()
    scene.caught_up("40s")
    scene.b.kill()
    result = scene.tool("rollback", "--yes", "--b-is-lost", timeout_s=90)
    assert result.code == 0, result
    assert scene.a.is_open()
    load.check_not_lost(scene.a)


@pytest.mark.parametrize("member", EITHER)
def test_check_names_what_it_sees(box, member):
    scene = made(box, member)
    scene.a.change_member(scene.b, hidden=True)
    found = {one["code"]: one for one in scene.tool("check", json=True).json["findings"]}
    assert found["target_not_electable"]["severity"] == "error" and "hidden" in found["target_not_electable"]["message"]
    assert found["replica_set"]["severity"] == "info" and "1 voting members, 1 of them up" in found["replica_set"]["message"]
    assert "oplog_window" in found and "target_vote_needed" in found
    assert "fcv_unknown" not in found and "oplog_unknown" not in found and "bypass_unknown" not in found
    assert ("no_write_block" in found) == bool(scene.a.no_fence)
    assert scene.tool("cutover", "--yes").code == 1 and scene.a.is_open()


@pytest.mark.parametrize("member", FENCED)
def test_accounts_that_write_through_a_block_are_named(box, member):
    scene = made(box, member)
    found = [one for one in scene.tool("check", json=True).json["findings"] if one["code"] == "account_bypasses"]
    assert [one["message"] for one in found] == ["the account root has the role root, which writes through a write block"]


@pytest.mark.parametrize("member", EITHER)
@pytest.mark.parametrize("point", ["setup.add_member:before", "setup.add_member:after", "setup.sync:before"])
def test_a_killed_setup_goes_on(box, member, point):
    """It may die anywhere: what is there is found, and the target has no vote."""
    scene = Scenario(box, member)
    scene.must("setup", code=-9, fault=f"{point}=kill", timeout_s=120)
    scene.set_up()
    assert scene.a.member(scene.b.host()) == (0, 0.0)
    before = scene.a.settings()
    scene.must("setup", timeout_s=120)
    assert scene.a.settings() == before


@pytest.mark.parametrize("member", FENCED)
@pytest.mark.parametrize("drain", [{}, {"on_timeout": "refuse"}], ids=["ended", "refused"])
def test_a_transaction_that_is_left_open_is_ended_or_stops_the_run_as_drain_says(box, member, drain):
    """The write block waits for it, and everybody else behind the write block."""
    scene = Scenario(box, member, drain=drain)
    scene.set_up()
    with scene.load(writers=2) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        left_open = Transaction(scene.a, "left open")
        result = scene.tool("cutover", *PATIENTLY, timeout_s=90)
        if drain:
            assert result.code == 4 and "drain.timeout" in result.err, result
            left_open.commit()
        else:
            assert result.code == 0, result
            with pytest.raises(CommandError) as refused:
                left_open.commit()
            assert refused.value.code in (251, 10107)  # NoSuchTransaction; the old primary takes none any more
        scene.primary = "a" if drain else "b"
        at = load.count()
        wait_for(lambda: load.count() > at + 20, 20, "writes go on")
    scene.check(load, "a", committed=not drain)
    assert ("left open" in scene.server(scene.primary).read_all()) == bool(drain)


@pytest.mark.parametrize("member", FENCED)
def test_a_transaction_that_ends_within_the_drains_patience_is_kept(box, member):
    scene = Scenario(box, member, drain={"timeout": "25s"})
    scene.set_up()
    scene.mark_runs()
    left_open = Transaction(scene.a, "ends in time")
    child = scene.tool.spawn("cutover", "--yes", "--when-ready=20s", "--max-write-pause=30s")
    wait_for(scene.in_pause, 40, "the write block waits")
    left_open.commit()
    result = scene.tool.finish(child, 60)
    assert result.code == 0 and "ends in time" in scene.b.read_all(), result


@pytest.mark.parametrize("member", DOUBLES[1:])
@pytest.mark.parametrize("namespaces, code", [(("config.system.sessions", "config.system.sessions"), 0), (("config.system.sessions", "shop.ledger"), 4)],
                         ids=["the-servers-own", "somebodys"])
def test_writes_that_the_server_puts_into_one_entry_are_told_apart(box, member, namespaces, code):
    """Newer ones remove expired sessions several at a time (ttlMonitorBatchDeletes), at any moment."""
    scene = made(box, member)
    with scene.tool.held("cutover", "--yes", "--when-ready=20s", "--max-write-pause=60s", at="capture:end") as child:
        connection = scene.a.connect("root")
        connection.command("admin", {"doubleWrite": "admin.$cmd", "op": "c", "o": {"applyOps": [{"op": "d", "ns": ns, "o": {"_id": 1}} for ns in namespaces]}})
        connection.close()
    result = scene.tool.finish(child, 90)
    assert result.code == code and ("somebody wrote" in result.err) == bool(code), result


@pytest.mark.parametrize("member", FENCED)
def test_members_hear_of_configs_quickly_during_a_run_only(box, member):
    """From 4.4 on a new primary's reconfig waits for heartbeats, which come every two seconds: in the pause, twice."""
    scene = made(box, member)
    before = [server.settings()["heartbeats"] for server in (scene.a, scene.b)]
    for kind, undo in (("cutover", "promote:end=error"), ("cutover", None), ("rollback", None)):
        result = scene.tool(kind, *PATIENTLY, json=True, fault=undo, timeout_s=90)
        assert result.code == (4 if undo else 0), result
        wait_for(lambda: [server.settings()["heartbeats"] for server in (scene.a, scene.b)] == before, 20, "heartbeats are as before")
        assert before == [2000, 2000]
        if not undo:
            scene.primary = "b" if kind == "cutover" else "a"
            scene.caught_up("40s")


DECISIVE = ("replSetReconfig", "replSetStepUp", "replSetStepDown", "setUserWriteBlockMode")


# What the target says of its copy (4.2.1 on; before 4.4 by databases), and what its primary hears while it has no accounts: on standard error.
BYTES = {"initialSyncStatus": {"failedInitialSyncAttempts": 0, "approxTotalDataSize": 4000000, "approxTotalBytesCopied": 1000000}}
DATABASES = {"initialSyncStatus": {"failedInitialSyncAttempts": 2, "maxFailedInitialSyncAttempts": 10, "databases": {"databasesCloned": 3}}}
SYNCS = [pytest.param("mongodb-double-4.0", BYTES, "25 %", id="bytes"),
         pytest.param("mongodb-double-4.0", DATABASES, "after 2 failed attempts of 10", id="attempts"),
         pytest.param("mongodb-double", {}, "the primary hears the target as STARTUP2", id="no-accounts-yet")]


@pytest.mark.parametrize("member, status, says", [case for case in SYNCS if case.values[0] in DOUBLES])
def test_setup_shows_how_the_initial_sync_goes(box, member, status, says):
    scene = Scenario(box, member)
    scene.b.cut_link(True)
    inject(scene.b, "replSetGetStatus", merge=status, times=10 ** 6)
    child = scene.tool.spawn("setup")
    os.set_blocking(child.stderr.fileno(), False)
    said = []

    def shown():
        said.append(os.read(child.stderr.fileno(), 65536).decode())
        return says in "".join(said)
    wait_for(shown, 40, f"it says {says}")
    inject(scene.b, "replSetGetStatus", times=0)
    scene.b.cut_link(False)
    assert scene.tool.finish(child, 60).code == 0, said


# Of the new primary, where the pair has a fence: passes, or the run is undone.
REFUSALS = [("replSetStepUp", 125), ("replSetStepUp", 189), ("replSetStepUp", 11602), ("replSetReconfig", 109), ("replSetReconfig", 308),
            ("replSetReconfig", 50), ("replSetReconfig", 64), ("replSetReconfig", 24), ("replSetReconfig", 10107)]


@pytest.mark.parametrize("member", FENCED)
@pytest.mark.parametrize("command, code", REFUSALS)
@pytest.mark.parametrize("times", [1, 1000])
def test_a_promotion_that_is_refused_is_retried_or_undone(box, member, command, code, times):
    scene = made(box, member)
    with scene.load(writers=3) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        inject(scene.b, command, code=code, times=times)
        end_it(scene, load, scene.tool("cutover", "--yes", "--when-ready=20s", timeout_s=90))


@pytest.mark.parametrize("member", FENCED)
@pytest.mark.parametrize("code", [24, 117, 262, 189, 11602])
def test_an_undo_whose_step_down_is_refused_is_seen_through(box, member, code):
    """It takes the promotion back: the new primary steps down for the old one."""
    scene = made(box, member)
    with scene.load(writers=3) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        inject(scene.b, "replSetStepDown", code=code, times=3)
        result = scene.tool("cutover", *PATIENTLY, fault="promote:end=error", timeout_s=90)
        assert result.code == 4, result
        end_it(scene, load, result)


def after_warm_up(member):
    """How many of them warm_up sends: the vote, and from 4.4 on the heartbeats' interval."""
    return 2 if member in DOUBLES[1:] or (member in REAL and server_class(member).release() >= (4, 4)) else 1


@pytest.mark.parametrize("member, passing", [(member, after_warm_up(member) + which) for member in EITHER for which in (1, 2, 3)])
def test_a_tool_frozen_right_before_it_sends_what_changes_who_may_write_looks_again(box, member, passing):
    """It had looked at the marker. Nothing could kill it; the guardian ends the run, and the marker with it."""
    scene = made(box, member)
    scene.mark_runs()
    with scene.load(writers=2) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        met = scene.box.folder / "guardian.met"  # the guardian waits until it was seen where the tool stands
        child = scene.tool.spawn("cutover", "--yes", "--when-ready=20s", "--max-write-pause=8s", fault=f"mongodb.decide#{passing}=stop",
                                 guardian_fault="guardian.kill=error,journal.take:before=hold", env={"CHANGEOVER_FAULT_MET": str(met)})
        wait_for(lambda: child.poll() is not None or scene.stopped(child), 40, "the tool stops")
        assert scene.in_pause()
        pathlib.Path(f"{met}.go").touch()
        wait_for(lambda: not [pid for pid in scene.tool.guardians() if pid != child.pid], 60, "the guardian has ended the run")
        scene.agreed()
        before = [(server.asked(*DECISIVE), server.settings()) for server in (scene.a, scene.b)]
        process.send(child.pid, 18)
        result = scene.tool.finish(child, 60)
        assert [(server.asked(*DECISIVE), server.settings()) for server in (scene.a, scene.b)] == before, result
        assert result.code in (0, 4, 5, 6, 75), result
        scene.settle("a")
        at = load.count()
        wait_for(lambda: load.count() > at + 20, 20, "writes go on")
    scene.check(load, "a")


@pytest.mark.parametrize("member", EITHER)
def test_an_undone_run_is_over_when_the_target_has_heard_that_its_vote_is_gone(box, member):
    """A majority has the config before the target does: members hear of it by heartbeats."""
    scene = made(box, member)
    before = [server.settings() for server in (scene.a, scene.b)]
    for _ in range(3):
        assert scene.tool("cutover", *PATIENTLY, fault="fence:end=error", timeout_s=90).code == 4
        assert [server.settings() for server in (scene.a, scene.b)] == before


# What the driver reads of each answer, and the codes it tells apart: asked of a real server and of the double.
QUESTIONS = [
    ("primary", "admin", {"isMaster": 1}, ("ismaster", "secondary", "setName", "me", "maxWireVersion")),
    ("secondary", "admin", {"isMaster": 1}, ("ismaster", "secondary", "setName", "me", "maxWireVersion")),
    ("primary", "admin", {"replSetGetStatus": 1}, ("myState", "term", "date", "optimes.appliedOpTime.ts", "optimes.appliedOpTime.t", "members.0.self",
                                                   "members.0.configVersion", "members.1.configVersion", "members.1.health",
                                                   "members.1.state", "members.1.lastHeartbeatRecv")),
    ("secondary", "admin", {"replSetGetStatus": 1}, ("myState", "syncSourceHost", "members.0.lastHeartbeatRecv")),
    ("primary", "admin", {"replSetGetConfig": 1}, ("config.version", "config.settings.replicaSetId", "config.settings.electionTimeoutMillis",
                                                   "config.members.0.host", "config.members.0.votes", "config.members.0.priority")),
    ("primary", "admin", {"buildInfo": 1}, ("version", "versionArray")),
    ("primary", "admin", {"getCmdLineOpts": 1}, ("parsed",)),
    ("primary", "admin", {"listDatabases": 1}, ("databases.0.name", "databases.0.sizeOnDisk")),
    ("primary", "admin", {"getParameter": 1, "featureCompatibilityVersion": 1}, ("featureCompatibilityVersion.version",)),
    ("primary", "admin", {"currentOp": 1}, ("inprog",)),
    ("primary", "local", {"collStats": "oplog.rs"}, ("size", "maxSize")),
    ("secondary", "local", {"dbStats": 1}, ("fsTotalSize", "fsUsedSize")),
    ("primary", "local", {"find": "oplog.rs", "sort": {"$natural": 1}, "limit": 1, "singleBatch": True}, ("cursor.firstBatch.0.ts",)),
    ("primary", "local", {"find": "startup_log", "sort": {"$natural": -1}, "limit": 1, "singleBatch": True}, ("cursor.firstBatch.0._id",)),
    ("primary", "admin", {"appendOplogNote": 1, "data": {"a": 1}}, ("ok",)),
    ("primary", "admin", {"replSetFreeze": 0}, ()),
    ("secondary", "admin", {"replSetFreeze": 0}, ("ok",)),
    ("secondary", "admin", {"replSetStepUp": 1}, ()),  # votes 0
    ("secondary", "admin", {"replSetStepDown": 20}, ()),
    ("primary", "admin", {"replSetStepDown": 3, "secondaryCatchUpPeriodSecs": 1}, ()),  # nobody else can be elected
    ("primary", "admin", {"replSetStepDown": 1, "secondaryCatchUpPeriodSecs": 5}, ()),
    ("secondary", "shop", {"insert": "ledger", "documents": [{"_id": "x"}]}, ()),
    ("primary", "shop", {"insert": "ledger", "documents": [{"_id": "before-1"}]}, ()),
    ("primary", "admin", {"setUserWriteBlockMode": 1, "global": True}, ()),
    ("primary", "admin", {"noSuchCommand": 1}, ()),
]


def answer(connection, db, command, paths):
    def get(doc, path):
        for part in path.split("."):
            doc = doc[int(part)] if isinstance(doc, list) else doc[part]
        return doc
    try:
        reply = connection.command(db, command)
    except CommandError as error:
        return error.code
    found = {}
    for path in paths:
        try:
            found[path] = type(get(reply, path)).__name__
        except (KeyError, IndexError, TypeError):
            found[path] = "absent"
    return {path: "number" if kind in ("int", "Int64", "float") else kind for path, kind in found.items()}


@pytest.mark.parametrize("member", REAL)
def test_the_double_answers_as_the_server_does(box, member):
    double = {4: "mongodb-double-4.0", 6: "mongodb-double"}.get(server_class(member).major())
    if not double:
        pytest.skip(f"{member}: the double doesn't claim to be of this version")
    answers = []
    for kind in (member, double):
        pair = box.pair(kind, name=kind)
        scene = Scenario.of(box, pair)
        scene.tool = box.tool([pair], name=kind)
        scene.set_up()
        given = []
        for role, db, command, paths in QUESTIONS:
            connection = (scene.a if role == "primary" else scene.b).connect("root")
            given.append((role, str(command), answer(connection, db, command, paths)))
            connection.close()
        answers.append(given)
    assert answers[1] == answers[0]
