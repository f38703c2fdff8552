"""Prints results to stdout, and everything else to stderr."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich import filesize
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vecbridge import timestamps
from vecbridge.texts import safe as safe

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

_UNBOUNDED: Final = 10_000  # width of a table that goes into a pipe, so that nothing is cut
# An argument as messages of the library name it, and the option that corresponds to it.
_OPTIONS: Final[tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]] = (
    (r"\bmodel='([^']+)'", r"--model \1"),
    (r"\bfollow_links=True\b", "--follow-links"),
    (r"\bid_column=", "--id"),
    (r"\bmax_deletes=(\d+)", r"--max-deletes \1"),
    (r"\bvectors=(?![\w'{\[])", "--vector"),
    (r"\busing=(?![\w'])", "--using"),
    (r"\bdevice='([^']+)'", r"--device \1"),
    (r"\bruntime='([^']+)'", r"--runtime \1"),
    (r"\bdtype='([^']+)'", r"--dtype \1"),
    (r"\ballow=\['([^\]]+)'\]", lambda match: "--allow " + match[1].replace("', '", ",")),
    (r"\bdead_letters=(?![\w'])", "--dead-letters FILE"),
    (r'\binto="existing"', "--into existing"),
    (r"\binto='([^']+)'", r"--into \1"),
    (r"\bid_template=('[^']+')", r"--id \1"),
    (r"\bmax_rate=", "--max-rate "),
    (r"\bmax_bytes= ", "--max-bytes "),
    (r"\bformat= ", "--format "),
    (r"\bfusion='([^']+)'", r"--fusion \1"),
    (r"\bnone_below=", "--none-below "),
    (r"\blabels=\['([^\]]+)'\]", lambda match: "--labels " + match[1].replace("', '", ",")),
    (r"\bothers=(?![\w'\[])", "--others"),
    (r"\blanguage='([^']+)'", r"--language \1"),
)
_debug = False
_live: Console | None = None  # on which a progress bar is shown: what is printed meanwhile goes above it
_command: tuple[str, ...] = ()  # the arguments of this call
# a login in a URL, or a key among its options or those of the command
_SECRET: Final = re.compile(r"://[^/@\s]+@|(key|token|password|secret)\b\s*=?", re.IGNORECASE)
_names: dict[str, str] = {}  # what temporary files are called in messages


def set_debug(on: bool) -> None:
    """Switches tracebacks on or off for this process."""
    global _debug
    _debug = on


def debugging() -> bool:
    """Whether ``--debug`` or ``VECBRIDGE_DEBUG`` asks for tracebacks."""
    return _debug or os.environ.get("VECBRIDGE_DEBUG", "").lower() not in ("", "0", "false", "no", "off")


def show(*renderables: Any) -> None:
    """Prints results; into a pipe without trailing blanks."""
    console = stdout()
    if console.is_terminal:
        console.print(*renderables, sep="\n")
        return
    with console.capture() as captured:
        console.print(*renderables, sep="\n")
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def line(text: Text) -> None:
    """Prints a line of results without breaking it, so that it can be copied."""
    stdout().print(text, soft_wrap=True)


def stdout() -> Console:
    """A console for results; in a pipe it is as wide as the content."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNBOUNDED
    return console


def stderr() -> Console:
    """The console for progress and messages; lines that go into a file are not broken."""
    if _live is not None:
        return _live
    console = Console(stderr=True, highlight=False)
    console.soft_wrap = not console.is_terminal
    return console


def call(path: Path, name: str) -> None:
    """Has messages give a file another name: that of the input of which it is a temporary copy."""
    if str(path) != name:
        _names[str(path)] = name


def note(text: str) -> None:
    """Prints a message."""
    stderr().print(Text(safe(_named(text))))


def log(text: str) -> None:
    """Prints a line of the log as it is."""
    stderr().print(Text(text), soft_wrap=True)


