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
        settled: What an earlier run did with it; None if none has settled it.
        items: How many of its items have come so far.
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
    settled: SettledGroup | None = None
    items: int = 0
    digest: GroupDigest = field(default_factory=GroupDigest)
    written: int = 0
    duplicates: int = 0
    retried: int = 0
    bad: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    unfinished: int = 0
    is_read: bool = False
    _ends: list[str] = field(default_factory=list)  # the ids of its first and its last item

    def add(self, item: Item) -> bool:
        """Counts an item; whether the group is complete."""
        self.items += 1
        self._ends[1:] = [repr(item.id or item.relative)]
        if self.settled is not None:
            return self.items == self.settled.items
        return (self.first + self.items) % GROUP_ITEMS == 0

    def result(self) -> SettledGroup:
        """What became of it."""
        return SettledGroup(
            self.first,
            self.items,
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
                f"{journal}: the source has changed since, from {self._ends[0]} to {self._ends[-1]} "
                f"(items {self.first} to {self.first + self.items - 1}): {WAYS_OUT}"
            )


WAYS_OUT: Final = "name another journal to index everything, or use vecbridge index --sync for what changed"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source yields, and the group that it is in.

    Attributes:
        group: The group.
        what: An item; a dead letter of the source, which no group counts; or None: the group has ended.
        position: Of an item in its group.
    """

    group: Group
    what: Item | DeadLetter | None
    position: int = -1


def grouped(
    source: Iterable[Item | DeadLetter], known: Mapping[int, SettledGroup], journal: str
) -> Iterator[Entry]:
    """Cuts a source into groups; nothing is held back.

    Args:
        source: Its items.
        known: The groups that are settled, by the number of their first item.
        journal: Where they are settled, for messages.

    Yields:
        The entries in order, and the end of each group behind its last item.

    Raises:
        JournalError: The source ends before the last of the settled groups does.
    """
    left = set(known)
    group = Group(0, known.get(0))
    for what in source:
        if isinstance(what, DeadLetter):
            yield Entry(group, what)
            continue
        is_complete = group.add(what)
        yield Entry(group, what, group.items - 1)
        if is_complete:
            left.discard(group.first)
            yield Entry(group, None)
            first = group.first + group.items
            group = Group(first, known.get(first))
    if left:
        raise JournalError(
            f"{journal}: the source has {group.first + group.items} items now, and had "
            f"{max(settled.first + settled.items for settled in known.values())}: {WAYS_OUT}"
        )
    if group.items:
        yield Entry(group, None)
