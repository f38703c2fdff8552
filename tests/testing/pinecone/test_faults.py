"""Faults befall what they were ordered for, and the log keeps what was asked."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.testing.pinecone.conftest import Api, Servers
from vecbridge.testing.pinecone import Emulator, Fault

ROW = {"id": "a", "values": [1, 0]}


def test_429_befalls_its_share_of_the_requests_and_says_when_to_come_back(
    index: Api, emulator: Emulator
) -> None:
    emulator.faults.add(Fault(status=429, retry_after=0.5, share=1 / 3, operations=frozenset({"upsert"})))
    answers = [index.upsert(ROW) for _ in range(90)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 20 <= len(refused) <= 40
    assert {answer.headers["Retry-After"] for answer in refused} == {"0.5"}
    assert refused[0].json()["code"] == 8
    assert index.ids() == ["a"]  # a query is another operation
    assert len(emulator.log.requests("upsert", status=429)) == len(refused)


def test_the_same_seed_draws_the_same_share(servers: Servers) -> None:
    drawn = []
    for _ in range(2):
        emulator = servers.emulator(seed=7)
        index = servers.index(emulator)
        emulator.faults.add(Fault(status=503, share=0.5))
        drawn.append([index.upsert(ROW).status_code for _ in range(30)])
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {200, 503}


@pytest.mark.parametrize("status", [413, 500, 502, 503])
def test_a_fault_strikes_as_often_as_it_was_ordered_and_nothing_is_stored(
    index: Api, emulator: Emulator, status: int
) -> None:
    emulator.faults.add(Fault(status=status, times=1))
    assert index.upsert(ROW).status_code == status
    assert index.ids() == []
    assert index.upsert(ROW).status_code == 200


def test_a_dropped_connection_leaves_the_write_undone_or_done(index: Api, emulator: Emulator) -> None:
    for when, stored in (("before", []), ("after", ["a"])):
        emulator.faults.add(Fault(drop=when, times=1))
        with pytest.raises(httpx.RemoteProtocolError):
            index.upsert(ROW)
        assert index.ids() == stored
    assert [request.status for request in emulator.log.requests("upsert")] == [0, 0]


def test_a_slow_answer_takes_its_time(index: Api, emulator: Emulator) -> None:
    emulator.faults.add(Fault(delay=0.3, times=1))
    start = time.monotonic()
    assert index.upsert(ROW).status_code == 200
    assert time.monotonic() - start >= 0.3


def test_a_poison_record_refuses_every_request_that_names_it(index: Api, emulator: Emulator) -> None:
    emulator.faults.add(Fault(poison="bad"))
    bad = {"id": "bad", "values": [1, 0]}
    for _ in range(2):
        assert "'bad'" in index.upsert(ROW, bad).json()["message"]
    assert index.post("/vectors/update", id="bad", values=[0, 1]).status_code == 400
    assert index.upsert(ROW).status_code == 200
    assert index.ids() == ["a"]


def test_latency_holds_for_every_request(servers: Servers) -> None:
    index = servers.index(servers.emulator(latency=0.1))
    start = time.monotonic()
    index.upsert(ROW)
    index.ids()
    assert time.monotonic() - start >= 0.2


def test_the_log_keeps_operation_bytes_rows_and_status(index: Api, emulator: Emulator) -> None:
    answer = index.upsert(ROW, {"id": "b", "values": [0, 1]})
    index.upsert({"id": "b", "values": [0]})
    good, bad = emulator.log.requests("upsert")
    assert (good.protocol, good.bytes, good.rows, good.status) == (
        "rest", len(answer.request.content), 2, 200,
    )  # fmt: skip
    assert (bad.rows, bad.status) == (1, 400)
    emulator.log.clear()
    assert emulator.log.requests() == []


def test_other_processes_steer_it_over_http_without_a_key(
    servers: Servers, emulator: Emulator, index: Api
) -> None:
    control = servers.api(emulator.host, key=None, version=None)
    assert control.post("/_emulator/faults", status=429, times=1, operations=["upsert"]).status_code == 202
    assert index.upsert(ROW).status_code == 429
    assert control.post("/_emulator/faults", status=503).status_code == 202
    assert control.delete("/_emulator/faults").status_code == 202
    assert index.upsert(ROW).status_code == 200
    requests = control.get("/_emulator/log").json()["requests"]
    assert [(request["operation"], request["status"]) for request in requests] == [
        ("upsert", 429),
        ("upsert", 200),
    ]
    control.delete("/_emulator/log")
    assert control.get("/_emulator/log").json() == {"requests": []}


@pytest.mark.parametrize(
    "fault", [{"status": 200}, {"share": 0}, {"dropp": "before"}, {"drop": "during"}], ids=str
)
def test_a_fault_that_cannot_be_ordered_is_refused(control: Api, fault) -> None:
    assert control.post("/_emulator/faults", **fault).status_code == 400


def test_faults_combine_and_a_sender_that_minds_them_loses_nothing(index: Api, emulator: Emulator) -> None:
    writes = frozenset({"upsert"})
    emulator.faults.add(Fault(status=429, retry_after=0, share=1 / 3, operations=writes))
    emulator.faults.add(Fault(status=413, times=1, operations=writes))
    emulator.faults.add(Fault(drop="before", times=1, operations=writes))
    emulator.faults.add(Fault(drop="after", times=1, operations=writes))
    emulator.faults.add(Fault(poison="777"))
    refused: list[str] = []

    def send(rows: list[dict[str, Any]]) -> None:
        try:
            status = index.upsert(*rows).status_code
        except httpx.RemoteProtocolError:
            status = 0
        if status in (0, 429):
            send(rows)
        elif status in (400, 413) and len(rows) > 1:
            send(rows[: len(rows) // 2])
            send(rows[len(rows) // 2 :])
        elif status == 400:
            refused.append(rows[0]["id"])

    for start in range(0, 2_000, 100):
        send([{"id": f"{number}", "values": [1, number]} for number in range(start, start + 100)])
    assert refused == ["777"]
    assert index.post("/describe_index_stats").json()["totalVectorCount"] == 1_999
    statuses = [request.status for request in emulator.log.requests("upsert")]
    assert (statuses.count(0), statuses.count(413)) == (2, 1)
    assert statuses.count(429) > len(statuses) / 5
