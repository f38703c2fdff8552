"""Writing to an emulated Pinecone, beside the client's own ``upsert``; and how full the requests are."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import pinecone
import pyarrow as pa

import vecbridge as vb
from support import data
from support.harness import Line, Samples, Target, compared, in_turns, seconds
from vecbridge.store import Collection

KEY = "emulated"
LATENCY = 0.02
REQUEST_BYTES = 2 * 1024 * 1024
TRANSPORTS = ("rest", "grpc")
CLIENT_BATCHES = (100, 125, 200, 500, 1000)  # those that fit 2 MB
CLIENT_CONCURRENCY = (8, 16, 32)  # 8 is the client's default
FINALISTS = 3
Setting = tuple[int, int]  # batch_size, max_concurrency
Entity = dict[str, Any]


@dataclass(frozen=True)
class Records:
    """The records of one dimension, as vecbridge takes them and as a hand-written loop has them."""

    dim: int
    batches: list[pa.RecordBatch]
    entities: list[Entity]

    @classmethod
    def drawn(cls, rows: int, dim: int) -> Records:
        batches = list(data.chunks(data.spec("bench", dim, vb.Auto()), data.Mixture(dim), rows))
        return cls(dim, batches, _entities(batches))


def _entities(batches: list[pa.RecordBatch]) -> list[Entity]:
    """Records as the client takes them fastest."""
    found = []
    for batch in batches:
        lists = vb.vectors(batch).tolist()
        for row, values in zip(batch.drop_columns(["vector"]).to_pylist(), lists, strict=True):
            id = row.pop("id")
            metadata = {key: value for key, value in row.items() if value is not None}
            found.append({"id": id, "values": values, "metadata": metadata})
    return found


class Served:
    """An emulator in a process of its own.

    Args:
        *command: What Python runs.
    """

    def __init__(self, *command: str) -> None:
        arguments = [*command, "--port", "0", "--api-key", KEY, "--latency", str(LATENCY)]
        self._process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.host = self._process.stdout.readline().strip()
        self.client = pinecone.Pinecone(api_key=KEY, host=self.host, grpc_scheme="http")

    def close(self) -> None:
        """Ends it."""
        self.client.close()
        self._process.terminate()
        self._process.communicate()

    @contextmanager
    def collection(self, transport: str, dim: int) -> Iterator[Collection]:
        """A collection of its own, dropped afterwards."""
        spec = data.spec(f"bench_{uuid.uuid4().hex[:12]}", dim, vb.Auto())
        url = self.host.replace("http://", "pinecone://")
        with vb.connect(url, api_key=KEY, transport=transport) as store:
            collection = store.create(spec)
            try:
                yield collection
            finally:
                store.drop(spec.name)

    def order(self, fault: dict[str, Any]) -> None:
        """Has a fault befall requests from now on; see ``vecbridge.testing.pinecone.faults``."""
        body = json.dumps(fault).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.host}/_emulator/faults", body)).close()

    def heal(self) -> None:
        """Ends all faults."""
        asked = urllib.request.Request(f"{self.host}/_emulator/faults", method="DELETE")
        urllib.request.urlopen(asked).close()

    def request_sizes(self) -> list[int]:
        """Bytes of each upsert of more than one record since this was asked for last."""
        with urllib.request.urlopen(f"{self.host}/_emulator/log") as answer:
            requests = json.load(answer)["requests"]
        asked = urllib.request.Request(f"{self.host}/_emulator/log", method="DELETE")
        urllib.request.urlopen(asked).close()
        return [each["bytes"] for each in requests if each["operation"] == "upsert" and each["rows"] > 1]


@contextmanager
def emulated() -> Iterator[Served]:
    """An emulator, for a while."""
    server = Served("-m", "vecbridge.testing.pinecone")
    try:
        yield server
    finally:
        server.close()


class PineconeBench:
    """An emulator, one that reads upserts after it acknowledged them, and the records.

    Args:
        rows: Records.
        dim: Their vectors' dimension.
        small_dim: And where the emulator, which reads one vector after another, takes less time than the
            latency that is to be hidden.
        rounds: Repetitions.
    """

    def __init__(self, rows: int, dim: int, small_dim: int, rounds: int) -> None:
        self.rows, self.rounds = rows, rounds
        self.details: dict[str, Any] = {}
        self.large, self.small = Records.drawn(rows, dim), Records.drawn(rows, small_dim)
        self.emulator = Served("-m", "vecbridge.testing.pinecone")
        self.deferred = Served(str(Path(__file__).with_name("deferred.py")))

    def __enter__(self) -> PineconeBench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.emulator.close()
        self.deferred.close()


def requests(bench: PineconeBench) -> list[Line]:
    """How much of the 2 MB that a request may have is used, on average."""
    lines = []
    records, server = bench.large, bench.emulator
    for transport in TRANSPORTS:
        server.request_sizes()
        seconds_to_write(server, transport, records, partial(own_write, records))
        sizes = server.request_sizes()
        tried = tried_settings(server, transport, records)
        most = max(rows for rows, _ in tried)
        server.request_sizes()
        seconds_to_write(server, transport, records, partial(_client, server, records, transport, (most, 8)))
        theirs = server.request_sizes()
        bench.details[f"request_bytes_{transport}"] = sizes
        shares = [sum(some) / len(some) / REQUEST_BYTES for some in (sizes, theirs)]
        what = f"{transport}: share of 2 MB used, {bench.rows:,} x {records.dim} in {len(sizes)} requests"
        against = f"the client, batch_size={most}, {len(theirs)} requests"
        lines.append(Line("requests", what, "", *shares, against, Target("figure", ">=", 0.85)))
    return lines


def writes(bench: PineconeBench) -> list[Line]:
    """Upserts of all records through the latency: vb.write beside the client in its best settings."""
    lines = []
    for transport in TRANSPORTS:
        lines += _writes(bench, bench.emulator, transport, bench.small, "")
    for transport in TRANSPORTS:
        lines += _writes(bench, bench.deferred, transport, bench.large, ", read afterwards")
    for transport in TRANSPORTS:
        lines += _writes(bench, bench.emulator, transport, bench.large, "")
    return lines


def _writes(bench: PineconeBench, server: Served, transport: str, records: Records, how: str) -> list[Line]:
    """Every setting of the client is tried once; the fastest take turns with vecbridge.

    The baseline is the best median of them: with the dicts made in its time, as vecbridge starts from Arrow
    too, and with the dicts made beforehand.
    """
    what = f"{transport}: upsert of {bench.rows:,} x {records.dim} through {LATENCY * 1000:g} ms{how}"
    tried = tried_settings(server, transport, records)
    fastest = sorted(tried, key=lambda setting: tried[setting])[:FINALISTS]
    forms: dict[str, Callable[[Collection], None]] = {"own": partial(own_write, records)}
    for setting in fastest:
        shown = f"upsert(batch_size={setting[0]}, max_concurrency={setting[1]})"
        forms[shown] = partial(client_from_arrow, server, records, transport, setting)
        forms[f"{shown}, of dicts made beforehand"] = partial(_client, server, records, transport, setting)
    actions = {
        name: partial(seconds_to_write, server, transport, records, form) for name, form in forms.items()
    }
    times = in_turns(actions, bench.rounds)
    rates = {name: Samples(tuple(bench.rows / each for each in some)) for name, some in times.items()}
    bench.details[f"client_rows_per_s: {what}"] = {
        f"batch_size={rows}, max_concurrency={concurrency}": round(bench.rows / taken)
        for (rows, concurrency), taken in tried.items()
    }
    own = rates.pop("own")
    made = {name: rate for name, rate in rates.items() if name.endswith("beforehand")}
    whole = {name: rate for name, rate in rates.items() if name not in made}
    best, best_made = (max(some, key=lambda name: some[name].median) for some in (whole, made))
    return [
        compared("write", what, "rows/s", own, whole[best], best, Target("ratio", ">=", 1)),
        compared("write", what, "rows/s", own, made[best_made], best_made),
    ]


def tried_settings(server: Served, transport: str, records: Records) -> dict[Setting, float]:
    """Seconds by setting of the client, of dicts made beforehand; without those that 2 MB cannot hold."""
    found = {}
    for rows in CLIENT_BATCHES:
        for concurrency in CLIENT_CONCURRENCY:
            write = partial(_client, server, records, transport, (rows, concurrency))
            try:
                found[rows, concurrency] = seconds_to_write(server, transport, records, write)
            except RequestTooLarge:
                break
    return found


def seconds_to_write(
    server: Served, transport: str, records: Records, write: Callable[[Collection], None]
) -> float:
    """Writes everything to a fresh collection, after one record that opens the connections."""
    with server.collection(transport, records.dim) as collection:
        collection.upsert(records.batches[0].slice(0, 1))
        taken = seconds(partial(write, collection))
        collection.flush()
        rows = sum(batch.num_rows for batch in records.batches)
        if (count := collection.count()) != rows:
            raise RuntimeError(f"{count} rows of {rows} arrived")
    return taken


def own_write(records: Records, collection: Collection) -> None:
    vb.write(collection, records.batches)


class RequestTooLarge(Exception):
    """A batch of the client takes more than the 2 MB of a request."""


def _client(
    server: Served, records: Records, transport: str, setting: Setting, collection: Collection
) -> None:
    """The client's own upsert of the same records to the same index."""
    _upsert(server, records.entities, transport, setting, collection)


def client_from_arrow(
    server: Served, records: Records, transport: str, setting: Setting, collection: Collection
) -> None:
    """The same, its dicts made in its time."""
    _upsert(server, _entities(records.batches), transport, setting, collection)


def _upsert(
    server: Served, entities: list[Entity], transport: str, setting: Setting, collection: Collection
) -> None:
    rows, concurrency = setting
    name = collection.spec.name.replace("_", "-")
    with server.client.index(name, grpc=transport == "grpc") as index:
        answer = index.upsert(
            vectors=entities, batch_size=rows, max_concurrency=concurrency, show_progress=False
        )
    if answer.has_errors:
        message = answer.errors[0].error_message
        if "too large" in message:
            raise RequestTooLarge(message)
        raise RuntimeError(f"{answer.failed_item_count} rows failed: {message}")
