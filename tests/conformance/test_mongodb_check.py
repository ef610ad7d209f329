"""Every finding of MongoDB's pre-flight, provoked: found where it should be, and gone when the cause is.

On the double by what it answers; on a real mongod where the server can be brought into that state. The cases share a pair that
is set up, so each takes back what it did."""
import contextlib
import json
import pathlib
import re
import socket

import pytest

from sandbox import ENGINES, Sandbox, engine_reason, wait_for
from sandbox.mongodb import MongoDB
from sandbox.mongodb_double_wire import Int64
from sandbox.scenario import Scenario
from sandbox.tool import ROOT

pytestmark = pytest.mark.skipif(bool(engine_reason("mongodb-double")), reason="no MongoDB driver was built")
ALWAYS = 10 ** 6


class World:
    def __init__(self, kind):
        self.box = Sandbox("check")
        self.scene = Scenario(self.box, kind)
        self.scene.set_up()
        self.a, self.b = self.scene.a, self.scene.b
        self.bare = self.box.pair(kind, name="bare")
        self.bare_tool = self.box.tool([self.bare], name="bare")

    def tool(self, change):
        made = self.box.tool([self.scene.pair], name="other")
        document = made.document()
        change(document["pairs"][0])
        made.write_config(json.dumps(document))
        return made


@pytest.fixture(scope="module")
def double():
    world = World("mongodb-double")
    yield world
    world.box.close(failed=False)


@pytest.fixture(scope="module")
def real():
    reason = engine_reason("mongodb")
    if reason:
        pytest.skip(reason)
    world = World("mongodb")
    yield world
    world.box.close(failed=False)


@pytest.mark.parametrize("kind", ["double", "real"])
def test_the_role_that_init_prints_is_the_one_that_every_test_runs_with(kind, request):
    """For the version that it finds, without an account; the suites show that it is enough."""
    world = request.getfixturevalue(kind)
    statements = world.tool(lambda pair: [pair[side].pop("password_file") for side in "ab"])("init", "--grants", json=True).json["grants"][0]["statements"]
    role = re.search(r"createRole\((\{.*?roles: \[\]\})\)", statements, re.S).group(1)
    role = json.loads(re.sub(r"(\w+):", r'"\1":', role).replace("'", '"'))
    actions = set(role["privileges"][0]["actions"])
    newer = MongoDB.newer_actions(6 if kind == "double" else world.a.major())
    assert actions == {*MongoDB.PRIVILEGES[0]["actions"], *newer}, actions
    assert role["privileges"][1:] == MongoDB.PRIVILEGES[1:], role
    assert "createUser({user: 'tool'" in statements and "user: 'app'" in statements, statements


@pytest.mark.parametrize("kind", ["double", "real"])
def test_a_login_and_a_connection_that_fail_say_who_and_why_and_what_to_do(kind, request):
    """They said "login: Authentication failed." and "No suitable servers found (`serverSelectionTryOnce` set)"."""
    world = request.getfixturevalue(kind)

    with socket.socket() as deaf:  # bound, and nobody listens
        deaf.bind(("127.0.0.1", 0))

        def change(pair):
            pair["a"]["url"] = pair["a"]["url"].replace("tool@", "stranger@")
            pair["b"]["url"] = f"mongodb://tool@127.0.0.1:{deaf.getsockname()[1]}/"
        found = findings(world.tool(change))[1]
    said = {one["code"]: one for one in found if one["code"] in ("login_refused", "unreachable") and one["message"].startswith("pair")}
    assert "can't log in as stranger: Authentication failed" in said["login_refused"]["message"], said
    assert "authSource" in said["login_refused"]["remedy"], said
    assert said["unreachable"]["message"].endswith("can't connect: Connection refused"), said


def findings(tool, *arguments):
    result = tool("check", *arguments, json=True, timeout_s=60)
    assert result.json, result
    return [(one["code"], one["severity"], one["side"]) for one in result.json["findings"]], result.json["findings"]


# ---------------------------------------------------------------- by what the double answers

@contextlib.contextmanager
def answers(server, command, **how):
    server.inject(command, times=ALWAYS, **how)
    try:
        yield
    finally:
        server.inject(command, times=0)


def config_of(server):
    connection = server.connect("root")
    config = connection.command("admin", {"replSetGetConfig": 1})["config"]
    connection.close()
    return config


