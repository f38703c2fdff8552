"""The emulator as an object."""

from __future__ import annotations

import itertools
import socket

from vecbridge.closing import Closing
from vecbridge.testing.pinecone.control import Index, Project
from vecbridge.testing.pinecone.planes import ControlPlane, DataPlane
from vecbridge.testing.pinecone.rpc import RpcServer
from vecbridge.testing.pinecone.server import Listener
from vecbridge.testing.pinecone.traffic import Traffic


class Emulator(Closing):
    """An emulated Pinecone project on loopback, in memory; it serves from the moment it is made.

    Args:
        api_key: The key that it takes.
        port: Of the control plane, 0 for a free one. Indexes are served on the ports that follow it, or on
            free ones.
        delay: Seconds until reads see a write (eventual consistency).
        latency: Seconds that every request of the data plane waits.
        ready_after: Seconds until a new index is ready.
        seed: Of the faults that befall a share of the requests.

    Attributes:
        host: Of the control plane, such as ``http://127.0.0.1:5080``; indexes tell their own.
        faults: What goes wrong.
        log: What was asked.

    Example:
        >>> import vecbridge as vb
        >>> from vecbridge.testing.pinecone import Fault
        >>> with Emulator(api_key="secret") as emulator:
        ...     emulator.faults.add(Fault(operations=["upsert"], status=429, retry_after=0.1, share=0.3))
        ...     with vb.connect(emulator.host.replace("http", "pinecone"), api_key="secret") as store:
        ...         store.collections()
        []
    """

    def __init__(
        self,
        *,
        api_key: str = "emulated",
        port: int = 0,
        delay: float = 0.0,
        latency: float = 0.0,
        ready_after: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._traffic = Traffic(api_key, latency, seed)
        self._project = Project(self._serve, delay, ready_after)
        self._rpc = RpcServer(self._traffic)
        self._ports = itertools.count(port + 1) if port else itertools.repeat(0)
        self._listener = Listener(ControlPlane(self._project, self._traffic), port)
        self.api_key = api_key
        self.host = self._listener.host
        self.faults = self._traffic.faults
        self.log = self._traffic.log

    def close(self) -> None:
        """Stops; everything is forgotten."""
        self._listener.close()
        self._project.close()
        self._rpc.close()

    def _serve(self, index: Index) -> Listener:
        plane = DataPlane(index, self._traffic, self._relay)
        while True:
            try:
                return Listener(plane, next(self._ports))
            except OSError:  # taken by someone else: the next one
                continue

    def _relay(self, index: Index, connection: socket.socket) -> None:
        self._rpc.relay(index, connection)
