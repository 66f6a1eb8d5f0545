"""Every exception the package raises on purpose.

InsetGanError
├── ConfigError             the configuration or the command line is wrong; nothing was started
│   └── RunMismatchError    the output already holds a run with another configuration
├── ManifestError           the manifest is wrong: names file, row and column
├── CheckpointError         a file of weights is not what it should be
├── MissingPackageError     an optional extra is not installed
├── StorageError            the store could not do what was asked
│   ├── NotFoundError       there is no object of that name
│   ├── DamagedError        what is stored is not what a run has written
│   └── RefusedError        the store says no, and would say it again: access denied, no space
│       ├── CredentialsError  it does not accept who asks, whatever is asked
│       └── NoConditionalWritesError  it cannot create an object only where there is none
└── ItemError               this item cannot be done and would fail again; `reason` is its code,
    │                       `item_error` where a library raised what we have no name for
    ├── BadInputError       `bad_input`: what the row says or names cannot be used
    ├── TooLongError        `too_long`: it takes longer than one item may
    └── ...                 those of a method, in its package
"""

from __future__ import annotations

import re

# What stands before the @ of a URI: a name, or a name and a password, which may hold slashes. A
# port is none: its digits end at a slash.
_USER = re.compile(r"(?<=://)(?:[^/\s:@'\"]+|[^/\s:@'\"]*:(?!\d*/)[^\s'\"]*)@")


def without_secrets(text: str) -> str:
    """The text with `***` in place of users and passwords of URIs."""
    return _USER.sub("***@", text)


class InsetGanError(Exception):
    """Base of everything below: one line, written for the person who has to act on it."""

    def __str__(self) -> str:
        """What is said goes to logs and records, so it repeats no password."""
        return without_secrets(super().__str__())


class ConfigError(InsetGanError):
    """The configuration or the command line is wrong; nothing was started."""


class RunMismatchError(ConfigError):
    """The output already holds a run with another configuration."""


class ManifestError(InsetGanError):
    """The manifest is wrong; the message names file, row and column."""


class CheckpointError(InsetGanError):
    """A file of weights is not what it should be."""


class MissingPackageError(InsetGanError):
    """An optional extra is not installed; the message holds the command that installs it."""


class StorageError(InsetGanError):
    """The store could not do what was asked; retried as infrastructure. `kind` is its code."""

    kind = "outage"


class NotFoundError(StorageError):
    """There is no object of that name."""

    kind = "missing"


class DamagedError(StorageError):
    """What is stored is not what a run has written there; waiting does not mend it."""

    kind = "damaged"


class RefusedError(StorageError):
    """The store says no, and would say it again: access denied, no bucket, wrong key, no space."""

    kind = "refused"


class CredentialsError(RefusedError):
    """The store does not accept who asks, whatever is asked: no keys, or they have run out."""


class NoConditionalWritesError(RefusedError):
    """The store cannot write an object on the condition that there is none."""


class ItemError(InsetGanError):
    """This item cannot be done, and would fail again; `reason` is its code in the quarantine."""

    reason = "item_error"


class BadInputError(ItemError):
    """What the row says or names cannot be used."""

    reason = "bad_input"


class TooLongError(ItemError):
    """The item has taken longer than the configuration's `item_hours`."""

    reason = "too_long"
