"""What harms a run behind its back: files and commits that are damaged, and a `clean` beside it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import Any

import boto3

from insetgan_batch.data import cleaning
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.errors import StorageError
from tests.chaos.store import BUCKET, aws_settings


class Vandal:
    """Reaches the store past the proxy, so that the proxy's journal holds the run's own writes."""

    def __init__(self, store: tuple[str, int], prefix: str, draw: random.Random) -> None:
        settings = aws_settings(f"http://{store[0]}:{store[1]}")
        self._client: Any = boto3.client("s3", endpoint_url=settings["AWS_ENDPOINT_URL"])
        self._prefix, self._draw = prefix, draw
        self.damaged: list[str] = []

    def strike(self) -> None:
        """Empty, cut or remove one committed item's commit or one of the files that it names."""
        commits = self._keys("commits/")
        if not commits:
            return
        commit = self._draw.choice(commits)
        item_id = commit.rpartition("/")[2].removesuffix(".json")
        folder = commit.rpartition("/")[0].rpartition("/")[2]
        files = self._keys(f"items/{folder}/{item_id}/")
        key = self._draw.choice([commit, *files])
        data = self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        how = self._draw.choice(["emptied", "cut", "removed"])
        if how == "removed" and key != commit:
            self._client.delete_object(Bucket=BUCKET, Key=key)
        else:  # a commit that is gone is no damage: its item is not done
            self._client.put_object(
                Bucket=BUCKET, Key=key, Body=b"" if how == "emptied" else data[: len(data) // 2]
            )
        self.damaged.append(f"{key}: {how}")

    def _keys(self, below: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"{self._prefix}/{below}"
        )
        return sorted(found["Key"] for page in pages for found in page.get("Contents", ()))


class Cleaner:
    """`clean`, again and again in a thread of its own, through whatever the store does."""

    def __init__(self, out_uri: str) -> None:
        self._out_uri = out_uri
        self._threads: list[threading.Thread] = []
        self.times = self.files = 0

    def start(self, for_s: float) -> None:
        """For so many seconds."""
        thread = threading.Thread(target=self._work, args=(time.monotonic() + for_s,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def settle(self) -> None:
        """Wait until all have ended."""
        for thread in self._threads:
            thread.join()

    def _work(self, ends_s: float) -> None:
        while time.monotonic() < ends_s:
            with contextlib.suppress(StorageError):
                self.files += cleaning.clean(RunStore(open_storage(self._out_uri))).files
                self.times += 1
