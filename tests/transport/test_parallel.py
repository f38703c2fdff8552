"""Calls for several items at a time, and in halves."""

from __future__ import annotations

import threading
import time

import pytest

from vecbridge.errors import TooLargeError
from vecbridge.transport import parallel


def test_results_come_in_the_order_of_the_items_whichever_call_ends_first() -> None:
    def call(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    assert parallel.each(call, [0.1, 0.0, 0.05], 3) == [0.1, 0.0, 0.05]


def test_no_more_calls_run_at_a_time_than_asked_for() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def call(item: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return item

    assert parallel.each(call, range(12), 3) == list(range(12))
    assert most == 3


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_items_start_no_thread(count: int) -> None:
    here = threading.get_ident()
    assert parallel.each(lambda item: threading.get_ident(), range(count), 8) == [here] * count


def test_one_call_at_a_time_starts_no_thread() -> None:
    here = threading.get_ident()
    assert parallel.each(lambda item: threading.get_ident(), range(3), 1) == [here] * 3


def test_the_first_error_is_raised_and_what_is_not_begun_is_not_called() -> None:
    called: list[int] = []
    slow = threading.Event()

    def call(item: int) -> int:
        called.append(item)
        if item == 1:
            raise KeyError(item)
        slow.wait(0.2)
        return item

    with pytest.raises(KeyError):
        parallel.each(call, range(20), 2)
    assert set(called) <= {0, 1, 2}


def test_an_error_of_a_later_item_comes_first_if_it_happens_first() -> None:
    failed = threading.Event()

    def call(item: int) -> int:
        if item == 1:
            failed.set()
            raise KeyError(item)
        assert failed.wait(5)
        return item

    with pytest.raises(KeyError):
        parallel.each(call, range(2), 2)


def test_halves_are_called_until_they_fit_and_joined_in_order() -> None:
    sizes: list[int] = []

    def call(items: list[int]) -> list[int]:
        sizes.append(len(items))
        if len(items) > 3:
            raise TooLargeError("too large")
        return items

    assert parallel.halved(call, list(range(10)), lambda a, b: a + b) == list(range(10))
    assert sizes == [10, 5, 2, 3, 5, 2, 3]


def test_one_item_that_is_too_large_is_an_error() -> None:
    def call(items: list[int]) -> list[int]:
        if 2 in items:
            raise TooLargeError("item 2")
        return items

    with pytest.raises(TooLargeError, match="item 2"):
        parallel.halved(call, [0, 1, 2, 3], lambda a, b: a + b)
