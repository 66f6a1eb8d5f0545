"""The plain object inside an actor: load, serve slots, upload, commit, close. No Ray in here.

`serve` takes new leases in, runs ONE round for everything inside, and reports what has ended. A
call is short (one round), so the driver sees progress, can stop giving work at any time, and a lost
reply costs a round at most: what was committed stands, and is recognised when the item comes again.

Uploads run in threads beside the optimisation, and a slot is free as soon as its item has left the
batch.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from insetgan_batch import __version__
from insetgan_batch.boxes import Box
from insetgan_batch.config import FixedBoxes, RunConfig
from insetgan_batch.data import models, results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.errors import (
    CheckpointError,
    ItemError,
    RefusedError,
    StorageError,
)
from insetgan_batch.inset import compose, images
from insetgan_batch.inset.slots import SlotOptimizer
from insetgan_batch.inset.states import Finished, State
from insetgan_batch.nets import parts
from insetgan_batch.nets.detector import (
    SMALLEST_FACE_OF_CANVAS,
    SMALLEST_FACE_OF_INSET,
    Detector,
    FaceDetector,
    FixedBox,
    Segmenter,
)
from insetgan_batch.nets.generator import Generator, best_device
from insetgan_batch.nets.perceptual import Perceptual
from insetgan_batch.recipe import CANVAS
from insetgan_batch.records import Lease, Outcome, Status
from insetgan_batch.runtime.failures import reason_code
from insetgan_batch.runtime.starts import Starts

_UPLOAD_THREADS = 4
_PARTS: dict[str, parts.PartName] = {"demo:head": "head", "demo:shoes": "shoes"}
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """What one call of `serve` brought.

    inside: attempts that have not ended; uploading: how many of them have left the batch. steps:
    done in this call.
    """

    outcomes: list[Outcome]
    inside: list[str]
    uploading: int
    steps: int
    seconds: float


class Worker:
    """Generators on one device, a batch of slots, and a way to storage."""

    def __init__(self, config: RunConfig, out_uri: str, run_id: str) -> None:
        """Load everything; raises `CheckpointError` or `StorageError`."""
        self._config, self._run_id = config, run_id
        self._store = RunStore(open_storage(out_uri))
        self._device = best_device()
        if self._device.type == "cpu":
            torch.set_num_threads(config.cores_per_actor)
        self._generators = {
            name: _load_generator(config, name, model, self._device)
            for name, model in ({CANVAS: config.canvas} | config.insets).items()
        }
        self._perceptual = _load_perceptual(config, self._device)
        detectors, canvas_detectors = _detectors(config, self._device)
        self._optimizer = SlotOptimizer(
            canvas=self._generators[CANVAS],
            insets={name: self._generators[name] for name in config.insets},
            detectors=detectors,
            canvas_detectors=canvas_detectors,
            segmenters=_segmenters(config, self._device),
            perceptual=self._perceptual,
            recipe=config.recipe,
            capacity=config.slots,
            film_every=config.film_every,
        )
        found_in = {CANVAS: list(canvas_detectors.values())}
        found_in |= {name: [detector] for name, detector in detectors.items()}
        self._starts = Starts(config.recipe, self._generators, found_in, config.classes)
        self._leases: dict[str, Lease] = {}
        self._psi: dict[str, dict[str, Any]] = {}
        self._entered_at: dict[str, float] = {}
        self._uploads: dict[str, concurrent.futures.Future[Outcome]] = {}
        self._pool = concurrent.futures.ThreadPoolExecutor(_UPLOAD_THREADS)

    def serve(self, leases: list[Lease]) -> Served:
        """Admit, run one round, release; returns what has ended since the last call."""
        started = time.monotonic()
        outcomes = [outcome for lease in leases if (outcome := self._admit(lease)) is not None]
        steps = 0

        def count_step() -> None:
            nonlocal steps
            steps += len(self._optimizer.keys)

        self._optimizer.run_round(count_step)
        outcomes += [o for finished in self._optimizer.release() if (o := self._finish(finished))]
        outcomes += self._uploaded(wait=not self._optimizer.keys)
        return Served(
            outcomes=outcomes,
            inside=list(self._leases),
            uploading=len(self._uploads),
            steps=steps,
            seconds=time.monotonic() - started,
        )

    def close(self) -> None:
        """Finish the uploads under way and let go of the threads; safe to call twice."""
        self._pool.shutdown(wait=True)

    # ---- an item enters ------------------------------------------------------------------------

    def _admit(self, lease: Lease) -> Outcome | None:
        """Take an item in; an outcome only if it ended right there."""
        try:
            if self._store.is_committed(lease.item.item_id):
                return _outcome(lease, Status.DUPLICATE)
            start = self._starts.start(lease)
            self._optimizer.admit(start)
        except ItemError as err:
            return _outcome(lease, Status.QUARANTINED, err)
        except RefusedError:
            raise  # it would happen to every item
        except StorageError as err:
            return _outcome(lease, Status.FAILED, err)
        self._leases[lease.attempt] = lease
        self._entered_at[lease.attempt] = time.monotonic()
        self._psi[lease.attempt] = start.psi
        return None

    # ---- an item leaves ------------------------------------------------------------------------

    def _finish(self, finished: Finished) -> Outcome | None:
        """Hand a finished item to the uploaders; an outcome only if it diverged."""
        lease = self._leases[finished.key]
        seconds = time.monotonic() - self._entered_at.pop(finished.key)
        if finished.error is not None:
            del self._leases[finished.key], self._psi[finished.key]
            return _outcome(lease, Status.QUARANTINED, finished.error)
        result = self._result(lease, finished, seconds)
        self._uploads[finished.key] = self._pool.submit(self._upload, lease, result)
        return None

    def _upload(self, lease: Lease, result: results.Result) -> Outcome:
        """Everything the item leaves behind, then its commit: first writer wins."""
        try:
            record = results.save(self._store, result)
            won = self._store.commit(lease.item.item_id, record)
        except RefusedError:
            raise  # it would happen to every item
        except StorageError as err:
            return _outcome(lease, Status.FAILED, err)
        outcome = _outcome(lease, Status.COMMITTED if won else Status.DUPLICATE)
        summary = result.summary
        return dataclasses.replace(
            outcome, seconds=summary["seconds"], steps=summary["steps"], losses=summary["losses"]
        )

    def _uploaded(self, *, wait: bool) -> list[Outcome]:
        """Outcomes of the uploads that are through; all of them with `wait`."""
        if wait:
            concurrent.futures.wait(self._uploads.values())
        done = [attempt for attempt, future in self._uploads.items() if future.done()]
        for attempt in done:
            self._leases.pop(attempt)
        return [self._uploads.pop(attempt).result() for attempt in done]

    def _result(self, lease: Lease, finished: Finished, seconds: float) -> results.Result:
        summary = summarize(finished, seconds) | {
            "perceptual": self._perceptual.name,
            "psi": self._psi.pop(finished.key),
        }
        sources = {CANVAS: lease.item.canvas, **lease.item.insets}
        return results.Result(
            item=lease.item,
            attempt=lease.attempt,
            images=result_images(finished),
            latents=_latents_to_keep(finished.best),
            losses=_loss_table(finished),
            summary=summary,
            film=finished.film,
            provenance={
                "run_id": self._run_id,
                "item_id": lease.item.item_id,
                "attempt": lease.attempt,
                "synthetic": True,
                "sources": {name: dataclasses.asdict(source) for name, source in sources.items()},
                "recipe": self._config.recipe.name,
                "weights": {name: g.sha256 for name, g in self._generators.items()},
                "perceptual": self._perceptual.name,
                "code_version": __version__,
                "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )


def summarize(finished: Finished, seconds: float) -> dict[str, Any]:
    """What the commit says of an item: seam (levels of 0..255) before and after, final losses,
    boxes.
    """
    start, best = finished.start, finished.best
    insets = list(best.regions)
    return {
        "rounds": len(finished.scores),
        "best_round": best.round,
        "steps": finished.steps,
        "stop": finished.stop,
        "seconds": round(seconds, 3),
        "score_start": start.score,
        "score": best.score,
        "seam_before": _mean_seam(start, insets),
        "seam_after": _mean_seam(best, insets),
        "losses": best.terms,
        "boxes": {
            name: {
                "inset": finished.inset_boxes[name].as_tuple(),
                "region": best.regions[name].as_tuple(),
                "region_before": start.regions[name].as_tuple(),
            }
            for name in insets
        },
        "missed_detections": finished.missed_detections,
    }


def result_images(finished: Finished) -> dict[str, np.ndarray]:
    """The pictures an item leaves, bytes `[H W 3]`: the result first, then what it was made of.

    Only the result where nothing was pasted: the others would be the same picture again.
    """
    start, best = finished.start, finished.best
    pictures = {"image": _composed(best)}
    if best.regions:
        pictures |= {"copy_paste": _composed(start)} | best.images
        pictures |= {f"{name}_reference": image for name, image in start.images.items()}
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


def _detectors(
    config: RunConfig, device: torch.device
) -> tuple[dict[str, Detector], dict[str, Detector]]:
    """What finds each inset's part: in the inset, and on the canvas. None where the manifest names
    the boxes. Insets of one kind share a detector, which then looks once for all.
    """
    made: dict[str, tuple[Detector, Detector]] = {}
    in_inset: dict[str, Detector] = {}
    on_canvas: dict[str, Detector] = {}
    for name, choice in config.detectors.items():
        if isinstance(choice, FixedBoxes):
            in_inset[name] = FixedBox(Box(*choice.fixed[name]))
            on_canvas[name] = FixedBox(Box(*choice.fixed[CANVAS]))
        elif choice != "manifest":
            if choice not in made:
                made[choice] = _detector_pair(choice, device)
            in_inset[name], on_canvas[name] = made[choice]
    return in_inset, on_canvas


def _detector_pair(choice: str, device: torch.device) -> tuple[Detector, Detector]:
    """For insets and for the canvas."""
    if choice in _PARTS:
        network = parts.load(models.demo_path("parts"), device)
        return (
            parts.PartDetector(network, _PARTS[choice], height=parts.HEIGHT_OF_INSET),
            parts.PartDetector(network, _PARTS[choice], height=parts.HEIGHT_OF_CANVAS),
        )
    return (
        FaceDetector(device, smallest_face=SMALLEST_FACE_OF_INSET),
        FaceDetector(device, smallest_face=SMALLEST_FACE_OF_CANVAS),
    )


def _segmenters(config: RunConfig, device: torch.device) -> dict[str, Segmenter]:
    """What cuts out the part of each inset that has a segmenter."""
    return {
        name: parts.PartSegmenter(parts.load(models.demo_path("parts"), device), _PARTS[choice])
        for name, choice in config.segmenter.items()
    }


def _load_generator(config: RunConfig, name: str, model: str, device: torch.device) -> Generator:
    """A generator that a run can use; raises `CheckpointError`."""
    path = models.fetch(model).path
    generator = Generator.load(
        path, device, precision=config.precision, channels_last=config.channels_last
    )
    if generator.image_channels != 3:
        raise CheckpointError(
            f"{path}: found {generator.image_channels} image channels, expected 3 (RGB)"
        )
    try:
        generator.seeds_to_w([0], 1.0, config.classes.get(name))
    except ValueError as err:
        raise CheckpointError(f"{path}: `classes` for `{name}`: {err}") from err
    return generator


def _load_perceptual(config: RunConfig, device: torch.device) -> Perceptual:
    trunk = config.perceptual_trunk
    return Perceptual(None if trunk is None else models.fetch(trunk).path).to(device)


def _outcome(lease: Lease, status: Status, error: Exception | None = None) -> Outcome:
    return Outcome(
        item_id=lease.item.item_id,
        attempt=lease.attempt,
        status=status,
        reason=reason_code(error) if error else "",
        detail=str(error) if error else "",
    )
