"""One suite for every engine: each test gets a pair of real servers of the engine that it is parameterised with.

CO_ENGINES="fake,redis" restricts it; an engine whose server or driver isn't here is a skip that says so."""
import os

import pytest

from sandbox import ENGINES, engine_reason
from sandbox.scenario import Scenario

CHOSEN = [name for name in os.environ.get("CO_ENGINES", ",".join(ENGINES)).split(",") if name]


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("engines")
        metafunc.parametrize("engine", [name for name in CHOSEN if not only or name in only.args])


def pytest_configure(config):
    config.addinivalue_line("markers", "engines(*names): this case is of these engines only")


@pytest.fixture
def scene(box, engine):
    reason = engine_reason(engine)
    if reason:
        pytest.skip(reason)
    return Scenario(box, engine)


@pytest.fixture
def ready(scene):
    """Set up, and the gate is open."""
    scene.set_up()
    return scene
