"""Input from standard input, pipes and compressed files, with real processes and pipes."""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Run = Callable[..., Any]  # the fixture of conftest.py

GALLERY = Path(__file__).parents[2] / "vecbridge" / "embed" / "bundled" / "gallery"
ROWS = [{"id": str(row), "vector": [1.0, float(row)], "year": 2000 + row} for row in range(5)]


def jsonl() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), file)
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([row["vector"] for row in ROWS], np.float32))
    return file.getvalue()


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True)) if data else b""


KINDS: dict[str, Callable[[], bytes]] = {"jsonl": jsonl, "parquet": parquet, "npy": npy}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory of its own, in which no command may leave anything."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def shell(folder: Path, script: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs a script of bash, in which ``vecbridge`` is this program."""
    program = f'vecbridge() {{ {shlex.quote(sys.executable)} -m vecbridge "$@"; }}\n'
    ran = subprocess.run(
        ["bash", "-c", program + script], cwd=folder, input=data, capture_output=True, timeout=120
    )
    assert b"Traceback" not in ran.stderr
    assert b"Exception ignored" not in ran.stderr
    assert not list((folder / "tmp").glob("vecbridge-*"))
    return ran


@pytest.mark.parametrize("kind", KINDS)
def test_standard_input_is_loaded_whatever_it_holds(tmp_path: Path, kind: str) -> None:
    ran = shell(tmp_path, "vecbridge load - --store faiss:./s#a --json", KINDS[kind]())
    assert (ran.returncode, json.loads(ran.stdout)["written"]) == (0, 5)


def test_process_substitution_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(jsonl())
    script = "vecbridge load <(head -2 rows.jsonl) <(tail -3 rows.jsonl) --store faiss:./s#a --json"
    ran = shell(tmp_path, script)
    assert (ran.returncode, json.loads(ran.stdout)["rows"]) == (0, 5)


