#!/usr/bin/python3
"""Counts what the JUnit files of one run say, names each failure and skip, and prints the counts last.

usage: summary.py FOLDER [STAGE...]     STAGE: something that failed and has no file, such as a build
"""
import pathlib
import sys
import xml.etree.ElementTree as tree


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


def main():
    folder, stages = pathlib.Path(sys.argv[1]), sys.argv[2:]
    count = {"passed": 0, "failed": len(stages), "skipped": 0}
    for stage in stages:
        print(f"FAILED   {stage}")
    for path in sorted(folder.glob("*.xml")):
        try:
            cases = list(tree.parse(path).iter("testcase"))
        except tree.ParseError as error:
            print(f"FAILED   {path.name}: {error}")
            count["failed"] += 1
            continue
        if all(outcome(case) == "skipped" for case in cases):
            print(f"FAILED   {path.stem}: no test ran")
            count["failed"] += 1
        for case in cases:
            what = outcome(case)
            count[what] += 1
            if what != "passed":
                name = case.get("name")
                print(f"{what.upper():8} {path.stem}: {name}  {reason(case)}")
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
