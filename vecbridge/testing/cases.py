"""Store cases: what the suite needs to know of a store beside its capabilities."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

from vecbridge.errors import InvalidRecordError, NotFoundError, install_hint

Kind = Literal["notimpl", "notyet", "never"]
_EMULATED: Final = "-emulated"


@dataclass(frozen=True, slots=True)
class Known:
    """Why a store fails a test. The mark is strict: once the test passes, the mark must go.

    Attributes:
        kind: "notimpl" is ours to build, "notyet" is upstream's, "never" lies in the nature of the store.
        reason: Why, in a sentence.
        raises: What the test ends with; any other exception is a failure.
    """

    kind: Kind
    reason: str
    raises: type[BaseException] | tuple[type[BaseException], ...]


def nothing_missing() -> None:
    """The store needs nothing that could be absent."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoreCase:
    """A store to test.

    Attributes:
        id: What ``--stores`` calls it.
        url: Makes its URL, without a collection, from a fresh directory.
        options: Keyword options for :func:`vecbridge.connect`.
        environment: Variables from which another process reads the secrets among them.
        missing: Returns what has to be installed or started first, as a command; None if all is there.
        known: By name of a test ("test_...", or "test_...[parameters]" without the store's label), why this
            store fails it.
        examples: Examples a property test; fewer for a slow server.
        exact: Whether each search compares every row, so that tests of recall prove nothing.
        recall_rows: Rows that tests of recall write; fewer for a slow server.
        emulated: Whether an emulator stands for the service, whose pass is none of the service itself.
        classes: The classes of the suite that it runs, by name; None for all.
    """

    id: str
    url: Callable[[Path], str]
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    missing: Callable[[], str | None] = nothing_missing
    known: Mapping[str, Known] = field(default_factory=dict)
    examples: int = 20
    exact: bool = False
    recall_rows: int = 20_000
    emulated: bool = False
    classes: frozenset[str] | None = None

    @property
    def label(self) -> str:
        """What reports and the names of tests call it: the id, with "-emulated" where that is so."""
        return f"{self.id.removesuffix(_EMULATED)}{_EMULATED}" if self.emulated else self.id


def package(name: str, *, extra: str) -> Callable[[], str | None]:
    """What ``StoreCase.missing`` says of a store that needs a Python package.

    Args:
        name: The package as it is imported.
        extra: The extra of vecbridge that installs it.
    """
    return lambda: None if find_spec(name) else install_hint(extra)


_LARGEST_ID: Final = Known(
    "notyet", "Milvus stores the id 2^63 - 1 and never gives it back, so it is refused", InvalidRecordError
)
MILVUS_GAPS: Final = {
    "test_integer_ids_are_an_int64_array": _LARGEST_ID,
    "test_integer_ids_at_the_ends_are_kept": _LARGEST_ID,
}
#: Seconds until reads of the delayed Pinecone see a write; the service takes some, too.
_DELAY: Final = 0.1
#: What it runs: reads after writes of every kind, without what is slow or has nothing to do with them.
_READS_AFTER_WRITES: Final = frozenset(
    {"TestConflicts", "TestNamespaces", "TestReading", "TestScan", "TestWrites"}
)


@cache
def _emulated_pinecone(delay: float) -> str:
    """The URL of an emulated Pinecone, which this process serves until it ends."""
    from vecbridge.testing.pinecone import Emulator

    emulator = Emulator(delay=delay)
    atexit.register(emulator.close)
    return emulator.host.replace("http://", "pinecone://")


def _emulator_missing() -> str | None:
    packages = ("pinecone", "grpc", "google.protobuf", "orjson")
    absent = any(find_spec(name) is None for name in packages)
    return install_hint("pinecone", "testing") if absent else None


def _pinecone_case(id: str, transport: str, *, delay: float = 0.0, **more: Any) -> StoreCase:
    """Pinecone, emulated: a pass is not one of the live service."""
    return StoreCase(
        id=id,
        url=lambda _: f"{_emulated_pinecone(delay)}?transport={transport}",
        options={"api_key": "emulated"},
        environment={"PINECONE_API_KEY": "emulated"},
        missing=_emulator_missing,
        emulated=True,
        exact=True,
        **{"examples": 10} | more,
    )


CASES: Final = (
    StoreCase(
        id="memory",
        url=lambda directory: f"memory://{directory}",
        known={
            "test_acknowledged_rows_survive_kill_9_of_the_client": Known(
                "never", "its data is lost when the process ends", NotFoundError
            ),
            "test_a_cursor_goes_on_in_another_process": Known(
                "never", "no other process sees its data", AssertionError
            ),
            "test_another_process_sees_the_fields_and_adds_some": Known(
                "never", "no other process sees its data", AssertionError
            ),
        },
        exact=True,
    ),
    StoreCase(
        id="faiss",
        url=lambda directory: f"faiss://{directory}/store",
        missing=package("faiss", extra="faiss"),
    ),
    StoreCase(
        id="snapshot",
        url=lambda directory: f"snapshot://{directory}/store",
        exact=True,
    ),
    StoreCase(
        id="milvus-lite",
        url=lambda directory: f"milvus+lite://{directory}/store.db",
        missing=package("milvus_lite", extra="milvus"),
        examples=10,
        recall_rows=5_000,
    ),
    _pinecone_case("pinecone", "rest"),
    _pinecone_case("pinecone-grpc", "grpc"),
    _pinecone_case("pinecone-delayed", "rest", delay=_DELAY, classes=_READS_AFTER_WRITES, examples=3),
)
