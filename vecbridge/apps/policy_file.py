"""Reads a moderation policy from YAML; every error names the line."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pydantic import ValidationError

from vecbridge.apps.policy import Policy, problems
from vecbridge.errors import ConfigError, MissingDependencyError

_MOST: Final = 5  # problems that an error lists
_TEXT_KEY: Final = "tag:yaml.org,2002:str"
Place = tuple[str | int, ...]


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Reads a policy file.

    The file is YAML: ``version: 1``, ``model``, and ``categories``, each with the fields of
    :class:`~vecbridge.apps.policy.Category`. Unknown keys are refused, so that a misspelt threshold is an
    error and not a default.

    Raises:
        ConfigError: The file cannot be read, is no YAML, or no policy; the message names file and line.
        MissingDependencyError: PyYAML is not installed.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
    except OSError as exc:
        raise ConfigError(f"{file}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file}: not UTF-8") from exc
    return parse_policy(text, file=str(file))


def parse_policy(text: str, *, file: str = "policy") -> Policy:
    """Reads a policy from text, as :func:`load_policy` does.

    Args:
        text: YAML.
        file: What errors call it.

    Example:
        >>> parse_policy('''
        ... version: 1
        ... model: bundled
        ... categories:
        ...   - name: weapons
        ...     texts: [a knife]
        ...     negatvies: [a spoon]
        ...     review: 0.4
        ...     block: 0.8
        ... ''')
        Traceback (most recent call last):
        vecbridge.errors.ConfigError: policy:7: unknown key 'negatvies'; did you mean 'negatives'?
    """
    reader = _Reader(_yaml(), file)
    value = reader.read(text)
    try:
        return Policy.model_validate(value)
    except ValidationError as exc:
        found = [f"{file}:{reader.line(place)}: {what}" for place, what in problems(exc)]
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    raise ConfigError("; ".join(found[:_MOST]) + more)


def _yaml() -> ModuleType:
    try:
        import yaml
    except ImportError as exc:
        raise MissingDependencyError("pyyaml", extra="apps") from exc
    module: ModuleType = yaml
    return module


class _Reader:
    """Turns YAML into plain values and keeps the line of each.

    The tree that ``compose`` makes has the lines, which the values that ``load`` makes do not have.
    """

    def __init__(self, yaml: ModuleType, file: str) -> None:
        self._yaml: Any = yaml
        self._file = file
        self._lines: dict[Place, int] = {}
        self._seen: set[int] = set()
        self._scalars: Any = yaml.SafeLoader("")

    def read(self, text: str) -> Any:
        """The value of the one document.

        Raises:
            ConfigError: No YAML, nothing in it, or a feature that a policy does not need.
        """
        try:
            node = self._yaml.compose(text, Loader=self._yaml.SafeLoader)
            if node is None:
                raise ConfigError(f"{self._file}: the policy is empty")
            return self._value(node, ())
        except self._yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            line = 1 if mark is None else mark.line + 1
            raise ConfigError(f"{self._file}:{line}: no YAML: {exc.problem or exc.context}") from None
        except self._yaml.YAMLError as exc:  # characters that YAML does not allow
            raise ConfigError(f"{self._file}: no YAML: {str(exc).splitlines()[0]}") from None
        except RecursionError:
            raise ConfigError(f"{self._file}: nested too deep") from None

    def line(self, place: Place) -> int:
        """The line of a place, or of the nearest one around it."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def _value(self, node: Any, place: Place) -> Any:
        self._lines.setdefault(place, node.start_mark.line + 1)
        if id(node) in self._seen:  # one node at two places; a few lines of them expand to gigabytes
            raise self._error(node, "aliases (*name) are not read")
        self._seen.add(id(node))
        if isinstance(node, self._yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, self._yaml.SequenceNode):
            return [self._value(each, (*place, row)) for row, each in enumerate(node.value)]
        try:
            return self._scalars.construct_object(node)
        except ValueError as exc:  # a date that the calendar does not have
            raise self._error(node, f"{node.value!r}: {exc}") from None

    def _mapping(self, node: Any, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag != _TEXT_KEY:
                raise self._error(key, "a key must be text")
            if key.value in found:
                raise self._error(key, f"{key.value!r} is there twice")
            self._lines[(*place, key.value)] = key.start_mark.line + 1
            found[key.value] = self._value(value, (*place, key.value))
        return found

    def _error(self, node: Any, what: str) -> ConfigError:
        return ConfigError(f"{self._file}:{node.start_mark.line + 1}: {what}")
