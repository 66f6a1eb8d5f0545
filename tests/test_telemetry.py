"""What is counted, told event by event; and the endpoint."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from ray.exceptions import RayActorError

from insetgan_batch import metrics_server, telemetry
from insetgan_batch.config import parse
from insetgan_batch.data.memory import MemoryStorage
from insetgan_batch.errors import ConfigError, NotFoundError, RefusedError, StorageError
from insetgan_batch.records import Event, HeartbeatReply, Outcome, Status, WorkerStats
from insetgan_batch.runtime import driver
from insetgan_batch.runtime.failures import REASONS, reason_code
from insetgan_batch.runtime.progress import Progress
from insetgan_batch.telemetry import TABLE, Telemetry

DOCS = Path(__file__).parents[1] / "docs" / "metrics.md"
NOW_S = 1_700_000_000.0
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def new(clock: Callable[[], float] = lambda: NOW_S) -> Telemetry:
    return Telemetry(["wait", "canvas", "face"], REASONS | {"no_face"}, clock)


def samples(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(observer: Telemetry, name: str, **labels: str) -> float | None:
    return samples(observer.text()).get((name, frozenset(labels.items())))


def reply(*outcomes: Outcome, steps: int = 0, stats: WorkerStats | None = None) -> HeartbeatReply:
    events = [Event(n, outcome) for n, outcome in enumerate(outcomes, 1)]
    return HeartbeatReply(events, [], 0, steps, stats=stats or WorkerStats())


def committed(**changes: object) -> Outcome:
    outcome = Outcome(
        "i", "1-1", Status.COMMITTED, seconds=3.0, measures={"losses.canvas.body.l1": 0.015}
    )
    return dataclasses.replace(outcome, **changes)  # type: ignore[arg-type]


# The table


def test_the_page_has_the_table_of_the_code() -> None:
    page = DOCS.read_text()
    table = page.partition("<!-- metrics: begin -->\n")[2].partition("<!-- metrics: end -->")[0]
    assert table == telemetry.markdown(), "docs/metrics.md says how to write its table anew"


def test_every_label_is_explained_and_none_could_name_an_item() -> None:
    used = {label for metric in TABLE for label in metric.labels}
    assert used == set(telemetry.LABELS)
    assert used & {"item", "item_id", "seed", "path", "uri", "worker", "attempt"} == set()


def test_names_say_what_they_are() -> None:
    assert len({metric.name for metric in TABLE}) == len(TABLE)
    for metric in TABLE:
        assert metric.name.startswith("insetgan_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert bool(metric.buckets) == (metric.kind == "histogram")


def test_nothing_is_served_that_is_not_in_the_table() -> None:
    observer = new()
    observer.heard("0-0", reply(committed(measures={"seam_after": 1.0})))
    names = {metric.name.removesuffix("_total") for metric in TABLE}
    assert {family.name for family in text_string_to_metric_families(observer.text())} == names


# What is counted


def test_items_are_counted_by_outcome_and_reason_from_zero_on() -> None:
    observer = new()
    assert value(observer, "insetgan_items_total", outcome="quarantined", reason="no_face") == 0
    assert value(observer, "insetgan_last_commit_timestamp_seconds") == 0
    observer.ended(Status.COMMITTED, "")
    observer.ended(Status.QUARANTINED, "no_face")
    observer.ended(Status.QUARANTINED, "no_face")
    assert value(observer, "insetgan_items_total", outcome="committed", reason="") == 1
    assert value(observer, "insetgan_items_total", outcome="quarantined", reason="no_face") == 2
    assert value(observer, "insetgan_last_commit_timestamp_seconds") == NOW_S


def test_a_reason_that_nobody_knows_gets_no_series_of_its_own() -> None:
    observer = new()
    observer.retried("item-4711 of /data/x.png")
    assert "4711" not in observer.text()
    assert value(observer, "insetgan_item_retries_total", reason="other") == 1


def test_measures_are_distributions() -> None:
    observer = new()
    observer.heard("0-0", reply(committed(), committed(measures={"a": 3.0, "b": -1.0})))
    name, loss = "insetgan_item_measure", {"measure": "losses.canvas.body.l1"}
    assert value(observer, f"{name}_bucket", le="0.01", **loss) == 0
    assert value(observer, f"{name}_bucket", le="0.02", **loss) == 1
    assert value(observer, f"{name}_sum", measure="a") == 3.0
    assert value(observer, f"{name}_sum", measure="b") == -1.0
    assert value(observer, f"{name}_count", measure="a") == 1
    assert value(observer, "insetgan_item_seconds_count") == 2


def test_an_event_that_is_told_again_counts_once() -> None:
    observer = new()
    beaten = committed(status=Status.DUPLICATE)
    observer.heard("0-0", reply(beaten))
    observer.heard("0-0", reply(beaten, beaten))
    assert value(observer, "insetgan_commit_conflicts_total") == 2


def test_totals_of_actors_become_counters_that_outlive_them() -> None:
    observer = new()
    early = WorkerStats(seconds={"canvas": 2.0, "wait": 1.0}, busy_slot_s=4.0, upload_bytes=100)
    late = WorkerStats(
        slots=4,
        busy=3,
        seconds={"canvas": 5.0, "wait": 1.0, "face": 1.0},
        busy_slot_s=9.0,
        idle_slot_s=2.0,
        upload_bytes=300,
        upload_s=0.5,
        storage_errors={"outage": 2},
    )
    observer.heard("0-0", reply(steps=10, stats=early))
    observer.heard("0-0", reply(steps=25, stats=late))
    observer.lost("0-0", "cuda_error")
    assert value(observer, "insetgan_slots_capacity", place="0") is None
    observer.heard("0-1", reply(steps=7, stats=early))
    assert value(observer, "insetgan_steps_total", place="0") == 32
    assert value(observer, "insetgan_phase_seconds_total", phase="canvas") == 7
    assert value(observer, "insetgan_phase_seconds_total", phase="face") == 1
    assert value(observer, "insetgan_slot_seconds_total", state="busy") == 13
    assert value(observer, "insetgan_slot_seconds_total", state="idle") == 2
    assert value(observer, "insetgan_upload_bytes_total") == 400
    assert value(observer, "insetgan_upload_seconds_total") == 0.5
    assert value(observer, "insetgan_storage_errors_total", **{"class": "outage"}) == 2
    restarts = "insetgan_actor_restarts_total"
    assert value(observer, restarts, place="0", reason="cuda_error") == 1
    assert value(observer, restarts, place="0", reason="preempted") == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA error: an illegal memory access"),
        ValueError("a bug"),
        StorageError("away"),
        ConnectionError("no answer"),
        RayActorError(error_msg="worker unexpectedly exits with a connection error"),
    ],
)
def test_restarts_are_counted_from_zero_on_whatever_takes_an_actor(error: Exception) -> None:
    """Else the first of a kind would be no increase, and no alert would hear of it."""
    observer = new()
    observer.heard("0-0", reply())
    labels = {"place": "0", "reason": reason_code(error)}
    assert value(observer, "insetgan_actor_restarts_total", **labels) == 0
    observer.lost("0-0", labels["reason"])
    assert value(observer, "insetgan_actor_restarts_total", **labels) == 1


def test_a_place_shows_what_its_actor_said_last() -> None:
    observer = new()
    stats = WorkerStats(slots=4, busy=3, gpu_memory_peak_bytes=5_000, gpu_utilisation=0.9)
    observer.heard("7-12", reply(stats=stats))
    assert value(observer, "insetgan_slots_busy", place="7") == 3
    assert value(observer, "insetgan_slots_capacity", place="7") == 4
    assert value(observer, "insetgan_gpu_memory_peak_bytes", place="7") == 5_000
    assert value(observer, "insetgan_gpu_utilisation_ratio", place="7") == 0.9


def test_what_a_machine_without_a_gpu_does_not_know_is_absent() -> None:
    observer = new()
    observer.heard("0-0", reply())
    assert value(observer, "insetgan_gpu_memory_peak_bytes", place="0") is None


def test_items_that_lose_their_machine_are_preempted_with_or_without_their_state() -> None:
    observer = new()
    saved = committed(status=Status.RETURNED, is_saved=True)
    observer.heard("0-0", reply(saved, dataclasses.replace(saved, is_saved=False)))
    observer.retried("worker_lost")
    observer.retried("storage")
    assert value(observer, "insetgan_preemptions_total", resumed="true") == 1
    assert value(observer, "insetgan_preemptions_total", resumed="false") == 2


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StorageError("away"), "outage"),
        (RefusedError("denied"), "refused"),
        (NotFoundError("gone"), "missing"),
    ],
)
def test_errors_of_the_store_are_counted_by_class(error: StorageError, kind: str) -> None:
    observer = new()
    observer.storage_failed(error)
    assert value(observer, "insetgan_storage_errors_total", **{"class": kind}) == 1


def test_the_queue_says_where_all_items_are() -> None:
    observer = new()
    observer.progress(progress(items=20, committed=5, quarantined=1, inside=4, seconds_left=90.0))
    found = {
        state: value(observer, "insetgan_queue_items", state=state)
        for state in ("waiting", "leased", "committed", "quarantined")
    }
    assert found == {"waiting": 10, "leased": 4, "committed": 5, "quarantined": 1}
    assert value(observer, "insetgan_actors", state="starting") == 1
    assert value(observer, "insetgan_time_left_seconds") == 90


def progress(**changes: object) -> Progress:
    known: dict[str, object] = {
        "items": 0,
        "committed": 0,
        "quarantined": 0,
        "inside": 0,
        "workers_ready": 2,
        "workers": 3,
        "steps": 0,
        "items_per_minute": 0.0,
        "seconds_left": None,
        "last": [],
    }
    missing = {
        field.name: field.default
        for field in dataclasses.fields(Progress)
        if field.name not in known
    }
    return Progress(**(missing | known | changes))  # type: ignore[arg-type]


# The endpoint


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def scrape(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=250) as answer:
        text: str = answer.read().decode()
        return text


def test_metrics_are_served_during_a_turn_and_kept_after_it(waits: list[float | None]) -> None:
    storage, address = MemoryStorage("telemetry-served"), free_address()
    with telemetry.observing(["canvas"], REASONS, address, storage) as observer:
        observer.ended(Status.COMMITTED, "")
        text = scrape(address)
        assert samples(text)["insetgan_items_total", _committed()] == 1
        observer.ended(Status.COMMITTED, "")
        # The one scraper has come once, so it is waited for: it comes again, and later no more.
        late: list[str] = []
        second = threading.Timer(0.5, lambda: late.append(scrape(address)))
        second.start()
    second.join()
    assert len(waits) == 1
    assert samples(late[0])["insetgan_items_total", _committed()] == 2
    kept = storage.get(telemetry.KEY).decode()
    assert samples(kept)["insetgan_items_total", _committed()] == 2
    with pytest.raises(OSError, match="refused"):
        scrape(address)


def _committed() -> frozenset[tuple[str, str]]:
    return frozenset({"outcome": "committed", "reason": ""}.items())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """For how long the endpoint has waited for a scraper, each time."""
    waited: list[float | None] = []

    class Noting(threading.Condition):
        def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
            waited.append(timeout)
            return super().wait_for(predicate, timeout)

    monkeypatch.setattr(threading, "Condition", Noting)
    return waited


def test_nobody_is_waited_for_who_never_came_or_has_gone(waits: list[float | None]) -> None:
    storage, address = MemoryStorage("telemetry-alone"), free_address()
    with telemetry.observing(["canvas"], REASONS, address, storage):
        pass
    with telemetry.observing(["canvas"], REASONS, address, storage):
        began_s = time.monotonic()
        scrape(address)
        scrape(address)
        time.sleep(2 * (time.monotonic() - began_s) + 1.1)  # it has missed its next turn
    assert waits == []


def test_a_turn_that_fails_keeps_its_metrics_and_waits_for_nobody(
    waits: list[float | None],
) -> None:
    storage, address = MemoryStorage("telemetry-failed"), free_address()
    with pytest.raises(KeyError):
        _fail(address, storage)
    assert waits == []
    assert b'retries_total{reason="storage"} 1.0' in storage.get(telemetry.KEY)


def _fail(address: str, storage: MemoryStorage) -> None:
    with telemetry.observing(["canvas"], REASONS, address, storage) as observer:
        observer.retried("storage")
        scrape(address)
        raise KeyError("stop")


@pytest.mark.parametrize("address", ["9464", "localhost:", "localhost:x", "localhost:65536", ":80"])
def test_an_address_that_is_none_is_refused_before_anything_is_read(address: str) -> None:
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        driver.run(
            parse({}, "test"), "nowhere.parquet", "memory://nothing", metrics_address=address
        )


def test_metrics_that_are_switched_off_are_kept_all_the_same() -> None:
    storage = MemoryStorage("telemetry-off")
    metrics_server.check_address(metrics_server.OFF)
    with telemetry.observing(["canvas"], REASONS, metrics_server.OFF, storage) as observer:
        observer.ended(Status.COMMITTED, "")
    assert samples(storage.get(telemetry.KEY).decode())["insetgan_items_total", _committed()] == 1


def test_an_address_that_is_taken_ends_the_command_unless_it_is_the_default(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        with (
            pytest.raises(ConfigError, match="cannot be served here"),
            telemetry.observing([], REASONS, taken, MemoryStorage("taken")),
        ):
            pass
    host, port = metrics_server.DEFAULT_ADDRESS.split(":")
    with _taken(host, int(port)), caplog.at_level("WARNING"):
        with telemetry.observing(
            [], REASONS, metrics_server.DEFAULT_ADDRESS, MemoryStorage("d")
        ) as on:
            on.retried("storage")
        assert "not served" in caplog.text


def _taken(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError:
        pass  # by somebody else: as good
    return listener


def test_a_scraper_may_ask_for_some_of_the_metrics() -> None:
    address = free_address()
    with telemetry.observing([], REASONS, address, MemoryStorage("some")):
        url = f"http://{address}/metrics?name[]=insetgan_build_info"
        with urllib.request.urlopen(url, timeout=250) as answer:
            assert {name for name, _ in samples(answer.read().decode())} == {"insetgan_build_info"}


def test_ipv6_has_its_brackets() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
            address = f"[::1]:{listener.getsockname()[1]}"
    except OSError:
        pytest.skip("this machine has no IPv6")
    with telemetry.observing([], REASONS, address, MemoryStorage("six")):
        scrape(address)
        assert "insetgan_build_info" in scrape(address)
