"""The concept table: one fixed unit vector a concept, which both towers learn to hit before they meet.

Latent semantic analysis of the captions in all languages places kindred concepts near each other; noise of
its own keeps any two apart.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from training.concepts import Concept, Concepts
from training.model import DIM

_SEMANTIC = 192
_SEMANTIC_SHARE, _NOISE_SHARE = 0.85, 0.5
_LABEL_WEIGHT = 1.5


def concept_table(concepts: Concepts) -> NDArray[np.float32]:
    """Unit vectors (concepts, 256) float32, the same for the same captions."""
    chance = np.random.default_rng(0)
    noise = _unit(chance.standard_normal((len(concepts.rows), DIM)))
    table = _NOISE_SHARE * noise
    table[:, :_SEMANTIC] += _SEMANTIC_SHARE * _unit(_semantic(_term_matrix(concepts)))
    rotation, _ = np.linalg.qr(chance.standard_normal((DIM, DIM)))
    return _unit(table @ rotation).astype(np.float32)


def _terms(concept: Concept) -> Counter[tuple[str, str]]:
    terms: Counter[tuple[str, str]] = Counter()
    for language, caption in concept.captions.items():
        for word in set(re.findall(r"\w+", caption.label.lower())):
            terms[language, word] += _LABEL_WEIGHT  # type: ignore[assignment]
        for tag in caption.tags:
            terms[language, tag] += 1
    return terms


def _term_matrix(concepts: Concepts) -> NDArray[np.float64]:
    """TF-IDF rows of unit length."""
    counts = [_terms(concept) for concept in concepts.rows]
    column = {
        term: number for number, term in enumerate(dict.fromkeys(term for row in counts for term in row))
    }
    matrix = np.zeros((len(counts), len(column)))
    for number, row in enumerate(counts):
        for term, weight in row.items():
            matrix[number, column[term]] = weight
    matrix *= np.log(len(counts) / (matrix > 0).sum(0))
    return _unit(matrix)


def _semantic(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The leading principal directions but the first, which says only that captions have common words."""
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    order = np.argsort(values)[::-1][1 : _SEMANTIC + 1]
    return np.asarray(vectors[:, order] * np.maximum(values[order], 0) ** 0.3)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6))
