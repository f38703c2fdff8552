"""Calls for several items at a time, and calls in halves where an answer or a request is too large."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from vecbridge.errors import TooLargeError

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(call: Callable[[Item], Result], items: Iterable[Item], at_once: int) -> list[Result]:
    """Calls for each item, several at a time; results in the order of the items.

    Args:
        call: Thread-safe.
        items: Fewer than two need no thread.
        at_once: Calls at a time, at most.

    Raises:
        Exception: The first that a call raised; calls not begun by then are not made.
    """
    items = list(items)
    if len(items) < 2 or at_once < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(at_once, len(items))) as pool:
        futures = [pool.submit(call, item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    for future in futures:
        if not future.cancelled() and (error := future.exception()) is not None:
            raise error
    return [future.result() for future in futures]


def halved(
    call: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    join: Callable[[Result, Result], Result],
) -> Result:
    """Calls for all items, or for each half of them where that is too large, and so on.

    Args:
        call: Takes some of the items, at least one.
        items: At least one.
        join: Puts the results of adjacent items together.

    Raises:
        TooLargeError: One item alone is too large.
    """
    try:
        return call(items)
    except TooLargeError:
        if len(items) == 1:
            raise
    middle = len(items) // 2
    return join(halved(call, items[:middle], join), halved(call, items[middle:], join))
