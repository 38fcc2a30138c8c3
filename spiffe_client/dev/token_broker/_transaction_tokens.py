"""Transaction tokens (draft-ietf-oauth-transaction-tokens). Experimental: they change with the draft."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._assertions import not_an_access_token
from spiffe_client.dev.token_broker._messages import RefusedError

if TYPE_CHECKING:
    from spiffe_client.dev.token_broker._exchange import Exchange

__all__ = ["issue_transaction_token"]


def issue_transaction_token(done: Exchange) -> dict[str, object]:
    """Issue a transaction token, or a narrower one in place of another (§5-7 of the draft).

    Raises:
        RefusedError: Audience or scope is missing, or it is not for this trust domain.
    """
    form, former = done.call.form, done.subject
    form.need("scope")
    if len(done.granted.targets) != 1 or not form.all("audience"):
        raise RefusedError("invalid_request", "a transaction token is for one trust domain: say which")
    claims: dict[str, object] = {
        **done.granted.claims,
        "sub": former.subject,
        "req_wl": done.caller.subject,
        "txn": secrets.token_urlsafe(16),
        **done.claims,
    }
    for claim, parameter in (("tctx", "request_details"), ("rctx", "request_context")):
        given = form.json_object(parameter)
        if given is not None:
            claims[claim] = given
    if former.record is not None and former.record.kind == names.TXN_TOKEN:
        kept = {n: former.claims[n] for n in ("txn", "sub", "aud", "tctx", "rctx") if n in former.claims}
        if claims["aud"] != kept["aud"]:
            raise RefusedError("invalid_target", "the token in its place must have the same audience")
        claims |= kept
    return not_an_access_token(done, names.TXN_TOKEN, claims, typ="txntoken+jwt")
