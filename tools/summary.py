#!/usr/bin/python3
"""Counts what the JUnit files of one run say, names each failure and skip, and prints the counts last.

usage: summary.py [--write FILE] FOLDER [STAGE...]     STAGE: something that failed and has no file, such as a build

--write puts a row for each suite into a Markdown file (docs/tested.md), with date and commit, in the place of the row that the
suite has of an earlier run; and what failed and what was skipped.
"""
import argparse
import collections
import datetime
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as tree

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEAD = """# What was tested

Written by `tools/test --full [SUITE...]`; don't edit. Each row is the newest run of that suite, at the commit that it names.
`pytest-conformance-NAME` is the one suite that all engines share, with the cases that only this engine has; a name with a number is another
version of the server. What the fault suite found case by case is in [faults.md](faults.md).
"""
# how each server and client library says its version; what isn't there isn't listed
VERSIONS = {
    "PostgreSQL": ["/usr/lib/postgresql/15/bin/postgres", "--version"],
    "MariaDB": ["mariadbd", "--version"],
    "Redis": ["redis-server", "--version"],
    "gcc": ["gcc", "--version"],
    "clang": ["clang-14", "--version"],
    "CMake": ["cmake", "--version"],
    "spin": ["spin", "-V"],
}


def outcome(case):
    for child in case:
        if child.tag in ("failure", "error"):
            return "failed"
        if child.tag == "skipped":
            return "skipped"
    if case.get("status") in ("fail",):
        return "failed"
    if case.get("status") in ("notrun", "disabled"):
        return "skipped"
    return "passed"


def reason(case):
    for child in case:
        if child.tag in ("failure", "error", "skipped"):
            lines = (child.get("message") or child.text or "").strip().splitlines()
            return re.sub(r"-c /\S+ |: see /[^ )]+", "", lines[0])[:200] if lines else ""  # a folder of this run says nothing
    return ""


class Suite:
    """One result file."""

    def __init__(self, path):
        self.name, self.count, self.told, self.broken = path.stem, collections.Counter(), [], ""
        try:
            root = tree.parse(path)
            cases = list(root.iter("testcase"))
        except tree.ParseError as error:
            self.broken, cases = str(error), []
        self.seconds = sum(float(case.get("time") or 0) for case in cases)
        for case in cases:
            what = outcome(case)
            self.count[what] += 1
            if what != "passed":
                self.told.append((what, case.get("name"), reason(case)))
        if not self.broken and not self.count["passed"] and not self.count["failed"]:
            self.broken = "no test ran"


def version_of(argv):
    path = shutil.which(argv[0])
    if not path:
        return None
    done = subprocess.run([path, *argv[1:]], capture_output=True, text=True, check=False)
    text = (done.stdout or done.stderr).strip().splitlines()
    found = re.search(r"\d+(\.\d+)+", text[0]) if text else None
    return found[0] if found else None


def revision():
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "?"


def rows(suites, stages):
    """{suite: (its row, its failures and skips)}"""
    when = f"{datetime.date.today().isoformat()} | {revision()}"
    made = {stage: (f"| {stage} | {when} | 0 | 1 | 0 | |", [f"- {stage}: failed: it didn't run to its end"]) for stage in stages}
    for one in suites:
        failed = one.count["failed"] + bool(one.broken)
        row = f"| {one.name} | {when} | {one.count['passed']} | {failed} | {one.count['skipped']} | {one.seconds / 60:.1f} |"
        notes = [f"- {one.name}: failed: {one.broken}"] if one.broken else []
        notes += [f"- {one.name}: failed: {name}: {why}" for what, name, why in one.told if what == "failed"]
        skipped = collections.Counter(why or "no reason given" for what, _, why in one.told if what == "skipped")
        notes += [f"- {one.name}: skipped: {times} x {why}" for why, times in sorted(skipped.items())]
        made[one.name] = (row, notes)
    return made


def earlier(path):
    """What the file has of other runs, in the same form."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        row = re.match(r"\| (\S+) \| \d{4}-", line)
        note = re.match(r"- (\S+): (failed|skipped): ", line)
        if row:
            found[row[1]] = (line, [])
        elif note and note[1] in found:
            found[note[1]][1].append(line)
    return found


def write(path, suites, stages):
    versions = {name: version_of(argv) for name, argv in VERSIONS.items()}
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "?")
    all_rows = {**earlier(path), **rows(suites, stages)}
    lines = ["", f"{system}, {platform.machine()}: " + ", ".join(f"{name} {version}" for name, version in versions.items() if version) + ".", "",
             "| suite | date | commit | passed | failed | skipped | minutes |", "| --- | --- | --- | ---: | ---: | ---: | ---: |"]
    lines += [all_rows[name][0] for name in sorted(all_rows)]
    lines += ["", "## What failed, what was skipped", ""]
    lines += [note for name in sorted(all_rows) for note in all_rows[name][1]]
    path.write_text(HEAD + "\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("stages", nargs="*")
    options = parser.parse_args()
    suites = [Suite(path) for path in sorted(options.folder.glob("*.xml"))]
    total = collections.Counter()
    for suite in suites:
        total.update(suite.count)
    total["failed"] += len(options.stages) + sum(bool(suite.broken) for suite in suites)
    for stage in options.stages:
        print(f"FAILED   {stage}")
    for suite in suites:
        if suite.broken:
            print(f"FAILED   {suite.name}: {suite.broken}")
        for what, name, why in suite.told:
            print(f"{what.upper():8} {suite.name}: {name}  {why}")
    if options.write:
        write(options.write, suites, options.stages)
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
