#!/usr/bin/python3
"""Counts what the JUnit files of one run say, names each failure and skip, and prints the counts last.

usage: summary.py [--write FILE --title TITLE] FOLDER [STAGE...]     STAGE: something that failed and has no file, such as a build

--write replaces the section TITLE of a Markdown file (docs/tested.md) with this run: date, versions, counts, failures, skips.
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

Written by `tools/summary.py` from the result files of a run (`tools/test --full`, or a part of it by pytest); don't edit. What the
fault suite found case by case is in [faults.md](faults.md).
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
            return lines[0][:200] if lines else ""
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


def section(title, suites, stages, total):
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    versions = {name: version_of(argv) for name, argv in VERSIONS.items()}
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "?")
    lines = [f"## {title}", "", f"{datetime.date.today().isoformat()}, commit {commit.stdout.strip() or '?'}, {system}, {platform.machine()}: "
             + ", ".join(f"{name} {version}" for name, version in versions.items() if version) + ".", "",
             f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped.", "",
             "| suite | passed | failed | skipped | minutes |", "| --- | ---: | ---: | ---: | ---: |"]
    lines += [f"| {one.name} | {one.count['passed']} | {one.count['failed']} | {one.count['skipped']} | {one.seconds / 60:.1f} |"
              for one in suites]
    lines.append("")
    lines += [f"- failed: {stage}" for stage in stages]
    lines += [f"- failed: {one.name}: {one.broken}" for one in suites if one.broken]
    lines += [f"- failed: {one.name}: {name}: {why}" for one in suites for what, name, why in one.told if what == "failed"]
    skipped = collections.Counter((one.name, re.sub(r"^.*?: (?=\w+:)", "", why) or "no reason given") for one in suites
                                  for what, _, why in one.told if what == "skipped")
    lines += [f"- skipped: {suite}: {times} x {why}" for (suite, why), times in sorted(skipped.items())]
    return lines


def write(path, title, lines):
    text = path.read_text(encoding="utf-8") if path.exists() else HEAD
    begin = text.find(f"## {title}\n")
    if begin >= 0:
        after = text.find("\n## ", begin)
        text = text[:begin].rstrip("\n") + "\n" + (text[after:] if after >= 0 else "")
    path.write_text(text.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--title", default="The whole suite")
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
        write(options.write, options.title, section(options.title, suites, options.stages, total))
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
