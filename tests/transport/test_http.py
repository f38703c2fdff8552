"""The HTTP client, against a real server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.transport.servers import http_server
from vecbridge.errors import BackendError, ConfigError, DeadlineError, UnavailableError
from vecbridge.transport import errors, http


def asked(url: str, timeout: float = 5.0) -> httpx.Response:
    with http.client(url, timeout=timeout) as client:
        try:
            return client.get("/v1/meta")
        except httpx.HTTPError as exc:
            raise errors.http_error(exc, f"ask {url}") from exc


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_loopback_goes_through_no_proxy(name: str, dead_proxy: str) -> None:
    with http_server() as (url, paths):
        assert asked(url.replace("127.0.0.1", name)).json() == {"ok": True}
        assert paths == ["/v1/meta"]


def test_loopback_works_beside_a_proxy_that_httpx_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "strange://proxy:1")
    with http_server() as (url, _):
        assert asked(url).is_success


def test_other_hosts_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server(b"from the proxy") as (url, paths):
        monkeypatch.setenv("HTTP_PROXY", url)
        assert asked("http://db.invalid").text == "from the proxy"
        assert paths == ["http://db.invalid/v1/meta"]


def test_headers_go_with_every_request() -> None:
    with http_server() as (url, _), http.client(url, headers={"x-key": "k"}, timeout=5) as client:
        assert client.get("/").request.headers["x-key"] == "k"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_error_on_the_way_to_another_host_names_the_proxy_without_its_login(
    scheme: str, dead_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{scheme.upper()}_PROXY"
    monkeypatch.setenv(name, f"http://user:secret@127.0.0.1:{dead_port}")
    with pytest.raises(UnavailableError) as caught:
        asked(f"{scheme}://db.invalid")
    assert f"({name}=http://127.0.0.1:{dead_port} is set)" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.unsent


def test_a_proxy_that_refuses_the_tunnel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server() as (url, _):  # it knows no CONNECT
        monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(
            UnavailableError, match=f"the proxy refused: 501 .*HTTPS_PROXY={url} is set"
        ) as caught:
            asked("https://db.invalid")
    assert caught.value.unsent


def test_a_proxy_that_httpx_cannot_use_is_an_error_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "strange://user:secret@proxy:1")
    with pytest.raises(ConfigError, match="ALL_PROXY=strange://proxy:1 is set, which httpx cannot use"):
        http.client("http://db.invalid", timeout=1)


def test_a_url_that_is_none_is_not_blamed_on_a_proxy() -> None:
    with pytest.raises(httpx.InvalidURL):
        http.client("http://db:port", timeout=1)


def test_nothing_was_sent_where_nothing_listens(dead_port: int) -> None:
    with pytest.raises(UnavailableError, match=r"nothing answers there: .*refused") as caught:
        asked(f"http://127.0.0.1:{dead_port}")
    assert caught.value.unsent
    assert "PROXY" not in str(caught.value).upper()


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """A server that accepts connections, or leaves it to a test what to do with them."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


def test_a_request_without_an_answer_may_have_happened(mute: socket.socket) -> None:
    start = time.monotonic()
    with pytest.raises(DeadlineError, match="no answer within its deadline") as caught:
        asked(f"http://127.0.0.1:{mute.getsockname()[1]}", timeout=0.2)
    assert time.monotonic() - start < 2
    assert not caught.value.unsent


def test_a_server_that_hangs_up_may_have_got_the_request(mute: socket.socket) -> None:
    def hang_up() -> None:
        connection, _ = mute.accept()
        connection.recv(1_000)
        connection.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(UnavailableError, match="hung up; if it speaks TLS, the option is tls=true") as caught:
        asked(f"http://127.0.0.1:{mute.getsockname()[1]}")
    thread.join()
    assert not caught.value.unsent


def test_a_server_without_tls_is_told_from_one_that_is_down() -> None:
    with (
        http_server() as (url, _),
        pytest.raises(BackendError, match="does not speak TLS: leave out tls=true") as caught,
    ):
        asked(url.replace("http:", "https:"))
    assert caught.value.unsent
