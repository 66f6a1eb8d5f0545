"""One run under one schedule: store, cluster and driver are started, things go wrong, one judges.

    python -m tests.chaos.harness 17 DIRECTORY        prints what came of seed 17 as one JSON line

A schedule is played in a process of its own (`play_apart`), so that nothing of it stays behind.
Whenever the driver ends without having finished, the same command follows, as a user would do it.
In the end all is healed, and the same command has to finish; where something was damaged, once more
after `retry --damaged`, and then with everything done.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from insetgan_batch.data import cleaning, damage
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from tests.chaos import schedule
from tests.chaos.cluster import RAY_SETTINGS, Machines
from tests.chaos.driving import Driver, Inputs, Life, write_inputs, write_negative_inputs
from tests.chaos.fault_proxy import FaultProxy
from tests.chaos.processes import end_everything_below, ending_all, run_apart
from tests.chaos.schedule import Fault
from tests.chaos.store import BUCKET, aws_settings, environment, s3_behind_proxy
from tests.chaos.vandal import Cleaner, Vandal
from tests.chaos.verify import Verdict, verify

OUT = f"s3://{BUCKET}/chaos/run"
_TICK_S = 0.1
# With nothing committed for so long although a driver is running, the run is stuck; on a busy
# machine a driver and its actors take a minute to start.
_PATIENCE_S = 180.0
_MOST_LIVES = 15
_LONGEST_PLAY_S = 840.0


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What came of a schedule. struck: the faults that found the run under way; stuck: how often a
    run stood still for three minutes; handed_over: states of items that were kept for another
    machine; requests: by what became of them at the proxy. damaged: what was, in the store; mended:
    items that `retry --damaged` found; cleaned: how often, and files that went.
    """

    seed: int
    method: str
    planned: list[str]
    struck: list[str]
    lives: list[Life]
    stuck: int
    handed_over: int
    verdict: Verdict
    requests: dict[str, int]
    damaged: list[str]
    mended: int
    cleaned: tuple[int, int]
    seconds: float

    @property
    def finished(self) -> bool:
        """Whether the command came to its end."""
        return self.lives[-1].code in (0, 1)


