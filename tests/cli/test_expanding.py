"""Options that belong together come to a command as one value."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from typer.testing import CliRunner

from insetgan_batch.cli.expanding import expanded


@dataclasses.dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option(min=1, help="In pixels.")] = 3
    name: str | None = None


NO_SIZE = Size()
app = typer.Typer()


@app.command()
@expanded
def show(first: str, size: Size = NO_SIZE, last: bool = False) -> None:
    """Show them."""
    print(first, size, last)


def said(*arguments: str) -> str:
    return CliRunner().invoke(app, arguments).output


def test_each_field_is_an_option_with_its_default() -> None:
    assert said("a") == "a Size(width=3, name=None) False\n"
    assert said("a", "--name", "x", "--last", "--width", "7") == "a Size(width=7, name='x') True\n"


def test_what_a_field_says_of_itself_holds() -> None:
    assert "Show them." in said("--help")
    assert "In pixels." in said("--help")
    assert "greater than or equal to 1" in said("a", "--width", "0")
