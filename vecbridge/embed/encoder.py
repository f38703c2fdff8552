"""What the runtimes share: checking, preparing, batching, normalising."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from vecbridge.closing import Closing
from vecbridge.embed.ahead import ahead, default_threads
from vecbridge.embed.base import FloatArray, ImageLike, Pixels
from vecbridge.embed.files import ModelFiles
from vecbridge.embed.logits import Logits
from vecbridge.embed.preprocess import Preprocessing
from vecbridge.embed.tokens import IntArray, Tokens
from vecbridge.errors import BackendError, ConfigError, Failure, InvalidRecordError
from vecbridge.identity import IDENTITY_FORMAT, EmbedderIdentity
from vecbridge.sources.deadletters import printable

T = TypeVar("T")
log = logging.getLogger(__name__)

#: The largest batch on a CPU: a larger one takes more memory and is no faster.
MOST_ON_CPU: Final = 64
_TOKENISED: Final = 4096  # texts whose tokens are in memory at a time


class Encoder(Closing, ABC):
    """A CLIP model: two towers into one space. Runtimes add the towers.

    Args:
        files: Where the model is.
        tokens: Its tokenizer.
        dim: Length of its vectors.
        batch_size: Pictures or texts that go through a tower at a time.
        most: The largest batch, which bounds the memory beforehand; None where a full memory halves it.
        note: What users should know about the model.

    Raises:
        ConfigError: ``batch_size`` is not positive, or the model's files do not fit each other.
    """

    def __init__(
        self,
        files: ModelFiles,
        tokens: Tokens,
        *,
        dim: int,
        batch_size: int,
        note: str,
        most: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: at least 1")
        config = files.config()
        self.preprocessing: Preprocessing = files.preprocessing()
        tokens.require_fit(config)
        self.identity = EmbedderIdentity(
            files.model,
            files.revision,
            dim,
            self.preprocessing.hash,
            config=config.hash,
            tokenizer=tokens.hash,
            format=IDENTITY_FORMAT,
        )
        self.note = note
        if most is not None and batch_size > most:
            log.info("batch_size=%d: batches of %d, the most on a CPU", batch_size, most)
        self.batch_size = batch_size if most is None else min(batch_size, most)
        self._tokens = tokens
        self._logits = Logits()

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.identity.dim

    @property
    def logit_scale(self) -> float | None:
        """What cosines are multiplied by before a softmax or a sigmoid; None where it is unknown."""
        return self._logits.scale

    @property
    def logit_bias(self) -> float | None:
        """What is added before a sigmoid; None of a model without one, such as CLIP."""
        return self._logits.bias

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Vectors of texts.

        Args:
            texts: Strings; of a longer one than the model reads (77 tokens as a rule), the beginning counts.

        Returns:
            float32 of shape (n, dim), unit length.

        Raises:
            InvalidRecordError: Something is no string; ``rows`` names every such item.
            ConfigError: One string where a list is wanted.

        Example:
            >>> import vecbridge as vb
            >>> with vb.embedder("bundled") as model:
            ...     model.embed_texts(["a sunset", "a cat"]).shape
            (2, 256)
        """
        items = _listed(texts, "embed_texts")
        _refuse({row: problem for row, each in enumerate(items) if (problem := _text_problem(each))})
        found = np.empty((len(items), self.dim), np.float32)
        for start in range(0, len(items), _TOKENISED):
            encoded = self._tokens.ids(items[start : start + _TOKENISED])
            # texts of one length together, so that little is computed for padding; the sort is stable
            order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
            vectors = self._in_batches(
                [encoded[row] for row in order], lambda part: self._text_features(*self._tokens.pad(part))
            )
            found[start + np.array(order, np.int64)] = vectors
        return found

    def embed_images(self, images: Sequence[ImageLike]) -> FloatArray:
        """Vectors of pictures.

        Args:
            images: Each a path, encoded bytes, a ``PIL.Image.Image`` or a uint8 array (height, width, 3).

        Returns:
            float32 of shape (n, dim), unit length.

        Raises:
            InvalidRecordError: Something cannot be read; ``rows`` names every such item, with its path as id.
            ConfigError: One picture where a list is wanted.

        Example:
            >>> import numpy as np
            >>> import vecbridge as vb
            >>> picture = np.zeros((64, 96, 3), np.uint8)  # or a path, encoded bytes, a PIL image
            >>> with vb.embedder("bundled") as model:
            ...     model.embed_images([picture]).shape
            (1, 256)
        """
        items = _listed(images, "embed_images")
        vectors: list[FloatArray] = []
        problems: dict[int, str] = {}
        pixels: list[Pixels] = []
        for row, outcome in enumerate(self._prepared(items)):
            if isinstance(outcome, str):
                problems[row] = outcome
            else:
                pixels.append(outcome)
            # after the first problem nothing is computed: the rest is only looked at
            if problems:
                pixels.clear()
            elif len(pixels) == self.batch_size or row == len(items) - 1:
                vectors.append(self.embed_prepared(pixels))
                pixels = []
        _refuse(problems, items)
        return np.concatenate(vectors) if vectors else np.empty((0, self.dim), np.float32)

    def _prepared(self, items: list[ImageLike]) -> Iterator[Pixels | str]:
        """Pixels or the reason why there are none, for each item; the next batch is decoded meanwhile."""

        def work(item: ImageLike) -> Pixels | str:
            try:
                return self.prepare(item)
            except InvalidRecordError as exc:
                return exc.rows[0].error

        # Pillow's images are not thread-safe, so that one that is there twice is not decoded by two threads
        repeated = len({id(item) for item in items}) < len(items)
        if len(items) <= 1 or (repeated and any(not isinstance(item, str | bytes) for item in items)):
            yield from map(work, items)
            return
        threads = min(default_threads(), len(items))
        yield from ahead(items, work, threads=threads, depth=2 * self.batch_size, name="vecbridge-decode")

    def prepare(self, image: ImageLike) -> Pixels:
        """One picture at the model's input size: uint8 of shape (3, height, width). Thread-safe.

        Raises:
            InvalidRecordError: It cannot be read; ``rows[0].error`` is the reason.
        """
        return self.preprocessing.prepare(image)

    def embed_prepared(self, pixels: Sequence[Pixels]) -> FloatArray:
        """Vectors of prepared pictures: float32 of shape (n, dim), unit length."""
        return self._in_batches(
            pixels, lambda part: self._image_features(self.preprocessing.normalise(np.stack(list(part))))
        )

    @abstractmethod
    def close(self) -> None:
        """Lets go of the model; the embedder cannot be used afterwards."""

    @abstractmethod
    def _text_features(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """The text tower: int64 of shape (n, length) twice, to float32 of shape (n, dim)."""

    @abstractmethod
    def _image_features(self, pixels: FloatArray) -> FloatArray:
        """The vision tower: float32 of shape (n, 3, height, width) to float32 of shape (n, dim)."""

    def _out_of_memory(self, error: BaseException) -> bool:
        """Whether an error of a tower says that memory is full; each runtime has one such rule."""
        return isinstance(error, MemoryError)

    def _free(self) -> None:
        """Gives back what the runtime keeps of a batch that did not fit."""

    def _in_batches(self, items: Sequence[T], tower: Callable[[Sequence[T]], FloatArray]) -> FloatArray:
        """Runs a tower batch by batch; where the device has no room, half a batch is tried, for good."""
        parts: list[FloatArray] = []
        start = 0
        while start < len(items):
            part, full = items[start : start + self.batch_size], False
            try:
                parts.append(_unit(tower(part)))
            except Exception as exc:
                if not self._out_of_memory(exc):
                    raise
                if len(part) == 1:
                    raise BackendError(
                        "not even one item fits the device's memory: use device='cpu'"
                    ) from exc
                self.batch_size = min(self.batch_size, len(part) // 2)
                log.warning("the device's memory is full: batches of %d from here on", self.batch_size)
                # after this block: until then the error's frames hold the tensors of the failed batch
                full = True
            if full:
                self._free()
                continue
            start += len(part)
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)


def _unit(features: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):  # no direction is NaN, which every batch refuses
        unit: FloatArray = np.divide(features, lengths, dtype=np.float32)
    return unit


def _listed(items: Sequence[T], method: str) -> list[T]:
    if isinstance(items, str | bytes | os.PathLike) or not isinstance(items, Iterable):
        raise ConfigError(f"{method} takes a list, not one {type(items).__name__}: {method}([…])")
    return list(items)


def _text_problem(item: Any) -> str | None:
    if not isinstance(item, str):
        return f"{type(item).__name__} is no string"
    try:
        item.encode()
    except UnicodeEncodeError:
        return "half a surrogate pair is no text"
    return None


def _refuse(problems: dict[int, str], items: Sequence[Any] | None = None) -> None:
    """Raises what was found; items that are paths are named by them."""
    if not problems:
        return
    paths = {row: _path(items[row]) if items else None for row in problems}
    failures = [Failure(row, paths[row], error) for row, error in sorted(problems.items())]
    shown = "; ".join(
        f"item {each.row}{f' ({each.id})' if each.id else ''}: {each.error}" for each in failures[:3]
    )
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    raise InvalidRecordError(f"{shown}{more}", failures)


def _path(item: Any) -> str | None:
    return printable(os.fspath(item)) if isinstance(item, str | os.PathLike) else None
