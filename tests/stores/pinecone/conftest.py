"""Stores on an emulated Pinecone: what passes here has passed on an emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

for _package in ("pinecone", "grpc", "google.protobuf"):
    pytest.importorskip(_package, reason="pip install '.[pinecone,testing]'")

from tests.stores.pinecone.helpers import KEY, pinecone_store
from vecbridge.bulk import delivery
from vecbridge.store import Store
from vecbridge.testing.pinecone import Emulator


@pytest.fixture
def emulators() -> Iterator[Callable[..., Emulator]]:
    """Makes emulators with options of their own."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Emulator(**({"api_key": KEY} | options)))


@pytest.fixture
def emulator(emulators: Callable[..., Emulator]) -> Emulator:
    """An emulator of this test's own."""
    return emulators()


@pytest.fixture(params=["rest", "grpc"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each transport."""
    return str(request.param)


@pytest.fixture
def store(emulator: Emulator, transport: str) -> Iterator[Store]:
    """A store on the emulator, over each transport."""
    with pinecone_store(emulator, transport=transport) as opened:
        yield opened


@pytest.fixture
def rest(emulator: Emulator) -> Iterator[Store]:
    """A store on the emulator, over REST."""
    with pinecone_store(emulator) as opened:
        yield opened


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that retries would wait; they do not."""
    found: list[float] = []

    def pause(stop: Any, seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(delivery, "pause", pause)
    return found
