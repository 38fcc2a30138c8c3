"""Steps of `doctor` at a token broker that is found: what it offers, who we are there, a token."""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._asking import WITH_SECRET
from spiffe_client.cli._asking_broker import CurrentIdentity, client_id_of, open_broker
from spiffe_client.cli._doctor._patient import Ailment, Found
from spiffe_client.cli._facts import until
from spiffe_client.cli._report import timestamp
from spiffe_client.cli._wanted import grant_in_words
from spiffe_client.errors import InvalidClientError, OAuthError, TokenProtocolError
from spiffe_client.tokens import (
    AccessToken,
    ClientAuthentication,
    Metadata,
    OwnSvid,
    ServerTrust,
    TokenRequest,
)
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._endpoint import TokenEndpoint
from spiffe_client.tokens._metadata import EndpointName
from spiffe_client.tokens._reply import Reply, error_of
from spiffe_client.tokens._urns import JWT, TOKEN_EXCHANGE

__all__ = ["Consultation", "look_at_client", "look_at_exchange", "look_at_offers", "what_was_tried"]

#: Nobody has issued it: what is answered about it tells only whether the client is accepted.
_MADE_UP = "spiffe-client-doctor"

_UNKNOWN_WORKLOAD = "register it there with this way of authentication, or say --client-id and --auth"
_UNKNOWN_CLIENT = "are its ID, its secret or key, and --auth those registered there?"


@dataclass(slots=True)
class Consultation:
    """One token broker, as far as it is known.

    Attributes:
        arguments: Of the command line.
        trust: How it is verified.
        authentication: How we show who we are.
        identity: Whether this workload's identity says or shows who asks, or is what verifies or binds.
        request: What is to be asked for; None: nothing.
        stack: What is closed at the end.
        channel: How it is reached, without a certificate where it is of the web PKI.
        first: Its first answer, or why it is none.
        metadata: Once it was found.
    """

    arguments: argparse.Namespace
    trust: ServerTrust
    authentication: ClientAuthentication
    identity: bool
    request: TokenRequest | None
    stack: AsyncExitStack = field(init=False, repr=False)
    channel: Channel = field(init=False, repr=False)
    first: Reply | TokenProtocolError | None = None
    metadata: Metadata = field(init=False)

    @property
    def issuer(self) -> str:
        """Its issuer identifier, as it was said."""
        return str(self.arguments.token_broker)

    @property
    def timeout(self) -> float:
        """Seconds that an answer may take."""
        return float(self.arguments.timeout)

    @property
    def own(self) -> bool:
        """Whether this workload's JWT-SVID is what is exchanged."""
        return self.request is not None and isinstance(self.request.subject, OwnSvid)

    def take_first(self) -> Reply | None:
        """Return the first answer, once.

        Raises:
            TokenProtocolError: It was none.
        """
        first, self.first = self.first, None
        if isinstance(first, TokenProtocolError):
            raise first
        return first


async def look_at_offers(case: Consultation) -> Found:
    """What does it support, and is what we want among it (RFC 8414 §2)?"""
    metadata, binding = case.metadata, case.arguments.binding
    dpop, mtls = (
        metadata.dpop_signing_alg_values_supported,
        metadata.tls_client_certificate_bound_access_tokens,
    )
    offered = {"dpop": "ES256" in dpop, "mtls": mtls, "none": True}
    if not offered[binding]:
        others = [name for name in ("dpop", "mtls") if offered[name]]
        raise Ailment(
            f"it does not say that it binds tokens by {binding}",
            code="unsupported_by_broker",
            advice=f"say --binding {others[0] if others else 'none'}, or have it switched on there",
        )
    facts: dict[str, object] = {
        "grants": list(metadata.grant_types_supported),
        "authentications": list(metadata.token_endpoint_auth_methods_supported),
        "dpop": list(dpop),
        "mtls": mtls,
        "introspection": metadata.introspection_endpoint is not None,
        "revocation": metadata.revocation_endpoint is not None,
        "details": list(metadata.authorization_details_types_supported),
    }
    lacks = [name for name in ("introspection", "revocation") if not facts[name]]
    lines = [f"bindings: {', '.join(name for name in ('dpop', 'mtls') if offered[name]) or 'none'}"]
    lines += [f"without {' and '.join(lacks)}"] if lacks else []
    if (grants := metadata.grant_types_supported) and TOKEN_EXCHANGE not in grants:
        lines.append("it does not list token exchange among its grants")
    known = metadata.token_endpoint_auth_methods_supported
    if known and not _names(case.authentication) & set(known):
        lines.append(f"it does not list {case.authentication.method} among its client authentications")
    return Found("\n".join(lines), facts)


