"""How far a bulk write has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a bulk write has come; counts include what earlier runs of its journal settled.

    At the end, rows = written + failed + duplicates + skipped.

    Attributes:
        rows: Rows taken from the source, those that it could not read included.
        written: Rows acknowledged.
        failed: Rows that could not be read or written.
        retried: Upserts beyond the first of each part.
        duplicates: Rows that repeat an id: a later one of their batch replaced them, or they replaced one
            that this run had written.
        skipped: Rows left out because their ids were there already.
        recalled: Rows of batches that an earlier run settled.
    """

    rows: int = 0
    written: int = 0
    failed: int = 0
    retried: int = 0
    duplicates: int = 0
    skipped: int = 0
    recalled: int = 0

    @property
    def done(self) -> int:
        """Rows that are settled: written, failed, replaced or left out."""
        return self.written + self.failed + self.duplicates + self.skipped
