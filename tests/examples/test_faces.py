"""The faces for LangChain and Haystack pass the suites that those projects publish for vector stores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("langchain_tests", reason="pip install langchain-tests")
pytest.importorskip("haystack", reason="pip install haystack-ai")

ROOT = Path(__file__).resolve().parents[2]
FACES = ROOT / "examples" / "integrations"
# Both frameworks' suites over these stores; a suite that skips a test, or runs fewer than before, fails here.
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
