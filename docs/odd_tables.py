"""Makes odd files of vectors and of texts, for the page "Odd files"; needs NumPy and PyArrow alone."""

from __future__ import annotations

import decimal
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Make = Callable[[], bytes]
Row = tuple[str, str, Make]
#: Two rows, as ordinary as can be.
VECTORS = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
PLAIN = [{"id": "a", "vector": VECTORS[0]}, {"id": "b", "vector": VECTORS[1]}]
COLUMN = pa.array(VECTORS, pa.list_(pa.float32(), 3))


@dataclass(frozen=True)
class Odd:
    """An odd file: its name, what is odd about it, its content, and further arguments of the command."""

    name: str
    about: str
    make: Make
    arguments: tuple[str, ...] = ()


def tables() -> dict[str, list[Odd]]:
    """Every odd file for ``vecbridge load`` by kind, in the order of the page."""
    named = Odd("named.parquet", "two of embeddings, `--vector text_emb`", _two, ("--vector", "text_emb"))
    return {
        "JSON lines": [Odd(*row) for row in [*_encodings(), *_json(), *_rows()]],
        "Parquet": [*(Odd(*row) for row in [*_parquet(), *_types()]), named],
        "NumPy": [Odd(*row) for row in _npy()],
        "Compressed files and other suffixes": [Odd(*row) for row in _compressed()],
    }


def texts() -> list[Odd]:
    """Every odd file for ``vecbridge index``."""
    return [Odd(*row) for row in _texts()]


def lines(*rows: dict[str, Any]) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def with_field(*values: Any) -> bytes:
    """JSON lines with one field beside id and vector."""
    return lines(*({"id": str(i), "vector": VECTORS[i % 2], "n": value} for i, value in enumerate(values)))


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    """A Parquet file of these columns."""
    return _parquet_file(pa.table(columns), **options)


