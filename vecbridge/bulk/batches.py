"""A batch of the source on its way, and the dead letters of a run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.bulk.deadletters import DeadLetterFile
from vecbridge.bulk.delivery import Delivery
from vecbridge.bulk.intake import RawBatch, Validated
from vecbridge.bulk.journal import Settled
from vecbridge.errors import Failure
from vecbridge.schema import CollectionSpec
from vecbridge.sources.deadletters import DeadLetter

LETTERS_AT_ONCE: Final = 100  # of the source, in one write to the disk
LETTERS_SECONDS: Final = 1.0  # after a write to the disk, in which those of the source wait for others


@dataclass(slots=True, eq=False)
class Batch:
    """A batch of the source until it is settled.

    Attributes:
        number: Its number in the source.
        first: Position of its first row in the batch of that number; not 0 if an earlier run settled some.
        first_row: Position of its first row in the source.
        raw: As it came.
        validated: Its good and its bad rows.
        digest: Of its content; "" without a journal.
        deliveries: The parts in which it is written.
        unfinished: How many of them are not delivered yet.
        repeats: Acknowledged rows whose ids this run had written before.
    """

    number: int
    first: int
    first_row: int
    raw: RawBatch
    validated: Validated
    digest: str
    deliveries: list[Delivery]
    unfinished: int
    repeats: int = 0

    def settled(self) -> Settled:
        """Its entry in the journal: rows = written + failed + duplicates + skipped."""
        return Settled(
            batch=self.number,
            rows=self.raw.rows,
            digest=self.digest,
            written=sum(delivery.written for delivery in self.deliveries) - self.repeats,
            failed=len(self.failures()),
            retried=sum(delivery.retried for delivery in self.deliveries),
            duplicates=self.validated.duplicates + self.repeats,
            skipped=sum(delivery.skipped for delivery in self.deliveries),
            first=self.first,
        )

    def failures(self) -> list[Failure]:
        """The rows that could not be written, by position in the batch."""
        refused = [failure for delivery in self.deliveries for failure in delivery.failures]
        return sorted([*self.validated.failures, *refused], key=lambda failure: failure.row)

    def overlaps(self, ids: pa.Array) -> bool:
        """Whether one of these ids is among its own."""
        return bool(pc.any(pc.is_in(ids, value_set=self.validated.part.ids)).as_py())


class DeadLetters:
    """The dead letters of a run: on the disk before a later batch can be acknowledged.

    Args:
        file: Where they go; None drops them.
        source: What the run reads, for the rows of batches that do not say where they stand.
    """

    def __init__(self, file: DeadLetterFile | None, source: str) -> None:
        self._file, self._source = file, source
        self._waiting: list[DeadLetter] = []
        self._last_save = float("-inf")

    def continue_run(self) -> None:
        """An earlier part of this run was cut off: no row gets a second letter."""
        if self._file is not None:
            self._file.continue_run()

    def take(self, letter: DeadLetter) -> None:
        """Writes one of the source: at once, or with others where many come in a short time."""
        if self._file is None:
            return
        self._waiting.append(letter)
        is_due = time.monotonic() - self._last_save >= LETTERS_SECONDS
        if is_due or len(self._waiting) >= LETTERS_AT_ONCE:
            self.save()

    def save(self) -> None:
        """Writes those of the source that wait."""
        if self._file is not None and self._waiting:
            self._file.append(self._waiting)
            self._waiting = []
            self._last_save = time.monotonic()

    def write(self, batch: Batch, failures: Sequence[Failure], spec: CollectionSpec) -> None:
        """Writes those of some rows of a batch; any thread may."""
        if self._file is not None and failures:
            self._file.append(self._letters(batch, failures, spec))

    def _letters(
        self, batch: Batch, failures: Iterable[Failure], spec: CollectionSpec
    ) -> Iterator[DeadLetter]:
        origins = batch.raw.origins()
        of_source = f" of {self._source}" if self._source else ""
        for failure in failures:
            place = f"row {batch.first_row + failure.row}{of_source}" if origins is None else None
            if origins is not None:
                place = origins[failure.row]
            yield DeadLetter(failure.id, place, failure.error, batch.raw.values(failure.row, spec))


class Record(Protocol):
    """What a run notes of its batches, so that another run can go on from there: a journal, usually."""

    @property
    def continues(self) -> bool:
        """Whether there was a run to continue."""
        ...

    def recall(self, batch: int, raw: RawBatch) -> list[Settled]:
        """What earlier runs have settled of a batch, from its first row on."""
        ...

    def digest(self, raw: RawBatch) -> str:
        """What tells whether rows are still the same."""
        ...

    def record(self, batch: Batch) -> None:
        """A batch is settled, and its dead letters are on the disk."""
        ...

    def finish(self) -> None:
        """The source has ended, and all of it is settled."""
        ...

    def discard(self) -> None:
        """Nothing of the run has been left behind."""
        ...
