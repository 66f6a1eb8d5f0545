"""What a fleet does and costs: arithmetic from what was measured, and from prices that you give.

    python benchmarks/fleet.py [--item-seconds 0.6,5,75] [--gpus 1,100,10000] [--items 1000000]
        [--price-per-gpu-hour 2.5] [--price-per-gb-month 0.023] [--price-per-1000-puts 0.005]
        [--mb-per-item 3] [--puts-per-second 3500] [--list-ms 100] [--table docs/fleet.md]

Measured: what an answer of an actor costs the driver (`driver_calls.json`), items per second
through the driver (`driver_scale.json`). Counted: the objects of an item. All else is yours.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

_RESULTS = Path(__file__).parent / "results"
_BEGIN, _END = "<!-- fleet: begin -->", "<!-- fleet: end -->"
_OBJECTS_PER_ITEM = 9  # of a montage: eight files and the commit
_POLL_S = 2.0  # an actor with nothing to tell answers so often
_KEYS_PER_LIST = 1000
_LISTS_AT_ONCE = 16


def main() -> None:
    """Print the tables, and put them into a page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--item-seconds", default="0.6,5,75")
    parser.add_argument("--gpus", default="1,100,10000")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--price-per-gpu-hour", type=float, default=2.5)
    parser.add_argument("--price-per-gb-month", type=float, default=0.023)
    parser.add_argument("--price-per-1000-puts", type=float, default=0.005)
    parser.add_argument("--mb-per-item", type=float, default=3.0)
    parser.add_argument("--puts-per-second", type=float, default=3500)
    parser.add_argument("--list-ms", type=float, default=100)
    parser.add_argument("--table", type=Path, help="page with markers for the tables")
    given = parser.parse_args()
    text = "\n\n".join((_speeds(given), _costs(given)))
    print(text)
    if given.table is not None:
        page = given.table.read_text()
        before, found, rest = page.partition(_BEGIN)
        _, found_too, after = rest.partition(_END)
        if not (found and found_too):
            raise SystemExit(f"{given.table}: expected {_BEGIN} and {_END}")
        given.table.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}")


def _speeds(given: argparse.Namespace) -> str:
    """For each fleet and time of an item: the rates, and what gives way first."""
    calls = _read("driver_calls")["sizes"][-1]
    driver = min(size["items_per_s"] for size in _read("driver_scale")["sizes"])
    lines = [
        f"| GPUs | seconds of an item | {given.items:,} items take | items/s | objects/s"
        " | driver, of a core"
        " | beyond a limit |",
        "|---:|---:|---:|---:|---:|---:|---|",
    ]
    for gpus in _numbers(given.gpus):
        for item_s in _numbers(given.item_seconds):
            per_s = gpus / item_s
            objects = per_s * _OBJECTS_PER_ITEM
            answers = gpus / _POLL_S + per_s
            load = answers * calls["cpu_ms_per_answer"] / 1000 + per_s / driver
            over = []
            if load > 1:
                over.append(f"driver: {math.ceil(load)} runs side by side")
            if objects > given.puts_per_second:
                prefixes = math.ceil(objects / given.puts_per_second)
                over.append(f"store: PUTs of {prefixes} prefixes")
            lines.append(
                f"| {gpus:,.0f} | {item_s:g} | {_time(given.items / per_s)} | {per_s:,.2f}"
                f" | {objects:,.0f} | {load:.1%} | {'; '.join(over) or 'none'} |"
            )
    return "\n".join(lines)


def _costs(given: argparse.Namespace) -> str:
    """A million items: the GPUs, the objects, and a month of keeping them."""
    puts = given.items * _OBJECTS_PER_ITEM / 1000 * given.price_per_1000_puts
    month = given.items * given.mb_per_item / 1000 * given.price_per_gb_month
    lists = given.items / _KEYS_PER_LIST
    resume_s = lists * given.list_ms / 1000 / _LISTS_AT_ONCE
    lines = [
        f"| {given.items:,} items | |",
        "|---|---:|",
        *(
            f"| GPUs, at {item_s:g} s an item and {given.price_per_gpu_hour:g} an hour"
            f" | {given.items * item_s / 3600 * given.price_per_gpu_hour:,.0f} |"
            for item_s in _numbers(given.item_seconds)
        ),
        f"| {_OBJECTS_PER_ITEM} PUTs an item, at {given.price_per_1000_puts:g} a thousand"
        f" | {puts:,.0f} |",
        f"| {given.mb_per_item:g} MB an item kept for a month, at {given.price_per_gb_month:g} a GB"
        f" | {month:,.0f} |",
        f"| a resume lists all commits: {lists:,.0f} LISTs of {given.list_ms:g} ms,"
        f" {_LISTS_AT_ONCE} at once | {resume_s:.0f} s |",
    ]
    return "\n".join(lines)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _time(seconds: float) -> str:
    for name, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {name}"
    return f"{seconds:.0f} seconds"


def _read(name: str) -> Any:
    return json.loads((_RESULTS / f"{name}.json").read_text())


if __name__ == "__main__":
    main()
