"""Configuration files, read strictly: what every reader of a YAML file shares."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError


class ConfigError(ValueError):
    """A configuration file is missing or wrong; the message names file and key."""


def read_strict_yaml(path: Path) -> Any:
    """Parse YAML, refusing repeated keys. Raises ``ConfigError`` naming file and line."""

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [loader.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"{path}: key '{key}' stands twice (line {node.start_mark.line + 1} ff.)")
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        # Loader is a SafeLoader: it builds plain values only.
        return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def explain(path: Path | str, error: ValidationError, kinds: frozenset[str] = frozenset()) -> ConfigError:
    """Turn pydantic's findings into one message: place, key, what is wrong, for each.

    ``kinds`` are names of alternatives, which pydantic puts into the key and the file does not have.
    """
    lines = []
    for finding in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in finding["loc"] if part not in kinds) or "(file)"
        what = {
            "extra_forbidden": "unknown key",
            "missing": "missing key",
        }.get(finding["type"], finding["msg"])
        lines.append(f"{path}: {key}: {what}")
    return ConfigError("\n".join(lines))


def expand_environment(value: Any, where: str) -> Any:
    """Replace ``${NAME}`` in all strings of a parsed document. Raises ``ConfigError`` for an unset name."""
    if isinstance(value, dict):
        return {key: expand_environment(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [expand_environment(item, f"{where}.{index}") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"{where}: environment variable {name} is not set")
        return os.environ[name]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", replace, value)
