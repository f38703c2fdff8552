"""How far a bulk write has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a bulk write has come; counts include what earlier runs of its journal settled.

    At the end, rows = written + failed + duplicates + skipped.

    Attributes:
        rows: Rows taken from the source, those that it could not read included.
        written: Rows acknowledged.
        failed: Rows that could not be read or written.
        refused: Those of them that were handed to the store and not taken.
        retried: Upserts beyond the first of each part.
        duplicates: Rows that repeat an id: a later one of their batch replaced them, or they replaced one
            that this run had written.
        skipped: Rows left out because their ids were there already.
        recalled: Rows of batches that an earlier run settled.
        bytes: Bytes read: of files for :func:`vecbridge.ingest`, of columns for :func:`vecbridge.write`.
        seconds: Since this run began.
        stages: The share of its time that each stage was busy, from 0 to 1, in the last ten seconds, and in
            the last call since the run began. The stages of :func:`vecbridge.write` are "source", "check" and
            "store"; those of :func:`vecbridge.ingest` "find", "read", "embed", "check" and "store".

    Example:
        >>> stages = {"read": 0.3, "embed": 1.0, "store": 0.2}
        >>> state = Progress(rows=640, written=500, recalled=100, seconds=4.0, stages=stages)
        >>> state.done, state.rows_per_second, state.bottleneck
        (500, 100.0, 'embed')
    """

    rows: int = 0
    written: int = 0
    failed: int = 0
    refused: int = 0
    retried: int = 0
    duplicates: int = 0
    skipped: int = 0
    recalled: int = 0
    bytes: int = 0
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Rows that are settled: written, failed, replaced or left out."""
        return self.written + self.failed + self.duplicates + self.skipped

    @property
    def rows_per_second(self) -> float:
        """Rows that this run settled itself, a second."""
        return max(self.done - self.recalled, 0) / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Bytes read a second."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def bottleneck(self) -> str:
        """The stage that was busy for the largest share of its time; "" where nothing is known."""
        return max(self.stages, key=lambda name: self.stages[name], default="")
