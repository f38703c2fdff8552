"""Sending one request of an upsert, in halves where the service finds it too large."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vecbridge.errors import TooLargeError, VecbridgeError
from vecbridge.protocols_sending import Outcome
from vecbridge.stores.pinecone import errors
from vecbridge.stores.pinecone.planes import Encoded


def delivered(call: Callable[[Sequence[Encoded]], None], part: Sequence[Encoded]) -> list[Outcome]:
    """Sends records; what became of them.

    Args:
        call: Sends some of them.
        part: The records of one request.

    Raises:
        VecbridgeError: None of them is acknowledged, and why.
    """
    try:
        call(part)
    except TooLargeError as exc:
        if len(part) == 1:
            return [Outcome(1, exc, certain=True)]
        middle = len(part) // 2
        return _half(call, part[:middle]) + _half(call, part[middle:])
    return [Outcome(len(part))]


def _half(call: Callable[[Sequence[Encoded]], None], part: Sequence[Encoded]) -> list[Outcome]:
    try:
        return delivered(call, part)
    except VecbridgeError as exc:  # of this half alone: the other one has its own fate
        return [Outcome(len(part), exc, errors.never_stored(exc))]
