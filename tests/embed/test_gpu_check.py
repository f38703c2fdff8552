"""The GPU check finds what is wrong. There is no GPU here: it runs on the CPU, with a small model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def check(root: Path) -> Iterator[Any]:
    """The script, whose neighbours are imported from its own folder."""
    sys.path.insert(0, str(root / "benchmarks"))
    try:
        import gpu_check

        yield gpu_check
    finally:
        sys.path.remove(str(root / "benchmarks"))


@pytest.fixture
def bench(check: Any, bundled: Path, tmp_path: Path) -> Any:
    made = check.GpuBench(
        "cpu", tmp_path, (2, 4), 2, seconds=0.01, pictures=5, size=(64, 48), rows=3_000, shape=SHAPE
    )
    made.gallery = made.gallery[:8]
    return made


def test_vectors_on_both_runtimes_are_compared_and_hold(check: Any, bench: Any, tmp_path: Path) -> None:
    lines, took = check.checked(bench, ["vectors", "onnx"])
    assert list(took) == ["vectors", "onnx"]
    assert {line.holds for line in lines} == {True}
    whats = [line.what for line in lines]
    for model in ("bundled", "ViT-B/32 of random weights"):
        for kind in ("texts", "pictures"):
            for dtype in ("float32", "bfloat16"):
                assert sum(what.startswith(f"{model}, {kind}, {dtype}") for what in whats) >= 1
    assert sum("ONNX Runtime" in what for what in whats) == 4
    check.write(tmp_path / "out" / "gpu.json", bench, lines, took)
    written = json.loads((tmp_path / "out" / "gpu.json").read_text("utf-8"))
    assert [line["what"] for line in written["lines"]] == whats
    assert written["machine"]["torch"] == torch.__version__.partition("+")[0]
    assert bench.details["largest_difference"].keys() == {what.partition(":")[0] for what in whats}


@pytest.mark.parametrize("fault", ["swapped", "not finite", "rough"])
def test_wrong_vectors_do_not_hold(check: Any, bench: Any, fault: str) -> None:
    random = np.random.default_rng(1)
    right = random.standard_normal((20, 64)).astype(np.float32)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    found = right.copy()
    if fault == "swapped":
        found[[3, 4]] = found[[4, 3]]
    elif fault == "not finite":
        found[7, 0] = np.nan
    else:
        found += 0.01 * random.standard_normal(found.shape).astype(np.float32)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
    first, second = check.comparing.compared(bench, "x", found, right, "float32")
    assert first.holds is False
    assert second.holds is (fault == "rough")
    assert [line.holds for line in check.comparing.compared(bench, "x", right, right, "float32")] == [
        True
    ] * 2


def test_rates_come_beside_the_forward_pass_at_each_size_and_dtype(check: Any, bench: Any) -> None:
    lines = check.gpurates.rates(bench)
    wanted = [
        f"{dtype}, batches of {size}: from {kind}"
        for dtype in ("float32", "bfloat16")
        for size in (2, 4)
        for kind in ("prepared pixels", "JPEG files")
    ]
    assert [line.what for line in lines] == wanted
    assert all(line.unit == "pictures/s" and line.figure > 0 and line.baseline > 0 for line in lines)
    assert "no_time_for" not in bench.details


def test_what_there_is_no_time_or_no_memory_for_is_named(
    check: Any, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.until = 0.0
    assert check.gpurates.rates(bench) == []
    assert bench.details["no_time_for"][0] == "float32, batches of 2"
    bench.until = float("inf")

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(check.gpurates, "_measured", full)
    assert check.gpurates.rates(bench) == []
    assert bench.details["no_memory_for"] == bench.details["no_time_for"]

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(check.gpurates, "_measured", broken)
    with pytest.raises(RuntimeError, match="broken"):
        check.gpurates.rates(bench)


def test_hits_of_faiss_are_compared(check: Any, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    faiss = pytest.importorskip("faiss")
    monkeypatch.setattr(check.faissgpu, "INDEXES", (vb.IVFFlat(nlist=64),))
    monkeypatch.setattr(check.faissgpu, "QUERIES", 100)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # several wait for each other in a loop, which is slow on shared cores
    try:
        same, right, rate = check.faissgpu.lists(bench)
    finally:
        faiss.omp_set_num_threads(threads)
    assert (same.figure, same.holds, right.holds, rate.unit) == (1.0, True, True, "queries/s")
    shared = check.faissgpu._shared
    assert shared([["a", "b"], ["c", "d"]], [["b", "x"], ["d", "c"]]) == 0.75


def test_outcomes_of_the_marked_tests_are_counted(check: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_good(): pass

        def test_bad(): assert False

        @pytest.fixture
        def broken(): raise ValueError

        def test_worse(broken): pass

        @pytest.mark.skip
        def test_left_out(): pass
        """
    )
    pytester.runpytest_inprocess("--junitxml=r.xml", "-pno:cacheprovider", "-pno:asyncio")
    found = check.gpumarked.counted(pytester.path / "r.xml")
    assert found == {"passed": 1, "failed": 2, "skipped": 1}
    assert [line.holds for line in check.gpumarked.as_lines(found)] == [True, False, None]
    assert [line.holds for line in check.gpumarked.as_lines(Counter(skipped=3))] == [False, True, None]


def test_without_a_gpu_it_says_so_in_one_line_and_exits_with_77(
    check: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main(["--out", str(tmp_path)]) == 77
    out, err = capfd.readouterr()
    assert (out, err) == ("", f"No GPU to check: PyTorch {torch.__version__} sees no CUDA GPU.\n")
    assert list(tmp_path.iterdir()) == []


def test_tests_marked_gpu_are_skipped_with_the_reason_where_there_is_none(root: Path) -> None:
    file = "tests/stores/faiss/test_gpu.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", file, "-m", "gpu", "--stores=", "-pno:cacheprovider"],
        cwd=root, env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(root)}, capture_output=True,
        text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "no GPU: " in done.stdout
    assert " passed" not in done.stdout
