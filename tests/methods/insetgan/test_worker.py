from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import pkgutil
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageSequence

from insetgan_batch.data import manifest, results
from insetgan_batch.data import provenance as origin
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.data.stored import Commit
from insetgan_batch.errors import CheckpointError
from insetgan_batch.methods.insetgan import images, saved
from insetgan_batch.methods.insetgan.sources import Source, given, inputs_of, new_item, schema
from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.devices import best_precision
from insetgan_batch.nets.generator import Generator
from insetgan_batch.records import Item, Lease, Outcome, Status
from tests.bench import CANVAS, Bench, changed
from tests.conftest import random_generator
from tests.runtime.recording import RecordingWorker

MakeBench = Callable[..., Bench]


def lease(item: Item, n: int = 1) -> Lease:
    return Lease(item, f"1-{n}", "w", 1e9)


def first_items(bench: Bench, n: int) -> list[Item]:
    rows = manifest.read(bench.manifest, schema(["face"]))
    return [row for row in rows if isinstance(row, Item)][:n]


def with_canvas(item: Item, source: Source) -> Item:
    """The item with another source of its canvas."""
    sources = given(item.inputs) | {"canvas": source}
    return dataclasses.replace(item, inputs=inputs_of(sources))


def box_of(record: Commit, fact: str) -> list[float]:
    box = record["facts"][fact]
    assert isinstance(box, list)
    return box


def test_an_item_leaves_image_latents_losses_and_a_commit(montages: MakeBench) -> None:
    place = montages()
    worker = RecordingWorker(place.config, place.out)
    item = first_items(place, 1)[0]
    outcome = worker.serve_all([lease(item)])[item.item_id]
    assert outcome.status is Status.COMMITTED
    store = RunStore(open_storage(place.out))
    record = store.read_commit(item.item_id)
    assert results.read_image(store, record, "image").shape == (64, 32, 3)
    assert results.read_image(store, record, "face").shape == (32, 32, 3)
    assert (record["measures"]["seam_before"] or 0) > 0
    assert record["measures"]["seam_after"] is not None
    assert set(results.read_latents(store, record)) == {
        "canvas.w",
        "canvas.delta",
        "face.w",
        "face.delta",
    }
    losses = results.read_losses(store, record)
    assert losses is not None
    # Two rounds of two steps for each generator, and every step has the border's row.
    steps = {(p, s) for p, s in zip(losses.phase, losses.step.tolist(), strict=True)}
    assert steps == {(phase, step) for phase in ("canvas", "face") for step in range(4)}
    assert {"face.border.l1", "canvas.body.l1", "face.face.l1"} <= set(losses.term)


def test_the_picture_itself_says_that_it_is_synthetic_and_from_what(montages: MakeBench) -> None:
    place = montages()
    worker = RecordingWorker(place.config, place.out, "run-7")
    item = first_items(place, 1)[0]
    worker.serve_all([lease(item)])
    storage = open_storage(place.out)
    record = RunStore(storage).read_commit(item.item_id)
    provenance = origin.read(storage.get(record["files"]["image"]["key"]))
    assert provenance["synthetic"] is True
    assert provenance["run_id"] == "run-7"
    assert provenance["sources"]["canvas"]["value"] == item.inputs["canvas_seed"]
    assert len(provenance["weights"]["face"]) == 64
    assert provenance["perceptual"] == "alexnet-random-0"
    assert provenance["precision"] == best_precision(torch.device("cpu"))


def test_a_place_is_free_while_its_item_is_still_being_uploaded(montages: MakeBench) -> None:
    place = montages(bodies=3, faces=1)
    worker = RecordingWorker(place.config, place.out)
    first, second, third = first_items(place, 3)
    worker.serve([lease(first)])
    assert worker.free == 1
    worker.serve([lease(second, 2)])  # two slots, two rounds: the first item leaves
    assert worker.in_batch == 1
    assert worker.free == 1
    outcomes = worker.serve_all([lease(third, 3)])
    assert set(outcomes) == {first.item_id, second.item_id, third.item_id}
    assert worker.steps == sum(outcome.steps for outcome in outcomes.values())


