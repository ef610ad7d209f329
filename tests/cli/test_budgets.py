"""Limits of time that people set, and signals: what ends when they come, and what is said."""
import re

from sandbox.wait import wait_for


def test_an_error_that_lasts_ends_reverse_with_6_and_what_to_do(fakes):
    fakes.tool.cutover["reverse_patience"] = "2s"
    fakes.tool.write_config()
    fakes.must("setup")
    fakes.a.rule("follow", "refuse", count=100000)
    result = fakes.must("cutover", "--yes", code=6, json=True)
    said = str(result.json["errors"])
    assert "the old one doesn't follow it" in said and "refused by a rule" in said and "changeover resume" in said, result
    assert fakes.open_side() == "b"
    took = [phase["ms"] for phase in result.json["phases"] if phase["name"] == "reverse"][0]
    assert 2000 <= took < 8000  # the promised limit, from the run's own stamps; it ends between two tries
    fakes.a.control("rules", clear=1)
    fakes.must("resume")
    fakes.must("lag", "--wait=20s")
    fakes.must("rollback", "--yes")


def test_an_error_that_passes_is_borne(fakes):
    fakes.must("setup")
    fakes.a.rule("follow", "refuse", count=3)
    fakes.must("cutover", "--yes")


def test_the_tightest_limit_of_a_pair_is_that_of_the_group(box):
    first, second = box.pair("fake", "one"), box.pair("fake", "two")
    for pair in (first, second):
        pair.extra["gate"] = {"stable_for": "0s"}
    second.extra["max_write_pause"] = "700ms"
    tool = box.tool([first, second], max_write_pause="30s")
    names = [one["name"] for one in tool.document()["pairs"]]
    assert tool("setup").code == 0
    result = tool("cutover", "--yes", json=True, fault="prove:end=delay:900")
    tool.wait_quiet()
    report = tool("report", json=True).json  # the tool sees it, or is asleep past the guardian's patience and is ended
    assert report["outcome"] == "undone" and result.code in (4, -9), result
    assert report["write_pause"]["ms"] is None or report["write_pause"]["ms"] < 30000
    assert first.a.is_open() and second.a.is_open()
    if result.code == 4:
        said = str(result.json["errors"])
        assert re.search(rf"max_write_pause of pair {names[1]} \(700 ms\) is over", said), result
        assert "the pair's max_write_pause" in said


def test_a_signal_after_the_commit_ends_nothing_and_is_noted(fakes):
    import signal

    from sandbox.wait import wait_for

    fakes.must("setup")
    with fakes.tool.held("cutover", "--yes", at="switch:begin") as child:
        child.send_signal(signal.SIGTERM)
    result = fakes.tool.finish(child)
    assert result.code == 0 and "came after the commit and ended nothing" in result.err, result
    assert any(event["kind"] == "signal" for event in fakes.report()["events"])
    assert fakes.open_side() == "b"


def test_a_tool_whose_undo_fails_says_so_before_its_guardian_ends_it(fakes):
    """It closed the line to its guardian, which killed it before it had printed what is the matter: exit -9 and not a word."""
    fakes.must("setup")
    with fakes.tool.held("cutover", "--yes", at="prove:begin", fault="prove:end=error", json=True) as child:
        fakes.a.rule("fence", "refuse", count=100000)
    result = fakes.tool.finish(child)
    assert result.code == 5, result
    said = str(result.json["errors"])
    assert "refused by a rule" in said and "the undo isn't finished" in said and "changeover resume" in said, result
    fakes.tool.wait_quiet()
    assert not fakes.a.is_open() and not fakes.b.is_open()
    fakes.a.control("rules", clear=1)
    fakes.must("resume", code=4)
    assert fakes.open_side() == "a"
