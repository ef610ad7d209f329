"""--b-is-lost: what is said, what is asked, and that nothing is opened beside a server that answers."""
import pytest


def cut_over(fakes):
    fakes.must("setup")
    fakes.must("cutover", "--yes")


def errors(result):
    return " ".join(f"{error['message']} {error['hint']}" for error in result.json["errors"])


def test_a_new_primary_that_answers_is_not_lost(fakes):
    """Whoever says so is refused: a would take writes beside b."""
    cut_over(fakes)
    seen = fakes.a.settings(), fakes.b.settings()
    result = fakes.must("rollback", "--yes", "--b-is-lost", code=1, json=True)
    assert "side b answers" in errors(result) and "changeover rollback" in errors(result), result
    assert fakes.open_side() == "b"
    assert (fakes.a.settings(), fakes.b.settings()) == seen
    fakes.must("rollback", "--yes")


def test_rollback_without_b_says_what_is_lost_and_opens_a(fakes):
    cut_over(fakes)
    client = fakes.b.client("ordinary")
    client.write("kept")
    fakes.must("lag", "--wait=20s")
    fakes.a.cut_link(True)
    for number in range(3):
        client.write(f"gone-{number}")
    client.close()
    fakes.tool("lag", json=True)  # what was last seen of b
    fakes.b.kill()
    dry = fakes.must("rollback", "--b-is-lost", "--dry-run", json=True)
    lost = dry.json["lost"][0]
    assert lost["applied_position"] and lost["last_seen_position"] and lost["missing_transactions"] == 3, dry
    assert all(step["side"] != "b" for step in dry.json["steps"]), dry
    refused = fakes.must("rollback", "--b-is-lost", code=64)
    assert "needs --yes" in refused.err
    result = fakes.must("rollback", "--yes", "--b-is-lost")
    assert "3 transactions of it, and whatever b took after that, is lost" in result.err, result
    assert fakes.a.is_open()
    assert "kept" in fakes.a.read_all() and "gone-0" not in fakes.a.read_all()
    report = fakes.report()
    assert report["run"]["kind"] == "rollback_lost" and report["primary"] == "a"
    assert any(event["kind"] == "lost" for event in report["events"])


def test_what_a_has_received_is_applied_before_it_is_opened(fakes):
    cut_over(fakes)
    fakes.a.set_apply_delay(300)
    client = fakes.b.client("ordinary")
    for number in range(5):
        client.write(f"late-{number}")
    client.close()
    wanted = {f"late-{number}" for number in range(5)}
    from sandbox.wait import wait_for

    wait_for(lambda: int(fakes.a.look()["received"]) >= int(fakes.b.look()["seq"]), 60, "a has received it")
    fakes.b.kill()
    fakes.must("rollback", "--yes", "--b-is-lost")
    assert wanted <= fakes.a.read_all()


def test_rollback_check_says_open_closed_or_unknown(fakes):
    fakes.must("setup")
    result = fakes.must("rollback", "--check", code=1, json=True)
    assert result.json["pairs"][0]["open"] is False and "a is the primary" in result.json["pairs"][0]["reason"]
    fakes.must("cutover", "--yes")
    pair = fakes.must("rollback", "--check", json=True).json["pairs"][0]
    assert pair["open"] is True and pair["lose_transactions"] == 0
    fakes.a.cut_link(True)
    pair = fakes.must("rollback", "--check", code=1, json=True).json["pairs"][0]
    assert pair["open"] is False and pair["reason"]
    fakes.a.cut_link(False)
    fakes.a.freeze()
    pair = fakes.must("rollback", "--check", code=3, json=True).json["pairs"][0]
    assert pair["open"] is None and pair["lose_transactions"] is None
    assert "the way back is unknown" in fakes.must("rollback", "--check", code=3).out
    fakes.a.thaw()


def test_a_run_that_was_left_comes_before_everything_else(fakes):
    cut_over(fakes)
    fakes.must("rollback", "--yes", code=-9, fault="prove:begin=kill_both")
    for command in ("cutover", "rollback"):
        result = fakes.must(command, "--yes", code=5, json=True)
        assert "isn't finished" in errors(result) and "changeover resume" in errors(result), result
    result = fakes.must("rollback", "--check", code=1)
    assert "changeover resume" in result.out
    fakes.must("resume", code=4)
    assert fakes.open_side() == "b"


@pytest.mark.parametrize("point, code", [("commit:end", 0), ("open:end", 5)])
def test_abort_turns_a_commit_back_only_while_nothing_was_opened(fakes, point, code):
    fakes.must("setup")
    fakes.must("cutover", "--yes", code=-9, fault=f"{point}=kill_both")
    result = fakes.must("abort", code=5, json=True)
    assert "can only go forward" in errors(result)
    if code == 0:
        assert "--b-is-lost" in errors(result)
        fakes.b.kill()
        fakes.must("abort", "--b-is-lost")
        assert fakes.a.is_open()
        fakes.b.start()  # it comes back after all: closed, and it stays so
        assert not fakes.b.is_open()
    else:
        fakes.must("abort", "--b-is-lost", code=5)
        fakes.must("resume")
        assert fakes.open_side() == "b"
