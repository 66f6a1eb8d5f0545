"""Reads the dashboard as Grafana does: its panels, and its expressions with variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2] / "cluster"
PATH = ROOT / "grafana" / "dashboards" / "insetgan.json"
_BUILT_IN = {"__rate_interval": "10s"}
_COLUMNS = 24


def read() -> dict[str, Any]:
    """The dashboard."""
    found: dict[str, Any] = json.loads(PATH.read_text())
    return found


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """All but the headings of rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: dict[str, Any], values: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(title, PromQL) of every target; values: of the dashboard's variables."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], _filled(target["expr"], values | _BUILT_IN)


def _filled(expression: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values[match[1]], expression)


def faults(dashboard: dict[str, Any]) -> list[str]:
    """What Grafana would not show as it is meant: ids, places, targets, titles, data sources."""
    ids = [panel["id"] for panel in dashboard["panels"]]
    found = [f"id {id} is there twice" for id in set(ids) if ids.count(id) > 1]
    taken: dict[tuple[int, int], int] = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        if place["x"] < 0 or place["x"] + place["w"] > _COLUMNS:
            found.append(f"panel {panel['id']} is beside the grid")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if (x, y) in taken:
                    found.append(f"panels {panel['id']} and {taken[x, y]} overlap")
                taken[x, y] = panel["id"]
    for panel in panels(dashboard):
        if not panel["title"] or not panel["description"]:
            found.append(f"panel {panel['id']} does not say what it shows")
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        if any(source["uid"] != "${DS}" for source in sources):
            found.append(f"panel {panel['id']} asks a data source of its own")
    return found
