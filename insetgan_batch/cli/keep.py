"""To mend and to tidy what a run has stored: `retry`, `clean`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from insetgan_batch.cli.shared import Hashed, Where, open_store, print_lines
from insetgan_batch.errors import ConfigError
from insetgan_batch.screen import open_screen

if TYPE_CHECKING:
    from insetgan_batch.data.commits import RunStore
    from insetgan_batch.data.damage import Checked

app = typer.Typer()
_AGES_S = {"h": 3600.0, "d": 24 * 3600.0}


@app.command()
def retry(
    uri: Where,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="All items in quarantine.")
    ] = False,
    failed: Annotated[
        str | None, typer.Option(metavar="REASON", help="Those of one reason, like too_long.")
    ] = None,
    damaged: Annotated[
        bool,
        typer.Option(
            "--damaged",
            help="Items of which a file or a record is not what was written; reads every file.",
        ),
    ] = False,
) -> None:
    """Let items be tried again; the run's command, given again, tries them."""
    if quarantined + damaged + (failed is not None) != 1:
        raise ConfigError("give one of --quarantined, --failed REASON and --damaged")
    from insetgan_batch.data import cleaning
    from insetgan_batch.methods import names
    from insetgan_batch.runtime.failures import REASONS

    store = open_store(uri)
    reasons = REASONS | names.of_run(store.read_run()).REASONS.keys()
    if failed is not None and failed not in reasons:
        raise ConfigError(f"--failed {failed!r}: expected one of {', '.join(sorted(reasons))}")
    if damaged:
        _retry_damaged(store)
        return
    print(f"{cleaning.retry(store, failed)} items will be tried again by the run's own command")


def _retry_damaged(store: RunStore) -> None:
    """Move what is damaged out of the way, and say what that was."""
    from insetgan_batch.data import damage
    from insetgan_batch.data.commits import VOIDED

    with open_screen() as screen:
        hashed = Hashed(screen.say)
        seen: list[str] = []

        def hear(checked: Checked) -> None:
            hashed.count(checked)
            seen.extend(checked.differences)

        mended = damage.mend(store, hear)
    print_lines(seen)
    others = f", and {mended.others} other records" if mended.others else ""
    print(
        f"{mended.commits} damaged items{others} moved to {store.storage.uri}/{VOIDED};"
        " the run's own command does these items again"
    )


@app.command()
def clean(
    uri: Where,
    older_than: Annotated[
        str,
        typer.Option(
            metavar="AGE", help="Of what no commit names yet, at least: 12h, 3d; 1h or more."
        ),
    ] = "3d",
) -> None:
    """Remove attempts that were beaten, what dead processes left long ago, and used states."""
    from insetgan_batch.data import cleaning

    age_s = _parse_age(older_than)
    store = open_store(uri)
    store.read_run()
    cleaned = cleaning.clean(store, age_s)
    print(
        f"removed {cleaned.files} files of {cleaned.attempts} attempts, {cleaned.checkpoints} saved"
        f" states and {cleaned.leftovers} leftovers of processes that died"
    )


def _parse_age(text: str) -> float:
    """Seconds of an age like 12h or 3d; raises `ConfigError`."""
    found = re.fullmatch(r"([0-9]{1,5})([hd])", text)
    if not found or int(found[1]) == 0:
        raise ConfigError(
            f"--older-than {text!r}: expected hours or days, like 12h or 3d, and at least 1h: a"
            " result may be on its way to its commit"
        )
    return int(found[1]) * _AGES_S[found[2]]
