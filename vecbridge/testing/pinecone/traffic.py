"""What every request of the data plane goes through, over REST and over gRPC alike."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from typing import Any

from vecbridge.testing.pinecone import limits
from vecbridge.testing.pinecone.control import Index
from vecbridge.testing.pinecone.data import Answer
from vecbridge.testing.pinecone.errors import ApiError, invalid
from vecbridge.testing.pinecone.faults import Fault, Faults, Log, Request


class Dropped(Exception):
    """The connection is to be closed without an answer."""


class Traffic:
    """Checks keys, orders faults, keeps the log.

    Args:
        api_key: The key that is taken.
        latency: Seconds that every request waits.
        seed: Of the faults.
    """

    def __init__(self, api_key: str, latency: float, seed: int) -> None:
        self._api_key = api_key
        self._latency = latency
        self.faults = Faults(seed)
        self.log = Log()

    def authenticate(self, key: str | None) -> None:
        """Refuses a key that is missing or not the one."""
        if key is None or not hmac.compare_digest(key.encode(), self._api_key.encode()):
            raise ApiError("UNAUTHENTICATED", "Invalid API key.")

    def answer(
        self,
        index: Index,
        protocol: str,
        operation: str,
        key: str | None,
        size: int,
        read: Callable[[], Mapping[str, Any]],
    ) -> Answer:
        """Carries out one request, and keeps it in the log.

        Args:
            index: The index that is asked.
            protocol: ``rest`` or ``grpc``.
            operation: Such as ``upsert``.
            key: The API key that was sent.
            size: Of the request's body, in bytes.
            read: Parses the body.

        Raises:
            ApiError: It is refused, by a rule or by a fault.
            Dropped: A fault closes the connection.
        """
        status = rows = 0
        try:
            time.sleep(self._latency)
            self.authenticate(key)
            limits.request_size(size)
            body = read()
            rows = _rows(body)
            faults = self.faults.drawn(operation, body)
            for fault in faults:
                _strike(fault)
            if not index.ready:
                raise ApiError("UNAVAILABLE", f"Index {index.name} is still initializing")
            answer = index.data.call(operation, body)
            if any(fault.drop == "after" for fault in faults):
                raise Dropped
            status = answer.status
            return answer
        except ApiError as error:
            status = error.status
            raise
        finally:
            self.log.add(Request(operation, protocol, size, rows, status))


def _strike(fault: Fault) -> None:
    time.sleep(fault.delay)
    if fault.drop == "before":
        raise Dropped
    if fault.poison is not None:
        raise invalid(f"Vector ID '{fault.poison}' is refused by an ordered fault")
    if fault.status is not None:
        headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
        raise ApiError.of_status(fault.status, f"An ordered fault: {fault.status}", headers)


def _rows(body: Mapping[str, Any]) -> int:
    rows = body.get("vectors") or body.get("ids")
    return len(rows) if isinstance(rows, list) else 0
