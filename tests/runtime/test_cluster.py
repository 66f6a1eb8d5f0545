from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import ray

from insetgan_batch.config import Machine
from insetgan_batch.errors import ConfigError, InsetGanError
from insetgan_batch.runtime import cluster


def nodes(*machines: tuple[str, bool]) -> Callable[[], list[dict[str, Any]]]:
    """Stands for `ray.nodes`: addresses of machines, and whether they are alive."""
    return lambda: [{"NodeManagerAddress": address, "Alive": alive} for address, alive in machines]


def test_a_directory_is_no_output_for_several_machines_unless_they_share_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "nodes", nodes(("10.0.0.1", True), ("10.0.0.2", True)))
    with pytest.raises(ConfigError, match="the output file:///d is a directory"):
        cluster.check_output("file:///d", False)
    cluster.check_output("file:///d", True)
    cluster.check_output("s3://b/p", False)


def test_machines_that_are_gone_and_nodes_of_one_machine_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, gone = ("10.0.0.1", True), ("10.0.0.2", False)
    monkeypatch.setattr(ray, "nodes", nodes(here, here, gone))
    cluster.check_output("file:///d", False)


@pytest.mark.parametrize(
    ("resources", "most", "share", "expected"),
    [
        ({"GPU": 8, "CPU": 64}, None, 1.0, (1.0, 1, 8)),
        ({"CPU": 6}, None, 1.0, (0, 1, 6)),
        ({"CPU": 0}, None, 1.0, (1.0, 1, 0)),  # a head that does not work
        ({"GPU": 80, "CPU": 64}, None, 1.0, (1.0, 1, 25)),  # 100 items fill 25 times 4 slots
        ({"GPU": 8, "CPU": 64}, 3, 1.0, (1.0, 1, 3)),
        ({"GPU": 2, "CPU": 64}, None, 0.25, (0.25, 1, 8)),
        ({"GPU": 2, "CPU": 64}, None, 0.4, (0.4, 1, 4)),  # none is split over two
        ({"CPU": 6}, None, 0.25, (0, 1, 6)),
    ],
)
def test_one_actor_takes_a_gpu_or_a_share_of_one_or_else_a_core(
    monkeypatch: pytest.MonkeyPatch,
    resources: dict[str, float],
    most: int | None,
    share: float,
    expected: tuple[float, float, int],
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
    room = cluster.capacity(Machine(slots=4, max_actors=most, gpus_per_actor=share), 100)
    assert (room.num_gpus, room.num_cpus, room.actors) == expected


_SHARED = """
import ray
from insetgan_batch.config import Machine
from insetgan_batch.runtime import cluster

ray.init("local", num_cpus=4, num_gpus=2, include_dashboard=False)
room = cluster.capacity(Machine(slots=1, gpus_per_actor=0.5), 100)

@ray.remote
class Actor:
    def gpus(self):
        return ray.get_gpu_ids()

options = {"num_gpus": room.num_gpus, "num_cpus": room.num_cpus}
actors = [Actor.options(**options).remote() for _ in range(room.actors)]
print(sorted(str(gpu) for ids in ray.get([a.gpus.remote() for a in actors]) for gpu in ids))
"""


@pytest.mark.ray
def test_ray_places_two_halves_on_each_gpu() -> None:
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-c", _SHARED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stdout.splitlines() == ["['0', '0', '1', '1']"], done.stderr


def test_a_ray_that_starts_slowly_is_tried_again_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts = iter([Exception("The current node timed out during startup")] * 3)

    def init(**_: object) -> None:
        if (error := next(starts, None)) is not None:
            raise error

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(InsetGanError, match="did not start on this machine, 3 times: The current"):
        cluster.connect()
    cluster.connect()


def test_what_else_ray_raises_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def init(**_: object) -> None:
        calls.append(1)
        raise ValueError("no such option")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(ConfigError, match="Ray does not start on this machine: no such option"):
        cluster.connect()
    assert len(calls) == 1
