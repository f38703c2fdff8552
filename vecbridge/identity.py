"""Where vectors and ids come from: which model made a vector, and how ids are made from files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from vecbridge.errors import SchemaError

log = logging.getLogger(__name__)

IdKind = Literal["relative", "absolute", "content"]

#: The format of identities made today; it changes whenever the same model would get another hash.
IDENTITY_FORMAT: Final = 2
_FOUR: Final = ("model", "revision", "dim", "preprocessing")
_HASHES: Final = ("config", "tokenizer")
_LABELS: Final = {
    "model": "model",
    "revision": "revision",
    "dim": "dimension",
    "preprocessing": "preprocessing of pictures",
    "config": "config.json",
    "tokenizer": "tokenizer",
}
_told: set[tuple[str, str, int, int]] = set()


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """Which model made the vectors: everything that changes a vector of the same text or picture.

    The runtime, the device and the precision are no part of it.

    Attributes:
        model: Model id, as given to :func:`vecbridge.embedder`.
        revision: Revision or content hash of the weights.
        dim: Length of its vectors.
        preprocessing: Hash of the preprocessing of pictures.
        config: Hash of the values of ``config.json`` that change a vector; "" in format 1.
        tokenizer: Hash of the tokenizer and of the length that texts are cut to; "" in format 1.
        format: How the last two hashes were made. Format 1 has neither: it was all that vecbridge recorded
            at first, and is what an embedder of your own may use.

    Example:
        >>> import vecbridge as vb
        >>> with vb.embedder("bundled") as model:
        ...     identity = model.identity
        >>> spec = vb.CollectionSpec.single("photos", dim=identity.dim, embedder=identity)
        >>> spec.vector.embedder.model
        'bundled'
    """

    model: str
    revision: str
    dim: int
    preprocessing: str
    config: str = field(default="", kw_only=True)
    tokenizer: str = field(default="", kw_only=True)
    format: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if self.format == 1 and (self.config or self.tokenizer):
            raise SchemaError(
                "an EmbedderIdentity of format 1 has neither config nor tokenizer: give format=2"
            )

    def to_dicts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The four parts of format 1, and what later formats added; the second is empty in format 1.

        They are stored side by side and not in one object, so that vecbridge before format 2, which refuses
        an unknown key of an identity, still reads the first and compares by it.
        """
        four = {name: getattr(self, name) for name in _FOUR}
        if self.format == 1:
            return four, {}
        return four, {"format": self.format} | {name: getattr(self, name) for name in _HASHES}

    @classmethod
    def from_dicts(cls, four: Mapping[str, Any], added: Mapping[str, Any] | None) -> EmbedderIdentity:
        """Reads what :meth:`to_dicts` gave, in whatever format; what a later one added is left out.

        Raises:
            TypeError: Something is missing, unknown or of the wrong type.
        """
        if added is None:
            return cls(**four)
        if not isinstance(added, Mapping):
            raise TypeError(f"what an embedder's format adds is {added!r}")
        number, hashes = added.get("format"), {name: added.get(name, "") for name in _HASHES}
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"an embedder's format is {number!r}")
        if not all(isinstance(value, str) for value in hashes.values()):
            raise TypeError(f"an embedder's hashes are {hashes!r}")
        return cls(**four, **hashes, format=number)

    def __str__(self) -> str:
        return f"{self.model} ({self.revision[:12]})"


def embedder_differences(stored: EmbedderIdentity, given: EmbedderIdentity) -> list[str]:
    """What two identities disagree about, in words; empty where they agree.

    Identities of two formats are compared by the four parts that every format has.
    """
    compared = _FOUR + _HASHES if stored.format == given.format else _FOUR
    return [_LABELS[name] for name in compared if getattr(stored, name) != getattr(given, name)]


def same_embedder(stored: EmbedderIdentity, given: EmbedderIdentity) -> bool:
    """Whether vectors of both can be compared; logs once for a model where the formats are two."""
    if embedder_differences(stored, given):
        return False
    key = (stored.model, stored.revision, stored.format, given.format)
    if stored.format != given.format and key not in _told:
        _told.add(key)
        log.warning(
            "the identity of %s was recorded in format %d and is compared with one of format %d: its "
            "config.json and tokenizer are not compared; a collection made now records them (said once)",
            stored, stored.format, given.format,
        )  # fmt: skip
    return True


@dataclass(frozen=True, slots=True)
class SourceIds:
    """How the ids of a collection are made from the files that its records come from.

    Attributes:
        kind: "relative" (the path below the folder that was given), "absolute" (the whole path) or "content"
            (the first 32 hex digits of the SHA-256 of the file).
        prefix: What stands before a relative path.

    Raises:
        SchemaError: Another kind; a prefix of ids that are not relative.

    Example:
        >>> SourceIds(prefix="2019/")
        SourceIds(kind='relative', prefix='2019/')
    """

    kind: IdKind = "relative"
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(IdKind):
            raise SchemaError(f"ids of files are {', '.join(get_args(IdKind))}, not {self.kind!r}")
        if not isinstance(self.prefix, str) or (self.prefix and self.kind != "relative"):
            raise SchemaError(f"a prefix ({self.prefix!r}) stands before relative ids alone")
