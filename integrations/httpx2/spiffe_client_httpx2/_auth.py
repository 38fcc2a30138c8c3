"""Auths of spiffe-client in clients of httpx2."""

from __future__ import annotations

import httpx
import httpx2

from spiffe_client import http

__all__ = ["JwtSvidAuth", "TokenAuth", "adapt_auth"]


class TokenAuth(http.TokenAuth, httpx2.Auth):  # type: ignore[misc]  # its flows are of either library
    """`spiffe_client.http.TokenAuth`, for clients of httpx2 and of httpx alike."""


class JwtSvidAuth(http.JwtSvidAuth, httpx2.Auth):  # type: ignore[misc]  # its flows are of either library
    """`spiffe_client.http.JwtSvidAuth`, for clients of httpx2 and of httpx alike."""


class _AdaptedAuth(httpx2.Auth):
    def __init__(self, auth: httpx.Auth) -> None:
        self.requires_request_body = auth.requires_request_body
        self.requires_response_body = auth.requires_response_body
        self.async_auth_flow = auth.async_auth_flow  # type: ignore[assignment]  # no generator around a generator
        self.sync_auth_flow = auth.sync_auth_flow  # type: ignore[assignment]


def adapt_auth(auth: httpx.Auth) -> httpx2.Auth:
    """Make an auth for httpx2 from one of spiffe-client's, such as `Workload.auth` returns.

    Args:
        auth: A `TokenAuth`, `JwtSvidAuth` or `TransactionTokenAuth`. It can go on serving clients of httpx.
    """
    return auth if isinstance(auth, httpx2.Auth) else _AdaptedAuth(auth)
