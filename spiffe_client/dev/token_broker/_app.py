"""The authorization server as a web application: forms in, JSON out (RFC 6749 §3.2, §5)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import format_datetime

from cryptography import x509
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.dev.token_broker._faults import Fault, Faults
from spiffe_client.dev.token_broker._messages import Call, Certificate, Form, RefusedError, Reply
from spiffe_client.dev.token_broker._server_thread import Listener
from spiffe_client.errors import PeerUnverifiedError, X509SvidError
from spiffe_client.svid import leaf_id
from spiffe_client.tls import peer_of

__all__ = ["Application", "call_of", "certificate_of", "json_response", "read_body"]

#: Larger request bodies are refused.
MAX_BODY = 256 << 10

Answer = Callable[[Call], Reply]


def json_response(reply: Reply) -> Response:
    """Make the HTTP response: JSON, and never to be stored (RFC 6749 §5.1)."""
    headers = {"Cache-Control": "no-store", **reply.headers}
    if reply.body is None:
        return Response(status_code=reply.status, headers=headers)
    body = json.dumps(reply.body, separators=(",", ":"))
    return Response(body, reply.status, headers, media_type="application/json")


def certificate_of(request: Request) -> Certificate | None:
    """Return the X509-SVID that the client showed in TLS, None if it showed none.

    Raises:
        RefusedError: It showed a certificate that is no X509-SVID.
    """
    transport: asyncio.Transport = request.state.transport
    connection = transport.get_extra_info("ssl_object")
    if connection is None:
        return None
    try:
        peer = peer_of(transport)  # at the port where both ends are SPIFFE identities
        return Certificate(peer.chain[0], peer.id)
    except PeerUnverifiedError:
        der = connection.getpeercert(binary_form=True)  # verified by OpenSSL
    if der is None:
        return None
    try:
        return Certificate(der, leaf_id(x509.load_der_x509_certificate(der)))
    except X509SvidError as error:
        raise RefusedError(
            "invalid_client", "the TLS certificate is not an X509-SVID of a workload", status=401
        ) from error


async def read_body(request: Request) -> bytes:
    """Read a request's body.

    Raises:
        RefusedError: It is too large.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise RefusedError("invalid_request", "the body is too large", status=413)
    return bytes(body)


@dataclass(slots=True)
class Application:
    """Routes requests to what answers them, with trouble on purpose in between.

    Attributes:
        faults: The trouble.
        requests: How many POSTs each endpoint got.
        clock: What says now.
        routes: What was added so far.
    """

    faults: Faults
    requests: Counter[str]
    clock: Clock = SYSTEM_CLOCK
    routes: list[Route] = field(default_factory=list)

    def document(self, path: str, answer: Callable[[], Mapping[str, object]], *, name: str) -> None:
        """Serve a JSON document at a path."""

        async def endpoint(request: Request) -> Response:
            async def get() -> Response:
                # By this clients see whether their clock is right (RFC 9110 §6.6.1).
                date = {"Date": format_datetime(self.clock.now(), usegmt=True)}
                return json_response(Reply(answer(), headers=date))

            return await self._with_faults(name, request, get)

        self.routes.append(Route(path, endpoint, methods=["GET"]))

    def post(self, path: str, answer: Answer, *, name: str) -> None:
        """Serve an endpoint that takes forms by POST."""

        async def post(request: Request) -> Response:
            body = await read_body(request)
            form = Form.parse(body, request.headers.get("content-type", ""))
            return json_response(answer(call_of(request, form)))

        self.route(path, post, name=name)

    def route(
        self,
        path: str,
        handle: Callable[[Request], Awaitable[Response]],
        *,
        name: str,
        methods: Sequence[str] = ("POST",),
    ) -> None:
        """Serve an endpoint, whatever it takes."""

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RefusedError as refused:
                return json_response(_refusal(refused))

        async def endpoint(request: Request) -> Response:
            if request.method == "POST":
                self.requests[name] += 1
            return await self._with_faults(name, request, lambda: answer(request))

        self.routes.append(Route(path, endpoint, methods=list(methods)))

    def build(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(routes=self.routes, exception_handlers={HTTPException: _http_error})

    async def _with_faults(
        self, name: str, request: Request, answer: Callable[[], Awaitable[Response]]
    ) -> Response:
        fault = self.faults.take(name)
        try:
            if fault is None:
                return await answer()
            await _pause(request, fault.delay)
            if fault.late or (fault.status is None and not fault.drop):
                response = await answer()
                if not fault.late:
                    return response
        except ClientDisconnect:
            return _Nothing()
        if fault.drop:
            request.state.transport.abort()
            return _Nothing()
        return _trouble(fault)


class _Nothing(Response):
    """No response: the connection is cut."""

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        """Send nothing."""


def call_of(request: Request, form: Form) -> Call:
    """Return the request as endpoints look at it.

    Raises:
        RefusedError: The certificate in TLS is no X509-SVID.
    """
    listener: Listener = request.state.listener
    headers = tuple((n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in request.headers.raw)
    return Call(listener.origin + request.url.path, form, headers, certificate_of(request), request.method)


def _refusal(refused: RefusedError) -> Reply:
    body = {"error": refused.error, "error_description": refused.description} if refused.error else {}
    return Reply(body, refused.status, refused.headers)


def _trouble(fault: Fault) -> Response:
    headers = dict(fault.headers)
    if fault.retry_after is not None:
        headers["Retry-After"] = fault.retry_after
    if fault.body is not None:
        return Response(fault.body, fault.status or 200, headers, media_type=fault.content_type)
    body = {"error": fault.error, "error_description": "trouble on purpose"} if fault.error else {}
    return json_response(Reply(body, fault.status or 200, headers))


async def _pause(request: Request, seconds: float) -> None:
    """Wait, but not beyond the end of the server."""
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(request.state.stopping.wait(), seconds)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = {"error": "invalid_request", "error_description": error.detail}
    return json_response(Reply(body, error.status_code, dict(error.headers or {})))
