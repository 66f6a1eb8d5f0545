"""A method by its name: the one module of `methods/` that the rest of the program imports."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from insetgan_batch.method import Method, Page

INSETGAN = "insetgan"
_MODULES = {INSETGAN: "insetgan_batch.methods.insetgan.method"}


def find(name: str) -> Method:
    """A method of the package by its name, any other by the full name of its module.

    It is imported when it is asked for; raises `ImportError` where there is none.
    """
    return cast(Method, importlib.import_module(_MODULES.get(name, name)))


def of_run(run: Mapping[str, Any]) -> Method:
    """The method of a run.json; the earliest ones name none."""
    return find(run.get("configuration", {}).get("method", INSETGAN))


def page_of_run(run: Mapping[str, Any]) -> Page:
    """What the method of a run.json has to say on its page; the defaults if that is nothing."""
    method = of_run(run)
    return method.page(run) if hasattr(method, "page") else Page()
