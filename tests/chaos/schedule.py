"""What goes wrong when: three to eight faults, drawn from a seed.

actor    kill -9 of one actor's process
node     a worker machine is gone at once, with all its processes; a new one comes
drain    a worker machine is drained with notice, is gone at the deadline; a new one comes
driver   kill -9 of the driver; the same command follows
sigterm  SIGTERM to the driver, which hands over what is in work; the same command follows
clean    `clean` beside the run, again and again
damage   a commit, or a file that one names, is emptied, cut or removed in the store
head     the machine with head and driver is gone, its workers know it only seconds later; the same
         command on a new cluster follows
others   the store fails in one way (`fault_proxy.py`) for a share of the requests and some seconds
"""

from __future__ import annotations

import dataclasses
import random
from typing import Literal, get_args

from tests.chaos.fault_proxy import StorageFault

ProcessFault = Literal["actor", "node", "drain", "driver", "sigterm", "clean", "damage", "head"]
Kind = ProcessFault | StorageFault

PROCESS_FAULTS: tuple[ProcessFault, ...] = get_args(ProcessFault)
STORAGE_FAULTS: tuple[StorageFault, ...] = get_args(StorageFault)
KINDS: tuple[Kind, ...] = PROCESS_FAULTS + STORAGE_FAULTS
# A new cluster takes seconds and ends all other faults, so it is drawn less often.
_WEIGHTS = {
    "actor": 4,
    "node": 3,
    "drain": 3,
    "driver": 4,
    "sigterm": 3,
    "clean": 3,
    "damage": 3,
    "head": 1,
}
_STORAGE_WEIGHT = 2
_FEWEST, _MOST = 3, 8


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One fault. after: the share of the items, 0..1, that must be committed before it strikes; in
    0 it strikes as soon as an actor is there, None means right after the one before. wait_s: and
    then so many seconds more. lasts_s: how long the store fails or is cleaned, the notice of a
    drain, or until a machine is replaced. share: of the requests, 0..1, that fail.
    """

    kind: Kind
    after: float | None
    wait_s: float
    lasts_s: float
    share: float = 1.0


def method(seed: int) -> str:
    """Whose run is played: every second one is of negatives."""
    return ("insetgan", "negative")[seed % 2]


def make(seed: int) -> list[Fault]:
    """The schedule of a seed."""
    draw = random.Random(seed)
    number = draw.randint(_FEWEST, _MOST)
    weights = [_WEIGHTS.get(kind, _STORAGE_WEIGHT) for kind in KINDS]
    kinds = draw.choices(KINDS, weights, k=number)
    # In the order of time. Most strike work in progress, some the recovery from the one before.
    shares = sorted(draw.uniform(0.0, 0.85) for _ in kinds)
    return [
        Fault(
            kind=kind,
            after=None if n and draw.random() < 0.35 else round(shares[n], 2),
            wait_s=round(draw.uniform(0.0, 2.0), 1),
            lasts_s=round(draw.uniform(2.0, 6.0) * (2 if kind == "drain" else 1), 1),
            share=draw.choice([0.3, 0.6, 1.0]) if kind in STORAGE_FAULTS else 1.0,
        )
        for n, kind in enumerate(kinds)
    ]
