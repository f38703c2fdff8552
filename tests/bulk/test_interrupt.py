"""Ctrl-C and kill -9."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import vecbridge as vb
from tests.bulk.faults import Faulty, sources
from vecbridge.bulk import delivery


def batches_settled(path: Path) -> int:
    return sum("batch" in json.loads(line) for line in path.read_bytes().splitlines())


def workers_alive() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("vecbridge-write")]


@pytest.mark.parametrize("parallel", [False, True])
def test_an_interrupt_while_reading_settles_what_is_under_way(tmp_path: Path, parallel: bool) -> None:
    def source() -> Iterator[pa.RecordBatch]:
        yield from sources(5)
        raise KeyboardInterrupt

    path = tmp_path / "run.journal"
    photos = Faulty(parallel_requests=8 if parallel else 1)
    with pytest.raises(KeyboardInterrupt):
        vb.write(photos, source(), journal=path)
    assert workers_alive() == []
    assert batches_settled(path) == len(photos.sent)
    assert vb.write(photos, sources(9), journal=path).written == 90
    assert sorted(key for sent in photos.sent for key in sent) == sorted(f"r{n}" for n in range(90))


def test_an_interrupt_while_waiting_settles_what_is_under_way(tmp_path: Path) -> None:
    stopped = threading.Event()

    def interrupt(call: int, batch: pa.RecordBatch) -> None:
        if call == 2:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            stopped.wait(0.2)  # the main thread wakes up meanwhile, and waits for this call

    path = tmp_path / "run.journal"
    photos = Faulty(before=interrupt)
    with pytest.raises(KeyboardInterrupt):
        vb.write(photos, sources(50), journal=path)
    assert workers_alive() == []
    assert len(photos.sent) <= 4
    assert len(photos.stored()) == 10 * len(photos.sent)
    # an interrupt between handing a request over and noting that keeps it out of the journal: it comes again
    assert len(photos.sent) - 1 <= batches_settled(path) <= len(photos.sent)
    photos.heal()
    assert vb.write(photos, sources(50), journal=path).written == 500
    assert len(photos.stored()) == 500


def test_an_interrupt_ends_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pausing = threading.Event()

    def pause(stop: threading.Event, seconds: float) -> None:
        pausing.set()
        assert stop.wait(60)
        raise delivery.StoppedError

    def source() -> Iterator[pa.RecordBatch]:
        yield from sources(1)
        assert pausing.wait(60)
        raise KeyboardInterrupt

    def down(call: int, batch: pa.RecordBatch) -> None:
        raise vb.UnavailableError("down")

    monkeypatch.setattr(delivery, "pause", pause)
    with pytest.raises(KeyboardInterrupt):
        vb.write(Faulty(before=down), source())
    assert workers_alive() == []


def test_the_real_pause_ends_at_once_when_the_run_has_ended() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(delivery.StoppedError):
        delivery.Backoff(stop).wait(vb.UnavailableError("down"))


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.bulk.faults import Faulty, ids, sources
import vecbridge as vb

folder, moment = Path(sys.argv[1]), int(sys.argv[2])

def store(call, batch):
    "A backend that keeps ids, durably."
    with (folder / "stored").open("a") as file:
        file.write("".join(key + "\\n" for key in ids(batch)))
    if call == moment:
        os.kill(os.getpid(), signal.SIGKILL)

with (folder / "stored").open("a+") as file:
    file.seek(0)
    before = [key.strip() for key in file]
photos = Faulty(after=store)
photos.count = lambda: len(before)
report = vb.write(photos, sources(12), journal=folder / "run.journal")
print(report.written, len(photos.sent))
"""


def test_after_kill_9_every_batch_is_sent_and_only_the_one_under_way_again(
    tmp_path: Path, root: Path
) -> None:
    def run(moment: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(moment)]
        return subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=120, check=False)

    for moment in (5, 2):
        assert run(moment).returncode == -9
    done = run(-1)
    assert done.returncode == 0, done.stderr
    written, _ = map(int, done.stdout.split())
    stored = (tmp_path / "stored").read_text().split()
    assert written == 120
    assert set(stored) == {f"r{n}" for n in range(120)}
    assert (
        len(stored) <= 120 + 2 * 2 * 10
    )  # at each kill: the request under way, and one acknowledged just before
