"""Revocation: a token, and all that was made from it (RFC 7009)."""

from __future__ import annotations

from spiffe_client.dev.token_broker._authorization_server import AuthorizationServer
from spiffe_client.dev.token_broker._jwt import NotAcceptableError
from spiffe_client.dev.token_broker._messages import Call, RefusedError, Reply

__all__ = ["answer_revocation"]


def answer_revocation(server: AuthorizationServer, call: Call) -> Reply:
    """Answer at the revocation endpoint (§2).

    Raises:
        RefusedError: The client did not prove itself, or the token is another client's (§2.1).
    """
    caller = server.authenticate(call)
    try:
        record = server.store.find(call.form.need("token"))
    except NotAcceptableError:
        return Reply()  # what is not good is revoked already (§2.2)
    if record.client_id != caller.client_id:
        raise RefusedError("unauthorized_client", "the token was issued to another client")
    server.store.revoke(record)
    return Reply()
