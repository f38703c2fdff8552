"""The model on the command line: where it runs, and what is refused before a collection is made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vecbridge as vb
from vecbridge.embed import factory
from vecbridge.embed.files import BUNDLED

Run = Callable[..., Any]  # the fixture of conftest.py
STORE = "faiss:./store#photos"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A directory with the bundled model's graphs, whose JSON files can be changed."""
    pytest.importorskip("onnxruntime")
    directory = tmp_path / "my-clip"
    directory.mkdir()
    for path in BUNDLED.glob("*.json"):
        (directory / path.name).write_bytes(path.read_bytes())
    (directory / "onnx").symlink_to(BUNDLED / "onnx")
    return directory


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(path.read_text("utf-8"))
    change(values)
    path.write_text(json.dumps(values), "utf-8")


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config.json", "projection_dim", None),
        ("tokenizer_config.json", "model_max_length", None),
        ("preprocessor_config.json", "crop_size", 32),
        ("preprocessor_config.json", "image_mean", "grey"),
    ],
)
def test_a_value_that_cannot_be_is_bad_usage_and_no_collection_is_made(
    run: Run, pictures: Path, checkpoint: Path, file: str, key: str, value: Any
) -> None:
    edit(checkpoint / file, lambda values: values.update({key: value}))
    ran = run("index", pictures, "--store", STORE, "--model", checkpoint)
    assert (ran.code, ran.out) == (2, "")
    assert file in ran.err
    assert key.partition("_size")[0] in ran.err or "pictures become 32 x 32" in ran.err
    with vb.connect("faiss:./store") as store:
        assert list(store.collections()) == []


def test_an_altered_tokenizer_is_refused_by_the_collection(
    run: Run, pictures: Path, checkpoint: Path
) -> None:
    assert run("index", pictures, "--store", STORE, "--model", checkpoint).code == 1, "one picture is broken"
    assert run("search", "a dog", "--store", STORE, "--model", checkpoint).code == 0
    edit(checkpoint / "tokenizer.json", lambda values: values["model"]["merges"].clear())
    for command in (("search", "a dog"), ("index", pictures)):
        ran = run(*command, "--store", STORE, "--model", checkpoint)
        assert ran.code == 1
        assert "another tokenizer" in ran.err


def test_a_collection_of_the_first_format_is_searched_with_one_warning(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecbridge.identity._told", set())
    with vb.embedder("bundled") as clip, vb.connect("faiss:./store") as store:
        now = clip.identity
        four = vb.EmbedderIdentity(now.model, now.revision, now.dim, now.preprocessing)
        store.create(vb.CollectionSpec.single("photos", dim=now.dim, embedder=four)).close()
    ran = run("search", "a dog", "--store", STORE)
    assert ran.code == 0
    assert ran.err.count("was recorded in format 1") == 1
    with vb.open(STORE) as opened:
        assert opened.spec.vector.embedder == four


@pytest.mark.parametrize("command", ["index", "search", "load", "demo", "doctor"])
def test_every_command_that_loads_a_model_passes_on_where_it_shall_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, photos: str, pictures: Path, command: str
) -> None:
    asked: list[tuple[str, str]] = []

    def remember(*_: Any, device: str, dtype: str, **__: Any) -> Any:
        asked.append((device, dtype))
        raise vb.ConfigError("no more is wanted")

    monkeypatch.setattr(factory, "embedder", remember)
    Path("rows.jsonl").write_text('{"id": "a", "vector": [1, 2]}\n')
    arguments = {
        "index": (pictures, "--store", STORE),
        "search": ("a dog", "--store", photos),
        "load": ("rows.jsonl", "--store", STORE, "--model", "bundled"),
        "demo": (),
        "doctor": (),
    }[command]
    assert run(command, *arguments, "--device", "cpu", "--dtype", "float32").code != 0
    monkeypatch.setenv("VECBRIDGE_DEVICE", "cuda:1")
    monkeypatch.setenv("VECBRIDGE_DTYPE", "bfloat16")
    run(command, *arguments)
    assert asked == [("cpu", "float32"), ("cuda:1", "bfloat16")]


@pytest.mark.parametrize(
    ("dtype", "words"),
    [("float8", "one of auto, float32, bfloat16, float16"), ("bfloat16", "--runtime torch can choose")],
)
def test_a_type_that_the_runtime_does_not_have_is_bad_usage(
    run: Run, photos: str, dtype: str, words: str
) -> None:
    ran = run("search", "a dog", "--store", photos, "--runtime", "onnx", "--dtype", dtype)
    assert ran.code == 2
    assert f"--dtype {dtype}" in ran.err
    assert words in ran.err


def test_a_text_search_loads_no_vision_tower_and_never_pandas(photos: str, tmp_path: Path) -> None:
    code = f"""
import sys
import onnxruntime
loaded = []
make = onnxruntime.InferenceSession
onnxruntime.InferenceSession = lambda path, **more: loaded.append(path) or make(path, **more)
from vecbridge.cli.main import main
try:
    main(["search", "a dog", "--store", {photos!r}, "--json"])
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = {{"pandas", "PIL", "sqlglot", "torch", "transformers", "huggingface_hub"}} & set(sys.modules)
print(len(loaded), loaded[0].endswith("text_model.onnx"), sorted(heavy), file=sys.stderr)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.stderr.splitlines()[-1] == "1 True []", ran.stderr
