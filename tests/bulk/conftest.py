"""No test here sleeps: pauses are written down instead."""

from __future__ import annotations

import threading

import pytest

from vecbridge.bulk import delivery


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited."""
    waited: list[float] = []

    def pause(stop: threading.Event, seconds: float) -> None:
        waited.append(seconds)
        if stop.is_set():
            raise delivery.StoppedError

    monkeypatch.setattr(delivery, "pause", pause)
    return waited
