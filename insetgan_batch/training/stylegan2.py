"""StyleGAN2-ADA as a task: a generator against a discriminator (Karras et al. 2020, both papers).

A batch is done in parts of the same size, on however many workers: what is drawn belongs to the
place of an image in the batch, so that their number changes nothing but the order of additions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from insetgan_batch.nets import checkpoint
from insetgan_batch.nets.discriminator import Discriminator, DiscriminatorArchitecture
from insetgan_batch.nets.stylegan2 import Architecture, StyleGAN2
from insetgan_batch.training import augment, losses, state
from insetgan_batch.training.draws import Draws, source
from insetgan_batch.training.order import Order
from insetgan_batch.training.workers import Workers
from insetgan_batch.validation import STRICT

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]

_PHASES = ("generator", "path", "discriminator", "r1")
_PATH_EVERY, _R1_EVERY, _ADA_EVERY = 4, 16, 4
_W_AVERAGE_DECAY = 0.995
_LARGEST_GRADIENT = 1e5
_SHEET = 16  # images of the sheet


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Settings:
    """How a generator is trained; `presets.py` has the papers' figures."""

    # Pictures of a step, and how many of them a worker does at once: the batch is whole parts.
    batch: Count = 32
    part: Count = 4
    seed: CountOrZero = 0
    # Thousands of pictures that are seen in all.
    kimg: Positive = 25_000.0
    learning_rate: Positive = 0.002
    # Weight of R1.
    gamma: NotNegative = 10.0
    # Weight of path length regularisation; 0 leaves it out.
    path_weight: NotNegative = 2.0
    # Probability that two latents share an image.
    style_mixing: Share = 0.9
    # Half-life of the generator's moving average, in thousands of pictures; at most this share of
    # those seen, None for no such limit.
    ema_kimg: Positive = 10.0
    ema_rampup: Positive | None = None
    # Which augmentations; `ada` finds their probability, so that the share of real pictures that
    # the discriminator knows stays at the target.
    augment: str = "bgc"
    ada: bool = True
    ada_target: Share = 0.6
    ada_kimg: Positive = 500.0
    # Without `ada`: their probability.
    probability: Share = 0.0
    # Layers of the discriminator that keep their weights, from the image on.
    freeze_layers: CountOrZero = 0
    # Pictures are seen flipped, too.
    mirror: bool = False

    def __post_init__(self) -> None:
        """Checks that concern several fields."""
        if self.batch % self.part:
            raise ValueError(f"batch is {self.batch}, expected a multiple of part ({self.part})")
        if self.augment not in augment.PIPES:
            raise ValueError(
                f"augment is {self.augment!r}, expected one of {', '.join(augment.PIPES)}"
            )


Phase = Literal["generator", "path", "discriminator", "r1"]
Batch = Callable[[Sequence[tuple[int, bool]]], Tensor]
"""Pictures by (number, whether it is flipped): bytes `[n 3 h w]`."""


