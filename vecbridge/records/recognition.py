"""Batches that were checked, so that the costly checks run once.

A batch is checked where it is built, again where a bulk write takes it in, and again where a collection
writes it. :class:`Checked` carries the result from one to the next. A plain ``pyarrow.RecordBatch`` that came
out of :func:`vecbridge.batch` is recognised by object identity: Arrow batches cannot be changed, so the same
object still holds the same text. Only vectors are not Arrow's own memory (they may be a view of the caller's
NumPy array), and those are looked at again each time.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vecbridge.schema import CollectionSpec


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Records in canonical form that passed every check; :func:`vecbridge.records.checked` makes one.

    It holds no lock and cannot be changed, so threads may share it. Text, lists, JSON, ids and scalar numbers
    need no second look; vectors do, since the caller may have written to their memory since.

    Attributes:
        batch: Every column of the spec, in its order and of its exact type; each id once.
        spec: What it was checked against.
    """

    batch: pa.RecordBatch
    spec: CollectionSpec

    def __len__(self) -> int:
        """The number of records."""
        return int(self.batch.num_rows)

    def slice(self, start: int, length: int | None = None) -> Checked:
        """Adjacent records, as a view."""
        return Checked(self.batch.slice(start, length), self.spec)

    def take(self, indices: Any) -> Checked:
        """Some of the records, copied.

        Args:
            indices: Positions, as an array or a sequence of int, none of them twice.

        Raises:
            ValueError: A position comes twice, so that its id would.
        """
        positions = np.asarray(indices, np.int64)
        if len(np.unique(positions)) != len(positions):
            raise ValueError("take: a position comes twice")
        return Checked(self.batch.take(pa.array(positions)), self.spec)

    def fits(self, spec: CollectionSpec) -> bool:
        """Whether checking against this spec would find and change the same."""
        return self.spec is spec or _rules(self.spec) == _rules(spec)


# By the id() of a batch. The callback of the weak reference removes an entry before the memory of its batch
# is freed, so that no later object can have the number of one that is still listed.
_KNOWN: Final[dict[int, tuple[weakref.ref[pa.RecordBatch], CollectionSpec]]] = {}


def remember(checked: Checked) -> None:
    """Lets :func:`recognise` find a batch for as long as somebody holds it."""
    key = id(checked.batch)
    known = _KNOWN  # at interpreter exit the module's own name may be gone

    def forget(_: weakref.ref[pa.RecordBatch]) -> None:
        known.pop(key, None)

    known[key] = weakref.ref(checked.batch, forget), checked.spec


def recognise(batch: pa.RecordBatch) -> Checked | None:
    """The result of an earlier check of this very object, if there was one."""
    reference, spec = _KNOWN.get(id(batch), (None, None))
    if reference is None or spec is None or reference() is not batch:
        return None
    return Checked(batch, spec)


def _rules(spec: CollectionSpec) -> tuple[Any, ...]:
    """What of a spec decides whether a record is good and how it looks."""
    return spec.id_type, spec.fields, [(vector.name, vector.dim, vector.metric) for vector in spec.vectors]
