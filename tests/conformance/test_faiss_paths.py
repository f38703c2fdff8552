"""The suite again, on FAISS with its thresholds lowered: a few thousand rows take the ways of millions."""

from __future__ import annotations

import pytest

from vecbridge.testing.cases import CASES
from vecbridge.testing.suite import TestRecall as Recall

pytest.importorskip("faiss", reason="pip install '.[faiss]'")
from vecbridge.stores.faiss import lists, search

[FAISS] = [each for each in CASES if each.id == "faiss"]
on_faiss = pytest.mark.parametrize("store_case", [FAISS], ids=["faiss"])


@on_faiss
class TestFiltersThroughTheIndex(Recall):
    """A filter is a selector over the graph where many rows match, and goes by the lists elsewhere."""

    @pytest.fixture(autouse=True)
    def _no_exact_scan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "EXACT_ROWS", 0)
        monkeypatch.setattr(lists, "LISTS_FROM", 64)


@on_faiss
class TestFiltersByLists(Recall):
    """A filter always goes by the lists."""

    @pytest.fixture(autouse=True)
    def _no_graph(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "EXACT_ROWS", 0)
        monkeypatch.setattr(search, "GRAPH_FROM", 2.0)
        monkeypatch.setattr(lists, "LISTS_FROM", 64)
