"""docs/faults.md: a section for each engine, written by the run that made its numbers and by nothing else."""
import collections
import datetime
import pathlib
import platform
import re
import subprocess
import tempfile

from matrix import PHASES
from sandbox.tool import ROOT

HEAD = """# What the fault suite found

The tables are written by `tests/faults/run`; don't edit them. In every case a cutover or a rollback runs under the load of
four writers a pair and meets one fault; then the guardian and `resume` end it. A case is *good* when no acknowledged write is
lost, never both sides take writes, exactly one does in the end (of a group: the same side of every pair), an undone run leaves
both servers' settings as they were, and the fault was met. *Not met*: the run didn't pass the point as often this time; such
a case shows nothing and is counted apart. Which points a run passes is surveyed before the cases are made.

The faults: `kill`, `kill_both` (the guardian too), `stop` (SIGSTOP, and SIGCONT later), `stop_unkillable` (the same, and the
guardian can't kill it), `lost` (the call is made, its reply is thrown away), `late` (the call is made half a second after it was
given up), `error` (once), `persist` (each time; what insists is ended after 12 s), `delay` (0.6 s). At the beginning of each phase:
`crash` (kill -9, and started again), `freeze`, `cut` of one or several legs of the network (the tool, A and B have network
namespaces of their own), `disk_full` and `fsync_fails` (the journal's), `second_operator` (with a journal of its own). `calls` are
the points around each primitive of a driver, `decisions` those of the journal.

Every row of the counter-examples has a test: the table is at the end.
"""


def commit():
    found = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "?"


def versions(results):
    """Where outputs of several runs were put together, how many cases are of which commit."""
    count = collections.Counter(one.commit for one in results).most_common()
    commits = ", ".join(f"{at} ({times} cases)" if len(count) > 1 else at for at, times in count)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "?")
    return f"commit {commits}, {system}, {platform.machine()}, Python {platform.python_version()}"


def where():
    """A killed server loses nothing in memory either, so it makes no difference to what is found; it does to how long it takes."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", tempfile.gettempdir()], capture_output=True, text=True, check=False).stdout.strip()
    return ", the servers' files in memory" if kind in ("tmpfs", "ramfs") else ""


def cell(results):
    good, bad = [sum(one.state == state for one in results) for state in ("good", "bad")]
    return "" if not good and not bad else f"{good}" if not bad else f"**{bad} of {good + bad} failed**"


TITLES = {"tool": "The tool on its way there", "undo": "The tool while it undoes", "guardian": "The guardian while it undoes",
          "guardian_forward": "The guardian after a commit", "resume": "`resume` while it undoes",
          "resume_forward": "`resume` after a commit", "server": "Servers, network, journal, at the beginning of a phase"}


def grid(results):
    """A table for each way: phases and actions."""
    lines = []
    for way, title in TITLES.items():
        chosen = [one for one in results if one.case.way == way]
        if not chosen:
            continue
        columns = sorted({one.case.action for one in chosen})
        lines += [f"### {title}", "", "| phase | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
        for phase in [*PHASES, "undo", "decisions", "calls"]:
            mine = [one for one in chosen if one.case.phase == phase]
            if mine:
                cells = [cell([one for one in mine if one.case.action == column]) for column in columns]
                lines.append(f"| {phase} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def section(title, options, results, total, skipped, began_s):
    count = collections.Counter(one.state for one in results)
    codes = collections.Counter(one.codes[0] for one in results if one.codes)
    left = total - len(results)
    what = f"{options.random} random runs" if options.random else "one fault a run"
    spent = sum(one.seconds for one in results) / options.workers if options.amend else began_s
    lines = [f"## {title}", "",
             f"{datetime.date.today().isoformat()}, {versions(results)}; {options.server_versions}; seed {options.seed}, {what}, {options.workers} at a time{where()}.", "",
             f"{len(results)} cases in {spent / 60:.0f} minutes: {count['good']} good, {count['bad']} not good, {count['not met']} not met"
             + (f"; {left} of {total} were not run." if left else "; the whole matrix."
                if not options.random and not options.match else "."), ""]
    lines += [f"Not possible there: {reason}." for reason in skipped if reason] + ([""] if any(skipped) else [])
    if options.random:
        lines += random_rows(results)
    else:
        lines += grid(results)
    if codes:
        lines += ["How the runs ended, by the exit code of the command that met the fault: "
                  + ", ".join(f"{code} in {times}" for code, times in sorted(codes.items())) + ".", ""]
    bad = [one for one in results if one.state == "bad"]
    if bad:
        lines += ["### Not good", ""] + [f"- `{one.case.id}`: {one.why}" for one in bad] + [""]
    return lines


def random_rows(results):
    rows = collections.defaultdict(list)
    for one in results:
        rows[one.engine].append(one)
    lines = ["| engines | runs | good | not good | no fault met | writes acknowledged |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for engine, mine in sorted(rows.items()):
        count = collections.Counter(one.state for one in mine)
        lines.append(f"| {engine} | {len(mine)} | {count['good']} | {count['bad']} | {count['not met']} | {sum(one.writes for one in mine)} |")
    return [*lines, ""]


def write(path, name, lines):
    """Puts the section of that name into the file, and leaves every other as it is."""
    begin, end = f"<!-- run: {name} -->", f"<!-- end: {name} -->"
    body = "\n".join([begin, *lines, end])
    path = pathlib.Path(path)
    text = path.read_text(encoding="utf-8") if path.exists() else HEAD
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: body, text)
    else:
        cut = text.find("\n## Counter-examples")
        cut = len(text) if cut < 0 else cut
        text = text[:cut].rstrip("\n") + "\n\n" + body + "\n" + text[cut:]
    path.write_text(text, encoding="utf-8")
