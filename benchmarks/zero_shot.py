"""How often zero-shot classification of the gallery is right, beside two baselines; no target is set.

The bundled model was trained on pictures of this style and on these names, so that the figures say how the
parts play together, and nothing of how good the method is on pictures that a model has not seen.

Writes results/zero_shot.json. Labels: the names of the 320 pictures, and their five groups by the texts
below, which were written before anything was measured. Baselines: always the commonest label; the label's
texts without a sentence around them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from support.harness import machine

import vecbridge as vb
from vecbridge.apps import ZeroShotClassifier, evaluate, none_threshold
from vecbridge.apps.accuracy import Share
from vecbridge.apps.labels import Labels
from vecbridge.apps.templates import BARE
from vecbridge.embed.files import BUNDLED

GALLERY = BUNDLED / "gallery"
RESULTS = Path(__file__).parent / "results"
NAMES = {"en": "name", "es": "name_es"}
GROUPS: dict[str, dict[str, list[str]]] = {
    "en": {
        "animals-nature": ["animal", "plant"],
        "food-drink": ["food", "drink"],
        "travel-places": ["place", "vehicle"],
        "activities": ["sport", "game", "celebration"],
        "objects": ["object", "tool", "clothing"],
    },
    "es": {
        "animals-nature": ["animal", "planta"],
        "food-drink": ["comida", "bebida"],
        "travel-places": ["lugar", "vehículo"],
        "activities": ["deporte", "juego", "fiesta"],
        "objects": ["objeto", "herramienta", "ropa"],
    },
}
K = 5
SEED = 0
RESAMPLES = 10_000
SPLITS = 200


def percent(share: Share) -> dict[str, float]:
    """A share with its interval."""
    value = share.value or 0.0
    return {
        "R@1 %": round(100 * value, 1),
        "low": round(100 * share.low, 1),
        "high": round(100 * share.high, 1),
    }


def difference(one: np.ndarray, two: np.ndarray) -> str:
    """Mean of the paired differences in per cent, with the 95 % interval of a bootstrap over pictures."""
    gaps = one.astype(float) - two.astype(float)
    rows = np.random.default_rng(SEED).integers(0, len(gaps), (RESAMPLES, len(gaps)))
    low, high = np.quantile(gaps[rows].mean(axis=1), [0.025, 0.975])
    return f"{100 * gaps.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def recall(
    clip: vb.Embedder, vectors: np.ndarray, labels: Labels, truths: list[str], language: str, what: str
) -> list[dict[str, Any]]:
    """The lines of one set of labels in one language."""
    lines: list[dict[str, Any]] = []
    right: dict[str, np.ndarray] = {}
    for sentences, templates in (("no sentence", BARE), ("templates", None)):
        classifier = ZeroShotClassifier(clip, labels, language=language, templates=templates)
        predictions = classifier.classify_vectors(vectors, k=K)
        report = evaluate(predictions, truths, classifier.labels)
        right[sentences] = np.array(
            [each.label == truth for each, truth in zip(predictions, truths, strict=True)]
        )
        line = {"labels": what, "language": language, "method": sentences, **percent(report.right)}
        if len(classifier.labels) > K:
            line[f"R@{K} %"] = round(100 * (report.in_candidates.value or 0), 1)
        lines.append(line)
        if sentences == "templates":
            lines[-1]["beside no sentence"] = difference(right["templates"], right["no sentence"])
    always = {"labels": what, "language": language, "method": "commonest label"} | percent(report.largest)
    return [always, *lines]


def none_of_these(
    clip: vb.Embedder, vectors: np.ndarray, names: list[str], language: str
) -> list[dict[str, Any]]:
    """What "none of these" costs: half of the names are held out, and a threshold is found on half of both.

    The threshold is measured on the other half, whose names it has not seen. Mean and 2.5 to 97.5 % quantiles
    over random splits, which are not independent of each other.
    """
    classifier = ZeroShotClassifier(clip, names, language=language)
    cosines = classifier.cosines(vectors)
    chance = np.random.default_rng(SEED)
    found: dict[str, list[tuple[float, float, float]]] = {"cosine": [], "probability": []}
    for _ in range(SPLITS):
        order = chance.permutation(len(names))
        known, held_out = np.split(order, 2)
        some = cosines[:, known]
        probabilities = classifier.probabilities(some)
        assert probabilities is not None
        right = known[some.argmax(axis=1)] == np.arange(len(names))
        for score, best in (("cosine", some.max(axis=1)), ("probability", probabilities.max(axis=1))):
            (known_1, known_2), (other_1, other_2) = np.split(known, 2), np.split(held_out, 2)
            bound = none_threshold(best[known_1], best[other_1])
            accepted = best >= bound
            found[score].append(
                (accepted[other_2].mean(), 1 - accepted[known_2].mean(), (accepted & right)[known_2].mean())
            )
    return [
        {"language": language, "threshold on": score}
        | {
            name: spread([split[place] for split in splits])
            for place, name in enumerate(("false accept %", "false reject %", "right and accepted %"))
        }
        for score, splits in found.items()
    ]


def spread(values: list[float]) -> str:
    """Mean and quantiles in per cent."""
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{100 * np.mean(values):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> int:
    """Measure, print, write."""
    lines = [json.loads(line) for line in (GALLERY / "gallery.jsonl").read_text("utf-8").splitlines()]
    recalls: list[dict[str, Any]] = []
    rejections: list[dict[str, Any]] = []
    with vb.embedder("bundled") as clip:
        vectors = clip.embed_images([GALLERY / line["file"] for line in lines])
        groups = [line["group"] for line in lines]
        for language, key in NAMES.items():
            names = [line[key] for line in lines]
            recalls += recall(clip, vectors, names, names, language, f"{len(names)} names")
            recalls += recall(clip, vectors, GROUPS[language], groups, language, "5 groups")
            rejections += none_of_these(clip, vectors, names, language)
    values = {
        "machine": machine("onnxruntime"),
        "parameters": {"pictures": len(lines), "seed": SEED, "resamples": RESAMPLES, "splits": SPLITS},
        "recall at 1": recalls,
        "none of these": rejections,
    }
    for line in (*recalls, *rejections):
        print("  ".join(f"{name}: {value}" for name, value in line.items()))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "zero_shot.json").write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
