"""A run of 240 items and a few failures on a disk, its page, and Chromium to open it with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import LocalStorage
from insetgan_batch.report import page
from tests.report import runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ITEMS = 240


def seam_after(n: int) -> float:
    """The seam of item n: in another order than their names, without ties."""
    return 1 + (7 * n % ITEMS) / 10


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Not for the whole session: playwright leaves an event loop running in this thread
    while it is open, and `asyncio.run` of other tests would fail under it."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium fonts-dejavu-core")
    reason = "the page is tested with playwright: pip install -e '.[test]'"
    api = pytest.importorskip("playwright.sync_api", reason=reason)
    with api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        opened = playwright.chromium.launch(executable_path=found, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run is. Failures: two without a face, one that diverged with a hostile trace."""
    path = tmp_path_factory.mktemp("run")
    store = RunStore(LocalStorage(path))
    store.open_run(runs.new_run().read_run())
    table = runs.losses()
    for n in range(ITEMS):
        known = {"face.border.l1": n / 100} if n % 2 else {"canvas.body.l1": 0.5}
        item = runs.montage(n, n)
        runs.commit(store, item, table, seam_after=seam_after(n), losses=known, film=int(n == 0))
    for n in (300, 301):
        runs.fail(store, runs.montage(n, n))
    trace = "DivergedError: <img src=x onerror=alert(1)>\n  at step 7"
    runs.fail(store, runs.montage(302, 302), reason="diverged", detail=trace)
    page.write(store)
    return path


@pytest.fixture
def opened(browser: Browser, run: Path) -> Iterator[Page]:
    """The page at 1280 pixels, opened from the disk; any complaint of the browser is a failure."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(250_000)  # a busy machine is no mistake
    shown = context.new_page()
    complaints: list[str] = []
    shown.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    shown.goto((run / page.KEY).as_uri())
    shown.wait_for_selector("#items-region tbody tr[aria-rowindex]")
    yield shown
    context.close()
    assert complaints == []
