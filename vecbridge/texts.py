"""Text as people see it: what is visible, what is escaped, and what is cut."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from dataclasses import is_dataclass
from typing import Final

NOT_VISIBLE: Final = "(no visible text)"

# C0 and C1 control characters, and the marks that change the direction of text: shown as they are, they would
# let data control a terminal, or turn what stands beside them around.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# The empty Braille cell, and what Unicode has renderers ignore (Default_Ignorable_Code_Point), as far as its
# category is that of a letter or a mark.
_BLANK: Final = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]")


def safe(text: str) -> str:
    """Text with its control characters escaped.

    Example:
        >>> safe(chr(27) + "[31m") == chr(92) + "x1b[31m"
        True
    """
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def is_visible(text: str) -> bool:
    """Whether anything of a text can be seen; spaces, marks without width and control characters cannot.

    Example:
        >>> is_visible("a"), is_visible(chr(0x3000) + chr(0x200B)), is_visible("")
        (True, False, False)
    """
    return any(unicodedata.category(char)[0] not in "ZC" for char in _BLANK.sub("", text))


def one_line(text: str, limit: int) -> str:
    """Text on one line, of at most ``limit`` characters; one that cannot be seen says so.

    Example:
        >>> one_line("two  lines" + chr(10) + "of text", 12), one_line(chr(0x3000), 12)
        ('two lines o…', '(no visible text)')
    """
    return cut(" ".join(text.split()), limit) if is_visible(text) else NOT_VISIBLE


def shown(value: object) -> str:
    """A value in an error message: its repr, cut where it is long or deep, and never an error itself.

    A dataclass is shown as its ``str`` says, or by its name, also in a list or a dict: its repr lists parts
    that only the code knows.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Part:
        ...     number: int
        >>> shown("a"), shown([Part(1)])
        ("'a'", '[a Part]')
    """
    try:
        return _SHORT.repr(value)
    except ValueError:  # an int of more than 4,300 digits
        return f"a value of type {type(value).__name__}"


class _Short(reprlib.Repr):
    """Called with what is no number, string or container of Python's."""

    def repr_instance(self, value: object, level: int) -> str:
        if isinstance(value, type) or not is_dataclass(value):
            return super().repr_instance(value, level)
        if type(value).__str__ is object.__str__:
            return f"a {type(value).__name__}"
        return cut(str(value), self.maxother)


_SHORT: Final = _Short()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200


def cut(text: str, limit: int) -> str:
    """The beginning of a text, with an ellipsis where something is left out."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
