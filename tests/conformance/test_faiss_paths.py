"""The suite again, on FAISS with its thresholds lowered: a few thousand rows take the ways of millions."""

from __future__ import annotations

import pytest

from vecbridge.testing.cases import CASES
from vecbridge.testing.suite import TestRecall as Recall

pytest.importorskip("faiss", reason="pip install 'vecbridge[faiss]'")
from vecbridge.stores.faiss import search

[FAISS] = [each for each in CASES if each.id == "faiss"]
on_faiss = pytest.mark.parametrize("store_case", [FAISS], ids=["faiss"])


@on_faiss
class TestFiltersThroughTheIndex(Recall):
    """A filter is a selector over the index, not a list of rows to compare."""

    @pytest.fixture(autouse=True)
    def _no_exact_scan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "EXACT_ROWS", 0)


@on_faiss
class TestFiltersThatComeAgain(Recall):
    """The matches of a filter that comes again are compared at eight bits, then exactly."""

    @pytest.fixture(autouse=True)
    def _compressed_from_few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "_COMPRESSED_FROM", 1)
