"""SIGINT, SIGTERM and SIGHUP, each at twelve moments of a run: does it end in order and go on?

    python benchmarks/signals.py --out benchmarks/results/signals.json
                                             (needs the `test` extra; some two minutes a signal)

A run is stopped at one moment after the other by the same signal, resumed in between, and ends in
the end. Every signal's result is written as soon as there is one, and is not played again. Prints a
Markdown table. Exit code 1 where a life ended with another exit code than 3, without its one line,
with a trace or with processes left behind, or a run without all of its items.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import surroundings

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.lives import MOMENTS, Life, faults_of_stop, inputs_in

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ITEMS = 6


def main(out: Path) -> int:
    """Play what has not been played; returns the exit code."""
    results: dict[str, Any] = dict(json.loads(out.read_text())["results"]) if out.exists() else {}
    for number in _SIGNALS:
        if number.name not in results:
            results[number.name] = _play(number)
            out.write_text(json.dumps(surroundings.describe() | {"results": results}, indent=1))
    print(_table(results))
    return 0 if all(_is_clean(result) for result in results.values()) else 1


def _play(number: signal.Signals) -> dict[str, Any]:
    """By moment what was wrong; how many items are committed when the run has ended."""
    faults: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as directory:
        inputs, out = inputs_in(Path(directory)), Path(directory) / "out"
        for name, moment in MOMENTS.items():
            shutil.rmtree(out / "report", ignore_errors=True)
            faults[name] = faults_of_stop(Life(inputs, out), moment, number)
            said = "; ".join(faults[name]) or "in order"
            print(f"{number.name} when {name}: {said}", file=sys.stderr, flush=True)
        life = Life(inputs, out)
        return {"faults": faults, "code": life.end(), "committed": life.committed()}


def _is_clean(result: dict[str, Any]) -> bool:
    return result["code"] == 0 and result["committed"] == _ITEMS and not any(_faults(result))


def _faults(result: dict[str, Any]) -> list[list[str]]:
    found: list[list[str]] = list(result["faults"].values())
    return found


def _table(results: dict[str, Any]) -> str:
    lines = ["| signal | moments | in order | committed in the end |", "|---|---|---|---|"]
    for name, result in results.items():
        faults = _faults(result)
        good = sum(not lines_of_one for lines_of_one in faults)
        lines.append(f"| {name} | {len(faults)} | {good} | {result['committed']} of {_ITEMS} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    sys.exit(main(parser.parse_args().out))
