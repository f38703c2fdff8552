"""What an embedder is: a Protocol that any model can implement, CLIP or not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vecbridge.errors import ConfigError
from vecbridge.identity import EmbedderIdentity

FloatArray = NDArray[np.float32]
Pixels = NDArray[np.uint8]
# A path, encoded bytes, a PIL.Image.Image, or an array of shape (height, width, 3)
ImageLike = str | os.PathLike[str] | bytes | Pixels | Any

DTYPES: Final = ("auto", "float32", "bfloat16", "float16", "int8")


def require_dtype(dtype: str) -> None:
    """Refuses a misspelt ``dtype``.

    Raises:
        ConfigError: None of :data:`DTYPES`.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype!r}: one of {', '.join(DTYPES)}")


class Embedder(Protocol):
    """Turns texts and pictures into vectors that can be compared with each other.

    Attributes:
        identity: Which model this is; collections refuse vectors of another.
        dim: Length of the vectors.
        note: What users should know about this model before they trust it; often empty.

    Example:
        >>> import vecbridge as vb
        >>> def closest(model: vb.Embedder, text: str, choices: list[str]) -> str:
        ...     scores = model.embed_texts(choices) @ model.embed_texts([text])[0]
        ...     return choices[scores.argmax()]
        >>> with vb.embedder("bundled") as model:
        ...     closest(model, "a red heart", ["a sailing boat", "a heart"])
        'a heart'
    """

    @property
    def identity(self) -> EmbedderIdentity: ...  # noqa: D102 - the class says it

    @property
    def dim(self) -> int: ...  # noqa: D102

    @property
    def note(self) -> str: ...  # noqa: D102

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Vectors of texts: float32 of shape (n, dim), unit length; (0, dim) for none.

        Raises:
            InvalidRecordError: Something is no string; ``rows`` names every such item.
        """
        ...

    def embed_images(self, images: Sequence[ImageLike]) -> FloatArray:
        """Vectors of pictures: float32 of shape (n, dim), unit length; (0, dim) for none.

        Args:
            images: Each a path, encoded bytes, a ``PIL.Image.Image`` or a uint8 array of shape
                (height, width, 3).

        Raises:
            InvalidRecordError: Something cannot be read; ``rows`` names every such item.
        """
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class StagedEmbedder(Protocol):
    """An embedder whose preparation of pictures can run in other threads, ahead of the model."""

    def prepare(self, image: ImageLike) -> Pixels:
        """One picture as the model's input size: uint8 of shape (3, height, width). Thread-safe.

        Raises:
            InvalidRecordError: It cannot be read.
        """
        ...

    def embed_prepared(self, pixels: Sequence[Pixels]) -> FloatArray:
        """Vectors of prepared pictures: float32 of shape (n, dim), unit length."""
        ...
