"""Zero-shot classification: pictures are sorted by labels that are given as text, without training.

    labels x templates ──> embedder ──> one unit vector a label ─┐
    pictures, or vectors of a collection ────────────────────────┴─> cosines ──> softmax or sigmoid ──> labels

The method is that of CLIP (Radford et al., 2021); the sigmoid is SigLIP's (Zhai et al., 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecbridge.apps.labels import Labels, read_labels
from vecbridge.apps.templates import filled, templates_of
from vecbridge.embed.base import Embedder, FloatArray, ImageLike
from vecbridge.errors import ConfigError, DimensionMismatchError
from vecbridge.front.arguments import require_count
from vecbridge.texts import shown

_LARGEST_LOGIT: Final = 700.0  # the exponential of a larger one overflows
_BLOCK: Final = 4_096  # vectors that are compared at a time, so that many of them need no more memory


@dataclass(frozen=True, slots=True)
class Candidate:
    """One label for one picture.

    Attributes:
        label: The label.
        cosine: How near the picture is to its texts, from -1 to 1.
        probability: What the model makes of it; None of a model whose files have no logit scale.
    """

    label: str
    cosine: float
    probability: float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a picture was taken for.

    Attributes:
        label: The best label; None is "none of these".
        candidates: The best labels, best first, whether one was accepted or not.

    Example:
        >>> Prediction(None, (Candidate("dog", 0.21, 0.4),)).to_dict()
        {'label': None, 'candidates': [{'label': 'dog', 'cosine': 0.21, 'probability': 0.4}]}
    """

    label: str | None
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate:
        """The first of the candidates."""
        return self.candidates[0]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        candidates = [
            {"label": each.label, "cosine": each.cosine, "probability": each.probability}
            for each in self.candidates
        ]
        return {"label": self.label, "candidates": candidates}


