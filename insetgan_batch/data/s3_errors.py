"""What an S3 store answers, or that it does not, as one of our errors: one line, and what to do.

Nothing here repeats what botocore says of a failed connection: that text may hold a whole URL.
"""

from __future__ import annotations

import re

from insetgan_batch.errors import (
    CredentialsError,
    NotFoundError,
    RefusedError,
    StorageError,
)
from insetgan_batch.text import one_line

MISSING = ("NoSuchKey", "404")
EXISTS_ALREADY = ("PreconditionFailed", "412")
IN_CONFLICT = ("ConditionalRequestConflict", "409")
NOT_IMPLEMENTED = ("NotImplemented", "501")

_SAID_CHARS = 200
_DENIED = "allow s3:GetObject, s3:PutObject, s3:DeleteObject, and s3:ListBucket on the bucket"
_SILENT = f"{_DENIED}; if they are, check the keys and the clock of this machine"
_WRONG_KEY = "the credentials are not accepted: check AWS_PROFILE or the keys of this machine"
_EXPIRED = "the credentials have run out: renew them"
_WRONG_REGION = "the bucket is in another region: set AWS_REGION"
_NO_SPACE = "there is no space left, or a quota is used up: free some, or choose another place"
_CLOCK = "the clocks of this machine and of the store differ too much: set this one (timedatectl)"
_ARCHIVED = "the object is archived: restore it, or copy it to another storage class"
# These concern whoever asks, all others the bucket or the object.
_CREDENTIALS_CODES = {
    "InvalidAccessKeyId": _WRONG_KEY,
    "InvalidToken": _EXPIRED,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
}
_REFUSED_CODES = {
    "NoSuchBucket": "there is no such bucket: create it, or name another",
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _SILENT,  # to a HEAD there is no text
    "SignatureDoesNotMatch": _WRONG_KEY,
    "InvalidObjectState": _ARCHIVED,
    "PermanentRedirect": _WRONG_REGION,
    "301": _WRONG_REGION,
    "AuthorizationHeaderMalformed": _WRONG_REGION,
    "IllegalLocationConstraintException": _WRONG_REGION,
    # No two products have the same word for a full disk; 507 is the one of HTTP.
    "QuotaExceeded": _NO_SPACE,
    "EntityTooLarge": "the object is larger than the store takes, or than a quota leaves room for",
    "InsufficientStorage": _NO_SPACE,
    "InsufficientCapacity": _NO_SPACE,
    "XMinioStorageFull": _NO_SPACE,
    "507": _NO_SPACE,
}

# Answers of 4xx that say nothing against the object: another try may get through.
_PASSING_STATUS = (408, 409, 412, 416, 423, 425, 429)
_PASSING_CODES = {
    "BadDigest",
    "IncompleteBody",
    "InvalidPart",
    "NoSuchUpload",
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "XAmzContentSHA256Mismatch",
}
# boto3 sends checksums behind the body, which not every server understands.
_TRAILERS = re.compile(r"aws-chunked|trailer|STREAMING-|x-amz-sdk-checksum", re.IGNORECASE)
_NO_TRAILERS = (
    "the store takes no checksums behind the body: set"
    " AWS_REQUEST_CHECKSUM_CALCULATION=when_required, on each machine"
)

_NO_KEY = "no credentials found: set AWS_PROFILE, or give this machine a role"
_CREDENTIALS_NAMES = {
    "NoCredentialsError": _NO_KEY,
    "PartialCredentialsError": _NO_KEY,
    "ProfileNotFound": "AWS_PROFILE names no profile: check ~/.aws/config",
}
_REFUSED_NAMES = {
    "ParamValidationError": "this cannot be the name of a bucket or of an object: choose another",
    "InvalidRegionError": "AWS_REGION is not the name of a region",
}
_CHECK_ENDPOINT = "check AWS_ENDPOINT_URL, AWS_REGION and the network"
_UNANSWERED_NAMES = {
    "EndpointConnectionError": ("cannot be reached", _CHECK_ENDPOINT),
    "ConnectTimeoutError": ("cannot be reached", _CHECK_ENDPOINT),
    "ReadTimeoutError": ("gave no answer in time", "check its load and the network"),
    "SSLError": ("shows no certificate that is accepted here", "check AWS_CA_BUNDLE"),
    "FlexibleChecksumError": ("sent bytes that differ from their checksum", "try again"),
}


def answered(where: str, code: str, status: int, operation: str, said: str) -> StorageError:
    """The store said no. code: of S3, or the HTTP status as text where the answer has no body."""
    if code in MISSING:
        return NotFoundError(f"{where}: there is no such object")
    if code in _CREDENTIALS_CODES:
        return CredentialsError(f"{where}: {operation}: {code}: {_CREDENTIALS_CODES[code]}")
    advice = _REFUSED_CODES.get(code) or (_NO_SPACE if status == 507 else None)
    if advice:
        return RefusedError(f"{where}: {operation}: {code}: {advice}")
    text = one_line(said, _SAID_CHARS) or "no reason given"
    if _TRAILERS.search(said):
        return RefusedError(f"{where}: {operation}: {code}: {text}; {_NO_TRAILERS}")
    is_passing = status in _PASSING_STATUS or code in _PASSING_CODES
    if code in NOT_IMPLEMENTED or (400 <= status < 500 and not is_passing):
        return RefusedError(f"{where}: {operation} failed: {code}: {text}")
    return StorageError(f"{where}: {operation} failed: {code}: {text}")


def lacks_conditions(code: str, said: str) -> bool:
    """Whether this answer to a write on a condition means that the store knows no conditions."""
    return code in NOT_IMPLEMENTED and not _TRAILERS.search(said)


def unanswered(where: str, name: str, endpoint: str) -> StorageError:
    """There was no answer, or nobody could ask. name: of botocore's error."""
    if name in _CREDENTIALS_NAMES:
        return CredentialsError(f"{where}: {name}: {_CREDENTIALS_NAMES[name]}")
    if name in _REFUSED_NAMES:
        return RefusedError(f"{where}: {name}: {_REFUSED_NAMES[name]}")
    what, advice = _UNANSWERED_NAMES.get(name, ("broke the connection off", _CHECK_ENDPOINT))
    return StorageError(f"{where}: {endpoint} {what} ({name}); {advice}")
