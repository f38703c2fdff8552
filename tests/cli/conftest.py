"""Runs the command line in this process, in a directory of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vecbridge.cli import output
from vecbridge.cli.main import main

GALLERY = Path(__file__).parents[2] / "vecbridge" / "embed" / "bundled" / "gallery"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document that stdout must be."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in ``tmp_path``, where no setting of the machine reaches it."""
    for name in ("STORE", "MODEL", "RUNTIME", "DEVICE", "DTYPE", "LOG_LEVEL", "DEBUG"):
        monkeypatch.delenv(f"VECBRIDGE_{name}", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(output, "_debug", False)

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(each) for each in arguments])
        captured = capsys.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with eight pictures, a broken one, a text, metadata and a file of another kind."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    chosen = sorted(GALLERY.glob("1f4*.png"))[:8]
    for number, path in enumerate(chosen):
        shutil.copy(path, folder / ("more" if number > 4 else "") / f"{number}.png")
    (folder / "broken.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("a red car\nun perro\n", "utf-8")
    (folder / "data.csv").write_text("a,b\n")
    lines = [
        {"file_name": "0.png", "year": 2015, "tags": ["sea", "summer"], "title": "It's <b>zero</b>"},
        {"file_name": "1.png", "year": 2020, "tags": ["sea"], "title": "One"},
        {"file_name": "2.png", "year": 2021, "tags": [], "title": None},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a collection of twenty gallery pictures, which tests must not change."""
    import vecbridge as vb
    from vecbridge.embed.pipeline import embed_items
    from vecbridge.sources.images import ImageSource

    folder = tmp_path_factory.mktemp("pictures")
    lines = (GALLERY / "gallery.jsonl").read_text("utf-8").splitlines(keepends=True)[:100:5]
    (folder / "gallery.jsonl").write_text("".join(lines), "utf-8")
    for line in lines:
        shutil.copy(GALLERY / json.loads(line)["file"], folder)
    source = ImageSource([folder])
    directory = tmp_path_factory.mktemp("photos")
    letters: list[Any] = []
    with vb.embedder("bundled") as clip, vb.connect(f"faiss://{directory}") as store:
        fields = source.fields() | {"extra": "json"}
        spec = vb.CollectionSpec.single("photos", dim=clip.dim, fields=fields, embedder=clip.identity)
        with store.create(spec) as collection:
            vb.write(collection, embed_items(source, clip, spec, on_dead_letter=letters.append))
    assert letters == []
    return f"faiss://{directory}#photos"
