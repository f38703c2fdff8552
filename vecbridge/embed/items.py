"""One item of a source on its way to a row: read and decoded, embedded with others, and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from vecbridge import timestamps
from vecbridge.embed.base import Embedder, FloatArray, StagedEmbedder
from vecbridge.errors import ConfigError, DimensionMismatchError, InvalidRecordError
from vecbridge.identity import EmbedderIdentity
from vecbridge.names import DIGEST, SOURCE
from vecbridge.records import require_same_embedder, stamp
from vecbridge.schema import CollectionSpec, Field
from vecbridge.sources.deadletters import DeadLetter, printable
from vecbridge.sources.images import Item, PictureItem
from vecbridge.sources.inference import as_type
from vecbridge.sources.items import line_read, picture_read
from vecbridge.sources.pictures import Picture, decode
from vecbridge.sources.reading import FileState, SourceItem, read_once
from vecbridge.sources.rows import good_rows
from vecbridge.sources.texts import TextItem
from vecbridge.sources.tracking import Stamp, fields_detail, lines_detail, source_text


@dataclass(frozen=True, slots=True)
class Ready:
    """An item whose file was read: prepared pixels, an RGB picture or a text, and its columns."""

    id: str
    origin: str
    content: Any
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadItem:
    """What became of an item that was read.

    Attributes:
        source: What tells whether it is still the same; None if its file could not be read.
        result: What is embedded; or a dead letter, where it cannot be.
    """

    source: SourceItem | None
    result: Ready | DeadLetter


class ItemReader:
    """Reads items and decodes them, for one embedder and one collection; any thread may call it.

    Args:
        embedder: Prepares pictures, if it does so in a step of its own.
        spec: The collection that the records go into.
        max_pixels: Refuse pictures with more pixels.

    Raises:
        ConfigError: ``max_pixels`` is below 1.
    """

    def __init__(self, embedder: Embedder, spec: CollectionSpec, max_pixels: int | None = None) -> None:
        if max_pixels is not None and max_pixels < 1:
            raise ConfigError(f"max_pixels={max_pixels}: at least 1")
        self._staged = embedder if isinstance(embedder, StagedEmbedder) else None
        self._in_seconds = Field("modified", "int64") in spec.fields
        self._max_pixels = max_pixels

    def __call__(self, item: Item) -> ReadItem:
        """Reads an item; a file that cannot be read is a dead letter, and no error."""
        if isinstance(item, TextItem):
            line = line_read(item)
            return ReadItem(line, _text(item, line))
        source: SourceItem | None = None
        id: str | None = item.id or item.relative
        try:
            with read_once(item.path) as opened:
                source = picture_read(item, opened.state, opened.sha256)
                id, seconds = source.id, opened.state.modified // 10**9
                picture = decode(opened.file, opened.state.size, seconds, max_pixels=self._max_pixels)
            content = picture.image if self._staged is None else self._staged.prepare(picture.image)
        except InvalidRecordError as exc:
            return ReadItem(source, DeadLetter(id, printable(item.path), exc.rows[0].error))
        columns = _picture_columns(item, picture, in_seconds=self._in_seconds)
        columns |= made_from(item, opened.state, source.sha256)
        return ReadItem(source, Ready(source.id, item.path, content, columns))


def require_fit(spec: CollectionSpec, embedder: Embedder) -> None:
    """Refuses a collection that does not take this embedder's vectors.

    Raises:
        ConfigError: The spec has several vector fields or int64 ids.
        EmbedderMismatchError: The spec says that another model made its vectors.
        DimensionMismatchError: The embedder's vectors are of another length.
    """
    if len(spec.vectors) != 1 or spec.id_type != "string":
        raise ConfigError(f"{spec.name!r}: pictures and texts go into one vector field, under string ids")
    require_same_embedder(spec.vector, embedder.identity)
    if spec.vector.dim != embedder.dim:
        raise DimensionMismatchError(
            f"{spec.name!r} has dim={spec.vector.dim}, and {embedder.identity.model} makes {embedder.dim}"
        )


def embed(rows: Sequence[Ready], embedder: Embedder) -> FloatArray:
    """The vectors of items, texts and pictures mixed: float32 of shape (n, dim)."""
    vectors = np.empty((len(rows), embedder.dim), np.float32)
    texts = [i for i, row in enumerate(rows) if isinstance(row.content, str)]
    pictures = [i for i, row in enumerate(rows) if not isinstance(row.content, str)]
    if texts:
        vectors[texts] = embedder.embed_texts([rows[i].content for i in texts])
    if pictures:
        contents = [rows[i].content for i in pictures]
        run = embedder.embed_prepared if isinstance(embedder, StagedEmbedder) else embedder.embed_images
        vectors[pictures] = run(contents)
    return vectors


def build(
    rows: Sequence[Ready],
    vectors: FloatArray,
    spec: CollectionSpec,
    identity: EmbedderIdentity,
    on_bad_row: Callable[[int, DeadLetter], None],
) -> Iterator[tuple[pa.RecordBatch, list[int]]]:
    """Checked batches of embedded items, as :func:`vecbridge.sources.rows.good_rows` has them.

    Args:
        rows: The items.
        vectors: Of each; shape (n, dim).
        spec: The collection's; columns that it does not have are left out.
        identity: Of the embedder, which every batch says.
        on_bad_row: Receives the position and the dead letter of each bad row.
    """
    columns: dict[str, Any] = {"id": [row.id for row in rows], spec.vector.name: vectors}
    for each in spec.fields:
        values = [row.columns.get(each.name) for row in rows]
        columns[each.name] = [None if value is None else as_type(value, each.type) for value in values]
    for good, positions in good_rows(spec, columns, [row.origin for row in rows], on_bad_row):
        yield stamp(good, identity), positions


def _text(item: TextItem, source: SourceItem) -> Ready:
    columns = {"path": item.path, "format": "text", "text": item.text, "line": item.line}
    columns |= made_from(item, item.state, source.sha256)
    return Ready(item.id, f"{item.path}:{item.line}", item.text, columns)


def made_from(item: Item, state: FileState | None, sha256: str) -> dict[str, str]:
    """The columns that say what a row was made from, also the reserved ones, as far as that is known.

    Args:
        item: What it was made from.
        state: Of its file; None if that is not known.
        sha256: Of the file, or of the line.
    """
    if state is None or not item.root:
        return {"sha256": sha256}
    detail = lines_detail(item.lines) if isinstance(item, TextItem) else fields_detail(item.metadata)
    stamp = Stamp(state, sha256, detail)
    return {"sha256": sha256, SOURCE: source_text(item.root, item.relative), DIGEST: str(stamp)}


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


def _time(seconds: int | None) -> datetime | None:
    """Seconds since 1970 as a timestamp; None for a year that no timestamp has, as file systems may say."""
    try:
        return None if seconds is None else timestamps.of_microseconds(seconds * 1_000_000)
    except OverflowError:
        return None
