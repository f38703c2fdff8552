"""How the service says no: one error, and its body on each plane.

The control plane answers ``{"error": {"code", "message"}, "status"}``, the data plane Google's
``{"code", "message", "details"}``, gRPC a status with the same number (Pinecone's OpenAPI 2026-04).
"""

from __future__ import annotations

from typing import Any

#: The name of a code: its gRPC number, its HTTP status.
CODES = {
    "UNKNOWN": (2, 500),
    "INVALID_ARGUMENT": (3, 400),
    "UNPROCESSABLE_ENTITY": (3, 422),
    "NOT_FOUND": (5, 404),
    "ALREADY_EXISTS": (6, 409),
    "FORBIDDEN": (7, 403),
    "RESOURCE_EXHAUSTED": (8, 429),
    "FAILED_PRECONDITION": (9, 412),
    "OUT_OF_RANGE": (11, 413),
    "UNIMPLEMENTED": (12, 501),
    "METHOD_NOT_ALLOWED": (12, 405),
    "INTERNAL": (13, 500),
    "UNAVAILABLE": (14, 503),
    "UNAUTHENTICATED": (16, 401),
}
_NAMES = {status: name for name, (_, status) in CODES.items()}


class ApiError(Exception):
    """A request that is refused.

    Args:
        code: A name of :data:`CODES`.
        message: What the service says about it.
        status: The HTTP status, where it is not the one of the code.
        headers: Sent with the answer, such as ``Retry-After``.
    """

    def __init__(
        self, code: str, message: str, *, status: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.number, usual = CODES[code]
        self.status = usual if status is None else status
        self.headers = headers or {}

    @classmethod
    def of_status(cls, status: int, message: str, headers: dict[str, str] | None = None) -> ApiError:
        """The error of an HTTP status, as a fault names it."""
        return cls(_NAMES.get(status, "UNKNOWN"), message, status=status, headers=headers)

    def control_body(self) -> dict[str, Any]:
        """Its body on the control plane."""
        return {"error": {"code": self.code, "message": self.message}, "status": self.status}

    def data_body(self) -> dict[str, Any]:
        """Its body on the data plane."""
        return {"code": self.number, "message": self.message, "details": []}


def invalid(message: str) -> ApiError:
    """A request whose content breaks a rule."""
    return ApiError("INVALID_ARGUMENT", message)


def not_found(message: str) -> ApiError:
    """A request for what is not there."""
    return ApiError("NOT_FOUND", message)
