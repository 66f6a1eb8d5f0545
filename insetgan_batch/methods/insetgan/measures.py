"""What a commit says of an item beside its files: the method's measures and facts, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from insetgan_batch.method import Measure
from insetgan_batch.methods.insetgan.sources import Source

MEASURES = (
    Measure(
        "seam_before",
        "step across the edge of what is pasted, in levels of 0..255, before",
        group="seam",
        title="before",
    ),
    Measure(
        "seam_after",
        "the same after: in the result",
        group="seam",
        title="after",
        before="seam_before",
    ),
    Measure("score_start", "the weighted sum of the losses before", title=None),
    Measure(
        "score",
        "the weighted sum of the losses of the round that was kept",
        tolerance=0.02,
        group="optimisation",
    ),
    Measure("rounds", "rounds done", is_whole=True, group="optimisation"),
    Measure(
        "best_round",
        "the round that was kept",
        is_whole=True,
        group="optimisation",
        title="kept",
    ),
    Measure("missed_detections", "times that no part was found", is_whole=True, title=None),
    Measure("losses.*", "a loss of the round that was kept, before its weight"),
    Measure(
        "inversion.*",
        "how far an inverted generator is from its picture, by measure",
        title=None,
    ),
    Measure(
        "identity.*",
        "cosine of the FaceNet of the result's face and of its reference",
        title=None,
    ),
)
PLAIN = tuple(measure.name for measure in MEASURES if not measure.name.endswith(".*"))

_BOXES = {"inset": "inset_box", "region": "region", "region_before": "region_before"}


def measures(
    plain: Mapping[str, float | None],
    losses: Mapping[str, float | None],
    inversion: Mapping[str, Mapping[str, float | None]],
    identity: Mapping[str, float | None],
) -> dict[str, float | None]:
    """Every measure by its name. inversion: by generator and measure; identity: by inset."""
    return {
        **plain,
        **{f"losses.{term}": value for term, value in losses.items()},
        **{
            f"inversion.{generator}.{name}": value
            for generator, found in inversion.items()
            for name, value in found.items()
        },
        **{f"identity.{inset}": value for inset, value in identity.items()},
    }


def facts(
    *,
    recipe: str,
    stop: str,
    perceptual: str,
    identity_by: Mapping[str, str],
    sources: Mapping[str, Source],
    psi: Mapping[str, float | Sequence[float] | None],
    boxes: Mapping[str, Mapping[str, Sequence[float]]],
) -> dict[str, Any]:
    """What is no measure, each a text, a number or a list of numbers.

    identity_by, boxes: by inset; sources, psi: by generator.
    """
    found: dict[str, Any] = {"recipe": recipe, "stop": stop, "perceptual": perceptual}
    found |= {f"{name}_source": source.kind for name, source in sources.items()}
    for name, value in psi.items():
        if isinstance(value, Sequence):
            found[f"{name}_psi_per_layer"] = list(value)
        elif value is not None:
            found[f"{name}_psi"] = value
    for inset, of_inset in boxes.items():
        found |= {f"{inset}_{name}": list(of_inset[key]) for key, name in _BOXES.items()}
    return found | {f"identity_by.{inset}": by for inset, by in identity_by.items()}
