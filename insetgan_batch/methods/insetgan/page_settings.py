"""How the page explains the settings of a run of InsetGAN: its recipe, and what LPIPS compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from insetgan_batch.method import SettingsTable
from insetgan_batch.methods.insetgan.page_losses import DISTANCES, FAMILIES
from insetgan_batch.text import last_part


def paragraphs(configuration: Mapping[str, Any]) -> list[str]:
    """What the configuration of a run.json says in sentences."""
    recipe, trunk = configuration.get("recipe"), configuration.get("perceptual")
    found = [] if recipe is None else [_recipe(recipe)]
    if trunk not in (None, "random"):
        found.append(f"Perceptual features: {last_part(trunk.partition('#')[0])}.")
    elif configuration.get("insets"):
        found.append(
            "Perceptual features: random weights, good enough for the demo and for nothing else."
        )
    return found


def weights(recipe: Mapping[str, Any]) -> SettingsTable:
    """A row for each loss, a column for each generator; empty where it has no such loss."""
    players = _players(recipe)
    rows = []
    for family in (*FAMILIES, "delta"):
        for distance, title in (DISTANCES | {"": ""}).items():
            found = [_weight(player.get(family), distance) for player in players.values()]
            if any(found):
                shown = [f"{weight:g}" if weight else "" for weight in found]
                rows.append([f"{family} {title}".strip(), *shown])
    return SettingsTable(["weight of", *players], rows)


def _recipe(recipe: Mapping[str, Any]) -> str:
    players = _players(recipe)
    order = recipe.get("order") or list(players)
    stages = [str(stage["rounds"]) for stage in recipe.get("stages", [])]
    phases = [
        f"the {name} for {players[name]['steps']} steps (Adam, step size"
        f" {players[name]['learning_rate']})"
        for name in order
        if players[name]["steps"]
    ]
    if not phases or not (recipe["max_rounds"] or stages):
        course = "Nothing is optimised."
    elif stages:
        course = (
            f"A round moves {', then '.join(phases)}. There are {len(stages)} stages of"
            f" {', '.join(stages)} rounds, and each may change some of this."
        )
    else:
        course = (
            f"A round moves {', then '.join(phases)}. An item takes {recipe['min_rounds']} to"
            f" {recipe['max_rounds']} rounds and stops when a round improves the score by less than"
            f" {100 * recipe['tolerance']:g}%."
        )
    each = ", or as far as each item says" if recipe.get("adaptive_psi") else ""
    return f"Recipe {recipe['name']}. {course} Seeds are truncated with psi {recipe['psi']}{each}."


def _players(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of all generators by name, the canvas first."""
    return {"canvas": recipe["canvas"], **recipe["insets"]}


def _weight(setting: Any, distance: str) -> float:
    """A family's weight for a distance ("" for those that have none), 0 if there is none."""
    if isinstance(setting, dict):
        return float(setting.get(distance, 0))
    return float(setting or 0) if not distance else 0.0
