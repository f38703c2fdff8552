"""The GPU check: are the vectors of a GPU those of the CPU?"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

import vecbridge as vb
from support.gpu import BUNDLED_MODEL, TEXTS, GpuBench
from support.harness import Line, Target
from vecbridge.embed.base import FloatArray
from vecbridge.errors import ConfigError

#: The least cosine of a vector to that of the CPU in float32. PyTorch computes convolutions of float32 in
#: TF32 on a GPU, unless it is told otherwise.
LEAST_COSINE: Final = {"float32": 0.9999, "bfloat16": 0.99, "float16": 0.999}
#: How much nearer the vector of another item may be: items that look alike may change places.
_NEARER: Final = 1e-4


def vectors(bench: GpuBench) -> list[Line]:
    """Every vector beside that of the CPU in float32: texts and pictures, both models, each dtype."""
    lines: list[Line] = []
    for name, model in bench.models.items():
        pictures = bench.gallery if name == BUNDLED_MODEL else bench.jpegs
        with bench.embedder(model, "float32", device="cpu") as reference:
            wanted = _embedded(reference, pictures)
        for dtype in bench.dtypes:
            with bench.embedder(model, dtype) as made:
                found = _embedded(made, pictures)
            for kind, right in wanted.items():
                lines += compared(bench, f"{name}, {kind}, {dtype}", found[kind], right, dtype)
    return lines


def onnx(bench: GpuBench) -> list[Line]:
    """The bundled model's ONNX graphs on the device, beside the CPU."""
    if bench.device == "cuda" and not _onnx_has_cuda():
        bench.details["onnx"] = "not compared: ONNX Runtime is not installed, or has no CUDA"
        return []
    sides: list[dict[str, FloatArray]] = []
    for device in ("cpu", bench.device):
        try:
            made = vb.embedder("bundled", runtime="onnx", device=device)
        except ConfigError as exc:  # CUDA's libraries are of other versions
            bench.details["onnx"] = f"not compared: {exc}"
            return []
        with made:
            sides.append(_embedded(made, bench.gallery))
    lines: list[Line] = []
    for kind, right in sides[0].items():
        lines += compared(bench, f"{BUNDLED_MODEL}, {kind}, ONNX Runtime", sides[1][kind], right, "float32")
    return lines


def compared(bench: GpuBench, what: str, found: FloatArray, right: FloatArray, dtype: str) -> list[Line]:
    """Two lines: the least cosine of a vector to the right one, and that none is nearer to another's."""
    cosines = found @ right.T
    own = np.diagonal(cosines)
    others = np.where(np.eye(len(cosines), dtype=bool), -np.inf, cosines).max(axis=1)
    bench.details.setdefault("largest_difference", {})[what] = float(np.abs(found - right).max())
    lines = [
        Line(
            "vectors", f"{what}: least cosine to the CPU's", "", float(own.min()),
            target=Target("figure", ">=", LEAST_COSINE[dtype]),
        )
    ]  # fmt: skip
    if dtype == "float32":
        lines.append(
            Line(
                "vectors", f"{what}: how much nearer another's is, at most", "", float((others - own).max()),
                target=Target("figure", "<=", _NEARER),
            )
        )  # fmt: skip
    return lines


def _embedded(embedder: Any, pictures: list[Path]) -> dict[str, FloatArray]:
    return {"texts": embedder.embed_texts(TEXTS), "pictures": embedder.embed_images(pictures)}


def _onnx_has_cuda() -> bool:
    if find_spec("onnxruntime") is None:
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
