"""Pictures of one colour, and an embedder that sees it: a pipeline without a model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vecbridge as vb
from tests.bulk.faults import Faulty
from vecbridge.embed.base import FloatArray

IDENTITY = vb.EmbedderIdentity("colours", "1", 3, "none")
FIELDS: dict[str, Any] = {"path": "string", "sha256": "string", "width": "int64", "text": "string"}


def spec(fields: dict[str, Any] = FIELDS, **options: Any) -> vb.CollectionSpec:
    return vb.CollectionSpec.single("photos", dim=3, metric="l2", fields=fields, embedder=IDENTITY, **options)


class Colours:
    """The mean colour of a picture; a text is as red as it is long. Counts what it is given.

    Attributes:
        prepared: Pictures that were decoded and prepared.
        batches: Sizes of the batches that were embedded.
    """

    identity = IDENTITY
    dim = 3
    note = ""

    def __init__(
        self,
        before_prepare: Callable[[int], None] | None = None,
        before_embed: Callable[[int], None] | None = None,
    ) -> None:
        self.prepared = 0
        self.batches: list[int] = []
        self._before_prepare, self._before_embed = before_prepare, before_embed
        self._lock = threading.Lock()

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        self._count(len(texts))
        return np.array([[len(text), 0, 0] for text in texts], np.float32)

    def embed_images(self, images: Sequence[Any]) -> FloatArray:
        return self.embed_prepared([self.prepare(image) for image in images])

    def prepare(self, image: Any) -> Any:
        with self._lock:
            number, self.prepared = self.prepared, self.prepared + 1
        if self._before_prepare is not None:
            self._before_prepare(number)
        return np.asarray(image.resize((1, 1))).transpose(2, 0, 1)

    def embed_prepared(self, pixels: Sequence[Any]) -> FloatArray:
        self._count(len(pixels))
        return np.stack([each[:, 0, 0] for each in pixels]).astype(np.float32)

    def close(self) -> None:
        pass

    def __enter__(self) -> Colours:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _count(self, rows: int) -> None:
        number = len(self.batches)
        self.batches.append(rows)
        if self._before_embed is not None:
            self._before_embed(number)


class Photos(Faulty):
    """A collection for the pictures, around the memory store, that may fail or wait."""

    def __init__(self, before: Any = None, **capabilities: Any) -> None:
        super().__init__(before, **capabilities)
        self.inner = vb.connect("memory://").create(spec())
        self.spec = self.inner.spec

    def upsert(self, checked: Any, *, on_conflict: Any = "replace") -> vb.WriteReport:
        with self._lock:
            call = len(self.sent)
            self.sent.append(checked.batch.column("id").to_pylist())
        if self._before:
            self._before(call, checked.batch)
        return self.inner.upsert(checked, on_conflict=on_conflict)


def colour(number: int) -> tuple[int, int, int]:
    return number % 256, number // 256, 7


def paint(folder: Path, first: int, count: int) -> None:
    """Pictures ``first``, ``first + 1``, …, each of its own colour."""
    folder.mkdir(exist_ok=True)
    for number in range(first, first + count):
        Image.new("RGB", (4, 3), colour(number)).save(folder / f"{number:05}.png")


def expected(numbers: range) -> dict[str, list[float]]:
    return {f"{number:05}.png": [float(part) for part in colour(number)] for number in numbers}


def stored(collection: Any) -> dict[str, list[float]]:
    """The ids of a collection and their vectors."""
    return {
        row["id"]: row["vector"]
        for page in collection.scan(include=["vector"])
        for row in page.batch.to_pylist()
    }


def own_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("vecbridge-")]
