"""HTML pages: the templates, and the one stylesheet that all of them embed.

A page has everything inside: no script, and no file beside it. Every value is escaped (autoescape), and
control characters are spelled out, so that data can neither add markup nor turn text around.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from vecbridge import texts

if TYPE_CHECKING:
    from jinja2 import Environment

_SEPARATOR: Final = re.compile(r"(?<=[/_-])(?=[^/_-])")


def render(template: str, **values: Any) -> str:
    """A page as text.

    Args:
        template: A file in ``templates``.
        values: What it shows.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        finalize=_spelled_out,
        keep_trailing_newline=True,
        loader=PackageLoader("vecbridge.pages"),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["parts"] = _parts
    return environment


def _spelled_out(value: Any) -> Any:
    """Called by Jinja for each value that it writes."""
    return texts.safe(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _parts(name: str) -> list[str]:
    """The parts of a file name behind each of which a browser may break it."""
    return _SEPARATOR.split(name)