def npy(array: Any) -> bytes:
    """A NumPy file of this array."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _parquet_file(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue().to_pybytes())


def _column(values: Any, type: Any = None) -> bytes:
    return parquet({"id": ["a", "b"], "vector": COLUMN, "n": pa.array(values, type)})


def _integers() -> bytes:
    return parquet({"id": ["a", "b"], "v": [[1, 0, 0], [0, 1, 0]]})


def _two() -> bytes:
    return parquet({"id": ["a", "b"], "image_emb": COLUMN, "text_emb": COLUMN})


def _encodings() -> list[Row]:
    text = lines(*PLAIN).decode()
    utf16 = text.replace("a", "ä").encode("utf-16")
    return [
        ("empty.jsonl", "no byte", lambda: b""),
        ("blank.jsonl", "only blank lines", lambda: "\n \n\u3000\n\r\n".encode()),
        ("mark.jsonl", "UTF-8 with a mark", lambda: text.encode("utf-8-sig")),
        ("utf16.jsonl", "UTF-16 with a mark", lambda: utf16),
        ("utf16-no-mark.jsonl", "UTF-16 without a mark", lambda: text.encode("utf-16-le")),
        ("latin1.jsonl", "Latin-1", lambda: '{"id": "é", "vector": [1, 0, 0]}\n'.encode("latin-1")),
        ("crlf.jsonl", "lines end with CR and LF", lambda: text.replace("\n", "\r\n").encode()),
        ("power.jsonl", "NULs at the end, as after a power cut", lambda: text.encode() + bytes(500)),
        ("cut.jsonl", "the last line is cut", lambda: text.encode()[:-12]),
        ("long.jsonl", "a line of 10 MB", lambda: with_field("x" * 10_000_000, "y")),
        ("longer.jsonl", "a line of 20 MB", lambda: with_field("x", "x" * 20_000_000)),
    ]


def _json() -> list[Row]:
    array = json.dumps(PLAIN).encode()
    digits = array[:-2] + b', "n": ' + b"9" * 5000 + b"}]"
    comma = lines(*PLAIN).replace(b"]}\n", b"],}\n", 1)
    two = b'{"id": "b", "vector": [0, 1, 0], "n": 1, "n": 2}\n'
    return [
        ("array.jsonl", "a JSON array", lambda: array),
        ("array-cut.jsonl", "a JSON array, cut in its second record", lambda: array[:-12]),
        ("array-comma.jsonl", "a JSON array with a comma at its end", lambda: array[:-1] + b",]"),
        ("array-digits.jsonl", "a JSON array, and 5000 digits in one record", lambda: digits),
        ("array-of-lists.jsonl", "a JSON array of vectors alone", lambda: json.dumps(VECTORS).encode()),
        (
            "pretty.jsonl",
            "records over several lines",
            lambda: "\n".join(json.dumps(each, indent=2) for each in PLAIN).encode(),
        ),
        ("comma.jsonl", "a comma before a closing brace", lambda: comma),
        ("list.jsonl", "a line that is a list", lambda: lines(PLAIN[0]) + b"[1, 0, 0]\n"),
        ("twice.jsonl", "a key twice", lambda: lines(PLAIN[0]) + two),
        ("deep.jsonl", "100,000 lists in each other", lambda: with_field(1) + _nested(100_000)),
        ("nan.jsonl", "NaN in a field", lambda: with_field(1.5, float("nan"))),
        ("infinity.jsonl", "Infinity in a vector", lambda: with_field(1) + _vector("[Infinity, 0, 0]")),
        ("half.jsonl", "half of a surrogate pair", lambda: with_field("ok", "\ud800")),
    ]


def _nested(depth: int) -> bytes:
    return _vector("[1, 0, 0]")[:-2] + b', "n": ' + b"[" * depth + b"]" * depth + b"}\n"


def _vector(text: str) -> bytes:
    return f'{{"id": "z", "vector": {text}}}\n'.encode()


def _rows() -> list[Row]:
    half = [{"id": str(i)} | ({"vector": VECTORS[0]} if i % 2 else {}) for i in range(4)]
    return [
        ("nulls.jsonl", "only nulls in a field", lambda: with_field(None, None)),
        ("whole.jsonl", "whole numbers among others", lambda: with_field(1, 2.5)),
        ("mixed.jsonl", "numbers and texts in a field", lambda: with_field(1, "one")),
        ("2e53.jsonl", "2.5, and 2^53 + 1", lambda: with_field(2.5, 2**53 + 1)),
        ("2e63.jsonl", "2^63", lambda: with_field(1, 2**63)),
        (
            "digits.jsonl",
            "a number of 5000 digits",
            lambda: with_field(1) + with_field(7)[:-2] + b"9" * 5000 + b"}\n",
        ),
        ("1e400.jsonl", "1e400", lambda: with_field(1.5) + _vector("[1, 0, 0]")[:-2] + b', "n": 1e400}\n'),
        ("half-without.jsonl", "half of the lines have no vector", lambda: lines(*half)),
        ("ints.jsonl", "vectors of whole numbers", lambda: lines({"id": "a", "vector": [1, 0, 0]})),
        ("longer-vector.jsonl", "a vector is longer", lambda: with_field(1, 2) + _vector("[1, 0, 0, 0]")),
        ("text-vector.jsonl", "a vector is a text", lambda: with_field(1, 2) + _vector('"[1, 0, 0]"')),
        ("zero-vector.jsonl", "a vector of zeros", lambda: with_field(1) + _vector("[0, 0, 0]")),
        ("repeated.jsonl", "an id twice", lambda: lines(*PLAIN, {"id": "a", "vector": VECTORS[1]})),
        (
            "mixed-ids.jsonl",
            "ids are numbers and texts",
            lambda: lines(PLAIN[0], {"id": 7, "vector": VECTORS[1]}),
        ),
        ("no-id.jsonl", "no ids", lambda: lines({"vector": VECTORS[0]})),
        ("null-id.jsonl", "an id is null", lambda: lines(PLAIN[0], {"id": None, "vector": VECTORS[1]})),
        (
            "empty-id.jsonl",
            "an id is an empty text",
            lambda: lines(PLAIN[0], {"id": "", "vector": [0, 1, 0]}),
        ),
    ]


def _parquet() -> list[Row]:
    plain = {"id": ["a", "b"], "vector": COLUMN}
    index = {"index_columns": ["key_of_row"], "columns": [], "column_indexes": []}
    pandas = pa.table({"vector": COLUMN, "key_of_row": ["a", "b"]})
    pandas = pandas.replace_schema_metadata({"pandas": json.dumps(index)})
    return [
        ("empty.parquet", "no rows", lambda: _parquet_file(pa.table(plain).slice(0, 0))),
        ("zero.parquet", "no byte", lambda: b""),
        ("cut.parquet", "cut in half", lambda: (d := parquet(plain))[: len(d) // 2]),
        ("zeros.parquet", "1 kB of zeros", lambda: bytes(1024)),
        ("really.parquet", "JSON lines with the name of Parquet", lambda: lines(*PLAIN)),
        ("no-ids.parquet", "no ids", lambda: parquet({"vector": COLUMN})),
        ("index.parquet", "the ids are a pandas index", lambda: _parquet_file(pandas)),
        ("two.parquet", "two columns of embeddings", _two),
        ("none.parquet", "no vectors", lambda: parquet({"id": ["a", "b"], "n": [1, 2]})),
        ("ints.parquet", "a list of integers and no vector", _integers),
    ]


def _types() -> list[Row]:
    prices = [decimal.Decimal("1.50"), decimal.Decimal("2.25")]
    half = pa.array([np.array(row, np.float16) for row in VECTORS], pa.list_(pa.float16()))
    kinds = [
        ("nulls", "only nulls in a column", [None, None], pa.null()),
        ("typed-nulls", "only nulls in a column of integers", [None, None], pa.int64()),
        ("struct", "bytes inside a struct", [{"b": b"\0\xff"}, {"b": None}], None),
        ("bytes", "a column of bytes", [b"\0\xff", b""], None),
        ("dictionary", "a dictionary of texts", pa.array(["x", "y"]).dictionary_encode(), None),
        ("decimal", "decimals", prices, pa.decimal128(10, 2)),
        ("nanoseconds", "times in nanoseconds", [1_000, 1_001], pa.timestamp("ns", "UTC")),
        ("local", "times without a zone", [0, 1], pa.timestamp("us")),
        ("duration", "durations", [60, 61], pa.duration("s")),
        ("uint64", "2^63 as uint64", [1, 2**63], pa.uint64()),
        ("nan", "NaN in a field", [1.5, float("nan")], None),
    ]
    return [
        (
            "float16.parquet",
            "vectors of 16-bit floats",
            lambda: parquet({"id": ["a", "b"], "vector": half}),
        ),
        *(
            (f"{name}.parquet", about, lambda values=values, type=type: _column(values, type))
            for name, about, values, type in kinds
        ),
    ]


def _npy() -> list[Row]:
    plain = np.array(VECTORS, np.float32)
    return [
        ("plain.npy", "32-bit floats: nothing is odd", lambda: npy(plain)),
        ("no-rows.npy", "shape (0, 3)", lambda: npy(plain[:0])),
        ("no-columns.npy", "shape (2, 0)", lambda: npy(plain[:, :0])),
        ("1-d.npy", "shape (3,)", lambda: npy(plain[0])),
        ("3-d.npy", "shape (1, 2, 3)", lambda: npy(plain[None])),
        ("fortran.npy", "Fortran order", lambda: npy(np.asfortranarray(plain))),
        ("float16.npy", "16-bit floats, big-endian", lambda: npy(plain.astype(">f2"))),
        ("beyond.npy", "1e300 in 64 bits", lambda: npy(np.array([[1, 0, 0], [1e300, 0, 0]]))),
        ("complex.npy", "complex numbers", lambda: npy(plain.astype(np.complex64))),
        ("object.npy", "Python objects", lambda: npy(np.array([[1, None]], object))),
        ("cut.npy", "cut in the last row", lambda: npy(plain)[:-4]),
        ("cut-header.npy", "cut in the header", lambda: npy(plain)[:40]),
        ("empty.npy", "no byte", lambda: b""),
        ("really.npy", "JSON lines with the name of NumPy", lambda: lines(*PLAIN)),
    ]


def _compressed() -> list[Row]:
    packed = gzip.compress(lines(*PLAIN), mtime=0)
    zst = pa.compress(lines(*PLAIN), codec="zstd", asbytes=True)
    return [
        ("rows.jsonl.gz", "gzip", lambda: packed),
        ("rows.jsonl.zst", "Zstandard", lambda: zst),
        ("two.jsonl.gz", "two gzip files, one after the other", lambda: packed + gzip.compress(b"\n")),
        ("cut.jsonl.gz", "gzip, cut", lambda: packed[: len(packed) // 2]),
        ("cut.jsonl.zst", "Zstandard, cut", lambda: zst[: len(zst) // 2]),
        ("not.jsonl.gz", "JSON lines that are not compressed", lambda: lines(*PLAIN)),
        ("really-zst.jsonl.gz", "Zstandard with the name of gzip", lambda: zst),
        ("rows.gz", "no suffix before .gz", lambda: packed),
        ("array.npy.gz", "a NumPy file in gzip", lambda: gzip.compress(npy(np.eye(2, 3)), mtime=0)),
        ("rows.csv", "CSV", lambda: b"id,vector\na,1\n"),
    ]


def _texts() -> list[Row]:
    return [
        ("words.txt", "two lines and a blank one", lambda: b"a red car\n\nun perro\n"),
        ("empty.txt", "no byte", lambda: b""),
        ("wide.txt", "only ideographic spaces (U+3000)", lambda: "\u3000\u3000\n".encode()),
        ("zero-width.txt", "only zero-width spaces", lambda: "\u200b\u200b\n\ufeff\n".encode()),
        ("utf16-le.txt", "UTF-16, little end first", lambda: "\ufeffa red car\n".encode("utf-16-le")),
        ("utf16-be.txt", "UTF-16, big end first", lambda: "\ufeffa red car\n".encode("utf-16-be")),
        ("utf16-no-mark.txt", "UTF-16 without a mark", lambda: "a red car\n".encode("utf-16-le")),
        ("latin1.txt", "Latin-1 in the second line", lambda: b"a red car\ncaf\xe9\n"),
        ("long.txt", "a line of 100 kB", lambda: b"a red car\n" + b"word " * 20_000 + b"\n"),
        ("cr.txt", "lines end with CR alone", lambda: b"a red car\run perro\r"),
        ("nul.txt", "a NUL in the line", lambda: b"a red\0car\n"),
        ("really-a-png.txt", "the first bytes of a PNG", lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    ]