@pytest.mark.parametrize("pack", [gzip.compress, zstd, lambda data: data], ids=["gzip", "zstd", "plain"])
def test_a_fifo_is_loaded_and_may_be_compressed(
    run: Run, tmp_path: Path, temporary: Path, pack: Callable[[bytes], bytes]
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=[pack(jsonl())])
    writer.start()
    ran = run("load", fifo, "--store", "faiss:./s#a", "--json")
    writer.join()
    assert (ran.code, ran.json["written"]) == (0, 5)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_compressed_files_are_loaded_with_or_without_the_suffix_of_their_content(
    run: Run, tmp_path: Path, temporary: Path, kind: str, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    for name in (f"rows.{kind}{suffix}", f"rows.2024{suffix}"):
        (tmp_path / name).write_bytes(pack(KINDS[kind]()))
        ran = run("load", name, "--store", f"faiss:./s#{name.replace('.', '_')}", "--json")
        assert (ran.code, ran.json["written"]) == (0, 5)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_files_compressed_in_several_parts_are_read_to_their_end(
    run: Run, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    lines = jsonl().splitlines(keepends=True)
    name = "rows.jsonl.gz" if pack is gzip.compress else "rows.jsonl.zst"
    (tmp_path / name).write_bytes(b"".join(map(pack, lines)))
    assert run("load", name, "--store", "faiss:./s#a", "--json").json["written"] == 5


@pytest.mark.parametrize(
    ("name", "data", "code", "says"),
    [
        ("cut.jsonl.gz", gzip.compress(jsonl() * 99)[:-9], 2, "cut.jsonl.gz: cannot be read"),
        ("cut.jsonl.zst", zstd(os.urandom(9999))[:-99], 2, "cut.jsonl.zst: cannot be read"),
        ("plain.jsonl.gz", jsonl(), 2, "plain.jsonl.gz: not compressed as .gz says"),
        ("plain.npy.zst", npy(), 2, "plain.npy.zst: not compressed as .zst says"),
        ("other.gz", gzip.compress(b"id,year\n"), 2, "say --format"),
        ("bomb.jsonl.gz", gzip.compress(bytes(20_000_000)), 1, "bomb.jsonl.gz has more than 1,000,000 bytes"),
        ("bomb.npy.zst", zstd(bytes(20_000_000)), 1, "--max-bytes"),
    ],
    # gzip notes the second in what it makes, and each worker of a test run must find the same names
    ids=["cut gz", "cut zst", "plain as gz", "plain as zst", "other", "bomb gz", "bomb zst"],
)
def test_damaged_files_and_bombs_are_refused_and_leave_nothing(
    run: Run, tmp_path: Path, temporary: Path, name: str, data: bytes, code: int, says: str
) -> None:
    (tmp_path / name).write_bytes(data)
    ran = run("load", name, "--store", "faiss:./s#a", "--max-bytes", "1MB")
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "s" / "a").exists()


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("free", [0, 10_000])
def test_a_copy_without_room_is_refused_and_leaves_nothing(
    run: Run, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(jsonl() * 999))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**30, 2**30 - free, free))
    ran = run("load", "rows.jsonl.gz", "--store", "faiss:./s#a")
    assert (ran.code, ran.out) == (1, "")
    assert "no room for a temporary copy" in ran.err
    assert "TMPDIR" in ran.err
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_is_told_to_end_removes_its_copy(
    tmp_path: Path, temporary: Path, number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "vecbridge", "load", "-", "--store", f"faiss:{tmp_path}/s#a"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(jsonl() * 5_000)
        process.stdin.flush()
        end = time.monotonic() + 60
        while not any(copy.stat().st_size for copy in temporary.glob("vecbridge-*/*")):
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(60) == code
        assert process.stderr is not None
        assert process.stderr.read().decode().splitlines()[-1] in ("Terminated.", "Interrupted.")
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("size", ["0", "-1", "many", "1.5x"])
def test_a_size_that_is_none_is_bad_usage(run: Run, size: str) -> None:
    ran = run("load", "rows.jsonl", "--store", "faiss:./s#a", f"--max-bytes={size}")
    assert (ran.code, ran.out) == (2, "")
    assert "--max-bytes" in ran.err


def test_an_unknown_format_is_bad_usage(run: Run) -> None:
    ran = run("load", "-", "--store", "faiss:./s#a", "--format", "csv")
    assert ran.code == 2
    assert "jsonl, parquet, npy" in ran.err


def test_format_is_believed_where_the_first_bytes_say_nothing(tmp_path: Path) -> None:
    script = "vecbridge load - --store faiss:./s#a --json"
    data = b"bad\n" + jsonl()
    assert shell(tmp_path, script, data).returncode == 2
    ran = shell(tmp_path, f"{script} --format jsonl", data)
    assert (ran.returncode, json.loads(ran.stdout)["written"]) == (1, 5)
    [letter] = map(json.loads, (tmp_path / "vecbridge-dead-letters.jsonl").read_text().splitlines())
    assert letter["source"] == "-:1"


def test_a_journal_names_a_pipe_and_compares_what_comes_out_of_it(run: Run, tmp_path: Path) -> None:
    def load(data: bytes) -> Any:
        fifo = tmp_path / f"fifo{len(list(tmp_path.iterdir()))}"  # another name each time
        os.mkfifo(fifo)
        writer = threading.Thread(target=fifo.write_bytes, args=[data])
        writer.start()
        ran = run("load", fifo, "--store", "faiss:./s#a", "--journal", "j", "--json")
        writer.join()
        return ran

    assert load(jsonl()).code == 0
    lines = (tmp_path / "j").read_text().splitlines(keepends=True)
    assert json.loads(lines[0])["source"] == "-"
    (tmp_path / "j").write_text("".join(lines[:-1]))  # as if it had been cut off before the end
    changed = load(jsonl().replace(b"2001", b"1999"))
    assert changed.code == 1
    assert "has changed since" in changed.err
    assert load(jsonl()).code == 0


def test_messages_name_what_was_typed_and_not_the_copy(run: Run, tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"id": 1}\n'))
    ran = run("load", "rows.jsonl.gz", "--store", "faiss:./s#a")
    assert ran.code != 0
    assert str(temporary) not in ran.err


def test_search_takes_a_picture_from_standard_input(run: Run, photos: str, tmp_path: Path) -> None:
    picture = next(GALLERY.glob("1f40*.png"))
    (tmp_path / "a.png").write_bytes(picture.read_bytes())
    command = f"vecbridge search --store {shlex.quote(photos)} --json --image"
    piped = json.loads(shell(tmp_path, f"{command} - --html p.html", picture.read_bytes()).stdout)
    substituted = json.loads(shell(tmp_path, f"{command} <(cat a.png)").stdout)
    plain = run("search", "--store", photos, "--json", "--image", "a.png").json
    assert piped["query"] == {"image": "-"}
    assert piped["hits"] == substituted["hits"] == plain["hits"]
    assert len(plain["hits"]) == 10
    assert str(tmp_path / "tmp") not in (tmp_path / "p.html").read_text("utf-8")


def test_standard_input_is_read_once(tmp_path: Path) -> None:
    ran = shell(tmp_path, "vecbridge load - - --store faiss:./s#a", jsonl())
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert b"once only" in ran.stderr


def test_no_picture_on_standard_input_is_refused(photos: str, tmp_path: Path) -> None:
    ran = shell(tmp_path, f"vecbridge search --store {shlex.quote(photos)} --image -", b"no picture")
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert ran.stderr.startswith(b"error: -: ")


@pytest.mark.parametrize(
    "command", ["search dog --store {photos}", "info {photos}", "load rows.jsonl --store faiss:./s#a --json"]
)
@pytest.mark.parametrize(("where", "code"), [("pipe", 1), ("/dev/full", 1), ("closed", 0)])
def test_results_that_nobody_can_read_are_no_traceback(
    run: Run, photos: str, tmp_path: Path, command: str, where: str, code: int
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(jsonl())
    text = "vecbridge " + command.format(photos=shlex.quote(photos))
    if where == "pipe":  # its reader has ended before anything is written
        text = f"exec 3> >(exec true); wait $!; {text} >&3"
    else:
        text += " >&-" if where == "closed" else f" > {where}"
    ran = shell(tmp_path, text)
    assert ran.returncode == code
    assert (b"No space left" in ran.stderr) == (where == "/dev/full")
    if command.startswith("load"):
        assert run("info", "faiss:./s#a", "--json").json["rows"] == 5


def test_head_gets_its_line_and_no_traceback(photos: str, tmp_path: Path) -> None:
    ran = shell(tmp_path, f"vecbridge search dog --store {shlex.quote(photos)} --json | head -1")
    assert (ran.returncode, ran.stdout) == (0, b"{\n")
