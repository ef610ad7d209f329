"""Other versions of MariaDB (CO_MARIADB_SERVERS, see tools/make-mariadb-server): each with itself, and moved to the next."""
import pytest

from sandbox import ENGINES, engine_reason, wait_for
from sandbox.box import Pair
from sandbox.scenario import PATIENTLY, Scenario

VERSIONS = [name for name in ENGINES if name.startswith("mariadb-")]


def test_other_versions_are_here():
    if not VERSIONS:
        pytest.skip("mariadb: no other versions (tools/make-mariadb-server makes them; CO_MARIADB_SERVERS lists their folders)")
    assert not [reason for reason in map(engine_reason, VERSIONS) if reason]


def codes(tool):
    return {finding["code"]: finding["severity"] for finding in tool("check", "--for", "setup", json=True).json["findings"]}


def upgrade_is_named(scene):
    """There with a word about the way back; the other way round not at all."""
    assert codes(scene.tool)["version_higher"] == "warning"
    back = Pair("back", scene.engine, scene.b, scene.a, dict(scene.pair.extra))
    assert codes(scene.box.tool([back], name="back"))["version_lower"] == "error"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_there_and_back(box, version):
    """setup, an undone promotion, cutover and rollback under writers; after an upgrade the rollback leads to the older server."""
    scene = Scenario(box, version)
    if "-to-" in version:
        upgrade_is_named(scene)
    scene.set_up()
    before = scene.a.settings()
    with scene.load(writers=4) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        assert scene.tool("cutover", *PATIENTLY, fault="promote:end=error").code == 4
    assert scene.check(load, "a", committed=False) == "a"
    assert scene.a.settings() == before
    for kind in ("cutover", "rollback"):
        scene.moved_under_load(kind)
    assert scene.primary == "a"
