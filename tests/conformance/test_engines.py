"""Which engines this run was about: what is missing is one named skip each; with the label full it's a failure, where
tools/make-* or the system's packages have that server."""
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
