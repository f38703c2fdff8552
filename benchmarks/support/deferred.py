"""An emulated Pinecone that acknowledges upserts before it reads them.

The emulator reads vectors in Python, on the cores of whoever is measured; the service reads them on its own.
Here an upsert waits for the latency, is checked for its key and its size, and is put aside. The next request
of another kind, such as a count, carries out all that were put aside, so that what was sent is still looked
at, after the clock has stopped.

    python benchmarks/support/deferred.py --port 0 --latency 0.02      # as vecbridge.testing.pinecone
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

from vecbridge.testing.pinecone import __main__, emulator, limits
from vecbridge.testing.pinecone.control import Index
from vecbridge.testing.pinecone.data import WRITTEN, Answer
from vecbridge.testing.pinecone.traffic import Traffic


class Deferred(Traffic):
    """See :class:`vecbridge.testing.pinecone.traffic.Traffic`; upserts are carried out later."""

    def __init__(self, api_key: str, latency: float, seed: int) -> None:
        super().__init__(api_key, 0.0, seed)
        self._pause = latency
        self._aside: list[Callable[[], Answer]] = []
        self._lock = threading.Lock()

    def answer(
        self, index: Index, protocol: str, operation: str, key: str | None, size: int,
        read: Callable[[], Mapping[str, Any]],
    ) -> Answer:  # fmt: skip
        """Carries out one request, or puts it aside."""
        time.sleep(self._pause)
        carry_out = super().answer
        if operation == "upsert":
            self.authenticate(key)
            limits.request_size(size)
            self._aside.append(lambda: carry_out(index, protocol, operation, key, size, read))
            return Answer({"upsertedCount": 0}, {WRITTEN: "0"})
        with self._lock:
            while self._aside:
                self._aside.pop(0)()
        return carry_out(index, protocol, operation, key, size, read)


if __name__ == "__main__":
    with mock.patch.object(emulator, "Traffic", Deferred):
        __main__.main()
