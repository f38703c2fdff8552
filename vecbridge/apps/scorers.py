"""What gives an item its scores: any model behind one Protocol, and the one that needs no training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vecbridge.apps.policy import Category, Kind, Policy
from vecbridge.closing import Closing
from vecbridge.embed.base import Embedder, FloatArray
from vecbridge.errors import ConfigError

Scores = NDArray[np.float64]


class Scorer(Protocol):
    """Gives each item a score for each category: how likely it is that the category applies.

    Whatever it raises while it scores becomes a verdict of "review" for the items concerned.

    Attributes:
        model: Which model this is, with its revision, for logs.
    """

    @property
    def model(self) -> str: ...  # noqa: D102 - the class says it

    def require(self, policy: Policy) -> None:
        """Refuses a policy that it cannot score.

        Raises:
            ConfigError: Says which category, and what it lacks.
        """
        ...

    def score(self, kind: Kind, items: Sequence[Any], categories: Sequence[Category]) -> Scores:
        """Scores from 0 to 1: float64 of shape (items, categories).

        Args:
            kind: What the items are.
            items: ``PIL.Image.Image`` in mode RGB, or strings.
            categories: Those that apply to this kind.
        """
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...


class ZeroShotScorer(Closing):
    """Compares an item with the texts of each category; needs no training.

    A model of CLIP's kind gives the softmax over ``texts`` and ``negatives`` of a category, of which the
    shares of ``texts`` are added up (Radford et al., ICML 2021). One with a bias, as SigLIP, was trained with
    a sigmoid: the highest of ``texts`` counts, and negatives have no say (Zhai et al., ICCV 2023).
    The scale of both was learned between pictures and texts: for texts, calibrate before you trust a score.

    Args:
        embedder: Any; it is closed by whoever made it, unless ``owned``.
        owned: Whether :meth:`close` closes the embedder.

    Raises:
        ConfigError: The embedder does not tell its logit scale, without which a cosine is no probability.

    Example:
        >>> import vecbridge as vb
        >>> weapons = {"name": "weapons", "texts": ["dagger"], "negatives": ["flower"]}
        >>> policy = Policy.of(model="bundled", categories=[weapons | {"review": 0.4, "block": 0.8}])
        >>> with vb.embedder("bundled") as model:
        ...     scores = ZeroShotScorer(model).score("text", ["a dagger", "a flower"], policy.categories)
        >>> scores.round().tolist()
        [[1.0], [0.0]]
    """

    def __init__(self, embedder: Embedder, *, owned: bool = False) -> None:
        scale: float | None = getattr(embedder, "logit_scale", None)
        self.model: Final = f"{embedder.identity.model}@{embedder.identity.revision}"
        if scale is None:
            raise ConfigError(
                f"{embedder.identity.model} does not tell its logit scale, so that its similarities are no "
                "probabilities: take a model whose files have logit_scale, or a scorer of your own"
            )
        self._scale = scale
        self._bias: float | None = getattr(embedder, "logit_bias", None)
        self._embedder = embedder
        self._owned = owned
        self._prompts: dict[tuple[str, ...], FloatArray] = {}

    def require(self, policy: Policy) -> None:
        """Refuses a policy that it cannot score.

        Raises:
            ConfigError: A category without texts; without negatives, where a softmax needs them.
        """
        for category in policy.categories:
            if not category.texts:
                raise ConfigError(f"category {category.name!r} has no texts to compare items with")
            if self._bias is None and not category.negatives:
                raise ConfigError(
                    f"category {category.name!r} has no negatives: {policy.model} can only say which of "
                    "several texts fits best"
                )

    def score(self, kind: Kind, items: Sequence[Any], categories: Sequence[Category]) -> Scores:
        """Scores from 0 to 1, of shape (items, categories)."""
        of_pictures = kind == "image"
        found = self._embedder.embed_images(items) if of_pictures else self._embedder.embed_texts(items)
        vectors = found.astype(np.float64)
        scores = np.empty((len(items), len(categories)))
        for column, category in enumerate(categories):
            scores[:, column] = self._one(vectors, category)
        return scores

    def close(self) -> None:
        """Closes the embedder, if it is this scorer's own."""
        if self._owned:
            self._embedder.close()

    def _one(self, vectors: Scores, category: Category) -> Scores:
        if self._bias is not None:
            logits = self._scale * vectors @ self._vectors(category.texts).T + self._bias
            highest: Scores = logits.max(axis=1)
            return 1 / (1 + np.exp(-highest))
        prompts = self._vectors(category.texts + category.negatives)
        logits = self._scale * vectors @ prompts.T
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        total: Scores = shares[:, : len(category.texts)].sum(axis=1) / shares.sum(axis=1)
        return total.clip(0, 1)  # rounding may leave a sum of shares above 1

    def _vectors(self, texts: tuple[str, ...]) -> FloatArray:
        if texts not in self._prompts:
            self._prompts[texts] = self._embedder.embed_texts(texts)
        return self._prompts[texts]
