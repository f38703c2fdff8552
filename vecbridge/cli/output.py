"""What commands write: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

# C0 and C1 controls, and the marks that turn the direction of text: an id must not write to the terminal.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_UNBOUNDED: Final = 10_000  # columns of a table that no terminal shows: nothing in a pipe is cut
# What the library calls an argument, and the option that it is here.
_OPTIONS: Final = (
    (r"\bmodel='([^']+)'", r"--model \1"),
    (r"\bfollow_links=True\b", "--follow-links"),
    (r"\bid_column=", "--id"),
    (r"\bvectors=(?![\w'{\[])", "--vector"),
    (r"\busing=(?![\w'])", "--using"),
    (r"\bdevice='([^']+)'", r"--device \1"),
    (r"\bruntime='([^']+)'", r"--runtime \1"),
)
_debug = False


def set_debug(on: bool) -> None:
    """Turns tracebacks on or off for this process."""
    global _debug
    _debug = on


def debugging() -> bool:
    """Whether tracebacks are wanted, by ``--debug`` or ``VECBRIDGE_DEBUG``."""
    return _debug or os.environ.get("VECBRIDGE_DEBUG", "").lower() not in ("", "0", "false", "no", "off")


def show(*renderables: Any) -> None:
    """Prints results; in a pipe without the blanks that pad a table."""
    console = stdout()
    if console.is_terminal:
        console.print(*renderables, sep="\n")
        return
    with console.capture() as captured:
        console.print(*renderables, sep="\n")
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def line(text: Text) -> None:
    """A line of results that is not broken, so that it can be copied."""
    stdout().print(text, soft_wrap=True)


def stdout() -> Console:
    """A console for results; what is piped is as wide as its content."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNBOUNDED
    return console


def stderr() -> Console:
    """A console for progress and messages; a log's lines are not broken."""
    console = Console(stderr=True, highlight=False)
    console.soft_wrap = not console.is_terminal
    return console


def note(text: str) -> None:
    """A message for the user."""
    stderr().print(Text(safe(text)))


@contextmanager
def busy(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Says on stderr what takes its time; nothing without a terminal."""
    console = stderr()
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(Text(f"{safe(what)} …")):
        yield


def warn(text: str) -> None:
    """A message that matters."""
    stderr().print(Text.assemble(("warning: ", "bold yellow"), safe(text)))


def fail(text: str) -> None:
    """The one line that an error is."""
    stderr().print(Text.assemble(("error: ", "bold red"), safe(text)))


def program() -> str:
    """How this program was called, for commands to be typed next."""
    called = Path(sys.argv[0])
    if called.name != "vecbridge":
        return "python -m vecbridge"
    found = shutil.which("vecbridge")
    return "vecbridge" if found and Path(found).resolve() == called.resolve() else shlex.quote(str(called))


def document(value: Any) -> None:
    """The result as one JSON document."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    text = json.dumps(value, ensure_ascii=encoding != "utf8", indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def safe(text: str) -> str:
    """Text with its control characters made visible, so that data cannot steer the terminal.

    Example:
        >>> safe(chr(27) + "[31m") == chr(92) + "x1b[31m"
        True
    """
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def in_options(text: str) -> str:
    """A message of the library in the words of the command line: ``--model x`` for ``model='x'``."""
    for pattern, option in _OPTIONS:
        text = re.sub(pattern, option, text)
    return text


def cell(value: Any) -> str:
    """One value in a table: empty for null, lists with commas, floats short."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return safe(_listed(value))
    return safe(str(value))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = ()) -> Table:
    """A plain table; cells fold, so that nothing of them is lost.

    Args:
        columns: Headings.
        rows: Cells, as :func:`cell` takes them or as Text.
        right: Headings of the columns that are aligned to the right.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        made.add_column(name, justify="right" if name in set(right) else "left", overflow="fold")
    for row in rows:
        made.add_row(*(each if isinstance(each, Text) else Text(cell(each)) for each in row))
    return made


def pairs(values: Iterable[tuple[str, Any]]) -> Table:
    """Names and values below each other."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in values:
        made.add_row(name, value if isinstance(value, Text) else Text(cell(value)))
    return made


def number(count: int, what: str) -> str:
    """A count with its noun.

    Example:
        >>> number(1, "hit"), number(2000, "row")
        ('1 hit', '2,000 rows')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """Bytes in the largest unit that keeps them above one.

    Example:
        >>> size(3_400_000)
        '3.4 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _listed(values: Sequence[Any]) -> str:
    if len(values) > 16 and all(isinstance(each, int | float) for each in values):
        return f"[{', '.join(f'{each:.4g}' for each in values[:3])}, … {len(values)} numbers]"
    return ", ".join(str(each) for each in values)
