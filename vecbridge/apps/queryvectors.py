"""From the parts of a query to the vectors that targets are searched with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from vecbridge import records
from vecbridge.apps.parts import Part, Picture, Record, Target, Text
from vecbridge.embed.base import Embedder, FloatArray
from vecbridge.errors import ConfigError, NotFoundError, suggestion
from vecbridge.identity import EmbedderIdentity
from vecbridge.texts import shown

_LEAST_LENGTH: Final = 1e-6  # of a mixture of unit vectors; a shorter one has no direction to speak of


class QueryVectors:
    """The vectors of a query's parts; each is embedded once by a model, each record fetched once.

    Args:
        parts: The parts of the query.
        targets: By name.
        embedder: The model of targets without one of their own.
    """

    def __init__(
        self, parts: Sequence[Part], targets: Mapping[str, Target], embedder: Embedder | None
    ) -> None:
        self._parts = list(parts)
        self._targets = targets
        self._embedder = embedder
        self._embedded: dict[int, dict[int, FloatArray]] = {}
        self._stored: dict[int, FloatArray] = {}

    def mixture(self, group: Sequence[Part], target: Target) -> FloatArray:
        """The vector of some parts, float32 of shape (dim,): the mean of their unit vectors by weight.

        It has unit length. A part alone is its own vector, so that the scores are those of a plain search.

        Raises:
            ConfigError: No model, no such target, or parts that cancel each other.
            InvalidRecordError: A picture cannot be read.
            NotFoundError: A record is not there.
            EmbedderMismatchError: A record has the vector of another model.
        """
        rows = [self._vector(part, target) for part in group]
        if len(rows) == 1:
            return rows[0]
        dims = sorted({len(row) for row in rows})
        if len(dims) > 1:
            raise ConfigError(f"the parts have vectors of {' and '.join(map(str, dims))} dimensions")
        mixed = np.sum([part.weight * _unit(row) for part, row in zip(group, rows, strict=True)], axis=0)
        if np.linalg.norm(mixed) < _LEAST_LENGTH:
            raise ConfigError("the parts of the query cancel each other: nothing is left to search for")
        vector: FloatArray = _unit(mixed).astype(np.float32)
        return vector

    def identity(self, target: Target) -> EmbedderIdentity | None:
        """The model behind the vectors that a target is searched with; None where nobody recorded it."""
        homes = [self._home(part) for part in self._parts if isinstance(part, Record)]
        if len(homes) < len(self._parts):
            return self._model(target).identity
        return homes[0].field.embedder

    def excluded(self, target: Target, *, same_ids: bool) -> list[str | int]:
        """The records of a target's collection that are searched for, and so are none of its hits.

        Args:
            target: The target.
            same_ids: Whether an id means the same thing in every collection.
        """
        return [
            part.id
            for part in self._parts
            if isinstance(part, Record) and (same_ids or self._home(part).place == target.place)
        ]

    def _vector(self, part: Part, target: Target) -> FloatArray:
        if isinstance(part, Record):
            records.require_same_embedder(self._home(part).field, self.identity(target))
            return self._record(part)
        model = self._model(target)
        if id(model) not in self._embedded:
            self._embedded[id(model)] = _embed(self._parts, model)
        return self._embedded[id(model)][id(part)]

    def _record(self, part: Record) -> FloatArray:
        if id(part) not in self._stored:
            home = self._home(part)
            name = home.field.name
            batch = home.collection.fetch([part.id], include=[name])
            if not batch.num_rows:
                raise NotFoundError(
                    f"{home.collection.spec.name!r} has no record {shown(part.id)} to search by"
                )
            self._stored[id(part)] = records.vectors(batch, name)[0]
        return self._stored[id(part)]

    def _home(self, part: Record) -> Target:
        if not part.target:
            return next(iter(self._targets.values()))
        if part.target not in self._targets:
            hint = suggestion(part.target, self._targets)
            raise ConfigError(f"Record({shown(part.id)}): there is no target {part.target!r}{hint}")
        return self._targets[part.target]

    def _model(self, target: Target) -> Embedder:
        model = target.embedder or self._embedder
        if model is None:
            raise ConfigError("a text or a picture needs a model: CrossModalSearch(targets, embedder)")
        return model


def _embed(parts: Sequence[Part], model: Embedder) -> dict[int, FloatArray]:
    """The vectors of texts and pictures, by the identity of the part."""
    vectors: dict[int, FloatArray] = {}
    texts = [part for part in parts if isinstance(part, Text)]
    pictures = [part for part in parts if isinstance(part, Picture)]
    if texts:
        rows = model.embed_texts([part.text for part in texts])
        vectors |= {id(part): row for part, row in zip(texts, rows, strict=True)}
    if pictures:
        rows = model.embed_images([part.image for part in pictures])
        vectors |= {id(part): row for part, row in zip(pictures, rows, strict=True)}
    return vectors


def _unit(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    exact = vector.astype(np.float64)
    length = float(np.linalg.norm(exact))
    return exact / length if length else exact