class ZeroShotClassifier:
    """Sorts pictures by labels that are given as text. Thread-safe, as far as the embedder is.

    Args:
        embedder: The model. Its ``logit_scale`` makes probabilities of cosines; without one there are none.
        labels: Names, or names with the texts that describe them: ``{"bird": ["bird", "duck", "owl"]}``.
        language: Of the templates, "en" or "es".
        templates: Sentences with ``{}`` for the label, instead of those of the language; ``["{}"]`` is the
            label alone. The vector of a label is the mean over its texts and the templates.
        others: Texts of what else a picture may show. Where one of them is nearest, it is none of the labels.
        none_below: The least cosine of a label; below it, a picture is none of the labels.
            :func:`vecbridge.apps.none_threshold` finds one from examples.

    Raises:
        ConfigError: No label, one label without ``others``, a label twice, an unknown language, a template
            without ``{}``, a bound that is no number.

    Example:
        >>> import vecbridge as vb
        >>> from vecbridge.embed.files import BUNDLED
        >>> with vb.embedder("bundled") as clip:
        ...     classifier = ZeroShotClassifier(clip, ["dog", "pizza", "guitar"])
        ...     predictions = classifier.classify([BUNDLED / "gallery" / "1f355.png"])
        >>> predictions[0].label
        'pizza'
    """

    def __init__(
        self,
        embedder: Embedder,
        labels: Labels,
        *,
        language: str = "en",
        templates: Sequence[str] | None = None,
        others: Sequence[str] = (),
        none_below: float | None = None,
    ) -> None:
        named, rest = read_labels(labels, others)
        self.labels: tuple[str, ...] = tuple(named)
        self.templates = templates_of(language, templates)
        self.none_below = _bound(none_below)
        self.logit_scale = _number(embedder, "logit_scale")
        self.logit_bias = _number(embedder, "logit_bias")
        self._embedder = embedder
        self._prototypes = _prototypes(
            embedder, [*named.values(), *((text,) for text in rest)], self.templates
        )

    def classify(self, images: Sequence[ImageLike], *, k: int = 1) -> list[Prediction]:
        """The best labels of pictures.

        Args:
            images: Each a path, encoded bytes, a ``PIL.Image.Image`` or a uint8 array (height, width, 3).
            k: How many labels a picture, at most.

        Raises:
            InvalidRecordError: A picture cannot be read; ``rows`` names every such one.
            ConfigError: A k below 1.
        """
        require_count("k", k)
        return self.classify_vectors(self._embedder.embed_images(images), k=k)

    def classify_vectors(self, vectors: ArrayLike, *, k: int = 1) -> list[Prediction]:
        """The best labels of pictures that are embedded already, such as those of a collection.

        Args:
            vectors: Of the same model: shape (n, dim), of any length but 0.
            k: How many labels a picture, at most.

        Raises:
            DimensionMismatchError: They have another shape.
            ConfigError: A k below 1.
        """
        require_count("k", k)
        rows = self._rows(vectors)
        blocks = (rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK))
        return [prediction for block in blocks for prediction in self._predictions(self.cosines(block), k)]

    def cosines(self, vectors: ArrayLike) -> FloatArray:
        """Similarities of vectors to every label and, after these, to every text of ``others``.

        Returns:
            float32 of shape (n, labels + others).

        Raises:
            DimensionMismatchError: The vectors have another shape than (n, dim).
        """
        rows = self._rows(vectors)
        lengths: FloatArray = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
        lengths[lengths == 0] = 1
        unit: FloatArray = np.divide(rows, lengths)
        return unit @ self._prototypes.T

    def probabilities(self, cosines: FloatArray) -> NDArray[np.float64] | None:
        """What the model makes of cosines.

        Args:
            cosines: As :meth:`cosines` gives them.

        Returns:
            float64 of the same shape. Of a model without a bias (CLIP) a softmax, whose rows sum to 1; of one
            with it (SigLIP) a sigmoid of each label by itself. None where the model has no logit scale.
        """
        if self.logit_scale is None:
            return None
        logits: NDArray[np.float64] = self.logit_scale * cosines.astype(np.float64)
        if self.logit_bias is not None:
            bounded = np.clip(logits + self.logit_bias, -_LARGEST_LOGIT, _LARGEST_LOGIT)
            each: NDArray[np.float64] = 1 / (1 + np.exp(-bounded))
            return each
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return shares

    def _predictions(self, cosines: FloatArray, k: int) -> list[Prediction]:
        probabilities = self.probabilities(cosines)
        known = cosines[:, : len(self.labels)]
        order = np.argsort(-known, axis=1, kind="stable")[:, :k]
        predictions = []
        for row, rejected in enumerate(self._rejected(cosines)):
            candidates = tuple(
                Candidate(
                    self.labels[place],
                    float(known[row, place]),
                    None if probabilities is None else float(probabilities[row, place]),
                )
                for place in order[row]
            )
            predictions.append(Prediction(None if rejected else candidates[0].label, candidates))
        return predictions

    def _rows(self, vectors: ArrayLike) -> FloatArray:
        """Vectors as float32 of shape (n, dim).

        Raises:
            DimensionMismatchError: They have another shape.
        """
        rows: FloatArray = np.asarray(vectors, np.float32)
        dim = self._prototypes.shape[1]
        if rows.ndim != 2 or rows.shape[1] != dim:
            raise DimensionMismatchError(f"vectors of shape (n, {dim}) are wanted, not {rows.shape}")
        return rows

    def _rejected(self, cosines: FloatArray) -> NDArray[np.bool_]:
        """Which pictures are none of the labels."""
        best = cosines[:, : len(self.labels)].max(axis=1)
        rejected: NDArray[np.bool_] = np.zeros(len(best), np.bool_)
        if cosines.shape[1] > len(self.labels):
            rejected |= cosines[:, len(self.labels) :].max(axis=1) > best
        if self.none_below is not None:
            rejected |= best < self.none_below
        return rejected


def _prototypes(embedder: Embedder, texts: Sequence[Sequence[str]], templates: Sequence[str]) -> FloatArray:
    """One unit vector a label: the mean of those of its texts in every template."""
    prompts = [[filled(template, text) for text in some for template in templates] for some in texts]
    vectors = embedder.embed_texts([prompt for some in prompts for prompt in some])
    ends = np.cumsum([len(some) for some in prompts])[:-1]
    means = np.stack([part.mean(axis=0) for part in np.split(vectors, ends)])
    unit: FloatArray = means / np.linalg.norm(means, axis=1, keepdims=True)
    return unit


def _number(embedder: Embedder, name: str) -> float | None:
    """What a model says of its logits; an embedder of another make need not have it."""
    value = getattr(embedder, name, None)
    return None if value is None else float(value)


def _bound(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigError(f"none_below={shown(value)}: a number, the least cosine of a label")
    return float(value)
