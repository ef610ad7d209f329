"""The accounts of the manual are enough: what it lists is what the tool, the replicas and the probe get here, and nothing else."""
import pathlib
import re

import pytest

from rediskit import codes, need, run, scenario
from sandbox import wait_for

MANUAL = pathlib.Path(__file__).resolve().parents[2] / "docs" / "redis.md"
NAMES = ("changeover", "replicator", "changeover_probe")


def listed():
    """{user: rules}"""
    found = dict(re.findall(r"^ACL SETUSER (\w+) on ><password> (.*)$", MANUAL.read_text(), re.M))
    assert set(found) == set(NAMES), found
    return found


@pytest.mark.parametrize("engine", ["redis", "redis6.0", "redis6.2", "redis8", "valkey", "redis-to-valkey"])
def test_the_accounts_of_the_manual_are_enough(box, engine):
    scene = scenario(box, need(engine))
    files = {}
    for user in NAMES:
        files[user] = box.folder / f"{user}.password"
        files[user].write_text(f"{user}-secret-9Z\n")
        files[user].chmod(0o600)
    for server in (scene.a, scene.b):
        for user, rules in listed().items():
            words = [word for word in rules.split() if word != "&*" or server.version() >= (6, 2)]  # 6.0 has no channels
            run(server, "ACL", "SETUSER", user, "on", f">{user}-secret-9Z", *words)
        run(server, "CONFIG", "SET", "masterauth", "")
        run(server, "CONFIG", "REWRITE")
        plain = server.side_config
        server.side_config = lambda plain=plain: {**plain(), "url": plain()["url"].replace("://", "://changeover@"),
                                                  "password_file": str(files["changeover"])}
    scene.pair.extra.update(replication={"user": "replicator", "password_file": str(files["replicator"])},
                            probe={"user": "changeover_probe", "password_file": str(files["changeover_probe"])})
    scene.tool.write_config()
    scene.set_up()
    assert not codes(scene) & {"config_refused", "acl_refused", "users_not_seen", "masterauth_missing"}
    before = {side: scene.server(side).settings() for side in "ab"}
    result = scene.run("cutover", fault="promote:end=error")  # an undo
    assert result.code == 4 and scene.open_side() == "a", result
    scene.caught_up()
    assert {side: scene.server(side).settings() for side in "ab"} == before
    for command in ("cutover", "rollback"):
        source = scene.primary
        with scene.load(writers=4) as load:
            wait_for(lambda: load.count() > 20, 60, "the load runs")
            result = scene.run(command)
            assert result.code == 0, result
            at = load.count(scene.primary)
            wait_for(lambda: load.count(scene.primary) > at + 10, 60, "writes go on")
        scene.check(load, source, committed=True)
    result = scene.tool("cutover", "--yes", "--when-ready=20s", fault="capture:end=kill_both")
    assert result.code == -9, result
    scene.tool.wait_quiet()
    assert scene.settle("a") == "a"
    scene.must("detach", "--yes")
