"""The spec of a collection on the disk, and where its namespaces are.

``spec.json`` holds the token and the spec. A field that was added to the collection when it existed is marked
in it::

    {"token": "…", "spec": {…, "fields": [{"name": "year", "type": "int64"},
                                          {"name": "place", "type": "string", "added": true}], …}}

Replacing that file is all that adds fields: no row is touched. Rows that were committed before have fewer
columns, and each frame of a log says how many fields its rows have (see :mod:`.log`); what they lack is null.
So a frame never has a field that ``spec.json`` does not have, and a reader that comes upon one that it does
not know reads that file again. A version of vecbridge from before the mark takes no spec with one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from vecbridge.driver import Identity
from vecbridge.errors import CorruptStoreError, NotFoundError, SchemaError
from vecbridge.records import arrow_schema
from vecbridge.schema import CollectionSpec
from vecbridge.storage import replace_file

SPEC: Final = "spec.json"
_ADDED: Final = "added"


@dataclass(frozen=True, slots=True)
class StoredSpec:
    """What spec.json says.

    Attributes:
        token: Of the collection; it changes when the collection is replaced.
        spec: The collection's spec.
        first_fields: With how many of its fields the collection was made.
    """

    token: str
    spec: CollectionSpec
    first_fields: int

    @classmethod
    def read(cls, directory: Path) -> StoredSpec | None:
        """Reads the spec of a collection; None if there is no collection.

        Raises:
            CorruptStoreError: It is damaged.
        """
        path = directory / SPEC
        try:
            stored = json.loads(path.read_bytes())
            fields = stored["spec"]["fields"]
            added = [field.pop(_ADDED, False) for field in fields]
            spec = CollectionSpec.from_dict(stored["spec"])
            return cls(str(stored["token"]), spec, added.count(False))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, AttributeError, SchemaError) as exc:
            raise CorruptStoreError(f"{path} is damaged: {exc}; nothing was changed") from exc

    @property
    def identity(self) -> Identity:
        """The collection's identity."""
        return Identity(self.token, schema=len(self.spec.fields))

    def write(self, directory: Path) -> None:
        """Replaces the file whole or not at all, durably."""
        values = self.spec.to_dict()
        for field in values["fields"][self.first_fields :]:
            field[_ADDED] = True
        content: dict[str, Any] = {"token": self.token, "spec": values}
        replace_file(directory / SPEC, json.dumps(content, ensure_ascii=False).encode())


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a namespace is, and what it holds.

    Attributes:
        directory: Its directory; the first write makes it.
        stored: The spec as it was read last.
        device: "cpu" or "cuda".
        schema: Arrow schema of the rows in memory, with every field.
    """

    directory: Path
    stored: StoredSpec
    device: str
    schema: pa.Schema

    @classmethod
    def at(cls, directory: Path, stored: StoredSpec, device: str) -> Place:
        """The place of a namespace of a collection."""
        return cls(directory, stored, device, catalogue_schema(stored.spec))

    @property
    def spec(self) -> CollectionSpec:
        """The collection's spec."""
        return self.stored.spec

    @property
    def token(self) -> str:
        """The collection's token."""
        return self.stored.token

    @property
    def fields(self) -> int:
        """How many fields new frames say that they have: 0 where none were added."""
        count = len(self.spec.fields)
        return count if count > self.stored.first_fields else 0

    def schema_of(self, fields: int) -> pa.Schema | None:
        """The Arrow schema of a frame that says that it has so many fields; None if one is not known here."""
        if fields > len(self.spec.fields):
            return None
        if fields == self.fields:
            return self.schema
        columns = list(self.schema)  # id, fields, norms
        kept = 1 + (fields or self.stored.first_fields)
        return pa.schema(columns[:kept] + columns[1 + len(self.spec.fields) :])

    def read_again(self) -> StoredSpec:
        """What spec.json says now.

        Raises:
            NotFoundError: The collection was dropped or replaced.
            CorruptStoreError: The file is damaged.
        """
        stored = StoredSpec.read(self.directory.parent)
        self.require_token(stored.token if stored is not None else None)
        assert stored is not None
        return stored

    def require_token(self, token: object) -> None:
        """Refuses what belongs to another collection.

        Raises:
            NotFoundError: The collection was dropped or replaced.
        """
        if token != self.token:
            name = self.spec.name
            raise NotFoundError(f"collection {name!r} was dropped or replaced since it was opened")


def catalogue_schema(spec: CollectionSpec) -> pa.Schema:
    """Arrow schema of the log: id, scalar fields, and the Euclidean norm of each vector."""
    names = [field.name for field in spec.fields]
    norms = [pa.field(norm_column(vector.name), pa.float64()) for vector in spec.vectors]
    return pa.schema([*arrow_schema(spec, names), *norms])


def padded(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows with all columns of a schema: null in those that they lack."""
    if batch.num_columns == len(schema):
        return batch
    known = set(batch.schema.names)
    columns = [
        batch.column(column.name) if column.name in known else pa.nulls(batch.num_rows, column.type)
        for column in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def norm_column(vector: str) -> str:
    """Where the norms of a vector field are kept."""
    return f"_vb_norm_{vector}"
