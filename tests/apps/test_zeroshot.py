"""Zero-shot classification: what a label's vector is, what probabilities are, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbridge as vb
from tests.apps.tables import DIM, TableModel, named_axes
from vecbridge.apps import ZeroShotClassifier
from vecbridge.apps.labels import read_labels
from vecbridge.apps.templates import TEMPLATES, filled, templates_of

GALLERY = Path(vb.__file__).parent / "embed" / "bundled" / "gallery"
BARE = ("{}",)


@pytest.fixture
def model() -> TableModel:
    return named_axes()


def with_logits(model: TableModel, scale: float | None, bias: float | None = None) -> TableModel:
    model.logit_scale, model.logit_bias = scale, bias
    return model


def test_the_vector_of_a_label_is_the_mean_over_texts_and_templates(model: TableModel) -> None:
    templates = ["{}", "a photo of {}", "{} at night"]
    texts = {"home": ["house", "hut"], "pet": "dog"}
    classifier = ZeroShotClassifier(model, texts, templates=templates)
    for place, words in enumerate((["house", "hut"], ["dog"])):
        rows = model.embed_texts([template.replace("{}", word) for word in words for template in templates])
        mean = rows.mean(axis=0)
        expected = rows @ (mean / np.linalg.norm(mean))
        assert classifier.cosines(rows)[:, place] == pytest.approx(expected, abs=1e-6)


def test_templates_follow_the_language(model: TableModel) -> None:
    ZeroShotClassifier(model, ["perro", "gato"], language="es")
    assert sorted(model.asked) == sorted(
        filled(each, name) for each in TEMPLATES["es"] for name in ("perro", "gato")
    )
    assert len(TEMPLATES["en"]) == len(set(TEMPLATES["en"]))


def test_probabilities_without_a_bias_are_a_softmax_of_scaled_cosines(model: TableModel) -> None:
    classifier = ZeroShotClassifier(with_logits(model, 12.0), ["house", "dog", "boat"], templates=BARE)
    vectors = np.array([[0.6, 0, 0.8, 0], [0, 1, 0, 0]], np.float32)
    first, second = classifier.classify_vectors(vectors, k=3)
    powers = [math.exp(12 * cosine) for cosine in (0.6, 0.8, 0.0)]
    assert {each.label: each.probability for each in first.candidates} == pytest.approx(
        {name: power / sum(powers) for name, power in zip(("house", "dog", "boat"), powers, strict=True)}
    )
    assert [each.label for each in first.candidates] == ["dog", "house", "boat"]
    assert [each.probability for each in second.candidates] == pytest.approx([1 / 3] * 3)


def test_probabilities_with_a_bias_are_a_sigmoid_of_each_label(model: TableModel) -> None:
    classifier = ZeroShotClassifier(with_logits(model, 100.0, -16.5), ["house", "dog"], templates=BARE)
    [prediction] = classifier.classify_vectors([[0.2, 0, 0.17, 0.9]], k=2)
    length = math.sqrt(0.2**2 + 0.17**2 + 0.9**2)
    for each, value in zip(prediction.candidates, (0.2, 0.17), strict=True):
        assert each.probability == pytest.approx(1 / (1 + math.exp(-(100 * value / length - 16.5))), rel=1e-4)
    far = classifier.probabilities(np.array([[-1.0, 1.0]], np.float32))
    assert far is not None
    assert np.isfinite(far).all()
    assert far[0, 0] == pytest.approx(math.exp(-116.5), rel=1e-6)
    assert far[0, 1] == pytest.approx(1)


@pytest.mark.parametrize("scale", [None, "no attribute"])
def test_a_model_without_a_scale_gives_cosines_alone(model: TableModel, scale: Any) -> None:
    if scale is None:
        with_logits(model, None)
    classifier = ZeroShotClassifier(model, ["house", "dog"])
    [prediction] = classifier.classify(["dog.jpg"], k=2)
    assert [each.probability for each in prediction.candidates] == [None, None]
    assert classifier.probabilities(np.zeros((1, 2), np.float32)) is None


def test_the_length_of_a_vector_does_not_count(model: TableModel) -> None:
    classifier = ZeroShotClassifier(with_logits(model, 10.0), ["house", "dog"], templates=BARE)
    rows = np.random.default_rng(0).standard_normal((20, DIM)).astype(np.float32)
    one, two = classifier.classify_vectors(rows), classifier.classify_vectors(7 * rows)
    assert [each.label for each in one] == [each.label for each in two]
    assert [each.best.cosine for each in one] == pytest.approx([each.best.cosine for each in two], abs=1e-6)


def test_pictures_and_their_vectors_get_the_same_labels_in_order(model: TableModel) -> None:
    classifier = ZeroShotClassifier(model, ["house", "dog", "boat"], templates=BARE)
    images = [f"{name}.jpg" for name in ("boat", "dog", "house", "dog")]
    assert [each.label for each in classifier.classify(images)] == ["boat", "dog", "house", "dog"]
    assert classifier.classify_vectors(model.embed_images(images)) == classifier.classify(images)
    assert classifier.classify([]) == []
    assert len(classifier.classify(["dog.jpg"], k=99)[0].candidates) == 3


# -------------------------------------------------------------------------------------- none of these


def test_a_picture_below_the_bound_is_none_of_the_labels(model: TableModel) -> None:
    classifier = ZeroShotClassifier(model, ["house", "dog"], templates=BARE, none_below=0.7)
    sure, unsure = classifier.classify_vectors([[0.8, 0, 0, 0.6], [0.6, 0, 0, 0.8]])
    assert (sure.label, unsure.label) == ("house", None)
    assert (unsure.best.label, unsure.best.cosine) == ("house", pytest.approx(0.6))


def test_a_picture_nearest_to_another_text_is_none_of_the_labels(model: TableModel) -> None:
    classifier = ZeroShotClassifier(
        with_logits(model, 5.0), ["house", "dog"], templates=BARE, others=["snow", "boat"]
    )
    one, other = classifier.classify_vectors([[0.8, 0.6, 0, 0], [0.6, 0.8, 0, 0]], k=9)
    assert (one.label, other.label) == ("house", None)
    assert [each.label for each in other.candidates] == ["house", "dog"]
    assert sum(each.probability for each in other.candidates) < 0.5, "the others have their share"
    ZeroShotClassifier(model, ["dog"], others=["snow"])


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([], "no labels"),
        ({}, "no labels"),
        (["dog"], "one label, 'dog'"),
        ("dog", "not 'dog'"),
        (["dog", "cat", "dog"], "'dog' stands twice"),
        (["dog", " DOG"], "' DOG' stands twice, the first time as 'dog'"),
        (["dog", "\u200b"], "no text in which something can be seen"),
        (["dog", None], "None is no text"),
        ({"dog": [], "cat": "cat"}, "'dog' has no texts"),
        ({"dog": "dog", "cat": [""]}, "label 'cat': '' is no text"),
        ({"": "dog", "cat": "cat"}, "labels: ''"),
        (7, "not 7"),
    ],
)
def test_labels_that_cannot_be_are_refused(model: TableModel, labels: Any, says: str) -> None:
    with pytest.raises(vb.ConfigError) as refused:
        ZeroShotClassifier(model, labels)
    assert says in str(refused.value)
    assert model.asked == []


def test_a_label_among_the_others_is_refused() -> None:
    with pytest.raises(vb.ConfigError, match="stands twice"):
        read_labels(["dog", "cat"], ["Cat"])
    with pytest.raises(vb.ConfigError, match="others: a list"):
        read_labels(["dog", "cat"], "snow")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"language": "fr"}, "language='fr'; there are: en, es"),
        ({"language": "ES"}, "language='ES'"),
        ({"templates": []}, "templates=[]"),
        ({"templates": "a photo of {}"}, "a list of sentences"),
        ({"templates": ["a photo"]}, "one {}"),
        ({"templates": ["{} and {}"]}, "one {}"),
        ({"none_below": "0.3"}, "none_below='0.3'"),
        ({"none_below": float("nan")}, "none_below=nan"),
    ],
)
def test_options_that_cannot_be_are_refused(model: TableModel, options: dict[str, Any], says: str) -> None:
    with pytest.raises(vb.ConfigError) as refused:
        ZeroShotClassifier(model, ["dog", "cat"], **options)
    assert says in str(refused.value)


def test_vectors_and_pictures_that_cannot_be_are_refused(model: TableModel) -> None:
    classifier = ZeroShotClassifier(model, ["house", "dog"])
    with pytest.raises(vb.DimensionMismatchError, match=r"\(n, 4\) are wanted, not \(2, 3\)"):
        classifier.classify_vectors(np.zeros((2, 3)))
    with pytest.raises(vb.DimensionMismatchError):
        classifier.classify_vectors(np.zeros(DIM))
    with pytest.raises(vb.InvalidRecordError):
        classifier.classify(["dog.jpg", "broken.jpg"])
    for k in (0, -1, True, 1.5):
        with pytest.raises(vb.ConfigError, match="k="):
            classifier.classify(["dog.jpg"], k=k)


def test_braces_in_a_label_or_a_template_stay() -> None:
    assert filled("a {photo} of {}", "{x}") == "a {photo} of {x}"
    assert templates_of("en", ["{photo} {}"]) == ("{photo} {}",)


# ------------------------------------------------------------------------------ with the bundled model


def test_the_bundled_model_sorts_the_gallery_in_two_languages() -> None:
    pytest.importorskip("onnxruntime")
    lines = [json.loads(line) for line in (GALLERY / "gallery.jsonl").read_text("utf-8").splitlines()[::8]]
    with vb.embedder("bundled") as clip:
        vectors = clip.embed_images([GALLERY / line["file"] for line in lines])
        for language, key in (("en", "name"), ("es", "name_es")):
            names = [line[key] for line in lines]
            predictions = ZeroShotClassifier(clip, names, language=language).classify_vectors(vectors, k=40)
            right = sum(each.label == name for each, name in zip(predictions, names, strict=True))
            assert right >= 36, language
            for each in predictions:
                assert sum(candidate.probability for candidate in each.candidates) == pytest.approx(1)
