"""The index of a data frame that pandas wrote to a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vecbridge.sources.conversion import decoded
from vecbridge.sources.inference import is_text

_KEY: Final = b"pandas"


@dataclass(frozen=True, slots=True)
class PandasIndex:
    """What the metadata say of it.

    Attributes:
        columns: The columns that are its levels, {column: name}; the name is None where it has none, and
            the column is ``__index_level_0__`` then.
        range: Where the index is a range, its name, start and step; it has no column.
    """

    columns: Mapping[str, str | None]
    range: tuple[str | None, int, int] | None = None

    @classmethod
    def of(cls, schema: pa.Schema) -> PandasIndex:
        """The index of a file; one without levels where pandas has not written it."""
        try:
            notes = json.loads((schema.metadata or {}).get(_KEY, b"{}"))
            names = {each["field_name"]: each["name"] for each in notes.get("columns", [])}
            levels = notes.get("index_columns", [])
            return cls(_columns(levels, names, schema), _range(levels))
        except (AttributeError, KeyError, TypeError, ValueError):
            return cls({})

    def ids(self, sample: pa.RecordBatch | None, names: Collection[str]) -> str | None:
        """The index that can serve as ids: of one level, which is text or has a name, and no value twice.

        Args:
            sample: The first rows of the file.
            names: The columns that may be taken.
        """
        if len(self.columns) != 1 or sample is None:
            return None
        [(column, name)] = self.columns.items()
        values = decoded(sample.column(column))
        fits = is_text(values.type) or (name is not None and pa.types.is_integer(values.type))
        is_unique = fits and pc.count_distinct(values, mode="all").as_py() == len(values)
        return column if is_unique and column in names else None


def _columns(levels: list[Any], names: Mapping[str, str | None], schema: pa.Schema) -> dict[str, str | None]:
    return {
        level: names.get(level, level) for level in levels if isinstance(level, str) and level in schema.names
    }


def _range(levels: list[Any]) -> tuple[str | None, int, int] | None:
    if len(levels) != 1 or not isinstance(levels[0], dict) or levels[0].get("kind") != "range":
        return None
    level = levels[0]
    return level["name"], int(level["start"]), int(level["step"])