def member(number, **how):
    return {"_id": number, "host": f"10.9.9.{number}:27017", "votes": 0, "priority": 0.0, **how}


def members(*more, a=None, b=None, **settings):
    """Another config: these members more, and these fields of the two sides."""
    def how(world):
        config = config_of(world.a)
        found = [{**one, **((a if one["host"] == world.a.host() else b) or {})} for one in config["members"]]
        return answers(world.a, "replSetGetConfig", merge={"config": {"members": [*found, *more], "settings": settings}})
    return how


def down(*more, up=()):
    """The same, and the server hears these members as down, and those as up."""
    @contextlib.contextmanager
    def how(world):
        connection = world.a.connect("root")
        heard = connection.command("admin", {"replSetGetStatus": 1})["members"]
        connection.close()
        gone = [{"_id": one["_id"], "name": one["host"], "health": 0.0, "state": 8} for one in more]
        there = [{"_id": one["_id"], "name": one["host"], "health": 1.0, "state": 2} for one in up]
        with members(*more, *up)(world), answers(world.a, "replSetGetStatus", merge={"members": [*heard, *gone, *there]}):
            yield
    return how


def a_says(command, **how):
    return lambda world: answers(world.a, command, **how)


def b_says(command, **how):
    return lambda world: answers(world.b, command, **how)


def both(one, other):
    @contextlib.contextmanager
    def how(world):
        with one(world), other(world):
            yield
    return how


def privileges(*actions):
    return {"authInfo": {"authenticatedUserPrivileges": [{"resource": {"cluster": True}, "actions": list(actions)},
                                                         {"resource": {"db": "", "collection": ""}, "actions": ["find", "insert", "update", "remove"]}]}}


@contextlib.contextmanager
def blocked(world):
    connection = world.a.connect("root")
    connection.command("admin", {"setUserWriteBlockMode": 1, "global": True})
    yield
    connection.command("admin", {"setUserWriteBlockMode": 1, "global": False})
    connection.close()


@contextlib.contextmanager
def b_is_down(world):
    world.b.kill()
    yield
    world.b.start()
    wait_for(lambda: world.b.hello().get("secondary"), 30, "b is back")


CLUSTER = ("replSetGetStatus", "replSetGetConfig", "replSetConfigure", "replSetStateChange", "inprog", "killop", "setUserWriteBlockMode")
LONG = {"inprog": [{"opid": 7, "client": "10.0.0.9:1234", "op": "query", "ns": "shop.ledger", "secs_running": 44}]}
VOTER = {"votes": 1, "priority": 1.0}
ARBITER = (member(21, **VOTER), member(22, **VOTER), member(23, votes=1, arbiterOnly=True))  # with b's vote 4 of 5 bear data, now 3 of 4

