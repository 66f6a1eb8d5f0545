"""What a finished item leaves behind: pictures, latents, losses, and what its commit says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from insetgan_batch.data import results
from insetgan_batch.methods.insetgan import compose, images, measures, sources
from insetgan_batch.methods.insetgan.likeness import likeness
from insetgan_batch.methods.insetgan.recipe import CANVAS
from insetgan_batch.methods.insetgan.states import Finished, State
from insetgan_batch.nets.devices import Precision
from insetgan_batch.nets.identity import Identity
from insetgan_batch.records import Lease


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """What all results of a worker have in common; weights: sha256 by generator; precision: of
    steps; identities: what tells faces apart, by inset.
    """

    recipe: str
    weights: Mapping[str, str]
    precision: Precision
    perceptual: str
    identities: Mapping[str, Identity] = dataclasses.field(default_factory=dict)


def result(
    lease: Lease, finished: Finished, seconds: float, psi: Mapping[str, Any], origin: Origin
) -> results.Result:
    """Everything that is stored of an item; psi: the truncations that it started with."""
    start, best = finished.start, finished.best
    insets = list(best.regions)
    given = sources.of(lease.item.inputs, [name for name in psi if name != CANVAS])
    identity = {
        name: likeness(
            faces, best.images[name], finished.references[name], finished.inset_boxes[name]
        )
        for name, faces in origin.identities.items()
    }
    plain = {
        "seam_before": _mean_seam(start, insets),
        "seam_after": _mean_seam(best, insets),
        "score_start": start.score,
        "score": best.score,
        "rounds": len(finished.scores),
        "best_round": best.round,
        "missed_detections": finished.missed_detections,
    }
    boxes = {
        name: {
            "inset": finished.inset_boxes[name].as_tuple(),
            "region": best.regions[name].as_tuple(),
            "region_before": start.regions[name].as_tuple(),
        }
        for name in insets
    }
    return results.Result(
        item=lease.item,
        attempt=lease.attempt,
        images=result_images(finished),
        latents=_latents_to_keep(finished.best),
        losses=_loss_table(finished),
        seconds=seconds,
        steps=finished.steps,
        measures=measures.measures(plain, best.terms, finished.inversion, identity),
        facts=measures.facts(
            recipe=origin.recipe,
            stop=finished.stop,
            perceptual=origin.perceptual,
            identity_by={name: faces.name for name, faces in origin.identities.items()},
            sources=given,
            psi=psi,
            boxes=boxes,
        ),
        film=finished.film,
        given=frozenset(f"{name}_reference" for name, s in given.items() if s.kind == "image"),
        provenance={
            "sources": {name: dataclasses.asdict(source) for name, source in given.items()},
            "seeds": {name: s.value for name, s in given.items() if s.kind == "seed"},
            "recipe": origin.recipe,
            "weights": dict(origin.weights),
            "precision": origin.precision,
            "perceptual": origin.perceptual,
        },
    )


def result_images(finished: Finished) -> dict[str, np.ndarray]:
    """The pictures an item leaves, bytes `[H W 3]`: the result first, then what it was made of.

    Only the result where nothing was pasted: the others would be the same picture again.
    """
    start, best = finished.start, finished.best
    pictures = {"image": _composed(best)}
    if best.regions:
        pictures |= {"copy_paste": _composed(start)} | best.images
        pictures |= {f"{name}_reference": image for name, image in finished.references.items()}
    return {name: images.to_pixels(p[None])[0].cpu().numpy() for name, p in pictures.items()}


def _composed(state: State) -> Tensor:
    insets = {name: state.images[name] for name in state.regions}
    return compose.compose(state.images[CANVAS], insets, state.regions, state.masks)


def _mean_seam(state: State, insets: list[str]) -> float | None:
    """None where nothing was pasted."""
    picture = _composed(state).clamp(-1, 1)
    seams = [compose.seam(picture, state.regions[n], state.masks.get(n)) for n in insets]
    return sum(seams) / len(seams) if seams else None


def _latents_to_keep(state: State) -> dict[str, np.ndarray]:
    """`<generator>.w [c]` and `<generator>.delta [l c]`; ws = w + delta."""
    arrays = {}
    for name, latents in state.latents.items():
        arrays[f"{name}.w"] = latents[0].cpu().numpy()
        arrays[f"{name}.delta"] = latents[1:].cpu().numpy()
    return arrays


def _loss_table(finished: Finished) -> results.LossTable:
    """One row per step and term."""
    rows = [(trace, term) for trace in finished.trace for term in trace.raw]
    return results.LossTable(
        round=np.array([trace.round for trace, _ in rows], np.int32),
        phase=[trace.phase for trace, _ in rows],
        step=np.array([trace.step for trace, _ in rows], np.int32),
        term=[term for _, term in rows],
        raw=np.array([trace.raw[term] for trace, term in rows], np.float32),
        weight=np.array([trace.weight[term] for trace, term in rows], np.float32),
    )
