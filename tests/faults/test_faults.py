"""The fault suite: a seeded sample for every run of CI, everything by command (tests/faults/run)."""
import os
import random

import pytest

from matrix import World, cases, run_case
from sandbox import Sandbox, engine_reason
from sandbox.tool import fault_points, program
from sandbox.scenario import Scenario

SEED = os.environ.get("CO_SEED", "1")
SAMPLE = int(os.environ.get("CO_FAULT_SAMPLE", "60"))
REAL_SAMPLE = int(os.environ.get("CO_FAULT_SAMPLE_REAL", "6"))
REAL = ("postgresql", "mariadb", "redis")


def all_cases():
    if not program().exists():
        return []
    with Sandbox("points") as box:
        try:
            scene = Scenario.__new__(Scenario)
            pair = box.pair("fake", start=False)
            tool = box.tool([pair])
            return cases(fault_points(tool.config_path))
        except RuntimeError as error:
            print(error)
            return []


def spread(found, count, salt):
    """A sample in which every phase and action has its turn."""
    chooser = random.Random(f"{SEED}-{salt}")
    groups = {}
    for case in found:
        groups.setdefault((case.where, case.action), []).append(case)
    picked, order = [], sorted(groups)
    chooser.shuffle(order)
    while len(picked) < count and any(groups.values()):
        for group in order:
            if groups[group] and len(picked) < count:
                picked.append(groups[group].pop(chooser.randrange(len(groups[group]))))
    return picked


CASES = all_cases()


@pytest.fixture(scope="module")
def worlds():
    made = {}
    yield lambda engine: made.setdefault(engine, World(lambda: Sandbox(f"faults-{engine}"), engine))
    for world in made.values():
        world.drop(failed=False)


def one(worlds, engine, case):
    reason = engine_reason(engine)
    if reason:
        pytest.skip(reason)
    world = worlds(engine)
    try:
        run_case(world.get(), case)
    except BaseException:
        world.drop(failed=True)
        raise


def test_there_are_fault_points():
    assert len(CASES) > 500, "the program registers its fault points"


@pytest.mark.ci
@pytest.mark.parametrize("case", spread(CASES, SAMPLE, "fake"), ids=lambda case: case.id)
def test_sample_on_the_fake_engine(worlds, case):
    one(worlds, "fake", case)


@pytest.mark.ci
@pytest.mark.parametrize("engine", REAL)
@pytest.mark.parametrize("number", range(REAL_SAMPLE))
def test_sample_on_real_engines(worlds, engine, number):
    known = [case for case in CASES if case.where != "server" or not case.action.startswith("cut")]
    generic = [case for case in known if "." not in case.point or case.point.split(".")[1][:6] in ("source", "target")]
    picked = spread(generic, REAL_SAMPLE, engine)
    if number >= len(picked):
        pytest.skip("no fault points")
    one(worlds, engine, picked[number])
