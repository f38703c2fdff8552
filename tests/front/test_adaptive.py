"""How many requests may be in flight: what raises the number and what lowers it."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecbridge.errors import (
    AuthError,
    BackendError,
    DeadlineError,
    RateLimitedError,
    TooLargeError,
    UnavailableError,
)
from vecbridge.front import adaptive
from vecbridge.front.adaptive import RequestLimit, Sent
from vecbridge.front.sending import RequestSlots

OVERLOADS = [RateLimitedError("slow down"), DeadlineError("no answer")]
OTHERS = [AuthError("no"), TooLargeError("too large"), BackendError("400"), ValueError("ours")]


def full(at: float) -> Sent:
    return Sent(at, full=True)


def steady(
    limit: RequestLimit, count: int, *, start: float = 0.0, seconds: float = 0.1, rows: int = 100
) -> float:
    """Requests that succeed one after the other; when the last one did."""
    now = start
    for _ in range(count):
        limit.succeeded(full(now), rows, now + seconds)
        now += seconds
    return now


def test_it_starts_where_it_was_told_and_rises_by_one_when_that_many_have_succeeded() -> None:
    limit = RequestLimit(4, 6)
    assert limit.requests == 4
    reached = []
    for number in range(1, 20):
        limit.succeeded(full(number), 100, number + 0.1)
        reached.append(limit.requests)
    assert reached.index(5) + 1 in (4, 5)
    assert reached[-1] == 6


def test_it_does_not_rise_while_fewer_requests_are_in_flight_than_may_be() -> None:
    limit = RequestLimit(2, 8)
    for number in range(100):
        limit.succeeded(Sent(number, full=False), 100, number + 0.1)
    assert limit.requests == 2


@pytest.mark.parametrize("error", OVERLOADS, ids=lambda error: type(error).__name__)
def test_an_overload_lowers_it_by_a_share(error: Exception) -> None:
    limit = RequestLimit(10, 10)
    assert limit.failed(full(0), error, 1.0)
    assert limit.requests == 7
    assert limit.failed(full(2), error, 3.0)
    assert limit.requests == 4


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: type(error).__name__)
def test_what_has_another_cause_does_not_lower_it(error: Exception) -> None:
    limit = RequestLimit(10, 10)
    for at in range(20):
        assert not limit.failed(full(at), error, at + 0.5)
    assert limit.requests == 10


def test_requests_that_were_in_flight_together_lower_it_once() -> None:
    limit = RequestLimit(10, 10)
    for _ in range(10):
        limit.failed(full(0), RateLimitedError("slow down"), 1.0)
    assert limit.requests == 7


def test_a_single_server_error_does_not_lower_it_and_three_in_a_row_do() -> None:
    limit = RequestLimit(10, 10)
    now = 0.0
    for _ in range(50):  # every second request fails, never three in a row
        assert not limit.failed(full(now), UnavailableError("503"), now + 0.1)
        now = steady(limit, 1, start=now + 0.1)
    assert limit.requests == 10
    assert [limit.failed(full(now), UnavailableError("503"), now + 0.1) for _ in range(3)] == [
        False,
        False,
        True,
    ]
    assert limit.requests == 7


@pytest.mark.parametrize(("seconds", "requests"), [(0.19, 10), (0.21, 7)])
def test_a_latency_of_twice_the_median_lowers_it(seconds: float, requests: int) -> None:
    limit = RequestLimit(10, 10)
    now = steady(limit, 50)
    limit.succeeded(full(now), 100, now + seconds)
    assert limit.requests == requests


def test_the_median_is_of_requests_of_about_as_many_rows() -> None:
    limit = RequestLimit(10, 10)
    now = steady(limit, 50, seconds=0.02, rows=10)
    now = steady(limit, 50, start=now, seconds=0.2, rows=1_000)
    assert limit.requests == 10


def test_the_median_is_of_the_last_thirty_seconds() -> None:
    limit = RequestLimit(10, 10)
    now = steady(limit, 50)
    limit.succeeded(full(now + 31), 100, now + 31.5)  # nobody knows any more what is usual
    assert limit.requests == 10


def test_few_latencies_and_short_ones_say_nothing() -> None:
    limit = RequestLimit(10, 10)
    now = steady(limit, adaptive.FEWEST_LATENCIES - 1)
    limit.succeeded(full(now), 100, now + 5)
    assert limit.requests == 10
    limit = RequestLimit(10, 10)
    now = steady(limit, 1000, seconds=0.002)
    limit.succeeded(full(now), 100, now + 0.015)
    assert limit.requests == 10


def test_a_median_keeps_few_latencies_however_many_there_are() -> None:
    median, now = adaptive.RecentMedian(), 0.0
    for _ in range(20_000):
        median.add(0.001, now)
        now += 0.005
    assert len(median._latencies) <= adaptive.MOST_LATENCIES + 1
    assert median._latencies[0][0] >= now - adaptive.WINDOW_SECONDS - 1


Event = tuple[
    float, float, bool, int
]  # seconds since the last one, seconds that it took, full, what happened


@given(
    start=st.integers(1, 40),
    most=st.integers(1, 40),
    events=st.lists(
        st.tuples(st.floats(0, 60), st.floats(0, 100), st.booleans(), st.integers(0, 6)), max_size=60
    ),
)
def test_it_stays_between_one_and_the_most_and_moves_by_one_step(
    start: int, most: int, events: list[Event]
) -> None:
    limit, now = RequestLimit(start, most), 0.0
    for gap, seconds, is_full, kind in events:
        before = limit.requests
        now += gap
        sent = Sent(now - seconds, is_full)
        if kind < 3:
            lowered = limit.succeeded(sent, 2**kind, now)
        else:
            lowered = limit.failed(
                sent, [*OVERLOADS, UnavailableError("503"), AuthError("no")][kind - 3], now
            )
        assert 1 <= limit.requests <= max(start, most)
        assert int(before * adaptive.LOWERED_TO) <= limit.requests <= before + 1
        assert lowered == (limit.requests < before)
        if kind == 6 or not is_full:
            assert limit.requests <= before


# --------------------------------------------------------------------------------- a simulated backend


class Simulation:
    """A backend that answers ``capacity`` requests side by side; more wait for each other. Time is simulated.

    Args:
        capacity: Requests at a time.
        slowness: By the time: by what each request takes longer.
        most_rate: Requests in flight that are not refused; None is any number.
    """

    def __init__(
        self, capacity: int, slowness: Callable[[float], float], most_rate: int | None = None
    ) -> None:
        self._capacity = capacity
        self._slowness = slowness
        self._most_rate = most_rate
        self.refused = 0

    def run(self, limit: RequestLimit, seconds: float) -> list[int]:
        """Sends as many requests as the limit lets; how many were answered in each second."""
        answered = [0] * int(seconds)
        flying: list[tuple[float, int, Sent, bool]] = []
        now, number = 0.0, 0
        while now < seconds:
            while len(flying) < limit.requests:
                refuse = self._most_rate is not None and len(flying) >= self._most_rate
                queue = max(1.0, (len(flying) + 1) / self._capacity)
                takes = 0.01 if refuse else 0.1 * queue * self._slowness(now)
                number += 1
                sent = Sent(now, full=len(flying) + 1 >= limit.requests)
                heapq.heappush(flying, (now + takes, number, sent, refuse))
            now, _, sent, refuse = heapq.heappop(flying)
            if refuse:
                self.refused += 1
                limit.failed(sent, RateLimitedError("slow down"), now)
            elif now < seconds:
                answered[int(now)] += 1
                limit.succeeded(sent, 100, now)
        return answered


def test_the_throughput_of_a_backend_that_was_ten_times_slower_comes_back() -> None:
    backend = Simulation(8, lambda now: 10.0 if 60 <= now < 120 else 1.0)
    limit = RequestLimit(2, 16)
    answered = backend.run(limit, 240)
    before, during, after = sum(answered[30:60]), sum(answered[80:110]), sum(answered[150:180])
    assert during < before / 5
    assert after > 0.9 * before
    assert sum(answered[125:135]) > 0.5 * before / 3, "within seconds, not minutes"


def test_while_the_backend_is_slow_fewer_requests_are_in_flight() -> None:
    limit = RequestLimit(8, 8)
    Simulation(8, lambda now: 10.0 if now >= 20 else 1.0).run(limit, 23)
    assert limit.requests < 8


def test_the_number_finds_what_the_backend_takes_at_a_time() -> None:
    backend = Simulation(64, lambda now: 1.0, most_rate=10)
    limit = RequestLimit(2, 64)
    answered = backend.run(limit, 60)
    assert 5 <= limit.requests <= 12
    assert sum(answered[20:60]) > 40 * 10 * 7, "70 % of what 10 requests of 0.1 s at a time give"
    assert backend.refused < sum(answered) / 20


# -------------------------------------------------------------------------------------- several threads


def test_threads_have_no_more_requests_in_flight_than_the_limit_says() -> None:
    slots, lock, in_flight = RequestSlots(2, 6), threading.Lock(), 0
    seen: list[tuple[int, int]] = []

    def send(thread: int) -> None:
        nonlocal in_flight
        for number in range(40):
            with slots as sent:
                with lock:
                    in_flight += 1
                    seen.append((in_flight, slots.at_once))
                threading.Event().wait(0.0005)
                with lock:
                    in_flight -= 1
            if thread == 0 and number % 10 == 0:
                slots.failed(sent, RateLimitedError("slow down"))
            else:
                slots.succeeded(sent, 10)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 400
    assert max(number for number, _ in seen) <= 6
    assert slots._in_flight == 0


def test_a_lower_number_is_logged_with_the_backend_and_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vecbridge")
    slots = RequestSlots(10, backend="pinecone", clock=lambda: 1.0)
    with slots as sent:
        pass
    slots.failed(sent, RateLimitedError("quota of key abc exceeded"))
    [record] = caplog.records
    assert (record.backend, record.requests, record.reason) == ("pinecone", 7, "RateLimitedError")  # type: ignore[attr-defined]
    assert "quota" not in record.getMessage()


def test_of_a_store_that_takes_one_request_at_a_time_the_number_never_moves() -> None:
    slots = RequestSlots(1)
    for _ in range(20):
        with slots as sent:
            pass
        slots.succeeded(sent, 10)
    slots.failed(sent, RateLimitedError("slow down"))
    assert slots.at_once == 1
