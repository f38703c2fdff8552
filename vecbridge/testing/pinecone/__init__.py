"""An emulated Pinecone: what its public description and documentation say of the service, in memory.

It refuses what the service refuses, with the service's limits, status codes and error bodies, over REST and
gRPC. It is not Pinecone: what passes here has passed on an emulator.

    python -m vecbridge.testing.pinecone --port 5080
"""

from vecbridge.testing.pinecone.emulator import Emulator
from vecbridge.testing.pinecone.faults import Fault

__all__ = ["Emulator", "Fault"]
