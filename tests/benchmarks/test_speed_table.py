"""The table of speed says what the files of results say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "speed_table.py"))
table, with_table = SCRIPT["table"], SCRIPT["with_table"]
LINE = re.compile(r"\| .+ \| `python benchmarks/\w+\.py[^`]*` \| .+, [0-9a-f]{7}(-dirty)? \|")


def test_the_table_in_the_docs_is_what_the_results_make() -> None:
    text = (ROOT / "docs" / "speed.md").read_text()
    assert with_table(text, table()) == text


def test_every_line_has_a_command_a_machine_and_a_commit() -> None:
    lines = table().splitlines()[2:]
    assert len(lines) >= 8
    assert [line for line in lines if not LINE.fullmatch(line)] == []


def test_only_what_is_between_the_marks_is_replaced() -> None:
    text = (ROOT / "docs" / "speed.md").read_text()
    changed = with_table(text, "| new |")
    assert "| new |" in changed
    assert with_table(changed, table()) == text
