"""The alerts, the configuration for Prometheus, and the files around Grafana."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.prometheus import dashboard
from tests.prometheus.server import promtool

CLUSTER = dashboard.ROOT
ALERTS = CLUSTER / "prometheus" / "alerts.yml"
WANTED = {
    "InsetganNoCommit",
    "InsetganQuarantine",
    "InsetganStorageErrors",
    "InsetganActorCrashLoop",
    "InsetganSlotsIdle",
}


def test_the_configuration_and_the_rules_are_valid() -> None:
    done = promtool("check", "config", str(CLUSTER / "prometheus" / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    done = promtool("check", "rules", str(ALERTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_fire_when_they_should_and_not_else() -> None:
    done = promtool("test", "rules", str(ALERTS.with_name("alerts_test.yml")))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    assert {rule["alert"] for rule in group["rules"]} == WANTED
    assert all({"summary", "action"} == set(rule["annotations"]) for rule in group["rules"])
    tests = yaml.safe_load(ALERTS.with_name("alerts_test.yml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == WANTED


def test_what_compose_mounts_is_there_and_grafana_finds_the_dashboard() -> None:
    path = CLUSTER / "observability" / "compose.yaml"
    services: dict[str, Any] = yaml.safe_load(path.read_text())["services"]
    mounts = [mount.split(":") for service in services.values() for mount in service["volumes"]]
    folders = {inside: path.parent / outside for outside, inside, *_ in mounts if "/" in outside}
    assert all(folder.is_dir() for folder in folders.values())
    provider = _provisioning("dashboards/insetgan.yaml")["providers"][0]
    assert (folders[provider["options"]["path"]] / "insetgan.json").exists()
    (source,) = _provisioning("datasources/prometheus.yaml")["datasources"]
    (listens,) = (c for c in services["prometheus"]["command"] if "listen-address" in c)
    assert source["url"] == f"http://{listens.partition('=')[2]}"


def _provisioning(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(
        Path(CLUSTER / "grafana" / "provisioning" / name).read_text()
    )
    return found


def test_the_dashboard_is_whole() -> None:
    assert dashboard.faults(dashboard.read()) == []
