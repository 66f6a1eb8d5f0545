"""A training that was killed goes on as if it never had been."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from insetgan_batch.data.storage import LocalStorage
from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets import checkpoint
from insetgan_batch.training import state
from insetgan_batch.training.loop import Schedule, Tick, train
from insetgan_batch.training.workers import Workers
from tests.training import toy

ROOT = Path(__file__).parents[2]
ALONE = Workers()


def in_a_process(out: Path, *arguments: int) -> int:
    command = [sys.executable, "-m", "tests.training.toy", str(out), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode


def last_state(out: Path) -> tuple[bytes, object]:
    """The tensors as bytes, and the numbers."""
    storage = LocalStorage(out)
    key = state.kept(storage)[-1]
    said = json.loads(storage.get(f"{key}/state.json"))
    return storage.get(f"{key}/state.safetensors"), (said["numbers"], said["progress"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty steps in one go."""
    out = tmp_path_factory.mktemp("whole")
    assert in_a_process(out, 40) == 0
    return out


def test_fifteen_steps_a_kill_and_twenty_five_more_are_forty_bit_for_bit(
    whole: Path, tmp_path: Path
) -> None:
    assert in_a_process(tmp_path, 40, 17) == -signal.SIGKILL
    assert state.kept(LocalStorage(tmp_path))[-1] == f"checkpoints/{15 * 4:012d}"
    assert in_a_process(tmp_path, 40) == 0
    assert last_state(tmp_path) == last_state(whole)
    names = sorted(p.name for p in whole.glob("*/*.*"))
    assert sorted(p.name for p in tmp_path.glob("*/*.*")) == names
    snapshot = "snapshots/000000000160.safetensors"
    assert (tmp_path / snapshot).read_bytes() == (whole / snapshot).read_bytes()


def test_what_a_state_leaves_out_would_be_missed(whole: Path) -> None:
    """Each of its parts is one that the next step depends on."""
    storage = LocalStorage(whole)
    key = state.kept(storage)[-2]
    made = toy.task()
    state.resume(storage, made)  # the last one, to know the names
    parts = {name.split(".")[0] for name in made.tensors()}
    assert parts >= {"generator", "discriminator", "averaged", "path_mean", "signs"}
    assert parts >= {"adam_generator", "adam_discriminator"}
    assert made.numbers().keys() == {"probability"}
    assert key.endswith(f"{35 * 4:012d}")


def test_a_tick_has_the_means_of_its_steps_and_snapshots_are_generators(whole: Path) -> None:
    ticks = sorted((whole / "ticks").iterdir())
    assert [int(tick.stem) for tick in ticks] == [5 * 4 * n for n in range(1, 9)]
    numbers = json.loads(ticks[0].read_text())["numbers"]
    assert {"loss_generator", "loss_discriminator", "r1", "path_length"} <= numbers.keys()
    assert {"sign_real", "augment_probability"} <= numbers.keys()
    found = checkpoint.load(whole / "snapshots" / "000000000160.safetensors")
    assert found.about["images_seen"] == 160
    with Image.open(io.BytesIO((whole / "samples" / "000000000160.png").read_bytes())) as sheet:
        assert sheet.size == (4 * 8, 4 * 16)


def test_a_damaged_state_is_passed_over_for_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert in_a_process(tmp_path, 10) == 0
    storage = LocalStorage(tmp_path)
    first, last = state.kept(storage)
    damaged = bytearray(storage.get(f"{last}/state.safetensors"))
    damaged[-1] ^= 1
    storage.put(f"{last}/state.safetensors", bytes(damaged))
    assert state.resume(storage, toy.task()).iteration == 5
    assert "damaged: the tensors have another sha256" in caplog.text
    storage.delete(f"{first}/state.json")  # its writing was cut off
    assert state.resume(storage, toy.task()).iteration == 0


def test_the_state_of_another_training_is_refused(whole: Path) -> None:
    other = toy.task(gamma=0.0, freeze_layers=3)
    with pytest.raises(CheckpointError, match="the state of another training"):
        state.resume(LocalStorage(whole), other)


def test_a_training_that_is_told_to_end_keeps_its_state(tmp_path: Path) -> None:
    in_one_go = LocalStorage(tmp_path / "whole")
    train(toy.task(), in_one_go, toy.schedule(toy.task(), 40), ALONE, about={})
    storage, ticks = LocalStorage(tmp_path / "halves"), list[Tick]()
    made = toy.task()
    schedule = toy.schedule(made, 40)
    steps = iter(range(1000))
    ended = train(
        made,
        storage,
        schedule,
        ALONE,
        about={},
        on_tick=ticks.append,
        is_over=lambda: next(steps) == 6,
    )
    assert ended.iteration == 7
    again = toy.task()
    assert train(again, storage, schedule, ALONE, about={}).iteration == 40
    assert last_state(tmp_path / "halves") == last_state(tmp_path / "whole")


def test_only_the_last_few_states_are_kept(whole: Path) -> None:
    assert len(state.kept(LocalStorage(whole))) == 3
    assert len(list((whole / "snapshots").iterdir())) == 8


def test_a_finished_training_has_nothing_to_do(whole: Path) -> None:
    made = toy.task()
    ticks: list[Tick] = []
    finished = Schedule(40 * 4, 5 * 4)
    train(made, LocalStorage(whole), finished, ALONE, about={}, on_tick=ticks.append)
    assert ticks == []
