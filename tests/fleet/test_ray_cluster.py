"""`ray_cluster.yaml` and `cluster/local.yaml`: Ray's own schema, then each trap of its defaults."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from insetgan_batch import __version__

ROOT = Path(__file__).parents[2]
FILES = ("ray_cluster.yaml", "cluster/local.yaml")
RAY_VERSION = next(
    name.partition("==")[2].removesuffix(".*")
    for name in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    if name.startswith("ray[")
)


def as_written(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return fields


def with_defaults(name: str) -> dict[str, Any]:
    """What `ray up` works with."""
    filled: dict[str, Any] = prepare_config(copy.deepcopy(as_written(name)))
    return filled


@pytest.fixture(scope="module")
def aws() -> dict[str, Any]:
    return with_defaults("ray_cluster.yaml")


def commands(cluster: dict[str, Any]) -> str:
    """Everything that is executed on any machine, each on a line of its own."""
    return "\n".join(
        command for key, value in cluster.items() if key.endswith("_commands") for command in value
    )


@pytest.mark.parametrize("name", FILES)
def test_ray_takes_the_file_with_its_defaults_filled_in(name: str) -> None:
    validate_config(with_defaults(name))


def test_ray_refuses_a_misspelt_field() -> None:
    """So the test above is one."""
    wrong = with_defaults("ray_cluster.yaml") | {"idle_timeout_minute": 1}
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        validate_config(wrong)


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_installed_behind_our_back(name: str) -> None:
    """Ray's default for AWS installs a nightly build where it finds no `ray`."""
    filled = with_defaults(name)
    assert "pip install" not in commands(filled)
    assert "wheel" not in commands(filled)


@pytest.mark.parametrize("name", FILES)
def test_the_dashboard_is_on_loopback(name: str) -> None:
    head = "\n".join(with_defaults(name)["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in commands(with_defaults(name))


@pytest.mark.parametrize("name", FILES)
def test_every_machine_wants_the_token_and_gets_it(name: str) -> None:
    filled = with_defaults(name)
    everywhere = "--env RAY_AUTH_MODE=token" in filled["docker"].get("run_options", [])
    for part in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [command for command in filled[part] if "ray start" in command]
        assert len(starts) == 1
        assert everywhere or "RAY_AUTH_MODE=token ray start" in starts[0]
    assert filled["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


@pytest.mark.parametrize("name", FILES)
def test_no_work_is_placed_on_the_head(name: str) -> None:
    head = "\n".join(with_defaults(name)["head_start_ray_commands"])
    assert "--num-cpus=0" in head
    if name == "ray_cluster.yaml":
        assert as_written(name)["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_machines_that_are_given_back_are_gone(aws: dict[str, Any]) -> None:
    assert aws["provider"]["cache_stopped_nodes"] is False
    assert aws["idle_timeout_minutes"] <= 15
    for kind in aws["available_node_types"].values():
        (disk,) = kind["node_config"]["BlockDeviceMappings"]
        assert disk["Ebs"]["DeleteOnTermination"] is True


def test_spot_is_preferred_and_on_demand_is_the_reserve(aws: dict[str, Any]) -> None:
    kinds = aws["available_node_types"]
    spot, reserve = kinds["gpu_spot"], kinds["gpu_on_demand"]
    assert spot["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in reserve["node_config"]
    assert "InstanceMarketOptions" not in kinds[aws["head_node_type"]]["node_config"]
    assert spot["priority"] > reserve["priority"]
    assert spot["resources"] == reserve["resources"] == {"CPU": 4, "GPU": 1}


def test_there_is_a_limit_to_what_it_may_cost(aws: dict[str, Any]) -> None:
    kinds = aws["available_node_types"]
    assert aws["max_workers"] <= 16
    assert all(kind["max_workers"] <= aws["max_workers"] for kind in kinds.values())
    assert all(kind["min_workers"] == 0 for kind in kinds.values())


def test_every_machine_names_its_image_and_its_role(aws: dict[str, Any]) -> None:
    """Ray's default image is Ubuntu 18.04, and its default gives workers no role: no S3."""
    for kind in aws["available_node_types"].values():
        assert kind["node_config"]["ImageId"].startswith("ami-")
        assert ":instance-profile/" in kind["node_config"]["IamInstanceProfile"]["Arn"]


def test_keys_of_a_role_need_a_token_and_disks_are_encrypted(aws: dict[str, Any]) -> None:
    for kind in aws["available_node_types"].values():
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        # One hop: the containers share the machine's network.
        assert kind["node_config"]["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
        assert all(d["Ebs"]["Encrypted"] for d in kind["node_config"]["BlockDeviceMappings"])


def test_machines_are_in_a_security_group_of_their_own(aws: dict[str, Any]) -> None:
    """Ray makes one that everybody may reach by SSH, unless every kind of machine names one."""
    kinds = aws["available_node_types"].values()
    (group,) = {tuple(kind["node_config"]["SecurityGroupIds"]) for kind in kinds}
    assert re.fullmatch(r"sg-[0-9a-f]{17}", *group)


def test_a_spot_notice_drains_the_worker(aws: dict[str, Any]) -> None:
    stop, start, watch = aws["worker_start_ray_commands"]
    assert stop == "ray stop"
    assert "ray start" in start
    assert watch.startswith("nohup insetgan-batch spot-watch ")
    assert watch.endswith("&")


def test_runs_go_to_s3_unless_told_otherwise(aws: dict[str, Any]) -> None:
    (out,) = [o for o in aws["docker"]["run_options"] if "INSETGAN_BATCH_OUT" in o]
    assert out.startswith("--env INSETGAN_BATCH_OUT=s3://")


def test_the_image_has_the_version_of_the_package_and_of_ray(aws: dict[str, Any]) -> None:
    assert aws["docker"]["image"].endswith(f":{__version__}")
    assert f"\nray=={RAY_VERSION}." in (ROOT / "cluster/requirements.txt").read_text()


def test_local_machines_are_all_asked_for() -> None:
    written = as_written("cluster/local.yaml")
    workers = len(written["provider"]["worker_ips"])
    assert written["min_workers"] == written["max_workers"] == workers
