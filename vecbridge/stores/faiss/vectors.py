"""The vectors of one field in one file: float32, fixed stride, row number = offset; append only."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vecbridge.errors import CorruptStoreError
from vecbridge.query import FloatArray
from vecbridge.stores.faiss.files import write_all


class VectorFile:
    """Memory-mapped for reading, written with pwrite.

    Args:
        path: The file; it need not exist before the first row.
        dim: Length of a vector.
    """

    def __init__(self, path: Path, dim: int) -> None:
        self.path = path
        self.dim = dim
        self._view: FloatArray = np.empty((0, dim), np.float32)

    def view(self, rows: int) -> FloatArray:
        """The first rows, mapped; shape (rows, dim), read-only, valid as long as it is referenced.

        Raises:
            CorruptStoreError: The file has fewer rows than the log says.
        """
        view = self._view
        if len(view) < rows:
            size = self.path.stat().st_size if self.path.exists() else 0
            if size < rows * self.dim * 4:
                raise CorruptStoreError(f"{self.path} has {size} bytes, not {rows} rows of {self.dim * 4}")
            mapped = np.memmap(self.path, np.float32, "r", shape=(size // (self.dim * 4), self.dim))
            view = self._view = mapped.view(np.ndarray)
        return view[:rows]

    def read(self, start: int, stop: int) -> FloatArray:
        """A copy of some rows, read without touching the map, so that a scan leaves no pages behind."""
        values = np.empty((stop - start, self.dim), np.float32)
        data = memoryview(values.data).cast("B")
        with self.path.open("rb", buffering=0) as file:
            file.seek(start * self.dim * 4)
            while data:
                if not (count := file.readinto(data)):
                    raise CorruptStoreError(f"{self.path} ends before row {stop}")
                data = data[count:]
        return values

    def append(self, first_row: int, values: FloatArray) -> None:
        """Writes rows durably; what stood behind ``first_row`` was never acknowledged.

        Raises:
            OSError: As the file system says.
        """
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            write_all(descriptor, np.ascontiguousarray(values).data, first_row * self.dim * 4)
            os.fdatasync(descriptor)
        except OSError:
            os.ftruncate(descriptor, first_row * self.dim * 4)  # gives the room back
            raise
        finally:
            os.close(descriptor)
