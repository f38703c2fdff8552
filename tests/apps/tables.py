"""A model that is a table, so that tests of what is built on models need none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import vecbridge as vb
from vecbridge.errors import Failure, InvalidRecordError

DIM = 4


class TableModel:
    """Texts and pictures have the vectors that a table says; others have one that their characters make.

    Attributes:
        asked: Every text and picture that was embedded.
    """

    note = ""

    def __init__(self, table: dict[str, Sequence[float]], *, name: str = "table", dim: int = DIM) -> None:
        self.identity = vb.EmbedderIdentity(name, "1", dim, "none")
        self.dim = dim
        self.asked: list[str] = []
        self._table = table

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._vectors(texts)

    def embed_images(self, images: Sequence[Any]) -> np.ndarray:
        bad = [row for row, each in enumerate(images) if "broken" in str(each)]
        if bad:
            raise InvalidRecordError("broken", [Failure(row, None, "is no picture") for row in bad])
        return self._vectors([str(each) for each in images])

    def close(self) -> None:
        pass

    def _vectors(self, items: Sequence[str]) -> np.ndarray:
        self.asked += items
        rows = np.array([self._table.get(each) or self._made(each) for each in items], np.float32)
        rows = rows.reshape(-1, self.dim)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def _made(self, text: str) -> list[float]:
        return np.random.default_rng(list(text.encode())).standard_normal(self.dim).tolist()


def named_axes() -> TableModel:
    """Four directions with names, in texts and in pictures."""
    axes = np.eye(DIM).tolist()
    names = ("house", "snow", "dog", "boat")
    table = dict(zip(names, axes, strict=True))
    return TableModel(table | {f"{name}.jpg": axis for name, axis in table.items()})
