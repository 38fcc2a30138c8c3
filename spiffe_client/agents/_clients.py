"""HTTP with a call's credentials: of use while the call lasts, and for whom its token is meant."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING

import httpx

from spiffe_client.agents._origins import note_followed, note_refused
from spiffe_client.authorize import Authorizer, allow
from spiffe_client.errors import SpiffeError
from spiffe_client.http import AsyncSpiffeTransport, SpiffeTransport, TokenAuth
from spiffe_client.tls import SpiffeTls

if TYPE_CHECKING:
    import ssl

    from spiffe_client.agents._call import Call
    from spiffe_client.workload_api import X509ContextSource

__all__ = ["CallAuth", "Clients", "async_client", "client", "web_context"]


class CallAuth(httpx.Auth):
    """An `httpx.Auth` that is of use as long as a call lasts.

    Args:
        call: Whose credentials it puts on requests.
        auth: What does that, to whom the token is meant for; None if the action has no token.
    """

    def __init__(self, call: Call, auth: TokenAuth | None) -> None:
        self._call = call
        self._auth = auth

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """See `httpx.Auth`."""
        self._call.refuse()
        if self._auth is None:
            yield request
            return
        flow = self._auth.async_auth_flow(request)
        try:
            sent = await anext(flow)
            while True:
                response = yield sent
                if response.history:
                    note_followed(self._call, self._auth, response)
                self._call.refuse()
                sent = await flow.asend(response)
        except StopAsyncIteration:
            return
        except SpiffeError as error:
            note_refused(self._call, error, request.url)
            raise
        finally:
            await flow.aclose()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`."""
        self._call.refuse()
        if self._auth is None:
            yield request
            return
        flow = self._auth.sync_auth_flow(request)
        try:
            sent = next(flow)
            while True:
                response = yield sent
                if response.history:
                    note_followed(self._call, self._auth, response)
                self._call.refuse()
                sent = flow.send(response)
        except StopIteration:
            return
        except SpiffeError as error:
            note_refused(self._call, error, request.url)
            raise
        finally:
            flow.close()


class _Lent(httpx.AsyncBaseTransport):
    """A transport whose user cannot close it, as it is the task's, nor use it longer than a call lasts.

    Not even without the call's auth: what a peer sees of mutual TLS is authority, too.
    """

    def __init__(self, call: Call, inner: httpx.AsyncBaseTransport) -> None:
        self._call = call
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._call.refuse()
        try:
            return await self._inner.handle_async_request(request)
        except Exception as error:
            note_refused(self._call, error, request.url)
            raise


class _LentBlocking(httpx.BaseTransport):
    """As `_Lent`, for code that blocks."""

    def __init__(self, call: Call, inner: httpx.BaseTransport) -> None:
        self._call = call
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._call.refuse()
        try:
            return self._inner.handle_request(request)
        except Exception as error:
            note_refused(self._call, error, request.url)
            raise


class Clients:
    """The connections of one task, made when they are first needed, closed with it.

    Args:
        identity: Whose SVID is shown to peers that a contract names.
        web: For whom it names none: whom to trust on the web.
    """

    def __init__(self, identity: X509ContextSource, web: ssl.SSLContext) -> None:
        self._identity = identity
        self._web = web
        self._async: dict[Authorizer | None, httpx.AsyncBaseTransport] = {}
        self._blocking: dict[Authorizer | None, httpx.BaseTransport] = {}

    def transport(self, peer: Authorizer | None) -> httpx.AsyncBaseTransport:
        """Return what reaches a peer, or the web where there is none named."""
        found = self._async.get(peer)
        if found is None:
            if peer is None:
                found = httpx.AsyncHTTPTransport(verify=self._web, trust_env=False)
            else:
                found = AsyncSpiffeTransport(SpiffeTls(self._identity, peer))
            found = self._async.setdefault(peer, found)
        return found

    def blocking_transport(self, peer: Authorizer | None) -> httpx.BaseTransport:
        """As `transport`, for code that blocks."""
        found = self._blocking.get(peer)
        if found is None:
            if peer is None:
                found = httpx.HTTPTransport(verify=self._web, trust_env=False)
            else:
                found = SpiffeTransport(SpiffeTls(self._identity, peer))
            # Another thread may have been faster; what was never used has nothing to close.
            found = self._blocking.setdefault(peer, found)
        return found

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._async.values():
            await transport.aclose()
        for blocking in self._blocking.values():
            blocking.close()


def web_context() -> ssl.SSLContext:
    """Return a context that trusts whom httpx trusts."""
    return httpx.create_ssl_context()


def async_client(call: Call) -> httpx.AsyncClient:
    """Make a client with a call's credentials; it is light, and need not be closed."""
    transport = call.task.host.clients(call.task).transport(_peer(call))
    return httpx.AsyncClient(transport=_Lent(call, transport), auth=_auth(call))


def client(call: Call) -> httpx.Client:
    """As `async_client`, for code that blocks."""
    transport = call.task.host.clients(call.task).blocking_transport(_peer(call))
    return httpx.Client(transport=_LentBlocking(call, transport), auth=_auth(call))


def _auth(call: Call) -> CallAuth:
    return CallAuth(call, None if call.authority is None else call.authority.auth())


def _peer(call: Call) -> Authorizer | None:
    peer = call.task.host.contract.actions[call.action].peer
    return None if peer is None else allow(peer)
