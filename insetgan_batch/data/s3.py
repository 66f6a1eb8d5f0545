"""A store in a bucket of S3, or of anything that speaks S3; the door of boto3.

Credentials, endpoint, region and addressing style come from the usual AWS places; `configure` says
otherwise for this process. All stores of a process share one client, and so its pool.

boto3 is imported by the first store, so that a program that never sees S3 starts fast.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import mimetypes
import os
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any, BinaryIO

from insetgan_batch.data import s3_errors
from insetgan_batch.data.keys import Entry, Writable, checked, checked_prefix
from insetgan_batch.errors import (
    ConfigError,
    NoConditionalWritesError,
    RefusedError,
    StorageError,
)
from insetgan_batch.text import one_line

MULTIPART_BYTES = 8 * 1024 * 1024
"""From this size on objects are sent in parts of this size."""

_ATTEMPTS = 6  # botocore's 3 are few for a run of days; AWS_MAX_ATTEMPTS is heard
_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 60
_CONNECTIONS = 32
_PARTS_AT_ONCE = 4  # of one upload; boto3 holds up to ten in memory
_CONFLICT_PAUSES_S = (0.0, 0.1, 0.4, 1.6)  # S3 says 409 while another write of the key is in flight
_STYLES = ("auto", "path", "virtual")


@dataclasses.dataclass(frozen=True, slots=True)
class _Settings:
    """What goes before the usual AWS places, where it is not None."""

    endpoint_url: str | None = None
    region: str | None = None
    addressing_style: str | None = None


_GET_TRIES = 4
_settings = _Settings()


def configure(
    endpoint_url: str | None = None,
    region: str | None = None,
    addressing_style: str | None = None,
) -> None:
    """Where the S3 of this process is; None leaves it to the usual AWS places.

    Stores that are opened afterwards go there. addressing_style: auto, path (for most servers of
    one's own) or virtual. Raises `ConfigError`; an endpoint with a password in it is one, since a
    configuration is kept in `run.json`.
    """
    global _settings
    if endpoint_url is not None and (wrong := _wrong_endpoint(endpoint_url)):
        raise ConfigError(f"storage.endpoint_url {wrong}")
    if addressing_style not in (None, *_STYLES):
        raise ConfigError(
            f"storage.addressing_style is {addressing_style!r}, expected one of {list(_STYLES)}"
        )
    _settings = _Settings(endpoint_url, region, addressing_style)


class S3Storage:
    """A prefix of a bucket. Its methods do what `Storage` says.

    Safe between threads; a store is not sent between processes, its `uri` is.
    """

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client: Any = None
        with self._translated(""):
            try:
                self._client = _client(_settings, _environment())
            except ValueError:
                # botocore's word for an endpoint that is no URL: it repeats it, password and all.
                raise RefusedError(
                    f"{self.uri}: the AWS settings are not valid: check AWS_ENDPOINT_URL"
                ) from None
        if wrong := _wrong_endpoint(self._client.meta.endpoint_url):
            raise RefusedError(f"{self.uri}: AWS_ENDPOINT_URL {wrong}")

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        with self._translated(key):
            for tries_left in reversed(range(_GET_TRIES)):
                answer = self._client.get_object(**self._object(key))
                try:
                    # botocore tries requests again, but not the reading of an answer.
                    data: bytes = answer["Body"].read()
                except (HTTPClientError, IncompleteReadError):
                    if not tries_left:
                        raise
                else:
                    return data
        raise AssertionError("a try returns or raises")

    def read_into(self, key: str, file: Writable) -> None:
        """See `Storage.read_into`; parts side by side, each tried again when its stream breaks."""
        from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

        where = self._object(key)
        try:
            with self._translated(key):
                self._client.download_fileobj(**where, Fileobj=_InOrder(file))
        except RetriesExceededError as err:
            raise self._unanswered(key, err.last_exception) from err
        except S3DownloadFailedError as err:
            raise StorageError(
                f"{self.uri}/{key}: the object was replaced while it was read; try again"
            ) from err

    def put(self, key: str, data: bytes) -> None:
        """See `Storage.put`."""
        if len(data) >= MULTIPART_BYTES:
            self.put_from(key, io.BytesIO(data))
            return
        with self._translated(key):
            self._client.put_object(**self._object(key), Body=data, ContentType=_content_type(key))

    def put_from(self, key: str, file: BinaryIO) -> None:
        """See `Storage.put_from`; a large one goes in parts, which are removed when it fails."""
        from boto3.s3.transfer import TransferConfig

        where = self._object(key)
        in_parts = TransferConfig(
            multipart_threshold=MULTIPART_BYTES,
            multipart_chunksize=MULTIPART_BYTES,
            max_concurrency=_PARTS_AT_ONCE,
        )
        try:
            with self._translated(key):
                self._client.upload_fileobj(
                    file, **where, ExtraArgs={"ContentType": _content_type(key)}, Config=in_parts
                )
        except OSError as err:
            raise StorageError(
                f"{self.uri}/{key}: the file to be written cannot be read: {err.strerror or err};"
                " check the disk"
            ) from err

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Storage.put_if_absent`; never in parts: not every store then hears the condition."""
        from botocore.exceptions import ClientError

        with self._translated(key):
            for pause_s in _CONFLICT_PAUSES_S:
                time.sleep(pause_s)
                try:
                    self._client.put_object(
                        **self._object(key),
                        Body=data,
                        ContentType=_content_type(key),
                        IfNoneMatch="*",
                    )
                except ClientError as err:
                    if _code(err) in s3_errors.EXISTS_ALREADY:
                        return False
                    if s3_errors.lacks_conditions(_code(err), _said(err)):
                        raise NoConditionalWritesError(
                            f"{self.uri}: the store writes nothing on the condition that there is"
                            f" no such object ({_code(err)}: {_said(err)})"
                        ) from err
                    if _code(err) not in s3_errors.IN_CONFLICT:
                        raise
                else:
                    return True
        raise StorageError(f"{self.uri}/{key}: other writers kept conflicting; try again")

    def list(self, prefix: str) -> Iterator[str]:
        """See `Storage.list`; one page of 1,000 keys in memory at a time."""
        return (entry.key for entry in self.scan(prefix))

    def scan(self, prefix: str) -> Iterator[Entry]:
        """See `Storage.scan`."""
        below = self._prefix + checked_prefix(prefix)
        with self._translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=below
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._prefix)
                    yield Entry(key, found["Size"], found["LastModified"].timestamp())

    def remove_unfinished(self, before_s: float) -> int:
        """See `Storage.remove_unfinished`: uploads in parts that were never completed."""
        removed = 0
        with self._translated(""):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            begun = [upload for page in pages for upload in page.get("Uploads", ())]
            for upload in begun:
                if upload["Initiated"].timestamp() < before_s:
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    removed += 1
        return removed

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        from botocore.exceptions import ClientError

        with self._translated(key):
            try:
                self._client.head_object(**self._object(key))
            except ClientError as err:
                if _code(err) in s3_errors.MISSING:
                    return False
                raise
            return True

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with self._translated(key):
            self._client.delete_object(**self._object(key))

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked(key)}

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as err:
            where = f"{self.uri}/{key}".rstrip("/")
            status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise s3_errors.answered(
                where, _code(err), status, err.operation_name, _said(err)
            ) from err
        except BotoCoreError as err:
            raise self._unanswered(key, err) from err

    def _unanswered(self, key: str, err: Any) -> StorageError:
        endpoint = self._client.meta.endpoint_url if self._client else "AWS"
        return s3_errors.unanswered(
            f"{self.uri}/{key}".rstrip("/"), type(err).__name__, f"the endpoint {endpoint}"
        )


