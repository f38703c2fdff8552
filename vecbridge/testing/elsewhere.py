"""Runs code in another process, as a test needs it that shows what several processes do to one collection.

The processes are forked from one that has imported the drivers and has done nothing else. A new interpreter
would take seconds each: for the clients of the databases, and for pandas, which Arrow imports with the first
array that it makes of Python values.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import selectors
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NoReturn

from vecbridge.testing.cases import StoreCase
from vecbridge.testing.maker import Maker, Undeclared

#: Has ``Process``, ``Pipe`` and ``Value`` as the module has them.
CHILDREN: Final = multiprocessing.get_context("forkserver")
#: What is imported before the first of them is started. Python passes over what is not installed.
PRELOADED: Final = (
    "pandas",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "vecbridge.collection",
    "vecbridge.registry",
    "vecbridge.stores.faiss.collection",
    "vecbridge.stores.milvus.collection",
    "vecbridge.stores.pinecone.collection",
    "vecbridge.stores.snapshot.collection",
    "vecbridge.stores.weaviate.collection",
)
CHILDREN.set_forkserver_preload(list(PRELOADED))

_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended.

    Attributes:
        returncode: Its exit status; minus the signal that killed it.
        stdout: What it and its children printed.
        stderr: What they printed as errors.
    """

    returncode: int
    stdout: str
    stderr: str


def run_elsewhere(code: str, case: StoreCase, **values: Any) -> Ended:
    """Runs code in another process, and waits until it and its children have closed their output.

    Args:
        code: Finds ``vb``, ``json``, the values and the case's ``options`` as variables.
        case: The store to be tested.
        values: What JSON can hold.

    Raises:
        TimeoutError: It took two minutes, and was killed.
    """
    variables = json.dumps(values | {"options": dict(case.options)})
    reader, writer = CHILDREN.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder, reader:
        errors = Path(folder, "errors")
        with writer:
            child = CHILDREN.Process(target=_run, args=(code, variables, dict(os.environ), writer, errors))
            child.start()
        try:
            output = _read_all(reader, time.monotonic() + _SECONDS)
            child.join()
        except TimeoutError:
            child.kill()
            child.join()
            raise
        assert child.exitcode is not None
        return Ended(child.exitcode, output, errors.read_text("utf-8") if errors.exists() else "")


def unseen_elsewhere(case: StoreCase, url: str, make: Maker) -> NoReturn:
    """Ends a test of several processes on a store for one, once another process was shown nothing of it.

    Args:
        case: The store to be tested.
        url: Its URL; its driver keeps its data in a fork, or refuses one.
        make: Makes a collection, which this process goes on to hold.

    Raises:
        Undeclared: The other process found no collection, or the store locked.
    """
    collection = make()
    code = """
try:
    with vb.open(url, **options) as photos:
        print(photos.count())
except vb.VecbridgeError as error:
    print(type(error).__name__)
"""
    done = run_elsewhere(code, case, url=f"{url}#{collection.spec.name}")
    assert done.stdout.strip() in ("NotFoundError", "StoreLockedError"), (done.stdout, done.stderr)
    assert collection.count() == 0
    raise Undeclared("reading in other processes")


def _read_all(reader: Connection, end: float) -> str:
    """Everything that is written to a pipe until its last writer is gone."""
    told = bytearray()
    with selectors.DefaultSelector() as ready:
        ready.register(reader, selectors.EVENT_READ)
        while ready.select(max(0.0, end - time.monotonic())):
            if not (piece := os.read(reader.fileno(), 1 << 16)):
                return told.decode("utf-8")
            told += piece
    raise TimeoutError(f"the process did not end within {_SECONDS:g} s; it printed {bytes(told)!r}")


def _run(code: str, variables: str, environment: Mapping[str, str], output: Connection, errors: Path) -> None:
    """What the process does."""
    import vecbridge

    with errors.open("wb") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.dup2(output.fileno(), sys.stdout.fileno())
    output.close()
    os.environ.clear()
    os.environ.update(environment)
    CHILDREN.set_forkserver_preload([])  # for a server that the code starts itself
    exec(code, {"__name__": "__main__", "vb": vecbridge, "json": json, **json.loads(variables)})
