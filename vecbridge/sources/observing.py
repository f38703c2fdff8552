"""What the rows of a file of JSON values hold, column by column."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from vecbridge.errors import suggestion
from vecbridge.schema import FieldType
from vecbridge.sources.choosing import Candidate, Selection
from vecbridge.sources.deadletters import DeadLetter
from vecbridge.sources.inference import Observed

_NUMBERS: Final = {int, float}
#: As dead letters write a timestamp: in UTC, with six digits, or nine where it is finer than microseconds.
_LETTER_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.(\d{6}|\d{9})Z")
_SHOWN: Final = 40  # characters of a value in a message


@dataclass(slots=True)
class ColumnSeen:
    """What all rows of a file have in a column.

    Attributes:
        type: The type of its values.
        lengths: How many rows have a list of numbers of that length.
        whole_lists: Whether all numbers in these lists are whole.
        whole_numbers: How many rows have a whole number.
        texts: How many rows have text.
        times: Each value is a timestamp as dead letters write it, and stands in one.
        sample: The first value that is not null and where it stands.
    """

    type: Observed = field(default_factory=Observed)
    lengths: Counter[int] = field(default_factory=Counter)
    whole_lists: bool = True
    whole_numbers: int = 0
    texts: int = 0
    times: bool = True
    sample: tuple[Any, str] | None = None

    def add(self, value: Any, place: str, *, is_letter: bool) -> None:
        """Looks at the value of one row."""
        if value is None:
            return
        self.type.add(value)
        self.whole_numbers += type(value) is int
        self.texts += isinstance(value, str)
        self.times &= is_letter and isinstance(value, str) and _LETTER_TIME.fullmatch(value) is not None
        if isinstance(value, list) and value and (kinds := set(map(type, value))) <= _NUMBERS:
            self.lengths[len(value)] += 1
            self.whole_lists &= kinds == {int}
        if self.sample is None:
            self.sample = value, place

    @property
    def field_type(self) -> FieldType:
        """The narrowest type for all values."""
        return "timestamp" if self.times and self.sample is not None else self.type.type


@dataclass(slots=True)
class Seen:
    """What a file holds.

    Attributes:
        rows: How many records.
        bad: The first dead letter of the file; None where every line is a record.
        has_letters: Whether dead letters are among the records.
        columns: What each column holds.
    """

    rows: int = 0
    bad: DeadLetter | None = None
    has_letters: bool = False
    columns: dict[str, ColumnSeen] = field(default_factory=dict)

    def candidates(self, left_out: Selection) -> dict[str, Candidate]:
        """The columns in which any row has a list of numbers."""
        return {
            name: Candidate(column.lengths, self.rows, column.whole_lists)
            for name, column in self.columns.items()
            if column.lengths and name not in left_out.drop
        }

    def described(self, name: str) -> str:
        """Says in a clause why a column is none of vectors, and what was found in it."""
        column = self.columns.get(name)
        if column is None:
            return f"no line has a column {name!r}{suggestion(name, self.columns)}"
        if column.sample is None:
            return f"column {name!r} is null in every line"
        value, place = column.sample
        return f"column {name!r} has no list of numbers in any line: {place} has {shown(value)}"


def is_vector(value: Any) -> bool:
    """A list of numbers; True is none, although Python counts it as one."""
    return isinstance(value, list) and bool(value) and set(map(type, value)) <= _NUMBERS


def shown(value: Any) -> str:
    """A value of JSON for a message."""
    if value is None:
        return "null or missing"
    text = repr(value)
    kind = {str: "text", dict: "an object", list: "a list", bool: "a boolean"}.get(type(value), "a number")
    return f"{kind} ({text if len(text) <= _SHOWN else text[:_SHOWN] + '…'})"
