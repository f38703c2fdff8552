"""A vector store for LangChain: any collection of vecbridge.

Try it out, in the directory of this file::

    pip install langchain-core '../..[faiss]'

    from langchain_store import VecbridgeVectorStore
    store = VecbridgeVectorStore.from_texts(texts, embedding, url="faiss:./vectors#documents")
    store.similarity_search("a question", k=3, filter=vb.field("year") >= 2020)
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from documents import Documents, Record, open_or_create
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

import vecbridge as vb


class VecbridgeVectorStore(VectorStore):
    """A LangChain vector store in a collection; documents.py says how metadata become fields.

    Every search takes ``filter=``, a filter of vecbridge or its JSON form, and the options of ``vb.Query``
    such as ``ef`` and ``min_score``. The async methods run these in threads.

    Args:
        embedding: Makes the vectors.
        collection: Where the documents are; every collection with text ids and one vector will do.
        text: The field of their text.
    """

    def __init__(self, embedding: Embeddings, collection: vb.Collection, *, text: str = "text") -> None:
        self.collection = collection
        self._embedding = embedding
        self._documents = Documents(collection, text=text)

    @classmethod
    def from_url(cls, url: str, embedding: Embeddings, *, text: str = "text", **spec: Any) -> Self:
        """A store in the collection that a URL names.

        Args:
            url: Such as ``faiss:./vectors#documents``.
            embedding: Makes the vectors.
            text: The field of the documents' text.
            **spec: As ``vb.CollectionSpec.single`` takes it, for a collection that is not there yet.
        """
        dim = len(embedding.embed_query("How long is a vector?"))
        return cls(embedding, open_or_create(url, dim, **spec), text=text)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        url: str = "memory://#documents",
        **options: Any,
    ) -> Self:
        """A store in the collection that a URL names, with these texts added; options as of ``from_url``."""
        store = cls.from_url(url, embedding, **options)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @property
    def embeddings(self) -> Embeddings:
        return self._embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **options: Any,
    ) -> list[str]:
        texts = list(texts)
        keys = [key or str(uuid.uuid4()) for key in ids or [None] * len(texts)]
        vectors = self._embedding.embed_documents(texts)
        given = zip(keys, texts, metadatas or [{}] * len(texts), vectors, strict=True)
        rows = {key: Record(key, text, values, vector) for key, text, values, vector in given}
        self._documents.write(rows.values())  # of repeated ids the last
        self.collection.flush()
        return keys

    def delete(self, ids: list[str] | None = None, **options: Any) -> bool:
        """Deletes documents by id, those that match ``filter=``, or all."""
        if ids is not None:
            self.collection.delete(ids)
        else:
            self.collection.delete(filter=options.get("filter", vb.everything))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [_document(row) for row in self._documents.fetch(ids)]

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, **options)]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **options: Any
    ) -> list[Document]:
        return [_document(row) for row, _ in self._documents.search(embedding, k, **options)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """Documents and their scores as of the metric: similarities, or squared distances under L2."""
        found = self._documents.search(self._embedding.embed_query(query), k, **options)
        return [(_document(row), score) for row, score in found]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, **options)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **options: Any,
    ) -> list[Document]:
        rows = [row for row, _ in self._documents.search(embedding, fetch_k, vectors=True, **options)]
        vectors = [row.vector for row in rows]
        best = maximal_marginal_relevance(np.array(embedding), vectors, lambda_mult, k) if rows else []
        return [_document(rows[place]) for place in best]

    def _select_relevance_score_fn(self) -> Any:
        if self.collection.spec.vector_field().metric is vb.Metric.L2:
            return lambda distance: 1 / (1 + distance)
        return lambda similarity: (1 + similarity) / 2  # of vectors of unit length, where the metric is dot


def _document(row: Record) -> Document:
    return Document(id=row.id, page_content=row.text or "", metadata=row.metadata)