class Play:
    """One schedule being played."""

    def __init__(self, seed: int, faults: list[Fault], directory: Path, proxy: FaultProxy) -> None:
        self._seed, self._faults, self._proxy = seed, faults, proxy
        self._random = random.Random(seed)
        self._method = schedule.method(seed)
        write = write_negative_inputs if self._method == "negative" else write_inputs
        self._inputs: Inputs = write(directory)
        self._machines = Machines()
        self._driver = Driver(self._inputs, OUT, directory)
        self._vandal = Vandal(proxy.store, OUT.partition(f"{BUCKET}/")[2], self._random)
        self._cleaner = Cleaner(OUT)
        self._mended = 0
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._struck: list[str] = []
        self._stuck = 0

    def run(self) -> Result:
        """Play it to the end."""
        started_s = time.monotonic()
        for fault in self._faults:
            if self._wait_for(fault):
                self._strike(fault)
                self._struck.append(fault.kind)
        self._finish()
        self._mend()
        end_everything_below()
        self._proxy.settle(10)
        verdict = verify(open_storage(OUT), self._inputs.item_ids, self._proxy.accepted)
        return Result(
            seed=self._seed,
            method=self._method,
            planned=[fault.kind for fault in self._faults],
            struck=self._struck,
            lives=self._driver.lives,
            stuck=self._stuck,
            handed_over=self._accepted("/checkpoints/"),
            verdict=verdict,
            requests=dict(self._proxy.counts),
            damaged=self._vandal.damaged,
            mended=self._mended,
            cleaned=(self._cleaner.times, self._cleaner.files),
            seconds=round(time.monotonic() - started_s, 1),
        )

    # ---- the course of time --------------------------------------------------------------------

    def _wait_for(self, fault: Fault) -> bool:
        """Until the fault's moment; False if the run was over before, or stands still."""
        if fault.after is not None and not self._wait_until(lambda: self._is_at(fault.after or 0)):
            return False
        ends_s = time.monotonic() + fault.wait_s
        return self._wait_until(lambda: time.monotonic() >= ends_s)

    def _wait_until(self, condition: Callable[[], bool]) -> bool:
        """False if the run is over, or nothing was committed for a long time."""
        committed, since_s = self._committed(), time.monotonic()
        while not condition():
            if not self._tick():
                return False
            if self._committed() > committed:
                committed, since_s = self._committed(), time.monotonic()
            if time.monotonic() - since_s > _PATIENCE_S:
                return False
            time.sleep(_TICK_S)
        return not self._driver.has_finished

    def _tick(self) -> bool:
        """What is due happens, and the driver is kept going; False once it has finished."""
        now_s = time.monotonic()
        due = [action for at_s, action in self._due if at_s <= now_s]
        self._due = [entry for entry in self._due if entry[0] > now_s]
        for action in due:
            action()
        if not self._driver.is_running and not self._driver.has_finished:
            if len(self._driver.lives) >= _MOST_LIVES:
                return False
            self._driver.start(self._machines.address)
        return not self._driver.has_finished

    def _is_at(self, share: float) -> bool:
        """Whether work is under way, and so much of it is done."""
        is_far = self._committed() >= share * len(self._inputs.item_ids)
        return is_far and bool(self._machines.actors())

    def _committed(self) -> int:
        return self._accepted("/commits/")

    def _accepted(self, kind: str) -> int:
        return sum(kind in path for path in list(self._proxy.accepted))

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + delay_s, action))

    def _finish(self) -> None:
        """Mend everything, and let the same command come to its end; twice if it gets stuck."""
        for _, action in sorted(self._due, key=lambda entry: entry[0]):
            action()
        self._due = []
        self._proxy.heal()
        for _ in range(2):
            if self._wait_until(lambda: False) or self._driver.has_finished:
                return
            self._stuck += 1
            self._driver.kill()

    def _mend(self) -> None:
        """What a user does where something was damaged, and a last `clean`."""
        self._cleaner.settle()
        store = RunStore(open_storage(OUT))
        if self._vandal.damaged:
            self._mended = damage.mend(store).commits
            self._driver.start(self._machines.address)
            self._finish()
        cleaning.clean(store)

    # ---- the faults ----------------------------------------------------------------------------

    def _strike(self, fault: Fault) -> None:
        if fault.kind in schedule.STORAGE_FAULTS:
            self._proxy.fail(fault.kind, share=fault.share, for_s=fault.lasts_s)
        elif fault.kind == "actor":
            self._kill_an_actor()
        elif fault.kind == "driver":
            self._driver.kill()
        elif fault.kind == "sigterm":
            self._driver.stop()
        elif fault.kind == "clean":
            self._cleaner.start(fault.lasts_s)
        elif fault.kind == "damage":
            self._vandal.strike()
        elif fault.kind == "head":
            self._lose_head()
        else:
            self._take_a_worker_away(fault)

    def _kill_an_actor(self) -> None:
        if actors := self._machines.actors():
            self._random.choice(actors).kill()

    def _lose_head(self) -> None:
        self._due = []
        self._machines.lose_head()
        self._driver.kill()
        self._machines.start()

    def _take_a_worker_away(self, fault: Fault) -> None:
        if not (workers := self._machines.workers):
            return
        worker = self._random.choice(workers)
        if fault.kind == "node":
            self._machines.kill_worker(worker)
            self._later(fault.lasts_s, self._machines.add_worker)
            return

        def take() -> None:
            if worker in self._machines.workers:
                self._machines.kill_worker(worker)
            self._machines.add_worker()

        self._machines.drain_worker(worker, fault.lasts_s)
        self._later(fault.lasts_s, take)


def play_apart(seed: int, timeout_s: float = _LONGEST_PLAY_S) -> dict[str, Any]:
    """Play a schedule in a process of its own; returns its `Result` as plain values.

    Raises `RuntimeError` with what the process said if no result came.
    """
    # botocore alone would sit out most faults: what is tried here is what stands behind it.
    settings = RAY_SETTINGS | {"AWS_MAX_ATTEMPTS": "2"}
    module = "tests.chaos.harness"
    return run_apart("-m", module, str(seed), timeout_s=timeout_s, settings=settings)


def main(seed: int, directory: Path) -> None:
    """Play a schedule in this process, and end everything that it started."""
    with (
        ending_all(_LONGEST_PLAY_S),
        s3_behind_proxy(seed=seed) as proxy,
        environment(aws_settings(proxy.endpoint)),
    ):
        result = Play(seed, schedule.make(seed), directory, proxy).run()
    sys.stdout.write(json.dumps(dataclasses.asdict(result)) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
