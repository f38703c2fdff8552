"""Draw training captions: labels and keywords, in templates, in six languages, at times without accents."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from training.concepts import LANGUAGES, Caption, Concept, Concepts

TEMPLATES: dict[str, tuple[str, ...]] = {
    "en": (
        "a photo of {}",
        "a photo of a {}",
        "a picture of {}",
        "an emoji of {}",
        "an image of {}",
        "{} icon",
        "a drawing of {}",
        "an illustration of {}",
    ),
    "es": (
        "una foto de {}",
        "una imagen de {}",
        "un emoji de {}",
        "un dibujo de {}",
        "icono de {}",
        "una ilustración de {}",
        "la foto de un {}",
        "la foto de una {}",
    ),
    "fr": ("une photo de {}", "une image de {}", "un emoji de {}", "un dessin de {}"),
    "de": ("ein foto von {}", "ein bild von {}", "ein emoji: {}", "eine zeichnung von {}"),
    "pt": ("uma foto de {}", "uma imagem de {}", "um emoji de {}", "um desenho de {}"),
    "it": ("una foto di {}", "un'immagine di {}", "un'emoji di {}", "un disegno di {}"),
}
_AND = {"en": " and ", "es": " y ", "fr": " et ", "de": " und ", "pt": " e ", "it": " e "}
_SHARES = {"en": 0.36, "es": 0.28, "fr": 0.09, "de": 0.09, "pt": 0.09, "it": 0.09}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawn caption. `tags` is empty when the text holds the label, and so names one concept alone."""

    text: str
    language: str
    tags: tuple[str, ...]


def without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def draw(concept: Concept, chance: random.Random) -> Drawn:
    """Draw one caption of a concept."""
    language = chance.choices(LANGUAGES, [_SHARES[name] for name in LANGUAGES])[0]
    if language not in concept.captions:
        language = "en"
    caption = concept.captions[language]
    if caption.tags and chance.random() < 0.45:
        text, tags = _from_tags(caption, language, chance)
    else:
        text, tags = _from_label(caption, language, chance), ()
    return Drawn(without_accents(text) if chance.random() < 0.15 else text, language, tags)


def _from_label(caption: Caption, language: str, chance: random.Random) -> str:
    if chance.random() < 0.5:
        return chance.choice(TEMPLATES[language]).format(caption.label)
    if caption.tags and chance.random() < 0.3:
        return f"{caption.label}, {chance.choice(caption.tags)}"
    return caption.label


def _from_tags(caption: Caption, language: str, chance: random.Random) -> tuple[str, tuple[str, ...]]:
    count = min(len(caption.tags), chance.choice((1, 2, 2, 3, 4)))
    tags = tuple(chance.sample(caption.tags, count))
    text = chance.choice((" ", " ", ", ", _AND[language])).join(tags)
    if chance.random() < 0.3:
        text = chance.choice(TEMPLATES[language]).format(text)
    return text, tags


def corpus(concepts: Concepts) -> Iterator[str]:
    """Every text the tokenizer learns from."""
    for concept in concepts.rows:
        for caption in concept.captions.values():
            yield from (caption.label, without_accents(caption.label), *caption.tags)
    for templates in TEMPLATES.values():
        for template in templates:
            yield from [template.replace("{}", "")] * 20
