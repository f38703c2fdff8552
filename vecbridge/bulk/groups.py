"""Fixed groups of source items: what a journal settles, whatever the batches and threads of a run are.

The items of a source, counted from 0, form groups of 256: items 0 to 255, 256 to 511, and so on. The last
group of a run is shorter. If the source has become longer since, the items that are new form a group of
their own, up to the next multiple of 256::

    first run    |  0 … 255  |  256 … 299 |
    second run   |  0 … 255  |  256 … 299 |  300 … 511  |  512 … 600 |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from vecbridge.errors import JournalError
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import Item
from vecbridge.sources.reading import SourceItem
from vecbridge.sources.texts import TextItem

GROUP_ITEMS: Final = 256


@dataclass(frozen=True, slots=True)
class SettledGroup:
    """A group of which every item is written, a dead letter, or left out.

    items = written + duplicates + len(bad) + len(left_out)

    Attributes:
        first: Number of its first item in the source.
        items: How many it has.
        digest: Of the ids, sizes, contents and metadata of its items.
        written: Rows acknowledged.
        duplicates: Rows that repeat an id.
        retried: Upserts beyond the first.
        bad: Positions in the group of the items that became dead letters.
        left_out: Positions of those whose ids stand for other files.
    """

    first: int
    items: int
    digest: str
    written: int
    duplicates: int = 0
    retried: int = 0
    bad: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()


class GroupDigest:
    """The digest of a group, item by item."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def add(self, item: Item, source: SourceItem | None) -> None:
        """Adds an item.

        Args:
            item: As the source has it.
            source: As it was read; None if it could not be read, or was left out.
        """
        known = [None, None] if source is None else [source.size, source.sha256]
        metadata = {} if isinstance(item, TextItem) else item.metadata
        id = item.id or item.relative
        values = json.dumps([id, *known, metadata], sort_keys=True, ensure_ascii=False, default=repr)
        self._state.update(values.encode("utf-8", "surrogatepass") + b"\n")

    def hexdigest(self) -> str:
        """32 hexadecimal digits."""
        return self._state.hexdigest()[:32]


@dataclass(slots=True, eq=False)
class Group:
    """A group on its way through a run.

    Attributes:
        first: Number of its first item in the source.
        entries: Its items, with the source's own dead letters between them.
        settled: What an earlier run did with it; None if none has settled it.
        digest: Of its items, as far as they were read.
        written: Rows acknowledged so far.
        duplicates: Rows so far that repeat an id.
        retried: Upserts beyond the first so far.
        bad: Positions of the items that became dead letters.
        left_out: Positions of the items whose ids stand for other files.
        unfinished: Batches of it that are not settled yet.
        is_read: Whether all its items have become batches or dead letters.
    """

    first: int
    entries: list[Item | DeadLetter]
    settled: SettledGroup | None = None
    digest: GroupDigest = field(default_factory=GroupDigest)
    written: int = 0
    duplicates: int = 0
    retried: int = 0
    bad: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    unfinished: int = 0
    is_read: bool = False

    @property
    def items(self) -> list[Item]:
        """Its items."""
        return [entry for entry in self.entries if not isinstance(entry, DeadLetter)]

    def result(self) -> SettledGroup:
        """What became of it."""
        return SettledGroup(
            self.first,
            len(self.items),
            self.digest.hexdigest(),
            self.written,
            self.duplicates,
            self.retried,
            tuple(sorted(self.bad)),
            tuple(self.left_out),
        )

    def require_same(self, journal: str) -> None:
        """Refuses a settled group whose items are not what they were.

        Args:
            journal: Where it is settled.

        Raises:
            JournalError: They have changed; the message names the group.
        """
        if self.settled is not None and self.settled.digest != self.digest.hexdigest():
            raise JournalError(
                f"{journal}: the source has changed since, somewhere {self._place()}: {WAYS_OUT}"
            )

    def _place(self) -> str:
        items = self.items
        last = self.first + len(items) - 1
        where = f"from {_name(items[0])} to {_name(items[-1])}" if len(items) > 1 else f"at {_name(items[0])}"
        return f"{where} (items {self.first} to {last})"


WAYS_OUT: Final = "name another journal to index everything, or use vecbridge index --sync for what changed"


def grouped(
    source: Iterable[Item | DeadLetter], known: Mapping[int, SettledGroup], journal: str
) -> Iterator[Group]:
    """Cuts a source into groups.

    Args:
        source: Its items.
        known: The groups that are settled, by the number of their first item.
        journal: Where they are settled, for messages.

    Yields:
        The groups in order; the last may be of dead letters alone.

    Raises:
        JournalError: The source ends before the last of the settled groups does.
    """
    first, left = 0, set(known)
    group = Group(first, [], known.get(first))
    count, wanted = 0, _length(group)
    for entry in source:
        group.entries.append(entry)
        if isinstance(entry, DeadLetter):
            continue
        count += 1
        if count == wanted:
            left.discard(first)
            yield group
            first += count
            group = Group(first, [], known.get(first))
            count, wanted = 0, _length(group)
    if left:
        raise JournalError(
            f"{journal}: the source has {first + count} items now, and had {max(map(_end, known.values()))}: "
            f"{WAYS_OUT}"
        )
    if group.entries:
        yield group


def _length(group: Group) -> int:
    if group.settled is not None:
        return group.settled.items
    return GROUP_ITEMS - group.first % GROUP_ITEMS


def _end(settled: SettledGroup) -> int:
    return settled.first + settled.items


def _name(item: Item) -> str:
    return repr(item.id or item.relative)
