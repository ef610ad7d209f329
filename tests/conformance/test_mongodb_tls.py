"""How the tool gets into a MongoDB server: TLS with the server's and the client's certificate, and the two ways to log in."""
import json

import pytest

from sandbox import engine_reason, wait_for
from sandbox.box import Pair
from sandbox.engines import server_class
from sandbox.mongodb import PASSWORDS, Certificates
from sandbox.scenario import PATIENTLY, Scenario

pytestmark = pytest.mark.skipif(bool(engine_reason("mongodb-double")), reason="no MongoDB driver was built")


@pytest.fixture(params=["mongodb-double", "mongodb"])
def kind(request):
    reason = engine_reason(request.param)
    if reason:
        pytest.skip(reason)
    return request.param


def with_tls(box, kind):
    made = type("WithTls", (server_class(kind),), {"tls": Certificates(box.folder)})
    pair = Pair("main", "mongodb", box.add(made(box, "main-a")), box.add(made(box, "main-b")))
    made.prepare_pair(pair)
    pair.a.start()
    pair.b.start()
    made.fill(pair)
    return Scenario.of(box, pair)


def refused(scene, **tls):
    """What the tool says with another `tls:` of side a."""
    tool = scene.box.tool([scene.pair], name="other")
    document = tool.document()
    document["pairs"][0]["a"]["tls"] = {name: value for name, value in {**document["pairs"][0]["a"]["tls"], **tls}.items() if value}
    tool.write_config(json.dumps(document))
    result = tool("check", json=True)
    messages = [one["message"] for one in result.json["findings"] if one["side"] == "a" and one["severity"] == "error"]
    assert result.code in (1, 3) and messages, result
    assert not any(secret in result.out + result.err for secret in PASSWORDS.values())
    return " ".join(messages)


def test_a_pair_whose_servers_want_certificates_is_cut_over_and_back(box, kind):
    scene = with_tls(box, kind)
    scene.set_up()
    with scene.load(writers=2) as load:
        wait_for(lambda: load.count() > 20, 20, "the load runs")
        for command in ("cutover", "rollback"):
            scene.moved(load, command)
    load.check_not_lost(scene.a)
    assert scene.open_side() == "a"


def test_a_server_that_another_authority_vouches_for_is_refused(box, kind):
    """And a client without a certificate, a name that isn't the certificate's, and a plain connection."""
    scene = with_tls(box, kind)
    said = refused(scene, ca=scene.a.tls.path("other.pem"))
    assert "certificate" in said.lower() or "tls" in said.lower(), said
    said = refused(scene, server_name="elsewhere.test")
    assert "certificate" in said.lower() or "tls" in said.lower() or "host" in said.lower(), said
    assert refused(scene, cert=None, key=None)
    assert refused(scene, mode="off", ca=None, cert=None, key=None)
    assert scene.tool("check").code in (0, 1)  # the config as it is gets in
    assert not [one for one in scene.tool("check", json=True).json["findings"] if one["code"] == "unreachable" and one["side"] == "a"]


def test_certificate_and_key_in_two_files_are_refused_with_the_remedy(box):
    scene = with_tls(box, "mongodb-double")
    said = refused(scene, cert=scene.a.tls.path("client.crt"), key=scene.a.tls.path("client.key"))
    assert "one file" in said, said


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_an_account_with_one_way_to_log_in_gets_in(box, mechanism):
    reason = engine_reason("mongodb")
    if reason:
        pytest.skip(reason)
    scene = Scenario(box, "mongodb")
    connection = scene.a.connect("root")
    connection.command("admin", {"createUser": "one", "pwd": PASSWORDS["tool"], "roles": ["changeover", "readAnyDatabase"],
                                 "mechanisms": [mechanism]})
    connection.close()
    document = scene.tool.document()
    for side in "ab":
        document["pairs"][0][side]["url"] = document["pairs"][0][side]["url"].replace("tool@", "one@")
    scene.tool.write_config(json.dumps(document))
    scene.set_up()
    assert scene.tool("cutover", *PATIENTLY, timeout_s=90).code == 0
    assert scene.open_side() == "b"
