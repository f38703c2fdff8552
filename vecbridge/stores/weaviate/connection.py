"""One Weaviate, by REST and by gRPC: every call has a deadline, nothing is retried, errors are typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from vecbridge.driver import Deadline
from vecbridge.errors import AuthError, BackendError, NotFoundError, UnsupportedError
from vecbridge.stores.weaviate import errors
from vecbridge.stores.weaviate.stubs import tenants_pb2, weaviate_pb2_grpc
from vecbridge.transport import http
from vecbridge.transport.channel import Channel
from vecbridge.transport.errors import http_error

#: The operators Not and ContainsNone came with it.
OLDEST_VERSION: Final = (1, 33)


class Connection:
    """A REST client and a gRPC channel; each connects with its first call.

    Args:
        rest_url: "http://host:port".
        target: "host:port" of gRPC.
        api_key: Sent with every call; "" without authorization.

    Attributes:
        grpc: The channel.
    """

    def __init__(self, rest_url: str, target: str, api_key: str) -> None:
        self.rest_url = rest_url
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = http.client(rest_url, headers=headers, timeout=None)
        self.grpc = Channel(
            target, stub=weaviate_pb2_grpc.WeaviateStub, errors=errors.of_rpc,
            tls=rest_url.startswith("https:"), metadata=tuple(headers.items()),
        )  # fmt: skip

    def rest(self, method: str, path: str, deadline: Deadline, what: str, body: Any = None) -> Any:
        """Sends one REST request.

        Args:
            method: "GET".
            path: Such as "/v1/schema".
            deadline: When the answer must be there.
            what: What is done, for messages.
            body: JSON values, or None.

        Returns:
            The answer's JSON values; None if it has no body.

        Raises:
            VecbridgeError: What the server said, or that it did not; see :mod:`.errors`.
        """
        what = f"{what} at {self.rest_url} (REST)"
        try:
            response = self._client.request(method, path, json=body, timeout=deadline.left())
        except httpx.HTTPError as exc:
            raise http_error(exc, what) from exc
        if not response.is_success:
            raise errors.of_response(response, what)
        try:
            return response.json() if response.content else None
        except ValueError as exc:
            raise BackendError(f"{what}: no JSON in the answer: is this a Weaviate?") from exc

    def described(self, class_name: str, deadline: Deadline) -> Mapping[str, Any] | None:
        """A class as the server describes it; None if there is none of that name."""
        try:
            described: Mapping[str, Any] = self.rest(
                "GET", f"/v1/schema/{class_name}", deadline, f"open {class_name!r}"
            )
        except NotFoundError:
            return None
        return described

    def tenants(self, class_name: str, deadline: Deadline) -> list[str]:
        """Names of the tenants of a class."""
        request = tenants_pb2.TenantsGetRequest(collection=class_name)
        answer = self.grpc.call("TenantsGet", request, deadline, f"list the tenants of {class_name!r}")
        return [tenant.name for tenant in answer.tenants]

    def shards(self, class_name: str, deadline: Deadline) -> list[Mapping[str, Any]]:
        """What the nodes say of the shards of a class; those of a class with tenants have their names."""
        path = f"/v1/nodes/{class_name}?output=verbose"
        answer = self.rest("GET", path, deadline, f"status of {class_name!r}")
        return [shard for node in answer.get("nodes") or [] for shard in node.get("shards") or []]

    def raft_term(self, deadline: Deadline) -> str:
        """The term of the consensus, which each start of a single node raises; "" if it is not told."""
        try:
            answer = self.rest("GET", "/v1/cluster/statistics", deadline, "ask for the server's raft term")
        except (AuthError, NotFoundError):
            return ""
        return max((str(node["raft"]["term"]) for node in answer.get("statistics") or []), default="")

    def require_version(self, deadline: Deadline) -> None:
        """Refuses a server that lacks what this driver calls.

        Raises:
            UnsupportedError: It is too old.
        """
        answer = self.rest("GET", "/v1/meta", deadline, "connect")
        version = str(answer.get("version", "") if isinstance(answer, dict) else "")
        numbers = version.split("-")[0].split(".")[:2]
        if not all(number.isdigit() for number in numbers) or tuple(map(int, numbers)) < OLDEST_VERSION:
            oldest = ".".join(map(str, OLDEST_VERSION))
            raise UnsupportedError("weaviate", f"a server of version {version!r}", f"{oldest} or later")

    def close(self) -> None:
        """Closes both."""
        self._client.close()
        self.grpc.close()
