"""Which engines this run was about: what is missing is one named skip each."""
import pytest

from sandbox import engine_reason


def test_the_engine_is_here(engine):
    reason = engine_reason(engine)
    if reason:
        pytest.skip(reason)
