"""A method by its name: the one module of `methods/` that the rest of the program imports."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from insetgan_batch.method import Method

INSETGAN = "insetgan"
_MODULES = {INSETGAN: "insetgan_batch.methods.insetgan.method"}


def find(name: str) -> Method:
    """A method, imported when it is asked for; raises `KeyError` where there is none."""
    return cast(Method, importlib.import_module(_MODULES[name]))


def of_run(run: Mapping[str, Any]) -> Method:
    """The method of a run.json; the earliest ones name none."""
    return find(run.get("configuration", {}).get("method", INSETGAN))
