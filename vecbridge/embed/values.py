"""Values of a model's JSON files, checked as they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vecbridge.errors import ConfigError

_MOST: Final = 2**31 - 1  # no size of a model comes near it


@dataclass(frozen=True, slots=True)
class Values:
    """A JSON object of a file. A key that is missing has the default; null is no value.

    Attributes:
        file: The file, as errors name it.
        values: The object.
        prefix: What errors put before its keys: the object that it lies in, and a dot.
    """

    file: str
    values: Mapping[str, Any]
    prefix: str = ""

    def whole(self, key: str, default: int, *, least: int = 1, most: int | None = _MOST) -> int:
        """A whole number; ``most`` is None where a huge one means "no limit".

        Raises:
            ConfigError: It is none, or too small; the message names file and key, as in every method here.
        """
        value = self.values.get(key, default)
        if isinstance(value, float) and value.is_integer():  # 1e30, as some tokenizers write "no limit"
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.error(key, f"a whole number, {least} or more")
        if most is not None and value > most:
            raise self.error(key, f"a whole number up to {most:,}")
        return value

    def number(self, key: str, default: float) -> float:
        """A finite number above 0.

        Raises:
            ConfigError: It is none.
        """
        value = _finite(self.values.get(key, default))
        if value is None or value <= 0:
            raise self.error(key, "a number above 0")
        return value

    def numbers(
        self, key: str, default: tuple[float, float, float], *, positive: bool = False
    ) -> tuple[float, float, float]:
        """Three finite numbers, one a channel.

        Raises:
            ConfigError: They are not.
        """
        given = self.values.get(key, default)
        found = [_finite(each) for each in given] if isinstance(given, list | tuple) else []
        numbers = [each for each in found if each is not None and (each > 0 or not positive)]
        if len(found) != 3 or len(numbers) != 3:
            raise self.error(key, "three numbers above 0" if positive else "three numbers")
        red, green, blue = numbers
        return red, green, blue

    def flag(self, key: str, default: bool) -> bool:
        """True or false.

        Raises:
            ConfigError: It is neither.
        """
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def text(self, key: str, default: str) -> str:
        """A text that is not empty.

        Raises:
            ConfigError: It is none.
        """
        value = self.values.get(key, default)
        if not isinstance(value, str) or not value:
            raise self.error(key, "a text")
        return value

    def section(self, key: str) -> Values:
        """An object in this one; empty where it is missing or null.

        Raises:
            ConfigError: It is something else.
        """
        value = self.values.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.error(key, "an object")
        return Values(self.file, value or {}, f"{self.prefix}{key}.")

    def error(self, key: str, wanted: str) -> ConfigError:
        """The error for a value that cannot be."""
        return ConfigError(f"{self.file}: {self.prefix}{key} is {self._shown(key)}: it must be {wanted}")

    def _shown(self, key: str) -> str:
        if key not in self.values:
            return "missing"
        try:
            text = json.dumps(self.values[key])
        except (TypeError, ValueError):  # a value that was handed in, and not read from a file
            text = repr(self.values[key])
        return text if len(text) <= 40 else f"{text[:40]}…"


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
