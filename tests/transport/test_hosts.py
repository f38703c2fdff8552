"""Which hosts are this machine, and which proxy stands before the others."""

from __future__ import annotations

import pytest

from vecbridge.transport.hosts import grpc_proxy, http_proxy, is_loopback


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "localhost:19530", "db.localhost", "dns:///localhost:1"),
        *("127.0.0.1", "127.8.9.10:443", "ipv4:127.0.0.1:1"),
        *("::1", "[::1]", "[::1]:443", "ipv6:[::1]:443", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1"),
        *("unix:/run/db.sock", "unix:///run/db.sock", "unix:db.sock", "unix-abstract:db"),
    ],
)
def test_this_machine_is_known_however_it_is_spelled(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "db",
            "localhost.example.org",
            "mylocalhost:1",
            "127.example.org",
            "1270.0.0.1",
            "128.0.0.1:80",
        ),
        *("10.0.0.1", "0.0.0.0", "[2001:db8::1]:443", "::2", "dns:///db:443", "unixdb:443"),
    ],
)
def test_no_other_host_is_taken_for_this_machine(host: str) -> None:
    assert not is_loopback(host)


def test_grpc_takes_the_first_of_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://third:1")
    assert grpc_proxy("db:443") == "http_proxy=http://third:1 is set"
    monkeypatch.setenv("https_proxy", "http://second:1")
    assert grpc_proxy("db:443") == "https_proxy=http://second:1 is set"
    monkeypatch.setenv("grpc_proxy", "http://first:1")
    assert grpc_proxy("db:443") == "grpc_proxy=http://first:1 is set"
    assert grpc_proxy("localhost:443") == ""


@pytest.mark.parametrize("exempt", ["db", "other, db", "*", ".example.org,db"])
def test_a_host_that_is_exempt_has_no_proxy(exempt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    monkeypatch.setenv("no_proxy", exempt)
    assert grpc_proxy("db:443") == ""
    assert http_proxy("http://db:443/x") == ""
    assert grpc_proxy("db2.example.com:443") == ("" if exempt == "*" else "http_proxy=http://proxy:1 is set")


def test_capitals_are_for_httpx_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    assert grpc_proxy("db:443") == ""
    assert http_proxy("https://db") == "HTTPS_PROXY=http://proxy:1 is set"
    assert http_proxy("http://db") == ""


def test_a_proxy_for_everything_serves_where_there_is_none_for_the_scheme(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1")
    monkeypatch.setenv("http_proxy", "http://web:1")
    assert http_proxy("https://db") == "ALL_PROXY=socks5://proxy:1 is set"
    assert http_proxy("http://db") == "http_proxy=http://web:1 is set"


@pytest.mark.parametrize("login", ["user:p@ss@", "user@", ":secret@", ""])
def test_the_login_of_a_proxy_is_not_shown(login: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{login}proxy:3128")
    assert http_proxy("http://db") == grpc_proxy("db:1") == "http_proxy=http://proxy:3128 is set"
    monkeypatch.setenv("http_proxy", f"{login}proxy:3128")
    assert http_proxy("http://db") == "http_proxy=proxy:3128 is set"
