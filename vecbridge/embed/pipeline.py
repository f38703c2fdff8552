"""Sources to batches: pictures are decoded in threads, ahead of the model, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from vecbridge.embed.base import Embedder
from vecbridge.embed.items import ItemReader, ReadItem, Ready, build, embed, require_fit
from vecbridge.errors import ConfigError
from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter
from vecbridge.sources.images import Item


def embed_items(
    items: Iterable[Item | DeadLetter],
    embedder: Embedder,
    spec: CollectionSpec,
    *,
    on_dead_letter: OnDeadLetter,
    batch_rows: int = 256,
    workers: int | None = None,
    max_pixels: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """Embeds pictures and texts, in the order of the source.

    Files are read and pictures resized in threads while the model computes. At most two batches of prepared
    pictures (150 KB each at 224x224) are in memory, and as many decoded ones as there are workers.

    Args:
        items: What :class:`~vecbridge.sources.images.ImageSource` yields.
        embedder: Any embedder.
        spec: The collection that the records go into: one vector field, string ids, and any of the source's
            fields; those that the spec does not have are left out.
        on_dead_letter: Receives the source's dead letters, and one for each item that cannot be read.
        batch_rows: Rows a batch, at most.
        workers: Threads; None is one a core, 32 at most.
        max_pixels: Refuse pictures with more pixels, as
            :func:`~vecbridge.sources.pictures.open_picture` does.

    Yields:
        Checked batches with the embedder's identity in their schema metadata.

    Raises:
        ConfigError: The spec has several vector fields or int64 ids; ``batch_rows``, ``workers`` or
            ``max_pixels`` below 1.
        EmbedderMismatchError: The spec says that another model made its vectors.
        DimensionMismatchError: The embedder's vectors are of another length.
    """
    require_fit(spec, embedder)
    threads = reader_threads(workers)
    if batch_rows < 1:
        raise ConfigError(f"batch_rows={batch_rows}: at least 1")
    rows: list[Ready] = []
    for outcome in _ahead(items, ItemReader(embedder, spec, max_pixels), threads=threads, depth=batch_rows):
        if isinstance(outcome, DeadLetter):
            on_dead_letter(outcome)
            continue
        rows.append(outcome)
        if len(rows) == batch_rows:
            yield from _batches(rows, embedder, spec, on_dead_letter)
            rows = []
    if rows:
        yield from _batches(rows, embedder, spec, on_dead_letter)


def reader_threads(workers: int | None) -> int:
    """How many threads read and decode: one a core, 32 at most, unless somebody said otherwise.

    Raises:
        ConfigError: Below 1.
    """
    threads = min(os.cpu_count() or 1, 32) if workers is None else workers
    if threads < 1:
        raise ConfigError(f"workers={workers}: at least 1")
    return threads


def _ahead(
    items: Iterable[Item | DeadLetter], read: ItemReader, *, threads: int, depth: int
) -> Iterator[Ready | DeadLetter]:
    """Reads up to ``depth`` items ahead of the consumer; the order stays."""
    waiting: deque[DeadLetter | Future[ReadItem]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="vecbridge-pictures")
    try:
        for item in items:
            waiting.append(item if isinstance(item, DeadLetter) else pool.submit(read, item))
            if len(waiting) >= depth:
                yield _outcome(waiting.popleft())
        while waiting:
            yield _outcome(waiting.popleft())
    finally:  # also where the consumer stops early
        pool.shutdown(cancel_futures=True)


def _outcome(waiting: DeadLetter | Future[ReadItem]) -> Ready | DeadLetter:
    return waiting if isinstance(waiting, DeadLetter) else waiting.result().result


def _batches(
    rows: list[Ready], embedder: Embedder, spec: CollectionSpec, on_dead_letter: OnDeadLetter
) -> Iterator[pa.RecordBatch]:
    vectors = embed(rows, embedder)
    for batch, _ in build(rows, vectors, spec, embedder.identity, lambda row, letter: on_dead_letter(letter)):
        yield batch
