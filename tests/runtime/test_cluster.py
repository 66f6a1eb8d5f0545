from __future__ import annotations

import os
import subprocess
import sys

import pytest

from insetgan_batch.errors import ConfigError, InsetGanError
from insetgan_batch.runtime import cluster

# Two machines with an address each on one, which is what the check counts.
_TWO_MACHINES = """
import sys
import ray
from insetgan_batch.errors import ConfigError
from insetgan_batch.runtime import cluster

ray.init("local", num_cpus=1, include_dashboard=False)
real = ray.nodes()
ray.nodes = lambda: [{"Alive": alive, "NodeManagerAddress": a} for a, alive in MACHINES]
for uri, shared in (("file:///d", False), ("file:///d", True), ("s3://b/p", False)):
    try:
        cluster.check_output(uri, shared)
        print("fine", uri, shared)
    except ConfigError as err:
        print("refused", uri, shared, err)
"""


def check(machines: list[tuple[str, bool]]) -> list[str]:
    code = _TWO_MACHINES.replace("MACHINES", repr(machines))
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600
    )
    return done.stdout.splitlines()


@pytest.mark.ray
def test_a_directory_is_no_output_for_several_machines_unless_they_share_it() -> None:
    refused, *others = check([("10.0.0.1", True), ("10.0.0.2", True)])
    assert refused.startswith("refused file:///d False the output file:///d is a directory")
    assert others == ["fine file:///d True", "fine s3://b/p False"]


@pytest.mark.ray
def test_machines_that_are_gone_and_nodes_of_one_machine_do_not_count() -> None:
    lines = check([("10.0.0.1", True), ("10.0.0.1", True), ("10.0.0.2", False)])
    assert lines[0] == "fine file:///d False"


_ROOMS = """
import ray
from insetgan_batch.config import RunConfig
from insetgan_batch.runtime import cluster

for resources in RESOURCES:
    ray.cluster_resources = lambda: resources
    room = cluster.room(RunConfig(slots=4, max_actors=MOST, gpus_per_actor=SHARE), 100)
    print(room.num_gpus, room.num_cpus, room.actors)
"""


def rooms(
    resources: list[dict[str, float]], most: int | None = None, share: float = 1.0
) -> list[str]:
    code = _ROOMS.replace("RESOURCES", repr(resources)).replace("MOST", repr(most))
    code = code.replace("SHARE", repr(share))
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600
    ).stdout.splitlines()


def test_one_actor_takes_a_gpu_or_a_core_and_none_a_head_that_does_not_work() -> None:
    found = rooms([{"GPU": 8, "CPU": 64}, {"CPU": 6}, {"CPU": 0}, {"GPU": 80, "CPU": 64}])
    assert found == ["1.0 1 8", "0 1 6", "1.0 1 0", "1.0 1 25"]  # 100 items fill 25 times 4 slots
    assert rooms([{"GPU": 8, "CPU": 64}], most=3) == ["1.0 1 3"]


def test_actors_share_a_gpu_and_none_is_split_over_two() -> None:
    assert rooms([{"GPU": 2, "CPU": 64}], share=0.25) == ["0.25 1 8"]
    assert rooms([{"GPU": 2, "CPU": 64}], share=0.4) == ["0.4 1 4"]
    assert rooms([{"CPU": 6}], share=0.25) == ["0 1 6"]


_SHARED = """
import ray
from insetgan_batch.config import RunConfig
from insetgan_batch.runtime import cluster

ray.init("local", num_cpus=4, num_gpus=2, include_dashboard=False)
room = cluster.room(RunConfig(slots=1, gpus_per_actor=0.5), 100)

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
