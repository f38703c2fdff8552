"""An HTTP client that reaches this machine directly and retries nothing."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from vecbridge.errors import ConfigError
from vecbridge.transport.hosts import http_proxy, is_loopback


def client(
    base_url: str, *, headers: Mapping[str, str] | None = None, timeout: float | None,
    limits: httpx.Limits | None = None,
) -> httpx.Client:  # fmt: skip
    """An ``httpx.Client``; opens no connection yet.

    Loopback is never reached through a proxy of the environment, other hosts are; certificates are as the
    environment says everywhere.

    Args:
        base_url: "http://host:port"; requests name paths, since without TLS certificates are not loaded.
        headers: Sent with every request.
        timeout: Seconds for each step of a request that names none of its own; None waits for ever.
        limits: Of its connections; None is httpx's default.

    Raises:
        ConfigError: The environment names a proxy that httpx cannot use.
    """
    url = httpx.URL(base_url)
    limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)
    transport = None
    if is_loopback(url.host):  # with a transport of its own a client takes no proxy from the environment
        transport = httpx.HTTPTransport(verify=url.scheme == "https", limits=limits)
    try:
        return httpx.Client(
            base_url=url, headers=headers, timeout=timeout, limits=limits, transport=transport
        )
    except (ImportError, ValueError, httpx.InvalidURL) as exc:
        if proxy := http_proxy(base_url):
            raise ConfigError(f"no connection to {base_url}: {proxy}, which httpx cannot use") from exc
        raise
