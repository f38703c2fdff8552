"""Sources to batches: pictures are decoded in threads, ahead of the model, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge import timestamps
from vecbridge.embed.base import Embedder, FloatArray, StagedEmbedder
from vecbridge.errors import ConfigError, DimensionMismatchError, InvalidRecordError
from vecbridge.names import DIGEST, SOURCE
from vecbridge.records import require_same_embedder, stamp
from vecbridge.reserved import is_tracking
from vecbridge.schema import CollectionSpec, Field
from vecbridge.sources import digests
from vecbridge.sources.deadletters import DeadLetter, OnDeadLetter, printable
from vecbridge.sources.images import Item, PictureItem
from vecbridge.sources.inference import as_type
from vecbridge.sources.pictures import Picture, open_picture
from vecbridge.sources.reading import FileState, digest_file
from vecbridge.sources.rows import checked
from vecbridge.sources.texts import TextItem
from vecbridge.sources.tracking import Stamp, fields_detail, lines_detail, source_text


@dataclass(frozen=True, slots=True)
class _Ready:
    """An item whose file was read: prepared pixels, an RGB picture or a text, and its columns."""

    id: str
    origin: str
    content: Any
    columns: Mapping[str, Any] = field(default_factory=dict)


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
    _require_fit(spec, embedder)
    threads = min(os.cpu_count() or 1, 32) if workers is None else workers
    if batch_rows < 1 or threads < 1:
        raise ConfigError(f"batch_rows={batch_rows}, workers={workers}: at least 1")
    if max_pixels is not None and max_pixels < 1:
        raise ConfigError(f"max_pixels={max_pixels}: at least 1")
    rows: list[_Ready] = []
    for outcome in _ahead(items, _reader(embedder, spec, max_pixels), threads=threads, depth=batch_rows):
        if isinstance(outcome, DeadLetter):
            on_dead_letter(outcome)
            continue
        rows.append(outcome)
        if len(rows) == batch_rows:
            yield from _batches(rows, embedder, spec, on_dead_letter)
            rows = []
    if rows:
        yield from _batches(rows, embedder, spec, on_dead_letter)


def _require_fit(spec: CollectionSpec, embedder: Embedder) -> None:
    if len(spec.vectors) != 1 or spec.id_type != "string":
        raise ConfigError(f"{spec.name!r}: pictures and texts go into one vector field, under string ids")
    require_same_embedder(spec.vector, embedder.identity)
    if spec.vector.dim != embedder.dim:
        raise DimensionMismatchError(
            f"{spec.name!r} has dim={spec.vector.dim}, and {embedder.identity.model} makes {embedder.dim}"
        )


def _reader(
    embedder: Embedder, spec: CollectionSpec, max_pixels: int | None
) -> Callable[[Item | DeadLetter], _Ready | DeadLetter]:
    """What the threads do with an item; nothing of it raises for a bad file."""
    staged = embedder if isinstance(embedder, StagedEmbedder) else None
    in_seconds = Field("modified", "int64") in spec.fields
    with_digest = Field("sha256", "string") in spec.fields or is_tracking(spec)

    def read(item: Item | DeadLetter) -> _Ready | DeadLetter:
        if isinstance(item, DeadLetter):
            return item
        if isinstance(item, TextItem):
            return _text(item)
        try:
            picture = open_picture(item.path, max_pixels=max_pixels)
            state, digest = digest_file(item.path) if with_digest else (None, None)
            content = picture.image if staged is None else staged.prepare(picture.image)
        except InvalidRecordError as exc:
            return DeadLetter(item.id, printable(item.path), exc.rows[0].error)
        except OSError as exc:
            return DeadLetter(item.id, printable(item.path), f"cannot be opened: {exc.strerror}")
        columns = _picture_columns(item, picture, in_seconds=in_seconds)
        return _Ready(item.id, item.path, content, columns | made_from(item, state, digest))

    return read


def _text(item: TextItem) -> _Ready:
    columns = {"path": item.path, "format": "text", "text": item.text, "line": item.line}
    columns |= made_from(item, item.state, digests.of_text(item.text))
    return _Ready(item.id, f"{item.path}:{item.line}", item.text, columns)


def made_from(item: Item, state: FileState | None, sha256: str | None) -> dict[str, str | None]:
    """The columns that say what a row was made from, also the reserved ones, as far as that is known."""
    if state is None or sha256 is None or not item.root:
        return {"sha256": sha256}
    detail = lines_detail(item.lines) if isinstance(item, TextItem) else fields_detail(item.metadata)
    stamp = Stamp(state, sha256, detail)
    return {"sha256": sha256, SOURCE: source_text(item.root, item.relative), DIGEST: str(stamp)}


def _picture_columns(item: PictureItem, picture: Picture, *, in_seconds: bool) -> dict[str, Any]:
    return {
        "path": item.path,
        "width": picture.width,
        "height": picture.height,
        "bytes": picture.bytes,
        "format": picture.format,
        "modified": picture.modified if in_seconds else _time(picture.modified),
        **item.metadata,
    }


def file_columns(values: Mapping[str, Any], spec: CollectionSpec) -> dict[str, Any]:
    """Columns of a file as the fields of a collection take them; those that it lacks are left out.

    Args:
        values: By name; ``modified`` in seconds.
        spec: Of the collection.
    """
    columns: dict[str, Any] = {}
    for each in spec.fields:
        if each.name in values:
            value = values[each.name]
            if each.name == "modified" and each.type == "timestamp":
                value = _time(value)
            columns[each.name] = None if value is None else as_type(value, each.type)
    return columns


def _time(seconds: int | None) -> datetime | None:
    """Seconds since 1970 as a timestamp; None for a year that no timestamp has, as file systems may say."""
    try:
        return None if seconds is None else timestamps.of_microseconds(seconds * 1_000_000)
    except OverflowError:
        return None


def _ahead(
    items: Iterable[Item | DeadLetter],
    read: Callable[[Item | DeadLetter], _Ready | DeadLetter],
    *,
    threads: int,
    depth: int,
) -> Iterator[_Ready | DeadLetter]:
    """Reads up to ``depth`` items ahead of the consumer; the order stays."""
    waiting: deque[Future[_Ready | DeadLetter]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="vecbridge-pictures")
    try:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also where the consumer stops early
        pool.shutdown(cancel_futures=True)


def _batches(
    rows: list[_Ready], embedder: Embedder, spec: CollectionSpec, on_dead_letter: OnDeadLetter
) -> Iterator[pa.RecordBatch]:
    columns: dict[str, Any] = {"id": [row.id for row in rows], spec.vector.name: _vectors(rows, embedder)}
    for each in spec.fields:
        values = [row.columns.get(each.name) for row in rows]
        columns[each.name] = [None if value is None else as_type(value, each.type) for value in values]
    for good in checked(spec, columns, [row.origin for row in rows], on_dead_letter):
        yield stamp(good, embedder.identity)


def _vectors(rows: list[_Ready], embedder: Embedder) -> FloatArray:
    vectors = np.empty((len(rows), embedder.dim), np.float32)
    texts = [i for i, row in enumerate(rows) if isinstance(row.content, str)]
    pictures = [i for i, row in enumerate(rows) if not isinstance(row.content, str)]
    if texts:
        vectors[texts] = embedder.embed_texts([rows[i].content for i in texts])
    if pictures:
        contents = [rows[i].content for i in pictures]
        embed = embedder.embed_prepared if isinstance(embedder, StagedEmbedder) else embedder.embed_images
        vectors[pictures] = embed(contents)
    return vectors
