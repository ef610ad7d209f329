"""What the tests of Redis share."""
import os

import pytest
import redis

from liar import Liar
from sandbox import engine_reason
from sandbox.scenario import Scenario


def need(engine):
    reason = engine_reason(engine)
    if reason:
        pytest.skip(reason)
    return engine


def scenario(box, engine="redis", **options):
    return Scenario(box, need(engine), **options)


def set_up(box, engine="redis", **options):
    scene = scenario(box, engine, **options)
    scene.set_up()
    return scene


def run(server, *arguments, user="default"):
    connection = server.connect(user)
    try:
        return connection.execute_command(*arguments)
    finally:
        connection.close()


def codes(scene, *arguments):
    result = scene.tool("check", *arguments, json=True)
    return {finding["code"] for finding in result.json["findings"]}


def add_lines(server, *lines):
    """Into the config file, with a restart."""
    path = server.folder / "redis.conf"
    server.stop()
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in lines))
    server.start()


def reach_through(scene, side, lie):
    """The tool reaches that side through a relay that lies."""
    server = scene.server(side)
    port = scene.box.free_port()
    scene.box.proxies.append(Liar(port, server.port, lie))
    plain = server.side_config
    server.side_config = lambda: {**plain(), "url": f"{server.scheme}://127.0.0.1:{port}", "peer": {"address": f"127.0.0.1:{server.port}"}}
    scene.tool.write_config()


def refuses_writes(server, user="app"):
    try:
        run(server, "SET", "tried", os.urandom(4).hex(), user=user)
    except redis.RedisError as error:
        return str(error)
    return None
