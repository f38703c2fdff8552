"""Filters over the columns in memory."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vecbridge import kernels, records
from vecbridge.filters import Filter, Scalar
from vecbridge.stores.faiss.rows import Chunk, Mask, Snapshot

_PIECE: Final = 1 << 17  # rows
_CODED_FROM: Final = 4096  # elements


def mask(filter: Filter, snapshot: Snapshot, first: int = 0) -> Mask:
    """Which live rows match; bool (snapshot.total - first,).

    Args:
        filter: Normalized.
        snapshot: The rows.
        first: The first row that is asked about.
    """
    matches = np.empty(snapshot.total, np.bool_)
    uncoded: list[tuple[_Piece, str]] = []
    for start, chunk in zip(snapshot.starts, snapshot.chunks, strict=False):
        behind = max(0, first - start) // _PIECE  # pieces of the chunk that are not asked about
        for low in range(behind * _PIECE, chunk.rows, _PIECE):
            piece = _Piece(chunk, low, uncoded)
            part = slice(start + low, start + low + piece.rows)
            matching = records.booleans(kernels.matching(filter, piece, "faiss"))
            np.logical_and(matching, snapshot.live[part], out=matches[part])
    if uncoded:  # one a call, so that none is slow
        piece, name = uncoded[0]
        piece.code(name)
    return matches[first:]


class _Piece:
    """Some rows of a chunk, by column: as many as stay in the processor's cache from step to step.

    Args:
        chunk: The rows.
        low: The first of them.
        uncoded: Where columns of lists are noted that codes would have answered sooner.
    """

    def __init__(self, chunk: Chunk, low: int, uncoded: list[tuple[_Piece, str]]) -> None:
        self._chunk = chunk
        self._low = low
        self._uncoded = uncoded
        self._batch = chunk.batch.slice(low, _PIECE)
        self.rows: int = self._batch.num_rows

    def column(self, name: str) -> pa.Array:
        return self._batch.column(name)

    def contains(self, name: str, value: Scalar) -> pa.BooleanArray:
        """Which lists of a column hold a value; null where there is no list."""
        column = self.column(name)
        offsets = records.numbers(column.offsets)  # of this piece, into the elements of the whole chunk
        places = np.flatnonzero(self._equal_elements(name, value)) + offsets[0]
        containing = np.zeros(len(column), np.bool_)
        containing[np.searchsorted(offsets, places, side="right") - 1] = True
        return pc.and_(pa.array(containing), pc.is_valid(column))

    def _equal_elements(self, name: str, value: Scalar) -> Mask:
        """Which elements of all lists of a column equal a value."""
        equal: Mask
        coded = self._chunk.coded.get((name, self._low), ...)
        if coded is ...:
            self._uncoded.append((self, name))
        if coded in (None, ...):
            elements = self._elements(name)
            equal = records.booleans(pc.equal(elements, pa.scalar(value, elements.type)))
        else:
            codes, distinct = coded
            equal = codes == distinct[value] if value in distinct else np.zeros(len(codes), np.bool_)
        return equal

    def code(self, name: str) -> None:
        """Codes the texts of a column of lists: a byte or two each, compared in a tenth of the time."""
        self._chunk.coded[name, self._low] = _coded(self._elements(name))

    def _elements(self, name: str) -> pa.Array:
        column = self.column(name)
        first, last = (column.offsets[end].as_py() for end in (0, len(column)))
        return column.values.slice(first, last - first)


def _coded(elements: pa.Array) -> tuple[np.ndarray[Any, Any], dict[Scalar, int]] | None:
    """A small number for each string, and the number of each distinct string; None if they are many.

    Numbers are compared as fast as their codes would be: there are none for them.
    """
    if not pa.types.is_string(elements.type) or len(elements) < _CODED_FROM:
        return None
    if len(elements.slice(0, _CODED_FROM).unique()) > _CODED_FROM // 4:
        return None
    encoded = elements.dictionary_encode()
    if len(encoded.dictionary) > 1 << 16:
        return None
    small = np.uint8 if len(encoded.dictionary) <= 1 << 8 else np.uint16
    distinct = {text: code for code, text in enumerate(encoded.dictionary.to_pylist())}
    return records.numbers(encoded.indices).astype(small), distinct
