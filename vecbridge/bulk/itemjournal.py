"""The journal of :func:`vecbridge.ingest`: which groups of source items are settled.

One JSON line says which run this is, one follows for each group that is settled, and one when the source has
ended::

    {"vecbridge_journal": 2, "source": …, "target": …, "spec": …, "options": …,
     "identity": …}
    {"first": 0, "items": 256, "digest": "9f86…", "written": 255, "duplicates": 0, "retried": 0, "bad": [17],
     "left_out": []}
    {"finished": true}
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from vecbridge.bulk.batches import Batch, DeadLetters
from vecbridge.bulk.groups import Group, SettledGroup
from vecbridge.bulk.journal import Header, RawRows, Settled, require_rows
from vecbridge.bulk.journalfile import FORMAT, JournalFile, json_line
from vecbridge.store import Collection

VERSION: Final = 2
_COUNTS: Final = ("first", "items", "written", "duplicates", "retried")


class ItemJournal(JournalFile):
    """A journal of groups.

    Args:
        path: The file; it starts a run where there is none, and continues it where there is one.
        header: Which run that is.

    Attributes:
        known: The groups that earlier runs have settled, by the number of their first item.

    Raises:
        JournalError: Another run's, a damaged one, no journal at all, or in use.
        StorageFullError: The disk is full.
    """

    def __init__(self, path: str | os.PathLike[str], header: Header) -> None:
        self.known: dict[int, SettledGroup] = {}
        super().__init__(path, {FORMAT: VERSION} | asdict(header))

    def take(self, values: dict[str, Any]) -> None:
        """Notes that an earlier run has settled a group."""
        for name in ("bad", "left_out"):
            values[name] = tuple(values[name]) if name in values else ()
        settled = SettledGroup(**values)
        numbers = [getattr(settled, name) for name in _COUNTS] + [*settled.bad, *settled.left_out]
        if any(type(number) is not int or number < 0 for number in numbers) or not settled.items:
            raise TypeError("a count is no whole number")
        self.known[settled.first] = settled

    def settle(self, settled: SettledGroup) -> None:
        """Adds the entry of a group; it is on the disk when this returns.

        Raises:
            ConfigError: The journal was opened by the process that this one was forked from.
            StorageFullError: The disk is full.
            JournalError: The line cannot be written.
        """
        self.append(json_line(asdict(settled)))


class ItemLedger:
    """Follows the groups of a run until they are settled, and notes them in the journal, if there is one.

    All of it happens in the thread of the run.

    Args:
        open_journal: Opens the journal of a collection; None without one.
        letters: The dead letters of the run, which must be on the disk before the journal counts them.
        is_new: Whether this run makes the collection.
    """

    def __init__(
        self,
        open_journal: Callable[[Collection], ItemJournal] | None,
        letters: DeadLetters,
        *,
        is_new: bool,
    ) -> None:
        self._open_journal = open_journal
        self._letters = letters
        self._is_new = is_new
        self._journal: ItemJournal | None = None
        self._early: list[Group] = []  # settled before there was a collection
        self._next: tuple[Group, list[int]] | None = None
        self._batches: dict[int, tuple[Group, list[int]]] = {}

    @property
    def continues(self) -> bool:
        """Whether there was a run to continue."""
        return self._journal is not None and self._journal.continues

    @property
    def known(self) -> dict[int, SettledGroup]:
        """The groups that earlier runs have settled, by the number of their first item."""
        return {} if self._journal is None else self._journal.known

    @property
    def path(self) -> str:
        """Where the journal is; "" without one."""
        return "" if self._journal is None else self._journal.path

    def open(self, collection: Collection) -> ItemLedger:
        """Opens the journal, now that there is a collection.

        Raises:
            JournalError: It is another run's, or the collection has been dropped since.
        """
        if self._open_journal is not None:
            self._journal = self._open_journal(collection)
            written = sum(each.written for each in self._journal.known.values())
            require_rows(self._journal.path, written, collection, is_new=self._is_new)
            for group in self._early:
                self._save(group)
            self._early = []
        return self

    def expect(self, group: Group, positions: list[int]) -> None:
        """The next batch of the run is of this group; its rows are the items at these positions."""
        self._settle_unseen()
        group.unfinished += 1
        self._next = group, positions

    def read(self, group: Group) -> None:
        """All items of a group have become batches or dead letters."""
        self._settle_unseen()
        group.is_read = True
        self._save_if_settled(group)

    def recall(self, batch: int, raw: RawRows) -> list[Settled]:
        """Nothing: a group that is settled has no batches."""
        if self._next is not None:
            self._batches[batch], self._next = self._next, None
        return []

    def digest(self, raw: RawRows) -> str:
        """Nothing: items have digests, and batches need none."""
        return ""

    def record(self, batch: Batch) -> None:
        """A batch is settled."""
        group, positions = self._batches.pop(batch.number)
        settled = batch.settled()
        group.written += settled.written
        group.duplicates += settled.duplicates
        group.retried += settled.retried
        group.bad += [positions[failure.row] for failure in batch.failures()]
        group.unfinished -= 1
        self._save_if_settled(group)

    def finish(self) -> None:
        """The source has ended, and all of it is settled."""
        if self._journal is not None:
            self._journal.complete()

    def discard(self) -> None:
        """Removes the journal of a run that has left nothing behind."""
        if self._journal is not None:
            self._journal.discard()

    def _settle_unseen(self) -> None:
        """The last batch had no good row, and there was no collection yet: the run did not ask for it."""
        if self._next is not None:
            (group, positions), self._next = self._next, None
            group.bad += positions
            group.unfinished -= 1

    def _save_if_settled(self, group: Group) -> None:
        if group.is_read and not group.unfinished and group.items:
            self._save(group)

    def _save(self, group: Group) -> None:
        if self._journal is not None:
            self._letters.save()
            self._journal.settle(group.result())
        elif self._open_journal is not None:
            self._early.append(group)
