"""CONTRIBUTING's map has a line for each module: the first one of its docstring.

`python tests/test_map.py` writes it anew.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- map: begin -->\n", "<!-- map: end -->"


def drawn() -> str:
    """The map of the tree as it is: a list of modules for each package."""
    lines: list[str] = []
    package = ROOT / "insetgan_batch"
    folders = sorted({path.parent for path in package.rglob("*.py")})
    for folder in folders:
        lines += ["", f"**`{folder.relative_to(ROOT)}/`**", ""]
        for path in sorted(folder.glob("*.py")):
            if path.name != "__init__.py":
                lines.append(f"- `{path.name}`: {_first_sentence(path)}")
    return "\n".join(lines[1:]) + "\n"


def _first_sentence(path: Path) -> str:
    said = ast.get_docstring(ast.parse(path.read_text()))
    assert said, f"{path.relative_to(ROOT)} has no docstring"
    paragraph = " ".join(said.split("\n\n")[0].split())
    return re.split(r"(?<=[a-z`)])\. ", paragraph)[0].rstrip(".")


def test_every_module_has_its_line_and_no_other_has() -> None:
    text = PAGE.read_text()
    found = text.partition(BEGIN)[2].partition(END)[0]
    assert found == drawn(), "python tests/test_map.py writes the map anew"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + drawn() + END + rest.partition(END)[2])
