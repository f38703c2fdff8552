"""The control plane: which indexes there are; by Pinecone's client, told to repeat nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from pinecone import Pinecone, RetryConfig, ServerlessSpec

from vecbridge.driver import Deadline
from vecbridge.errors import NotFoundError
from vecbridge.schema import CollectionSpec, Metric
from vecbridge.stores.pinecone import errors
from vecbridge.stores.pinecone.layout import index_name
from vecbridge.stores.pinecone.options import PineconeOptions

METRICS: Final = {Metric.COSINE: "cosine", Metric.DOT: "dotproduct", Metric.L2: "euclidean"}
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class Control:
    """The indexes of a project.

    Args:
        host: With its scheme; "" is the service.
        api_key: The key.
        timeout: Seconds for each request: the client takes no others for a single one.
    """

    def __init__(self, host: str, api_key: str, timeout: float) -> None:
        self._client = Pinecone(
            api_key=api_key,
            host=host or None,
            timeout=timeout,
            ssl_verify=not host.startswith("http://"),
            retry_config=RetryConfig(max_retries=0),
        )

    def indexes(self) -> list[Any]:
        """All of them, as the client describes them."""
        with errors.mapped("list indexes"):
            return list(self._client.indexes.list())

    def describe(self, index: str) -> Any:
        """One of them as the client describes it, None if there is none of that name."""
        try:
            with errors.mapped(f"describe index {index!r}"):
                return self._client.indexes.describe(index)
        except NotFoundError:
            return None

    def create(self, spec: CollectionSpec, options: PineconeOptions, tags: dict[str, str]) -> None:
        """Starts to make an index.

        Raises:
            CollectionExistsError: Somebody else was faster.
        """
        with errors.mapped(f"create {spec.name!r}"):
            self._client.indexes.create(
                name=index_name(spec.name),
                dimension=spec.vector.dim,
                metric=METRICS[spec.vector.metric],
                spec=ServerlessSpec(cloud=options.cloud, region=options.region),
                deletion_protection="enabled" if options.deletion_protection else "disabled",
                tags=options.tags | tags,
                timeout=-1,
            )

    def tag(self, index: str, tags: dict[str, str]) -> None:
        """Sets tags of an index, an empty one is removed; its other tags stay.

        Raises:
            NotFoundError: There is none of that name.
        """
        with errors.mapped(f"tag index {index!r}"):
            self._client.indexes.configure(index, tags=tags)

    def delete(self, index: str) -> None:
        """Starts to delete an index; nothing if there is none."""
        with suppress(NotFoundError), errors.mapped(f"delete index {index!r}"):
            self._client.indexes.delete(index, timeout=-1)

    def wait_ready(self, index: str, deadline: Deadline) -> None:
        """Waits until an index takes requests.

        Raises:
            NotFoundError: There is none of that name.
            DeadlineError: It does not take them yet.
        """

        def ready() -> bool:
            if (described := self.describe(index)) is None:
                raise NotFoundError(f"index {index!r} was deleted")
            return bool(described.status.ready)

        poll(ready, deadline, f"index {index!r} is not ready")

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()


def poll(done: Callable[[], bool], deadline: Deadline, reason: str) -> None:
    """Asks until it is done, with pauses that grow; raises DeadlineError(reason) if that is not in time."""
    pause = _FIRST_PAUSE
    while not done():
        deadline.pause(pause, reason)
        pause = min(2 * pause, _LONGEST_PAUSE)
