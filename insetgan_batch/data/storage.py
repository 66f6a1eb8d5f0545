"""Where bytes live: one small protocol over a local directory, S3 and memory.

Keys are relative to the root of a store, their parts joined by `/`. The truth of a run rests on
`put_if_absent`: of all writers of one key, in threads, processes and machines, at most one is told
True. False may also mean that an earlier try of the same call got through and only its answer was
lost, so data should name its writer. `conditional_writes_work` tries it out: not every store
that speaks S3 honours `If-None-Match`.

boto3 is imported by the first S3 store, so that a program that never sees S3 starts fast.
"""

from __future__ import annotations

import contextlib
import errno
import mimetypes
import os
import re
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from insetgan_batch.errors import NotFoundError, RefusedError, StorageError

_KNOWN = "a path, file:///absolute/directory, s3://bucket/prefix or memory://name"
_TEMPORARY = ".insetgan-tmp-"  # never a key: what a machine that died half-way leaves behind


class Writable(Protocol):
    """What `Storage.read_into` needs of a file."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


class Storage(Protocol):
    """Named bytes. Every method raises `StorageError` when the store cannot do what is asked."""

    uri: str

    def get(self, key: str) -> bytes:
        """The whole object; `NotFoundError` if there is none."""

    def read_into(self, key: str, file: Writable) -> None:
        """Write the object to `file`, from its first byte to its last, a part in memory at a time.

        `NotFoundError` if there is none. When it fails half-way, `file` holds half of it; an
        `OSError` of `file` comes through as it is.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write or replace the object; a reader sees all of the old one or all of the new one."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write the object unless there is one; True if this call created it."""

    def list(self, prefix: str) -> Iterator[str]:
        """Every key below `prefix` ("" for all; "a/b" means a/b/...), sorted, from the root."""

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""

    def delete(self, key: str) -> None:
        """Remove the object; no error if there is none."""


def open_storage(uri: str) -> Storage:
    """The store at a path, `file:///absolute/directory`, `s3://bucket/prefix` or `memory://name`.

    Nothing is created or asked yet. Raises `StorageError` for any other scheme.
    """
    scheme, rest = _parse(uri)
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        return S3Storage(bucket, prefix.strip("/"))
    if scheme == "memory":
        name, _, prefix = rest.partition("/")
        return MemoryStorage(name, prefix.strip("/"))
    return LocalStorage(Path(rest))


def locate(uri: str) -> tuple[Storage, str]:
    """The store that holds one object, and its key there, for the URI of the object itself."""
    if path := local_path(uri):
        return LocalStorage(path.parent), _checked(path.name)
    scheme, rest = _parse(uri)
    parent, _, name = rest.rpartition("/")
    if not parent or not name:
        raise StorageError(f"{scheme}://{rest} names no object: expected {scheme}://name/key")
    return open_storage(f"{scheme}://{parent}"), _checked(name)


def local_path(uri: str) -> Path | None:
    """Where the object is on this machine's disk; None for one that is in a store."""
    scheme, rest = _parse(uri)
    return Path(rest).absolute() if scheme == "file" else None


def read_uri(uri: str) -> bytes:
    """The bytes of the object at `uri`; `NotFoundError` if there is none."""
    storage, key = locate(uri)
    return storage.get(key)


def disk_error(where: str, verb: str, err: OSError) -> StorageError:
    """What the file system said, in one line with what to do."""
    kind = RefusedError if err.errno in _REFUSED_ERRNO else StorageError
    advice = _ADVICE_ERRNO.get(err.errno or 0, "check the directory")
    return kind(f"{where}: cannot {verb}: {err.strerror or err}; {advice}")


def conditional_writes_work(storage: Storage) -> bool:
    """Race 8 threads for each of 10 fresh keys: True if each has one winner and its bytes.

    Its keys are removed again. Raises `StorageError` when the store cannot be written at all.
    """
    keys = [f"probe/{uuid.uuid4().hex}-{n}" for n in range(10)]
    try:
        with ThreadPoolExecutor(_RACERS) as pool:
            works = all([_has_one_winner(storage, key, pool) for key in keys])
    except _NoConditionalWritesError:
        return False
    for key in keys:
        storage.delete(key)
    return works