def _names(authentication: ClientAuthentication) -> set[str]:
    # As RFC 8705 calls what the SPIFFE draft has another name for.
    return {authentication.method, *(("tls_client_auth",) if authentication.presents_certificate else ())}


async def look_at_client(case: Consultation) -> Found:
    """Does it accept who we are? Asked with a token that nobody issued, which changes nothing."""
    identity = await CurrentIdentity.fetch(case.arguments) if case.identity else None
    client_id = client_id_of(case.arguments, identity)
    shows = case.authentication.presents_certificate
    channel = Channel(case.trust, identity=identity, present_svid=shows)
    case.stack.push_async_callback(channel.aclose)
    endpoint = TokenEndpoint(
        case.metadata,
        channel,
        authentication=case.authentication,
        client_id=client_id,
        identity=identity,
    )
    name, form = _harmless(case.metadata)
    reply = await endpoint.call(name, form, timeout=case.timeout)
    method = case.authentication.method
    if reply.status != 200:
        error = error_of(reply, now=SYSTEM_CLOCK.now())
        if isinstance(error, InvalidClientError) or (isinstance(error, OAuthError) and error.status == 401):
            raise Ailment(
                f"{client_id or 'this client'} is not accepted by {method}: {error}",
                code=error.error,
                advice=_UNKNOWN_CLIENT if case.arguments.auth in WITH_SECRET else _UNKNOWN_WORKLOAD,
            ) from error
        if not isinstance(error, OAuthError):
            raise error
    return Found(
        f"{client_id or 'this client'} is accepted, by {method}",
        {"client_id": client_id, "method": method, "endpoint": name},
    )


def _harmless(metadata: Metadata) -> tuple[EndpointName, list[tuple[str, str]]]:
    """Return a request that every client may make, and that does nothing."""
    if metadata.revocation_endpoint is not None:
        return "revocation_endpoint", [("token", _MADE_UP)]
    if metadata.introspection_endpoint is not None:
        return "introspection_endpoint", [("token", _MADE_UP)]
    # It fails behind the authentication, of which its error says nothing then.
    return "token_endpoint", [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", _MADE_UP),
        ("subject_token_type", JWT),
    ]


def what_was_tried(request: TokenRequest) -> Found:
    """Say by which grant a token is asked for."""
    return Found(f"tried: {grant_in_words(request)}", {"grant": request.grant})


async def look_at_exchange(request: TokenRequest, case: Consultation) -> Found:
    """Is a token issued as it was asked for? It is revoked again where that can be."""
    tried = what_was_tried(request)
    async with open_broker(case.arguments, binding=case.arguments.binding, identity=case.own) as broker:
        token = await broker.exchange(request)
        revoked = await broker.revoke(token)
    facts: dict[str, object] = {
        **tried.facts,
        "scope": sorted(token.scope),
        "missing_scope": sorted(request.scope - token.scope),
        "binding": token.binding.method if isinstance(token, AccessToken) else "none",
        "expires_at": timestamp(token.expires_at),
        "fingerprint": token.fingerprint,
        "revocation": revoked.outcome,
    }
    lines = [
        f"{' '.join(sorted(token.scope)) or 'no scope'}, until {until(token.expires_at, SYSTEM_CLOCK.now())}"
    ]
    if missing := request.scope - token.scope:
        lines.append(f"not granted: {' '.join(sorted(missing))}")
    lines.append(tried.detail)
    lines.append(f"taken back again: {revoked.outcome.replace('_', ' ')}")
    return Found("\n".join(lines), facts)
