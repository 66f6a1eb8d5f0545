"""A method by its name: the one module of `methods/` that the rest of the program imports."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

INSETGAN = "insetgan"
_MODULES = {INSETGAN: "insetgan_batch.methods.insetgan.method"}


def find(name: str) -> ModuleType:
    """The module of a method, imported when it is asked for; raises `KeyError` for no method."""
    return importlib.import_module(_MODULES[name])


def of_run(run: Mapping[str, Any]) -> ModuleType:
    """The module of the method of a run.json; the earliest ones name none."""
    return find(run.get("configuration", {}).get("method", INSETGAN))
