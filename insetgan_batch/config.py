"""The run configuration, from YAML: the method, its settings, and the machines.

In a file they stand side by side; which key is whose is known by their dataclasses. Every mistake
is one line, and an unknown key is one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import pydantic
from pydantic import Field
from pydantic.dataclasses import dataclass

from insetgan_batch import yaml_file
from insetgan_batch.errors import ConfigError
from insetgan_batch.methods import names
from insetgan_batch.text import one_line
from insetgan_batch.validation import STRICT, explain, field_names

# Beyond these is a typing error, which would fail late and somewhere else.
_MOST_SLOTS = 4_096
_MOST_ACTORS = 100_000
_MOST_CORES = 4_096
_SHOWN = 500

Slots = int | Literal["auto"]
_T = TypeVar("_T")


def _slots(value: object) -> object:
    """A number of slots or `auto`, in one line where a union of types would have two."""
    if value == "auto" or (type(value) is int and 1 <= value <= _MOST_SLOTS):
        return value
    raise ValueError(f"`slots` is {value!r}: expected a number from 1 to {_MOST_SLOTS}, or auto")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StorageSettings:
    """Where S3 is, for this run; what is left out comes from the usual AWS places."""

    # Like https://objects.example.org; without a user or a password in it.
    endpoint_url: str | None = None
    region: str | None = None
    # path for most servers of one's own.
    addressing_style: Literal["auto", "path", "virtual"] | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Machine:
    """How much of which machines a run takes, and what it may touch there: it changes how fast
    results come, not which, so that a resume may have another.
    """

    # Items side by side in one actor; auto: as many as each GPU's memory holds, measured by its
    # actor, so that a run asks for one actor per item at first, at most `max_actors`.
    slots: Annotated[Slots, pydantic.PlainValidator(_slots)] = 4
    # The share of a GPU that an actor takes: 0.5 puts two on each, for small networks. With auto
    # slots each fills its share of the memory; a number has to fit as often as actors share a GPU.
    gpus_per_actor: Annotated[float, Field(gt=0, le=1)] = 1.0
    # Actors at most, so that several runs can share a cluster; None for all there is room for: by
    # `gpus_per_actor`, or by `cores_per_actor` where there is no GPU.
    max_actors: Annotated[int, Field(ge=1, le=_MOST_ACTORS)] | None = None
    cores_per_actor: Annotated[int, Field(ge=1, le=_MOST_CORES)] = 1
    # Hours that one item may take, its waiting for neighbours in the batch included; one that takes
    # longer is quarantined. InsetGAN's longest, eight at once at 1024 pixels on a slow CPU, takes
    # some 150.
    item_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 240.0
    # Directories and prefixes that the files of the manifest may lie in; empty for the manifest's
    # own. A manifest of somebody else's cannot read a worker's other files.
    input_roots: tuple[str, ...] = ()
    # All machines of the cluster see the directory of the output; else a directory is refused.
    shared_output: bool = False
    # Where S3 is, unless the AWS environment says it: `{endpoint_url: https://..., region: ...}`.
    storage: StorageSettings = dataclasses.field(default_factory=StorageSettings)
    # Only for a store without conditional writes: you promise that one driver at a time uses the
    # output.
    single_writer: bool = False

    @property
    def least_slots(self) -> int:
        """What every actor has at least, before any has measured."""
        return 1 if self.slots == "auto" else self.slots


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Settings:
    """What a run tells its method; each has its own fields, in a class of its own."""

    FREE: ClassVar[frozenset[str]] = frozenset()
    """Those that a resume may change: they decide what is kept beside results, not which."""

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """Checked fields; raises pydantic's `ValidationError`, or `ConfigError`."""
        return pydantic.TypeAdapter(cls).validate_python(dict(fields))

    @property
    def models(self) -> dict[str, str]:
        """Every file of weights, by the names that `run.json` gives them."""
        return {}

    @property
    def warnings(self) -> Sequence[str]:
        """What may surprise whoever starts such a run, a line each."""
        return ()

    def with_models(self, models: Mapping[str, str]) -> Self:
        """The same settings with other files; models: as `models` has them."""
        return self


@dataclasses.dataclass(frozen=True, slots=True)
class RunConfig:
    """One run: by which method, how, and on what. method: as `names.find` takes it."""

    method: str
    settings: Settings
    machine: Machine

    @property
    def free(self) -> frozenset[str]:
        """The keys that a resume may change."""
        return _OF_A_MACHINE | self.settings.FREE

    def on(self, **changes: Any) -> RunConfig:
        """The same with changes of its machine."""
        return dataclasses.replace(self, machine=dataclasses.replace(self.machine, **changes))


_OF_A_MACHINE = frozenset(field.name for field in dataclasses.fields(Machine))
_MACHINE = pydantic.TypeAdapter(Machine)


def load(
    path: Path, change: Callable[[dict[str, Any]], dict[str, Any]] = lambda fields: fields
) -> RunConfig:
    """Read a run configuration; every mistake in it becomes one line of a `ConfigError`.

    change: what the command line makes of the fields of the file.
    """
    fields = yaml_file.read(path)
    if fields is None:
        fields = {}
    return parse(change(fields) if isinstance(fields, dict) else fields, str(path))


def parse(fields: object, where: str) -> RunConfig:
    """A run configuration from what YAML gave; `where` names the source in a `ConfigError`."""
    if not isinstance(fields, dict):
        raise ConfigError(f"{where}: found {type(fields).__name__}, expected `key: value` lines")
    mistakes: list[str] = []
    name = fields.get("method", names.DEFAULT)
    try:
        kind = names.find(name).Settings
    except ConfigError as err:
        raise ConfigError(f"{where}: {err}") from err
    known = field_names(kind) | field_names(Machine) | {"method"}

    def checked(check: Callable[[dict[str, Any]], _T], keys: Collection[str]) -> _T | None:
        try:
            return check({key: fields[key] for key in keys})
        except ConfigError as err:
            mistakes.append(str(err))
        except pydantic.ValidationError as err:
            mistakes.extend(explain(err, known))
        return None

    settings = checked(kind.parse, fields.keys() - _OF_A_MACHINE - {"method"})
    machine = checked(_MACHINE.validate_python, fields.keys() & _OF_A_MACHINE)
    if settings is None or machine is None:
        raise ConfigError("\n".join(f"{where}: {one_line(m, _SHOWN)}" for m in mistakes))
    return RunConfig(name, settings, machine)


def to_fields(config: RunConfig) -> dict[str, Any]:
    """The whole configuration, defaults too, as plain values: what `run.json` keeps.

    The default method has no key: runs of versions that had no other are to be resumed.
    """
    named = {} if config.method == names.DEFAULT else {"method": config.method}
    parts = (config.settings, config.machine)
    plain = [pydantic.TypeAdapter(type(part)).dump_python(part, mode="json") for part in parts]
    return {**named, **plain[0], **plain[1]}
