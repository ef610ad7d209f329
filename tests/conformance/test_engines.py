"""Which engines this run was about: what is missing is one named skip each; with the label full it's a failure, where
tools/make-* or the system's packages have that server."""
import os
import pathlib
import subprocess
import sys

import pytest

from sandbox import engine_reason

# no package of a supported system has these
BY_HAND = ("mongodb", "redis5.0", "redis6.0", "redis6.2", "redis7.4", "valkey7.2")


def test_the_engine_is_here(request, engine):
    reason = engine_reason(engine)
    if reason and request.config.option.markexpr == "full" and engine not in BY_HAND:
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def test_a_suite_of_one_engine_collects_the_cases_of_all_files():
    """Of a table of cases that has none for this engine pytest wants no names."""
    done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "full", "-p", "no:cacheprovider",
                           str(pathlib.Path(__file__).parent)],
                          env={**os.environ, "CO_ENGINES": "fake"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "test_cutover.py" in done.stdout, done.stdout[-2000:]
