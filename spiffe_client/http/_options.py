"""The arguments of httpx that are passed on, and those that would get around SPIFFE TLS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from http.cookiejar import CookieJar
from typing import Any, TypeAlias, TypedDict

import httpx

from spiffe_client.errors import TlsConfigurationError
from spiffe_client.http._library import Library

__all__ = [
    "DRAIN",
    "AsyncClientOptions",
    "AsyncHttpOptions",
    "ClientOptions",
    "HttpOptions",
    "Options",
    "TransportOptions",
    "WireOptions",
    "check_drain",
    "check_mounts",
    "check_source",
    "refuse_insecure",
    "take_wire_options",
]

#: Seconds within which pooled connections retire after an ordinary change, unless told otherwise.
DRAIN = 30.0

_Primitive: TypeAlias = str | int | float | bool | None
_SocketOption: TypeAlias = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)


class WireOptions(TypedDict, total=False):
    """What clients hand on to each of their transports."""

    http1: bool
    http2: bool
    limits: httpx.Limits


class TransportOptions(WireOptions, total=False):
    """What `httpx.AsyncHTTPTransport` and `httpx.HTTPTransport` take, without their TLS settings."""

    proxy: httpx.Proxy | httpx.URL | str | None
    uds: str | None
    local_address: str | None
    retries: int
    socket_options: Iterable[_SocketOption] | None


class Options(WireOptions, total=False):
    """What both clients take."""

    auth: tuple[str | bytes, str | bytes] | Callable[[httpx.Request], httpx.Request] | httpx.Auth | None
    params: (
        httpx.QueryParams
        | Mapping[str, _Primitive | list[_Primitive] | tuple[_Primitive, ...]]
        | list[tuple[str, _Primitive]]
        | tuple[tuple[str, _Primitive], ...]
        | str
        | bytes
        | None
    )
    headers: (
        httpx.Headers
        | Mapping[str, str]
        | Mapping[bytes, bytes]
        | list[tuple[str, str]]
        | list[tuple[bytes, bytes]]
        | None
    )
    cookies: httpx.Cookies | CookieJar | dict[str, str] | list[tuple[str, str]] | None
    proxy: httpx.Proxy | httpx.URL | str | None
    timeout: float | tuple[float | None, float | None, float | None, float | None] | httpx.Timeout | None
    follow_redirects: bool
    max_redirects: int
    event_hooks: Mapping[str, list[Callable[..., Any]]] | None
    base_url: httpx.URL | str
    trust_env: bool
    default_encoding: str | Callable[[bytes], str]


class AsyncClientOptions(Options, total=False):
    """What `httpx.AsyncClient` takes, without `verify`, `cert` and `transport`."""

    mounts: Mapping[str, httpx.AsyncBaseTransport | None] | None


class ClientOptions(Options, total=False):
    """What `httpx.Client` takes, without `verify`, `cert` and `transport`."""

    mounts: Mapping[str, httpx.BaseTransport | None] | None


class AsyncHttpOptions(AsyncClientOptions, total=False):
    """What `Workload.http` takes beside `peer`; see `http.AsyncClient`."""

    drain: float


class HttpOptions(ClientOptions, total=False):
    """What `Workload.http_sync` takes beside `peer`; see `http.Client`."""

    drain: float


_INSECURE = {
    "verify": "peers are verified against the bundles of the workload, which is not optional",
    "cert": "the certificate is the workload's SVID",
    "transport": "requests would not go over SPIFFE TLS; for a stub in tests use httpx's own client",
    "trust_env": "a transport reads nothing from the environment",
}


def refuse_insecure(options: Iterable[str], *, but: Iterable[str] = ()) -> None:
    """Refuse arguments that would weaken verification or be ignored.

    Args:
        options: Names of the arguments that were passed.
        but: Names that are fine here.

    Raises:
        TlsConfigurationError: There is one.
    """
    for name in options:
        if name in _INSECURE and name not in but:
            raise TlsConfigurationError(f"{name}= is not taken: {_INSECURE[name]}")


def check_source(workload: object, endpoint: object) -> None:
    """Refuse two places to take the identity from.

    Raises:
        TlsConfigurationError: Both were given.
    """
    if workload is not None and endpoint is not None:
        raise TlsConfigurationError(
            "endpoint= is for a client that opens an identity of its own, workload= for one that "
            "shares it; pass one of them"
        )


def take_wire_options(options: Options) -> WireOptions:
    """Move the arguments that belong to a transport out of a client's."""
    wire: WireOptions = {}
    if "http1" in options:
        wire["http1"] = options.pop("http1")
    if "http2" in options:
        wire["http2"] = options.pop("http2")
    if "limits" in options:
        wire["limits"] = options.pop("limits")
    return wire


def check_drain(drain: float) -> float:
    """Return `drain` if it is a time to wait.

    Raises:
        TlsConfigurationError: It is not.
    """
    if not (math.isfinite(drain) and drain >= 0):
        raise TlsConfigurationError(f"drain= must be seconds, 0 or more, got {drain!r}")
    return drain


def check_mounts(mounts: Mapping[str, object] | None, *, spiffe: type, library: Library) -> None:
    """Refuse mounts that would take all requests around SPIFFE TLS.

    A mount for a named host is the caller's explicit word about that host. A mount for every host
    is a mistake here, also for `http://`: a redirect could send any request there.

    Args:
        mounts: URL patterns and transports, as httpx takes them.
        spiffe: The kind of transport that may serve every host.
        library: Whose patterns they are.

    Raises:
        TlsConfigurationError: A pattern names no host.
    """
    for pattern, transport in (mounts or {}).items():
        if transport is None or isinstance(transport, spiffe):
            continue
        if library.URL(pattern).host in ("", "*"):
            raise TlsConfigurationError(
                f"mounts= has {pattern!r}, which would take every such request around SPIFFE TLS; "
                f"name the host it is for, or use a client of its own"
            )
