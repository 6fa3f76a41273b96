"""Every fault of docs/faults.md, as often as its table says, and the table: `python benchmarks/faults.py [WORD ...]`.

These are the tests of `tests/faults`, of which CI injects a fifth. With words, only those whose names have one of them.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent.parent
LIMIT = 3600  # seconds for one fault


def main(words: list[str]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", "tests/faults", "-m", "", "-n", "0", "-q"]
        command += ["--timeout", str(LIMIT), "-k", " or ".join(words)]
        command += ["-o", "junit_family=xunit2", f"--junitxml={report}"]
        code = subprocess.run(command, cwd=HERE, env={**os.environ, "MEDTUNE_ALL_FAULTS": "1"}).returncode
        print("\n| injected | what held |", "|---|---|", *rows(report), sep="\n")
    return code


def rows(report: Path) -> Iterator[str]:
    """A line of the table for each fault."""
    for case in ElementTree.parse(report).iter("testcase"):
        said = {each.get("name"): each.get("value") for each in case.iter("property")}
        skipped, failed = case.find("skipped"), case.find("failure")
        if failed is not None or case.find("error") is not None:
            yield f"| {said.get('injected', case.get('name'))} | **FAILED** |"
        elif skipped is not None:
            yield f"| {case.get('name')} | not here: {re.sub(r'[^:]*:[0-9]+: ', '', skipped.get('message') or '')} |"
        elif "held" in said:
            yield f"| {said.get('injected', case.get('name'))} | {said['held']} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
