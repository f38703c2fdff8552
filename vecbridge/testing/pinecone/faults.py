"""Faults to order, and a record of what was asked.

Both are reached from the object in one process (``emulator.faults.add(Fault(status=429, share=0.3))``) and
over HTTP from others (``POST /_emulator/faults``, ``GET /_emulator/log``).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Fault(BaseModel):
    """What befalls some of the requests of the data plane.

    Attributes:
        status: This HTTP status (on gRPC: its code) is answered, and nothing is done.
        retry_after: Seconds, sent as ``Retry-After`` with it.
        drop: The connection is closed without an answer, before or after the request was carried out.
        delay: Seconds that the request waits.
        poison: An id; every write that names it is refused, for all rows of the request.
        operations: Which operations, such as ``["upsert"]``; all when empty.
        share: Of the requests, drawn from a seeded generator.
        times: How often at most; None for ever.
    """

    model_config = ConfigDict(extra="forbid")

    status: Annotated[int, Field(ge=400, le=599)] | None = None
    retry_after: Annotated[float, Field(ge=0)] | None = None
    drop: Literal["before", "after"] | None = None
    delay: Annotated[float, Field(ge=0)] = 0.0
    poison: str | None = None
    operations: frozenset[str] = frozenset()
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    times: Annotated[int, Field(ge=1)] | None = None

    @property
    def ends(self) -> bool:
        """Whether it takes the place of the answer, whatever was asked."""
        return self.status is not None or self.drop is not None


class Faults:
    """The faults in force, and which of them befall a request.

    Args:
        seed: Of the generator behind ``share``.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._faults: list[tuple[Fault, list[int]]] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """From now on."""
        with self._lock:
            self._faults.append((fault, [0]))

    def clear(self) -> None:
        """Ends all of them."""
        with self._lock:
            self._faults.clear()

    def drawn(self, operation: str, body: Mapping[str, Any]) -> list[Fault]:
        """The faults that befall this request; each is counted.

        Of those with a status or a drop the first strikes, and the others wait for another request.
        """
        drawn: list[Fault] = []
        with self._lock:
            for fault, uses in self._faults:
                waits = fault.ends and any(other.ends for other in drawn)
                if not waits and self._befalls(fault, uses, operation, body):
                    drawn.append(fault)
        return drawn

    def _befalls(self, fault: Fault, uses: list[int], operation: str, body: Mapping[str, Any]) -> bool:
        if fault.operations and operation not in fault.operations:
            return False
        if fault.times is not None and uses[0] >= fault.times:
            return False
        if fault.poison is not None and fault.poison not in _named(body):
            return False
        if self._random.random() >= fault.share:
            return False
        uses[0] += 1
        return True


def _named(body: Mapping[str, Any]) -> set[Any]:
    rows = body.get("vectors")
    ids = {row.get("id") for row in rows if isinstance(row, dict)} if isinstance(rows, list) else set()
    return ids | {body.get("id")}


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the data plane, as it was answered.

    Attributes:
        operation: Such as ``upsert``.
        protocol: ``rest`` or ``grpc``.
        bytes: The size of its body.
        rows: Of vectors or ids in it.
        status: The HTTP status of the answer, on gRPC the one of its code; 0 for a dropped connection.
    """

    operation: str
    protocol: str
    bytes: int
    rows: int
    status: int


class Log:
    """Every request of the data plane since the start, or since it was cleared."""

    def __init__(self) -> None:
        self._requests: list[Request] = []

    def add(self, request: Request) -> None:
        """Keeps one more."""
        self._requests.append(request)

    def requests(self, operation: str | None = None, status: int | None = None) -> list[Request]:
        """Those of an operation, or with a status; all without either."""
        return [
            request
            for request in list(self._requests)
            if operation in (None, request.operation) and status in (None, request.status)
        ]

    def clear(self) -> None:
        """Forgets them."""
        self._requests.clear()