class _InOrder:
    """A file that cannot seek: into any other boto3 writes the parts as they arrive."""

    def __init__(self, file: Writable) -> None:
        self.write = file.write


def _environment() -> tuple[tuple[str, str], ...]:
    """All that decides, beside the settings, which client it has to be."""
    names = [name for name in os.environ if name.startswith("AWS_") or name == "HOME"]
    return tuple((name, os.environ[name]) for name in sorted(names))


@functools.lru_cache(maxsize=4)
def _client(settings: _Settings, environment: tuple[tuple[str, str], ...]) -> Any:
    """A client takes some 50 ms and a pool of connections: one for all stores of a process."""
    import boto3
    from botocore.config import Config

    retries: Any = {"mode": "adaptive"}
    if "AWS_MAX_ATTEMPTS" not in dict(environment):
        retries["total_max_attempts"] = _ATTEMPTS
    options: dict[str, Any] = {
        "retries": retries,
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "read_timeout": _READ_TIMEOUT_S,
        "max_pool_connections": _CONNECTIONS,
    }
    if settings.addressing_style:
        options["s3"] = {"addressing_style": settings.addressing_style}
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        config=Config(**options),
    )


def _wrong_endpoint(url: str) -> str | None:
    """What is wrong with the URL of an endpoint. It is not repeated: it may hold a password."""
    try:
        parts = urllib.parse.urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        return "is not a URL: expected something like https://s3.example.org:9000"
    if "@" in parts.netloc:
        return "holds a user or a password: give the keys by AWS_ACCESS_KEY_ID or AWS_PROFILE"
    return None


def _code(err: Any) -> str:
    return str(err.response.get("Error", {}).get("Code", "unknown"))


def _said(err: Any) -> str:
    """The store's own words, on one line."""
    return one_line(err.response.get("Error", {}).get("Message") or "")


def _content_type(key: str) -> str:
    """So that a browser shows the report and the images of a bucket."""
    return mimetypes.guess_type(key)[0] or "application/octet-stream"
