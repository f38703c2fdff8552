"""The rows that match a filter, kept for the next search with it and brought up to later commits."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np

from vecbridge.filters import Filter
from vecbridge.stores.faiss import masks
from vecbridge.stores.faiss.indexes import Loaded, Selector
from vecbridge.stores.faiss.log import Rows
from vecbridge.stores.faiss.rows import Mask, Snapshot, Version

KEPT_ROWS: Final = 65_536  # matches up to which their row numbers are kept, too
_MASKS_KEPT: Final = 16
_MASKS_BYTES: Final = 256 << 20


@dataclass(slots=True, eq=False)
class Part:
    """The matches within one index.

    Attributes:
        rows: Row numbers; list by list where the index has lists, else ascending.
        starts: int64 (lists + 1,), where each list begins in ``rows``; None without lists.
        counts: int64 (lists,), how many matches each list has; None without lists.
        selector: What tells FAISS which rows it may return.
    """

    rows: Rows
    starts: Rows | None = None
    counts: Rows | None = None
    selector: Selector | None = None


@dataclass(slots=True, eq=False)
class Selection:
    """The rows that match a filter.

    Attributes:
        allowed: bool (total,).
        count: How many there are.
        parts: The same by index, for as long as that is open.
    """

    allowed: Mask
    count: int
    parts: WeakKeyDictionary[Loaded, Part] = field(default_factory=WeakKeyDictionary)
    _rows: Rows | None = None

    @property
    def rows(self) -> Rows:
        """The same as row numbers; kept where they are few."""
        if self._rows is not None:
            return self._rows
        rows = np.flatnonzero(self.allowed)
        if self.count <= KEPT_ROWS:
            self._rows = rows
        return rows

    def within(self, index: Loaded) -> Part:
        """The matches among the rows of an index."""
        part = self.parts.get(index)
        if part is None:
            allowed = self.allowed[index.first : index.first + index.rows]
            if index.lists is None:
                part = Part(np.flatnonzero(allowed) + index.first)
            else:
                order = index.lists.order
                places = np.flatnonzero(allowed[order])
                starts = np.searchsorted(places, index.lists.starts)
                rows = order[places].astype(np.int64) + index.first
                part = Part(rows, starts, np.diff(starts))
            self.parts[index] = part
        return part

    def selector(self, index: Loaded) -> Selector:
        """The matches among the rows of an index, as FAISS takes them."""
        part = self.within(index)
        if part.selector is None:
            part.selector = Selector.of(self.allowed[index.first : index.first + index.rows])
        return part.selector

    def extended(self, filter: Filter, snapshot: Snapshot) -> Selection:
        """The rows that match after some more commits: only the new ones are evaluated."""
        known = len(self.allowed)
        allowed = np.empty(snapshot.total, np.bool_)
        np.logical_and(self.allowed, snapshot.live[:known], out=allowed[:known])
        allowed[known:] = masks.mask(filter, snapshot, known)
        fresh = int(np.count_nonzero(allowed[known:]))
        unchanged = int(np.count_nonzero(allowed[:known])) == self.count
        if not unchanged:
            return Selection(allowed, int(np.count_nonzero(allowed)))
        return Selection(allowed, self.count + fresh, self.parts.copy())


class Selections:
    """The filters that were used last on one namespace."""

    def __init__(self) -> None:
        self._of: OrderedDict[Filter, tuple[Version, Selection]] = OrderedDict()

    def get(self, filter: Filter, snapshot: Snapshot) -> Selection:
        """The rows that match a normalized filter.

        It takes no lock: each step is one operation of a dict. Threads that meet here may evaluate a filter
        twice, which does no harm.
        """
        known, version = self._of.pop(filter, None), snapshot.version
        if known is not None and known[0] == version:
            selection = known[1]
        elif known is not None and known[0].precedes(version):
            selection = known[1].extended(filter, snapshot)
        else:
            allowed = masks.mask(filter, snapshot)
            selection = Selection(allowed, int(np.count_nonzero(allowed)))
        self._of[filter] = version, selection  # as the last one
        most = max(1, min(_MASKS_KEPT, _MASKS_BYTES // max(1, snapshot.total)))
        while len(self._of) > most:
            with suppress(KeyError):  # another thread removed the last one
                self._of.popitem(last=False)
        return selection
