"""The control plane: which indexes there are; by Pinecone's client, told to repeat nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from pinecone import Pinecone, RetryConfig, ServerlessSpec
from pinecone import errors as theirs

from vecbridge.errors import CollectionExistsError, DeadlineError, NotFoundError
from vecbridge.schema import CollectionSpec, Metric
from vecbridge.stores.pinecone import errors
from vecbridge.stores.pinecone.connections import Reopened
from vecbridge.stores.pinecone.layout import index_name

METRICS: Final = {Metric.COSINE: "cosine", Metric.DOT: "dotproduct", Metric.L2: "euclidean"}
_MOMENT: Final = 0.01
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class Control:
    """The indexes of a project.

    Args:
        host: With its scheme; "" is the service.
        api_key: The key.
        timeout: Seconds that a call may take.
    """

    def __init__(self, host: str, api_key: str, timeout: float) -> None:
        self._connection: Reopened[Pinecone] = Reopened(
            lambda: Pinecone(
                api_key=api_key,
                host=host or None,
                timeout=timeout,
                ssl_verify=not host.startswith("http://"),
                retry_config=RetryConfig(max_retries=0),
            )
        )

    def indexes(self) -> list[Any]:
        """All of them, as the client describes them."""
        with errors.mapped("list indexes"):
            return list(self._connection.get().indexes.list())

    def describe(self, index: str) -> Any:
        """One of them.

        Raises:
            NotFoundError: There is none of that name.
        """
        with errors.mapped(f"describe index {index!r}"):
            return self._connection.get().indexes.describe(index)

    def create(
        self, spec: CollectionSpec, *, cloud: str, region: str, protected: bool, tags: Mapping[str, str]
    ) -> None:
        """Starts to make an index.

        Raises:
            CollectionExistsError: Somebody else was faster.
        """
        try:
            self._connection.get().indexes.create(
                name=index_name(spec.name),
                dimension=spec.vector.dim,
                metric=METRICS[spec.vector.metric],
                spec=ServerlessSpec(cloud=cloud, region=region),
                deletion_protection="enabled" if protected else "disabled",
                tags=dict(tags),
                timeout=-1,
            )
        except theirs.ConflictError as exc:
            raise CollectionExistsError(f"index {index_name(spec.name)!r} exists") from exc
        except theirs.PineconeError as exc:
            raise errors.of(exc, f"create {spec.name!r}") from exc

    def delete(self, index: str, timeout: float) -> None:
        """Deletes an index and waits until it is gone.

        Raises:
            NotFoundError: There is none of that name.
            DeadlineError: It is still there after ``timeout`` seconds.
        """
        with errors.mapped(f"delete index {index!r}"):
            self._connection.get().indexes.delete(index, timeout=-1)
        patience = Patience(timeout, f"index {index!r} is not gone")
        while True:
            try:
                self.describe(index)
            except NotFoundError:
                return
            patience.wait()

    def wait_ready(self, index: str, timeout: float) -> Any:
        """Waits until an index takes requests, and describes it.

        Raises:
            DeadlineError: Not within ``timeout`` seconds.
        """
        patience = Patience(timeout, f"index {index!r} is not ready")
        while not (described := self.describe(index)).status.ready:
            patience.wait()
        return described

    def close(self) -> None:
        """Closes its connections; the next call opens them again."""
        self._connection.close()


class Patience:
    """Pauses that grow, up to a deadline.

    Args:
        timeout: Seconds.
        complaint: What is wrong when they are over.
    """

    def __init__(self, timeout: float, complaint: str) -> None:
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._complaint = complaint
        self._pause = _FIRST_PAUSE

    @property
    def left(self) -> float:
        """Seconds until the deadline; a moment at least, so that a call can be asked to end by then."""
        return max(self._deadline - time.monotonic(), _MOMENT)

    def wait(self) -> None:
        """Pauses.

        Raises:
            DeadlineError: The deadline would pass meanwhile.
        """
        if self.left < self._pause:
            raise DeadlineError(f"{self._complaint} after {self._timeout:g} s")
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
