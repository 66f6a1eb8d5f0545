"""The dataset card: README.md with the front matter that Hugging Face reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

from insetgan_batch.data import tables
from insetgan_batch.data.formats import FORMATS, Format
from insetgan_batch.data.tables import Columns
from insetgan_batch.method import Card

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_DTYPES = {
    pa.string(): "string",
    pa.int32(): "int32",
    pa.int64(): "int64",
    pa.float64(): "float64",
}
_LIMITS = (
    "A generator paints what it was trained on. The skew of its training set in gender, age, skin"
    " tone, pose and dress is in every image here. Check the balance before you train or test"
    " anything on it.",
    "Items that failed are missing (see `results.parquet`), and failure is not random.",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What the card says. run: run.json; splits: items of each; reasons: of the quarantined;
    consent: items that began at pictures, by their rows' note, "" for none. columns: of the rows,
    for formats that do not say it themselves. method: what the run's method says.
    """

    name: str
    run: Mapping[str, Any]
    formats: Sequence[Format]
    splits: Mapping[str, int]
    committed: int
    reasons: Mapping[str, int]
    image_bytes: int
    total_bytes: int
    where: str | None
    losses_every: int
    licence: str
    consent: Mapping[str, int] = dataclasses.field(default_factory=dict)
    columns: Columns | None = None
    method: Card = dataclasses.field(default_factory=Card)


def write(facts: Facts) -> str:
    """The whole file."""
    front = yaml.safe_dump(_front(facts), sort_keys=False, allow_unicode=True)
    sections = [f"---\n{front}---\n\n# {_title(facts)}", _what(facts), _made(facts)]
    if facts.consent:
        sections.append(_people(facts))
    sections += [_files(facts), _limits(facts), _licence(facts)]
    return "\n\n".join(sections) + "\n"


def _front(facts: Facts) -> dict[str, Any]:
    items = sum(facts.splits.values())
    first = facts.formats[0]
    folder, pattern = FORMATS[first].folder, f"-*.{FORMATS[first].ending}"
    splits = [name for name, count in facts.splits.items() if count]
    configs: list[dict[str, Any]] = [
        {
            "config_name": "default",
            "data_files": [
                {"split": split, "path": f"{folder}/{split}{pattern}"} for split in splits
            ],
        }
    ]
    if first == "parquet":  # all configurations of a card are of one format
        configs += [
            {"config_name": "results", "data_files": "results.parquet"},
            {"config_name": "losses", "data_files": "losses/*.parquet"},
        ]
    front = {
        "pretty_name": _title(facts),
        "license": facts.licence,
        "task_categories": ["unconditional-image-generation"],
        "tags": ["synthetic", *facts.method.tags, "insetgan", "image"],
        "size_categories": [next((name for most, name in _SIZES if items < most), "n>1M")],
        "configs": configs,
    }
    if facts.columns is not None and first != "parquet":
        # Without it `datasets` guesses types by the first rows, where a column may be empty.
        front["dataset_info"] = [
            {"config_name": "default", "features": _features(first, facts.columns)}
        ]
    return front


def _features(kind: Format, columns: Columns) -> list[dict[str, Any]]:
    """What `datasets` shall take the rows of a format for."""
    rows = [_feature(field.name, field.type) for field in tables.item_schema(columns)]
    if kind == "webdataset":
        # As the reader of tars names them: by their endings, and two of its own.
        texts = [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
        return [{"name": "png", "dtype": "image"}, {"name": "json", "struct": rows}, *texts]
    files = [{"name": name, "struct": _file()} for name in columns.files]
    return [*rows, {"name": "files", "struct": files}]


def _file() -> list[dict[str, Any]]:
    """A new one each time: of one that is shared YAML makes a reference, which nobody reads."""
    of_a_file = {"key": "string", "sha256": "string", "bytes": "int64"}
    return [{"name": name, "dtype": dtype} for name, dtype in of_a_file.items()]


def _feature(name: str, kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"name": name, "list": _DTYPES[kind.value_type]}
    return {"name": name, "dtype": _DTYPES[kind]}


def _title(facts: Facts) -> str:
    return f"{facts.run['run_id']}, dataset {facts.name}"


def _what(facts: Facts) -> str:
    rows = [
        "## What is in it",
        "",
        facts.method.what,
        "",
        "| split | images |",
        "|---|---|",
        *(f"| {name} | {count:,} |" for name, count in facts.splits.items()),
        "",
        f"{_size(facts.image_bytes)} of images, {_size(facts.total_bytes)} in all. The run has"
        f" {facts.committed:,} finished items; {_chosen(facts)}.",
    ]
    if facts.reasons:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in facts.reasons.items())
        rows.append(f"Set aside as impossible: {reasons}.")
    return "\n".join(rows)


def _chosen(facts: Facts) -> str:
    return f"packed are those with `{facts.where}`" if facts.where else "all of them are packed"


def _made(facts: Facts) -> str:
    weights = facts.run.get("weights", {})
    return "\n".join(
        [
            "## How it was made",
            "",
            f"By insetgan-batch {facts.run.get('code_version', 'unknown')}, run"
            f" `{facts.run['run_id']}` of {facts.run.get('created_at', 'unknown')}."
            f" {facts.method.how}".rstrip(),
            "",
            "| weights | sha256 |",
            "|---|---|",
            *(f"| {name} | `{sha256}` |" for name, sha256 in weights.items()),
            "",
            "Every PNG says so itself: its text `insetgan_batch` and its XMP packet"
            " (`DigitalSourceType` trainedAlgorithmicMedia) name its origin, weights and"
            " version.",
        ]
    )


def _people(facts: Facts) -> str:
    """Whose pictures went into it."""
    rows = [
        "## People in the pictures it began at",
        "",
        f"{sum(facts.consent.values()):,} images began at given pictures, and may resemble the"
        " people in them. What the manifest says of their consent:",
        "",
        "| note | images |",
        "|---|---|",
    ]
    notes = ((note or "**nothing**", count) for note, count in facts.consent.items())
    rows += [f"| {' '.join(note.split()).replace('|', '/')} | {count:,} |" for note, count in notes]
    return "\n".join(rows)


def _limits(facts: Facts) -> str:
    return "\n".join(
        [
            "## Known biases and limits",
            "",
            "No image here is a photograph. That does not make them neutral:",
            "",
            *(f"- {limit}" for limit in (*_LIMITS, *facts.method.limits)),
            "",
            "Do not use it to infer anything about real people, and do not show it as photographs.",
        ]
    )


def _files(facts: Facts) -> str:
    every = "every step" if facts.losses_every == 1 else f"every {facts.losses_every}th step"
    layouts = [FORMATS[name] for name in facts.formats]
    return "\n".join(
        [
            "## Files",
            "",
            *(f"- `{of.folder}/<split>-*.{of.ending}`: {of.about}" for of in layouts),
            "- `results.parquet`: one row for each item of the run, those left out and those that"
            " failed too",
            f"- `losses/losses-*.parquet`: item, step, phase, term, raw, weight; {every}",
            "- `_SUCCESS`: counts, and the size and sha256 of every file",
        ]
    )


def _licence(facts: Facts) -> str:
    return (
        f"## Licence\n\n`{facts.licence}`. What may be done with the images follows from the"
        " licences of the generators that painted them."
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
