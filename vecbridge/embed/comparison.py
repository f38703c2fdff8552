"""Compares the runtimes and precisions that a model has on this machine; nothing chooses by it."""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from PIL import Image

from vecbridge.embed.base import Embedder, FloatArray, ImageLike
from vecbridge.embed.factory import Runtime, embedder
from vecbridge.errors import ConfigError, VecbridgeError

_Form: TypeAlias = tuple[Runtime, str]
#: What is compared; the first that runs is what the others' vectors are compared with.
FORMS: Final[tuple[_Form, ...]] = (
    ("torch", "float32"), ("onnx", "float32"), ("torch", "bfloat16"), ("torch", "float16"), ("onnx", "int8"),
)  # fmt: skip
_WORDS: Final = (
    "an",
    "old",
    "red",
    "dog",
    "cat",
    "house",
    "tree",
    "river",
    "behind",
    "the",
    "sea",
    "at night",
)
_MOST_WORDS: Final = 12


@dataclass(frozen=True, slots=True)
class Measured:
    """One runtime and precision.

    Attributes:
        runtime: "torch" or "onnx".
        dtype: What it computed in.
        pictures_per_s: Median of the rounds, from encoded pictures to vectors; None where it does not run.
        texts_per_s: The same of texts.
        cosine: The smallest between its vectors and those of the first that runs, float32.
        problem: Why it does not run; "" where it does.
    """

    runtime: str
    dtype: str
    pictures_per_s: float | None = None
    texts_per_s: float | None = None
    cosine: float | None = None
    problem: str = ""

    @property
    def options(self) -> str:
        """What chooses it on the command line."""
        return f"--runtime {self.runtime} --dtype {self.dtype}"


def compare(
    model: str | os.PathLike[str] = "bundled",
    *,
    device: str = "auto",
    images: Sequence[ImageLike] | None = None,
    pictures: int = 32,
    rounds: int = 3,
) -> list[Measured]:
    """Embeds the same pictures and texts by everything that can run a model, in turns.

    Args:
        model: As for :func:`vecbridge.embedder`.
        device: The same.
        images: Pictures to embed; None makes random ones of 640x480, as JPEG.
        pictures: How many of them; as many texts are embedded beside.
        rounds: Of which the medians are taken, after one to warm up.

    Returns:
        One entry each, the fastest with pictures first, and then what does not run.

    Raises:
        ConfigError: ``pictures`` or ``rounds`` below 1, no pictures, no such model or device.
        MissingDependencyError: No runtime is installed.
        InvalidRecordError: A picture cannot be read.

    Example:
        >>> from vecbridge.embed.comparison import compare
        >>> found = compare("bundled", pictures=2, rounds=1)
        >>> {each.runtime for each in found} == {"onnx", "torch"}
        True
    """
    if pictures < 1 or rounds < 1:
        raise ConfigError(f"pictures={pictures}, rounds={rounds}: at least 1 of each")
    items = _random_pictures(pictures) if images is None else list(images)[:pictures]
    if not items:
        raise ConfigError("images=[]: at least one picture")
    texts = _random_texts(len(items))
    with ExitStack() as stack:
        models, problems = _loaded(stack, model, device)
        cosines = _cosines(models, items, texts)
        by_picture = _rates(
            {form: partial(each.embed_images, items) for form, each in models.items()}, rounds
        )
        by_text = _rates({form: partial(each.embed_texts, texts) for form, each in models.items()}, rounds)
    found = [
        Measured(*form, len(items) / by_picture[form], len(texts) / by_text[form], cosines[form])
        for form in models
    ]
    return sorted(found, key=lambda each: -(each.pictures_per_s or 0.0)) + problems


def _loaded(
    stack: ExitStack, model: str | os.PathLike[str], device: str
) -> tuple[dict[_Form, Embedder], list[Measured]]:
    models: dict[_Form, Embedder] = {}
    problems: dict[_Form, VecbridgeError] = {}
    for form in FORMS:
        runtime, dtype = form
        try:
            loaded = embedder(model, device=device, runtime=runtime, dtype=dtype)
        except VecbridgeError as exc:
            problems[form] = exc
        else:
            models[form] = stack.enter_context(loaded)
    if not models:
        raise next(iter(problems.values()))
    return models, [Measured(*form, problem=str(each)) for form, each in problems.items()]


def _cosines(
    models: dict[_Form, Embedder], images: Sequence[ImageLike], texts: Sequence[str]
) -> dict[_Form, float]:
    """The smallest to the first model; this also warms all of them up."""
    vectors: dict[_Form, FloatArray] = {
        form: np.concatenate([each.embed_images(images), each.embed_texts(texts)])
        for form, each in models.items()
    }
    exact = next(iter(vectors.values()))
    return {form: float(np.clip((each * exact).sum(axis=1), -1, 1).min()) for form, each in vectors.items()}


def _rates(actions: dict[_Form, Callable[[], object]], rounds: int) -> dict[_Form, float]:
    """Median seconds of each, in turns of alternating order."""
    taken: dict[_Form, list[float]] = {form: [] for form in actions}
    order = list(actions)
    for _ in range(rounds):
        for form in order:
            begun = time.perf_counter()
            actions[form]()
            taken[form].append(time.perf_counter() - begun)
        order.reverse()
    return {form: statistics.median(each) for form, each in taken.items()}


def _random_pictures(count: int) -> list[ImageLike]:
    """JPEGs of 640x480 in smooth colours, as photographs have; noise would take longer to decode."""
    random = np.random.default_rng(0)
    found: list[ImageLike] = []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
        file = io.BytesIO()
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(file, "jpeg", quality=90)
        found.append(file.getvalue())
    return found


def _random_texts(count: int) -> list[str]:
    random = np.random.default_rng(0)
    lengths = random.integers(2, _MOST_WORDS + 1, count)
    return [" ".join(random.choice(_WORDS, length)) for length in lengths]
