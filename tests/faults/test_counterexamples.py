"""Every counter-example that the protocol must survive has a test: the table in docs/faults.md names them, and what it names
is there. Those that belong to no other suite are here."""
import ast
import re

import pytest

from sandbox import engine_reason, wait_for
from sandbox.scenario import PATIENTLY, Scenario, now_ns
from sandbox.tool import ROOT

DOCUMENT = ROOT / "docs" / "faults.md"
ROWS = 24


def rows():
    """{number: [test, ...]}"""
    text = DOCUMENT.read_text(encoding="utf-8").split("\n## Counter-examples", 1)[1]
    found = {}
    for line in text.splitlines():
        match = re.match(r"\| (\d+) \|", line)
        if match:
            found[int(match[1])] = re.findall(r"`([\w/.]+::\w+)`", line)
    return found


def functions_of(path):
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    # a unit test counts when its file also runs it
    return {name for name in re.findall(r"^static void (\w+)\(void \*\*state\)", source, re.M)
            if len(re.findall(rf"\b{name}\b", source)) > 1}


def test_every_counter_example_names_a_test():
    found = rows()
    assert sorted(found) == list(range(1, ROWS + 1))
    assert [number for number, tests in found.items() if not tests] == []


def test_every_test_that_is_named_is_there():
    missing = []
    for number, tests in rows().items():
        for test in tests:
            name, function = test.split("::")
            path = ROOT / name
            if not path.exists() or function not in functions_of(path):
                missing.append((number, test))
    assert missing == []


# ---------------------------------------------------------------- 13: A first, B after

@pytest.fixture
def ready(box, engine):
    if engine_reason(engine):
        pytest.skip(engine_reason(engine))
    scene = Scenario(box, engine)
    scene.set_up()
    return scene


@pytest.mark.parametrize("engine, who", [("fake", "tool"), ("fake", "guardian"), ("redis", "guardian"), ("mariadb", "tool"),
                                         pytest.param("postgresql", "tool", marks=pytest.mark.full), ("postgresql", "guardian")])
def test_an_undo_serves_the_old_primary_while_the_target_is_frozen(ready, who):
    """Whatever has to be done to the target waits; A doesn't."""
    after = "prove:end=error" if who == "tool" else "prove:end=kill"
    with ready.load(writers=4, timeout_s=1.0) as load:
        wait_for(lambda: load.count("a") > 10, 20, "the load runs")
        with ready.tool.held("cutover", *PATIENTLY, at="prove:end", fault=after) as child:
            at = load.count("a")
            ready.b.freeze()
        wait_for(lambda: load.count("a") > at + 10, 20, "A takes writes, the target being frozen")
        ready.b.thaw()
        result = ready.tool.finish(child, 90)
        assert result.code in (4, 5, -9), result
        assert ready.settle("a") == "a"
    ready.check(load, "a", committed=False)


# ---------------------------------------------------------------- 18: FLUSH by an ordinary user

@pytest.mark.parametrize("engine", ["mariadb", "mysql"])
def test_flush_by_an_ordinary_user_leaves_no_transaction_behind_the_fence(ready):
    """FLUSH writes to the binary log under read_only: account locks hold it, so that B has all that A has."""
    with ready.load(writers=4, kinds=["flush"], timeout_s=1.0, pause_s=0.1) as load:
        for kind, source, target in (("cutover", "a", "b"), ("rollback", "b", "a")):
            wait_for(lambda: load.count(source) > 10, 30, "the load runs")
            since = now_ns()
            assert ready.run(kind).code == 0
            ready.caught_up()
            load.check_one_open(source, target, since)
    assert ready.open_side() == "a"
    load.check_not_lost(ready.a)
