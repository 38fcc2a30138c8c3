"""One try of one request to a token broker; retrying is for whoever calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._frames import async_border
from spiffe_client.errors import (
    InvalidClientError,
    OAuthError,
    TokenBrokerUnavailableError,
    TokenRequestError,
)
from spiffe_client.tokens._authentication import Challenged, ClientAuthentication, ClientFacts
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._form import Presented, form_of
from spiffe_client.tokens._granted import Granted, check_binding, check_granted
from spiffe_client.tokens._identity import Identity
from spiffe_client.tokens._in_time import InTime
from spiffe_client.tokens._metadata import EndpointName, Metadata
from spiffe_client.tokens._parties import Subject
from spiffe_client.tokens._reply import Issued, Reply, error_of, issued
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._subject import check_holder, present
from spiffe_client.tokens._tokens import AccessToken, Binding, BindingMethod, SecurityToken

if TYPE_CHECKING:
    from spiffe_client.tokens._dpop import DpopKey
    from spiffe_client.tokens._nonces import Nonces

__all__ = ["Minted", "TokenEndpoint"]

#: Seconds that a token is taken to be valid whose token broker does not say.
_UNKNOWN_LIFE: Final = 60.0

_Form: TypeAlias = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Minted:
    """A token just issued.

    Attributes:
        token: What was granted.
        expires_in: Seconds from when it was asked for until it expires, or the certificate does that it
            is bound to; None if nobody knows.
        refresh_in: Seconds until the token broker wants to be asked again; None if it does not say.
    """

    token: AccessToken | SecurityToken
    expires_in: float | None
    refresh_in: float | None


class TokenEndpoint:
    """A token broker's endpoints, called as one client.

    Args:
        metadata: Where they are.
        channel: How to reach them.
        authentication: How the client shows who it is.
        client_id: The OAuth client; empty if it has none.
        identity: This workload's identity; None if it has none.
        binding: What access tokens are bound to.
        dpop: The key they are bound to, with `dpop`.
        nonces: What servers want in proofs, with `dpop`.
        clock: Tells the time.

    Raises:
        TokenRequestError: Something is missing that `binding` needs.
    """

    def __init__(
        self,
        metadata: Metadata,
        channel: Channel,
        *,
        authentication: ClientAuthentication,
        client_id: str = "",
        identity: Identity | None = None,
        binding: BindingMethod = "none",
        dpop: DpopKey | None = None,
        nonces: Nonces | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if binding == "dpop" and (dpop is None or nonces is None):
            raise TokenRequestError('binding="dpop" needs a key and nonces')
        self._metadata = metadata
        self._channel = channel
        self._authentication = authentication
        self._client_id = client_id
        self._identity = identity
        self._binding: BindingMethod = binding
        self._dpop = dpop if binding == "dpop" else None
        self._nonces = nonces
        self._clock = clock

    @async_border
    async def mint(
        self,
        request: TokenRequest,
        *,
        timeout: float,  # noqa: ASYNC109 - a total deadline, kept with anyio's
        refresh: bool = False,
        channel: Channel | None = None,
    ) -> Minted:
        """Ask for a token once; a DPoP nonce that the token broker wants is answered within.

        Args:
            request: What for.
            timeout: Seconds for everything.
            refresh: Whether subject and credentials of the last try were refused.
            channel: One to use in place of the usual one.

        Raises:
            TokenError: It was not issued, or not what was asked for.
            SourceError: There is no identity now.
            UnavailableError: There is no JWT-SVID to show in time.
        """
        began = self._clock.now()
        use = channel or self._channel
        with anyio.move_on_after(timeout):
            call = _Call("token_endpoint", timeout, refresh, use, self._in_time(timeout))
            held = self._held(use)
            for subject in (request.subject, request.actor):
                check_holder(subject, held)
            form = form_of(
                request,
                subject=await self._present(request.subject, call.identity),
                actor=await self._present(request.actor, call.identity),
            )
            reply = await self._post(call, form, request.subject)
            return self._read(request, reply, began)
        raise TokenBrokerUnavailableError(f"no token from {self._metadata.issuer} within {timeout:g} s")

    @async_border
    async def call(
        self,
        endpoint: EndpointName,
        form: Sequence[tuple[str, str]],
        *,
        timeout: float,  # noqa: ASYNC109 - a total deadline, kept with anyio's
        refresh: bool = False,
        channel: Channel | None = None,
    ) -> Reply:
        """Post a form to an endpoint with client authentication; the answer is not judged.

        For revocation and introspection.

        Args:
            endpoint: Which.
            form: Parameters beside those of client authentication.
            timeout: Seconds for everything.
            refresh: Whether the credentials of the last try were refused.
            channel: One to use in place of the usual one.

        Raises:
            UnsupportedByBrokerError: The token broker has no such endpoint.
            TokenError: As `_http.post`, or there are no credentials.
            SourceError: There is no identity now.
        """
        with anyio.move_on_after(timeout):
            call = _Call(endpoint, timeout, refresh, channel or self._channel, self._in_time(timeout))
            return await self._send(call, form)
        raise TokenBrokerUnavailableError(f"no answer from {self._metadata.issuer} within {timeout:g} s")

    def _url(self, endpoint: EndpointName) -> str:
        mtls = self._authentication.presents_certificate or self._binding == "mtls"
        return self._metadata.endpoint(endpoint, mtls=mtls)

    def _held(self, channel: Channel) -> list[Binding]:
        certificate = channel.certificate
        held = [] if certificate is None else [Binding("mtls", certificate)]
        return held if self._dpop is None else [*held, Binding("dpop", self._dpop.jkt)]

    def _in_time(self, seconds: float) -> InTime | None:
        if self._identity is None:
            return None
        return InTime(self._identity, issuer=self._metadata.issuer, seconds=seconds)

    async def _present(self, subject: Subject | None, identity: Identity | None) -> Presented | None:
        if subject is None:
            return None
        return await present(subject, issuer=self._metadata.issuer, identity=identity)

    async def _post(self, call: _Call, form: _Form, subject: Subject | None) -> Reply:
        """Ask for a token; once more with the nonce that the token broker wants (RFC 9449 §8)."""
        if self._dpop is None or self._nonces is None:
            return await self._send(call, form)
        bound = isinstance(subject, AccessToken) and subject.binding.method == "dpop"
        # One proof is for both, the token that is exchanged and the new one; no standard says so yet.
        token = subject.token.reveal() if isinstance(subject, AccessToken) and bound else None
        url = self._url(call.endpoint)
        nonce = self._nonces.of(url)
        again = False
        while True:
            proof = self._dpop.proof("POST", url, at=self._clock.now(), token=token, nonce=nonce)
            reply = await self._send(call, form, ("dpop", proof))
            code = _code(reply, self._clock.now())
            nonce = self._nonces.retry(url, error=code, headers=reply.headers, sent=nonce)
            if nonce is None or again:
                return reply
            again = True

    async def _send(self, call: _Call, form: _Form, *headers: tuple[str, str]) -> Reply:
        # Imported with the first request: httpx is heavy.
        from spiffe_client.tokens._http import post

        url = self._url(call.endpoint)
        facts = ClientFacts(self._metadata.issuer, self._client_id, url, call.identity)
        # Made anew for each request: an assertion that is seen twice may be refused.
        credentials = await self._authentication.credentials(
            facts, now=self._clock.now(), refresh=call.refresh
        )
        reply = await post(
            call.channel,
            url,
            [*form, *credentials.form],
            headers=[*credentials.headers, *headers],
            secrets=credentials.secrets,
            timeout=call.timeout,
        )
        if isinstance(self._authentication, Challenged):
            self._authentication.heard(facts, reply.headers)
        client = dict(credentials.form).get("client_id") or getattr(self._authentication, "client_id", None)
        return replace(reply, client=client or self._client_id)

    def _read(self, request: TokenRequest, reply: Reply, began: datetime) -> Minted:
        try:
            answer = issued(reply, now=self._clock.now())
        except InvalidClientError as error:
            if methods := self._metadata.token_endpoint_auth_methods_supported:
                error.add_note(
                    f"tried was {self._authentication.method}; its metadata names {', '.join(methods)}"
                )
            raise
        binding = self._wanted(reply)
        granted = check_granted(request, answer)
        check_binding(binding, answer)
        expires_in = answer.expires_in
        if binding.method == "mtls" and reply.shown is not None:
            left = (reply.shown.not_after - began).total_seconds()
            expires_in = left if expires_in is None else min(left, expires_in)
        expires_at = began + timedelta(seconds=_UNKNOWN_LIFE if expires_in is None else expires_in)
        token = self._token(request, answer, granted, binding, expires_at)
        return Minted(token, expires_in, answer.refresh_in)

    def _wanted(self, reply: Reply) -> Binding:
        if self._dpop is not None:
            return Binding("dpop", self._dpop.jkt)
        if self._binding == "mtls":
            return Binding("mtls", reply.shown.thumbprint if reply.shown else "")
        return Binding()

    def _token(
        self,
        request: TokenRequest,
        answer: Issued,
        granted: Granted,
        binding: Binding,
        expires_at: datetime,
    ) -> AccessToken | SecurityToken:
        issuer = self._metadata.issuer
        if answer.token_type == "N_A":
            return SecurityToken(
                answer.token, issuer, request, granted.scope, granted.issued_token_type, expires_at
            )
        return AccessToken(
            token=answer.token,
            token_type=answer.token_type,
            issuer=issuer,
            request=request,
            scope=granted.scope,
            authorization_details=granted.authorization_details,
            issued_token_type=granted.issued_token_type,
            expires_at=expires_at,
            binding=binding,
        )


@dataclass(frozen=True, slots=True)
class _Call:
    endpoint: EndpointName
    timeout: float
    refresh: bool
    channel: Channel
    identity: InTime | None


def _code(reply: Reply, now: datetime) -> str | None:
    if reply.status not in (400, 401):
        return None
    error = error_of(reply, now=now)
    return error.error if isinstance(error, OAuthError) else None
