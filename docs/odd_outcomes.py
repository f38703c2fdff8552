"""Runs ``vecbridge load`` and ``vecbridge index`` on odd files, and says in a cell what became of them."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import vecbridge as vb
from vecbridge.cli.main import main

URL = "memory:///odd-files#t"
COLUMNS = "| file | what is odd | what becomes of it |\n|---|---|---|\n"
LETTERS = "letters.jsonl"
COUNTS = {"written": "written", "failed": "failed", "duplicates": "replaced by a later row"}
SETTINGS = ("VECBRIDGE_", "COLUMNS", "FORCE_COLOR", "TTY_")
SHOWN = 36  # characters of a value
TABLES = """\
## Files of vectors

What `vecbridge load` does with them: how many rows were written, why others were not, and the notes.
Most files hold two rows with ids and vectors of three dimensions. Where there is a field `n`, its type and
its first value come last. Lines and records of an array are counted from 1, rows of
Parquet and NumPy files from 0.

"""
TEXTS = """\
## Texts

What `vecbridge index` does with them: each line is a record.

"""


def tables_part() -> str:
    """The section on files of vectors."""
    parts = (f"### {kind}\n\n" + _table(files, "load") for kind, files in _made().tables().items())
    return TABLES + "".join(parts)


def texts_part() -> str:
    """The section on texts."""
    return TEXTS + _table(_made().texts(), "index", "--model", "bundled")


def shipped_part() -> str:
    """The table of files that PyArrow and NumPy ship for their own tests."""
    rows = []
    for package, suffix in (("pyarrow", "parquet"), ("numpy", "npy")):
        spec = importlib.util.find_spec(package)
        assert spec
        assert spec.submodule_search_locations
        for path in sorted(Path(spec.submodule_search_locations[0]).rglob(f"*.{suffix}")):
            with _folder():
                Path(path.name).write_bytes(path.read_bytes())
                found = _escaped(_outcome("load", path.name))
            rows.append(f"| `{path.name}` | {package} {version(package)} | {found} |")
    about = "PyArrow and NumPy ship these for their own tests. None of them holds vectors.\n\n"
    columns = "| file | shipped by | what becomes of it |\n|---|---|---|\n"
    return about + columns + "\n".join(rows) + "\n"


def _made() -> Any:
    name = "odd_tables"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _table(odd_files: Iterable[Any], command: str, *arguments: str) -> str:
    rows = []
    for odd in odd_files:
        with _folder():
            Path(odd.name).write_bytes(odd.make())
            found = _outcome(command, odd.name, *arguments, *odd.arguments)
        rows.append(f"| `{odd.name}` | {odd.about} | {_escaped(found)} |")
    return COLUMNS + "\n".join(rows) + "\n\n"


@contextlib.contextmanager
def _folder() -> Iterator[None]:
    """An empty folder to work in, where no setting of the machine holds."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, kept, clear=True),
        contextlib.chdir(folder),
    ):
        yield


def _outcome(command: str, name: str, *arguments: str) -> str:
    """One cell: the counts, the reasons, the notes and the first value; or why the file is refused."""
    out, err = io.StringIO(), io.StringIO()
    options = ("--store", URL, "--json", "--quiet", "--dead-letters", LETTERS)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
        main([command, name, *arguments, *options])
    said = [_plain(line, name) for line in err.getvalue().splitlines()]
    said = [line for line in said if not line.startswith(("New collection", "Model: "))]
    if not out.getvalue():
        return "refused: " + "; ".join(said)
    counts = json.loads(out.getvalue())
    parts = [f"{counts[key]} {word}" for key, word in COUNTS.items() if counts[key] or key == "written"]
    return "; ".join([", ".join(parts), *_reasons(name), *said, *_stored(counts["index"] is not None)])


def _plain(line: str, name: str) -> str:
    for prefix in ("error: ", "warning: ", "Note: ", f"{name}: "):
        line = line.removeprefix(prefix)
    return line.rstrip(".")


def _reasons(name: str) -> Iterator[str]:
    """Why rows failed, with where they are."""
    path = Path(LETTERS)
    places: dict[str, list[str]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        letter = json.loads(line)
        places.setdefault(letter["error"], []).append(str(letter["source"]).rpartition(f"{name}:")[2])
    where = "row" if name.endswith((".parquet", ".npy")) else "line"
    for error, numbers in places.items():
        yield f"{where}{'s' * (len(numbers) > 1)} {' and '.join(numbers)}: {error}"


def _stored(is_there: bool) -> Iterator[str]:
    """The first value of the field, and its type; the collection is removed."""
    if not is_there:
        return
    with vb.connect(URL.partition("#")[0]) as store:
        with store.open("t") as collection:
            types = {field.name: field.type for field in collection.spec.fields}
            rows = [row for page in collection.scan() for row in page.batch.to_pylist()]
        store.drop("t")
    if "n" in types:
        value = "null" if rows[0]["n"] is None else str(rows[0]["n"])
        shown = value if len(value) <= SHOWN else value[:SHOWN] + "…"
        yield f"`n` is {types['n']}: `{shown}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
