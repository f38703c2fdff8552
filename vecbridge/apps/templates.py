"""Sentences that labels are put into, because models were trained on captions and not on single words.

One label in several sentences, and the mean of their vectors, is the prompt ensemble of Radford et al., 2021
(https://arxiv.org/abs/2103.00020, section 3.1.4). The sentences here are general: for one kind of pictures,
sentences that name it ("a satellite photo of {}") do better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from vecbridge.errors import ConfigError, suggestion
from vecbridge.texts import shown

#: By language. None has an article that would have to agree with the label, but for English "a".
TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "en": (
        "{}",
        "a photo of {}",
        "a photo of a {}",
        "a picture of {}",
        "an image of {}",
        "a drawing of {}",
        "an illustration of {}",
    ),
    "es": (
        "{}",
        "una foto de {}",
        "una fotografía de {}",
        "una imagen de {}",
        "un dibujo de {}",
        "una ilustración de {}",
    ),
}
#: The label as it stands.
BARE: Final = ("{}",)
_PLACE: Final = "{}"


def templates_of(language: str, templates: Sequence[str] | None = None) -> tuple[str, ...]:
    """The templates of a language, or those given.

    Args:
        language: "en" or "es".
        templates: Sentences with ``{}`` where the label goes; None is those of the language.

    Raises:
        ConfigError: No such language, no sentences, or one without exactly one ``{}``.

    Example:
        >>> templates_of("es")[1]
        'una foto de {}'
        >>> templates_of("en", ["a satellite photo of {}"])
        ('a satellite photo of {}',)
    """
    if templates is None:
        if language not in TEMPLATES:
            raise ConfigError(f"language={shown(language)}{suggestion(str(language), TEMPLATES)}")
        return TEMPLATES[language]
    if isinstance(templates, str) or not isinstance(templates, Sequence) or not templates:
        raise ConfigError(f"templates={shown(templates)}: a list of sentences with {{}} for the label")
    for each in templates:
        if not isinstance(each, str) or each.count(_PLACE) != 1:
            raise ConfigError(f"template {shown(each)}: a sentence with one {{}}, where the label goes")
    return tuple(templates)


def filled(template: str, label: str) -> str:
    """The sentence about a label; braces in the label stay as they are.

    Example:
        >>> filled("a photo of {}", "a {b}")
        'a photo of a {b}'
    """
    return template.replace(_PLACE, label)
