"""Jobs of a run: names, what is started, found again and followed. Ray's API is a stand-in."""

from __future__ import annotations

import contextlib
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from insetgan_batch.errors import ConfigError
from insetgan_batch.runtime import submit

COMMAND = "cd /somewhere && exec python -m insetgan_batch demo"


class Cluster:
    """The jobs of a cluster; a job ends when its log has been read to the end."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobDetails] = {}
        self.log = ["one\n", "two\n"]
        # What the next readings of a log do instead: break off after so many pieces.
        self.breaks: list[int] = []
        self.interrupt: Callable[[], None] = lambda: None
        self.ends_with = (JobStatus.SUCCEEDED, 0)
        self.starts_elsewhere = False

    def put(self, job_id: str, status: JobStatus, entrypoint: str = COMMAND) -> None:
        self.jobs[job_id] = JobDetails(
            type=JobType.SUBMISSION,
            submission_id=job_id,
            status=status,
            entrypoint=entrypoint,
            message="",
        )

    def submit_job(self, *, entrypoint: str, submission_id: str) -> str:
        if self.starts_elsewhere:
            self.put(submission_id, JobStatus.RUNNING, entrypoint)
        if submission_id in self.jobs:
            raise RuntimeError(f"Request failed with status code 500: {submission_id} exists")
        self.put(submission_id, JobStatus.RUNNING, entrypoint)
        return submission_id

    def list_jobs(self) -> list[JobDetails]:
        return list(self.jobs.values())

    def get_job_info(self, job_id: str) -> JobDetails:
        return self.jobs[job_id]

    async def tail(self, job_id: str, write: submit.Write) -> None:
        pieces = self.breaks.pop(0) if self.breaks else len(self.log)
        for text in self.log[:pieces]:
            write(text)
        self.interrupt()
        if pieces < len(self.log):
            raise ConnectionError("the connection broke")
        status, code = self.ends_with
        self.put(job_id, status)
        self.jobs[job_id] = self.jobs[job_id].model_copy(update={"driver_exit_code": code})


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a cluster, as far as the environment says."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path


def followed(cluster: Cluster, name: str = "run", entrypoint: str = COMMAND) -> tuple[int, str]:
    """The exit code, and what was written."""
    written: list[str] = []
    code = submit.hand_over(cluster, name, entrypoint, written.append)
    return code, "".join(written)


def test_a_run_is_started_as_its_first_job_and_followed_to_its_end(cluster: Cluster) -> None:
    code, text = followed(cluster)
    assert code == 0
    assert list(cluster.jobs) == ["run-1"]
    assert cluster.jobs["run-1"].entrypoint == COMMAND
    assert text.endswith("one\ntwo\n")
    assert "job run-1 has started" in text


def test_the_next_start_has_the_next_number(cluster: Cluster) -> None:
    for job_id in ("run-2", "run-10", "running-77", "run-x", "run-3-4"):
        cluster.put(job_id, JobStatus.FAILED)
    followed(cluster)
    assert "run-11" in cluster.jobs


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.RUNNING])
def test_the_live_job_is_found_again(cluster: Cluster, status: JobStatus) -> None:
    cluster.put("run-1", JobStatus.FAILED)
    cluster.put("run-2", status)
    code, text = followed(cluster)
    assert list(cluster.jobs) == ["run-1", "run-2"]
    assert code == 0
    assert "job run-2 is alive" in text


def test_a_live_job_that_does_something_else_is_not_taken_for_the_run(cluster: Cluster) -> None:
    cluster.put("run-1", JobStatus.RUNNING, "something else")
    with pytest.raises(
        ConfigError, match=r"run-1 is alive and does `something else`.*ray job stop"
    ):
        followed(cluster)


def test_who_comes_second_by_a_moment_follows_the_first_ones_job(cluster: Cluster) -> None:
    cluster.starts_elsewhere = True
    assert followed(cluster)[0] == 0
    assert list(cluster.jobs) == ["run-1"]


def test_a_job_that_the_cluster_refuses_is_one_line(cluster: Cluster) -> None:
    cluster.put("run-1", JobStatus.STOPPED)
    cluster.list_jobs = list  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=r"refuses job run-1: Request failed .* exists$"):
        followed(cluster)


def test_a_log_that_broke_off_is_read_on_and_nothing_is_written_twice(cluster: Cluster) -> None:
    cluster.breaks = [1, 0]
    code, text = followed(cluster)
    assert code == 0
    assert text.count("one\n") == text.count("two\n") == 1


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def press_ctrl_c_and_lose_it() -> None:
    """As aiohttp takes a cancellation for its timeout."""
    with contextlib.suppress(KeyboardInterrupt):
        press_ctrl_c()
    raise TimeoutError


@pytest.mark.parametrize("interrupt", [press_ctrl_c, press_ctrl_c_and_lose_it])
def test_ctrl_c_leaves_the_job_alone(cluster: Cluster, interrupt: Callable[[], None]) -> None:
    cluster.interrupt = interrupt
    code, text = followed(cluster)
    assert code == 130
    assert cluster.jobs["run-1"].status == JobStatus.RUNNING
    assert text.endswith("left: job run-1 goes on, and the same command comes back to it\n")


def test_ctrl_c_is_what_it_was_before_when_the_run_has_ended(cluster: Cluster) -> None:
    before = signal.getsignal(signal.SIGINT)
    followed(cluster)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_right_after_the_start_leaves_the_job_alone_too(cluster: Cluster) -> None:
    written: list[str] = []

    def write(text: str) -> None:
        written.append(text)
        if len(written) == 1:
            raise KeyboardInterrupt

    assert submit.hand_over(cluster, "run", COMMAND, write) == 130
    assert list(cluster.jobs) == ["run-1"]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 1, 1),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, None, 3),
        (JobStatus.STOPPED, -15, 3),
    ],
)
def test_the_exit_code_is_the_runs(
    cluster: Cluster, status: JobStatus, code: int | None, expected: int
) -> None:
    cluster.ends_with = (status, code)  # type: ignore[assignment]
    assert followed(cluster)[0] == expected


# Names and commands


def test_a_run_goes_by_its_id_and_else_by_its_output() -> None:
    assert submit.name_of("my run", "s3://bucket/x") == "my-run"
    first = submit.name_of(None, "s3://bucket/runs/first/")
    assert first.startswith("first-")
    assert first == submit.name_of(None, "s3://bucket/runs/first/")
    assert first != submit.name_of(None, "s3://other/runs/first/")


def test_the_same_directory_by_another_path_is_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert submit.name_of(None, "out/demo") == submit.name_of(None, f"{tmp_path}/out/demo")


def test_the_job_does_the_command_in_the_callers_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "with space"
    place.mkdir()
    monkeypatch.chdir(place)
    entrypoint = submit.entrypoint_of(["run", "a b.yaml", "--out", "$HOME"])
    said = subprocess.run(
        ["bash", "-c", entrypoint.replace("exec ", "pwd; printf '%s\\n' ")],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    lines = said.stdout.splitlines()
    assert lines[0] == str(place)
    assert lines[2:] == ["-m", "insetgan_batch", "run", "a b.yaml", "--out", "$HOME"]
    assert shlex.split(entrypoint)[:2] == ["cd", str(place)]


# Where the cluster is


def test_without_a_cluster_there_is_none(place: Path) -> None:
    assert submit.find_cluster() is None


def test_the_environment_names_the_cluster(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert submit.find_cluster() == "10.0.0.1:6379"


def test_a_cluster_of_this_machine_is_found(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (place / "ray" / "ray_current_cluster").write_text(address)
        assert submit.find_cluster() == address


def test_the_address_of_a_cluster_that_died_is_none(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (place / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")
    assert submit.find_cluster() is None


def test_inside_of_a_job_the_run_is_right_here(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert submit.find_cluster() is None
