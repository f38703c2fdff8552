"""Store URLs: ``scheme://user:password@host:port/path?option=value&namespace=ns#collection``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from vecbridge.errors import ConfigError, InvalidURLError, UnknownOptionError, suggestion

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


@dataclass(frozen=True, slots=True)
class StoreURL:
    """A store URL in its parts, percent-decoded.

    Attributes:
        scheme: Names the store.
        host: Server, or "".
        port: Port, or None.
        path: Path as it stands in the URL; "" if there is none.
        user: User name, or "".
        password: Password or token, or "". Neither repr nor str shows it.
        options: What follows ``?``, without the namespace.
        collection: What follows ``#``, or "".
        namespace: Value of ``?namespace=``, or None if it is not given.
    """

    scheme: str
    host: str = ""
    port: int | None = None
    path: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    collection: str = ""
    namespace: str | None = None

    def __str__(self) -> str:
        login = (quote(self.user, safe="") + (":***" if self.password else "") + "@") if self.user else ""
        if self.password and not self.user:
            login = ":***@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        authority = login + host + (f":{self.port}" if self.port is not None else "")
        separator = "//" if authority or self.path.startswith("/") or not self.path else ""
        pairs = dict(self.options) | ({} if self.namespace is None else {"namespace": self.namespace})
        query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in pairs.items())
        fragment = f"#{quote(self.collection, safe='')}" if self.collection else ""
        return (
            f"{self.scheme}:{separator}{authority}{quote(self.path)}{'?' if query else ''}{query}{fragment}"
        )

    def require_collection(self) -> str:
        """The collection.

        Raises:
            InvalidURLError: The URL names none.
        """
        if not self.collection:
            raise InvalidURLError(f"{self}: which collection? End the URL with #name")
        return self.collection

    def without_collection(self) -> StoreURL:
        """The URL of the store alone."""
        return replace(self, collection="", namespace=None)

    def without_password(self) -> StoreURL:
        """The URL without its password or token."""
        return replace(self, password="")

    def of_collection(self, name: str, namespace: str) -> StoreURL:
        """The URL of one collection of this store."""
        return replace(self, collection=name, namespace=namespace or None)

    def directory(self) -> Path:
        """The path of a URL that names a place on disk.

        Raises:
            InvalidURLError: A host, a login or no path.
        """
        if self.host or self.port is not None or self.user or self.password:
            path = f"{self.host}{self.path}"
            raise InvalidURLError(
                f"{self}: a path takes no host: {self.scheme}:///{path.lstrip('/')} from the root, "
                f"or {self.scheme}:./{path.lstrip('/')} from here"
            )
        if self.path in ("", "/"):
            raise InvalidURLError(f"{self}: which directory? As in {self.scheme}:///data/vectors")
        return Path(self.path).expanduser()


def parse(url: str | StoreURL) -> StoreURL:
    """Reads a store URL.

    Args:
        url: As text; one that is read already is returned as it is.

    Returns:
        Its parts.

    Raises:
        InvalidURLError: No scheme, a bad port, an option twice.

    Example:
        >>> parse("faiss:///data/vectors?namespace=eu#photos").collection
        'photos'
    """
    if isinstance(url, StoreURL):
        return url
    scheme, colon, _ = url.partition(":")
    if not colon or not SCHEME.fullmatch(scheme):
        shown = url if "@" not in url else "that"
        raise InvalidURLError(f"{shown!r} is no store URL: as in faiss:///data/vectors#photos")
    if any(character < " " or character == "\x7f" for character in url):
        raise InvalidURLError(f"{scheme} URL: a control character is written as %0A")  # urlsplit drops it
    try:
        parts = urlsplit(url)
        port = parts.port
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:  # its message may quote a piece of the password
        raise InvalidURLError(
            f"{scheme} URL: as in {scheme}://user:password@host:1234/path?option=value#collection; in a "
            "password / is written as %2F, ? as %3F, # as %23, @ as %40"
        ) from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise InvalidURLError(f"{scheme} URL: an option comes twice")
    namespace = options.pop("namespace", None)
    return StoreURL(
        scheme=scheme,
        host=parts.hostname or "",
        port=port,
        path=unquote(parts.path),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        options=MappingProxyType(options),
        collection=unquote(parts.fragment),
        namespace=namespace,
    )


class StoreOptions(BaseModel):
    """The base of a store's options; what it does not declare is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Options = TypeVar("Options", bound=StoreOptions)


def read_options(model: type[Options], url: StoreURL, overrides: Mapping[str, Any]) -> Options:
    """The options of a URL, typed; keyword arguments stand above the URL.

    Raises:
        UnknownOptionError: Names the option and those that there are.
        ConfigError: A value of the wrong type.
    """
    values = dict(url.options) | dict(overrides)
    for name in values:
        if name not in model.model_fields:
            raise UnknownOptionError(
                f"{url.scheme} has no option {name!r}{suggestion(name, model.model_fields)}"
            )
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in exc.errors())
        raise ConfigError(f"{url.scheme} options: {problems}") from None
