"""Dynamic int8 by ONNX Runtime: weights of 8 bits, and products in whole numbers where the CPU has them."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vecbridge.embed.onnx import INT8_DIRECTORY, TOWERS
from vecbridge.errors import MissingDependencyError

try:
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference
except ImportError as exc:
    raise MissingDependencyError(exc.name or "onnx", extra="export") from exc

_LARGE: Final = 1_500_000_000  # bytes of a graph whose weights must lie beside it: a file of ONNX holds 2 GB


@contextmanager
def _quiet() -> Iterator[None]:
    """Without advice about preparing graphs, which is followed here."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantizer logs on it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)


def quantize(directory: Path) -> None:
    """Writes int8 graphs beside the float32 ones of a model's directory.

    Matrix products are of int8, scaled by row of the weights; what is left, such as the first convolution,
    stays in float32. Weights use 7 of the 8 bits: with all 8, CPUs without VNNI overflow in some sums.

    Args:
        directory: Of a model, with ``onnx/vision_model.onnx`` and ``onnx/text_model.onnx``.
    """
    target = directory / INT8_DIRECTORY
    target.mkdir()
    with tempfile.TemporaryDirectory(dir=directory, prefix=".int8-") as place, _quiet():
        for tower in TOWERS:
            name = f"{tower}_model.onnx"
            source, prepared = directory / "onnx" / name, Path(place) / name
            large = sum(path.stat().st_size for path in source.parent.glob(f"{name}*")) > _LARGE
            shape_inference.quant_pre_process(
                str(source), str(prepared), skip_symbolic_shape=True, save_as_external_data=large
            )
            quantization.quantize_dynamic(
                str(prepared),
                str(target / name),
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=True,
                weight_type=quantization.QuantType.QInt8,
                use_external_data_format=large,
            )
            onnx.checker.check_model(str(target / name))
