"""The tests. Import them into one test module: ``from vecbridge.testing.suite import *``."""

from __future__ import annotations

from vecbridge.testing.suite.conflicts import TestConflicts
from vecbridge.testing.suite.errors import TestErrors
from vecbridge.testing.suite.filters import TestFilters
from vecbridge.testing.suite.forks import TestForks
from vecbridge.testing.suite.growing import TestGrowing
from vecbridge.testing.suite.handles import TestHandles
from vecbridge.testing.suite.history import TestHistory
from vecbridge.testing.suite.lifecycle import TestLifecycle
from vecbridge.testing.suite.namespaces import TestNamespaces
from vecbridge.testing.suite.reading import TestReading
from vecbridge.testing.suite.recall import TestDefaultRecall
from vecbridge.testing.suite.reserved import TestReservedFields
from vecbridge.testing.suite.scan import TestScan
from vecbridge.testing.suite.schema import TestSchema
from vecbridge.testing.suite.search import TestRecall, TestSearch
from vecbridge.testing.suite.writes import TestWrites

__all__ = [
    "TestConflicts",
    "TestDefaultRecall",
    "TestErrors",
    "TestFilters",
    "TestForks",
    "TestGrowing",
    "TestHandles",
    "TestHistory",
    "TestLifecycle",
    "TestNamespaces",
    "TestReading",
    "TestRecall",
    "TestReservedFields",
    "TestScan",
    "TestSchema",
    "TestSearch",
    "TestWrites",
]
