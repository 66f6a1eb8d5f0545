"""URIs: which store they name and what in it, and whether one lies within another.

a path · file:///absolute/directory · s3://bucket/prefix · memory://name/prefix
"""

from __future__ import annotations

import os
import posixpath
import re
import urllib.parse
from pathlib import Path

from insetgan_batch.errors import RefusedError, StorageError, without_secrets

_KNOWN = "a path, file:///absolute/directory, s3://bucket/prefix or memory://name"


def parse(uri: str) -> tuple[str, str]:
    """(scheme, the rest); for `file`, which a plain path is too, the rest is a decoded path.

    Raises `StorageError` for what is none of the four.
    """
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
    if scheme != "file" and (not authority or "@" in authority or without_secrets(uri) != uri):
        # The text is not repeated: what stands before an @ may be a secret.
        raise RefusedError(
            f"no plain name follows {scheme}:// in a URI: expected {_KNOWN}; keys come by"
            " AWS_ACCESS_KEY_ID or AWS_PROFILE"
        )
    if scheme == "file":  # as bytes: a name need not be UTF-8
        rest = os.fsdecode(urllib.parse.unquote_to_bytes(rest))
    return scheme, rest


def local_path(uri: str) -> Path | None:
    """Where the object is on this machine's disk; None for one that is in a store."""
    scheme, rest = parse(uri)
    return Path(rest).absolute() if scheme == "file" else None


def absolute(uri: str) -> str:
    """The URI as it is understood in any directory, without a slash at its end."""
    path = local_path(uri)
    return path.as_uri() if path else uri.rstrip("/")


def parent(uri: str) -> str:
    """The directory or prefix that an object lies in, as an absolute URI."""
    if path := local_path(uri):
        return path.parent.as_uri()
    scheme, rest = parse(uri)
    rest = rest.rstrip("/")
    return f"{scheme}://{rest.rpartition('/')[0] or rest}"


def beside(base: str, uri: str) -> str:
    """What a path means in a directory or prefix: absolute ones, and URIs, as they are."""
    scheme, rest = parse(uri)
    if "://" in uri or os.path.isabs(rest):
        return uri
    if directory := local_path(base):
        return (directory / rest).as_uri()  # `..` after a link means what the link leads to
    scheme, prefix = parse(base)
    name, _, below = prefix.strip("/").partition("/")
    key = posixpath.normpath(f"/{below}/{rest}").lstrip("/")
    return f"{scheme}://{name}/{key}"


def child(uri: str, name: str) -> str:
    """The URI of what lies below a directory or prefix, for its name as it is listed."""
    path = local_path(uri)
    return (path / name).as_uri() if path else f"{uri.rstrip('/')}/{name}"


def resolved(uri: str) -> str:
    """The absolute URI with all symbolic links of this machine followed, and every `..`.

    Raises `StorageError` for links that end nowhere, and where a name in a store is `..`.
    """
    path = local_path(uri)
    if not path:
        if any(part in (".", "..") for part in uri.split("/")):
            raise RefusedError(f"{uri}: '.' and '..' mean nothing in a store: write it without")
        return absolute(uri)
    try:
        return path.resolve().as_uri()
    except (OSError, RuntimeError, ValueError) as err:  # a ring of links; a name with a zero
        raise RefusedError(f"{uri!r} names no file: {err}") from err


def lies_within(uri: str, root: str) -> bool:
    """Whether a resolved URI is a resolved root, or below it."""
    return uri == root or uri.startswith(root.rstrip("/") + "/")
