"""The GPU check: pictures a second, from prepared pixels and from files, beside the forward pass alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from support.gpu import VIT, GpuBench
from support.harness import Line, Samples, in_turns, paired, seconds
from vecbridge.embed.base import Pixels

T = TypeVar("T")
UNIT = "pictures/s"


def rates(bench: GpuBench) -> list[Line]:
    """Each dtype and batch size; what there was no time or no memory for is named in the details."""
    lines: list[Line] = []
    for dtype in bench.dtypes:
        with bench.embedder(bench.models[VIT], dtype) as embedder:
            pixels = [embedder.prepare(path) for path in bench.jpegs]
            for size in bench.batches:
                what = f"{dtype}, batches of {size}"
                if bench.seconds_left <= 0:
                    bench.details.setdefault("no_time_for", []).append(what)
                    continue
                try:
                    lines += _measured(bench, embedder, pixels, size, what)
                except Exception as exc:
                    if not embedder._out_of_memory(exc):
                        raise
                    bench.details.setdefault("no_memory_for", []).append(what)
    return lines


def _measured(bench: GpuBench, embedder: Any, pixels: list[Pixels], size: int, what: str) -> list[Line]:
    embedder.batch_size = size
    forward = _forward(embedder, _repeated(pixels, size))
    actions: dict[str, Callable[[int], object]] = {
        "forward": lambda count: [forward() for _ in range(count // size)],
        "pixels": lambda count: embedder.embed_prepared(_repeated(pixels, count)),
        "files": lambda count: embedder.embed_images(_repeated(bench.jpegs, count)),
    }
    counts = {name: _count(bench, action, size) for name, action in actions.items()}
    found = in_turns(
        {
            name: lambda name=name: counts[name] / seconds(lambda: actions[name](counts[name]))
            for name in actions
        },
        bench.rounds,
    )
    if embedder.batch_size != size:  # a batch did not fit, and was halved
        bench.details.setdefault("halved", {})[what] = embedder.batch_size
    samples = {name: Samples(tuple(some)) for name, some in found.items()}
    return [
        paired(name, f"{what}: from {of}", UNIT, samples[name], samples["forward"], "the forward pass")
        for name, of in (("pixels", "prepared pixels"), ("files", "JPEG files"))
    ]


def _count(bench: GpuBench, action: Callable[[int], object], size: int) -> int:
    """How many pictures take about as long as a measurement should: whole batches, one at least."""
    action(size)  # the first call chooses kernels and gets memory
    rate = size / seconds(lambda: action(size))
    return size * max(1, round(rate * bench.seconds / size))


def _forward(embedder: Any, pixels: list[Pixels]) -> Callable[[], None]:
    """The vision tower of transformers on a batch that is on the device; its result goes to the CPU."""
    import torch

    from vecbridge.embed.torch_device import place

    batch = place(embedder.preprocessing.normalise(np.stack(pixels)), embedder.device, embedder.dtype)

    def run() -> None:
        with torch.inference_mode():
            found = embedder.model.get_image_features(pixel_values=batch)
        getattr(found, "pooler_output", found).float().cpu()

    return run


def _repeated(items: Sequence[T], count: int) -> list[T]:
    return list(itertools.islice(itertools.cycle(items), count))
