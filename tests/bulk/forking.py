"""Journals and dead-letter files for processes that fork."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vecbridge.bulk.deadletters import DeadLetterFile
from vecbridge.bulk.journal import Header, Journal, Settled
from vecbridge.errors import ConfigError, JournalError
from vecbridge.sources.deadletters import DeadLetter


class OpenJournal(Journal):
    """A journal of batches of one row."""

    busy = JournalError

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, Header("source", {}, {}, {}, ""))

    def add(self, number: int) -> None:
        self.settle(Settled(number, 1, "", 1, 0, 0, 0))


class OpenDeadLetters(DeadLetterFile):
    """A dead-letter file."""

    busy = ConfigError

    def add(self, number: int) -> None:
        self.append([DeadLetter(number, None, "no")])


KINDS: dict[str, Any] = {"journal": OpenJournal, "dead letters": OpenDeadLetters}


def refused(call: Callable[..., Any], *arguments: Any, kind: type[Exception] = ConfigError) -> str:
    """The message of the error that the call must raise."""
    try:
        call(*arguments)
    except kind as exc:
        return str(exc)
    raise AssertionError("it was not refused")


def require_refused(file: Any, parent: int) -> None:
    """What a forked child may not do with its parent's file, and what that leaves behind."""
    path = file._file.path
    before = path.read_bytes()
    message = refused(file.add, 7)
    assert f"opened by process {parent}; open it in this process" in message, message
    refused(type(file), path, kind=type(file).busy)
    file.close()
    file.close()
    refused(file.add, 7)
    assert path.read_bytes() == before


def run(work: Callable[..., Any], *arguments: Any) -> int:
    """Forks, and works in the child."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work(*arguments)
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    return pid


def wait_for(pid: int) -> None:
    """Waits for a child, which must not fail."""
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def idle() -> None:
    """Prints the process id, and sleeps."""
    print(os.getpid(), flush=True)
    time.sleep(600)
