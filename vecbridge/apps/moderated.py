"""Items to be scored: their content, and its SHA-256."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vecbridge.apps.policy import Category, Kind
from vecbridge.apps.scorers import Scorer, Scores
from vecbridge.errors import InvalidRecordError
from vecbridge.sources.pictures import decode, open_picture, upright_rgb
from vecbridge.sources.reading import read_once, unreadable


@dataclass(frozen=True, slots=True)
class Content:
    """An item that was read.

    Attributes:
        sha256: Of a file's or an encoded picture's bytes, of a text's UTF-8, or of an array's size and
            pixels; None of a file that could not be read.
        value: What is scored: ``PIL.Image.Image`` or a string; None where there is nothing to score.
        error: Why not.
    """

    sha256: str | None
    value: Any = None
    error: Exception | None = None


def read_item(kind: Kind, item: Any, max_pixels: int | None = None) -> Content:
    """Reads an item once, so that what is hashed is what is scored; what cannot be read has an error."""
    return _read_text(item) if kind == "text" else _read_picture(item, max_pixels)


def _read_text(item: Any) -> Content:
    if not isinstance(item, str):
        return Content(None, error=unreadable(f"{type(item).__name__} is no string"))
    try:
        data = item.encode()
    except UnicodeEncodeError:
        return Content(None, error=unreadable("half a surrogate pair is no text"))
    return Content(hashlib.sha256(data).hexdigest(), item)


def _read_picture(item: Any, max_pixels: int | None) -> Content:
    digest: str | None = None
    try:
        if isinstance(item, str | os.PathLike):
            with read_once(os.fspath(item)) as opened:
                digest = opened.sha256
                picture = decode(opened.file, opened.state.size, max_pixels=max_pixels).image
        elif isinstance(item, bytes):
            digest = hashlib.sha256(item).hexdigest()
            picture = open_picture(item, max_pixels=max_pixels).image
        else:
            picture = upright_rgb(_image(item))
            digest = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
    except InvalidRecordError as exc:
        return Content(digest, error=exc)
    return Content(digest, picture)


def _image(item: Any) -> Any:
    from PIL import Image

    if isinstance(item, Image.Image):
        return item
    if isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 3 and item.shape[2] == 3:
        return Image.fromarray(item)
    raise unreadable(f"{type(item).__name__} is no picture: a path, bytes, a PIL image or a uint8 array")


def scored(
    scorer: Scorer, kind: Kind, values: Sequence[Any], categories: Sequence[Category]
) -> list[Scores | Exception]:
    """The scores of each item, or what went wrong with it.

    If the scorer fails for several items at once, each is tried alone, so that one bad item spoils no other.
    """
    if not values:
        return []
    try:
        found = np.asarray(scorer.score(kind, values, categories), np.float64)
        if found.shape != (len(values), len(categories)):
            raise ValueError(f"scores of shape {found.shape} for {len(values)} items")
    except Exception as exc:  # noqa: BLE001 - whatever it is, the item goes to a person
        if len(values) == 1:
            return [exc]
        return [outcome for value in values for outcome in scored(scorer, kind, [value], categories)]
    return [_checked(row) for row in found]


def _checked(row: Scores) -> Scores | Exception:
    if ((row >= 0) & (row <= 1)).all():  # which is false of NaN
        return row
    return ValueError("a score that is not from 0 to 1")
