"""NumPy files: an array of vectors, whose ids are the row numbers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from vecbridge.errors import ConfigError, SchemaError
from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import OnDeadLetter
from vecbridge.sources.inference import SourceSchema
from vecbridge.sources.rows import checked
from vecbridge.sources.unreadable import why_no_npy


class NpySource:
    """Vectors from a ``.npy`` file, read through a memory map.

    Args:
        path: A file of an (n, dim) array of floats or integers. Pickled objects are refused.
        first_id: Id of the first row; several files that go into one collection need ranges of their own.

    Raises:
        ConfigError: Not such a file.
    """

    def __init__(self, path: str | os.PathLike[str], *, first_id: int = 0) -> None:
        self.path = Path(path)
        self.first_id = first_id
        try:
            with warnings.catch_warnings():  # that a file of Python 2 is better saved again
                warnings.simplefilter("ignore", UserWarning)
                self._array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as exc:
            raise ConfigError(
                f"{self.path}: not a .npy file that can be read: {why_no_npy(self.path, exc)}"
            ) from exc
        if not isinstance(self._array, np.ndarray):
            raise ConfigError(
                f"{self.path}: an .npz file, which may hold several arrays: save one with np.save"
            )
        shape, dtype = self._array.shape, self._array.dtype
        if dtype.kind not in "fiu" or (shape != (0,) and (len(shape) != 2 or not shape[1])):
            raise ConfigError(f"{self.path}: not an (n, dim) array of numbers, but {dtype} of shape {shape}")

    def __len__(self) -> int:
        return len(self._array)

    @property
    def is_empty(self) -> bool:
        """Whether the array has no row."""
        return not len(self)

    @property
    def is_numbered(self) -> bool:
        """Whether ids are row numbers: always."""
        return True

    @property
    def columns(self) -> Sequence[str]:
        """It has none but the vectors."""
        return []

    def schema(self, existing: CollectionSpec | None = None) -> SourceSchema:
        """int64 ids, the field ``vector``, no scalars; or the ids and the vector field of the collection.

        Raises:
            SchemaError: The array is empty, and has no dim.
        """
        if self._array.ndim != 2:
            raise SchemaError(f"{self.path}: the array is empty")
        dim = int(self._array.shape[1])
        if existing is None:
            return SourceSchema("int64", {"vector": dim}, {})
        return SourceSchema(existing.id_type, {existing.vector.name: dim}, {})

    def batches(
        self, spec: CollectionSpec, *, on_dead_letter: OnDeadLetter, batch_rows: int = 1000
    ) -> Iterator[pa.RecordBatch]:
        """Streams the rows, holding one batch; ids are made into text where the collection's are.

        Args:
            spec: The collection that they go into.
            on_dead_letter: Receives each row that cannot be taken, its source ``file:row`` counted from 0.
            batch_rows: Rows a batch, at most.

        Yields:
            Checked batches.
        """
        for start in range(0, len(self), batch_rows):
            with np.errstate(over="ignore"):  # what overflows becomes Inf, which the check refuses
                values = np.array(self._array[start : start + batch_rows], np.float32)
            rows = range(start, start + len(values))
            ids = [row + self.first_id for row in rows]
            columns = {
                "id": ids if spec.id_type == "int64" else [str(each) for each in ids],
                spec.vector.name: values,
            }
            yield from checked(spec, columns, [f"{self.path}:{row}" for row in rows], on_dead_letter)
