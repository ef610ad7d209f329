"""Real servers in a temporary folder, writers that keep a ledger, and the tool run against them.

    with Sandbox() as box:
        pair = box.pair("fake")            # engine by name: servers pair.a and pair.b
        tool = box.tool([pair])
        assert tool("setup").code == 0
        with Load(pair, writers=8) as load:
            assert tool("cutover", "--yes").code == 0
        load.verify(source="a", target="b", committed=True)
"""
from .box import Sandbox, ServerMissing
from .engines import ENGINES, engine_reason
from .ledger import Load, Loads, Violation
from .tool import Result, Tool
from .wait import wait_for

__all__ = ["ENGINES", "Load", "Loads", "Result", "Sandbox", "ServerMissing", "Tool", "Violation", "engine_reason", "wait_for"]
