"""A file of `jobs/` on a cluster: the run is handed to Ray's Jobs API, and its log followed.

`ray submit` executes the file over SSH, and what is executed so dies with the connection. A job
does not: the same command again finds the live one by its name and follows it on. Ray accepts a
submission id once, so each start of a run has the next one: `<name>-<n>`.

The job is executed on the head, in the caller's directory, but in the environment of the cluster
and not of the caller's shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Protocol

from aiohttp import ClientError
from ray._private.utils import read_ray_address
from ray.exceptions import RpcError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from insetgan_batch.errors import ConfigError
from insetgan_batch.runtime import ray_start
from insetgan_batch.text import one_line

_ADDRESS = "RAY_ADDRESS"
_INSIDE_OF_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray calls it in a job's environment
_CONNECT_TIMEOUT_S = 3.0
_ASK_EVERY_S = 1.0
_PATIENCE_S = 60.0
_STOPPED, _DETACHED = 3, 130
_NO_ANSWER = (RuntimeError, OSError, ClientError)

Write = Callable[[str], None]


class Jobs(Protocol):
    """What is used of Ray's `JobSubmissionClient`."""

    def submit_job(self, *, entrypoint: str, submission_id: str) -> str:
        """Start it; raises `RuntimeError` for an id that has been used."""

    def list_jobs(self) -> list[JobDetails]:
        """All that this cluster knows, those that ended too."""

    def get_job_info(self, job_id: str) -> JobDetails:
        """One of them."""

    async def tail(self, job_id: str, write: Write) -> None:
        """The log from its beginning, until the job ends."""


class _RayJobs(JobSubmissionClient):
    """Ray's own, with its log as a call."""

    async def tail(self, job_id: str, write: Write) -> None:
        async for text in self.tail_job_logs(job_id):
            write(text)


def find_cluster() -> str | None:
    """The address in `RAY_ADDRESS`, or of the Ray that `ray start` left running on this machine.

    None without either, and inside of a job: there the run is to be right here.
    """
    if _INSIDE_OF_A_JOB in os.environ:
        return None
    if named := os.environ.get(_ADDRESS):
        return named
    found = read_ray_address(None)
    if not found:
        return None
    host, _, port = found.rpartition(":")
    try:  # Ray would wait for 40 s for one that has died and left its address behind.
        socket.create_connection((host, int(port)), _CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError):
        return None
    return found


def connect(address: str) -> Jobs:
    """Its Jobs API; raises `ConfigError` when there is none."""
    if not address.startswith(("http://", "https://")):
        ray_start.check_head(address)  # Ray would wait for 40 s
    try:
        return _RayJobs(address)
    except (ConnectionError, RuntimeError, ValueError, RpcError) as err:
        reason = one_line(err)
        raise ConfigError(
            f"the Ray cluster at {address} has no Jobs API that answers ({reason}): start its head"
            " with its dashboard, or give --foreground"
        ) from err


def name_of(run_id: str | None, out: str) -> str:
    """What the jobs of one run are called: by its id, else by its output."""
    where = out if "://" in out else os.path.abspath(out)
    last = where.rstrip("/").rpartition("/")[2]
    name = run_id or f"{last}-{hashlib.sha256(where.encode()).hexdigest()[:6]}"
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def entrypoint_of(arguments: Sequence[str]) -> str:
    """The job's command: `insetgan-batch` with these arguments, in this directory."""
    command = shlex.join([sys.executable, "-m", "insetgan_batch", *arguments])
    return f"cd {shlex.quote(os.getcwd())} && exec {command}"


def hand_over(jobs: Jobs, name: str, entrypoint: str, write: Write) -> int:
    """Start the job, or find it alive, and follow it; the exit code of the run.

    Raises `ConfigError` when the live one of this name does something else.
    """
    job_id, news = _live(jobs, name, entrypoint), "is alive; this is its log from the beginning"
    if job_id is None:
        job_id = _start(jobs, name, entrypoint)
        news = f"has started; Ctrl-C leaves it alone, `ray job stop {job_id}` ends it"
    try:
        with _heard_ctrl_c() as check:
            write(f"job {job_id} {news}\n")
            return _follow(jobs, job_id, write, check)
    except KeyboardInterrupt:
        write(f"\nleft: job {job_id} goes on, and the same command comes back to it\n")
        return _DETACHED


@contextlib.contextmanager
def _heard_ctrl_c() -> Iterator[Callable[[], None]]:
    """Ctrl-C raises `KeyboardInterrupt`, and what it gives raises it again where it got lost.

    Left to itself `asyncio.run` makes a cancellation of it, which a library may take for a timeout
    of its own.
    """
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def _numbered(jobs: Jobs, name: str) -> dict[int, JobDetails]:
    """The jobs of a name by their number."""
    pattern = re.compile(re.escape(name) + r"-(\d+)")
    found = {}
    for job in jobs.list_jobs():
        if match := pattern.fullmatch(job.submission_id or ""):
            found[int(match[1])] = job
    return found


def _live(jobs: Jobs, name: str, entrypoint: str) -> str | None:
    for job in _numbered(jobs, name).values():
        if job.status.is_terminal() or job.submission_id is None:
            continue
        if job.entrypoint != entrypoint:
            raise ConfigError(
                f"job {job.submission_id} is alive and does `{job.entrypoint}`, not"
                f" `{entrypoint}`: wait for it, end it with `ray job stop {job.submission_id}`, or"
                " give another --run-id"
            )
        return job.submission_id
    return None


def _start(jobs: Jobs, name: str, entrypoint: str) -> str:
    job_id = f"{name}-{max(_numbered(jobs, name), default=0) + 1}"
    try:
        return jobs.submit_job(entrypoint=entrypoint, submission_id=job_id)
    except RuntimeError as err:
        # Somebody may have started it a moment ago.
        if (other := _live(jobs, name, entrypoint)) is not None:
            return other
        raise ConfigError(f"the cluster refuses job {job_id}: {one_line(err)}") from err


def _follow(jobs: Jobs, job_id: str, write: Write, check: Callable[[], None]) -> int:
    """Write its log until it has ended, over lost connections too; its exit code.

    check: raises what ends this, between two looks and before anything is written.
    """

    def write_on(text: str) -> None:
        check()
        write(text)

    log = _Log(write_on)
    heard_at_s = time.monotonic()
    while time.monotonic() < heard_at_s + _PATIENCE_S:
        check()
        try:
            asyncio.run(jobs.tail(job_id, log.again()))
            job = jobs.get_job_info(job_id)
        except _NO_ANSWER:
            time.sleep(_ASK_EVERY_S)
            continue
        heard_at_s = time.monotonic()
        if job.status.is_terminal():
            return _exit_code(job, write)
        time.sleep(_ASK_EVERY_S)
    write(f"\nthe cluster does not answer; the same command comes back to job {job_id}\n")
    return _STOPPED


def _exit_code(job: JobDetails, write: Write) -> int:
    if job.status == JobStatus.SUCCEEDED:
        return 0
    if job.driver_exit_code is not None and job.driver_exit_code > 0:
        return job.driver_exit_code
    write(f"job {job.submission_id} {job.status.value.lower()}: {job.message}\n")
    return _STOPPED


class _Log:
    """A log that may be read several times from its beginning, and is written once."""

    def __init__(self, write: Write) -> None:
        self._write, self._written = write, 0

    def again(self) -> Write:
        position = 0

        def write_new(text: str) -> None:
            nonlocal position
            new = text[max(0, self._written - position) :]
            position += len(text)
            if new:
                self._write(new)
                self._written = position

        return write_new