# (code, severity, side, how); how(world) is a context in which it is found
DOUBLE = [
    ("sharded", "error", "a", a_says("getCmdLineOpts", merge={"parsed": {"sharding": {"clusterRole": "shardsvr"}}})),
    ("source_not_primary", "error", "a", a_says("isMaster", merge={"ismaster": False, "secondary": True})),
    ("writes_blocked", "error", "a", blocked),
    ("bypass_unknown", "warning", "a", a_says("usersInfo", code=13)),
    ("bypass_unknown", "warning", "a", a_says("rolesInfo", code=13)),
    ("fcv_unknown", "warning", "a", a_says("getParameter", code=13)),
    ("fcv_unsupported", "error", "a", a_says("getParameter", merge={"featureCompatibilityVersion": {"version": "4.0"}})),
    ("fcv_unsupported", "error", "a", a_says("getParameter", merge={"featureCompatibilityVersion": {"version": "7.0"}})),
    ("target_older", "error", "b", b_says("buildInfo", merge={"version": "5.0.9", "versionArray": [5, 0, 9, 0]})),
    ("target_older", "warning", "b", both(b_says("buildInfo", merge={"version": "5.0.9", "versionArray": [5, 0, 9, 0]}),
                                          a_says("getParameter", merge={"featureCompatibilityVersion": {"version": "5.0"}}))),
    ("no_write_block", "warning", "a", a_says("getParameter", merge={"featureCompatibilityVersion": {"version": "5.0"}})),
    ("no_write_block", "warning", "a", a_says("getCmdLineOpts", merge={"parsed": {"security": {"authorization": None, "transitionToAuth": True}}})),
    ("default_write_concern", "error", "a", down(up=ARBITER)),
    ("default_write_concern", "warning", "a", both(down(up=ARBITER), a_says("getDefaultRWConcern", code=13))),
    ("access_differs", "error", "b", b_says("getCmdLineOpts", merge={"parsed": {"security": None}})),
    ("unreachable", "error", "b", b_is_down),
    ("no_majority", "error", "a", down(member(7, **VOTER), member(8, **VOTER))),
    ("majority_needs_target", "warning", "a", down(member(7, **VOTER), up=[member(8, **VOTER)])),
    ("no_majority_without_source", "info", "a", members()),
    ("target_vote_needed", "info", "a", members()),
    ("replica_set", "info", "a", members()),
    ("target_not_electable", "error", "a", members(b={"arbiterOnly": True})),
    ("target_not_electable", "error", "a", members(b={"hidden": True})),
    ("target_not_electable", "error", "a", members(b={"secondaryDelaySecs": Int64(60)})),
    ("target_not_electable", "error", "a", members(b={"slaveDelay": Int64(60)})),
    ("target_not_electable", "error", "a", members(b={"buildIndexes": False})),
    ("target_priority", "error", "a", members(b={"votes": 1, "priority": 2.0})),
    ("arbiter", "warning", "a", members(member(7, arbiterOnly=True, votes=1))),
    ("delayed_member", "info", "a", members(member(7, secondaryDelaySecs=Int64(600)))),
    ("delayed_member", "warning", "a", members(member(7, slaveDelay=Int64(600), votes=1))),
    ("hidden_member", "info", "a", members(member(7, hidden=True))),
    ("other_electable", "info", "a", members(member(7, **VOTER))),
    ("member_down", "warning", "a", down(member(7))),
    ("write_concern_tags", "warning", "a", members(a={"tags": {"dc": "east"}}, getLastErrorModes={"east": {"dc": 1}})),
    ("too_many_voters", "error", "a", members(*(member(number, **VOTER) for number in range(7, 13)))),
    ("oplog_unknown", "warning", "a", a_says("collStats", code=13)),
    ("oplog_window", "info", "a", a_says("collStats", merge={"size": 1000, "maxSize": Int64(1 << 40)})),
    ("oplog_window", "warning", "a", a_says("collStats", merge={"size": 1000, "maxSize": Int64(1000)})),
    ("operations_unknown", "warning", "a", a_says("currentOp", code=13)),
    ("long_operation", "warning", "a", a_says("currentOp", merge=LONG)),
    ("long_operation", "warning", "a", a_says("currentOp", merge={"inprog": [{"transaction": {"timeOpenMicros": Int64(60000000)}}]})),
    ("disk_space", "warning", "b", b_says("dbStats", merge={"fsTotalSize": 1e10, "fsUsedSize": 9.9e9})),
    ("disk_unknown", "info", "b", b_says("dbStats", code=13)),
    ("privileges_unknown", "warning", "a", a_says("connectionStatus", code=13)),
    ("privilege_missing", "error", "a", a_says("connectionStatus", merge=privileges(*CLUSTER[1:], "fsync", "killAnySession"))),
    ("fsync_missing", "warning", "a", a_says("connectionStatus", merge=privileges(*CLUSTER, "killAnySession"))),
    ("kill_sessions_missing", "warning", "a", a_says("connectionStatus", merge=privileges(*CLUSTER, "fsync"))),
]


@pytest.mark.parametrize("code, severity, side, how", DOUBLE, ids=[f"{number}-{case[0]}" for number, case in enumerate(DOUBLE)])
def test_a_finding_of_the_double_is_named(double, code, severity, side, how):
    wanted = (code, severity, side)
    with how(double):
        found, said = findings(double.scene.tool)
        assert wanted in found, said
        if severity != "info":
            assert all(one["remedy"] for one in said if one["code"] == code), said
    if severity != "info":  # gone when its cause is
        assert wanted not in findings(double.scene.tool)[0]


# (code, severity, side, change of the pair's config)
CONFIGS = [
    ("source_not_primary", "error", "a", lambda pair: pair.update(a=pair["b"], b=pair["a"])),
    ("probe_bypasses", "error", "a", lambda pair: pair.update(probe={**pair["probe"], "user": "root"})),
    ("member_name", "error", "b", lambda pair: pair["b"].update(peer={"address": "db2.internal:27017"})),
]


