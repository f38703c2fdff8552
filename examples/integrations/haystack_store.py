"""A document store for Haystack: any collection of vecbridge, and the retriever that a pipeline needs.

Try it out, in the directory of this file::

    pip install haystack-ai '../..[faiss]'

    from haystack_store import VecbridgeDocumentStore, VecbridgeEmbeddingRetriever
    store = VecbridgeDocumentStore("faiss:./vectors#documents", dim=384)
    pipeline.add_component("retriever", VecbridgeEmbeddingRetriever(store, top_k=5))

A saved pipeline is read with ``Pipeline.load(file, allowed_modules=["haystack_store"])``.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import Any, Self

from documents import Documents, Record, open_or_create
from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError

import vecbridge as vb
from vecbridge.filters import from_dict, normalize
from vecbridge.urls import parse

_CONFLICT = {DuplicatePolicy.SKIP: "skip", DuplicatePolicy.OVERWRITE: "replace"}  # the others: error
_NOTHING = ~vb.everything


class VecbridgeDocumentStore:
    """A Haystack document store in a collection; documents.py says how metadata become fields.

    Vectors are float32. Text is ordered by code point, so dates order well where all have one format.

    Args:
        url: The collection, such as ``faiss:./vectors#documents``; it is made if it is not there. Passwords
            and keys belong in the environment, since ``to_dict`` writes the URL out.
        dim: Length of the embeddings, of a collection that is not there yet.
        metric: "cosine", "dot" or "l2", of a collection that is not there yet.
    """

    def __init__(self, url: str, *, dim: int = 768, metric: str = "cosine") -> None:
        self.url, self.dim, self.metric = url, dim, metric

    @cached_property
    def documents(self) -> Documents:
        """The collection; it is opened when it is first needed."""
        return Documents(open_or_create(self.url, self.dim, metric=self.metric), text="content")

    def to_dict(self) -> dict[str, Any]:
        if parse(self.url).password:
            raise ValueError("the URL has a password, which would be written out: put it in the environment")
        return default_to_dict(self, url=self.url, dim=self.dim, metric=self.metric)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return default_from_dict(cls, data)

    def count_documents(self) -> int:
        return self.documents.collection.count()

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """The documents that match, in no certain order."""
        where = self._filter(filters)
        return [_document(row) for row in self.documents.matching(where, vectors=True)]

    def write_documents(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Writes documents; a policy of NONE is FAIL."""
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise ValueError("write_documents() takes a list of Documents")
        first = policy is DuplicatePolicy.SKIP  # of repeated ids the first is kept, or the last
        rows = {each.id: _row(each) for each in (reversed(documents) if first else documents)}
        if len(rows) < len(documents) and policy not in _CONFLICT:
            raise DuplicateDocumentError("two of the documents have the same id")
        try:
            report = self.documents.write(rows.values(), _CONFLICT.get(policy, "error"))
        except vb.InvalidRecordError as exc:
            if policy in _CONFLICT or not (there := self.documents.fetch(list(rows))):
                raise
            raise DuplicateDocumentError(f"there already: {', '.join(row.id for row in there)}") from exc
        self.documents.collection.flush()
        return report.written

    def delete_documents(self, document_ids: list[str]) -> None:
        self.documents.collection.delete(document_ids)

    def delete_all_documents(self) -> None:
        self.documents.collection.delete(filter=vb.everything)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        where = self._filter(filters)
        count = self.documents.collection.count(where)  # not every database counts what it deletes
        self.documents.collection.delete(filter=where)
        return count

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Sets some metadata of the documents that match."""
        rows = list(self.documents.matching(self._filter(filters), vectors=True))
        changed = [Record(row.id, row.text, row.metadata | meta, row.vector, row.other) for row in rows]
        self.documents.write(changed)
        self.documents.collection.flush()
        return len(rows)

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        return self.documents.collection.count(self._filter(filters))

    def embedding_retrieval(
        self, query_embedding: list[float], *, filters: dict[str, Any] | None = None, top_k: int = 10
    ) -> list[Document]:
        """The nearest documents that have an embedding, with their scores, best first."""
        found = self.documents.search(query_embedding, top_k, self._filter(filters), vectors=True)
        return [_document(row, score) for row, score in found]

    async def count_documents_async(self) -> int:
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        await asyncio.to_thread(self.delete_documents, document_ids)

    def _filter(self, filters: dict[str, Any] | None) -> vb.Filter:
        return self._read(filters) if filters else vb.everything

    def _read(self, form: Any, *, negated: bool = False) -> vb.Filter:
        """A filter as Haystack means it: a document without a value matches every negation."""
        if not isinstance(form, dict) or "operator" not in form:
            raise FilterError(f"a filter has an operator: {form!r}")
        operator = form["operator"]
        if "field" in form:
            if "value" not in form:
                raise FilterError(f"a comparison has a value: {form!r}")
            return self._compare(form["field"], operator, form["value"], negated)
        if operator not in ("AND", "OR", "NOT") or not isinstance(form.get("conditions"), list):
            raise FilterError(f"AND, OR or NOT with a list of conditions, or a field: {form!r}")
        negated ^= operator == "NOT"  # of all its conditions together
        parts = [self._read(part, negated=negated) for part in form["conditions"]]
        every = (operator != "OR") != negated
        joined = vb.everything if every else _NOTHING
        for part in parts:
            joined = joined & part if every else joined | part
        return joined

    def _compare(self, name: str, operator: str, value: Any, negated: bool) -> vb.Filter:
        """A comparison; Haystack's have two outcomes, so that a negated one matches null."""
        if operator in ("!=", "not in"):
            operator, negated = {"!=": "==", "not in": "in"}[operator], not negated
        if operator not in ("==", ">", ">=", "<", "<=", "in"):
            raise FilterError(f"unknown operator {operator!r}")
        if operator == "in" and not isinstance(value, list):
            raise FilterError(f"{name!r}: in takes a list, not {value!r}")
        null_matches = None in value if operator == "in" else operator == "==" and value is None
        key = name.removeprefix("meta.")
        if not self.documents.has(key) and key not in ("id", "content"):
            if not self.documents.may_have(key):
                raise FilterError(f"no filter on {name!r}: it can be no field of a collection")
            return vb.everything if null_matches != negated else _NOTHING  # no document has a value
        if value is None and operator != "==":
            return vb.everything if negated else _NOTHING  # nothing has an order beside null
        try:
            where = from_dict({"field": key, "op": operator, "value": value})
            normalize(where, self.documents.collection.spec)
        except vb.SchemaError as exc:
            raise FilterError(str(exc)) from exc
        if not negated:
            return where
        return ~where if null_matches else ~where | vb.field(key).is_null()


