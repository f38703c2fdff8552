"""The pauses themselves: other tests of the folder write them down instead of waiting."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest

import vecbridge as vb
from tests.bulk.faults import Faulty, sources
from vecbridge.bulk import delivery

_pause = delivery.pause  # before a fixture replaces it


@pytest.fixture
def really(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are waited for."""
    monkeypatch.setattr(delivery, "pause", _pause)


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is added to the time that a service names."""
    monkeypatch.setattr(delivery.random, "uniform", lambda low, high: low)


def fails(times: int, error: vb.BackendError) -> Faulty:
    """A collection that refuses the first requests."""

    def fault(call: int, batch: object) -> None:
        if call < times:
            raise error

    return Faulty(before=fault)


def test_a_pause_lasts_as_long_as_it_says() -> None:
    begun = time.monotonic()
    _pause(threading.Event(), 0.2)
    assert time.monotonic() - begun >= 0.2


def test_a_pause_ends_with_the_run() -> None:
    ended = threading.Event()
    ended.set()
    with pytest.raises(delivery.StoppedError):
        _pause(ended, 3600)
    ending = threading.Event()
    timer = threading.Timer(0.2, ending.set)
    timer.start()
    with pytest.raises(delivery.StoppedError):
        _pause(ending, 3600)
    timer.join()


@pytest.mark.usefixtures("really", "no_jitter")
def test_a_request_is_not_sent_again_before_the_time_that_the_service_names() -> None:
    photos, sent = fails(2, vb.RateLimitedError("slow down", retry_after=0.15)), []
    upsert = photos.upsert

    def upserts(*arguments: object, **options: object) -> vb.WriteReport:
        sent.append(time.monotonic())
        return upsert(*arguments, **options)

    photos.upsert = upserts
    report = vb.write(photos, sources(1))
    assert (report.written, report.retried) == (10, 2)
    assert [later - earlier >= 0.15 for earlier, later in pairwise(sent)] == [True] * 2


@pytest.mark.usefixtures("really")
def test_a_failure_elsewhere_ends_a_pause_of_minutes() -> None:
    waiting = threading.Event()

    def fault(call: int, batch: object) -> None:
        if call == 0:
            waiting.set()
            raise vb.RateLimitedError("slow down", retry_after=200)
        assert waiting.wait(30)
        raise vb.AuthError("the key was revoked")

    with pytest.raises(vb.AuthError):  # a pause that goes on would last until pytest's timeout
        vb.write(Faulty(before=fault, parallel_requests=4), sources(2), workers=2)


@pytest.mark.usefixtures("no_jitter")
@pytest.mark.parametrize(
    ("named", "waited"), [(100.0, [100.0] * 3), (150.5, [150.5]), (300.5, []), (300.0, [300.0])]
)
def test_a_part_is_waited_for_during_300_seconds_in_all(
    named: float, waited: list[float], pauses: list[float]
) -> None:
    error = vb.RateLimitedError("slow down", retry_after=named)
    photos = fails(99, error)
    with pytest.raises(vb.RateLimitedError) as caught:
        vb.write(photos, sources(1))
    assert pauses == waited
    assert len(photos.sent) == len(waited) + 1
    assert f"given up after {len(waited) + 1} attempts" in caught.value.__notes__


@pytest.mark.usefixtures("no_jitter")
def test_each_part_has_300_seconds_of_its_own(pauses: list[float]) -> None:
    def fault(call: int, batch: object) -> None:
        if call % 3 < 2:
            raise vb.RateLimitedError("slow down", retry_after=140)

    assert vb.write(Faulty(before=fault), sources(3), workers=1).written == 30
    assert pauses == [140.0] * 6
