"""Why a file of vectors cannot be read, where the sentences of NumPy and Arrow would mislead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PARQUET: Final = (b"PAR1", b"PARE")  # the latter where the footer is encrypted
_NPY: Final = (b"\x93NUMPY",)


def why_no_npy(path: Path, error: Exception) -> str:
    """A clause; NumPy says of every file that is none of its own that it might be unpickled."""
    reason = _system_reason(error) or _wrong_beginning(path, _NPY)
    if reason is not None:
        return reason
    if "Python objects" in str(error):
        return "it holds Python objects, not numbers"
    return "it ends too early, or its header is damaged"


def why_no_parquet(path: Path, error: Exception) -> str:
    """A clause; Arrow's own only where the file begins and ends as it should."""
    reason = _system_reason(error) or _wrong_beginning(path, _PARQUET)
    if reason is not None:
        return reason
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return str(error) if file.read() in _PARQUET else "it ends too early"


def _system_reason(error: Exception) -> str | None:
    """What the operating system says, as of a file that one may not read."""
    return error.strerror if isinstance(error, OSError) and error.errno else None


def _wrong_beginning(path: Path, marks: tuple[bytes, ...]) -> str | None:
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(marks):
        return None
    return "its first bytes are of another kind of file" if head else "it is empty"