def test_an_item_goes_on_elsewhere_where_it_was_and_ends_the_same(montages: MakeBench) -> None:
    place = montages(bodies=1, faces=1)
    (item,) = first_items(place, 1)
    alone = RecordingWorker(place.config, f"{place.out}-alone")
    expected = alone.serve_all([lease(item)])[item.item_id]
    leaving = RecordingWorker(place.config, place.out)
    leaving.serve([lease(item)])
    leaving.hand_back()
    (returned,) = leaving.ended
    assert isinstance(returned, Outcome)
    assert (returned.status, returned.reason) == (Status.RETURNED, "preempted")
    assert returned.is_saved
    store = RunStore(open_storage(place.out))
    assert store.checkpoints() == {item.item_id}
    heir = RecordingWorker(place.config, place.out)
    outcome = heir.serve_all([dataclasses.replace(lease(item, 2), is_resumed=True)])[item.item_id]
    assert outcome.status is Status.COMMITTED
    assert heir.steps == expected.steps / 2  # one of two rounds had been done
    assert outcome.steps == expected.steps
    assert outcome.measures == pytest.approx(expected.measures, rel=1e-6)
    assert store.checkpoints() == set()


def test_a_damaged_state_only_costs_its_steps(
    montages: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    place = montages(bodies=1, faces=1)
    (item,) = first_items(place, 1)
    RunStore(open_storage(place.out)).save_checkpoint(item.item_id, b"no state")
    worker = RecordingWorker(place.config, place.out)
    outcome = worker.serve_all([dataclasses.replace(lease(item), is_resumed=True)])[item.item_id]
    assert outcome.status is Status.COMMITTED
    assert worker.steps == outcome.steps
    (told,) = [vars(record) for record in caplog.records if "starts anew" in record.getMessage()]
    assert (told["item"], told["attempt"]) == (item.item_id, outcome.attempt)


def saved_elsewhere(place: Bench, item: Item) -> bytes:
    """The state of the item after one round on a machine that has gone."""
    leaving = RecordingWorker(place.config, place.out)
    leaving.serve([lease(item)])
    leaving.hand_back()
    return RunStore(open_storage(place.out)).read_checkpoint(item.item_id)


def resumed(item: Item, n: int = 2) -> Lease:
    return dataclasses.replace(lease(item, n), is_resumed=True)


def relabelled(state: bytes, **changes: str) -> bytes:
    """The same state, said to be of something else."""
    tensors = safetensors.torch.load(state[32:])
    with_metadata = json.loads(state[40 : 40 + int.from_bytes(state[32:40], "little")])
    metadata = with_metadata["__metadata__"]
    label = json.loads(metadata["label"]) | changes
    data = safetensors.torch.save(tensors, metadata | {"label": json.dumps(label)})
    return hashlib.sha256(data).digest() + data


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit has flipped": lambda state: state[:-9] + bytes([state[-9] ^ 1]) + state[-8:],
    "it is cut off": lambda state: state[: len(state) // 2],
    "it is empty": lambda state: b"",
    "it is of a version before": lambda state: relabelled(state, version="0.0"),
    "it is of other weights": lambda state: relabelled(state, weights="0" * 64),
    "it is of an earlier layout": lambda state: state[32:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_state_that_cannot_be_used_only_costs_the_item_its_steps(
    montages: MakeBench, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    place = montages(bodies=2, faces=1)
    item, neighbour = first_items(place, 2)
    state = DAMAGES[damage](saved_elsewhere(place, item))
    store = RunStore(open_storage(place.out))
    store.save_checkpoint(item.item_id, state)
    heir = RecordingWorker(place.config, place.out)
    heir.serve([resumed(item), lease(neighbour, 3)])
    assert store.checkpoints() == set()  # nobody will try it again
    heir.serve([])
    heir.close()  # waits for the uploads
    ended = [outcome for outcome in heir.ended if isinstance(outcome, Outcome)]
    assert [outcome.status for outcome in ended] == [Status.COMMITTED] * 2
    assert heir.steps == sum(outcome.steps for outcome in ended)  # both from their beginning
    (told,) = [r.getMessage() for r in caplog.records if "starts anew" in r.getMessage()]
    assert item.item_id in told


def test_a_state_of_another_item_recipe_or_layout_is_not_taken_for_this_ones(
    montages: MakeBench, fields: dict[str, Any], tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    place = montages(bodies=2, faces=1)
    item, other = first_items(place, 2)
    wide = tmp_path / "wide.safetensors"
    checkpoint.save(wide, random_generator(dataclasses.replace(CANVAS, w_dim=32)), {})
    states = {
        "another item": saved_elsewhere(place, other),
        "other overrides": saved_elsewhere(
            place, dataclasses.replace(item, overrides={"canvas": {"learning_rate": 0.5}})
        ),
        "another layout": saved_elsewhere(montages(canvas=str(wide)), item),
    }
    store = RunStore(open_storage(place.out))
    for n, state in enumerate(states.values()):
        store.save_checkpoint(item.item_id, state)
        heir = RecordingWorker(place.config, f"{place.out}-{n}", storage=store.storage)
        heir.serve([resumed(item, n)])
        assert heir.in_batch == 1
        assert store.checkpoints() <= {other.item_id}
        heir.close()


def test_a_state_of_numbers_that_are_none_is_refused() -> None:
    label = {"item": "a"}
    device = torch.device("cpu")
    for value in (torch.tensor([1.0, math.nan]), torch.tensor([math.inf]), math.nan):
        data = saved.to_bytes({"x": value}, label)
        with pytest.raises(CheckpointError, match=r"NaN|infinity"):
            saved.from_bytes(data, label, device)


# What a library raises of one item


@pytest.mark.parametrize(
    "error",
    [RuntimeError("odd picture"), ValueError("negative size"), ZeroDivisionError("by zero")],
)
@pytest.mark.parametrize(
    "where",
    [
        "insetgan_batch.methods.insetgan.prepare.Preparer.prepare",
        "insetgan_batch.methods.insetgan.prepare.Preparer.start",
        "insetgan_batch.methods.insetgan.slots.SlotOptimizer.admit",
        "insetgan_batch.methods.insetgan.encode.result",
    ],
)
def test_what_one_items_entry_or_exit_raises_ends_that_item_alone(
    montages: MakeBench, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    place = montages(bodies=2, faces=1)
    poison, neighbour = first_items(place, 2)
    right = pkgutil.resolve_name(where)

    def wrong(*args: Any, **kwargs: Any) -> Any:
        if any(names(argument) == poison.item_id for argument in args):
            raise error
        return right(*args, **kwargs)

    def names(argument: Any) -> object:
        """The item that an item, a lease, a start or a result is of."""
        attempt = {"1-1": poison.item_id, "1-2": neighbour.item_id}
        key = getattr(argument, "attempt", getattr(argument, "key", argument))
        return attempt.get(key, "") if isinstance(key, str) else getattr(key, "item_id", "")

    monkeypatch.setattr(where, wrong)
    worker = RecordingWorker(place.config, place.out)
    outcomes = worker.serve_all([lease(poison), lease(neighbour, 2)])
    assert outcomes[neighbour.item_id].status is Status.COMMITTED
    found = outcomes[poison.item_id]
    assert (found.status, found.reason) == (Status.QUARANTINED, "item_error")
    assert found.detail == f"{type(error).__name__}: {error}"


# An item that does not end


def test_an_item_that_takes_too_long_is_given_up_and_its_neighbour_is_done(
    montages: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = montages(bodies=2, faces=1, item_hours=2.0)
    endless, neighbour = first_items(place, 2)
    endless = dataclasses.replace(endless, overrides={"max_rounds": 1000, "min_rounds": 1000})
    clock = iter(range(0, 10**9, 60))  # every look at it takes a minute
    monkeypatch.setattr("insetgan_batch.runtime.worker.time.monotonic", lambda: next(clock))
    worker = RecordingWorker(place.config, place.out)
    worker.serve([lease(endless), lease(neighbour, 2)])
    for _ in range(200):
        if not worker.in_batch:
            break
        worker.serve([])
    worker.close()  # waits for the uploads
    outcomes = {e.item_id: e for e in worker.ended if isinstance(e, Outcome)}
    assert outcomes[neighbour.item_id].status is Status.COMMITTED
    found = outcomes[endless.item_id]
    assert (found.status, found.reason) == (Status.QUARANTINED, "too_long")
    assert "item_hours (2)" in found.detail


def test_the_time_of_an_item_goes_with_it_to_another_machine(montages: MakeBench) -> None:
    place = montages(bodies=1, faces=1)
    (item,) = first_items(place, 1)
    store = RunStore(open_storage(place.out))
    leaving = RecordingWorker(place.config, place.out)
    leaving.serve([lease(item)])
    now = time.monotonic
    with pytest.MonkeyPatch.context() as later:
        later.setattr(time, "monotonic", lambda: now() + 7200)
        leaving.hand_back()
    hasty = place.config.on(item_hours=1.5)
    outcome = RecordingWorker(hasty, place.out).serve_all([resumed(item)])[item.item_id]
    assert (outcome.status, outcome.reason) == (Status.QUARANTINED, "too_long")
    assert store.checkpoints() == {item.item_id}
    patient = RecordingWorker(place.config, place.out)
    assert patient.serve_all([resumed(item, 3)])[item.item_id].status is Status.COMMITTED
    assert store.read_commit(item.item_id)["seconds"] > 7200


def test_its_figures_say_where_time_slots_and_bytes_went(montages: MakeBench) -> None:
    place = montages(bodies=1, faces=1)
    worker = RecordingWorker(place.config, place.out)
    (item,) = first_items(place, 1)
    outcome = worker.serve_all([lease(item)])[item.item_id]
    found = worker.stats
    assert {"load", "enter", "canvas", "face", "leave"} <= set(found.seconds)
    assert all(seconds >= 0 for seconds in found.seconds.values())
    assert found.seconds["canvas"] > 0
    assert (found.slots, found.busy) == (2, 0)
    # One item in two slots: whenever one was busy, the other was idle.
    assert 0 < found.busy_slot_s < found.idle_slot_s
    assert found.upload_bytes == outcome.uploaded_bytes > 0
    assert found.upload_s > 0
    if not torch.cuda.is_available():
        assert (found.gpu_memory_peak_bytes, found.gpu_utilisation) == (None, None)


def test_an_outcome_has_the_measures_of_its_commit(montages: MakeBench) -> None:
    place = montages(bodies=1, faces=1)
    (item,) = first_items(place, 1)
    outcome = RecordingWorker(place.config, place.out).serve_all([lease(item)])[item.item_id]
    record = RunStore(open_storage(place.out)).read_commit(item.item_id)
    assert outcome.measures == record["measures"]
    assert {"seam_before", "score", "losses.canvas.body.l1"} <= outcome.measures.keys()


def test_the_copy_and_paste_is_of_the_untouched_references(montages: MakeBench) -> None:
    place = montages()
    worker = RecordingWorker(place.config, place.out)
    item = first_items(place, 1)[0]
    worker.serve_all([lease(item)])
    store = RunStore(open_storage(place.out))
    record = store.read_commit(item.item_id)
    paste = results.read_image(store, record, "copy_paste")
    reference = results.read_image(store, record, "canvas_reference")
    x0, y0, x1, y1 = (round(v) for v in box_of(record, "face_region_before"))
    inside = np.zeros(paste.shape[:2], bool)
    inside[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = True
    assert (paste == reference)[~inside].all()
    assert (paste != reference)[inside].any()


def test_several_insets_are_pasted_side_by_side_and_kept_by_name(
    montages: MakeBench, tiny_models: dict[str, Path], fields: dict[str, Any]
) -> None:
    boxes = {"face": [8, 8, 20, 24], "shoes": [10, 46, 22, 58]}
    place = montages(
        insets={name: str(tiny_models["face"]) for name in boxes},
        detector={
            name: {"fixed": {"canvas": b, name: [8, 8, 24, 24]}} for name, b in boxes.items()
        },
        recipe=fields["recipe"]
        | {"insets": {name: {"steps": 2, "border": {"l1": 1}} for name in boxes}},
    )
    item = new_item("both", Source("seed", 1), {n: Source("seed", i) for i, n in enumerate(boxes)})
    outcome = RecordingWorker(place.config, place.out).serve_all([lease(item)])["both"]
    assert outcome.status is Status.COMMITTED
    assert outcome.steps == 2 * (2 + 2 + 2)
    assert {"losses.face.border.l1", "losses.shoes.border.l1"} <= outcome.measures.keys()
    store = RunStore(open_storage(place.out))
    record = store.read_commit("both")
    assert {"canvas_psi", "face_psi", "shoes_psi"} <= record["facts"].keys()
    before = {name: results.read_image(store, record, name) for name in ("copy_paste", "canvas")}
    assert before["copy_paste"].shape == before["canvas"].shape
    paste = before["copy_paste"]
    untouched = results.read_image(store, record, "canvas_reference")
    for name in boxes:
        x0, y0, x1, y1 = (round(v) for v in box_of(record, f"{name}_region_before"))
        rows, columns = slice(max(0, y0 + 1), y1 - 1), slice(max(0, x0 + 1), x1 - 1)
        assert (paste != untouched)[rows, columns].any(axis=2).mean() > 0.5
    assert {"shoes", "shoes_reference"} <= record["files"].keys()
    assert {"shoes.w", "shoes.delta"} <= results.read_latents(store, record).keys()


def test_without_insets_an_item_is_the_generators_image(
    montages: MakeBench, tiny_models: dict[str, Path]
) -> None:
    place = montages(
        insets={}, detector="mtcnn", recipe={"min_rounds": 0, "max_rounds": 0, "stages": []}
    )
    worker = RecordingWorker(place.config, place.out)
    items = [new_item(f"i{n}", Source("seed", n, 0.5), {}) for n in range(3)]
    outcomes = worker.serve_all([lease(item, n) for n, item in enumerate(items[:2])])
    outcomes |= worker.serve_all([lease(items[2], 9)])
    assert {outcome.status for outcome in outcomes.values()} == {Status.COMMITTED}
    store = RunStore(open_storage(place.out))
    record = store.read_commit("i2")
    assert record["files"].keys() == {"image", "latents", "losses"}
    assert (record["steps"], record["measures"]["rounds"]) == (0, 0)
    measures = record["measures"]
    assert (measures["seam_before"], measures["seam_after"]) == (None, None)
    assert record["facts"]["canvas_psi"] == 0.5
    generator = Generator.load(tiny_models["canvas"], torch.device("cpu"))
    expected = images.to_pixels(generator.images_of_seeds([2], 0.5))[0].numpy()
    assert np.abs(results.read_image(store, record).astype(int) - expected).max() <= 1


def test_a_film_shows_every_so_many_steps_and_ends_with_the_result(montages: MakeBench) -> None:
    place = montages(film_every=3)
    item = first_items(place, 1)[0]
    RecordingWorker(place.config, place.out).serve_all([lease(item)])
    store = RunStore(open_storage(place.out))
    record = store.read_commit(item.item_id)
    with Image.open(io.BytesIO(results.read_file(store, record, "film"))) as film:
        assert (film.format, film.size) == ("WEBP", (32, 64))
        # Of 2 rounds x (2 + 2) steps the first, fourth and seventh, then the result.
        frames = ImageSequence.all_frames(film)
        assert len(frames) == 3 + 1
        last = np.asarray(frames[-1].convert("RGB")).astype(int)
    result = results.read_image(store, record)
    assert np.abs(last - result).mean() < np.abs(last - result[::-1]).mean() / 3


def test_no_film_is_kept_unless_it_is_asked_for(montages: MakeBench) -> None:
    place = montages()
    item = first_items(place, 1)[0]
    RecordingWorker(place.config, place.out).serve_all([lease(item)])
    assert "film" not in RunStore(open_storage(place.out)).read_commit(item.item_id)["files"]


def test_an_unreadable_image_ends_its_row_alone(montages: MakeBench, tmp_path: Path) -> None:
    place = montages()
    worker = RecordingWorker(place.config, place.out)
    (tmp_path / "note.png").write_text("no picture")
    good, other = first_items(place, 2)
    bad = with_canvas(other, Source("image", str(tmp_path / "note.png")))
    outcomes = worker.serve_all([lease(good), lease(bad, 2)])
    assert outcomes[good.item_id].status is Status.COMMITTED
    assert outcomes[bad.item_id].status is Status.QUARANTINED
    assert outcomes[bad.item_id].reason == "bad_input"
    assert "column canvas_image" in outcomes[bad.item_id].detail
    assert "note.png" in outcomes[bad.item_id].detail


def test_an_image_as_canvas_is_what_the_body_is_held_to(
    montages: MakeBench, tmp_path: Path
) -> None:
    place = montages()
    worker = RecordingWorker(place.config, place.out)
    picture = Image.new("RGB", (100, 200), (10, 200, 30))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    (tmp_path / "green.png").write_bytes(buffer.getvalue())
    item = with_canvas(first_items(place, 1)[0], Source("image", str(tmp_path / "green.png")))
    worker.serve_all([lease(item)])
    store = RunStore(open_storage(place.out))
    record = store.read_commit(item.item_id)
    latents = results.read_latents(store, record)
    assert latents["canvas.w"].shape == (16,)
    losses = results.read_losses(store, record)
    assert losses is not None
    errors = [r for r, t in zip(losses.raw, losses.term, strict=True) if t == "canvas.picture.l1"]
    assert errors[-1] < errors[0]
    reference = results.read_image(store, record, "canvas_reference")
    assert (reference[10, 10] == (10, 200, 30)).all()


def test_latents_that_an_item_left_are_a_start_for_another(
    montages: MakeBench, tmp_path: Path
) -> None:
    place = montages()
    worker = RecordingWorker(place.config, place.out)
    item = first_items(place, 1)[0]
    worker.serve_all([lease(item)])
    store = RunStore(open_storage(place.out))
    latents = results.read_latents(store, store.read_commit(item.item_id))
    file = tmp_path / "start.safetensors"
    tensors = {"w": latents["canvas.w"], "delta": latents["canvas.delta"]}
    safetensors.torch.save_file({k: torch.from_numpy(v) for k, v in tensors.items()}, file)
    again = with_canvas(dataclasses.replace(item, item_id="again"), Source("latent", str(file)))
    outcome = worker.serve_all([lease(again, 2)])["again"]
    assert outcome.status is Status.COMMITTED
    moved = results.read_image(store, store.read_commit(item.item_id), "canvas")
    start = results.read_image(store, store.read_commit("again"), "canvas_reference")
    assert np.abs(moved.astype(int) - start.astype(int)).max() <= 1


def test_latents_of_another_shape_are_refused_with_both_shapes(
    montages: MakeBench, tmp_path: Path
) -> None:
    place = montages()
    worker = RecordingWorker(place.config, place.out)
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(5)}, file)
    item = with_canvas(first_items(place, 1)[0], Source("latent", str(file)))
    outcome = worker.serve_all([lease(item)])[item.item_id]
    assert outcome.reason == "bad_input"
    assert "[5]" in outcome.detail
    assert "[16]" in outcome.detail


def test_boxes_of_the_manifest_need_no_detector(montages: MakeBench) -> None:
    place = montages(detector="manifest")
    worker = RecordingWorker(place.config, place.out)
    with_box, without = first_items(place, 2)
    boxes = {"canvas_box": [8.0, 8.0, 20.0, 24.0], "face_box": [8.0, 8.0, 24.0, 28.0]}
    with_box = dataclasses.replace(with_box, inputs=with_box.inputs | boxes)
    outcomes = worker.serve_all([lease(with_box), lease(without, 2)])
    assert outcomes[with_box.item_id].status is Status.COMMITTED
    assert outcomes[without.item_id].reason == "no_face"
    facts = RunStore(open_storage(place.out)).read_commit(with_box.item_id)["facts"]
    assert facts["face_inset_box"] == [8, 8, 24, 28]
    assert facts["face_region"] == facts["face_region_before"]


def test_wrong_overrides_end_their_row(montages: MakeBench) -> None:
    place = montages()
    worker = RecordingWorker(place.config, place.out)
    item = dataclasses.replace(first_items(place, 1)[0], overrides={"max_roundss": 1})
    outcome = worker.serve_all([lease(item)])[item.item_id]
    assert (outcome.status, outcome.reason) == (Status.QUARANTINED, "bad_input")
    assert "max_roundss" in outcome.detail


def test_a_file_that_holds_no_generator_stops_the_worker_before_any_item(
    montages: MakeBench, tmp_path: Path
) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    place = montages(canvas=str(tmp_path / "x.safetensors"))
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        RecordingWorker(place.config, place.out)


@pytest.mark.parametrize("role", ["canvas", "face", "perceptual"])
def test_another_file_than_the_run_began_with_stops_the_worker(
    montages: MakeBench, tmp_path: Path, role: str
) -> None:
    place = montages(perceptual=str(tmp_path / "alexnet.pth"))
    (tmp_path / "alexnet.pth").write_bytes(b"weights")
    file = (
        tmp_path / "alexnet.pth"
        if role == "perceptual"
        else Path(place.config.settings.models[role])
    )
    then, now = "0" * 64, hashlib.sha256(file.read_bytes()).hexdigest()
    model = f"{file}#sha256={then}"
    changes = {"insets": {role: model}} if role == "face" else {role: model}
    config = changed(place.config, **changes)
    with pytest.raises(
        CheckpointError, match=rf"{file.name}: its sha256 is {now}, expected 0{{64}}"
    ):
        RecordingWorker(config, place.out)


@pytest.mark.parametrize("role", ["canvas", "face", "perceptual", "encoder", "identity"])
def test_a_file_that_changes_between_fetch_and_load_stops_the_worker(
    montages: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """Each kind is read by a library of its own; here by one that reads whatever is there."""
    path = tmp_path / f"{role}.pth"
    place = montages()
    generator = role in ("canvas", "face")
    data = Path(place.config.settings.models[role]).read_bytes() if generator else b"weights"
    path.write_bytes(data)
    fields: dict[str, dict[str, Any]] = {
        "canvas": {"canvas": str(path)},
        "face": {"insets": {"face": str(path)}},
        "perceptual": {"perceptual": str(path)},
        "encoder": {"encoders": {"face": str(path)}},
        "identity": {"identity": {"face": str(path)}},
    }
    reader = {
        "perceptual": "insetgan_batch.methods.insetgan.loading.Perceptual",
        "encoder": "insetgan_batch.nets.encoder.load",
        "identity": "insetgan_batch.methods.insetgan.loading.Identity",
    }.get(role, "insetgan_batch.nets.checkpoint.load")
    right = pkgutil.resolve_name(reader)

    def overwritten(file: Any, *arguments: Any) -> Any:
        if file != path:
            return right(file, *arguments)
        found = right(file, *arguments) if generator else types.SimpleNamespace()
        path.write_bytes(data[:-1] + b"!")
        return found

    monkeypatch.setattr(reader, overwritten)
    with pytest.raises(CheckpointError, match=rf"{role}\.pth: its sha256 is .*, expected "):
        RecordingWorker(changed(place.config, **fields[role]), place.out)


def test_a_model_of_a_store_is_loaded_from_the_cache(
    montages: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSETGAN_BATCH_CACHE", str(tmp_path / "cache"))
    storage = open_storage("memory://worker-models")
    storage.put("body.safetensors", Path(montages().config.settings.models["canvas"]).read_bytes())
    place = montages(canvas="memory://worker-models/body.safetensors")
    worker = RecordingWorker(place.config, place.out)
    item = first_items(place, 1)[0]
    assert worker.serve_all([lease(item)])[item.item_id].status is Status.COMMITTED
    assert [path.name for path in tmp_path.glob("cache/*/*")] == ["body.safetensors"]


# Generators that a run cannot use as they are


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        ({"image_channels": 1}, {}, "found 1 image channels, expected 3 (RGB)"),
        ({"c_dim": 3}, {}, "`classes` for `canvas`: this generator has classes: give a label"),
        ({"c_dim": 3}, {"classes": {"canvas": 3}}, "found class 3, expected 0 to 2"),
        ({}, {"classes": {"canvas": 0}}, "found class 0, expected none"),
        ({}, {"precision": "float16"}, "float16 needs a generator with conv_clamp"),
    ],
)
def test_a_generator_that_does_not_fit_is_refused_in_one_line(
    montages: MakeBench,
    tmp_path: Path,
    architecture: dict[str, int],
    changes: dict[str, object],
    message: str,
) -> None:
    path = tmp_path / "odd.safetensors"
    checkpoint.save(path, random_generator(dataclasses.replace(CANVAS, **architecture)), {})  # type: ignore[arg-type]
    place = montages(canvas=str(path), **changes)
    with pytest.raises(CheckpointError) as caught:
        RecordingWorker(place.config, place.out)
    assert message in str(caught.value)
    assert "odd.safetensors" in str(caught.value)


def test_a_generator_with_classes_paints_the_class_of_the_configuration(
    montages: MakeBench, tmp_path: Path
) -> None:
    path = tmp_path / "classes.safetensors"
    checkpoint.save(path, random_generator(dataclasses.replace(CANVAS, c_dim=3)), {})
    references = []
    for label in (0, 2):
        place = montages(canvas=str(path), classes={"canvas": label})
        worker = RecordingWorker(place.config, f"{place.out}-{label}")
        item = first_items(place, 1)[0]
        worker.serve_all([lease(item)])
        store = RunStore(open_storage(f"{place.out}-{label}"))
        record = store.read_commit(item.item_id)
        references.append(results.read_image(store, record, "canvas_reference"))
    assert (references[0] != references[1]).mean() > 0.1
