"""What the sections of bulk_pipeline.py share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class PipelineBench:
    """One run of the benchmark.

    Attributes:
        sizes: Rows of the runs whose memory is compared.
        dim: Length of their vectors.
        rounds: Turns of what is timed.
        copies: How often the gallery is embedded in a turn.
        work: A directory that is removed at the end.
        stores: Where the rows go whose memory is measured.
        details: What the JSON says beside the lines.
    """

    sizes: tuple[int, ...]
    dim: int
    rounds: int
    copies: int
    work: Path
    stores: tuple[str, ...]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "rows": list(self.sizes),
            "dim": self.dim,
            "rounds": self.rounds,
            "copies": self.copies,
            "stores": list(self.stores),
        }
