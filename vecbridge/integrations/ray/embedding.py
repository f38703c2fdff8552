"""Embeds pictures or texts of a Ray dataset, in actors that load the model once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge.embed.base import Embedder, FloatArray, StagedEmbedder
from vecbridge.embed.factory import embedder as load_embedder
from vecbridge.errors import ConfigError, InvalidRecordError
from vecbridge.integrations.ray.blocks import ERROR_COLUMN
from vecbridge.integrations.ray.installed import ActorPoolStrategy, Dataset
from vecbridge.records import arrow_vector_type, stamp

_MISSING = "there is nothing to embed: the column is null"


class EmbeddingActor:
    """Adds vectors to batches, for ``dataset.map_batches(EmbeddingActor, …)``; :func:`embed` calls that.

    A row that cannot be embedded gets no vector and says why in the column ``vecbridge_error``;
    :class:`VecbridgeDatasink` makes a dead letter of it.

    Args:
        model: As for :func:`vecbridge.embedder`.
        images: The column of pictures: paths, or their encoded bytes.
        texts: Or the column of texts.
        vector: The column to add.
        keep: Whether the pictures' or texts' own column stays.
        threads: That read and decode pictures; None is one a core.
        **options: As for :func:`vecbridge.embedder`, such as ``device``.

    Raises:
        ConfigError: Neither ``images`` nor ``texts``, or both.
    """

    def __init__(
        self,
        model: str = "bundled",
        *,
        images: str | None = None,
        texts: str | None = None,
        vector: str = "vector",
        keep: bool = False,
        threads: int | None = None,
        **options: Any,
    ) -> None:
        self._column = _column(images, texts)
        self._is_text, self._vector, self._keep = texts is not None, vector, keep
        self._embedder: Embedder = load_embedder(model, **options)
        self._pool = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="vecbridge-decode")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch with a column of vectors and one of errors.

        Args:
            batch: An Arrow table (``batch_format="pyarrow"``).
        """
        items = batch.column(self._column).to_pylist()
        errors: dict[int, str] = {row: _MISSING for row, item in enumerate(items) if item is None}
        vectors = np.zeros((len(items), self._embedder.dim), np.float32)
        there = [row for row in range(len(items)) if row not in errors]
        embed_rows = self._texts if self._is_text else self._pictures
        good, found = embed_rows([items[row] for row in there], there, errors)
        vectors[good] = found
        if not self._keep:
            batch = batch.drop_columns([self._column])
        batch = batch.append_column(self._vector, _column_of(vectors, errors))
        texts = [errors.get(row) for row in range(len(items))]
        return stamp(batch.append_column(ERROR_COLUMN, pa.array(texts, pa.string())), self._embedder.identity)

    def _texts(
        self, texts: Sequence[str], rows: list[int], errors: dict[int, str]
    ) -> tuple[list[int], FloatArray]:
        return _without_refused(self._embedder.embed_texts, texts, rows, errors)

    def _pictures(
        self, pictures: Sequence[Any], rows: list[int], errors: dict[int, str]
    ) -> tuple[list[int], FloatArray]:
        """Vectors of pictures, which are read and resized in threads where the model allows it."""
        staged = self._embedder
        if not isinstance(staged, StagedEmbedder):
            return _without_refused(self._embedder.embed_images, pictures, rows, errors)
        prepare = staged.prepare

        def prepared(picture: Any) -> Any:
            try:
                return prepare(picture)
            except InvalidRecordError as exc:
                return exc

        good, pixels = [], []
        for row, result in zip(rows, self._pool.map(prepared, pictures), strict=True):
            if isinstance(result, InvalidRecordError):
                errors[row] = result.rows[0].error
            else:
                good.append(row)
                pixels.append(result)
        return good, staged.embed_prepared(pixels)


def embed(
    dataset: Dataset,
    model: str = "bundled",
    *,
    images: str | None = None,
    texts: str | None = None,
    vector: str = "vector",
    keep: bool = False,
    actors: int | tuple[int, int] = 1,
    batch_rows: int = 256,
    num_gpus: float = 0,
    num_cpus: float = 1,
    **options: Any,
) -> Dataset:
    """Embeds a column of a dataset by a pool of actors, each with the model in its memory.

    Args:
        dataset: Has the column.
        model: As for :func:`vecbridge.embedder`.
        images: The column of pictures: paths that every node can read, or their encoded bytes.
        texts: Or the column of texts.
        vector: The column to add.
        keep: Whether the pictures' or texts' own column stays.
        actors: How many; or the least and the most, between which Ray chooses by the load.
        batch_rows: Rows that go through the model at a time.
        num_gpus: Of each actor; below 1, actors share a GPU.
        num_cpus: Of each actor, and as many threads decode its pictures.
        **options: As for :func:`vecbridge.embedder`.

    Returns:
        The dataset with vectors, and with the column ``vecbridge_error`` that says why a row has none.

    Raises:
        ConfigError: Neither ``images`` nor ``texts``, or both.

    Example::

        pictures = ray.data.read_parquet("s3://bucket/manifest")
        embed(pictures, "openai/clip-vit-base-patch32", images="path", num_gpus=1, actors=8)
    """
    _column(images, texts)
    least, most = actors if isinstance(actors, tuple) else (actors, actors)
    threads = max(int(num_cpus), 1)
    given = {"images": images, "texts": texts, "vector": vector, "keep": keep, "threads": threads}
    return dataset.map_batches(
        EmbeddingActor,
        fn_constructor_kwargs={"model": model, **given, **options},
        batch_size=batch_rows,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=least, max_size=most),
        num_gpus=num_gpus or None,
        num_cpus=num_cpus,
    )


def _column(images: str | None, texts: str | None) -> str:
    if (images is None) == (texts is None):
        raise ConfigError("images= or texts=: the one column that is embedded")
    return images or texts or ""


def _without_refused(
    embed_all: Callable[[Sequence[Any]], FloatArray],
    items: Sequence[Any],
    rows: list[int],
    errors: dict[int, str],
) -> tuple[list[int], FloatArray]:
    """Vectors of the items that the embedder takes; notes why it refused the others."""
    kept = list(range(len(items)))
    while True:
        try:
            return [rows[place] for place in kept], embed_all([items[place] for place in kept])
        except InvalidRecordError as exc:
            if not exc.rows:
                raise
            refused = {kept[failure.row]: failure.error for failure in exc.rows}
        errors.update({rows[place]: error for place, error in refused.items()})
        kept = [place for place in kept if place not in refused]


def _column_of(vectors: FloatArray, errors: Iterable[int]) -> pa.Array:
    """The vectors as Arrow holds them, null in the rows that have none."""
    mask = np.zeros(len(vectors), bool)
    mask[list(errors)] = True
    type = arrow_vector_type(vectors.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=type, mask=pa.array(mask))
