"""An engine of two functions, for methods whose networks are run once for an item: all that is
inside is predicted together, and leaves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Generic, NoReturn, TypeVar

from insetgan_batch.data.results import Result
from insetgan_batch.errors import CheckpointError, ItemError
from insetgan_batch.records import Item, Lease

PREDICT = "predict"
"""The one phase."""

_P = TypeVar("_P")


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """What one item leaves. images, measures, facts, given: as in `results.Result`."""

    images: dict[str, Any]
    measures: dict[str, float | None] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    given: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True)
class Predicted:
    """An item that has left: with its prediction, or why there is none."""

    key: str
    prediction: Prediction | None
    error: ItemError | None


class FeedForward(Generic[_P]):
    """See `method.Engine`. It works a batch ahead, so that a device does not wait for files."""

    def __init__(
        self,
        prepare: Callable[[Item, Callable[[str], bytes]], _P],
        predict: Callable[[Sequence[_P]], Sequence[Prediction | ItemError]],
        capacity: int,
    ) -> None:
        """predict: one answer for each item, in their order."""
        self.prepare, self._predict = prepare, predict
        self.capacity = self.ahead = capacity
        self._inside: dict[str, _P] = {}
        self._given_up: dict[str, ItemError] = {}

    @property
    def keys(self) -> list[str]:
        """The items inside."""
        return list(self._inside)

    def admit(self, key: str, prepared: _P) -> None:
        """Into the next batch."""
        self._inside[key] = prepared

    def run_round(
        self, on_step: Callable[[], None], on_phase: Callable[[str], None]
    ) -> list[Predicted]:
        """Everything once, and everything leaves."""
        keys = [key for key in self._inside if key not in self._given_up]
        found = self._predict([self._inside[key] for key in keys]) if keys else []
        on_step()
        on_phase(PREDICT)
        ended = [Predicted(key, None, error) for key, error in self._given_up.items()]
        for key, one in zip(keys, found, strict=True):
            if isinstance(one, ItemError):
                ended.append(Predicted(key, None, one))
            else:
                ended.append(Predicted(key, one, None))
        self._inside.clear()
        self._given_up.clear()
        return ended

    def give_up(self, key: str, error: ItemError) -> None:
        """It leaves with the next round, without a prediction."""
        self._given_up[key] = error

    def state(self, key: str) -> None:
        """None: an item begins anew."""

    def save(self, prepared: _P, state: Any, seconds: float) -> NoReturn:
        """Nothing is ever saved."""
        raise CheckpointError("an item that is done in one step has no state")

    def resume(self, key: str, prepared: _P, data: bytes) -> NoReturn:
        """As another method's state."""
        raise CheckpointError("found a state, but an item that is done in one step has none")

    def result(self, finished: Predicted, lease: Lease, seconds: float) -> Result:
        """What was predicted."""
        found = finished.prediction
        assert found is not None
        return Result(
            item=lease.item,
            attempt=lease.attempt,
            images=found.images,
            provenance={},
            seconds=seconds,
            measures=found.measures,
            facts=found.facts,
            given=found.given,
        )

    def trial(self, items: int) -> None:
        """Nothing to measure: `slots: auto` takes the most."""
