"""The options of a ``weaviate:`` URL, and what the environment says."""

from __future__ import annotations

from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from vecbridge.environment import EnvironmentSettings
from vecbridge.errors import ConfigError, InvalidURLError
from vecbridge.urls import StoreOptions, StoreURL

_PORT: Final = 8080
_GRPC_PORT: Final = 50051
_TLS_PORT: Final = 443
#: Where Weaviate Cloud lives; gRPC has a host of its own there.
_CLOUD: Final = (".weaviate.network", ".weaviate.cloud", ".weaviate.io")


class WeaviateOptions(StoreOptions):
    """Options of a ``weaviate:`` URL.

    Attributes:
        grpc_port: Port of gRPC; 50051, or 443 with TLS, if it is not given.
        grpc_host: Host of gRPC, if it is another one.
        tls: Whether the server speaks TLS, on both ports.
        api_key: API key, as an argument only; else the password of the URL, or ``WEAVIATE_API_KEY`` of the
            environment or ``.env``.
        timeout: Seconds that a request may take.
    """

    grpc_port: int | None = Field(None, ge=1, le=65_535)
    grpc_host: str = ""
    tls: bool = False
    api_key: SecretStr | None = None
    timeout: float = Field(30.0, gt=0, allow_inf_nan=False)


class Environment(EnvironmentSettings):
    """What the environment says, and ``.env`` of the working directory."""

    model_config = SettingsConfigDict(env_prefix="WEAVIATE_")

    api_key: SecretStr = SecretStr("")


def require_server(url: StoreURL) -> None:
    """Refuses a URL that no Weaviate has.

    Raises:
        InvalidURLError: No host, a path, a user, or a key that every message would show.
    """
    if not url.host:
        raise InvalidURLError(f"{url}: which host? As in weaviate://localhost:{_PORT}#photos")
    if url.path.strip("/"):
        raise InvalidURLError(f"{url}: Weaviate has no databases, so that its URL takes no path")
    if url.user:
        raise InvalidURLError(
            f"{url}: Weaviate takes an API key and no user: weaviate://:key@host, or api_key="
        )
    if "api_key" in url.options:
        raise InvalidURLError(
            "weaviate URL: a key stands in WEAVIATE_API_KEY, api_key= or weaviate://:key@host"
        )


def api_key(url: StoreURL, options: WeaviateOptions) -> str:
    """The key; "" where there is none.

    Raises:
        ConfigError: It cannot be one; the message does not show it.
    """
    given = options.api_key.get_secret_value() if options.api_key else url.password
    key = given or Environment().api_key.get_secret_value()
    if not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ConfigError("the Weaviate key has blanks around it or characters that no key has")
    return key


def addresses(url: StoreURL, options: WeaviateOptions) -> tuple[str, str]:
    """Where REST and gRPC of a server are: "http://host:port" and "host:port".

    Example:
        >>> from vecbridge.urls import parse
        >>> addresses(parse("weaviate://localhost"), WeaviateOptions())
        ('http://localhost:8080', 'localhost:50051')
    """
    cloud = url.host.endswith(_CLOUD)
    tls = options.tls or cloud
    grpc_host = options.grpc_host or (f"grpc-{url.host}" if cloud else url.host)
    port = url.port or (_TLS_PORT if tls else _PORT)
    grpc_port = options.grpc_port or (_TLS_PORT if tls else _GRPC_PORT)
    return f"http{'s' if tls else ''}://{_bracketed(url.host)}:{port}", f"{_bracketed(grpc_host)}:{grpc_port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
