"""A run that a real Prometheus scrapes: every metric arrives, every panel has data."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from insetgan_batch import telemetry
from insetgan_batch.data.memory import MemoryStorage
from insetgan_batch.errors import StorageError
from insetgan_batch.records import Event, HeartbeatReply, Outcome, Status, WorkerStats
from insetgan_batch.runtime import driver
from insetgan_batch.runtime.failures import REASONS
from insetgan_batch.runtime.progress import ProgressTracker
from insetgan_batch.telemetry import TABLE, Metric, Telemetry
from tests.bench import Bench
from tests.prometheus import dashboard
from tests.prometheus.server import Prometheus, promtool

MakeBench = Callable[..., Bench]


def arrived(metric: Metric, job: str) -> str:
    """An expression that has data if there are samples of the metric."""
    name = f"{metric.name}_bucket" if metric.kind == "histogram" else metric.name
    return f'last_over_time({name}{{job="{job}"}}[5m])'


@pytest.mark.ray
def test_every_metric_of_a_run_on_ray_arrives(
    montages: MakeBench, prometheus: Prometheus, tmp_path: Path
) -> None:
    place = montages(bodies=2, faces=3)
    prometheus.wait_for('up{job="real"}')  # it looks every second from now on
    address = prometheus.targets["real"]
    summary = driver.run(place.config, place.manifest, place.out, metrics_address=address)
    ended_s = time.time()
    assert summary.committed == 6
    absent = {
        metric.name
        for metric in TABLE
        if not prometheus.ask(arrived(metric, "real"), ended_s) and not metric.is_of_gpu
    }
    assert absent == set()

    def last(selector: str) -> float:
        return prometheus.value(f"sum(last_over_time({selector}[5m]))", ended_s)

    # The driver waited for a last scrape, so nothing is missing.
    assert last('insetgan_items_total{job="real", outcome="committed"}') == 6
    assert last('insetgan_queue_items{job="real", state="waiting"}') == 0
    assert last('insetgan_item_measure_count{job="real", measure="losses.canvas.body.l1"}') == 6
    assert last('insetgan_steps_total{job="real"}') == 6 * 8
    assert last('insetgan_phase_seconds_total{job="real", phase="face"}') > 0
    assert last('insetgan_upload_bytes_total{job="real"}') > 0
    text = (Path(place.out) / telemetry.KEY).read_text()
    assert 'insetgan_items_total{outcome="committed",reason=""} 6.0' in text
    done = promtool("check", "metrics", stdin=text)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.fixture(scope="module")
def eventful(prometheus: Prometheus) -> Iterator[Prometheus]:
    """The same server after a few seconds of a turn, told by the test, in which all goes on."""
    address = prometheus.targets["simulated"]
    storage = MemoryStorage(f"scraped-{uuid.uuid4().hex}")
    with telemetry.observing(
        ["load", "wait", "canvas", "face"], REASONS | {"no_face"}, address, storage
    ) as observer:
        prometheus.wait_for('insetgan_build_info{job="simulated"}')
        for second in range(1, 5):
            _tell(observer, second)
            # It looks every second, and has to have seen each of them.
            prometheus.wait_for(
                f'insetgan_items_total{{job="simulated", reason="no_face"}} == {second}'
            )
        yield prometheus


def _tell(observer: Telemetry, second: int) -> None:
    stats = WorkerStats(
        slots=4,
        busy=3,
        seconds={"load": 1.0, "canvas": 0.5 * second, "face": 0.4 * second, "wait": 0.1 * second},
        busy_slot_s=3.0 * second,
        idle_slot_s=1.0 * second,
        upload_bytes=1000 * second,
        upload_s=0.1 * second,
        storage_errors={"outage": second},
        gpu_memory_peak_bytes=10**9,
        gpu_utilisation=0.9,
    )
    measures = {"losses.canvas.body.l1": 0.01, "seam_before": 8.0, "seam_after": 1.0}
    done = Outcome("i", "1-1", Status.COMMITTED, seconds=2.0, measures=measures)
    for place in (0, 1):
        events = [Event(second, done)]
        reply = HeartbeatReply(events, [], 0, 40 * second, stats=stats)
        observer.heard(f"{place}-0", reply)
        observer.ended(Status.COMMITTED, "")
    observer.ended(Status.QUARANTINED, "no_face")
    observer.retried("storage")
    observer.storage_failed(StorageError("away"))
    observer.lost("2-0", "cuda_error")
    tracker = ProgressTracker(100, 2 * second, second, 400, clock=iter([0.0, 10.0]).__next__)
    tracker.start_clock()
    tracker.see_steps("0-0", 40 * second)
    observer.progress(tracker.progress(workers=3, ready=2, inside=6, last=[]))


def test_every_metric_of_the_table_has_data(eventful: Prometheus) -> None:
    absent = {metric.name for metric in TABLE if not eventful.ask(arrived(metric, "simulated"))}
    assert absent == set()


def test_every_expression_of_the_dashboard_has_data(eventful: Prometheus) -> None:
    values = {"instance": eventful.targets["simulated"], "price": "2"}
    empty = [
        f"{title}: {expression}"
        for title, expression in dashboard.expressions(dashboard.read(), values)
        if not eventful.ask(expression)
    ]
    assert empty == []


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Slots busy", 0.75),
        ("In quarantine", 1 / 3),
        ("Left", 88.0),
        ("Actor hours", (1 + 1.0 * 4) * 2 / 3600),
        ("Cost so far", 2 * (1 + 1.0 * 4) * 2 / 3600),
        ("Commit conflicts", 0.0),
    ],
)
def test_the_numbers_of_the_dashboard_are_right(
    eventful: Prometheus, title: str, expected: float
) -> None:
    values = {"instance": eventful.targets["simulated"], "price": "2"}
    found = dict(dashboard.expressions(dashboard.read(), values))
    assert eventful.value(found[title]) == pytest.approx(expected, rel=0.02)


def test_the_dashboard_uses_every_metric_of_the_table() -> None:
    text = dashboard.PATH.read_text()
    unused = {metric.name for metric in TABLE if metric.name not in text}
    assert unused == set()
