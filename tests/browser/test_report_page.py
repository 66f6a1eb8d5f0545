"""The page does in Chromium what it says."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import LocalStorage
from insetgan_batch.report import page
from tests.browser.conftest import ITEMS, seam_after
from tests.report import runs
from tests.report.negatives import fill

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a directory, and says nothing about it."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def rows(opened: Page, region: str = "items") -> list[list[str]]:
    """The cells of the rows that exist now."""
    script = """(table) => [...table.querySelectorAll("tbody tr[aria-rowindex]")].map(
        (row) => [...row.cells].map((cell) => cell.innerText))"""
    found = opened.locator(f"#{region}-region table").evaluate(script)
    return [[re.split(r"\n", cell)[0] for cell in row] for row in found]


def heading(opened: Page, number: int) -> Locator:
    """A heading of the table of items, from 0: item, seam before, after, ratio, score, ..."""
    return opened.locator("#items-region thead tr").last.locator("th").nth(number)


def wait_for_pixels(image: Locator) -> None:
    """Wait until an image is there. `wait_for_function` evaluates text, which the page forbids."""
    image.evaluate("(image) => image.decode()")


def status(opened: Page, text: str, region: str = "items") -> None:
    """Wait until the line above the table says so."""
    opened.locator(f"#{region}-status", has_text=text).wait_for()


def test_only_the_rows_in_sight_exist_and_the_table_says_how_many_there_are(opened: Page) -> None:
    assert 10 < len(rows(opened)) < 40
    table = opened.get_by_role("table", name="Items")
    assert table.get_attribute("aria-rowcount") == str(ITEMS + 2)
    assert opened.get_by_role("columnheader", name="before").count() == 1
    assert opened.get_by_role("rowheader").first.inner_text().startswith("body0-face0")


def test_names_are_sorted_as_people_count(opened: Page) -> None:
    assert [row[0] for row in rows(opened)][:3] == ["body0-face0", "body1-face1", "body2-face2"]


def test_a_heading_sorts_and_sorts_back_and_says_so(opened: Page) -> None:
    expected = sorted(range(ITEMS), key=seam_after)
    heading(opened, 2).get_by_role("button").click()
    assert heading(opened, 2).get_attribute("aria-sort") == "ascending"
    assert [row[0] for row in rows(opened)][:5] == [f"body{n}-face{n}" for n in expected[:5]]
    heading(opened, 2).get_by_role("button").click()
    assert heading(opened, 2).get_attribute("aria-sort") == "descending"
    assert heading(opened, 0).get_attribute("aria-sort") is None
    assert [row[0] for row in rows(opened)][:5] == [f"body{n}-face{n}" for n in expected[:-6:-1]]
    status(opened, "seam after, descending")


def test_items_without_a_loss_come_last_both_ways(opened: Page) -> None:
    button = opened.get_by_role("columnheader").get_by_role("button", name="L1").first
    for first in ("body1-face1", f"body{ITEMS - 1}-face{ITEMS - 1}"):
        button.click()
        assert rows(opened)[0][0] == first
        opened.locator("#items-region").evaluate("(region) => { region.scrollTop = 1e9; }")
        while rows(opened)[-1][9] != "–":
            opened.wait_for_timeout(20)


def test_a_range_of_a_loss_filters_and_clearing_it_brings_all_back(opened: Page) -> None:
    opened.get_by_label("border loss L1: at least").fill("2.0")
    opened.get_by_label("border loss L1: at most").fill("2.1")
    opened.keyboard.press("Enter")
    status(opened, f"5 of {ITEMS} items")
    assert [row[0] for row in rows(opened)] == [f"body{n}-face{n}" for n in range(201, 210, 2)]
    opened.get_by_role("button", name="clear all filters").click()
    status(opened, f"{ITEMS} of {ITEMS} items")


def test_a_drag_over_a_histogram_chooses_its_range(opened: Page) -> None:
    figure = opened.get_by_role("group", name="seam after: distribution")
    box = figure.locator("svg").bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    opened.mouse.move(box["x"] + box["width"] / 2, y)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] + 30, y, steps=5)
    opened.mouse.up()
    low = float(figure.get_by_label("at least").input_value())
    assert figure.get_by_label("at most").input_value() == ""
    assert 12 < low < 14
    status(opened, f"{sum(seam_after(n) >= low for n in range(ITEMS))} of {ITEMS} items")
    bars = figure.locator(".passing").get_attribute("d") or ""
    assert 0 < bars.count("M") < (figure.locator(".total").get_attribute("d") or "").count("M")


def test_all_words_of_a_search_must_be_there(opened: Page) -> None:
    opened.get_by_label("search").first.fill("body17 SEED 17")
    status(opened, f"1 of {ITEMS} items")
    opened.get_by_label("search").first.fill("nobody")
    status(opened, f"0 of {ITEMS} items")
    assert rows(opened) == []


def test_scrolling_shows_the_last_item_and_keys_walk_through_the_table(opened: Page) -> None:
    opened.locator("#items-region tbody a").first.focus()
    for key, expected in [
        ("ArrowDown", 1),
        ("End", ITEMS - 1),
        ("ArrowUp", ITEMS - 2),
        ("Home", 0),
    ]:
        opened.keyboard.press(key)
        name = f"body{expected}-face{expected}"
        assert (opened.evaluate("document.activeElement.hash")) == f"#item-{name}"
        assert opened.locator(":focus").is_visible()
    assert opened.locator("#items-region tbody a[tabindex='0']").count() == 1


def test_an_item_opens_by_keyboard_and_gives_the_focus_back(opened: Page, run: Path) -> None:
    opened.locator("#items-region tbody a").first.focus()
    opened.keyboard.press("Enter")
    view = opened.get_by_role("dialog", name="body0-face0")
    view.get_by_text("edges of the face, 4×").wait_for()
    assert view.locator(".charts .chart").count() == 3
    assert view.locator("canvas").count() == 2 + 2 * 4
    assert view.get_by_text("2 rounds, round 2 kept").is_visible()
    for link in view.locator(".files a").all():
        href = link.get_attribute("href") or ""
        assert (run / "report" / href).resolve().is_file(), href
    for image in view.get_by_role("img").and_(opened.locator("img")).all():
        image.scroll_into_view_if_needed()
        wait_for_pixels(image)
    opened.keyboard.press("ArrowRight")
    opened.get_by_role("dialog", name="body1-face1").wait_for()
    opened.keyboard.press("Escape")
    opened.locator("#items-region tbody a[href='#item-body1-face1']:focus").wait_for()
    assert "#" not in opened.url


def test_the_seam_of_the_result_is_drawn_from_its_pixels(opened: Page) -> None:
    opened.locator("#items-region tbody a").first.click()
    canvases = opened.locator(".sides canvas")
    canvases.nth(7).wait_for()
    sizes = canvases.evaluate_all("(all) => all.map((c) => [c.width, c.height])")
    assert sizes == [[64, 64]] * 8  # 16 pixels of edge, 8 on each side, 4x


def test_an_address_opens_its_item_and_its_film_is_there(browser: Browser, run: Path) -> None:
    shown = browser.new_page()
    shown.set_default_timeout(250_000)
    shown.goto((run / page.KEY).as_uri() + "#item-body0-face0")
    view = shown.get_by_role("dialog", name="body0-face0")
    view.locator("summary", has_text="film").click()
    film = view.get_by_alt_text("step by step")
    wait_for_pixels(film)
    shown.close()


def test_the_page_works_from_a_web_server_too(browser: Browser, run: Path) -> None:
    handler = functools.partial(Quiet, directory=str(run))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shown = browser.new_page()
        shown.set_default_timeout(250_000)
        shown.goto(f"http://127.0.0.1:{server.server_port}/{page.KEY}#item-body0-face0")
        shown.get_by_text("edges of the face, 4×").wait_for()
        shown.close()
        server.shutdown()


def test_failures_are_filtered_by_reason_and_show_their_whole_trace(opened: Page) -> None:
    assert len(rows(opened, "failures")) == 3
    opened.get_by_label("reason").select_option(label="no face found (2)")
    status(opened, "2 of 3 failed items", "failures")
    opened.get_by_label("reason").select_option(label="a loss is no longer a number (1)")
    status(opened, "1 of 3 failed items", "failures")
    opened.locator("#failures-region tbody a").click()
    trace = opened.get_by_role("dialog").locator("pre")
    assert trace.inner_text() == "DivergedError: <img src=x onerror=alert(1)>\n  at step 7"


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_no_wider_than_its_window(
    browser: Browser, run: Path, width: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    context.set_default_timeout(250_000)
    shown = context.new_page()
    shown.goto((run / page.KEY).as_uri() + "#item-body0-face0")
    shown.get_by_text("edges of the face, 4×").wait_for()
    for element in ("html", "#view-panel"):
        sizes = shown.locator(element).evaluate("(e) => [e.scrollWidth, e.clientWidth]")
        assert sizes[0] <= sizes[1], element
    context.close()


def test_a_view_whose_file_is_gone_says_so(browser: Browser, run: Path, tmp_path: Path) -> None:
    for name in ("index.html", "page.js", "data.js"):
        (tmp_path / name).write_bytes((run / "report" / name).read_bytes())
    shown = browser.new_page()
    shown.set_default_timeout(250_000)
    shown.goto((tmp_path / "index.html").as_uri() + "#item-body0-face0")
    shown.get_by_text("could not be loaded: it must lie beside the page").wait_for()
    shown.close()


def test_an_item_may_be_called_as_what_every_object_has(browser: Browser, tmp_path: Path) -> None:
    store = RunStore(LocalStorage(tmp_path))
    store.open_run(runs.new_run().read_run())
    item = dataclasses.replace(runs.montage(0, 0), item_id="__proto__")
    runs.commit(store, item, runs.losses())
    page.write(store)
    shown = browser.new_page()
    shown.goto((tmp_path / page.KEY).as_uri() + "#item-__proto__")
    shown.get_by_role("dialog", name="__proto__").get_by_text("facts").wait_for()
    shown.close()


def test_a_method_that_says_nothing_of_pages_has_views_too(
    browser: Browser, tmp_path: Path
) -> None:
    store = RunStore(LocalStorage(tmp_path))
    fill(store, 10, 200)
    page.write(store)
    shown = browser.new_page()
    complaints: list[str] = []
    shown.on("console", lambda message: complaints.append(message.text))
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.goto((tmp_path / page.KEY).as_uri() + "#item-grey10")
    view = shown.get_by_role("dialog", name="grey10")
    for caption in ("result", "picture"):
        wait_for_pixels(view.get_by_alt_text(f"pictures: {caption}"))
    assert view.get_by_text("50 mm").is_visible()
    assert view.locator(".chart, .switch, canvas").count() == 0
    shown.close()
    assert complaints == []
