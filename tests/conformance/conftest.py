"""One suite for every engine: each test gets a pair of real servers of the engine that it is parameterised with.

CO_ENGINES="fake,redis" restricts it; an engine whose server or driver isn't here is one skip that says so."""
import os

import pytest

from sandbox import ENGINES, engine_reason
from sandbox.scenario import Scenario

CHOSEN = [name for name in os.environ.get("CO_ENGINES", ",".join(ENGINES)).split(",") if name]


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("engines")
        here = [name for name in CHOSEN if metafunc.function.__name__ == "test_the_engine_is_here" or not engine_reason(name)]
        metafunc.parametrize("engine", [name for name in here if not only or name in only.args])


def pytest_configure(config):
    config.addinivalue_line("markers", "engines(*names): this case is of these engines only")


@pytest.fixture
def scene(box, engine):
    return Scenario(box, engine)


@pytest.fixture
def ready(scene):
    """Set up, and the gate is open."""
    scene.set_up()
    return scene
