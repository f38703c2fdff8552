"""Documents in a collection: a text, metadata, and a vector or none. The faces beside this module share it.

A key of the metadata is a field of the collection, which is added when the key first has a value, so that
filters, the command line and other programs see it. Its first values decide its type, and a value of another
type is refused later. What can be no field (a name such as ``page-no``, a null, an empty list) is kept in one
json field and cannot be filtered by.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import vecbridge as vb
from vecbridge.bulk.growth import value_types
from vecbridge.filters import from_dict
from vecbridge.names import is_field_name
from vecbridge.urls import parse

EXTRA = "extra"  # json: what no field holds
EMBEDDED = "embedded"  # False where the vector is a placeholder; added with the first one


@dataclass(frozen=True, slots=True)
class Record:
    """One document.

    Attributes:
        id: Its id.
        text: What it says.
        metadata: JSON values by key, datetimes with a time zone too.
        vector: Its embedding, if it has one (or if it was asked for).
        other: JSON values that a framework keeps beside the metadata.
    """

    id: str
    text: str | None
    metadata: dict[str, Any]
    vector: Sequence[float] | None = None
    other: dict[str, Any] = field(default_factory=dict)


def open_or_create(url: str, dim: int, **spec: Any) -> vb.Collection:
    """The collection that a URL names, made as ``vb.CollectionSpec.single`` says if it is not there."""
    parsed = parse(url)
    store = vb.connect(parsed.without_collection())
    name, namespace = parsed.require_collection(), parsed.namespace or ""
    if name in store.collections():
        return store.open(name, namespace=namespace)
    made = vb.CollectionSpec.single(name, dim=dim, namespaced=bool(namespace), **spec)
    return store.create(made, if_exists="open", grow=True, namespace=namespace)


class Documents:
    """The documents of a collection.

    Args:
        collection: Where they are; it need not have any field yet.
        text: The field of their text.
    """

    def __init__(self, collection: vb.Collection, *, text: str) -> None:
        self.collection = collection
        self._text = text

    def write(self, rows: Iterable[Record], on_conflict: str = "replace") -> vb.WriteReport:
        """Writes documents and adds the fields that their metadata needs."""
        rows = list(rows)
        self._grow(rows)
        try:
            return self.collection.upsert([self._columns(row) for row in rows], on_conflict=on_conflict)
        except vb.SchemaError:
            known = self.collection.spec
            self.collection.add_fields({})  # takes up the fields that others added
            if self.collection.spec == known:
                raise
        return self.collection.upsert([self._columns(row) for row in rows], on_conflict=on_conflict)

    def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> list[Record]:
        """Documents by id; those that are not there are left out."""
        batch = self.collection.fetch(ids, include=self._included(vectors))
        return [self._record(values) for values in batch.to_pylist()]

    def matching(self, filter: vb.Filter | None, *, vectors: bool = False) -> Iterator[Record]:
        """Every document that matches."""
        for page in self.collection.scan(include=self._included(vectors), filter=filter):
            yield from map(self._record, page.batch.to_pylist())

    def search(
        self, vector: Sequence[float], k: int, filter: Any = None, *, vectors: bool = False, **options: Any
    ) -> list[tuple[Record, float]]:
        """The nearest documents that have an embedding, with their scores, best first.

        Args:
            vector: An embedding.
            k: Documents, at most.
            filter: A filter of vecbridge, or its JSON form.
            vectors: Whether they come with their vectors.
            **options: Others of ``vb.Query``, such as ``ef`` and ``min_score``.
        """
        if EMBEDDED in self._types():
            embedded = vb.field(EMBEDDED).differs(False)
            asked = vb.everything if filter is None else filter
            filter = (from_dict(asked) if isinstance(asked, dict) else asked) & embedded
        query = vb.Query(vector, k, filter=filter, include=self._included(vectors), **options)
        [hits] = self.collection.search(query)
        rows = [{"id": key} for key in hits.ids] if hits.records is None else hits.records.to_pylist()
        return list(zip(map(self._record, rows), hits.scores.tolist(), strict=True))

    def has(self, key: str) -> bool:
        """Whether a key of the metadata is a field."""
        return key in self._types() and key not in self._own()

    def may_have(self, key: str) -> bool:
        """Whether a key of the metadata is a field, or would be one if it had a value."""
        taken = {name.lower() for name in (*self.collection.spec.column_names, *self._own())}
        return self.has(key) or (is_field_name(key) and key.lower() not in taken)

    def _own(self) -> tuple[str, ...]:
        vectors = (each.name for each in self.collection.spec.vectors)
        return ("id", self._text, EXTRA, EMBEDDED, *vectors)

    def _types(self) -> dict[str, str]:
        return {each.name: each.type for each in self.collection.spec.fields}

    def _included(self, vectors: bool) -> list[str]:
        return [*self._types(), *([self.collection.spec.vector_field().name] if vectors else [])]

    def _grow(self, rows: Sequence[Record]) -> None:
        metadata = [{key: value for key, value in row.metadata.items() if value != []} for row in rows]
        keys: dict[str, str] = {}  # of spellings that differ in case the first is a field
        for key in (key for values in metadata for key in values if self.may_have(key)):
            keys.setdefault(key.lower(), key)
        wanted = {self._text: "string", EXTRA: "json", **value_types(metadata, keys.values())}
        if any(row.vector is None for row in rows):
            wanted[EMBEDDED] = "bool"
        if missing := {name: type for name, type in wanted.items() if name not in self._types()}:
            self.collection.add_fields(missing)

    def _columns(self, row: Record) -> dict[str, Any]:
        types, vector = self._types(), self.collection.spec.vector_field()
        columns = {"id": row.id, self._text: row.text}
        columns[vector.name] = [1.0] * vector.dim if row.vector is None else row.vector
        if EMBEDDED in types:
            columns[EMBEDDED] = row.vector is not None
        kept = {}
        for key, value in row.metadata.items():
            if value is None or not self.has(key):
                kept[key] = value
            else:
                columns[key] = json.dumps(value) if types[key] == "json" else value
        extra = row.other | ({"metadata": kept} if kept else {})
        return columns | {EXTRA: json.dumps(extra) if extra else None}

    def _record(self, values: dict[str, Any]) -> Record:
        for name, type in self._types().items():
            if type == "json" and values[name] is not None:
                values[name] = json.loads(values[name])
        other = values.get(EXTRA) or {}
        metadata = {
            name: values[name] for name in self._types() if self.has(name) and values[name] is not None
        }
        metadata |= other.pop("metadata", {})
        vector = values.get(self.collection.spec.vector_field().name)
        if values.get(EMBEDDED) is False:
            vector = None
        return Record(values["id"], values.get(self._text), metadata, vector, other)
