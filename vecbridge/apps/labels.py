"""Labels of a classifier: what they are called, and the texts that stand for them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from vecbridge.errors import ConfigError
from vecbridge.sources.lines import is_blank
from vecbridge.texts import shown

#: Names alone, or names with the texts that describe them.
Labels: TypeAlias = "Sequence[str] | Mapping[str, str | Sequence[str]]"


def read_labels(labels: Labels, others: Sequence[str] = ()) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Labels with their texts, and the texts that mean none of them.

    Args:
        labels: Names, each its own text; or names with one text or several.
        others: Texts.

    Raises:
        ConfigError: No label, one with nothing to compare it with, one twice, or one without text.

    Example:
        >>> read_labels({"animal": ["dog", "cat"], "plant": "tree"})
        ({'animal': ('dog', 'cat'), 'plant': ('tree',)}, [])
    """
    named = _named(labels)
    rest = _texts("others", others)
    if not named:
        raise ConfigError("no labels: give at least two, such as labels=['dog', 'cat']")
    if len(named) == 1 and not rest:
        [only] = named
        raise ConfigError(
            f"one label, {shown(only)}: every picture would get it. Give at least two, or others= for what "
            "else a picture may show"
        )
    seen: dict[str, str] = {}
    for label in [*named, *rest]:
        folded = _folded(label)
        if folded in seen:
            raise ConfigError(f"label {shown(label)} stands twice, the first time as {shown(seen[folded])}")
        seen[folded] = label
    return named, rest


def _named(labels: Labels) -> dict[str, tuple[str, ...]]:
    if isinstance(labels, Mapping):
        named = {}
        for name, given in labels.items():
            texts = [given] if isinstance(given, str) else given
            named[name] = tuple(_texts(f"label {shown(name)}", texts))
            if not named[name]:
                raise ConfigError(f"label {shown(name)} has no texts")
        _texts("labels", list(named))
        return named
    names = _texts("labels", labels)
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ConfigError(f"label {shown(name)} stands twice")
    return {name: (name,) for name in names}


def _texts(what: str, given: Sequence[str]) -> list[str]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise ConfigError(f"{what}: a list of texts, not {shown(given)}")
    for each in given:
        if not isinstance(each, str) or is_blank(each):
            raise ConfigError(f"{what}: {shown(each)} is no text in which something can be seen")
    return list(given)


def _folded(label: str) -> str:
    """Equal for labels that a reader takes for the same."""
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())
