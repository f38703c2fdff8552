"""How many rows a scan asks Milvus for at a time, and pages of the size that the caller wants."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa

from vecbridge.driver import KeyedPage
from vecbridge.query import Unfit

_READ_ROWS: Final = 8_192  # of the first request where a request costs a pass over all rows
_READ_BYTES: Final = 32 << 20  # of an answer there; milvus-lite holds eight times that while it makes one
_GROWTH: Final = 8


class RequestSize:
    """Rows of the next request of a scan.

    Where a request costs a pass over all rows, as many are asked for as fit into the bytes of an answer: the
    first by a guess, the others by what the last rows took.

    Args:
        rows: Of a page, as the caller wants them.
        most: Rows of an answer at most, by the size of its vectors.
        ahead: Whether a request may ask for more than a page.
    """

    def __init__(self, rows: int, most: int, *, ahead: bool) -> None:
        self.rows = min(max(rows, _READ_ROWS) if ahead else rows, most)
        self._most = most
        self._ahead = ahead

    def learn(self, rows: int, size: int) -> None:
        """Takes note of what the rows of an answer took, in bytes."""
        if self._ahead and rows:
            fitting = _READ_BYTES * rows // max(size, 1)
            self.rows = max(1, min(fitting, self.rows * _GROWTH, self._most))

    def halve(self) -> bool:
        """Halves it, since an answer was too large; False if it is one row already."""
        self.rows, before = max(1, self.rows // 2), self.rows
        self._most = self.rows
        return before > 1


def cut(
    batch: pa.RecordBatch, keys: Sequence[Any], ids: pa.Array, unfit: dict[str | int, Unfit], rows: int
) -> Iterator[KeyedPage]:
    """Pages of so many rows at most, each with the primary key from which the next one starts.

    Args:
        batch: The rows of an answer that a batch can hold.
        keys: Primary keys of all its rows, in their order.
        ids: Their ids.
        unfit: The rows that are not in the batch, by id.
        rows: Of a page.
    """
    taken = 0
    for start in range(0, len(keys), rows):
        part = keys[start : start + rows]
        without = _among(ids.slice(start, len(part)), unfit) if unfit else {}
        count = len(part) - len(without)
        yield KeyedPage(batch.slice(taken, count), part[-1], without)
        taken += count


def _among(ids: Collection[pa.Scalar], unfit: dict[str | int, Unfit]) -> dict[str | int, Unfit]:
    return {key: unfit[key] for key in (each.as_py() for each in ids) if key in unfit}
