"""Which ids a run has written already, so that a repeat in a later batch counts as one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

_Hashes: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
_GROWTH: Final = 2  # a run is merged into the one before it, unless that is more than twice as long
_IN_MEMORY = 1 << 16  # hashes of a run; a longer one is kept in a file
_PART = 1 << 14  # hashes merged at a time


class WrittenIds:
    """The ids that were acknowledged, as hashes of 64 bits.

    They are kept in sorted runs of falling length, the last of which are merged as rows come in, so that an
    id is looked up by a few binary searches. Long runs are temporary files, mapped into memory: 8 bytes of
    disk a row, or 16 while two are merged, which go with the process; without room for one, it stays in
    memory. At ten million ids, two of them share a hash with a chance of 1 in 400,000; ids that are numbers
    are their own hashes.

    Example:
        >>> written = WrittenIds()
        >>> written.add(pa.array(["a", "b"])), written.add(pa.array(["b", "c"]))
        (0, 1)
    """

    def __init__(self) -> None:
        self._runs: list[_Hashes] = []

    def add(self, ids: pa.Array) -> int:
        """Adds ids, none of them twice; how many were there."""
        hashes = np.sort(_hashes(ids))
        known = np.zeros(len(hashes), bool)
        for run in self._runs:
            if not len(hashes) or hashes[-1] < run[0] or run[-1] < hashes[0]:
                continue  # as of numbers that run on
            places = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            known |= run[places] == hashes
        self._append(hashes[~known])
        return int(known.sum())

    def _append(self, run: _Hashes) -> None:
        if not len(run):
            return
        while self._runs and len(self._runs[-1]) <= _GROWTH * len(run):
            run = _merged(self._runs.pop(), run)
        self._runs.append(run)


def _hashes(ids: pa.Array) -> _Hashes:
    if pa.types.is_integer(ids.type):
        return np.asarray(ids.to_numpy(zero_copy_only=False), np.int64)
    return np.fromiter(map(hash, ids.to_pylist()), np.int64, len(ids))


def _merged(earlier: _Hashes, later: _Hashes) -> _Hashes:
    """One sorted run of two; a long one in a file that has no name."""
    if len(earlier) + len(later) > _IN_MEMORY:
        try:
            with tempfile.TemporaryFile() as file:
                for part in _in_order(earlier, later):
                    file.write(part.data)
                file.flush()
                return np.asarray(np.memmap(file, np.int64, "r"))
        except OSError:  # a full disk is no reason to end a run
            pass
    return np.concatenate(list(_in_order(earlier, later)))


def _in_order(earlier: _Hashes, later: _Hashes) -> Iterator[_Hashes]:
    """Both, sorted, in parts; they have no hash in common."""
    starts = range(0, len(earlier), _PART)
    cuts = [0, *np.searchsorted(later, earlier[_PART::_PART]).tolist(), len(later)]
    for start, (first, last) in zip(starts, pairwise(cuts), strict=True):
        yield np.sort(np.concatenate([earlier[start : start + _PART], later[first:last]]), kind="stable")
