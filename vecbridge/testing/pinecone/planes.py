"""The two planes over HTTP, and the paths that steer the emulator itself."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from vecbridge.testing.pinecone.control import Index, Project
from vecbridge.testing.pinecone.errors import ApiError, invalid
from vecbridge.testing.pinecone.faults import Fault
from vecbridge.testing.pinecone.server import Request
from vecbridge.testing.pinecone.traffic import Traffic

Reply = tuple[int, Mapping[str, str], Any]


class ControlPlane:
    """Indexes, and ``/_emulator``.

    Args:
        project: The indexes.
        traffic: The key, the faults and the log.
    """

    routes = (
        ("GET", "/indexes", "list_indexes"),
        ("POST", "/indexes", "create_index"),
        ("GET", "/indexes/{name}", "describe_index"),
        ("PATCH", "/indexes/{name}", "configure_index"),
        ("DELETE", "/indexes/{name}", "delete_index"),
        ("POST", "/_emulator/faults", "add_fault"),
        ("DELETE", "/_emulator/faults", "clear_faults"),
        ("GET", "/_emulator/log", "read_log"),
        ("DELETE", "/_emulator/log", "clear_log"),
    )

    def __init__(self, project: Project, traffic: Traffic) -> None:
        self._project = project
        self._traffic = traffic

    def answer(self, request: Request) -> Reply:
        """See :class:`~vecbridge.testing.pinecone.server.Plane`."""
        if request.operation in ("add_fault", "clear_faults", "read_log", "clear_log"):
            return self._steered(request.operation, request.members())
        self._traffic.authenticate(request.key)
        body = request.body()
        schema_form = request.version >= "2026-07"
        match request.operation:
            case "list_indexes":
                return 200, {}, {"indexes": [index.described(schema_form) for index in self._project.list()]}
            case "create_index":
                return 201, {}, self._project.create(body, schema_form).described(schema_form)
            case "describe_index":
                return 200, {}, self._project.find(body["name"]).described(schema_form)
            case "configure_index":
                index = self._project.configure(body["name"], body)
                return 202, {}, index.described(schema_form)
            case _:
                self._project.delete(body["name"])
                return 202, {}, None

    def _steered(self, operation: str, body: Mapping[str, Any]) -> Reply:
        match operation:
            case "add_fault":
                try:
                    self._traffic.faults.add(Fault.model_validate(body))
                except ValidationError as error:
                    raise invalid(str(error)) from None
            case "clear_faults":
                self._traffic.faults.clear()
            case "clear_log":
                self._traffic.log.clear()
            case _:
                return 200, {}, {"requests": [asdict(request) for request in self._traffic.log.requests()]}
        return 202, {}, None

    def error_body(self, error: ApiError) -> dict[str, Any]:
        """See :class:`~vecbridge.testing.pinecone.server.Plane`."""
        return error.control_body()

    def relay(self, connection: socket.socket) -> None:
        """The control plane speaks no gRPC: the connection ends."""


class DataPlane:
    """One index.

    Args:
        index: The index.
        traffic: The key, the faults and the log.
        relay: Hands a connection on to gRPC.
    """

    routes = (
        ("POST", "/vectors/upsert", "upsert"),
        ("POST", "/vectors/update", "update"),
        ("POST", "/vectors/delete", "delete"),
        ("GET", "/vectors/fetch", "fetch"),
        ("POST", "/vectors/fetch_by_metadata", "fetch_by_metadata"),
        ("GET", "/vectors/list", "list"),
        ("POST", "/query", "query"),
        ("POST", "/describe_index_stats", "describe_index_stats"),
        ("GET", "/namespaces", "list_namespaces"),
        ("POST", "/namespaces", "create_namespace"),
        ("GET", "/namespaces/{namespace}", "describe_namespace"),
        ("DELETE", "/namespaces/{namespace}", "delete_namespace"),
    )

    def __init__(self, index: Index, traffic: Traffic, relay: Callable[[Index, socket.socket], None]) -> None:
        self._index = index
        self._traffic = traffic
        self._relay = relay

    def answer(self, request: Request) -> Reply:
        """See :class:`~vecbridge.testing.pinecone.server.Plane`."""
        answer = self._traffic.answer(
            self._index, "rest", request.operation, request.key, request.size, request.body
        )
        return answer.status, answer.headers, answer.body

    def error_body(self, error: ApiError) -> dict[str, Any]:
        """See :class:`~vecbridge.testing.pinecone.server.Plane`."""
        return error.data_body()

    def relay(self, connection: socket.socket) -> None:
        """See :class:`~vecbridge.testing.pinecone.server.Plane`."""
        self._relay(self._index, connection)
