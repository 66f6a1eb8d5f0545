"""Real servers for the tests in this directory."""

from __future__ import annotations

from tests.servers.fixtures import aws, bucket, plain_swift, rgw, server, swift

__all__ = ["aws", "bucket", "plain_swift", "rgw", "server", "swift"]
