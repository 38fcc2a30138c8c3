"""Tokens that are not access tokens: assertions for other token brokers, tickets, ID-JAG.

All of them are answered with the token type `N_A` (RFC 8693 §2.2.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._authorization_server import reply_of
from spiffe_client.dev.token_broker._messages import RefusedError

if TYPE_CHECKING:
    from spiffe_client.dev.token_broker._exchange import Exchange

__all__ = ["ASSERTION_LIFE", "issue_assertion", "issue_id_jag", "not_an_access_token"]

#: Seconds that such a token lasts at most.
ASSERTION_LIFE = 60.0


def not_an_access_token(
    done: Exchange, kind: str, claims: Mapping[str, object], *, typ: str
) -> dict[str, object]:
    """Issue a token that is not an access token and return the reply.

    Args:
        done: The exchange.
        kind: What it is, as a URN.
        claims: What it says.
        typ: Its media type.
    """
    token, record = done.server.issue(
        kind, claims, typ=typ, caller=done.caller, parent=done.subject.record, most=ASSERTION_LIFE
    )
    return {**reply_of(token, record, "N_A", done.granted), "issued_token_type": kind}


def _addressed(done: Exchange) -> dict[str, object]:
    """Return the claims that any assertion has: for one token broker, and for what behind it.

    Raises:
        RefusedError: It would be for none, or for several.
    """
    form = done.call.form
    # The draft lets `resource` name the other token broker, too (identity chaining §2.3.1).
    brokers, resources = form.all("audience"), form.all("resource")
    if not brokers:
        brokers, resources = resources, ()
    if len(brokers) != 1:
        raise RefusedError("invalid_target", "an assertion is for one token broker: say which, as audience")
    claims: dict[str, object] = {**done.granted.claims, **done.claims, "aud": brokers[0]}
    if resources:
        claims["resource"] = resources[0] if len(resources) == 1 else list(resources)
    return {**claims, "sub": done.subject.subject}


def issue_assertion(done: Exchange) -> dict[str, object]:
    """Issue an assertion for another token broker (identity chaining §2.3), or a ticket for this one.

    Raises:
        RefusedError: It would be for none, or for several.
    """
    return not_an_access_token(done, names.JWT, _addressed(done), typ="JWT")


def issue_id_jag(done: Exchange) -> dict[str, object]:
    """Issue an identity assertion authorization grant (draft-ietf-oauth-identity-assertion-authz-grant §4).

    It is bound to a DPoP key if this client's tokens always are.

    Raises:
        RefusedError: It would be for none, or for several.
    """
    claims = {**_addressed(done), "client_id": done.caller.client_id}
    if done.caller.rule.binding == "dpop" and done.bound.cnf is not None:
        claims["cnf"] = dict(done.bound.cnf)
    return not_an_access_token(done, names.ID_JAG, claims, typ="oauth-id-jag+jwt")
