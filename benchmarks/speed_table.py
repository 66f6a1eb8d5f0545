"""The table of speed, from what the benchmarks have left in `benchmarks/results/`.

    python benchmarks/speed_table.py        (writes the table of docs/speed.md, between its marks)

Nothing is measured here. Each line has the command that measured it, its commit and its machine; a
ratio is of two sides of one run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
_RESULTS = _ROOT / "benchmarks" / "results"
_PAGE = _ROOT / "docs" / "speed.md"
_BEGIN, _END = "<!-- benchmarks/speed_table.py -->", "<!-- end of the table -->"
_STORES = {"disk": "a local disk", "swift": "Swift on the same cores"}
_HEAD = ("what", "found", "how", "where, commit")

Row = tuple[str, str, str, dict[str, Any]]  # the last: device or processor, cores, commit


def main() -> None:
    """Write the table."""
    _PAGE.write_text(with_table(_PAGE.read_text(), table()))


def table() -> str:
    """Lines of Markdown, one for each result that is there."""
    lines = [_line(*_HEAD), _line(*["---"] * len(_HEAD))]
    for what, found, command, facts in _rows():
        lines.append(_line(what, found, f"`{command}`", _where(facts)))
    return "\n".join(lines)


def with_table(text: str, lines: str) -> str:
    """A text with the table between its marks."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{lines}\n{_END}{after}"


def _rows() -> Iterator[Row]:
    yield from _gpu(_read("gpu"))
    yield from _optimiser(_read("optimiser"))
    generators = _read("generators")
    for row in generators["rows"]:
        if row["formulation"].startswith("ours"):
            how = row["formulation"].removeprefix("ours")
            yield (
                f"a generator at {row['size']} px{how}, forward and backward, against the literal"
                " formulation in float32 with gradients of its weights",
                f"{row['speedup']:.2f}x",
                "python benchmarks/generators.py",
                generators,
            )
    demo = _read("demo_cost")
    yield (
        "the demo: twelve results with two actors, from the command on",
        f"{demo['total_s']:.0f} s, the first steps after {demo['first_steps_s']:.0f} s",
        "python benchmarks/demo_cost.py",
        demo,
    )
    overhead = _read("overhead")
    yield (
        "CPU time of a run that is not optimisation: Ray, driver, storage, pictures",
        f"{100 * overhead['overhead_share']:.1f} %",
        "python benchmarks/overhead.py",
        overhead["measured_at"],
    )
    for store, of in _read("feed_forward").items():
        yield (
            f"items that cost little (a negative of 256 px), on {_STORES[store]}, against a bare"
            " loop that makes the same files",
            f"{of['ratio']:.2f}, {of['run']['items_per_s']:.0f} items/s",
            "python benchmarks/feed_forward.py",
            of["measured_at"],
        )
    scale = _read("driver_scale")
    largest = scale["sizes"][-1]
    yield (
        f"the driver alone, {largest['rows']:,} rows",
        f"{largest['items_per_s']:,} items/s, {largest['memory_mb']} MB",
        "python benchmarks/driver_scale.py",
        scale["measured_at"],
    )
    pack = _read("pack")
    yield (
        f"packing {pack['rows'][-1]['items']:,} results into {' and '.join(pack['formats'])}",
        f"{pack['rows'][-1]['items_per_s']:.0f} items/s",
        "python benchmarks/pack.py",
        pack,
    )


def _gpu(found: dict[str, Any]) -> Iterator[Row]:
    facts = found | {"device": found["device"]["name"]}
    literal, *others = found["steps"]
    for row in others:
        if row.get("way") == "ours":
            yield (
                f"a step of {_items(row['items'])} at {found['size']} px in {row['precision']},"
                " against the literal loop's",
                f"{row['ms']:.1f} ms an item, {row['speedup']:.1f}x",
                "python benchmarks/gpu.py",
                facts,
            )
    fastest = min(
        (row for row in found["slots"] if "seconds" in row), key=lambda row: row["seconds_per_item"]
    )
    loop_s = literal["seconds_per_item"]["default"]
    own_s = fastest["seconds_per_item"]
    yield (
        f"a result at {found['size']} px, {fastest['slots']} side by side in bfloat16, against the"
        " literal loop's, one after the other",
        f"{own_s:.2f} s, {loop_s / own_s:.0f}x",
        "python benchmarks/gpu.py",
        facts,
    )


def _items(count: int) -> str:
    return "one item" if count == 1 else f"{count} items"


def _optimiser(found: dict[str, Any]) -> Iterator[Row]:
    command = "python benchmarks/optimiser.py"
    for name, result in found.items():
        if name.startswith("steps at "):
            size = name.removeprefix("steps at ")
            for row in result["found"]:
                if row["side"] in ("ours", "float32", "low", "batch"):
                    yield (
                        f"an item-step at {size} px against the literal loop's{_way(row)}",
                        f"{row['speedup']:.2f}x ({row['speedup_by_cpu']:.2f}x by CPU time)",
                        f"{command} --size {size}",
                        result,
                    )
    scores = found["scores"]
    by_literal = scores["found"]["by_literal"]
    yield (
        f"the score where {len(scores['found']['pairs'])} pairs end, against the literal loop's;"
        " with steps in float32",
        " and ".join(
            f"{by_literal[side]['mean']:.3f} ± {by_literal[side]['standard_error']:.3f}"
            for side in ("ours", "float32")
        ),
        f"{command} --parts scores",
        scores,
    )
    populations = found.get("populations", {"found": {}})
    for name, row in populations["found"].items():
        yield (
            f"items of 4 to 12 rounds ({name}), a continuous batch of {row['slots']} against one"
            " that moves all until its slowest has converged",
            f"{row['continuous_by_fixed']:.2f}x",
            f"{command} --parts populations",
            populations,
        )


def _way(row: dict[str, Any]) -> str:
    return {
        "ours": ", one item",
        "float32": ", one item, steps in float32",
        "low": ", one item, three of four steps in low resolution",
        "batch": f", {row['items']} items side by side",
    }[row["side"]]


def _where(facts: dict[str, Any]) -> str:
    device = facts.get("device", "cpu")
    place = f"{facts['processor']}, {facts['cores']} cores" if device == "cpu" else device
    return f"{place}, {facts['commit']}"


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_RESULTS / f"{name}.json").read_text())
    return found


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
