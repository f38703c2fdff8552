"""A progress bar on a terminal: what is printed meanwhile stands above it, whole."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.screen import Screen
from vecbridge.bulk import Progress
from vecbridge.cli import common, output, progress
from vecbridge.cli.main import _show_warning


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Has standard error be a terminal from now on; pytest sets it anew before each test."""
    monkeypatch.setattr(logging.getLogger("vecbridge"), "handlers", [])
    monkeypatch.setattr(warnings, "showwarning", _show_warning)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("VECBRIDGE_DEBUG", raising=False)
    monkeypatch.setattr(output, "_debug", False)

    def begin() -> Terminal:
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        common.load_settings()
        return stream

    return begin


def shown(stream: Terminal) -> str:
    screen = Screen()
    screen.feed(stream.getvalue())
    return screen.text


def log(text: str) -> None:
    logging.getLogger("vecbridge.bulk").warning(text)


SAYING: list[tuple[str, Callable[[str], Any], str]] = [
    ("warn", output.warn, "warning: {}"),
    ("note", output.note, "{}"),
    ("fail", output.fail, "error: {}"),
    ("log", log, "WARNING vecbridge.bulk: {}"),
    ("warnings", warnings.warn, "warning: {}"),
    ("print", lambda text: print(text, file=sys.stderr), "{}"),
]


@pytest.mark.parametrize(("say", "line"), [each[1:] for each in SAYING], ids=[each[0] for each in SAYING])
@pytest.mark.filterwarnings("always")
def test_a_line_printed_meanwhile_is_whole_and_the_bar_is_below(
    start: Callable[[], Terminal], say: Callable[[str], Any], line: str
) -> None:
    terminal = start()
    with progress.follow("Loading", 100, quiet=False) as advance:
        for number in range(3):
            advance(Progress(rows=10 * number, written=10 * number))
            say(f"column {number} is left out")
            lines = shown(terminal).splitlines()
            said = [line.format(f"column {before} is left out") for before in range(number + 1)]
            assert lines[: number + 1] == said
            assert all("Loading" in rest for rest in lines[number + 1 :])
        advance(Progress(rows=90, written=80, failed=10))
    assert shown(terminal).splitlines() == said  # the bar goes at the end, and takes no line with it


def test_a_status_beside_a_bar_shows_nothing_and_takes_nothing_away(start: Callable[[], Terminal]) -> None:
    terminal = start()
    with progress.follow("Loading", 100, quiet=False), output.busy("Loading the model"):
        output.warn("slow")
    assert shown(terminal) == "warning: slow"


def test_a_line_printed_during_a_status_is_whole(start: Callable[[], Terminal]) -> None:
    terminal = start()
    with output.busy("Waiting for the index"):
        output.warn("slow")
        log("slower")
    assert shown(terminal).splitlines() == ["warning: slow", "WARNING vecbridge.bulk: slower"]


def test_without_a_terminal_there_is_no_bar_and_every_line_is_plain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger("vecbridge"), "handlers", [])
    common.load_settings()
    long = "-".join(["[bold]slow[/bold]"] * 20)
    with progress.follow("Loading", 100, quiet=False):
        output.warn(long)
        log(long)
    assert capsys.readouterr().err.splitlines() == [f"warning: {long}", f"WARNING vecbridge.bulk: {long}"]


def state(**values: Any) -> Progress:
    return Progress(**{"stages": {"read": 0.2, "embed": 0.97, "store": 0.4}} | values)


def test_without_a_terminal_a_line_says_every_few_seconds_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    said = ""
    with progress.follow("Indexing", 2000, quiet=False) as advance:
        advance(state(rows=600, written=495, failed=5, retried=3, bytes=3_000_000, seconds=10.0))
        while said.count("\n") < 2:
            said += capsys.readouterr().err
    line = (
        "Indexing: 500 of 2,000 (25%), 50 rows/s, 300.0 kB/s, embed 97% busy, 5 failed, 3 retried, 30 s left"
    )
    assert set(said.splitlines()) == {line}
    assert not [thread for thread in threading.enumerate() if thread.name == "vecbridge-progress"]


def test_nothing_is_said_where_it_was_not_asked_for_or_nothing_has_come_yet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    for quiet in (True, False):
        with progress.follow("Indexing", 2000, quiet=quiet) as advance:
            if quiet:
                advance(state(rows=1))
            time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_the_bar_shows_the_rate_the_slowest_stage_and_what_went_wrong(
    start: Callable[[], Terminal],
) -> None:
    terminal = start()
    with progress.follow("Indexing", 2000, quiet=False) as advance:
        advance(state(rows=600, written=495, failed=5, retried=3, bytes=3_000_000, seconds=10.0))
        said, ends = "", time.monotonic() + 30
        while "500/" not in said and time.monotonic() < ends:  # it is drawn ten times a second
            said = shown(terminal)
    assert "500/2000 50/s 300.0 kB/s embed 5 failed, 3 retried" in " ".join(said.split())


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (59.6, "60 s"), (91, "2 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_times_are_said_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert progress._duration(seconds) == words