@contextmanager
def busy(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Shows on stderr what the command is doing; nothing without a terminal, or beside a progress bar."""
    console = stderr()
    if quiet or not console.is_terminal or _live is not None:
        yield
        return
    with console.status(Text(f"{safe(what)} …")), _on(console):
        yield


@contextmanager
def progress(*columns: ProgressColumn, quiet: bool = False, expand: bool = True) -> Iterator[Progress]:
    """A progress bar on stderr; nothing is shown without a terminal.

    Warnings, notes and lines of the log that come meanwhile are printed above it.
    """
    from rich.progress import Progress

    console = stderr()
    hidden = quiet or not console.is_terminal
    with (
        Progress(*columns, console=console, disable=hidden, transient=True, expand=expand) as bar,
        nullcontext() if hidden else _on(console),
    ):
        yield bar


@contextmanager
def _on(console: Console) -> Iterator[None]:
    """Has everything printed on the console that shows something live: another one would write across it."""
    global _live
    before, _live = _live, console
    try:
        yield
    finally:
        _live = before


def warn(text: str) -> None:
    """Prints a warning."""
    stderr().print(Text.assemble(("warning: ", "bold yellow"), safe(_named(text))))


def fail(text: str) -> None:
    """Prints an error as one line."""
    stderr().print(Text.assemble(("error: ", "bold red"), safe(_named(text))))


def program() -> str:
    """The command that starts this program, for messages that suggest the next command."""
    called = Path(sys.argv[0])
    if called.name != "vecbridge":
        return "python -m vecbridge"
    on_path = shutil.which("vecbridge")
    return (
        "vecbridge" if on_path and Path(on_path).resolve() == called.resolve() else shlex.quote(str(called))
    )


def set_command(arguments: Sequence[str]) -> None:
    """Keeps the arguments of this call, for messages that repeat them."""
    global _command
    _command = tuple(arguments)


def command() -> str:
    """This very command, to be typed again; "" where it may hold a secret."""
    if not _command or any(_SECRET.search(argument) for argument in _command):
        return ""
    return f"{program()} {shlex.join(_command)}"


def document(value: Any) -> None:
    """Prints the result as one JSON document; timestamps are ISO 8601 text."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    text = json.dumps(value, ensure_ascii=encoding != "utf8", indent=2, allow_nan=False, default=_json_value)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def in_options(text: str) -> str:
    """A message of the library with options for arguments: ``--model x`` for ``model='x'``."""
    for pattern, option in _OPTIONS:
        text = re.sub(pattern, option, text)
    return text


def cell(value: Any) -> str:
    """A value as text for a table: empty for null, lists with commas, six digits of floats, times in UTC."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return timestamps.readable(value)
    if isinstance(value, list | tuple):
        return _listed(value)
    return safe(str(value))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = ()) -> Table:
    """A table without lines; long cells are folded, not cut.

    Args:
        columns: Headings.
        rows: Cells, as :func:`cell` takes them or as Text.
        right: Headings of the columns that are aligned to the right.
    """
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        grid.add_column(name, justify="right" if name in set(right) else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(value if isinstance(value, Text) else Text(cell(value)) for value in row))
    return grid


def pairs(values: Iterable[tuple[str, Any]]) -> Table:
    """A table of names and values, one pair a line."""
    grid = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in values:
        grid.add_row(name, value if isinstance(value, Text) else Text(cell(value)))
    return grid


def number(count: int, what: str) -> str:
    """A count with its noun.

    Example:
        >>> number(1, "hit"), number(2000, "row")
        ('1 hit', '2,000 rows')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """A number of bytes with its unit.

    Example:
        >>> size(3_400_000)
        '3.4 MB'
    """
    return filesize.decimal(int(count))


def _named(text: str) -> str:
    for path, name in _names.items():
        text = text.replace(path, name)
    return text


def _listed(values: Sequence[Any]) -> str:
    if len(values) > 16 and all(isinstance(value, int | float) for value in values):
        return f"[{', '.join(f'{value:.4g}' for value in values[:3])}, … {len(values)} numbers]"
    return ", ".join(map(cell, values))


def _json_value(value: Any) -> str:
    if isinstance(value, datetime):
        return timestamps.text(timestamps.utc(value))
    raise TypeError(f"{type(value).__name__} is no JSON")
