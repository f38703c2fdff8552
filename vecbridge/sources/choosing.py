"""Which columns of a file hold ids and vectors, and what the others are called."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from vecbridge.errors import SchemaError, suggestion
from vecbridge.names import RESERVED
from vecbridge.schema import CollectionSpec
from vecbridge.sources.inference import field_name

ID_NAMES: Final = ("id", "_id", "ID", "key", "uuid")
VECTOR_NAMES: Final = ("vector", "embedding", "embeddings", "emb", "values")
_LONG: Final = 16  # numbers; shorter lists are boxes, colours, coordinates
_CALLED_A_VECTOR: Final = re.compile(r"emb|vec", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column with lists of numbers, which may be vectors.

    Attributes:
        lengths: How many rows have a list of that length.
        rows: How many rows were looked at.
        whole: The numbers are of an integer type, so that they may be token ids or a box.
    """

    lengths: Mapping[int, int]
    rows: int
    whole: bool = False

    def dim(self, wanted: int | None = None) -> int:
        """The wanted length where any row has it, otherwise the commonest one."""
        if wanted in self.lengths:
            return int(wanted or 0)
        return max(self.lengths, key=lambda length: self.lengths[length])

    @property
    def is_usual(self) -> bool:
        """Whether most rows have a list of one length."""
        return 2 * self.lengths[self.dim()] > self.rows

    def __str__(self) -> str:
        dim = self.dim()
        return f"{dim} numbers in {self.lengths[dim]:,} of {self.rows:,} rows"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which columns are read.

    Attributes:
        fields: Scalar columns to keep, by their own name or by the field's; None keeps all.
        drop: Columns to leave out, vectors too.
    """

    fields: Collection[str] | None = None
    drop: Collection[str] = ()

    def names(self) -> set[str]:
        """Every name that was typed."""
        return {*(self.fields or ()), *self.drop}

    def keeps(self, column: str, field: str) -> bool:
        """Whether a scalar column is read; a reserved one, as of a Parquet snapshot, is left out unasked."""
        if column in self.drop or field in self.drop or (column in RESERVED and not self.insists_on(column)):
            return False
        return self.fields is None or column in self.fields or field in self.fields

    def insists_on(self, column: str) -> bool:
        """Whether a column was named among those to keep."""
        return self.fields is not None and column in self.fields


def choose_id(names: Iterable[str], wanted: str | None) -> str:
    """Which column holds the ids.

    Raises:
        SchemaError: There is none of that name, or none of the usual names.
    """
    known = list(names)
    found = usual_id(known) if wanted is None else wanted if wanted in known else None
    if found is not None:
        return found
    if wanted is not None:
        raise SchemaError(f"no id column {wanted!r}{suggestion(wanted, known)}")
    raise SchemaError(
        f"no id column ({' or '.join(ID_NAMES)}) among {', '.join(known)}: name it with id_column="
    )


def usual_id(names: Collection[str]) -> str | None:
    """The first of the usual names of an id column that there is."""
    return next((name for name in ID_NAMES if name in names), None)


def choose_vectors(
    candidates: Mapping[str, Candidate],
    wanted: Mapping[str, str] | None,
    existing: CollectionSpec | None,
    describe: Callable[[str], str],
) -> dict[str, str]:
    """Which columns hold vectors, as {column: vector field}.

    Args:
        candidates: Columns in which a row at least has a list of numbers.
        wanted: What the caller named, which is believed; None looks for the collection's names, then for the
            usual ones, then for the only column in which most rows have a list of one length.
        existing: The collection that the rows go into.
        describe: Says in a clause what is in a column that is no candidate.

    Raises:
        SchemaError: None was found, or several and nothing says which.
    """
    stored = [] if existing is None else [vector.name for vector in existing.vectors]
    only = stored[0] if len(stored) == 1 else "vector"
    if wanted is not None:
        for name in wanted:
            if name not in candidates:
                raise SchemaError(f"{describe(name)}; lists of numbers: {listed(candidates)}")
        names = list(wanted.values())
        return dict.fromkeys(wanted, only) if names == ["vector"] else dict(wanted)
    if present := [name for name in stored if name in candidates]:
        return {name: name for name in present}
    for name in VECTOR_NAMES:
        if name in candidates:
            return {name: only}
    usual = [name for name, candidate in candidates.items() if candidate.is_usual and not candidate.whole]
    usual = usual or [name for name, candidate in candidates.items() if candidate.is_usual]
    if len(usual) == 1:
        return {usual[0]: only}
    raise SchemaError(
        f"no single column is clearly the vectors; lists of numbers: {listed(candidates)}: "
        "name the column with vectors="
    )


def dims(
    candidates: Mapping[str, Candidate], vectors: Mapping[str, str], existing: CollectionSpec | None
) -> dict[str, int]:
    """The length of each vector field: the collection's where any row has it."""
    stored = {} if existing is None else {vector.name: vector.dim for vector in existing.vectors}
    return {field: candidates[column].dim(stored.get(field)) for column, field in vectors.items()}


def further_vectors(
    candidates: Mapping[str, Candidate], vectors: Mapping[str, str], selection: Selection, known: set[str]
) -> dict[str, str]:
    """Other columns that are embeddings by their looks, and why they are left out.

    Args:
        candidates: Columns with lists of numbers.
        vectors: Those that were chosen.
        selection: Columns that the caller named are kept.
        known: Fields that the collection has, which are kept.
    """
    named = " ".join(f"--vector {name}" for name in vectors)
    return {
        name: f"{candidate}, so that it looks like another vector: {named} --vector {name} takes it as one, "
        f"and --fields {name} as a list"
        for name, candidate in candidates.items()
        if name not in {*vectors, *known, *selection.drop}
        and not selection.insists_on(name)
        and _looks_like_vector(name, candidate)
    }


def listed(candidates: Mapping[str, Candidate]) -> str:
    """The candidates for a message."""
    return ", ".join(f"{name} ({candidate})" for name, candidate in candidates.items()) or "none"


def field_names(
    columns: Iterable[str], taken: Mapping[str, str], existing: CollectionSpec | None
) -> dict[str, str]:
    """What each column is called: a field of the collection first, then legal names in the file's order.

    Args:
        columns: Columns of the file.
        taken: Those that have their name already (ids and vectors), {column: name}.
        existing: The collection that they go into.
    """
    known = {} if existing is None else {field.name: field.name for field in existing.fields}
    names = dict(taken)
    others = [column for column in columns if column not in taken]
    names |= {column: column for column in others if column in known and column not in names.values()}
    for column in others:
        if column not in names:
            names[column] = field_name(column, names.values())
    return names


def _looks_like_vector(name: str, candidate: Candidate) -> bool:
    called = name in VECTOR_NAMES or _CALLED_A_VECTOR.search(name) is not None
    long = candidate.dim() >= _LONG and not candidate.whole
    return candidate.is_usual and candidate.dim() > 1 and (long or called)
