"""A worker that keeps what it tells, for tests without a mailbox."""

from __future__ import annotations

import time

from insetgan_batch.config import RunConfig
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import Storage
from insetgan_batch.records import Lease, Outcome
from insetgan_batch.runtime.mailbox import Ending
from insetgan_batch.runtime.worker import Worker

_LIMIT_S = 60.0


class Hired(Worker):
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
        while self.inside and time.monotonic() < limit_s:
            self.serve([])
            self.raise_error()
        self.raise_error()
        assert not self.inside
        return {ending.item_id: ending for ending in self.ended if isinstance(ending, Outcome)}

    def raise_error(self) -> None:
        """Raise the first error that it told, if there is one."""
        for ending in self.ended:
            if isinstance(ending, BaseException):
                raise ending
