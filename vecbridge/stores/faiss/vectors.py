"""The vectors of one field in one file: float32, fixed stride, row number = offset; append only."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from vecbridge.errors import CorruptStoreError
from vecbridge.query import FloatArray
from vecbridge.storage import sync_directory
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
        self._name_synced = False

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

    def window(self, start: int, stop: int) -> FloatArray:
        """Some rows in a map of their own, which goes with the last reference: a scan leaves nothing behind.

        Raises:
            CorruptStoreError: The file ends before ``stop``.
        """
        low, high = start * self.dim * 4, stop * self.dim * 4
        begin = low - low % mmap.ALLOCATIONGRANULARITY
        with self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < high:
                raise CorruptStoreError(f"{self.path} ends before row {stop}")
            window = mmap.mmap(file.fileno(), high - begin, access=mmap.ACCESS_READ, offset=begin)
        values = np.frombuffer(window, np.float32, (stop - start) * self.dim, low - begin)
        return values.reshape(-1, self.dim)

    def append(self, first_row: int, values: FloatArray) -> None:
        """Writes rows durably; what stood behind ``first_row`` was never acknowledged.

        Raises:
            OSError: As the file system says.
        """
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            write_all(descriptor, np.ascontiguousarray(values).data, first_row * self.dim * 4)
            os.fdatasync(descriptor)
            if not self._name_synced:  # whoever made the file may have died before its name was on the disk
                sync_directory(self.path.parent)
                self._name_synced = True
        except OSError:
            os.ftruncate(descriptor, first_row * self.dim * 4)  # gives the room back
            raise
        finally:
            os.close(descriptor)
