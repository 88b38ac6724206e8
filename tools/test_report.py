"""Summarises a Bazel test run, target by target, and closes with "N passed, M failed".

Reads Bazel's build events (--build_event_json_file) and the test.xml of every target that ran, so
that each test case counts, and the file of further checks that tools/test writes ("PASSED name").
Exits with 1 when anything failed, or when nothing ran at all.
"""

import argparse
import json
import pathlib
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree


class Tally:
    """Counts of test cases; `failures` names them."""

    def __init__(self):
        self.passed = 0
        self.skipped = 0
        self.failures = []

    def add(self, other):
        self.passed += other.passed
        self.skipped += other.skipped
        self.failures += other.failures


def read_events(path):
    """The JSON objects of the file, one a line; none when Bazel never wrote it."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def count_cases(xml_path, label):
    """The cases of one test.xml. A file that is no XML counts nothing."""
    tally = Tally()
    try:
        root = ElementTree.parse(xml_path).getroot()
    except (OSError, ElementTree.ParseError):
        return tally
    for case in root.iter("testcase"):
        name = f"{label} {case.get('classname') or ''}.{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            tally.failures.append(name)
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            tally.skipped += 1
        else:
            tally.passed += 1
    return tally


def count_target(label, status, xml_paths):
    """The cases of one target. A target that failed has a failure, whatever its XML says: it may
    have crashed or run out of time."""
    tally = Tally()
    for path in xml_paths:
        tally.add(count_cases(path, label))
    if status in ("PASSED", "FLAKY"):
        if tally.passed + tally.skipped == 0 and not tally.failures:
            tally.passed = 1
    elif not tally.failures:
        tally.failures.append(f"{label} ({status.lower()})")
    return tally


def collect(events):
    """(label, status, seconds, cached, xml paths) of every target that ran, and the labels of those
    that did not build."""
    ran, broken = {}, []
    for event in events:
        identity = event.get("id", {})
        if "testResult" in identity and "testResult" in event:
            label, result = identity["testResult"]["label"], event["testResult"]
            entry = ran.setdefault(label, [result["status"], 0.0, False, []])
            if result["status"] != "PASSED":
                entry[0] = result["status"]
            entry[1] += int(result.get("testAttemptDurationMillis", 0)) / 1000
            entry[2] = result.get("cachedLocally", False)
            entry[3] += [
                urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path)
                for output in result.get("testActionOutput", []) if output["name"] == "test.xml"]
        elif "targetCompleted" in identity:
            if not event.get("completed", {}).get("success", False):
                broken.append(identity["targetCompleted"]["label"])
    return ran, [label for label in broken if label not in ran]


def report(events, checks, bazel_status):
    """Prints a line per target and per failure; returns the whole tally."""
    total = Tally()
    for line in checks:
        result, name = line.split(" ", 1)
        if result == "PASSED":
            total.passed += 1
        else:
            total.failures.append(name)
    ran, broken = collect(events)
    for label, (status, seconds, cached, xml_paths) in sorted(ran.items()):
        tally = count_target(label, status, xml_paths)
        total.add(tally)
        count = tally.passed + len(tally.failures) + tally.skipped
        print(f"{status:8} {label}: {count} case(s), {len(tally.failures)} failed, "
              f"{'cached' if cached else f'{seconds:.1f} s'}")
    total.failures += [f"{label} (does not build)" for label in broken]
    # 0: all passed, 3: tests failed, 4: there were no tests; anything else is Bazel's own failure.
    if bazel_status not in (0, 3, 4) and not broken:
        total.failures.append(f"bazel (exit status {bazel_status})")
    for name in total.failures:
        print(f"FAILED   {name}")
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=pathlib.Path)
    parser.add_argument("--bazel-status", type=int, default=0)
    parser.add_argument("--checks", type=pathlib.Path)
    arguments = parser.parse_args()
    checks = arguments.checks.read_text().splitlines() if arguments.checks else []
    total = report(read_events(arguments.events), checks, arguments.bazel_status)
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {len(total.failures)} failed{skipped}")
    sys.exit(1 if total.failures or total.passed == 0 else 0)


if __name__ == "__main__":
    main()