@pytest.mark.parametrize("code, severity, side, change", CONFIGS, ids=[case[0] for case in CONFIGS])
def test_a_finding_of_the_config_is_named(double, code, severity, side, change):
    found, said = findings(double.tool(change))
    assert (code, severity, side) in found, said


def test_accounts_that_write_through_a_block_are_named(double):
    found, said = findings(double.scene.tool)
    assert ("account_bypasses", "warning", "a") in found
    assert [one["message"] for one in said if one["code"] == "account_bypasses"] == [
        "the account root has the role root, which writes through a write block"]


# Of servers that no setup has recorded yet: (code, severity, side, of whom, what it says of itself).
NEW = [
    ("sharded", "error", "a", "a", {"setName": None, "msg": "isdbgrid"}),
    ("member_name", "error", "a", "a", {"me": "db1.internal:27017"}),
]


@pytest.mark.parametrize("code, severity, side, who, says", NEW, ids=[case[0] for case in NEW])
def test_a_finding_of_a_new_server_is_named(double, code, severity, side, who, says):
    with answers(double.bare.side(who), "isMaster", merge=says):
        found, said = findings(double.bare_tool, "--for", "setup")
        assert (code, severity, side) in found, said
    assert code not in [one[0] for one in findings(double.bare_tool, "--for", "setup")[0]]


def test_a_server_without_a_replica_set_is_named(double):
    """Of a version without access control: with it the double has no accounts before it has a set."""
    ENGINES.setdefault("mongodb-double-4.0", ("mongodb", "MongoDBDouble40", "mongodb"))
    pair = double.box.pair("mongodb-double-4.0", name="alone")
    with answers(pair.b, "isMaster", merge={"isreplicaset": None}):
        found, said = findings(double.box.tool([pair], name="alone"), "--for", "setup")
    assert ("standalone", "error", "b") in found, said


def test_two_urls_of_one_server_are_named(double):
    made = double.box.tool([double.bare], name="twice")
    document = made.document()
    url = document["pairs"][0]["a"]["url"]
    assert "127.0.0.1" in url
    document["pairs"][0]["b"] = {**document["pairs"][0]["a"], "url": url.replace("127.0.0.1", "localhost")}
    made.write_config(json.dumps(document))
    found, said = findings(made, "--for", "setup")
    assert any(one[0] == "same_server" for one in found), said


def test_a_target_in_a_set_of_its_own_is_named(double):
    pair = double.box.pair("mongodb-double", name="two")
    pair.b.initiate()
    found, said = findings(double.box.tool([pair], name="two"), "--for", "setup")
    assert ("other_lineage", "error", "b") in found, said


def test_a_target_that_was_not_set_up_is_named(double):
    found, said = findings(double.bare_tool, "--for", "cutover")
    assert ("target_not_following", "error", "b") in found, said


def test_a_target_with_a_loopback_name_among_others_is_named(double):
    """And the other way round: the members can't find it."""
    connection = double.bare.a.connect("root")
    host = double.bare.a.host()
    connection.close()
    local = "127." in host
    made = double.box.tool([double.bare], name="named")
    document = made.document()
    document["pairs"][0]["b"]["peer"] = {"address": "db2.internal:27017" if local else "127.0.0.1:27017"}
    made.write_config(json.dumps(document))
    found, said = findings(made, "--for", "setup")
    assert any(one[0] == "localhost_names" and one[1] == "error" for one in found), said


# ---------------------------------------------------------------- on a real server

@contextlib.contextmanager
def role_without(world, action):
    """The tool's role, less one action."""
    connection = world.a.connect("root")
    role = connection.command("admin", {"rolesInfo": {"role": "changeover", "db": "admin"}, "showPrivileges": True})["roles"][0]
    fewer = [{**one, "actions": [other for other in one["actions"] if other != action]} for one in role["privileges"]]
    connection.command("admin", {"updateRole": "changeover", "privileges": [one for one in fewer if one["actions"]]})
    try:
        yield
    finally:
        connection.command("admin", {"updateRole": "changeover", "privileges": role["privileges"]})
        connection.close()


