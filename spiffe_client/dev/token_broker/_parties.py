"""Subject and actor of an exchange: their tokens verified (RFC 8693 §2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._authentication import Caller
from spiffe_client.dev.token_broker._authorization_server import AuthorizationServer
from spiffe_client.dev.token_broker._document import parse_document
from spiffe_client.dev.token_broker._jwt import Jwt, NotAcceptableError, check_times, for_others, verify
from spiffe_client.dev.token_broker._messages import RefusedError
from spiffe_client.dev.token_broker._store import Record
from spiffe_client.dev.token_broker._trust import check_audience

__all__ = ["Party", "party_of"]


@dataclass(frozen=True, slots=True)
class Party:
    """Whom a token is about, proven.

    Attributes:
        subject: Its `sub`.
        issuer: Who says so.
        claims: What else the token says.
        record: What is known of it, if it is one of ours.
        is_svid: Whether it is a JWT-SVID.
        own_word: Whether it is only the client that says so.
    """

    subject: str
    issuer: str
    claims: Mapping[str, object] = field(repr=False)
    record: Record | None = None
    is_svid: bool = False
    own_word: bool = False


def party_of(server: AuthorizationServer, token: str, kind: str, caller: Caller, role: str) -> Party:
    """Verify a subject or actor token.

    Args:
        server: Who is asked.
        token: The token.
        kind: What it is said to be, as a URN.
        caller: Who presents it.
        role: `subject` or `actor`, for messages.

    Raises:
        RefusedError: It is not acceptable: `invalid_request` (RFC 8693 §2.2.2).
    """
    try:
        if kind == names.UNSIGNED_JSON:
            return _unsigned(token, caller)
        jwt = Jwt.parse(token)
        if kind == names.SELF_SIGNED:
            return _self_signed(server, jwt, caller)
        issuer = jwt.claims.get("iss")
        ours = issuer == server.issuer
        if kind in (names.ACCESS_TOKEN, names.TXN_TOKEN) or (kind == names.JWT and ours):
            return _own(server, token, kind)
        # A JWT-SVID has no issuer, or one that is of no meaning (JWT-SVID §3).
        if kind == names.JWT and issuer not in server.trust.issuers:
            spiffe_id = server.trust.jwt_svid(jwt, server.issuer, sole=False)
            return Party(str(spiffe_id), str(spiffe_id.trust_domain.id), jwt.claims, is_svid=True)
        if kind in (names.JWT, names.ID_TOKEN):
            return _foreign(server, jwt, kind, caller)
    except NotAcceptableError as error:
        raise RefusedError("invalid_request", f"the {role} token: {error}") from error
    raise RefusedError("invalid_request", f"the {role}_token_type is not supported")


def _own(server: AuthorizationServer, token: str, kind: str) -> Party:
    record = server.store.find(token)
    if record.kind != kind:
        raise NotAcceptableError("it is not of the type it is said to be")
    if kind == names.JWT and record.claims.get("aud") != server.issuer:
        raise NotAcceptableError("it is for another token broker")
    return Party(str(record.claims["sub"]), server.issuer, record.claims, record)


def _self_signed(server: AuthorizationServer, jwt: Jwt, caller: Caller) -> Party:
    """What the client itself says of its own task, signed (transaction tokens §5.2)."""
    verify(jwt, caller.rule.keys)
    check_times(jwt, server.trust.now())
    check_audience(jwt, server.issuer, sole=False)
    if jwt.text("iss") != caller.client_id:
        raise NotAcceptableError("its `iss` is not the client that presents it")
    return Party(jwt.text("sub"), caller.client_id, jwt.claims, own_word=True)


def _unsigned(text: str, caller: Caller) -> Party:
    """The same unsigned: it is believed because the client is authenticated."""
    claims = parse_document(text.encode())
    subject = None if claims is None else claims.get("sub")
    if claims is None or not isinstance(subject, str) or caller.method == "none":
        raise NotAcceptableError("it is no JSON object with `sub`, from a client that is authenticated")
    return Party(subject, caller.client_id, claims, own_word=True)


def _foreign(server: AuthorizationServer, jwt: Jwt, kind: str, caller: Caller) -> Party:
    # By type: what is none of these is for something else.
    if "typ" in jwt.header and not jwt.type_is("jwt"):
        raise NotAcceptableError("its type is not JWT")
    issuer = server.trust.foreign(jwt)
    # An ID token is for the client that the person signed in at (OpenID Connect Core §2).
    meant = {server.issuer} | ({caller.client_id, caller.subject} if kind == names.ID_TOKEN else set())
    if meant.isdisjoint(jwt.audience):
        raise for_others(jwt, meant)
    return Party(jwt.text("sub"), issuer, jwt.claims)
