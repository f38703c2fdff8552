"""The options of a ``pinecone:`` URL, and what the environment says."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from vecbridge.environment import EnvironmentSettings
from vecbridge.errors import ConfigError, InvalidURLError
from vecbridge.stores.pinecone.limits import Transport
from vecbridge.transport.hosts import is_loopback
from vecbridge.urls import StoreOptions, StoreURL

SERVICE: str = "https://api.pinecone.io"


def _pairs(value: Any) -> Any:
    """Tags as a URL has them: ``team:search,env:test``."""
    if not isinstance(value, str):
        return value
    return dict(pair.partition(":")[::2] for pair in value.split(",") if pair)


class PineconeOptions(StoreOptions):
    """Options of a ``pinecone:`` URL.

    Attributes:
        api_key: The key, as an argument only; else ``PINECONE_API_KEY`` of the environment or ``.env``.
        transport: What carries records and searches: "rest" or "grpc".
        timeout: Seconds that a request may take.
        tls: Whether the host of the URL speaks TLS; unset, all but this machine do.
        cloud: Where a new index is: "aws", "gcp" or "azure".
        region: Of that cloud.
        deletion_protection: Whether a new index refuses to be deleted until somebody allows it.
        tags: Of a new index, beside those that hold its spec; in a URL as ``team:search,env:test``.
    """

    api_key: SecretStr | None = None
    transport: Transport = "rest"
    timeout: float = Field(30.0, gt=0, allow_inf_nan=False)
    tls: bool | None = None
    cloud: str = "aws"
    region: str = "us-east-1"
    deletion_protection: bool = False
    tags: Annotated[dict[str, str], BeforeValidator(_pairs)] = Field(default_factory=dict)


class Environment(EnvironmentSettings):
    """What Pinecone's own client reads from the environment, and ``.env`` of the working directory."""

    model_config = SettingsConfigDict(env_prefix="PINECONE_")

    api_key: SecretStr = SecretStr("")
    controller_host: str = SERVICE


def control_host(url: StoreURL, options: PineconeOptions) -> str:
    """Where the control plane is, with its scheme.

    Raises:
        InvalidURLError: A URL with a path, a login or a key.
    """
    if url.user or url.password or "api_key" in url.options:
        raise InvalidURLError("pinecone URL: a key stands in PINECONE_API_KEY or api_key=, never in a URL")
    if url.path.strip("/"):
        raise InvalidURLError(f"{url}: there is no path, as in pinecone://#photos")
    if not url.host:
        return Environment().controller_host
    host = f"[{url.host}]" if ":" in url.host else url.host
    tls = not is_loopback(url.host) if options.tls is None else options.tls
    return f"{'https' if tls else 'http'}://{host}" + ("" if url.port is None else f":{url.port}")


def api_key(options: PineconeOptions) -> SecretStr:
    """The key.

    Raises:
        ConfigError: There is none, or it cannot be one; the message does not show it.
    """
    secret = options.api_key or Environment().api_key
    key = secret.get_secret_value()
    if not key:
        raise ConfigError("no Pinecone key: set PINECONE_API_KEY, in the environment or in .env, or api_key=")
    if not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ConfigError("the Pinecone key has blanks around it or characters that no key has")
    return secret
