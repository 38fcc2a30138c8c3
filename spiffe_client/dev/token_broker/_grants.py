"""The token endpoint: which grant is asked for, and by whom (RFC 6749 §3.2, §4.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._authentication import Caller
from spiffe_client.dev.token_broker._authorization_server import AuthorizationServer
from spiffe_client.dev.token_broker._exchange import exchange
from spiffe_client.dev.token_broker._granting import decide
from spiffe_client.dev.token_broker._jwt_bearer import jwt_bearer
from spiffe_client.dev.token_broker._messages import Call, RefusedError, Reply

__all__ = ["GRANTS", "answer_token_request"]


def _client_credentials(server: AuthorizationServer, caller: Caller, call: Call) -> dict[str, object]:
    """Issue a token to the client for itself (RFC 6749 §4.4)."""
    if caller.method == "none":
        raise RefusedError(
            "unauthorized_client", "a public client has no authority of its own (RFC 6749 §4.4)"
        )
    granted = decide(call.form, (caller.rule,), server.always)
    bound = server.bound(caller, call, None)
    return server.issue_access_token(caller, granted, bound, subject=caller.subject)


#: What each grant is answered by.
GRANTS: Mapping[str, Callable[[AuthorizationServer, Caller, Call], dict[str, object]]] = {
    names.CLIENT_CREDENTIALS: _client_credentials,
    names.JWT_BEARER: jwt_bearer,
    names.TOKEN_EXCHANGE: exchange,
}


def answer_token_request(server: AuthorizationServer, call: Call) -> Reply:
    """Answer at the token endpoint.

    Raises:
        RefusedError: With the error that the grant's specification names.
    """
    grant = GRANTS.get(call.form.need("grant_type"))
    if grant is None:
        raise RefusedError("unsupported_grant_type", "this grant is not supported")
    caller = server.authenticate(call)
    return Reply(grant(server, caller, call), headers=server.nonce_header)
