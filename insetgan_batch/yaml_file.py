"""YAML as data: without code, without a key that is there twice, every mistake one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from insetgan_batch.errors import ConfigError
from insetgan_batch.text import one_line

# A larger file is another one, given by mistake.
_MOST_BYTES = 256 * 1024


def read(path: Path) -> Any:
    """What the file says, None if it is empty; raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read ({err}); expected a YAML file") from err
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path}: more than {_MOST_BYTES // 1024} KiB, expected a configuration")
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as err:  # ValueError: a day that is none, like 2026-13-45
        raise ConfigError(f"{path}: not YAML: {one_line(err, 500)}") from err


class _Loader(yaml.SafeLoader):
    """PyYAML would take the last of several equal keys."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        """A mapping; raises `ConstructorError` with the line of a key that is there twice."""
        seen = set()
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        for key in (key for key, _ in pairs if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise ConstructorError(
                    None, None, f"`{one_line(key.value)}` is there twice", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)  # type: ignore[arg-type]
        return mapping
