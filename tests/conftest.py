"""What all tests against servers share: the sandbox fixture, labels, the seed, the time budget."""
import os
import pathlib
import random
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from sandbox import Sandbox, engine_reason  # noqa: E402

BEGAN = time.monotonic()
BUDGET_S = float(os.environ.get("CO_BUDGET_S", "0"))
SEED = os.environ.get("CO_SEED", "1")


def pytest_configure(config):
    config.addinivalue_line("markers", "ci: chosen for every run of CI")
    config.addinivalue_line("markers", "full: everything, by command")


def pytest_collection_modifyitems(items):
    """Without a label of its own a test is in both; what is only full says so."""
    for item in items:
        names = {mark.name for mark in item.iter_markers()}
        if not names & {"ci", "full"}:
            item.add_marker("ci")
        if "full" not in names:
            item.add_marker("full")


def pytest_report_header():
    return f"seed {SEED}, budget {BUDGET_S or 'none'}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    if outcome.get_result().failed:
        item.has_failed = True


@pytest.fixture
def in_budget():
    if BUDGET_S and time.monotonic() - BEGAN > BUDGET_S:
        pytest.skip(f"the time budget of {BUDGET_S:.0f} s is used up")


@pytest.fixture
def box(request, in_budget):
    made = Sandbox()
    yield made
    made.close(failed=getattr(request.node, "has_failed", False))


@pytest.fixture
def chosen():
    """A random generator that the printed seed starts."""
    return random.Random(SEED)


def need(engine):
    reason = engine_reason(engine)
    if reason:
        pytest.skip(reason)
