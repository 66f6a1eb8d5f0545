from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Two machines with an address each on one, which is what the check counts.
_TWO_MACHINES = """
import sys
import ray
from insetgan_batch.errors import ConfigError
from insetgan_batch.runtime import cluster

ray.init(num_cpus=1, include_dashboard=False)
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
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
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
    room = cluster.room(RunConfig(slots=4, max_actors=MOST), 100)
    print(room.num_gpus, room.num_cpus, room.actors)
"""


def rooms(resources: list[dict[str, float]], most: int | None = None) -> list[str]:
    code = _ROOMS.replace("RESOURCES", repr(resources)).replace("MOST", repr(most))
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    ).stdout.splitlines()


def test_one_actor_takes_a_gpu_or_a_core_and_none_a_head_that_does_not_work() -> None:
    found = rooms([{"GPU": 8, "CPU": 64}, {"CPU": 6}, {"CPU": 0}, {"GPU": 80, "CPU": 64}])
    assert found == ["1 1 8", "0 1 6", "1 1 0", "1 1 25"]  # 100 items fill 25 times 4 slots
    assert rooms([{"GPU": 8, "CPU": 64}], most=3) == ["1 1 3"]
