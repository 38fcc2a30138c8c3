"""The arguments of httpx2 that are passed on, by name and type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http.cookiejar import CookieJar
from typing import Any, TypeAlias, TypedDict

import httpx2

__all__ = ["AsyncClientOptions", "ClientOptions", "TransportOptions"]

_Primitive: TypeAlias = str | int | float | bool | None
_SocketOption: TypeAlias = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)


class _WireOptions(TypedDict, total=False):
    http1: bool
    http2: bool
    limits: httpx2.Limits


class TransportOptions(_WireOptions, total=False):
    """What `httpx2.AsyncHTTPTransport` and `httpx2.HTTPTransport` take, without their TLS settings."""

    proxy: httpx2.Proxy | httpx2.URL | str | None
    uds: str | None
    local_address: str | None
    retries: int
    socket_options: Iterable[_SocketOption] | None


class _Options(_WireOptions, total=False):
    auth: tuple[str | bytes, str | bytes] | Callable[[httpx2.Request], httpx2.Request] | httpx2.Auth | None
    params: (
        httpx2.QueryParams
        | Mapping[str, _Primitive | list[_Primitive] | tuple[_Primitive, ...]]
        | list[tuple[str, _Primitive]]
        | tuple[tuple[str, _Primitive], ...]
        | str
        | bytes
        | None
    )
    headers: (
        httpx2.Headers
        | Mapping[str, str]
        | Mapping[bytes, bytes]
        | list[tuple[str, str]]
        | list[tuple[bytes, bytes]]
        | None
    )
    cookies: httpx2.Cookies | CookieJar | dict[str, str] | list[tuple[str, str]] | None
    proxy: httpx2.Proxy | httpx2.URL | str | None
    timeout: float | tuple[float | None, float | None, float | None, float | None] | httpx2.Timeout | None
    follow_redirects: bool
    max_redirects: int
    event_hooks: Mapping[str, list[Callable[..., Any]]] | None
    base_url: httpx2.URL | str
    trust_env: bool
    default_encoding: str | Callable[[bytes], str]


class AsyncClientOptions(_Options, total=False):
    """What `httpx2.AsyncClient` takes, without `verify`, `cert` and `transport`."""

    mounts: Mapping[str, httpx2.AsyncBaseTransport | None] | None


class ClientOptions(_Options, total=False):
    """What `httpx2.Client` takes, without `verify`, `cert` and `transport`."""

    mounts: Mapping[str, httpx2.BaseTransport | None] | None
