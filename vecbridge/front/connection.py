"""A store's driver in this process: connected, closed, forked; shared by the store and its collections."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, get_args

from pydantic import SecretStr

from vecbridge.capabilities import Capabilities
from vecbridge.driver import Deadline, Described, StoreDriver
from vecbridge.errors import BackendError, ConfigError, StoreLockedError, UnsupportedError, VecbridgeError
from vecbridge.front import processes
from vecbridge.front.holding import HeldKeys
from vecbridge.front.sending import RequestSlots
from vecbridge.schema import CollectionSpec
from vecbridge.urls import StoreURL, parse, read_options

Result = TypeVar("Result")

REQUEST_SECONDS: Final = 30.0  # of a request, where the options have no timeout


class Connection:
    """A driver and the state of its store in this process.

    Args:
        driver_class: The backend.
        url: As it was given, secrets included.
        options: Keyword options; they stand above those of the URL.

    Attributes:
        driver: Of this process.
        timeout: Seconds for one request.
        closed: Whether the store was closed.
        process: The process that the driver belongs to.
        epoch: Raised by each fork, so that collections know that they must attach to another driver.
        held: Ids that calls have looked up and are about to write.
    """

    def __init__(self, driver_class: type[StoreDriver], url: StoreURL, options: Mapping[str, Any]) -> None:
        self._recipe = driver_class, url, dict(options)
        settings = read_options(driver_class.options, url, options)
        self.driver: StoreDriver = driver_class(url, settings)
        self.timeout: float = getattr(settings, "timeout", REQUEST_SECONDS)
        self.closed = False
        self.process = os.getpid()
        self.epoch = 0
        self.held = HeldKeys()
        self._refusal = ""  # why a forked child may not write, or not use the store at all
        self._capabilities: Capabilities | None = None
        self._slots: RequestSlots | None = None
        self._lock = threading.RLock()
        self._finalizer = processes.close_when_collected(self, self.driver)
        processes.watch(self)

    @property
    def capabilities(self) -> Capabilities:
        """What this server can do; before it was asked, the most that any server of its kind can."""
        return self._capabilities or type(self.driver).capabilities

    @property
    def slots(self) -> RequestSlots:
        """How many write requests the store has in flight."""
        if self._slots is None:
            with self._lock:
                able = self.capabilities
                self._slots = self._slots or RequestSlots(
                    able.parallel_requests, able.requests_at_most, backend=able.backend
                )
        return self._slots

    def connected(self) -> StoreDriver:
        """The driver, once it has said what its server can do.

        Raises:
            ConfigError: The store is closed.
            StoreLockedError: A forked child cannot use it.
        """
        if self.process != os.getpid():  # a fork made without Python's knowledge
            self.after_fork()
        if self.closed:
            raise ConfigError(f"{self.driver.url} is closed")
        if self._refusal and self._recipe[0].on_fork == "refuse":
            raise StoreLockedError(self._refusal)
        if self._capabilities is None:
            with self._lock:
                if self._capabilities is None:
                    self._capabilities = self.call("connect", self.driver.connect, self.deadline())
        return self.driver

    def require_writable(self) -> None:
        """Refuses to write in a forked child where the backend cannot.

        Raises:
            StoreLockedError: Says which process opened the store.
        """
        if self._refusal:
            raise StoreLockedError(self._refusal)

    def require_buildable(self, spec: CollectionSpec) -> None:
        """Refuses what this server cannot build.

        Raises:
            UnsupportedError: Says which part of the spec, and what there is instead.
        """
        self.capabilities.require(spec)
        for gap in self.driver.gaps(spec):
            if gap.blocking:
                raise UnsupportedError(
                    self.capabilities.backend, f"{gap.kind} of {gap.subject!r}", gap.detail
                )

    def describe(self, name: str) -> Described | None:
        """A collection as it stands in the database; None if there is none of that name."""
        driver = self.connected()
        return self.call(f"open {name!r}", driver.describe, name, self.deadline())

    def deadline(self) -> Deadline:
        """The deadline of one request."""
        return Deadline.after(self.timeout)

    def call(self, what: str, verb: Callable[..., Result], *arguments: object) -> Result:
        """Calls a verb of the driver; what it raises becomes one of our errors.

        Args:
            what: What is asked, for the message.
            verb: A method of the driver.
            *arguments: Its arguments.
        """
        try:
            return verb(*arguments)
        except Exception as exc:
            error = self.mapped(exc, what)
            if error is exc:
                raise
            raise error from exc

    def mapped(self, exc: Exception, what: str) -> VecbridgeError:
        """What an exception of the driver becomes."""
        if self.closed:
            return ConfigError(f"{self.driver.url} was closed during the call")
        if isinstance(exc, VecbridgeError):
            return exc
        return self.driver.error(exc, what) or BackendError(f"{what}: {type(exc).__name__}: {exc}")

    def after_fork(self) -> None:
        """In a forked child: leaves the parent's driver alone, and makes one of its own where that works."""
        parent, self.process = self.process, os.getpid()
        self._lock = threading.RLock()
        self.held = HeldKeys()
        self._slots = None
        self.epoch += 1
        self._finalizer.detach()
        if self.closed:
            return
        driver_class, url, options = self._recipe
        self.driver.forked()
        processes.keep_forever(self.driver)
        if driver_class.on_fork in ("reopen", "read_only"):
            settings = read_options(driver_class.options, url, options)
            self.driver = driver_class(url, settings, read_only=driver_class.on_fork == "read_only")
            self._capabilities = None
            self._finalizer = processes.close_when_collected(self, self.driver)
        if driver_class.on_fork != "reopen":
            self._refusal = (
                f"{self.driver.url} was opened by process {parent}, of which this one is a fork: open it in "
                "this process, or start workers with spawn or forkserver"
            )

    def close(self) -> None:
        """Closes the driver, unless it is one that a forked child inherited; a second call does nothing."""
        if self.process != os.getpid():
            self.after_fork()
        with self._lock:
            if self.closed:
                return
            self.closed = True
        if self._slots is not None:
            self._slots.close()
        if self._finalizer.detach() is not None:
            self.driver.close()

    def pickled(self) -> tuple[type[StoreDriver], str, dict[str, Any]]:
        """What another process needs to connect: no secrets, which it reads from its own environment.

        Raises:
            ConfigError: The store lives in the memory of this process.
        """
        driver_class, url, options = self._recipe
        if driver_class.on_fork == "keep":
            raise ConfigError(f"{url} lives in the memory of one process: it cannot be pickled")
        plain = {name: value for name, value in options.items() if not _is_secret(driver_class, name)}
        return driver_class, str(url.without_password()), plain


def unpickled(driver_class: type[StoreDriver], url: str, options: dict[str, Any]) -> Connection:
    """The connection that :meth:`Connection.pickled` described, in another process."""
    return Connection(driver_class, parse(url), options)


def _is_secret(driver_class: type[StoreDriver], option: str) -> bool:
    field = driver_class.options.model_fields.get(option)
    return field is not None and (field.annotation is SecretStr or SecretStr in get_args(field.annotation))
