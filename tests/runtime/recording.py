"""A worker that keeps what it tells, for tests without a loop."""

from __future__ import annotations

import time

from insetgan_batch.config import RunConfig
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import Storage
from insetgan_batch.records import Lease, Outcome
from insetgan_batch.runtime.worker import Worker
from insetgan_batch.runtime.worker_loop import Ending

_LIMIT_S = 280.0  # a busy machine is no mistake; beyond it pytest ends the test


class RecordingWorker(Worker):
    """`ended` has every ending in its order."""

    def __init__(
        self,
        config: RunConfig,
        out_uri: str,
        run_id: str = "run",
        *,
        patience_s: float = 0.0,
        storage: Storage | None = None,
    ) -> None:
        self.ended: list[Ending] = []
        super().__init__(config, out_uri, run_id, self.ended.append, patience_s=patience_s)
        if storage is not None:
            self._store = RunStore(storage)

    def serve_all(self, leases: list[Lease]) -> dict[str, Outcome]:
        """Rounds until everything has ended: outcomes by item. Raises what the worker told."""
        limit_s = time.monotonic() + _LIMIT_S
        self.serve(leases)
        # An item is no longer inside a moment before its ending is told.
        while self.inside or not {lease.attempt for lease in leases} <= self._told():
            self.serve([])
            self.raise_error()
            assert time.monotonic() < limit_s, self.inside
        return {ending.item_id: ending for ending in self.ended if isinstance(ending, Outcome)}

    def _told(self) -> set[str]:
        """The attempts whose ending it has told."""
        return {ending.attempt for ending in self.ended if isinstance(ending, Outcome)}

    def raise_error(self) -> None:
        """Raise the first error that it told, if there is one."""
        for ending in self.ended:
            if isinstance(ending, BaseException):
                raise ending
