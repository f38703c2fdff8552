"""Training by the clock: a stage gets minutes, not steps; its learning rate falls as they run out."""

from __future__ import annotations

import time

import torch
from torch import Tensor

_LOG_EVERY = 120.0


class Clock:
    """Knows how much of a stage is over."""

    def __init__(self, minutes: float, *, warmup_steps: int = 60, flat: float = 0.5) -> None:
        self._start, self._seconds = time.monotonic(), minutes * 60
        self._steps, self._warmup, self._flat = 0, warmup_steps, flat

    def share(self) -> float:
        return min(1.0, (time.monotonic() - self._start) / self._seconds)

    def over(self) -> bool:
        return self.share() >= 1.0

    def rate(self) -> float:
        """Factor of the learning rate for the next step: warm-up, flat, then a straight line down to 1 %."""
        self._steps += 1
        fall = (1 - self.share()) / (1 - self._flat)
        return min(1.0, self._steps / self._warmup) * max(0.01, min(1.0, fall))


class Log:
    """Prints a line every two minutes."""

    def __init__(self, name: str) -> None:
        self._name, self._start = name, time.monotonic()
        self._last, self._seen, self._right = self._start, 0, 0.0

    def due(self, logits: Tensor, answers: list[int]) -> bool:
        """Count a batch; True when a line was printed, which is the moment to save."""
        with torch.no_grad():
            right = (logits.argmax(1) == torch.tensor(answers)).float().mean().item()
        self._seen += len(answers)
        self._right = right if self._right == 0 else 0.97 * self._right + 0.03 * right
        now = time.monotonic()
        if now - self._last < _LOG_EVERY:
            return False
        self._last, spent = now, now - self._start
        self.note(
            f"{spent / 60:.1f} min, {self._seen} samples, {self._seen / spent:.0f}/s, right {self._right:.3f}"
        )
        return True

    def note(self, text: str) -> None:
        print(f"[{self._name}] {text}", flush=True)
