"""The fault suite: a seeded sample for every run of CI, everything by command (tests/faults/run)."""
import functools
import os

import pytest

from case import World, can, run_case
from matrix import cases, parse, spread
from sandbox import engine_reason
from sandbox.tool import fault_points, program
from survey import stored

SEED = os.environ.get("CO_SEED", "1")
GROUP = "fake+fake-novote+fake"
SAMPLES = {"fake": 120, GROUP: 20, "redis": 24, "mariadb": 12, "postgresql": 12, "mongodb-double": 12}
# what was once not good: (engine, case, what was wrong)
ONCE_BAD = [
    ("fake", "server-lock-second_operator", "before the servers are marked a second operator finds no run"),
    ("fake", "resume-end_sessions.target:before#1-persist", "an undo that can't tidy up the target is over only with the next resume"),
    ("fake", "guardian-journal.take:before#1-persist", "a guardian that can't write tries until somebody ends it"),
    ("mongodb-double", "tool-drain.source:after#1-stop_unkillable", "a run that was undone is over before the target has heard that it has no vote"),
]


class Sample:
    """One engine's world and the cases that the seed chooses for it: made when its first case is run."""

    def __init__(self, engine):
        self.engine, self.world = engine, World(engine)

    @functools.cached_property
    def found(self):
        network, disk = can(self.engine)
        return cases(stored(self.engine), network=network is None, disk=disk is None)

    @functools.cached_property
    def chosen(self):
        return spread(self.found, SAMPLES[self.engine], f"{SEED}-{self.engine}")

    def run(self, case):
        try:
            outcome = run_case(self.world.get(), case)
        except BaseException:
            self.world.drop(failed=True)
            raise
        if not outcome.met:
            pytest.skip(f"not met: {case.id}")


@pytest.fixture(scope="module")
def samples():
    made = {}

    def sample(engine):
        reason = next(filter(None, map(engine_reason, engine.split("+"))), None)
        if reason or not program().exists():
            pytest.skip(reason or "the program isn't built")
        for other in [name for name in made if name != engine]:  # one set of servers at a time
            made.pop(other).world.drop(failed=False)
        return made.setdefault(engine, Sample(engine))

    yield sample
    for one in made.values():
        one.world.drop(failed=False)


@pytest.mark.parametrize("engine", SAMPLES)
def test_the_noted_points_are_the_programs(samples, engine):
    """What tests/faults/surveys says a run passes is still registered; else `tests/faults/run ENGINE --survey` is due."""
    sample = samples(engine)
    points = set(fault_points(sample.world.get().tool.config_path))
    noted = {point for seen in stored(engine).values() for point in seen}
    assert noted <= points, sorted(noted - points)
    assert len(sample.found) > 1000


@pytest.mark.ci
@pytest.mark.parametrize("engine, number", [(engine, number) for engine, count in SAMPLES.items() for number in range(count)])
def test_sample_of_the_matrix(in_budget, samples, record_property, engine, number):
    sample = samples(engine)
    case = sample.chosen[number]
    record_property("case", case.id)
    sample.run(case)


@pytest.mark.parametrize("engine, case, symptom", ONCE_BAD)
def test_once_bad(in_budget, samples, engine, case, symptom):
    samples(engine).run(parse(case))
