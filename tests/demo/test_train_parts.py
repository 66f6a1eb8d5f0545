from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from insetgan_batch.demo import train_parts
from insetgan_batch.errors import ConfigError
from insetgan_batch.nets import parts
from insetgan_batch.people.labels import BodyPart

SHOES = parts.CLASSES.index("shoes")
SCHEDULES = (
    train_parts.PartsSchedule(8, 2e-3, empty=0),
    train_parts.PartsSchedule(4, 1e-3, empty=1),
)
Examples = dict[str, train_parts.Examples]


def picture(random: np.random.Generator, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey with a bright bar at the bottom that stands for the shoes."""
    rgb = np.full((height, height // 2, 3), 90, np.uint8)
    labels = np.full((height, height // 2), BodyPart.BACKGROUND, np.uint8)
    top = height - int(random.integers(height // 8, height // 3))
    rgb[top:], labels[top:] = 230, BodyPart.SHOES
    return rgb, labels


@pytest.fixture(scope="module")
def examples() -> Examples:
    random = np.random.default_rng(0)
    rgb, labels = (np.stack(a) for a in zip(*(picture(random, 32) for _ in range(12)), strict=True))
    return {view: train_parts.to_examples(rgb, labels, 16) for view in train_parts.HEIGHTS}


@pytest.fixture(scope="module")
def trained(examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> parts.PartsNetwork:
    """Without a stop."""
    return train_parts.train(examples, tmp_path_factory.mktemp("whole"), SCHEDULES).network


def loss_of(network: parts.PartsNetwork, examples: Examples) -> float:
    """Without any augmentation."""
    some = examples["body"]
    with torch.no_grad():
        logits = network(some.rgb.float() / 127.5 - 1)
    return float(torch.nn.functional.cross_entropy(logits, some.shares.float() / 255))


def test_the_loss_falls(examples: Examples, trained: parts.PartsNetwork) -> None:
    before = loss_of(train_parts.start().network, examples)
    assert loss_of(trained, examples) < 0.75 * before


def test_a_resumed_training_goes_on_exactly(
    examples: Examples, trained: parts.PartsNetwork, tmp_path: Path
) -> None:
    stopped = train_parts.start()
    while stopped.step < 9:
        train_parts.train_step(stopped, examples, SCHEDULES)
    stopped.save(tmp_path / "parts.training.pt")
    resumed = train_parts.train(examples, tmp_path, SCHEDULES)
    assert resumed.step == 12
    for a, b in zip(resumed.network.parameters(), trained.parameters(), strict=True):
        assert torch.equal(a, b)


def test_every_part_has_its_class() -> None:
    assert set(train_parts.CLASS_OF_PART) == set(BodyPart)
    labels = np.array([[list(BodyPart)]], np.uint8)
    shares = train_parts.class_shares(labels)
    assert torch.equal(shares.sum(dim=1), torch.ones_like(shares[:, 0]))
    names = [parts.CLASSES[i] for i in shares[0, :, 0].argmax(dim=0)]
    assert names[BodyPart.EYES] == names[BodyPart.SKIN] == "skin"
    assert names[BodyPart.HANDS] == names[BodyPart.SKIRT] == "clothes"
    assert (names[BodyPart.SHOES], names[BodyPart.BACKGROUND]) == ("shoes", "backdrop")


def test_shrinking_gives_a_pixel_the_share_of_each_class() -> None:
    labels = np.full((1, 4, 4), BodyPart.BACKGROUND, np.uint8)
    labels[0, 0, 1] = BodyPart.SHOES
    rgb = np.zeros((1, 4, 4, 3), np.uint8)
    rgb[0, 0, 1] = 100
    made = train_parts.to_examples(rgb, labels, 2)
    assert made.shares[0, SHOES].tolist() == [[64, 0], [0, 0]]
    assert made.rgb[0, 0].tolist() == [[25, 0], [0, 0]]


def test_labels_move_as_the_pictures_do(examples: Examples) -> None:
    some = examples["body"]
    random = torch.Generator().manual_seed(0)
    images, shares = train_parts.augment(some.rgb, some.shares, random)
    assert images.shape == some.rgb.shape
    assert images.abs().max() <= 1
    assert (shares - some.shares.float() / 255).abs().max() > 0.5
    for image, share in zip(images, shares, strict=True):
        pair = torch.stack([image.mean(dim=0).flatten(), share[SHOES].flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.75


def test_the_first_pictures_of_a_batch_are_empty(examples: Examples) -> None:
    some = examples["body"]
    rgb, shares = train_parts.batch_of(some, 2, torch.Generator().manual_seed(0))
    assert (rgb[:2] == rgb[:2, :, :1, :1]).all()
    assert (shares[:2].sum(dim=1) == 255).all()
    assert (shares[:2, parts.CLASSES.index("backdrop")] == 255).all()
    assert shares[2:, SHOES].flatten(1).any(dim=1).all()
    assert some.shares[:, SHOES].flatten(1).any(dim=1).all()  # a copy


def write_shards(directory: Path, count: int, people: int) -> None:
    for n in range(count):
        arrays: dict[str, np.ndarray] = {"seeds": np.arange(people)}
        for view, height in train_parts.HEIGHTS.items():
            arrays[view] = np.full((people, 2 * height, height, 3), n, np.uint8)
            arrays[f"{view}_parts"] = np.full((people, 2 * height, height), n, np.uint8)
        np.savez(directory / f"shard-{n:08d}.npz", allow_pickle=False, **arrays)


def test_only_as_many_people_are_read_as_asked_for(tmp_path: Path) -> None:
    write_shards(tmp_path, count=3, people=2)
    read = train_parts.load(tmp_path, 3)
    assert read.keys() == train_parts.HEIGHTS.keys()
    assert read["body"].rgb.shape == (3, 3, 128, 64)
    assert read["face"].shares.shape == (3, len(parts.CLASSES), 64, 32)
    assert read["shoes"].rgb[:, 0, 0, 0].tolist() == [0, 0, 1]


def test_no_pictures_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="render the people first"):
        train_parts.load(tmp_path, 1)
