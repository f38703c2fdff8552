"""Zero-shot classification: pictures are sorted by labels that are given as text, with "none of these".

The data are the pictures that vecbridge ships, and the bundled model::

    python zero_shot.py
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import vecbridge as vb
from vecbridge.apps import ZeroShotClassifier, evaluate, none_threshold

GALLERY = Path(str(files("vecbridge"))) / "embed" / "bundled" / "gallery"


def main() -> None:
    pictures = [json.loads(line) for line in (GALLERY / "gallery.jsonl").read_text("utf-8").splitlines()]
    with vb.embedder("bundled") as clip:
        vectors = clip.embed_images([GALLERY / picture["file"] for picture in pictures])

        # A label may be described by several texts. Each is put into several sentences.
        labels = {"food": ["food", "hamburger"], "animal": ["animal", "bird"], "vehicle": ["car", "train"]}
        classifier = ZeroShotClassifier(clip, labels)
        [pizza] = classifier.classify([GALLERY / "1f355.png"], k=3)
        print("a pizza:", ", ".join(f"{each.label} {each.probability:.2f}" for each in pizza.candidates))

        # The same with labels and sentences in Spanish.
        spanish = ZeroShotClassifier(clip, ["perro", "pizza", "guitarra"], language="es")
        print("in Spanish:", spanish.classify([GALLERY / "1f355.png"])[0].label)

        # "None of these": every second name is held out. A bound is found with the first half of the
        # pictures, and what it costs is measured on the second half.
        names = [picture["name"] for picture in pictures]
        sorter = ZeroShotClassifier(clip, names[::2])
        best = [each.best.cosine for each in sorter.classify_vectors(vectors[:160])]
        bound = none_threshold(known=best[::2], unknown=best[1::2])
        careful = ZeroShotClassifier(clip, names[::2], none_below=bound)
        report = evaluate(careful.classify_vectors(vectors[160:]), names[160:], careful.labels)
        print("right:", report.right)
        print("false reject:", report.false_reject)
        print("false accept:", report.false_accept)


if __name__ == "__main__":
    main()