class StyleGAN2Task:
    """See `task.Task`."""

    def __init__(
        self,
        settings: Settings,
        generator: Architecture,
        discriminator: DiscriminatorArchitecture,
        pictures: int,
        read: Batch,
        device: torch.device,
    ) -> None:
        """pictures: how many there are; read: gives some of them.

        Raises `ValueError` where the settings do not fit the size of the pictures.
        """
        augment.check(augment.PIPES[settings.augment], *generator.image_size)
        self.settings, self._device, self._read = settings, device, read
        self._order = Order(pictures, settings.seed, mirrored=settings.mirror)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self.generator = StyleGAN2(generator).to(device)
            self.discriminator = Discriminator(discriminator).to(device)
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False)
        self.discriminator.freeze_layers(settings.freeze_layers)
        path_every = _PATH_EVERY if settings.path_weight else 0
        self.optimizers = {
            "generator": _adam(self.generator, settings.learning_rate, path_every),
            "discriminator": _adam(
                self.discriminator, settings.learning_rate, _R1_EVERY if settings.gamma else 0
            ),
        }
        self.probability = settings.probability
        self.path_mean = torch.zeros((), device=device)
        self._signs = torch.zeros(2, device=device)  # sum, and number, since the last adjustment

    # ---- what a task has -----------------------------------------------------------------------

    @property
    def batch(self) -> int:
        """Pictures of a step."""
        return self.settings.batch

    def step(self, iteration: int, workers: Workers) -> dict[str, float]:
        """All phases that are due, then the moving average, and the augmentations' probability."""
        numbers: dict[str, float] = {}
        due: list[tuple[Phase, nn.Module, bool]] = [
            ("generator", self.generator, True),
            ("path", self.generator, self.settings.path_weight > 0 and not iteration % _PATH_EVERY),
            ("discriminator", self.discriminator, True),
            ("r1", self.discriminator, self.settings.gamma > 0 and not iteration % _R1_EVERY),
        ]
        for phase, network, is_due in due:
            if is_due:
                numbers |= self._phase(phase, network, iteration, workers)
        self._average(iteration * self.batch)
        if self.settings.ada and not (iteration + 1) % _ADA_EVERY:
            self._adjust(numbers)
        return numbers | {"augment_probability": self.probability}

    def tensors(self) -> dict[str, Tensor]:
        """Of networks, optimisers, and means."""
        return {
            **state.of_networks(self._networks),
            **state.of_optimizers(self._adams),
            "path_mean": self.path_mean,
            "signs": self._signs,
        }

    def numbers(self) -> dict[str, Any]:
        """The probability of augmentations."""
        return {"probability": self.probability}

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Go on from there; raises `ValueError` or `RuntimeError` for those of another task."""
        state.load_networks(self._networks, tensors)
        state.load_optimizers(self._adams, tensors)
        self.path_mean = tensors["path_mean"].to(self._device)
        self._signs = tensors["signs"].to(self._device)
        self.probability = float(numbers["probability"])

    def snapshot(self, about: Mapping[str, Any]) -> bytes:
        """The averaged generator."""
        return checkpoint.packed(self.averaged, dict(about))

    def samples(self) -> np.ndarray:
        """Sixteen images of the averaged generator, four in a row."""
        z = self._normal(range(_SHEET), -1)
        with torch.no_grad():
            images = self._paint(self.averaged, self.averaged.mapping(z))
        pixels = (images.clamp(-1, 1) + 1).mul(127.5).round().byte().cpu().numpy()
        rows = pixels.transpose(0, 2, 3, 1).reshape(4, _SHEET // 4, *pixels.shape[2:], -1)
        return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)

    @property
    def _networks(self) -> dict[str, nn.Module]:
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "averaged": self.averaged,
        }

    @property
    def _adams(self) -> dict[str, torch.optim.Optimizer]:
        return {f"adam_{name}": optimizer for name, optimizer in self.optimizers.items()}

    # ---- a phase -------------------------------------------------------------------------------

    def _phase(
        self, phase: Phase, network: nn.Module, iteration: int, workers: Workers
    ) -> dict[str, float]:
        """Gradients of one loss over the whole batch, and one step down it."""
        name = "generator" if network is self.generator else "discriminator"
        other = self.discriminator if network is self.generator else self.generator
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=False)
        parts = self.settings.batch // self.settings.part
        found = _Found(self._device, self.generator.architecture.w_dim)
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        with _without_gradients(other):
            for part in workers.share(parts):
                loss = self._loss(phase, iteration, part, found)
                torch.autograd.backward(loss / parts)
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in trained if p.grad is not None]
        workers.add_up([*gradients, *found.tensors])
        for gradient in gradients:
            torch.nan_to_num_(gradient, 0.0, _LARGEST_GRADIENT, -_LARGEST_GRADIENT)
        optimizer.step()
        self._keep(phase, found, parts)
        return found.numbers(parts)

    def _loss(self, phase: Phase, iteration: int, part: int, found: _Found) -> Tensor:
        """Of one part of the batch."""
        places = range(part * self.settings.part, (part + 1) * self.settings.part)
        where = (iteration, _PHASES.index(phase))
        if phase == "generator":
            images, _ = self._fakes(places, where, part, found)
            loss = losses.of_generator(self._scores(images, places, where, is_real=False))
            found.add(loss_generator=loss)
            return loss
        if phase == "path":
            fewer = places[: max(1, len(places) // 2)]
            images, ws = self._fakes(fewer, where, part, found)
            noise = Draws([self._source(*where, place, 3) for place in fewer], self._device).normal(
                *images.shape[1:]
            )
            lengths = losses.path_lengths(images, ws, noise)
            penalty, _ = losses.path_penalty(lengths, self.path_mean)
            found.add(path_length=lengths.mean(), path_penalty=penalty)
            return penalty * (self.settings.path_weight * _PATH_EVERY)
        if phase == "discriminator":
            with torch.no_grad():
                images, _ = self._fakes(places, where, part, found)
            of_fakes = self._scores(images, places, where, is_real=False)
            of_reals = self._scores(self._reals(places, iteration), places, where, is_real=True)
            loss = losses.of_discriminator(of_reals, of_fakes)
            found.see_signs(of_reals)
            found.add(
                loss_discriminator=loss,
                score_real=of_reals.mean(),
                score_fake=of_fakes.mean(),
                sign_real=of_reals.sign().mean(),
                sign_fake=of_fakes.sign().mean(),
            )
            return loss
        reals = self._reals(places, iteration).requires_grad_()
        scores = self._scores(reals, places, where, is_real=True)
        penalty = losses.r1(reals, scores).mean()
        found.see_signs(scores)
        found.add(r1=penalty)
        return penalty * (self.settings.gamma / 2 * _R1_EVERY)

    def _fakes(
        self, places: Sequence[int], where: tuple[int, int], part: int, found: _Found
    ) -> tuple[Tensor, Tensor]:
        """(images, their latents ws `[n l c]`) of these places of the batch."""
        sources = [self._source(*where, place, 0) for place in places]
        draws = Draws(sources, self._device)
        z, other = draws.normal(2, self.generator.architecture.z_dim).unbind(dim=1)
        w = self.generator.mapping(z)
        found.see_w(w)
        layers = self.generator.architecture.num_ws
        ws = w[:, None].expand(-1, layers, -1)
        chance, cut = torch.rand(2, generator=self._source(*where, part, 4)).tolist()
        if chance < self.settings.style_mixing:
            first = 1 + int(cut * (layers - 1))
            mixed = self.generator.mapping(other)[:, None].expand(-1, layers - first, -1)
            ws = torch.cat([ws[:, :first], mixed], dim=1)
        images: Tensor = self.generator.synthesis(ws, noise=sources)
        return images, ws

    def _scores(
        self, images: Tensor, places: Sequence[int], where: tuple[int, int], *, is_real: bool
    ) -> Tensor:
        """Of images after augmentation."""
        sources = [self._source(*where, place, 2 if is_real else 1) for place in places]
        transforms = augment.PIPES[self.settings.augment]
        images = augment.augment(images, transforms, self.probability, Draws(sources, self._device))
        scores: Tensor = self.discriminator(images)
        return scores

    def _reals(self, places: Sequence[int], iteration: int) -> Tensor:
        """Pictures in -1..1."""
        seen = iteration * self.batch
        pictures = self._read([self._order[seen + place] for place in places])
        return pictures.to(self._device).float() / 127.5 - 1

    def _source(self, *where: int) -> torch.Generator:
        return source(self.settings.seed, *where)

    def _normal(self, places: Sequence[int], iteration: int) -> Tensor:
        sources = [self._source(iteration, 0, place, 0) for place in places]
        return Draws(sources, self._device).normal(self.generator.architecture.z_dim)

    @staticmethod
    def _paint(generator: StyleGAN2, w: Tensor) -> Tensor:
        ws = w[:, None].expand(-1, generator.architecture.num_ws, -1)
        images: Tensor = generator.synthesis(ws)
        return images

    # ---- what is kept between steps ------------------------------------------------------------

    def _keep(self, phase: Phase, found: _Found, parts: int) -> None:
        """Running means, of the whole batch."""
        with torch.no_grad():
            w = found.w / parts
            average = self.generator.mapping.w_avg
            average.copy_(w.lerp(average, _W_AVERAGE_DECAY))
            if phase == "path":
                mean = found.mean("path_length", parts)
                self.path_mean = self.path_mean + losses.PATH_DECAY * (mean - self.path_mean)
            self._signs = self._signs + found.signs

    def _average(self, seen: int) -> None:
        """The generator that people use follows the one that is trained."""
        images = self.settings.ema_kimg * 1000
        if self.settings.ema_rampup is not None:
            images = min(images, seen * self.settings.ema_rampup)
        decay = 0.5 ** (self.batch / max(images, 1e-8))
        with torch.no_grad():
            pairs = zip(self.averaged.parameters(), self.generator.parameters(), strict=True)
            for mean, now in pairs:
                mean.copy_(now.lerp(mean, decay))
            buffers = zip(self.averaged.buffers(), self.generator.buffers(), strict=True)
            for kept, buffer in buffers:
                kept.copy_(buffer)

    def _adjust(self, numbers: dict[str, float]) -> None:
        """More augmentation where the discriminator knows too many real pictures, else less."""
        total, count = self._signs.tolist()
        if not count:
            return
        known = total / count
        by = self.batch * _ADA_EVERY / (self.settings.ada_kimg * 1000)
        by = math.copysign(by, known - self.settings.ada_target)
        self.probability = min(1.0, max(0.0, self.probability + by))
        numbers["known_share"] = known
        self._signs = torch.zeros_like(self._signs)


class _Found:
    """What a phase has seen, added up over its parts, then over the workers."""

    def __init__(self, device: torch.device, w_dim: int) -> None:
        self.w = torch.zeros(w_dim, device=device)
        self.signs = torch.zeros(2, device=device)
        self._sums: dict[str, Tensor] = {name: torch.zeros((), device=device) for name in _NAMES}
        self._seen = torch.zeros(len(_NAMES), device=device)

    @property
    def tensors(self) -> list[Tensor]:
        """All of them, to be added up."""
        return [self.w, self.signs, *self._sums.values(), self._seen]

    def see_w(self, w: Tensor) -> None:
        """Latents `[n c]` of a part."""
        self.w += w.detach().mean(dim=0)

    def see_signs(self, scores: Tensor) -> None:
        """Scores `[n]` of real pictures."""
        signs = scores.detach().sign()
        self.signs += torch.stack([signs.sum(), torch.full_like(signs[0], len(signs))])

    def add(self, **means: Tensor) -> None:
        """Means over a part."""
        for name, mean in means.items():
            self._sums[name] += mean.detach()
            self._seen[_NAMES.index(name)] += 1

    def mean(self, name: str, parts: int) -> Tensor:
        """Over the batch."""
        return self._sums[name] / parts

    def numbers(self, parts: int) -> dict[str, float]:
        """The means of what was seen."""
        seen = self._seen.tolist()
        means = [(name, self.mean(name, parts)) for name, n in zip(_NAMES, seen, strict=True) if n]
        return {name: mean.item() for name, mean in means}


_NAMES = (
    "loss_generator",
    "path_length",
    "path_penalty",
    "loss_discriminator",
    "score_real",
    "score_fake",
    "sign_real",
    "sign_fake",
    "r1",
)


def _adam(network: nn.Module, learning_rate: float, every: int) -> torch.optim.Adam:
    """For a network whose regularisation is due every so many steps (0: never), as if it were part
    of all of them (Karras et al. 2020, appendix B).
    """
    share = every / (every + 1) if every else 1.0
    return torch.optim.Adam(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=learning_rate * share,
        betas=(0.0, 0.99**share),
        eps=1e-8,
    )


class _without_gradients:  # noqa: N801 - reads as a statement
    """No gradients for a network's weights meanwhile."""

    def __init__(self, network: nn.Module) -> None:
        self._parameters = [p for p in network.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for parameter in self._parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for parameter in self._parameters:
            parameter.requires_grad_(True)
