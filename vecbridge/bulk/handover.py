"""What the stages of the pipeline hand to each other."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import pyarrow as pa

from vecbridge.bulk.groups import Group, SettledGroup
from vecbridge.bulk.journal import Settled
from vecbridge.embed.base import FloatArray
from vecbridge.embed.items import Ready
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.images import Item

READ_AHEAD: Final = 16  # items, so that no reader waits


class Intake(Protocol):
    """The run that takes what comes out of the pipeline."""

    def take(self, letter: DeadLetter) -> None:
        """An item that could not be read."""
        ...

    def recall(self, settled: Settled, ids: pa.Array) -> None:
        """Items that an earlier run has settled."""
        ...

    def count_bytes(self, number: int) -> None:
        """Bytes were read."""
        ...

    def collect(self) -> None:
        """Nothing came for a while."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome of what needed no thread."""

    value: Any

    def result(self) -> Any:
        """It."""
        return self.value


@dataclass(frozen=True, slots=True)
class Found:
    """An item of a group that is being read; of a settled one, only its digest is taken."""

    group: Group
    position: int
    item: Item
    outcome: Future[Any] | Done


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An item whose id stands for another file."""

    group: Group
    position: int
    item: Item


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more of a group comes."""

    group: Group


@dataclass(frozen=True, slots=True)
class Bad:
    """An item that cannot be read or decoded."""

    group: Group
    position: int
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Gathered:
    """A batch that can be embedded: its items, by their positions in the group."""

    group: Group
    positions: list[int]
    rows: list[Ready]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A batch: its items, by their positions in the group, and their vectors."""

    group: Group
    positions: list[int]
    rows: list[Ready]
    vectors: FloatArray


@dataclass(frozen=True, slots=True)
class Recalled:
    """A settled group whose items are what they were."""

    group: SettledGroup
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Failed:
    """A stage ended with an error."""

    error: BaseException


Aside: TypeAlias = "Bad | End | Recalled | DeadLetter | Failed | None"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is in flight.

    Attributes:
        batch_rows: Items that are embedded together, at most.
        readers: Threads that read and decode.
    """

    batch_rows: int
    readers: int

    @property
    def read_ahead(self) -> int:
        """Items that are read, or being read, and belong to no batch yet."""
        return max(min(self.batch_rows, READ_AHEAD), 2 * self.readers)
