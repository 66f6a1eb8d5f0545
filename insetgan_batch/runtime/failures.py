"""Which error belongs to which class, what becomes of the items inside, and how often we try.

class     errors                                        items inside           tries end after
ROW       every ItemError                               quarantined at once    the first
WORKER    out of memory, CUDA fault, crash, all others  suspects, tried alone  max_crashes(_alone)
KILLED    a worker that ended without a word: kill -9,  suspects, tried alone  max_kills_alone, in
          SIGTERM, Ray's memory monitor                                        a row; infra retries
INFRA     StorageError, preempted or lost machine       tried again            max_infra_retries
SYSTEMIC  configuration, manifest, weights, packages,   untouched              the first: run stops
          a store that refuses

What one item's own entry or exit raises is made an ItemError (`item_error`) by the worker, unless
the device is at fault (`is_device_fault`). An unknown exception anywhere else is WORKER, also when
one item alone seems to have raised it: we cannot say that it would not hit the neighbours. An
good row is only tried again, a poison item is quarantined.

A signal from outside is the machine's fault and not the row's. But Ray 2.60 says the same, word for
word, of kill -9, of the kernel's memory killer, of a segmentation fault, of abort() and of
os._exit(), so how a worker ended is no witness against a row. That it ends so for this row and for
nothing else is: the row has to be alone in each of several workers, one after the other, and any
other worker that is killed in between starts the count anew. Why suspects at all: if it was the
row, it shall take no neighbours with it.

Why by name: torch and Ray are heavy and this module is not, so their errors are told by class name,
package and message.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import logging
from collections.abc import Iterator

from insetgan_batch.errors import (
    CheckpointError,
    ConfigError,
    InsetGanError,
    ItemError,
    ManifestError,
    MissingPackageError,
    RefusedError,
    StorageError,
)
from insetgan_batch.records import Lease
from insetgan_batch.text import one_line

_SHOWN = 500
_log = logging.getLogger(__name__)
# Codes that only the ledger gives: why it put an item back, or gave it up.
RETRIES_EXHAUSTED = "retries_exhausted"
CRASHED_ITS_WORKER = "crashed_its_worker"
LEASE_EXPIRED = "lease_expired"
WORKER_LOST = "worker_lost"
WORKER_CRASHED = "worker_crashed"
WORKER_KILLED = "worker_killed"
# What a worker says of an item that it gives back: its machine is taken away.
PREEMPTED = "preempted"
# What the driver says of a row of the manifest that is no item.
BAD_ROW = "bad_row"

# Every reason there is beside those of the method: a closed set, since it becomes a metric's label
# and a report's column.
REASONS = frozenset(
    {
        "bad_input",
        "too_long",
        "item_error",
        "out_of_memory",
        "cuda_error",
        "worker_error",
        "storage",
        "machine_lost",
        "systemic",
        RETRIES_EXHAUSTED,
        CRASHED_ITS_WORKER,
        LEASE_EXPIRED,
        WORKER_LOST,
        WORKER_CRASHED,
        WORKER_KILLED,
        PREEMPTED,
        BAD_ROW,
    }
)

_SYSTEMIC_ERRORS = (
    ConfigError,
    ManifestError,
    CheckpointError,
    MissingPackageError,
    RefusedError,
)

# Ray's words for a machine that went away. Not ActorDiedError as such: a crash of our own code
# raises it too, and only its `preempted` tells the two apart.
_LOST_MACHINE_NAMES = frozenset({"ActorUnavailableError", "NodeDiedError", "ObjectLostError"})
_LOST_MACHINE_TEXTS = ("its node has died", "node was terminated", "its owner has died")

# Ray's words for a worker that went away without saying why, or that somebody told to go. "exits
# with an exit code" alone is not among them: that is `sys.exit` in our own process.
_KILLED_TEXTS = (
    "worker unexpectedly exits with a connection error",
    "the process receives a sigterm",
    "it was killed by `ray.kill`",
)

# cuBLAS and cuDNN call a full device a failed allocation; the CPU allocator "can't allocate".
_OUT_OF_MEMORY_TEXTS = ("out of memory", "status_alloc_failed", "can't allocate memory")
_CUDA_TEXTS = ("cuda error", "cuda driver error", "cudnn error", "cudnn_status", "cublas_status")


class FailureClass(enum.StrEnum):
    """What a failure says about the items: see the table above."""

    ROW = "row"
    WORKER = "worker"
    KILLED = "killed"
    INFRA = "infra"
    SYSTEMIC = "systemic"


@dataclasses.dataclass(frozen=True, slots=True)
class Caps:
    """How often things are tried. Raises ConfigError when the numbers contradict each other."""

    # Failed stores, expired leases and killed workers of one item that are forgiven; the next one
    # quarantines it.
    max_infra_retries: int = 10
    # Crashes of an item alone in its worker that make it a poison item: one may be bad luck.
    max_crashes_alone: int = 2
    # Workers killed without a word, one after the other, with this suspect alone in each of them,
    # that make it a poison item: so many are no bad luck.
    max_kills_alone: int = 5
    # Crashes of an item with co-residents after which it is only tried alone.
    max_crashes: int = 1
    # Crashes of a worker, with no answer in between, after which it is not started again.
    max_worker_crashes: int = 8
    # Seconds an actor may hold an item without a sign of life.
    lease_s: float = 900.0

    def __post_init__(self) -> None:
        for name in ("max_infra_retries", "max_crashes_alone", "max_kills_alone", "max_crashes"):
            least = 0 if name == "max_infra_retries" else 1
            if getattr(self, name) < least:
                raise ConfigError(f"caps: {name} is {getattr(self, name)}, must be {least} or more")
        if not self.lease_s > 0:
            raise ConfigError(f"caps: lease_s is {self.lease_s}, must be above 0 seconds")
        # Otherwise one poison item takes good workers out of service before it is quarantined.
        crashes_per_item = self.max_crashes + max(self.max_crashes_alone, self.max_kills_alone)
        if self.max_worker_crashes <= crashes_per_item:
            raise ConfigError(
                f"caps: max_worker_crashes is {self.max_worker_crashes}, must be above max_crashes"
                f" and the larger of max_crashes_alone and max_kills_alone: {crashes_per_item}"
            )


def classify(error: BaseException) -> FailureClass:
    """The class of an error; WORKER for one that nobody knows."""
    if isinstance(error, ItemError):
        return FailureClass.ROW
    if isinstance(error, _SYSTEMIC_ERRORS):
        return FailureClass.SYSTEMIC
    if isinstance(error, StorageError) or _is_lost_machine(error):
        return FailureClass.INFRA
    return FailureClass.KILLED if _is_killed(error) else FailureClass.WORKER


def reason_code(error: BaseException) -> str:
    """The code of an error, one of REASONS; `out_of_memory` makes a worker halve its slots."""
    if isinstance(error, ItemError):
        return error.reason
    if isinstance(error, _SYSTEMIC_ERRORS):
        return "systemic"
    if isinstance(error, StorageError):
        return "storage"
    if _is_lost_machine(error):
        return "machine_lost"
    if _is_out_of_memory(error):
        return "out_of_memory"
    if _is_killed(error):
        return WORKER_KILLED
    return "cuda_error" if _is_cuda_fault(error) else "worker_error"


def is_device_fault(error: BaseException) -> bool:
    """Out of memory, or a fault of the GPU: it says nothing about the item that was at hand."""
    return _is_out_of_memory(error) or _is_cuda_fault(error)


@contextlib.contextmanager
def as_item_error(lease: Lease) -> Iterator[None]:
    """Whatever one item's entry or exit raises is that item's affair, and none of its neighbours'.

    But for what we name ourselves, and what is wrong with the device or its memory.
    """
    try:
        yield
    except InsetGanError:
        raise
    except Exception as err:
        if is_device_fault(err):
            raise
        _log.warning("item %s: %s", lease.item.item_id, err, exc_info=err, extra=log_names(lease))
        raise ItemError(f"{type(err).__name__}: {one_line(err, _SHOWN)}") from err


def log_names(lease: Lease) -> dict[str, str]:
    """What a line of the log is about."""
    return {"item": lease.item.item_id, "attempt": lease.attempt}


def _is_lost_machine(error: BaseException) -> bool:
    if isinstance(error, ConnectionError):  # what the driver calls a worker that says nothing
        return True
    names = _class_names(error, "ray")
    is_dead_actor = "RayActorError" in names
    is_taken = getattr(error, "preempted", False) or _says(error, _LOST_MACHINE_TEXTS)
    return bool(names & _LOST_MACHINE_NAMES) or (is_dead_actor and is_taken)


def _is_killed(error: BaseException) -> bool:
    """By a signal from outside, as far as Ray can tell: of a crash it says the same."""
    names = _class_names(error, "ray")
    is_dead_actor = "RayActorError" in names and _says(error, _KILLED_TEXTS)
    return is_dead_actor or "OutOfMemoryError" in names  # Ray's: its memory monitor has chosen it


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if "OutOfMemoryError" in _class_names(error, "torch") | _class_names(error, "ray"):
        return True
    return isinstance(error, RuntimeError) and _says(error, _OUT_OF_MEMORY_TEXTS)


def _is_cuda_fault(error: BaseException) -> bool:
    if "AcceleratorError" in _class_names(error, "torch"):
        return True
    return isinstance(error, RuntimeError) and _says(error, _CUDA_TEXTS)


def _class_names(error: BaseException, package: str) -> set[str]:
    """Names of the error's class and its bases that come from `package`."""
    bases = type(error).__mro__
    return {base.__name__ for base in bases if base.__module__.partition(".")[0] == package}


def _says(error: BaseException, texts: tuple[str, ...]) -> bool:
    message = str(error).lower()
    return any(text in message for text in texts)
