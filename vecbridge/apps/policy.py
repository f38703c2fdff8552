"""A moderation policy: the categories of what is not wanted, and from which score on they count.

:mod:`vecbridge.apps.policy_file` reads one from YAML.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from vecbridge.errors import ConfigError, suggestion
from vecbridge.texts import is_visible, shown

Kind = Literal["image", "text"]
Verdict = Literal["allow", "review", "block"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
#: From the mildest to the worst.
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
VERSION: Final = 1
#: What pydantic calls a key that a model does not have, and one that is not there.
UNKNOWN_KEY: Final = "extra_forbidden"
_LONGEST_NAME: Final = 64
_STRICT: Final = ConfigDict(extra="forbid", frozen=True, strict=True)

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
# strict=False: YAML has lists, and the model keeps tuples; what they hold is still checked strictly
Texts = Annotated[tuple[Annotated[str, Field(strict=True)], ...], Field(strict=False)]
Kinds = Annotated[tuple[Kind, ...], Field(strict=False)]
#: In our words, what pydantic says of values of another type.
_TYPES: Final = {
    "float_type": "a number",
    "int_type": "a whole number",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "keys with values",
}


class Wrong(ValueError):
    """A value that cannot be right, in our words; pydantic passes it on.

    Args:
        text: What stands behind the name of the key.
        at: The place below the key, where it is not the key's value as a whole.
    """

    def __init__(self, text: str, at: tuple[str | int, ...] = ()) -> None:
        super().__init__(text)
        self.at = at


class Category(BaseModel):
    """One sort of content that is not wanted.

    Attributes:
        name: What verdicts call it.
        texts: Descriptions of it. What a scorer makes of them, its class says.
        negatives: Descriptions of what it may be confused with, or of the rest.
        review: A person looks at items of this score or more; from 0 to ``block``.
        block: Items of this score or more are blocked; from ``review`` to 1.
        applies_to: Whether pictures, texts or both are scored for it.
    """

    model_config = _STRICT

    name: str
    texts: Texts = ()
    negatives: Texts = ()
    review: Probability
    block: Probability
    applies_to: Kinds = KINDS

    @field_validator("name")
    @classmethod
    def _names_something(cls, name: str) -> str:
        if not is_visible(name) or len(name) > _LONGEST_NAME:
            raise Wrong(f"must be visible text of at most {_LONGEST_NAME} characters")
        return name

    @field_validator("texts", "negatives")
    @classmethod
    def _describes(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            if not is_visible(text):
                raise Wrong(": one of the texts is blank")
            if texts.count(text) > 1:
                raise Wrong(f": {shown(text)} is there twice")
        return texts

    @field_validator("applies_to")
    @classmethod
    def _applies_to_something(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
        if not kinds:
            raise Wrong("must name image, text or both")
        return kinds

    @field_validator("block")
    @classmethod
    def _above_review(cls, block: float, info: ValidationInfo) -> float:
        review = info.data.get("review", 0.0)
        if block < review:
            raise Wrong(f"must be at least review, which is {review:g}")
        return block

    def verdict(self, score: float) -> Verdict:
        """What follows from a score of this category.

        Example:
            >>> Category(name="weapons", review=0.4, block=0.8).verdict(0.5)
            'review'
        """
        if score >= self.block:
            return "block"
        return "review" if score >= self.review else "allow"


class Policy(BaseModel):
    """What is not wanted, and the model that judges it.

    Attributes:
        version: Of the format.
        model: Which model scores: "bundled", a hub id or a directory.
        categories: At least one; no two of a name.

    Example:
        >>> policy = Policy.of(
        ...     model="bundled",
        ...     categories=[{"name": "weapons", "texts": ["a knife"], "negatives": ["a spoon"],
        ...                  "review": 0.4, "block": 0.8}],
        ... )
        >>> [category.name for category in policy.applying("image")]
        ['weapons']
    """

    model_config = _STRICT

    version: int
    model: str
    categories: Annotated[tuple[Category, ...], Field(strict=False)]

    @field_validator("version")
    @classmethod
    def _is_read(cls, version: int) -> int:
        if version != VERSION:
            raise Wrong(f"must be {VERSION}, the one version of the format")
        return version

    @field_validator("model")
    @classmethod
    def _names_a_model(cls, model: str) -> str:
        if not is_visible(model):
            raise Wrong("must name a model")
        return model

    @field_validator("categories")
    @classmethod
    def _are_different(cls, categories: tuple[Category, ...]) -> tuple[Category, ...]:
        if not categories:
            raise Wrong(": at least one is needed")
        names = [category.name for category in categories]
        for row, name in enumerate(names):
            if name in names[:row]:
                raise Wrong(f": two categories are called {shown(name)}", at=(row, "name"))
        return categories

    @classmethod
    def of(cls, *, version: int = 1, **values: Any) -> Self:
        """A policy from Python values.

        Raises:
            ConfigError: Says what is wrong, and where.
        """
        try:
            return cls.model_validate({"version": version, **values})
        except ValidationError as exc:
            raise ConfigError(f"policy: {'; '.join(text for _, text in problems(exc))}") from None

    @property
    def digest(self) -> str:
        """SHA-256 of what the policy says: its version, for logs. Comments and order of keys do not count."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def applying(self, kind: Kind) -> tuple[Category, ...]:
        """The categories that items of a kind are scored for."""
        return tuple(category for category in self.categories if kind in category.applies_to)

    def category(self, name: str) -> Category:
        """The category of that name.

        Raises:
            ConfigError: There is none.
        """
        for category in self.categories:
            if category.name == name:
                return category
        known = [category.name for category in self.categories]
        raise ConfigError(f"the policy has no category {shown(name)}{suggestion(name, known)}")


def problems(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """What pydantic found wrong with a policy: where, and in our words what."""
    return [_problem(dict(each)) for each in error.errors(include_url=False)]


def _problem(each: dict[str, Any]) -> tuple[tuple[str | int, ...], str]:
    place: tuple[str | int, ...] = tuple(each["loc"])
    if each["type"] == UNKNOWN_KEY:
        known = (Category if len(place) > 1 else Policy).model_fields
        return place, f"unknown key {shown(place[-1])}{suggestion(str(place[-1]), known)}"
    if each["type"] == "missing":
        return place, f"{_name(place)} is missing"
    if each["type"] in _TYPES:
        quote = ": quote it" if each["type"] == "string_type" and isinstance(each["input"], bool) else ""
        return place, f"{_name(place)} must be {_TYPES[each['type']]}, not {shown(each['input'])}{quote}"
    error = each.get("ctx", {}).get("error")
    message = str(each["msg"]).replace("Input should be", "must be")
    if isinstance(error, Wrong):
        message, place = str(error), place + error.at
    if message.startswith(":"):
        return place, f"{_name(place)}{message}"
    given = "" if isinstance(each["input"], dict | list | tuple) else f", not {shown(each['input'])}"
    return place, f"{_name(place)} {message}{given}"


def _name(place: tuple[str | int, ...]) -> str:
    """Such as ``categories[0].block``, counted from 0 as Python does."""
    text = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in place)
    return text.removeprefix(".") or "the policy"
