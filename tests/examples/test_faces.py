"""The faces for LangChain and Haystack pass the suites that those projects publish for vector stores."""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb

pytest.importorskip("langchain_tests", reason="pip install langchain-tests")
pytest.importorskip("haystack", reason="pip install haystack-ai")

ROOT = Path(__file__).resolve().parents[2]
FACES = ROOT / "examples" / "integrations"
AFTERNOON = datetime(2024, 5, 17, 15, tzinfo=UTC)
# Both suites run on these stores; one that skips a test, or runs fewer than before, fails here.
STORES = ["memory://#documents", "faiss:{directory}/store#documents"]
TESTS = len(STORES) * (24 + 75) + 1  # of LangChain and Haystack a store, and one of LangChain alone
SUITES = f"""
import dataclasses

import numpy as np
import pytest
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.testing import document_store as sync, document_store_async as asynchronous
from haystack_store import VecbridgeDocumentStore
from langchain_store import VecbridgeVectorStore
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

@pytest.fixture(params={STORES})
def url(request, tmp_path):
    return request.param.format(directory=tmp_path)

class TestLangChain(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, url):
        return VecbridgeVectorStore.from_url(url, self.get_embeddings())

class Haystack:
    @pytest.fixture
    def document_store(self, url):
        return VecbridgeDocumentStore(url)

    @staticmethod
    def assert_documents_are_equal(received, expected):
        # Documents come in no certain order, and their vectors are float32.
        def rounded(document):
            vector = document.embedding
            return dataclasses.replace(document, embedding=vector and np.float32(vector).tolist())

        def by_id(document):
            return document.id

        assert sorted(received, key=by_id) == sorted(map(rounded, expected), key=by_id)

class TestHaystack(Haystack, sync.DocumentStoreBaseExtendedTests, sync.CountDocumentsByFilterTest):
    # For stores that can be told to build their index anew.
    test_delete_all_documents_without_recreate_index = test_delete_all_documents_with_recreate_index = None

    def test_write_documents(self, document_store):
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])

class TestHaystackAsync(
    Haystack, asynchronous.CountDocumentsAsyncTest, asynchronous.DeleteDocumentsAsyncTest,
    asynchronous.FilterDocumentsAsyncTest, asynchronous.WriteDocumentsAsyncTest,
):
    async def test_write_documents_async(self, document_store):
        document = Document(content="test doc")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([document])
"""


@pytest.mark.timeout(900)
def test_the_faces_pass_the_suites_of_their_frameworks(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FACES), str(ROOT)]))
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    settings = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function"
    pytester.makeini(f"[pytest]\n{settings}\nfilterwarnings = error::ResourceWarning")
    pytester.makepyfile(SUITES)
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q")
    assert done.ret == 0
    outcomes = done.parseoutcomes()
    assert outcomes.keys() == {"passed"}
    assert outcomes["passed"] >= TESTS


