"""Progress as a terminal, a log and a machine see it."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import pytest
from rich.console import Console

from insetgan_batch.records import Outcome, Status
from insetgan_batch.runtime.progress import Progress, WorkerLine
from insetgan_batch.screen import JsonLines, LiveScreen, PlainLines, clock, open_screen

WORKERS = [WorkerLine("0-1", 4, 3, 17, 52.5), WorkerLine("1-2", 0, 0, 0, 0.0)]
BAD = Outcome("bad", "1-7", Status.QUARANTINED, reason="no_face", detail="nothing like a face")
GOOD = Outcome("good", "1-8", Status.COMMITTED)


def progress(**changes: Any) -> Progress:
    start = Progress(
        items=100,
        committed=40,
        quarantined=2,
        inside=3,
        workers_ready=1,
        workers=2,
        steps=12000,
        items_per_minute=8.25,
        seconds_left=421.0,
        give_or_take_s=33.0,
        last=[],
        lines=WORKERS,
    )
    return dataclasses.replace(start, **changes)


def shown(*updates: Progress, width: int = 100) -> str:
    """The last picture of a terminal."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    screen = LiveScreen(console)
    for update in updates:
        screen.update(update)
    with console.capture() as captured:
        console.print(screen._render())
    return captured.get()


def test_the_screen_says_how_far_it_is_and_how_sure() -> None:
    text = shown(progress())
    assert "42/100" in text
    assert "58 left" in text
    assert "8.2 items/min" in text
    assert "about 7:01 to go (± 0:33)" in text


def test_each_worker_has_a_line() -> None:
    lines = [line.split() for line in shown(progress()).splitlines()]
    assert ["0-1", "3", "of", "4", "17", "52.5"] in lines
    assert ["1-2", "loading", "0", "0.0"] in lines


def test_of_many_workers_some_are_shown_and_the_others_counted() -> None:
    many = [WorkerLine(f"w{n}", 1, 1, 0, 1.0) for n in range(20)]
    text = shown(progress(lines=many))
    assert "w7" in text
    assert "w8" not in text
    assert "and 12 more" in text


def test_the_last_three_failures_stay_in_sight() -> None:
    failures = [dataclasses.replace(BAD, item_id=f"bad-{n}") for n in range(5)]
    text = shown(progress(last=failures[:4]), progress(last=[failures[4], GOOD]), progress())
    seen = [n for n in range(5) if f"bad-{n}: no_face: nothing like a face" in text]
    assert seen == [2, 3, 4]
    assert "good" not in text


def test_a_long_failure_takes_one_line_of_the_screen() -> None:
    long = dataclasses.replace(BAD, detail="x" * 500)
    height = len(shown(progress(last=[BAD]), width=60).splitlines())
    assert len(shown(progress(last=[long]), width=60).splitlines()) == height


def test_what_a_failure_says_is_not_taken_for_markup() -> None:
    assert "[red]a[/]" in shown(progress(last=[dataclasses.replace(BAD, detail="[red]a[/]")]))


def test_a_log_has_a_line_when_something_ended_and_every_failure() -> None:
    stream = io.StringIO()
    with PlainLines(stream) as screen:
        screen.say("loading")
        screen.update(progress())
        screen.update(progress())  # no news, and no time has passed
        screen.update(progress(last=[BAD]))
    loading, first, failure, second = stream.getvalue().splitlines()
    assert loading == "loading ..."
    assert first.startswith("42/100 items, 58 left")
    assert failure == "bad: no_face: nothing like a face"
    assert second == first


def test_a_machine_reads_an_object_a_line() -> None:
    stream = io.StringIO()
    with JsonLines(stream) as screen:
        screen.say("loading")
        screen.update(progress(last=[GOOD, BAD]))
        screen.update(progress())  # within the same second
        screen.update(progress(committed=98, last=[GOOD]))
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in told] == [
        *("step", "item", "item", "progress"),
        *("item", "progress"),
    ]
    assert told[2]["status"] == "quarantined"
    assert (told[3]["committed"], told[3]["give_or_take_s"]) == (40, 33.0)
    assert told[3]["lines"][0]["worker_id"] == "0-1"
    assert told[-1]["committed"] == 98


def test_people_without_a_terminal_get_plain_lines_and_machines_json() -> None:
    assert isinstance(open_screen(), PlainLines)
    assert isinstance(open_screen(as_json=True), JsonLines)


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.4, "0:07"), (59.6, "1:00"), (750, "12:30"), (18750, "5:12:30")]
)
def test_a_time_reads_as_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
