"""Before Redis 7.0 a Lua script writes past min-replicas-to-write. On 6.x fence and closure take @write and @scripting from
every ACL user too, keep the originals on the server itself, and give them back unchanged."""
import threading

import pytest
import redis

from sandbox import engine_reason, wait_for
from sandbox.redis_server import PASSWORDS
from sandbox.scenario import Scenario

WRITE = "return redis.call('SET', 'scripted', ARGV[1])"
NEW_USER = ("ACL", "SETUSER", "late", "on", ">late-secret-7Q", "~*", "+@all")


@pytest.fixture(params=["redis6.0", "redis6.2"])
def engine(request):
    reason = engine_reason(request.param)
    if reason:
        pytest.skip(reason)
    return request.param


@pytest.fixture
def ready(box, engine):
    scene = Scenario(box, engine)
    scene.set_up()
    return scene


def run_command(server, *arguments, user="default"):
    connection = server.connect(user)
    try:
        return connection.execute_command(*arguments)
    finally:
        connection.close()


def refused(server, user):
    """Whether a script that writes is refused; what it is answered."""
    try:
        run_command(server, "EVAL", WRITE, 0, "x", user=user)
    except redis.ResponseError as error:
        return str(error)
    return None


def all_refused(server):
    return [refused(server, user) for user in ("default", "app")]


def stop_at(ready, point):
    result = ready.tool("cutover", "--yes", "--when-ready=20s", fault=f"{point}=kill_both")
    assert result.code == -9, result
    ready.tool.wait_quiet()


def in_order(settings):
    """A server that was restarted lists single commands in another order."""
    return {name: " ".join(sorted(value.split())) if name.startswith("acl") else value for name, value in settings.items()}


def with_acl_file(server, users=()):
    """Users in a file of their own instead of the config file."""
    path = server.folder / "redis.conf"
    server.stop()
    lines = path.read_text().splitlines()
    mine = [line for line in lines if line.startswith("user ")]
    (server.folder / "users.acl").write_text("\n".join([f"user default on >{PASSWORDS['default']} ~* +@all", *mine, *users]) + "\n")
    kept = [line for line in lines if not line.startswith(("user ", "requirepass"))]
    path.write_text("\n".join([*kept, f"aclfile {server.folder}/users.acl"]) + "\n")
    server.start()


@pytest.mark.parametrize("point, open_side", [("capture:end", "a"), ("promote:end", "a"), ("journal.commit:after", "b")])
def test_scripts_are_refused_on_both_sides_over_restarts(ready, point, open_side):
    before = {side: ready.server(side).settings() for side in "ab"}
    stop_at(ready, point)
    for _ in range(2):
        for server in (ready.a, ready.b):
            assert all(all_refused(server)), "a script was executed on a closed server"
            server.crash_and_restart()
    assert ready.settle("a") == open_side
    assert not any(all_refused(ready.server(open_side)))
    if open_side == "a":
        ready.caught_up()
        assert {side: ready.server(side).settings() for side in "ab"} == before


def test_a_rollback_gives_the_rights_back_as_they_were(ready):
    before = ready.a.settings()
    for command in ("cutover", "rollback"):
        assert ready.run(command).code == 0
    after = ready.a.settings()
    assert {name: value for name, value in after.items() if name.startswith("acl")} == {
        name: value for name, value in before.items() if name.startswith("acl")}
    assert not any(all_refused(ready.a)) and all(all_refused(ready.b))


def test_rights_in_an_acl_file_are_taken_and_given_back_there(box, engine):
    scene = Scenario(box, engine)
    user = f"user narrow on >{PASSWORDS['app']} ~narrow:* -@all +@hash +get +eval"
    for server in (scene.a, scene.b):
        with_acl_file(server, [user])
    scene.set_up()
    before = {side: scene.server(side).settings() for side in "ab"}
    stop_at(scene, "promote:end")
    for server in (scene.a, scene.b):
        server.crash_and_restart()
        assert all(all_refused(server))
        assert "changeover.kept.narrow" in (server.folder / "users.acl").read_text()
    assert scene.settle("a") == "a"
    scene.caught_up()
    for side in "ab":
        before[side], after = in_order(before[side]), in_order(scene.server(side).settings())
        assert {name: (before[side].get(name), after[name]) for name in after if after[name] != before[side].get(name)} == {}
    assert "changeover" not in (scene.a.folder / "users.acl").read_text()
    scene.a.crash_and_restart()
    assert in_order(scene.a.settings()) == before["a"] and scene.a.is_open()