class LocalStorage:
    """A directory. put is a rename, put_if_absent a hard link: nobody ever reads half a file."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = self.root.as_uri()

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        with self._reading(key):
            return self._path(key).read_bytes()

    def read_into(self, key: str, file: Writable) -> None:
        """See `Storage.read_into`."""
        with self._reading(key):
            source = self._path(key).open("rb")
        with source:
            while True:
                with self._reading(key):
                    part = source.read(_PART_BYTES)
                if not part:
                    return
                file.write(part)

    def put(self, key: str, data: bytes) -> None:
        """See `Storage.put`."""
        with self._written(key, data) as (temporary, path):
            temporary.replace(path)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Storage.put_if_absent`."""
        with self._written(key, data) as (temporary, path):
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                # NFS repeats a call whose answer was lost, and may trip over the link it made.
                return temporary.stat().st_nlink > 1
            except OSError as err:
                if err.errno not in _NO_LINKS:
                    raise
                raise _NoConditionalWritesError(
                    f"{self.uri}: this file system has no hard links, so two writers cannot be told"
                    " apart; choose a directory on another one"
                ) from err
            return True

    def list(self, prefix: str) -> Iterator[str]:
        """See `Storage.list`; one directory in memory at a time."""
        below = _checked_prefix(prefix)
        yield from self._walk(self.root / below, below)

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        try:
            return self._path(key).is_file()
        except OSError as err:
            raise self._failed("read", key, err) from err

    def delete(self, key: str) -> None:
        """See `Storage.delete`; directories stay, another writer may need them right now."""
        try:
            self._path(key).unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        except OSError as err:
            raise self._failed("delete", key, err) from err

    def _path(self, key: str) -> Path:
        return self.root / _checked(key)

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as err:
            raise NotFoundError(f"{self.uri}/{key}: there is no such file") from err
        except OSError as err:
            raise self._failed("read", key, err) from err

    @contextlib.contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """(a temporary file that holds the bytes, the path it is for)."""
        path = self._path(key)
        temporary = path.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary, path
            _sync_directory(path.parent)
        except OSError as err:
            raise self._failed("write", key, err) from err
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _walk(self, directory: Path, below: str) -> Iterator[str]:
        try:
            with os.scandir(directory) as entries:
                # The slash belongs to the order: `a-b` sorts before `a/b`, as it does in S3.
                names = sorted(
                    entry.name + "/" * entry.is_dir(follow_symlinks=False)
                    for entry in entries
                    if not entry.name.startswith(_TEMPORARY)
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as err:
            raise self._failed("list", below, err) from err
        for name in names:
            if name.endswith("/"):
                yield from self._walk(directory / name, below + name)
            else:
                yield below + name

    def _failed(self, verb: str, key: str, err: OSError) -> StorageError:
        return disk_error(f"{self.uri}/{key}", verb, err)


class MemoryStorage:
    """A dictionary of this process, for tests: two stores of one name share what they hold."""

    def __init__(self, name: str, prefix: str = "") -> None:
        self.uri = f"memory://{name}/{prefix}".rstrip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._objects = _MEMORY.setdefault(name, {})

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        try:
            return self._objects[self._prefix + _checked(key)]
        except KeyError as err:
            raise NotFoundError(f"{self.uri}/{key}: there is no such object") from err

    def read_into(self, key: str, file: Writable) -> None:
        """See `Storage.read_into`."""
        file.write(self.get(key))

    def put(self, key: str, data: bytes) -> None:
        """See `Storage.put`."""
        with _MEMORY_LOCK:
            self._objects[self._prefix + _checked(key)] = data

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Storage.put_if_absent`."""
        name = self._prefix + _checked(key)
        with _MEMORY_LOCK:
            if name in self._objects:
                return False
            self._objects[name] = data
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """See `Storage.list`."""
        below = self._prefix + _checked_prefix(prefix)
        with _MEMORY_LOCK:
            names = sorted(name for name in self._objects if name.startswith(below))
        yield from (name.removeprefix(self._prefix) for name in names)

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        return self._prefix + _checked(key) in self._objects

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with _MEMORY_LOCK:
            self._objects.pop(self._prefix + _checked(key), None)


class S3Storage:
    """A prefix of a bucket. Endpoint, region and credentials come from the usual AWS places.

    The client is safe between threads; a store is not sent between processes, its `uri` is.
    """

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client: Any = None
        try:
            with self._translated(""):
                self._client = _s3_client()
        except ValueError as err:  # botocore's word for an endpoint that is no URL
            raise RefusedError(
                f"{self.uri}: the AWS settings are not valid: check AWS_ENDPOINT_URL"
            ) from err

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        with self._translated(key):
            answer = self._client.get_object(**self._object(key))
            data: bytes = answer["Body"].read()
            return data

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
        with self._translated(key):
            self._client.put_object(**self._object(key), Body=data, ContentType=_content_type(key))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See `Storage.put_if_absent`."""
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
                    if _code(err) in ("PreconditionFailed", "412"):
                        return False
                    if _code(err) not in ("ConditionalRequestConflict", "409"):
                        raise
                else:
                    return True
        raise StorageError(f"{self.uri}/{key}: other writers kept conflicting; try again")

    def list(self, prefix: str) -> Iterator[str]:
        """See `Storage.list`; one page of 1,000 keys in memory at a time."""
        below = self._prefix + _checked_prefix(prefix)
        with self._translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=below
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(self._prefix)

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        from botocore.exceptions import ClientError

        with self._translated(key):
            try:
                self._client.head_object(**self._object(key))
            except ClientError as err:
                if _code(err) in ("404", "NoSuchKey"):
                    return False
                raise
            return True

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with self._translated(key):
            self._client.delete_object(**self._object(key))

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + _checked(key)}

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as err:
            raise self._answered(key, err) from err
        except BotoCoreError as err:
            raise self._unanswered(key, err) from err

    def _answered(self, key: str, err: Any) -> StorageError:
        """What the store answered, in one line."""
        code, operation = _code(err), err.operation_name
        where = f"{self.uri}/{key}".rstrip("/")
        if code in ("NoSuchKey", "404"):
            return NotFoundError(f"{where}: there is no such object")
        if code == "NotImplemented":
            return _NoConditionalWritesError(
                f"{where}: the store does not implement {operation} with If-None-Match"
            )
        if code in _REFUSED_CODES:
            return RefusedError(f"{where}: {operation}: {code}: {_REFUSED_CODES[code]}")
        said = " ".join(str(err.response.get("Error", {}).get("Message", "")).split())[:200]
        return StorageError(f"{where}: {operation} failed: {code}: {said or 'no reason given'}")

    def _unanswered(self, key: str, err: Any) -> StorageError:
        """No answer. botocore's own text is left out: it may hold a URL with a password."""
        where, name = f"{self.uri}/{key}".rstrip("/"), type(err).__name__
        if name in _REFUSED_NAMES:
            return RefusedError(f"{where}: {name}: {_REFUSED_NAMES[name]}")
        endpoint = _without_password(self._client.meta.endpoint_url) if self._client else "AWS"
        return StorageError(
            f"{where}: no answer from {endpoint} ({name}); check AWS_ENDPOINT_URL, AWS_REGION and"
            " the network"
        )


class _InOrder:
    """A file that cannot seek: into any other boto3 writes the parts as they arrive."""

    def __init__(self, file: Writable) -> None:
        self.write = file.write


class _NoConditionalWritesError(RefusedError):
    """The store cannot write an object on the condition that there is none."""


_MEMORY: dict[str, dict[str, bytes]] = {}
_MEMORY_LOCK = threading.Lock()
_RACERS = 8
_PART_BYTES = 1024 * 1024
_CONFLICT_PAUSES_S = (0.0, 0.1, 0.4, 1.6)  # S3 says 409 while another write of the key is in flight
_S3_ATTEMPTS = 6  # botocore's 3 are few for a run of days; AWS_MAX_ATTEMPTS is heard
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_REFUSED_ERRNO = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_ADVICE_ERRNO = {
    errno.ENOSPC: "free some space, or choose another place",
    errno.EDQUOT: "free some space, or choose another place",
    errno.EACCES: "give this user the right to do so, or choose another place",
    errno.EPERM: "give this user the right to do so, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENAMETOOLONG: "choose shorter names",
    errno.ENOTDIR: "a file stands where a directory is needed: move it away",
    errno.EEXIST: "a file stands where a directory is needed: move it away",
}
_DENIED = "allow s3:GetObject, s3:PutObject, s3:DeleteObject, and s3:ListBucket on the bucket"
_WRONG_KEY = "the credentials are not accepted: check AWS_PROFILE or the keys of this machine"
_EXPIRED = "the credentials have run out: renew them"
_WRONG_REGION = "the bucket is in another region: set AWS_REGION"
_NO_KEY = "no credentials found: set AWS_PROFILE, or give this machine a role"
_REFUSED_CODES = {
    "NoSuchBucket": "there is no such bucket: create it, or name another",
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "AllAccessDisabled": _DENIED,
    "InvalidAccessKeyId": _WRONG_KEY,
    "SignatureDoesNotMatch": _WRONG_KEY,
    "InvalidToken": _EXPIRED,
    "ExpiredToken": _EXPIRED,
    "PermanentRedirect": _WRONG_REGION,
    "301": _WRONG_REGION,
    "AuthorizationHeaderMalformed": _WRONG_REGION,
    "IllegalLocationConstraintException": _WRONG_REGION,
}
_REFUSED_NAMES = {
    "NoCredentialsError": _NO_KEY,
    "PartialCredentialsError": _NO_KEY,
    "ProfileNotFound": "AWS_PROFILE names no profile: check ~/.aws/config",
    "ParamValidationError": "this cannot be the name of a bucket or of an object: choose another",
    "InvalidRegionError": "AWS_REGION is not the name of a region",
}


def _parse(uri: str) -> tuple[str, str]:
    """(scheme, the rest); for `file` the rest is a decoded path."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if not uri or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", uri):
            raise RefusedError(f"{uri!r} names no place: expected {_KNOWN}")
        return "file", os.path.expanduser(uri)
    if scheme not in ("file", "s3", "memory"):
        raise RefusedError(f"{scheme!r} is not a scheme known here: expected {_KNOWN}")
    if scheme == "file" and not rest.startswith("/"):
        raise StorageError(f"{uri} is not absolute: expected file:///absolute/directory")
    authority = rest.partition("/")[0]
    if scheme != "file" and (not authority or "@" in authority):
        # The text is not repeated: what stands before an @ may be a secret.
        raise RefusedError(f"no plain name follows {scheme}:// in a URI: expected {_KNOWN}")
    return scheme, urllib.parse.unquote(rest) if scheme == "file" else rest


def _checked(key: str) -> str:
    for part in key.split("/"):
        if part in ("", ".", "..") or "\0" in part or part.startswith(_TEMPORARY):
            raise StorageError(
                f"{key!r} is not a key: expected parts joined by '/', none empty, '.' or '..'"
            )
    return key


def _checked_prefix(prefix: str) -> str:
    return _checked(prefix.removesuffix("/")) + "/" if prefix else ""


def _sync_directory(path: Path) -> None:
    """Make new names last through a power cut: a commit must not outlive the files it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as err:
        # Some network file systems have no such call.
        if err.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _has_one_winner(storage: Storage, key: str, pool: ThreadPoolExecutor) -> bool:
    start = threading.Barrier(_RACERS)

    def race(data: bytes) -> bool:
        start.wait()
        return storage.put_if_absent(key, data)

    entries = [f"{key} {n}".encode() for n in range(_RACERS)]
    won = list(pool.map(race, entries))
    return won.count(True) == 1 and storage.get(key) == entries[won.index(True)]


def _s3_client() -> Any:
    import boto3
    from botocore.config import Config

    retries: Any = {"mode": "adaptive"}
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        retries["total_max_attempts"] = _S3_ATTEMPTS
    config = Config(retries=retries, connect_timeout=10, read_timeout=60, max_pool_connections=32)
    return boto3.session.Session().client("s3", config=config)


def _code(err: Any) -> str:
    return str(err.response.get("Error", {}).get("Code", "unknown"))


def _content_type(key: str) -> str:
    """So that a browser shows the report and the images of a bucket."""
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


def _without_password(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
