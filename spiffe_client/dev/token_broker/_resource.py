"""What the sample service answers: to whom it may, with what the token says; to others, why not."""

from __future__ import annotations

import json
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import httpx
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from spiffe_client._clock import Clock
from spiffe_client.audit import Event, EventSink
from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._access import AccessCheck, ChallengedError, credentials_of
from spiffe_client.dev.token_broker._app import call_of, json_response, read_body
from spiffe_client.dev.token_broker._bound_calls import fits
from spiffe_client.dev.token_broker._broker import DevTokenBroker
from spiffe_client.dev.token_broker._dpop import DpopNonces, NonceMode, ProofCheck
from spiffe_client.dev.token_broker._jwt import Jwt, NotAcceptableError, for_others
from spiffe_client.dev.token_broker._messages import Call, Form, RefusedError, Reply
from spiffe_client.dev.token_broker._trust import Trust
from spiffe_client.ids import SpiffeId

__all__ = ["Resource"]

Judge: TypeAlias = Callable[[Call, str, bytes], Awaitable[Mapping[str, object]]]

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_ASK_TIMEOUT = 5.0
_HANDSHAKE = "use_dpop_nonce"


class Resource:
    """The sample service apart from its ports.

    Args:
        broker: Whose tokens it takes.
        audience: What they may be for.
        scopes: What each path asks for.
        nonces: Whether DPoP proofs need a nonce.
        introspect: Where to ask about tokens; empty for nowhere.
        me: Who asks.
        answers: Where answers are counted, by status.
        clock: What says now.
        tell: Takes what is told of tokens that are refused.
    """

    def __init__(
        self,
        broker: DevTokenBroker,
        *,
        audience: frozenset[str],
        scopes: Mapping[str, str],
        nonces: NonceMode,
        introspect: str,
        me: SpiffeId,
        answers: Counter[int],
        clock: Clock,
        tell: EventSink,
    ) -> None:
        self._broker = broker
        self._tell = tell
        self._audience = audience
        self._scopes = scopes
        self._introspect = introspect
        self._me = me
        self._answers = answers
        self._nonces = DpopNonces(nonces, clock)
        self._check = AccessCheck(
            broker.issuer, audience, lambda: broker.keys, ProofCheck(self._nonces, clock), clock
        )
        domain = broker.domain
        self._trust = Trust(lambda: domain.bundles, lambda: domain.ca.wit_bundle, {}, clock)
        self._http: httpx.AsyncClient | None = None

    def build(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/redirect", self._redirect, methods=_METHODS),
                Route("/svid", self._svid, methods=_METHODS),
                Route("/{path:path}", self._resource, methods=_METHODS),
            ]
        )

    async def aclose(self) -> None:
        """Hang up at the token broker."""
        if self._http is not None:
            await self._http.aclose()

    async def _redirect(self, request: Request) -> Response:
        self._answers[307] += 1
        return RedirectResponse(request.query_params.get("to", "/"), 307)

    async def _svid(self, request: Request) -> Response:
        return await self._answer(request, self._by_svid)

    async def _resource(self, request: Request) -> Response:
        return await self._answer(request, self._by_token)

    async def _answer(self, request: Request, judge: Judge) -> Response:
        """Let a request in or refuse it; the DPoP nonce goes along either way (RFC 9449 §9)."""
        nonce = {} if self._nonces.mode == "off" else {"DPoP-Nonce": self._nonces.current}
        try:
            body = await read_body(request)
            said = await judge(call_of(request, Form(())), request.url.path, body)
            reply = Reply({**said, "method": request.method, "received": len(body)}, headers=nonce)
        except ClientDisconnect:
            return Response(status_code=400)
        except ChallengedError as error:
            headers = {"WWW-Authenticate": error.challenge, **nonce}
            about = {"error": error.error, "error_description": error.description} if error.error else {}
            reply = Reply(about, error.status, headers)
            self._refused(error.error)
        except RefusedError as error:
            about = {"error": error.error, "error_description": error.description}
            reply = Reply(about, error.status, error.headers)
            self._refused(error.error)
        self._answers[reply.status] += 1
        return json_response(reply)

    def _refused(self, code: str) -> None:
        # What is told has no more than the code: the rest is about what a caller has shown. Who has shown nothing,
        # or gets a nonce to begin with, is refused nothing.
        if code and code != _HANDSHAKE:
            facts = {"workload": str(self._me), "issuer": self._broker.issuer, "error": code}
            verdict = {"decision": "deny", "reason": code, "outcome": "denied"}
            self._tell(
                Event("token.refused", f"a token was refused: {code}", facts | verdict, logging.WARNING)
            )

    async def _by_token(self, call: Call, path: str, body: bytes) -> Mapping[str, object]:
        presented = self._check.check(call, self._scopes.get(path, ""))
        if self._introspect and not await self._is_active(presented.token):
            raise ChallengedError(401, "invalid_token", "the token was revoked", scheme=presented.scheme)
        if not fits(presented.claims, body):
            why = "the token is bound to a call with other arguments"
            raise ChallengedError(403, "insufficient_scope", why, scheme=presented.scheme)
        shown = ("sub", "client_id", "scope", "act", "purpose", "authorization_details")
        return {name: presented.claims[name] for name in shown if name in presented.claims}

    async def _by_svid(self, call: Call, _path: str, _body: bytes) -> Mapping[str, object]:
        scheme, token = credentials_of(call)
        if scheme != "Bearer":
            raise ChallengedError(401, "invalid_token", "a JWT-SVID is presented as Bearer", scheme="Bearer")
        try:
            jwt = Jwt.parse(token)
            meant = self._audience.intersection(jwt.audience)
            if not meant:
                raise for_others(jwt, self._audience)
            spiffe_id = self._trust.jwt_svid(jwt, next(iter(meant)), sole=False)
        except NotAcceptableError as error:
            raise ChallengedError(401, "invalid_token", f"the JWT-SVID: {error}", scheme="Bearer") from error
        return {"sub": str(spiffe_id)}

    async def _is_active(self, token: str) -> bool:
        """Ask the token broker; no answer is a refusal (RFC 7662 §4)."""
        if self._http is None:
            # Plain HTTP on loopback: no authorities are needed, and loading them takes time.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._http = httpx.AsyncClient(verify=context, trust_env=False, timeout=_ASK_TIMEOUT)
        form = {
            "token": token,
            "client_id": str(self._me),
            "client_assertion_type": names.JWT_SPIFFE_ASSERTION,
            "client_assertion": self._broker.domain.ca.issue_jwt_svid(self._me, self._broker.issuer),
        }
        try:
            reply = await self._http.post(self._introspect, data=form)
            return reply.status_code == 200 and json.loads(reply.content).get("active") is True
        except (httpx.HTTPError, ValueError) as error:
            raise RefusedError(
                "temporarily_unavailable",
                "the token broker cannot be asked about the token",
                status=503,
                headers={"Retry-After": "1"},
            ) from error
