"""With persistence on, a restart (kill -9) of A or B or both at every phase, in cutovers and rollbacks in turn: the promises
hold. The cases are the fault suite's own; here they are named, one a phase and side, and always all of them."""
import pathlib
import sys

import pytest

from rediskit import need

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "faults"))

from case import World, run_case  # noqa: E402
from matrix import PHASES, Case  # noqa: E402


@pytest.fixture(scope="module")
def world():
    made = World(need("redis"), "restarts")
    yield made
    made.drop(failed=False)


@pytest.mark.full
@pytest.mark.parametrize("who", ["source", "target", "both"])
@pytest.mark.parametrize("phase", PHASES)
def test_restarted_in_phase(world, phase, who):
    try:
        run_case(world.get(), Case("server", phase, 1, f"crash_{who}"))
    except BaseException:
        world.drop(failed=True)
        raise
