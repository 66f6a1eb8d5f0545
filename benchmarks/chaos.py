"""Seeded schedules of faults, each against one run on four machines: what was lost, what double?

    python benchmarks/chaos.py --schedules 50 --out benchmarks/results/chaos.json \
        --table docs/reliability.md          (needs the `test` extra; some two minutes a schedule)

Every result is written as soon as there is one, and a schedule that has one is not played again, so
the same command goes on after a stop. Prints a Markdown table; with --table it also goes between
the markers of that page. Exit code 1 if anything was lost, double or damaged.
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import surroundings

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.chaos.harness import play_apart
from tests.chaos.schedule import KINDS

_BEGIN, _END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
_KNOWN = (0, 1, 3, -9)  # exit codes of a driver that one has to expect
_FAULTS = ("lost", "double", "mismatched", "overwritten", "strangers")


def main(seeds: range, out: Path, page: Path | None) -> int:
    """Play what has not been played; returns the exit code."""
    results = _read(out)
    for seed in seeds:
        if str(seed) in results:
            continue
        try:
            result = play_apart(seed)
        except RuntimeError as err:  # no result: played again next time
            print(f"{seed}: {err}", file=sys.stderr, flush=True)
            continue
        results[str(seed)] = result
        print(_line(result), file=sys.stderr, flush=True)
        _write(out, results)
    wanted = [results[str(seed)] for seed in seeds if str(seed) in results]
    if not wanted:
        return 1
    table = _table(wanted)
    print(table)
    if page is not None:
        _put_between_markers(page, table)
    return 0 if len(wanted) == len(seeds) and all(map(_is_clean, wanted)) else 1


def _read(out: Path) -> dict[str, Any]:
    return dict(json.loads(out.read_text())["results"]) if out.exists() else {}


def _write(out: Path, results: dict[str, Any]) -> None:
    """All or nothing: a stop in the middle must not cost the results before."""
    temporary = out.with_suffix(".tmp")
    temporary.write_text(json.dumps(surroundings.describe() | {"results": results}, indent=1))
    temporary.replace(out)


def _is_clean(result: dict[str, Any]) -> bool:
    codes = [life["code"] for life in result["lives"]]
    ended = codes[-1] in (0, 1) and set(codes) <= set(_KNOWN) and not result["stuck"]
    return ended and not any(result["verdict"][name] for name in _FAULTS)


def _line(result: dict[str, Any]) -> str:
    """A schedule on one line, for whoever waits."""
    verdict = result["verdict"]
    codes = [life["code"] for life in result["lives"]]
    bad = {name: verdict[name] for name in _FAULTS if verdict[name]}
    return (
        f"{result['seed']}: {'clean' if _is_clean(result) else f'NOT CLEAN {bad}'},"
        f" {verdict['committed']}/{verdict['items']} committed,"
        f" quarantined {verdict['quarantined']}, faults {result['struck']}, exit codes {codes},"
        f" stuck {result['stuck']}, {result['seconds']:.0f} s"
    )


def _table(results: list[dict[str, Any]]) -> str:
    """Two tables: how often which fault struck, and what became of the items."""
    struck = collections.Counter(kind for result in results for kind in result["struck"])
    requests: collections.Counter[str] = collections.Counter()
    for result in results:
        requests.update(result["requests"])
    lines = ["| fault | times | requests hit |", "|---|---:|---:|"]
    lines += [f"| {kind} | {struck[kind]} | {requests.get(kind, '')} |" for kind in KINDS]
    lines += ["", "| | InsetGAN | negatives |", "|---|---:|---:|"]
    by_method = [[r for r in results if r["method"] == name] for name in ("insetgan", "negative")]
    columns = [dict(_totals(own)) for own in by_method]
    names = max(columns, key=len)
    lines += [f"| {name} | {' | '.join(str(c.get(name, '')) for c in columns)} |" for name in names]
    return "\n".join(lines)


def _totals(results: list[dict[str, Any]]) -> list[tuple[str, object]]:
    if not results:
        return [("schedules", 0)]
    verdicts = [result["verdict"] for result in results]
    seconds = [result["seconds"] for result in results]
    codes = [life["code"] for result in results for life in result["lives"]]
    return [
        ("schedules", len(results)),
        ("faults", sum(len(result["struck"]) for result in results)),
        ("items", sum(verdict["items"] for verdict in verdicts)),
        ("starts of a driver", len(codes)),
        ("of them killed", codes.count(-9)),
        ("of them ended to be resumed (exit code 3)", codes.count(3)),
        (
            "of them ended in any other way before the end",
            len([c for c in codes if c not in _KNOWN]),
        ),
        ("committed", sum(verdict["committed"] for verdict in verdicts)),
        ("quarantined", sum(len(verdict["quarantined"]) for verdict in verdicts)),
        ("**lost**", sum(len(verdict["lost"]) for verdict in verdicts)),
        ("**double**", sum(len(verdict["double"]) for verdict in verdicts)),
        ("**damaged files and commits left**", sum(_damaged(v) for v in verdicts)),
        (
            "states handed over by machines that were taken away",
            sum(r["handed_over"] for r in results),
        ),
        ("commits and files damaged in the store", sum(len(r["damaged"]) for r in results)),
        (
            "items that `retry --damaged` had done again",
            sum(r["mended"] for r in results),
        ),
        ("times that `clean` ran beside a run", sum(r["cleaned"][0] for r in results)),
        ("files of beaten attempts that it removed", sum(r["cleaned"][1] for r in results)),
        ("runs that stood still for three minutes", sum(result["stuck"] for result in results)),
        ("seconds of a schedule, median", round(statistics.median(seconds))),
        ("seconds of a schedule, most", round(max(seconds))),
    ]


def _damaged(verdict: dict[str, Any]) -> int:
    return sum(len(verdict[name]) for name in ("mismatched", "overwritten", "strangers"))


def _put_between_markers(page: Path, table: str) -> None:
    before, _, rest = page.read_text().partition(_BEGIN)
    _, found, after = rest.partition(_END)
    if not found:
        raise SystemExit(f"{page}: expected the lines {_BEGIN} and {_END}, where the table belongs")
    page.write_text(f"{before}{_BEGIN}\n{table}\n{_END}{after}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Runs under fire: nothing lost, nothing double?")
    parser.add_argument("--schedules", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first schedule")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of all results")
    parser.add_argument("--table", type=Path, help="page with markers for the table")
    given = parser.parse_args()
    last = given.first + given.schedules
    sys.exit(main(range(given.first, last), given.out, given.table))
