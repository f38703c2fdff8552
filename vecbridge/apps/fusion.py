"""Late fusion: several ranked lists become one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from vecbridge.errors import ConfigError
from vecbridge.query import FloatArray
from vecbridge.texts import shown

K = TypeVar("K", bound=Hashable)
Fusion = Literal["weighted", "rrf"]
#: Of reciprocal rank fusion: how slowly a place loses value. 60 is the constant of the paper.
RANK_CONSTANT: Final = 60


@dataclass(frozen=True, slots=True, eq=False)
class Ranking(Generic[K]):
    """One list of hits, best first.

    Attributes:
        name: What it is called in the scores of a hit.
        weight: How much it counts beside the others; not negative.
        keys: What was found; equal keys in several lists are one hit.
        scores: float32 of shape (hits,).
        higher_is_better: Whether the largest score is the best.
    """

    name: str
    weight: float
    keys: Sequence[K]
    scores: FloatArray
    higher_is_better: bool = True


def require_fusion(fusion: object) -> None:
    """Refuses an unknown method.

    Raises:
        ConfigError: Names those that there are.
    """
    if fusion not in get_args(Fusion):
        raise ConfigError(f"fusion={shown(fusion)}: one of {', '.join(get_args(Fusion))}")


def fuse(rankings: Sequence[Ranking[K]], fusion: Fusion) -> dict[K, float]:
    """The keys of all lists with their common score, best first; ties in the order of the lists.

    Args:
        rankings: At least one.
        fusion: "weighted" scales the scores of each list to 0 (its last hit) to 1 (its first) and takes their
            mean by weight; a hit that a list does not have counts 0 there. "rrf" is reciprocal rank fusion,
            the sum of weight / (60 + rank), which looks at no score (Cormack, Clarke and Büttcher, 2009).

    Raises:
        ConfigError: No such method, or weights that sum to 0.

    Example:
        >>> one = Ranking("picture", 1, ["a", "b", "c"], np.array([0.9, 0.8, 0.1], np.float32))
        >>> two = Ranking("caption", 1, ["b", "d"], np.array([0.5, 0.2], np.float32))
        >>> {key: round(score, 3) for key, score in fuse([one, two], "weighted").items()}
        {'b': 0.938, 'a': 0.5, 'c': 0.0, 'd': 0.0}
        >>> list(fuse([one, two], "rrf"))
        ['b', 'a', 'd', 'c']
    """
    require_fusion(fusion)
    total = sum(each.weight for each in rankings)
    if total <= 0:
        raise ConfigError("the weights sum to 0: give at least one list a positive weight")
    fused: dict[K, float] = {}
    for each in rankings:
        for key, points in zip(each.keys, _points(each, fusion), strict=True):
            share = each.weight / total if fusion == "weighted" else each.weight
            fused[key] = fused.get(key, 0.0) + share * float(points)
    return dict(sorted(fused.items(), key=lambda item: -item[1]))


def _points(ranking: Ranking[K], fusion: Fusion) -> NDArray[np.float64]:
    if fusion == "rrf":
        return 1 / (RANK_CONSTANT + 1.0 + np.arange(len(ranking.keys), dtype=np.float64))
    scores = ranking.scores.astype(np.float64)
    if not ranking.higher_is_better:
        scores = -scores
    if not len(scores):
        return scores
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)
