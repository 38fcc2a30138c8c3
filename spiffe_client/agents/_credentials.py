"""What a call hands out: credentials that are of no use once it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from spiffe_client.errors import TaskError

if TYPE_CHECKING:
    import httpx

    from spiffe_client.agents._call import Call
    from spiffe_client.agents._clients import CallAuth

__all__ = ["CallCredentials"]


class CallCredentials:
    """That part of a `Call`."""

    __slots__ = ()

    @property
    def auth(self) -> CallAuth:
        """What puts this call's token on requests, for `httpx.AsyncClient` and `httpx.Client`.

        Raises:
            TaskEndedError: The call has ended.
            TaskError: The action has no token.
        """
        call = cast("Call", self)
        call.refuse()
        if call.authority is None:
            raise TaskError(f"{call.action} has no token: the contract names no audience for it")
        from spiffe_client.agents._clients import CallAuth

        return CallAuth(call, call.authority.auth())

    @property
    def http(self) -> httpx.AsyncClient:
        """An HTTP client with this call's credentials; it need not be closed."""
        call = cast("Call", self)
        call.refuse()
        from spiffe_client.agents._clients import async_client

        return async_client(call)

    @property
    def http_sync(self) -> httpx.Client:
        """As `http`, for code that blocks in a thread."""
        call = cast("Call", self)
        call.refuse()
        from spiffe_client.agents._clients import client

        return client(call)