@component
class VecbridgeEmbeddingRetriever:
    """Finds the documents nearest to the embedding of a query.

    Args:
        document_store: Where they are.
        filters: Which documents; those that ``run`` is given stand instead.
        top_k: Documents, at most.
    """

    def __init__(
        self,
        document_store: VecbridgeDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
    ) -> None:
        self.document_store, self.filters, self.top_k = document_store, filters, top_k

    def to_dict(self) -> dict[str, Any]:
        store = self.document_store.to_dict()
        return default_to_dict(self, document_store=store, filters=self.filters, top_k=self.top_k)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        values = data["init_parameters"]
        values["document_store"] = VecbridgeDocumentStore.from_dict(values["document_store"])
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        found = self.document_store.embedding_retrieval(
            query_embedding, filters=filters or self.filters, top_k=top_k or self.top_k
        )
        return {"documents": found}


def _row(document: Document) -> Record:
    values = document.to_dict(flatten=False)
    other = {name: values[name] for name in ("blob", "sparse_embedding") if values[name] is not None}
    return Record(document.id, document.content, document.meta, document.embedding, other)


def _document(row: Record, score: float | None = None) -> Document:
    values = {"id": row.id, "content": row.text, "embedding": row.vector, "score": score}
    return Document.from_dict({**row.other, **values, "meta": row.metadata})
