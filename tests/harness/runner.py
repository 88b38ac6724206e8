"""Runs a unittest module and writes the JUnit XML that Bazel and tools/test count."""
import os
import sys
import time
import unittest
from xml.sax.saxutils import escape, quoteattr


class _Result(unittest.TextTestResult):
    """Keeps what the XML needs: name, seconds and failure of every test."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.records = {}
        self._started = {}

    def startTest(self, test):
        self._started[test.id()] = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        failures = [text for failed, text in self.failures + self.errors if failed.id().startswith(test.id())]
        skipped = any(one is test for one, _ in self.skipped)
        self.records[test.id()] = (time.monotonic() - self._started[test.id()], failures, skipped)
        super().stopTest(test)


def _write_xml(path, result):
    with open(path, "w", encoding="utf-8") as out:
        failed = sum(bool(failures) for _, failures, _ in result.records.values())
        out.write(f'<testsuites><testsuite name="python" tests="{len(result.records)}" failures="{failed}">\n')
        for name, (seconds, failures, skipped) in result.records.items():
            out.write(f'<testcase name={quoteattr(name)} time="{seconds:.3f}">')
            out.write("<skipped/>" if skipped else "")
            out.write("".join(f"<failure>{escape(text)}</failure>" for text in failures))
            out.write("</testcase>\n")
        out.write("</testsuite></testsuites>\n")


def main():
    """Call from `if __name__ == "__main__"`; ends the process with unittest's status."""
    runner = unittest.TextTestRunner(resultclass=_Result, verbosity=2)
    program = unittest.main(module="__main__", exit=False, testRunner=runner)
    if os.environ.get("XML_OUTPUT_FILE"):
        _write_xml(os.environ["XML_OUTPUT_FILE"], program.result)
    sys.exit(0 if program.result.wasSuccessful() else 1)
