"""Which hosts are this machine, and which proxy the environment sets for the others."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies


def is_loopback(host: str) -> bool:
    """Whether a host, a "host:port" or a gRPC target is this machine: loopback, or a Unix socket.

    Args:
        host: Such as "localhost", "127.0.0.1:19530", "[::1]:443" or "unix:/run/db.sock".
    """
    if host.startswith(("unix:", "unix-abstract:")):
        return True
    name = _host_name(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def grpc_proxy(target: str) -> str:
    """Names the proxy that gRPC uses for a target: "https_proxy=http://proxy:3128 is set"; "" for none.

    gRPC takes the first of its three variables that is set, in small letters alone, and only an http:// URL:
    https://github.com/grpc/grpc/blob/master/doc/environment_variables.md
    """
    name, value = _first_set("grpc_proxy", "https_proxy", "http_proxy")
    _, exempt = _first_set("no_grpc_proxy", "no_proxy")
    if not value.startswith("http://") or _is_exempt(target, exempt):
        return ""
    return _assignment(name, value)


def http_proxy(url: str) -> str:
    """Names the proxy that httpx uses for a URL: "HTTPS_PROXY=http://proxy:3128 is set"; "" for none."""
    parts = urlsplit(url)
    proxies: Mapping[str, str] = getproxies()
    for scheme in (parts.scheme, "all"):
        if value := proxies.get(scheme):
            break
    else:
        return ""
    if _is_exempt(parts.netloc.rpartition("@")[2], proxies.get("no", "")):
        return ""
    name = f"{scheme}_proxy"
    return _assignment(name if name in os.environ else name.upper(), value)


def _first_set(*names: str) -> tuple[str, str]:
    return next(((name, value) for name in names if (value := os.environ.get(name))), ("", ""))


def _is_exempt(host: str, exempt: str) -> bool:
    """Whether a host needs no proxy: it is this machine, or below one of the comma-separated domains."""
    name = _host_name(host)
    domains = [domain.strip().lower().lstrip(".") for domain in exempt.split(",")]
    return is_loopback(host) or any(
        domain == "*" or (domain and f".{name}".endswith(f".{domain}")) for domain in domains
    )


def _assignment(name: str, value: str) -> str:
    """A variable and its value, without the login that a proxy's URL may carry."""
    scheme, separator, rest = value.rpartition("://")
    return f"{name}={scheme}{separator}{rest.rpartition('@')[2]} is set"


def _host_name(host: str) -> str:
    """The bare host of a "host:port", a bracketed address, or a gRPC target with a scheme."""
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        host = host.removeprefix(scheme)
    host = host.rpartition("/")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return (host if host.count(":") > 1 else host.partition(":")[0]).rstrip(".").lower()
