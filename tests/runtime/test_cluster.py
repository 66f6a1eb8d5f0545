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
