"""An emulator a test, spoken to in plain HTTP: what it says is checked as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from vecbridge.testing.pinecone import Emulator, control, namespaces

KEY = "a-key-of-tests"


class Api:
    """One host of the emulator."""

    def __init__(self, host: str, key: str | None, version: str | None) -> None:
        given = {"X-Pinecone-Api-Version": version, "Api-Key": key}
        headers = {name: value for name, value in given.items() if value is not None}
        # Without TLS there is nothing to verify, and loading the certificates takes longer than a test.
        self.host = host
        self._client = httpx.Client(base_url=host, headers=headers, timeout=10, verify=False)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self._client.get(path, params=params)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self._client.post(path, json=body)

    def patch(self, path: str, **body: Any) -> httpx.Response:
        return self._client.patch(path, json=body)

    def delete(self, path: str) -> httpx.Response:
        return self._client.delete(path)

    def send(self, path: str, content: bytes) -> httpx.Response:
        return self._client.post(path, content=content)

    def close(self) -> None:
        self._client.close()

    # -- what most tests do

    def upsert(self, *vectors: dict[str, Any], **more: Any) -> httpx.Response:
        return self.post("/vectors/upsert", vectors=list(vectors), **more)

    def ids(self, **body: Any) -> list[str]:
        """The ids that a query finds, for the vector [1, 0] where it names none."""
        query = {"topK": 100} | ({} if "id" in body else {"vector": [1.0, 0.0]}) | body
        answer = self.post("/query", **query).raise_for_status().json()
        return [match["id"] for match in answer["matches"]]


def described(name: str = "photos", **changes: Any) -> dict[str, Any]:
    """The body that creates an index of two dimensions; a change to None leaves a member out."""
    spec = {"serverless": {"cloud": "aws", "region": "us-east-1"}}
    body = {"name": name, "dimension": 2, "metric": "cosine", "spec": spec} | changes
    return {key: value for key, value in body.items() if value is not None}


class Servers:
    """Makes emulators and connections to them, and closes both."""

    def __init__(self) -> None:
        self._open: list[Emulator | Api] = []

    def emulator(self, **options: Any) -> Emulator:
        self._open.append(emulator := Emulator(api_key=KEY, **options))
        return emulator

    def api(self, host: str, key: str | None = KEY, version: str | None = "2026-04") -> Api:
        self._open.append(api := Api(host, key, version))
        return api

    def index(self, emulator: Emulator, **changes: Any) -> Api:
        """A connection to a new index."""
        answer = self.api(emulator.host).post("/indexes", **described(**changes))
        return self.api(answer.raise_for_status().json()["host"])

    def close(self) -> None:
        while self._open:
            self._open.pop().close()


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the emulator takes for the time."""
    clock = Clock()
    monkeypatch.setattr(control, "monotonic", clock)
    monkeypatch.setattr(namespaces, "monotonic", clock)
    return clock


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.close()


@pytest.fixture
def emulator(servers: Servers) -> Emulator:
    return servers.emulator()


@pytest.fixture(name="control")
def control_plane(servers: Servers, emulator: Emulator) -> Api:
    return servers.api(emulator.host)


@pytest.fixture
def index(servers: Servers, emulator: Emulator) -> Api:
    return servers.index(emulator)