@contextlib.contextmanager
def config_with(world, *more):
    """Members without a vote, which nobody runs."""
    world.a.reconfigure(lambda there: [*there, *({"_id": number, "host": f"127.0.0.1:{number}", "votes": 0, "priority": 0, **how}
                                                 for number, how in enumerate(more, 20))])
    try:
        yield
    finally:
        world.a.reconfigure(lambda there: [one for one in there if one["_id"] < 20])


def delay(world):
    return "slaveDelay" if world.a.major() < 5 else "secondaryDelaySecs"


REAL = [
    ("privilege_missing", "error", "a", lambda world: role_without(world, "replSetStateChange")),
    ("privilege_missing", "error", "a", lambda world: role_without(world, "remove")),
    ("fsync_missing", "warning", "a", lambda world: role_without(world, "fsync")),
    ("bypass_unknown", "warning", "a", lambda world: role_without(world, "viewUser")),
    ("kill_sessions_missing", "warning", "a", lambda world: role_without(world, "killAnySession")),
    ("fcv_unknown", "warning", "a", lambda world: role_without(world, "getParameter")),
    ("oplog_unknown", "warning", "a", lambda world: role_without(world, "collStats")),
    ("hidden_member", "info", "a", lambda world: config_with(world, {"hidden": True})),
    ("delayed_member", "info", "a", lambda world: config_with(world, {delay(world): Int64(60)})),
    ("member_down", "warning", "a", lambda world: config_with(world, {})),
    ("unreachable", "error", "b", b_is_down),
]


@pytest.mark.parametrize("code, severity, side, how", REAL, ids=[f"{number}-{case[0]}" for number, case in enumerate(REAL)])
def test_a_finding_of_a_real_server_is_named(real, code, severity, side, how):
    if code in ("bypass_unknown", "kill_sessions_missing") and real.a.no_fence:
        pytest.skip(f"mongodb: before 6.0 there is no write block, and no {code}")
    wanted = (code, severity, side)

    def named():
        found, said = findings(real.scene.tool)
        if wanted not in found:
            raise LookupError(said)
        return True
    with how(real):
        wait_for(named, 20, f"{code} is found")  # a member is heard to be down after some heartbeats
    assert wanted not in findings(real.scene.tool)[0]


def test_a_standalone_server_and_a_set_that_was_not_set_up_are_refused(real):
    class Alone(type(real.a)):
        def arguments(self):
            made = super().arguments()
            at = made.index("--replSet")
            return made[:at] + made[at + 2:]
    alone = real.box.add(Alone(real.box, "alone"))
    alone.start()
    connection = alone.wire()
    connection.command("admin", {"createUser": "root", "pwd": "root-secret-7Q", "roles": ["root"]})
    connection.close()
    connection = alone.connect("root")
    connection.command("admin", {"createUser": "tool", "pwd": "mg-secret-7Q", "roles": ["root"]})
    connection.close()
    made = real.box.tool([real.scene.pair], name="alone")
    document = made.document()
    document["pairs"][0]["b"] = alone.side_config()
    made.write_config(json.dumps(document))
    found, said = findings(made)
    assert ("standalone", "error", "b") in found, said
    found, said = findings(real.bare_tool, "--for", "cutover")
    assert ("target_not_following", "error", "b") in found, said
    if real.a.no_fence:
        assert ("no_write_block", "warning", "a") in found, said


# ---------------------------------------------------------------- all of them

def codes_of_the_driver():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "drivers/mongodb").glob("check*.c"))
    codes = set(re.findall(r'mg_report\(\s*call,\s*"([a-z_]+)"', sources))
    return codes | set(re.findall(r'is_probe \? "([a-z_]+)" :', sources)) | set(re.findall(r'is_probe \? "[a-z_]+" : "([a-z_]+)"', sources))


def test_every_finding_of_the_driver_is_provoked():
    codes = codes_of_the_driver()
    here = pathlib.Path(__file__).read_text(encoding="utf-8")
    named = {case[0] for table in (DOUBLE, CONFIGS, NEW, REAL) for case in table}
    named |= {code for code in codes if re.search(rf'assert .*"{code}"', here)}
    other = pathlib.Path(__file__).with_name("test_mongodb.py").read_text(encoding="utf-8")
    named |= {code for code in codes if re.search(rf'assert .*"{code}"', other)}
    assert len(codes) > 30 and codes - named == set()
