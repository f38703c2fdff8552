"""The gRPC channel, against a real server."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import grpc
import pytest

from tests.transport.servers import Methods, channel, serving
from vecbridge.driver import Deadline
from vecbridge.errors import BackendError, DeadlineError, RateLimitedError, TooLargeError, UnavailableError

Server = tuple[str, Methods]


def soon(seconds: float = 10.0) -> Deadline:
    return Deadline.after(seconds)


def test_a_call_carries_the_metadata_and_returns_the_answer(server: Server) -> None:
    opened = channel(server[0], metadata=[("authorization", "Bearer k")])
    assert opened.call("Echo", b"x", soon(), "echo") == b"x"
    assert b"authorization=Bearer k" in opened.call("Metadata", b"", soon(), "ask").splitlines()
    opened.close()


def test_making_a_channel_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc, "insecure_channel", lambda *args, **settings: pytest.fail("opened"))
    channel("127.0.0.1:1").close()


def test_messages_are_of_any_size(server: Server) -> None:
    opened = channel(server[0])
    large = bytes(9_000_000)
    assert opened.call("Echo", large, soon(), "echo") == large
    opened.close()


def test_a_call_ends_at_its_deadline_and_may_have_happened(server: Server) -> None:
    opened = channel(server[0])
    opened.call("Echo", b"", soon(), "connect")
    start = time.monotonic()
    with pytest.raises(DeadlineError, match=f"wait at {server[0]}.*no answer within its deadline") as caught:
        opened.call("Slow", b"5", Deadline.after(0.2), "wait")
    assert time.monotonic() - start < 2
    assert not caught.value.unsent
    opened.close()


def test_a_refused_call_is_not_sent_again(server: Server) -> None:
    opened = channel(server[0])
    for _ in range(2):
        with pytest.raises(UnavailableError, match="not now"):
            opened.call("Slow", b"0 UNAVAILABLE not now", soon(), "ask")
    assert server[1].calls["Slow"] == 2
    opened.close()


def test_the_drivers_table_maps_the_error_and_is_told_what_and_where(server: Server) -> None:
    told: list[str] = []

    def table(exc: grpc.RpcError, what: str) -> BackendError:
        told.append(what)
        return TooLargeError(exc.details())

    opened = channel(server[0], errors=table)
    with pytest.raises(TooLargeError, match="nope"):
        opened.call("Slow", b"0 ABORTED nope", soon(), "write 'a'")
    assert told == [f"write 'a' at {server[0]} (gRPC)"]
    opened.close()


def test_begun_calls_run_beside_each_other(server: Server) -> None:
    opened = channel(server[0])
    begun = [opened.begin("Slow", b"0.3", soon(), "wait") for _ in range(4)]
    assert [call.answer() for call in begun] == [b"0.3"] * 4
    assert server[1].most == 4
    opened.close()


def test_a_begun_call_maps_its_error(server: Server) -> None:
    opened = channel(server[0])
    with pytest.raises(RateLimitedError, match="slowly"):
        opened.begin("Slow", b"0 RESOURCE_EXHAUSTED slowly", soon(), "ask").answer()
    opened.close()


def test_a_request_that_cannot_be_encoded_is_an_error_of_ours_and_ends_the_call(server: Server) -> None:
    opened = channel(server[0])
    for send in (opened.call, opened.begin):
        with pytest.raises(BackendError, match="serializing") as caught:
            send("Encoded", b"no text", soon(), "echo")
        assert caught.value.unsent
    assert opened.call("Echo", b"x", soon(), "echo") == b"x"
    opened.close()


def test_answers_of_several_requests_come_in_order_and_only_so_many_are_in_flight(server: Server) -> None:
    opened = channel(server[0])
    requests = [b"0.12", b"0.01", b"0.05", b"0.02", b"0.03", b"0.04", b"0.01"]
    assert list(opened.call_each("Slow", requests, soon(), "wait", at_once=3)) == requests
    assert server[1].most == 3
    opened.close()


def test_requests_are_taken_only_as_they_can_be_sent(server: Server) -> None:
    opened = channel(server[0])
    taken: list[int] = []

    def requests() -> object:
        for number in range(10):
            taken.append(number)
            yield b"0"

    answers = opened.call_each("Slow", requests(), soon(), "wait", at_once=2)
    assert taken == []
    next(answers)
    assert len(taken) == 2
    answers.close()
    opened.close()


def test_an_error_cancels_the_other_requests(server: Server) -> None:
    opened = channel(server[0])
    with pytest.raises(BackendError, match="first"):
        list(opened.call_each("Slow", [b"0.3 ABORTED first", b"20", b"20"], soon(30), "wait"))
    assert server[1].idle_soon(calls=3)
    opened.close()


def test_closing_the_generator_cancels_what_is_in_flight(server: Server) -> None:
    opened = channel(server[0])
    answers = opened.call_each("Slow", [b"0.3", b"20", b"20"], soon(30), "wait", at_once=3)
    assert next(answers) == b"0.3"
    answers.close()
    assert server[1].idle_soon(calls=3)
    opened.close()


def test_a_cancelled_call_ends_at_the_server(server: Server) -> None:
    opened = channel(server[0])
    call = opened.begin("Slow", b"20", soon(30), "wait")
    opened.call("Slow", b"0.2", soon(), "wait")
    call.cancel()
    assert server[1].idle_soon(calls=2)
    opened.close()


def test_after_close_the_next_call_opens_it_again(server: Server) -> None:
    opened = channel(server[0])
    opened.call("Echo", b"", soon(), "echo")
    opened.close()
    opened.close()
    assert opened.call("Echo", b"x", soon(), "echo") == b"x"
    opened.close()


def test_closing_ends_the_calls_in_flight(server: Server) -> None:
    opened = channel(server[0])
    call = opened.begin("Slow", b"20", soon(30), "wait")
    threading.Timer(0.2, opened.close).start()
    start = time.monotonic()
    with pytest.raises(UnavailableError):
        call.answer()
    assert time.monotonic() - start < 5


def test_a_server_that_comes_back_is_reached_by_the_next_call() -> None:
    with serving() as (target, _):
        opened = channel(target)
        opened.call("Echo", b"", soon(), "echo")
    for _ in range(3):
        with pytest.raises(UnavailableError):
            opened.call("Echo", b"", soon(2), "echo")
    with serving(target):
        assert opened.call("Echo", b"back", soon(2), "echo") == b"back"
    opened.close()


def test_an_outage_leaves_the_calls_in_flight_on_their_channel(server: Server) -> None:
    opened = channel(server[0])
    slow = opened.begin("Slow", b"0.5", soon(), "wait")
    with pytest.raises(UnavailableError):
        opened.call("Slow", b"0 UNAVAILABLE down", soon(), "ask")
    assert opened.call("Echo", b"x", soon(), "echo") == b"x"
    assert slow.answer() == b"0.5"
    opened.close()


def test_nothing_was_sent_where_nothing_listens(dead_port: int) -> None:
    opened = channel(f"127.0.0.1:{dead_port}")
    with pytest.raises(UnavailableError, match="nothing answers there: Connection refused") as caught:
        opened.call("Echo", b"", soon(5), "echo")
    assert caught.value.unsent
    assert "proxy" not in str(caught.value)


def test_loopback_goes_through_no_proxy(server: Server, dead_proxy: str) -> None:
    for target in (server[0], server[0].replace("127.0.0.1", "localhost")):
        opened = channel(target)
        assert opened.call("Echo", b"x", soon(5), "echo") == b"x"
        opened.close()


def test_a_unix_socket_goes_through_no_proxy(tmp_path: Path, dead_proxy: str) -> None:
    with serving(f"unix:{tmp_path}/db.sock") as (target, _):
        opened = channel(target)
        assert opened.call("Echo", b"x", soon(5), "echo") == b"x"
        opened.close()


@pytest.mark.parametrize("name", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_an_error_on_the_way_to_another_host_names_the_proxy_without_its_login(
    name: str, dead_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, f"http://user:secret@127.0.0.1:{dead_port}")
    opened = channel("db.invalid:19530")
    with pytest.raises(UnavailableError) as caught:
        opened.call("Echo", b"", soon(5), "echo")
    assert f"db.invalid:19530 (gRPC) ({name}=http://127.0.0.1:{dead_port} is set)" in str(caught.value)
    assert "Connection refused" in str(caught.value)  # so that it was asked
    assert "secret" not in str(caught.value)
    assert caught.value.unsent


def test_an_error_names_no_proxy_that_grpc_does_not_use(
    dead_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "example.org, .invalid")
    opened = channel("db.invalid:19530")
    with pytest.raises(UnavailableError, match="nothing answers there") as caught:
        opened.call("Echo", b"", soon(5), "echo")
    assert "proxy" not in str(caught.value)
    assert "refused" not in str(caught.value)
    assert caught.value.unsent


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("certificate")
    arguments = [
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-subj",
        "/CN=localhost",
    ]
    try:
        subprocess.run(["openssl", "req", "-x509", *arguments], cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    return (folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes()


def test_an_untrusted_certificate_is_named_as_such(certificate: tuple[bytes, bytes]) -> None:
    with serving("localhost:0", grpc.ssl_server_credentials([certificate])) as (target, _):
        opened = channel(target, tls=True)
        with pytest.raises(
            UnavailableError, match=r"not trusted; GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
        ) as caught:
            opened.call("Echo", b"", soon(5), "echo")
        assert caught.value.unsent


def test_a_server_that_speaks_tls_is_told_from_one_that_is_down(certificate: tuple[bytes, bytes]) -> None:
    with serving("localhost:0", grpc.ssl_server_credentials([certificate])) as (target, _):
        opened = channel(target)
        with pytest.raises(UnavailableError, match="the option is tls=true"):
            opened.call("Echo", b"", soon(5), "echo")


def test_a_server_without_tls_is_told_from_one_that_is_down(server: Server) -> None:
    opened = channel(server[0], tls=True)
    with pytest.raises(UnavailableError, match="does not speak TLS: leave out tls=true") as caught:
        opened.call("Echo", b"", soon(5), "echo")
    assert caught.value.unsent
