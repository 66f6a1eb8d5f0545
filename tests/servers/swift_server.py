"""Preparer OpenStack Swift from the environment that `make test` installs it into."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.servers.s3_server import S3Server, end

PYTHON = Path(__file__).parents[2] / ".venv-swift" / "bin" / "python"
MISSING = f"{PYTHON.parents[1].name} is missing: `make test` makes it"
_OWNER = ("tests:owner", "of-the-owner")
_STRANGER = ("tests:stranger", "of-the-stranger")


@contextlib.contextmanager
def running(directory: Path, *, one_winner: bool) -> Iterator[S3Server]:
    """A Swift that answers. one_winner: with the filter that makes conditional writes hold."""
    node = [str(PYTHON), "-W", "ignore", str(Path(__file__).with_name("swift_node.py"))]
    secrets = {"OWNER_SECRET": _OWNER[1], "STRANGER_SECRET": _STRANGER[1]}
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [*node, str(directory), *["--one-winner"] * one_winner],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | secrets,
        )
    try:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        assert endpoint, (directory / "log").read_text()
        yield S3Server(endpoint, _OWNER, _STRANGER)
    finally:
        end(process)
