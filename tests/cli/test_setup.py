"""`setup` as operators meet it: killed and run again, interrupted, run by two at once, from here and from elsewhere."""
import os
import signal

import pytest

from sandbox.wait import wait_for


def said(result):
    return " ".join(f"{error['message']} {error['hint']}" for error in result.json["errors"])


def in_setup(fakes, **how):
    """It holds its marker and is about to copy."""
    return fakes.tool.held("setup", at="setup.copy:before", **how)


@pytest.mark.parametrize("again", ["setup", "resume"])
def test_a_setup_that_was_killed_goes_on(fakes, again):
    fakes.must("setup", code=-9, fault="setup.copy:before=kill")
    assert fakes.a.settings()["token"]
    assert fakes.tool("status", json=True).json["run"]["kind"] == "setup"
    fakes.must(again)
    assert fakes.a.settings()["token"] == fakes.b.settings()["token"] == ""
    fakes.must("lag", "--wait=20s")
    assert fakes.tool("status", json=True).json["run"] is None


def test_a_setup_that_was_killed_can_be_given_up(fakes):
    fakes.must("setup", code=-9, fault="setup.copy:before=kill")
    fakes.must("abort")
    assert fakes.a.settings()["token"] == fakes.b.settings()["token"] == ""
    assert fakes.a.is_open()
    fakes.must("setup")


def test_sigterm_ends_a_setup_at_once_and_resume_goes_on(fakes):
    # the copy of so little is over in a moment: a thread that is to end it has heard of the signal before it begins
    with in_setup(fakes, fault="setup.copy:before=delay:3000") as child:
        child.send_signal(signal.SIGTERM)
    result = fakes.tool.finish(child, 15)
    assert result.code == 5, result
    assert fakes.a.settings()["token"]
    fakes.must("resume")
    fakes.must("lag", "--wait=20s")
    assert fakes.a.settings()["token"] == fakes.b.settings()["token"] == ""


def test_a_frozen_server_does_not_hold_up_the_interrupt_of_a_setup(fakes):
    with in_setup(fakes) as child:
        fakes.b.freeze()
        child.send_signal(signal.SIGINT)
    result = fakes.tool.finish(child, 12)
    assert result.code == 5, result
    fakes.b.thaw()
    fakes.must("resume")


def test_a_setup_from_another_machine_keeps_everybody_else_away(fakes):
    """Nobody else sets up, cuts over or detaches meanwhile: 75, and the machine, its journal and since when are named."""
    other = fakes.box.tool([fakes.pair], name="other")
    with in_setup(fakes) as child:
        seen = fakes.a.settings()["token"]
        assert seen
        for command in (("setup",), ("cutover", "--yes"), ("detach", "--yes")):
            result = other(*command, json=True)
            assert result.code == 75, result
            assert os.uname().nodename in said(result) and str(fakes.tool.journal) in said(result), result
        assert fakes.a.settings()["token"] == seen
        result = other("resume", json=True)
        assert result.code == 75 and os.uname().nodename in said(result), result
    assert fakes.tool.finish(child).code == 0
    assert fakes.a.settings()["token"] == fakes.b.settings()["token"] == ""
    assert other("setup").code == 0  # it is free again, and a second one is harmless


def test_two_setups_at_the_same_moment_are_one(fakes):
    other = fakes.box.tool([fakes.pair], name="other")
    children = [tool.spawn("setup", json=True, fault="check.source:after=delay:300") for tool in (fakes.tool, other)]
    results = [tool.finish(child) for tool, child in zip((fakes.tool, other), children)]
    assert sorted(result.code for result in results) in ([0, 75], [0, 0]), results  # [0, 0]: one after the other
    assert fakes.a.settings()["token"] == fakes.b.settings()["token"] == ""
    fakes.must("lag", "--wait=20s")


def test_a_setup_left_on_another_machine_is_taken_over_only_when_that_is_said(fakes):
    fakes.must("setup", code=-9, fault="setup.copy:before=kill")
    other = fakes.box.tool([fakes.pair], name="other")
    assert other("setup").code == 75
    assert other("resume").code == 75
    result = other("resume", "--take-over", json=True)
    assert result.code == 0, result
    assert fakes.a.settings()["token"] == fakes.b.settings()["token"] == ""
    assert other("lag", "--wait=20s").code == 0