def test_a_user_who_is_made_under_the_fence_is_seen_and_the_run_undone(ready):
    """An administrator can do it; before the commit the run is undone, not gone on with."""
    with ready.tool.held("cutover", "--yes", "--when-ready=20s", at="prove:begin", json=True) as child:
        run_command(ready.a, *NEW_USER)
    result = ready.tool.finish(child)
    assert result.code == 4, result
    assert ready.open_side() == "a"
    rules = [line for line in run_command(ready.a, "ACL", "LIST") if line.startswith("user late ")]
    assert rules and rules[0].endswith("+@all"), "the administrator's user stays as it was made"


def test_a_user_who_is_removed_under_the_fence_stays_removed(ready):
    run_command(ready.a, *NEW_USER)
    run_command(ready.b, *NEW_USER)
    stop_at(ready, "capture:end")
    run_command(ready.a, "ACL", "DELUSER", "late")
    assert ready.settle("a") == "a"
    assert not [line for line in run_command(ready.a, "ACL", "LIST") if "late" in line]


def test_a_script_queued_before_the_fence_is_never_executed_on_the_old_primary(ready):
    """On 6.2 the pause holds EXEC back until the old primary follows; on 6.0 it is refused at once."""
    answers = []
    connection = ready.a.connect("app", timeout_s=40)
    connection.execute_command("MULTI")
    connection.execute_command("EVAL", WRITE, 0, "queued")

    def end():
        try:
            found = connection.execute_command("EXEC")
            answers.extend(found)
        except redis.RedisError as error:
            answers.append(error)

    with ready.tool.held("cutover", "--yes", "--when-ready=20s", at="capture:end") as child:
        thread = threading.Thread(target=end)
        thread.start()
    result = ready.tool.finish(child)
    thread.join(30)
    connection.close()
    assert result.code == 0, result
    assert len(answers) == 1 and isinstance(answers[0], redis.RedisError), answers
    for server in (ready.a, ready.b):
        assert run_command(server, "GET", "scripted") is None


def test_rules_too_long_for_the_config_file_refuse_the_run_before_the_fence(ready):
    """CONFIG REWRITE of 6.x cuts lines at 1024 bytes, after which the server doesn't start."""
    commands = [name for name in run_command(ready.a, "ACL", "CAT", "fast")][:60]
    keys = [f"~a-long-pattern-of-keys-{number}:*" for number in range(30)]
    for server in (ready.a, ready.b):
        run_command(server, "ACL", "SETUSER", "wordy", "on", ">x", *keys, "-@all", *[f"+{name}" for name in commands], "+eval")
    before = ready.a.settings()
    result = ready.tool("cutover", "--yes", "--when-ready=20s")
    assert result.code == 1 and "wordy" in result.out + result.err, result
    assert ready.a.is_open() and ready.a.settings() == before


def test_scripts_under_load_lose_nothing_and_none_is_executed_on_the_wrong_side(ready):
    for command in ("cutover", "rollback"):
        source = ready.primary
        with ready.load(writers=4, kinds=("script", "ordinary")) as load:
            wait_for(lambda: load.count() > 50, 60, "the load runs")
            assert ready.run(command).code == 0
            at = load.count(ready.primary)
            wait_for(lambda: load.count(ready.primary) > at + 30, 60, "writes go on")
        ready.check(load, source, committed=True)


def test_check_says_that_rights_will_be_taken_and_refuses_where_users_cannot_be_seen(ready):
    found = {finding["code"] for finding in ready.tool("check", json=True).json["findings"]}
    assert "rights_taken" in found and not found & {"acl_refused", "scripts_pass_fence"}
    secret = ready.box.folder / "narrow.password"
    secret.write_text("narrow-secret-7Q\n")
    secret.chmod(0o600)
    for server in (ready.a, ready.b):
        run_command(server, "ACL", "SETUSER", "tool", "on", ">narrow-secret-7Q", "~*", "+@all", "-acl")
        plain = server.side_config()
        server.side_config = lambda plain=plain: {**plain, "url": plain["url"].replace("://", "://tool@"), "password_file": str(secret)}
    ready.tool.write_config()
    found = {finding["code"] for finding in ready.tool("check", json=True).json["findings"]}
    assert "acl_refused" in found
