"""How the server says no."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Refused(Exception):
    """A request that is refused; gRPC has the code UNKNOWN for all of them.

    Args:
        message: What the server says about it; "" is an answer without a body.
        status: The HTTP status.
        code: A number that some REST answers carry beside the message.
    """

    def __init__(self, message: str, status: int = 422, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code

    def body(self) -> Any:
        """What REST answers; None is no body."""
        if not self.message:
            return None
        if self.code is not None:
            return {"code": self.code, "message": self.message}
        return {"error": [{"message": self.message}]}


class Unsearchable(Refused):
    """A filter that agrees with the schema and cannot be answered."""


class NoSuchIndex(Unsearchable):
    """A filter on a property that is not indexed."""


class NotEmulated(Refused):
    """What a genuine server may well do."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not emulated: {what}", status=501)


@contextmanager
def placed(where: str, kind: type[Refused] = Refused, but: type[Refused] = NotEmulated) -> Iterator[None]:
    """Says where something was refused, before it says why.

    Args:
        where: Goes before the text.
        kind: Of which refusals.
        but: Of which not.
    """
    try:
        yield
    except kind as exc:
        if isinstance(exc, but | NotEmulated):
            raise
        raise Refused(f"{where}{exc.message}", exc.status) from exc
