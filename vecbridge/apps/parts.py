"""What a search across modalities is made of: the parts of a query, and where it looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Final, TypeAlias

from vecbridge.embed.base import Embedder, ImageLike
from vecbridge.errors import ConfigError
from vecbridge.schema import VectorField
from vecbridge.sources.lines import is_blank
from vecbridge.store import Collection
from vecbridge.texts import shown

_LEAST_WEIGHT: Final = 1e-9  # what rounding leaves of weights that sum to 0


@dataclass(frozen=True, slots=True)
class Text:
    """A text to search for.

    Attributes:
        text: The text.
        weight: How much it counts beside the other parts; a negative one leads away from it.

    Raises:
        ConfigError: Nothing to be seen in the text, or a weight that is no number.

    Example:
        >>> Text("in winter", weight=0.5)
        Text(text='in winter', weight=0.5)
    """

    text: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or is_blank(self.text):
            raise ConfigError(f"Text({shown(self.text)}): a text in which something can be seen")
        require_weight(self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture to search for.

    Attributes:
        image: A path, encoded bytes, a ``PIL.Image.Image`` or a uint8 array of shape (height, width, 3), read
            when it is searched for.
        weight: How much it counts beside the other parts; a negative one leads away from it.

    Raises:
        ConfigError: A weight that is no number.

    Example:
        >>> Picture("house.jpg").weight
        1.0
    """

    image: ImageLike = field(repr=False)
    weight: float = 1.0

    def __post_init__(self) -> None:
        require_weight(self.weight)


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record to search for, by the vector that it has; it is not among the hits itself.

    Attributes:
        id: Its id.
        weight: How much it counts beside the other parts; a negative one leads away from it.
        target: Name of the target that it is in; "" is the first.

    Raises:
        ConfigError: A weight that is no number.

    Example:
        >>> Record("beach.jpg", weight=2)
        Record(id='beach.jpg', weight=2, target='')
    """

    id: str | int
    weight: float = 1.0
    target: str = ""

    def __post_init__(self) -> None:
        require_weight(self.weight)


Part: TypeAlias = Text | Picture | Record


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where a search looks: a vector field of a collection.

    Attributes:
        collection: The collection.
        using: Its vector field, if there are several.
        weight: How much its hits count beside those of other targets; not negative.
        name: What it is called in the scores of hits; "" is the name of the field or, where the targets are
            several collections, of the collection and the field.
        embedder: The model for this target; None is that of the search.

    Raises:
        ConfigError: Not a collection, or a weight that is negative or no number.

    Example:
        >>> import vecbridge as vb
        >>> vectors = [vb.VectorField("picture", 256), vb.VectorField("caption", 256)]
        >>> with vb.connect("memory://") as store:
        ...     photos = store.create(vb.CollectionSpec("photos", vectors))
        ...     [Target(photos, "picture"), Target(photos, "caption", weight=0.5)][1].weight
        0.5
    """

    collection: Collection
    using: str | None = None
    weight: float = 1.0
    name: str = ""
    embedder: Embedder | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.collection, Collection):
            raise ConfigError(f"a target is a vecbridge.Collection, not {shown(self.collection)}")
        require_weight(self.weight)
        if self.weight < 0:
            raise ConfigError(f"weight={shown(self.weight)} of a target: 0 or more")

    @property
    def field(self) -> VectorField:
        """The vector field.

        Raises:
            SchemaError: There is none of that name, or several and none was named.
        """
        return self.collection.spec.vector_field(self.using)

    @property
    def place(self) -> str:
        """What tells collections apart; the identity does where two stores in memory have one URL."""
        return f"{self.collection.url} {self.collection.namespace} {self.collection.identity}"


def require_weight(weight: object) -> None:
    """Refuses what is no weight.

    Raises:
        ConfigError: Not a finite number.
    """
    if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight):
        raise ConfigError(f"weight={shown(weight)}: a finite number")


def as_parts(query: Part | str | Sequence[Part | str]) -> list[Part]:
    """The parts of a query; a plain string is a text.

    Raises:
        ConfigError: No parts, something else among them, or weights that sum to 0 or less.
    """
    given = [query] if isinstance(query, str | Text | Picture | Record) else query
    if isinstance(given, bytes) or not isinstance(given, Sequence):
        raise ConfigError(f"a query is text, Text, Picture, Record or a list of these, not {shown(given)}")
    parts: list[Part] = []
    for each in given:
        if not isinstance(each, str | Text | Picture | Record):
            raise ConfigError(f"a part of a query is text, Text, Picture or Record, not {shown(each)}")
        parts.append(Text(each) if isinstance(each, str) else each)
    if not parts:
        raise ConfigError("a query has at least one part: a text, a picture or a record")
    total = sum(part.weight for part in parts)
    if total <= _LEAST_WEIGHT:
        raise ConfigError(f"the weights of the query sum to {total:g}: they must sum to more than 0")
    return parts


def part_names(parts: Sequence[Part]) -> list[str]:
    """What parts are called where each has a score of its own: by kind, numbered if there are several.

    Example:
        >>> part_names([Text("a house"), Text("in winter"), Record("a")])
        ['text', 'text 2', 'record']
    """
    counts: dict[str, int] = {}
    names = []
    for part in parts:
        kind = type(part).__name__.lower()
        counts[kind] = counts.get(kind, 0) + 1
        names.append(kind if counts[kind] == 1 else f"{kind} {counts[kind]}")
    return names