@pytest.fixture
def face(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Imports a module that stands beside the faces."""
    monkeypatch.syspath_prepend(str(FACES))
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    return importlib.import_module


def test_metadata_are_fields_where_they_can_be_and_come_back_as_they_were(face: Callable[[str], Any]) -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    metadata = {
        "year": 2020, "price": 1.5, "tags": ["a"], "new": True, "id": 7, "page-no": 3, "Year": 1,
        "none": None, "empty": [], "nested": {"a": [1, None]}, "mixed": "1",
        "text": "clash", "when": AFTERNOON,
    }  # fmt: skip
    store = face("langchain_store").VecbridgeVectorStore.from_texts(
        ["one", "two"], DeterministicFakeEmbedding(size=6), [metadata, {"mixed": 1}], ids=["1", "2"]
    )
    [found] = store.get_by_ids(["1"])
    assert found.metadata == metadata
    types = {each.name: each.type for each in store.collection.spec.fields}
    assert types == {
        "text": "string", "extra": "json", "year": "int64", "price": "float64", "tags": "list<string>",
        "new": "bool", "nested": "json", "mixed": "json", "when": "timestamp",
    }  # fmt: skip
    where = {"field": "year", "op": ">=", "value": 2020}
    assert [each.id for each in store.similarity_search("two", filter=where)] == ["1"]
    assert [each.id for each in store.similarity_search("two", k=1, filter=vb.field("tags").is_null())] == [
        "2"
    ]
    with pytest.raises(vb.InvalidRecordError, match="'year' is int64"):
        store.add_texts(["three"], [{"year": "2021"}])


def test_retrievers_of_langchain_score_and_spread_out(face: Callable[[str], Any]) -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    for metric in ("cosine", "l2"):
        store = face("langchain_store").VecbridgeVectorStore.from_texts(
            ["one", "two", "three"], DeterministicFakeEmbedding(size=6), url="memory://#d", metric=metric
        )
        [(best, score), *_] = store.similarity_search_with_relevance_scores("two", k=3)
        assert (best.page_content, pytest.approx(score)) == ("two", 1)
        retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "fetch_k": 3})
        found = [each.page_content for each in retriever.invoke("two")]
        assert found[0] == "two"
        assert len(found) == 2
    store.delete()
    assert store.similarity_search("two") == []


def test_a_pipeline_of_haystack_finds_documents_that_have_an_embedding(
    face: Callable[[str], Any], tmp_path: Path
) -> None:
    from haystack import Document, Pipeline
    from haystack.dataclasses import ByteStream

    haystack_store = face("haystack_store")
    store = haystack_store.VecbridgeDocumentStore(f"faiss:{tmp_path}/store#documents", dim=2)
    pipeline = Pipeline()
    pipeline.add_component("retriever", haystack_store.VecbridgeEmbeddingRetriever(store, top_k=5))
    written = [
        Document(id="a", content="near", embedding=[1.0, 0.0], meta={"year": 2020}),
        Document(id="b", content="far", embedding=[0.0, 1.0], meta={"year": 2021}),
        Document(id="c", blob=ByteStream(b"\0\1", mime_type="image/png"), meta={"year": 2020}),
    ]
    assert store.write_documents(written) == 3
    assert sorted(store.filter_documents(), key=lambda each: each.id) == written
    [near, far] = pipeline.run({"retriever": {"query_embedding": [1.0, 1.0]}})["retriever"]["documents"]
    assert {near.id, far.id} == {"a", "b"}
    store.documents.collection.close()
    again = Pipeline.from_dict(pipeline.to_dict(), allowed_modules=["haystack_store"])
    year = {"field": "meta.year", "operator": "==", "value": 2020}
    answer = again.run({"retriever": {"query_embedding": [0.0, 1.0], "filters": year}})
    assert [each.id for each in answer["retriever"]["documents"]] == ["a"]
    with pytest.raises(ValueError, match="password"):
        haystack_store.VecbridgeDocumentStore("milvus://me:secret@host#d").to_dict()


def test_filters_of_haystack_mean_what_haystack_says(face: Callable[[str], Any]) -> None:
    from haystack import Document
    from haystack.utils.filters import document_matches_filter

    drawn = random.Random(0)
    values: dict[str, list[Any]] = {"n": [None, 1, 2, 3], "s": [None, "a", "b"], "b": [None, True, False]}

    def condition(depth: int) -> dict[str, Any]:
        if depth and drawn.random() < 0.6:
            parts = [condition(depth - 1) for _ in range(drawn.randint(1, 3))]
            return {"operator": drawn.choice(["AND", "OR", "NOT"]), "conditions": parts}
        key = drawn.choice([*values, "absent"])
        among = values.get(key, [None, 1])
        operators = ["==", "!=", "in", "not in", *([">", ">=", "<", "<="] if key in ("n", "absent") else [])]
        operator = drawn.choice(operators)
        several = drawn.sample(among, drawn.randint(0, len(among)))
        value = several if "in" in operator else drawn.choice(among)
        return {"field": f"meta.{key}", "operator": operator, "value": value}

    documents = [
        Document(content=str(number), meta={key: drawn.choice(among) for key, among in values.items()})
        for number in range(30)
    ]
    store = face("haystack_store").VecbridgeDocumentStore("memory://#documents", dim=2)
    store.write_documents(documents)
    for _ in range(300):
        form = condition(3)
        expected = {each.id for each in documents if document_matches_filter(form, each)}
        assert {each.id for each in store.filter_documents(form)} == expected, form
