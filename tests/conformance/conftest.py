"""One suite for every engine: each test gets a pair of real servers of the engine that it is parameterised with.

CO_ENGINES="fake,redis" restricts it, "others" stands for the cases that belong to no engine of the suite; an engine whose server
or driver isn't here is one skip that says so."""
import os

import pytest

from sandbox import ENGINES, engine_reason
from sandbox.sample import drop, sample
from sandbox.scenario import Scenario

NAMED = os.environ.get("CO_ENGINES", ",".join([*ENGINES, "others"])).split(",")
CHOSEN = [name for name in NAMED if name in ENGINES]


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("engines")
        here = [name for name in CHOSEN if metafunc.function.__name__ == "test_the_engine_is_here" or not engine_reason(name)]
        metafunc.parametrize("engine", [name for name in here if not only or name in only.args or without_version(name) in only.args])


def without_version(engine):
    """Other versions of PostgreSQL have the cases of PostgreSQL, MySQL without GTIDs those of MySQL."""
    return "postgresql" if engine.startswith("postgresql") else "mysql" if engine == "mysql-file" else engine


def pytest_configure(config):
    config.addinivalue_line("markers", "engines(*names): this case is of these engines only")


# With the label ci each engine runs these, and as many others as the seed chooses; all of them with the label full.
ALWAYS = ("test_the_engine_is_here", "test_cutover_and_rollback_under_8_writers")
SAMPLE = {"fake": 34, "postgresql": 9}
SAMPLE_OF_OTHERS = 7


def of_engine(item):
    """Whether a parameter of the test is an engine of the suite."""
    return hasattr(item, "callspec") and any(str(value).startswith(tuple(CHOSEN)) for value in item.callspec.params.values())


def has_none(item):
    """Whether it stands for an empty list of parameters."""
    return hasattr(item, "callspec") and any(type(value).__name__ == "NotSetType" for value in item.callspec.params.values())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Of each engine, and of each file of cases that belong to no engine of the suite."""
    def group_of(item):
        engine = item.callspec.params.get("engine", item.path.name) if hasattr(item, "callspec") else item.path.name
        return engine if isinstance(engine, str) and item.originalname not in ALWAYS else None  # pytest names an empty set itself
    if "others" not in NAMED:
        drop(config, items, [item for item in items if not of_engine(item)])
    elif not CHOSEN:
        drop(config, items, [item for item in items if "engine" in item.fixturenames or has_none(item)])
    sample(config, items, group_of, lambda group: SAMPLE.get(group, SAMPLE_OF_OTHERS))


@pytest.fixture
def scene(box, engine):
    return Scenario(box, engine)


@pytest.fixture
def ready(scene):
    """Set up, and the gate is open."""
    scene.set_up()
    return scene
