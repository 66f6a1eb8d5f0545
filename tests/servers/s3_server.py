"""A real S3 server that runs for the tests: where it is, and who may use it."""

from __future__ import annotations

import dataclasses
import subprocess
from typing import Any

import boto3
import pytest
from botocore.config import Config


@dataclasses.dataclass(frozen=True, slots=True)
class S3Server:
    """owner, stranger: (key, secret) of who may do everything, and of who may do nothing.

    full: of who may write, but has no space left; None where a server has nobody like that.
    """

    endpoint: str
    owner: tuple[str, str]
    stranger: tuple[str, str]
    full: tuple[str, str] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.endpoint.removeprefix("http://").rpartition(":")
        return host, int(port)

    def client(self, who: tuple[str, str] | None = None) -> Any:
        """A bare client of the owner or somebody else, to look at what ours has done."""
        key, secret = who or self.owner
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(max_pool_connections=16, s3={"addressing_style": "path"}),
        )

    def log_in(self, aws: pytest.MonkeyPatch, who: tuple[str, str] | None = None) -> None:
        """Set the usual AWS places to this server, as the owner or somebody else."""
        key, secret = who or self.owner
        aws.setenv("AWS_ENDPOINT_URL_S3", self.endpoint)
        aws.setenv("AWS_REGION", "us-east-1")
        aws.setenv("AWS_ACCESS_KEY_ID", key)
        aws.setenv("AWS_SECRET_ACCESS_KEY", secret)


def end(process: subprocess.Popen[Any]) -> None:
    """Ask it to end, and see to it."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
