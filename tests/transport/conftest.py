from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

pytest.importorskip("grpc")
pytest.importorskip("httpx")

from tests.transport.servers import Methods, serving

_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GRPC_PROXY", "NO_PROXY", "NO_GRPC_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the machine's own."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def dead_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def dead_proxy(dead_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a proxy that every variable names and that does not answer."""
    for name in _VARIABLES[:4]:
        for spelling in (name, name.lower()):
            monkeypatch.setenv(spelling, f"http://user:secret@127.0.0.1:{dead_port}")
    assert "http_proxy" in os.environ
    return f"http://127.0.0.1:{dead_port}"


@pytest.fixture
def server() -> Iterator[tuple[str, Methods]]:
    with serving() as made:
        yield made
