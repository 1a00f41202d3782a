# SPDX-License-Identifier: GPL-2.0-or-later
"""Adds up what ./check ran: "summary.py FILE..." with check's logs, pytest's junit files (.xml) and
files of lines "PASS name", "FAIL name" or "CANNOT name" (.steps; what cannot run here). Prints what failed or was
skipped, then the one line "N passed, N failed, N skipped"; its exit status is 1 if anything failed, is missing, or
was skipped that can run here."""

import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

CHECK = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.MULTILINE)


class Sum:
    """Counts, and a line for each that did not pass."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.impossible = 0  # of the skipped

    def fail(self, name, count=1):
        print(f"FAILED {name}")
        self.failed += count

    def check_log(self, path):
        """The log of one program of make check; beside it automake's result."""
        text = path.read_text("utf-8", "replace")
        trs = path.with_suffix(".trs")
        result = re.search(r"^:test-result: (\w+)", trs.read_text(), re.MULTILINE)[1]
        suites = CHECK.findall(text)
        bad = sum(int(failures) + int(errors) for _, failures, errors in suites)
        total = sum(int(n) for n, _, _ in suites)
        if not suites:  # a program that is one test
            total, bad = 1, 0 if result in ("PASS", "SKIP") else 1
        elif result != "PASS" and not bad:  # it ended badly after its last suite
            bad = 1
        if result == "SKIP":
            print(f"SKIPPED {path.stem}")
            self.skipped += total
            return
        if bad:
            self.fail(path.stem, bad)
        self.passed += total - bad

    def junit(self, path):
        for case in ElementTree.parse(path).iter("testcase"):
            name = f"{case.get('classname')}.{case.get('name')}"
            skipped = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                self.fail(name)
            elif skipped is not None:
                print(f"SKIPPED {name}: {skipped.get('message')}")
                self.skipped += 1
            else:
                self.passed += 1

    def steps(self, path):
        for line in path.read_text("utf-8").splitlines():
            result, name = line.split(" ", 1)
            if result == "PASS":
                self.passed += 1
            elif result == "CANNOT":
                print(f"SKIPPED {name}")
                self.skipped += 1
                self.impossible += 1
            else:
                self.fail(name)


def main(paths):
    total = Sum()
    kinds = {".log": total.check_log, ".xml": total.junit, ".steps": total.steps}
    for path in map(pathlib.Path, paths):
        if path.exists():
            kinds[path.suffix](path)
        else:
            total.fail(f"{path} is missing")
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed or total.skipped > total.impossible or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
