"""With the label ci a few tests of each file: the seed chooses."""
import pytest

from sandbox.sample import sample

OF_EACH_FILE = 6


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    sample(config, items, lambda item: item.path.name, lambda _: OF_EACH_FILE)
