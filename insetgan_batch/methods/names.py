"""A method by its name: the one module of `methods/` that the rest of the program imports."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from insetgan_batch.errors import ConfigError
from insetgan_batch.method import Card, Method, Page
from insetgan_batch.text import one_line

DEFAULT = "insetgan"
_MODULES = {DEFAULT: "insetgan_batch.methods.insetgan.method"}


def find(name: str) -> Method:
    """A method of the package by its name, any other by the full name of its module.

    It is imported when it is asked for; raises `ConfigError` where that fails.
    """
    try:
        return cast(Method, importlib.import_module(_MODULES.get(name, name)))
    except (ImportError, TypeError, ValueError, AttributeError) as err:
        raise ConfigError(
            f"`method` is {name!r}, which cannot be imported ({one_line(err)}); expected one of"
            f" {', '.join(_MODULES)}, or the full name of a module"
        ) from err


def of_run(run: Mapping[str, Any]) -> Method:
    """The method of a run.json; the earliest ones name none."""
    return find(run.get("configuration", {}).get("method", DEFAULT))


def old_runs() -> Any:
    """What reads records of versions that knew the default method alone."""
    return importlib.import_module("insetgan_batch.methods.insetgan.old_runs")


def page_of_run(run: Mapping[str, Any]) -> Page:
    """What the method of a run.json has to say on its page; the defaults if that is nothing."""
    method = of_run(run)
    return method.page(run) if hasattr(method, "page") else Page()


def card_of_run(run: Mapping[str, Any]) -> Card:
    """What the method of a run.json has to say on the card of a dataset."""
    method = of_run(run)
    return method.card(run) if hasattr(method, "card") else Card()
