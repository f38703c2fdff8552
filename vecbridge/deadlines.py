"""When a call must end: one moment for all of its requests, whatever each of them takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from vecbridge.errors import DeadlineError

_LEAST_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a call must end.

    Attributes:
        at: On the monotonic clock, in seconds.
    """

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline that is ``seconds`` away."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds left, at least 0.01: what a client takes as its timeout."""
        return max(self.at - time.monotonic(), _LEAST_SECONDS)

    def pause(self, seconds: float, reason: str) -> None:
        """Sleeps between two looks at something; a driver sleeps nowhere else.

        Args:
            seconds: How long.
            reason: What the call waits for, as the message of the error.

        Raises:
            DeadlineError: Less time than that is left.
        """
        if time.monotonic() + seconds >= self.at:
            raise DeadlineError(reason)
        time.sleep(seconds)
