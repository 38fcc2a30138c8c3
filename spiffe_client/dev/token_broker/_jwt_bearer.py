"""The jwt-bearer grant (RFC 7523 §2.1): the second leg of identity chaining, of ID-JAG, of a ticket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._authentication import Caller
from spiffe_client.dev.token_broker._authorization_server import AuthorizationServer
from spiffe_client.dev.token_broker._delegation import chain
from spiffe_client.dev.token_broker._granting import Ceiling, decide
from spiffe_client.dev.token_broker._jwt import Jwt, NotAcceptableError
from spiffe_client.dev.token_broker._messages import Call, RefusedError
from spiffe_client.dev.token_broker._rules import Client
from spiffe_client.dev.token_broker._store import Record
from spiffe_client.dev.token_broker._trust import check_audience

__all__ = ["jwt_bearer"]


@dataclass(frozen=True, slots=True)
class _Assertion:
    """An assertion that is accepted.

    Attributes:
        claims: What it says.
        rules: On whose authority a token is issued for it.
        ticket: What is known of it, if it is one of ours.
    """

    claims: Mapping[str, object] = field(repr=False)
    rules: tuple[Client, ...]
    ticket: Record | None = None

    @property
    def ceiling(self) -> Ceiling | None:
        """What it allows; None if it leaves that to us."""
        limits = self.ticket is not None or not self.claims.keys().isdisjoint(
            ("scope", "authorization_details")
        )
        resource = self.claims.get("resource", [])
        meant = {**self.claims, "aud": resource}  # it is for us itself
        return Ceiling.of(meant) if limits else None


def jwt_bearer(server: AuthorizationServer, caller: Caller, call: Call) -> dict[str, object]:
    """Issue a token for an assertion.

    Raises:
        RefusedError: The assertion is not acceptable (`invalid_grant`), or more is asked for than it allows.
    """
    try:
        jwt = Jwt.parse(call.form.need("assertion"))
        ours = jwt.claims.get("iss") == server.issuer
        accepted = _ticket(server, caller, call) if ours else _foreign(server, caller, jwt)
    except NotAcceptableError as error:
        raise RefusedError("invalid_grant", f"the assertion: {error}") from error
    claims, ticket = accepted.claims, accepted.ticket
    bound = server.bound(caller, call, None)
    if isinstance(claims.get("cnf"), Mapping) and claims["cnf"] != bound.cnf:
        raise RefusedError("invalid_grant", "the assertion is bound to a key that was not proven")
    granted = decide(call.form, accepted.rules, server.always, accepted.ceiling)
    act = chain(
        claims, caller.subject if ticket is not None and ticket.client_id != caller.client_id else None
    )
    if ticket is not None:
        ticket.used = True
    return server.issue_access_token(
        caller,
        granted,
        bound,
        subject=str(claims["sub"]),
        extra={} if act is None else {"act": dict(act)},
        parent=ticket,
    )


def _foreign(server: AuthorizationServer, caller: Caller, jwt: Jwt) -> _Assertion:
    """Accept an assertion of another issuer.

    Raises:
        NotAcceptableError: It is not acceptable.
    """
    # By type: an access token that happens to be for us is none.
    if "typ" in jwt.header and not jwt.type_is("jwt", "oauth-id-jag+jwt", "authorization-grant+jwt"):
        raise NotAcceptableError("its type is not that of an authorization grant")
    server.trust.foreign(jwt)
    check_audience(jwt, server.issuer, sole=True)
    jwt.text("sub")
    if jwt.type_is("oauth-id-jag+jwt") and jwt.text("client_id") != caller.client_id:
        raise NotAcceptableError("it was issued to another client")
    return _Assertion(jwt.claims, (caller.rule,))


def _ticket(server: AuthorizationServer, caller: Caller, call: Call) -> _Assertion:
    """Accept a ticket of our own, once, from whom its owner lets act.

    Raises:
        NotAcceptableError: It is not acceptable.
    """
    record = server.store.find(call.form.need("assertion"))
    if record.kind != names.JWT or record.claims.get("aud") != server.issuer:
        raise NotAcceptableError("it is not meant for this token broker")
    owner = server.rules.client(record.client_id)
    lent = owner is not None and owner.lets_act(caller.subject)
    if record.client_id != caller.client_id and not lent:
        raise NotAcceptableError("its owner does not let this client act")
    if record.used:
        raise NotAcceptableError("it was used before")
    for detail in Ceiling.of(record.claims).details:
        if detail.get("type") == names.AGENT_TICKET and detail.get("to") != caller.subject:
            raise NotAcceptableError("it is made out to another agent")
    return _Assertion(record.claims, (owner or caller.rule, caller.rule), record)
