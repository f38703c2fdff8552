"""An emulated Weaviate: REST and gRPC on loopback, in memory, with exact search.

It answers as a genuine single node of version 1.39.0 was seen to answer, and refuses what that refuses, in
its words. ``schema`` reads and checks classes, ``objects`` holds rows and checks them, ``filters`` and
``search`` find them; ``rest`` and ``rpc`` speak the two protocols, ``emulator`` serves both.

It needs weaviate-client, whose generated messages it speaks.
"""

from __future__ import annotations

from importlib.util import find_spec

from vecbridge.errors import MissingDependencyError

if find_spec("weaviate") is None:
    raise MissingDependencyError("weaviate-client", extra="weaviate")

from vecbridge.testing.weaviate.emulator import Emulator

__all__ = ["Emulator"]
