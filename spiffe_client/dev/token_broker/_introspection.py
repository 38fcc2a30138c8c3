"""Introspection: what a token is, for whom it concerns (RFC 7662)."""

from __future__ import annotations

from collections.abc import Mapping

from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._authentication import Caller
from spiffe_client.dev.token_broker._authorization_server import AuthorizationServer
from spiffe_client.dev.token_broker._granting import Ceiling
from spiffe_client.dev.token_broker._jwt import NotAcceptableError
from spiffe_client.dev.token_broker._messages import Call, RefusedError, Reply
from spiffe_client.dev.token_broker._store import Record

__all__ = ["answer_introspection"]


def answer_introspection(server: AuthorizationServer, call: Call) -> Reply:
    """Answer at the introspection endpoint (§2).

    A token is shown to whom it was issued and for whom it is; to anybody else it is as good as none
    (§4), and so is one that is malformed, foreign, expired or revoked.

    Raises:
        RefusedError: The client did not prove itself, or a parameter is missing.
    """
    caller = server.authenticate(call)
    if caller.method == "none":
        raise RefusedError("invalid_client", "introspection needs client authentication", status=401)
    try:
        record = server.store.find(call.form.need("token"))
    except NotAcceptableError:
        return Reply({"active": False})
    if not _concerns(record, caller):
        return Reply({"active": False})
    return Reply({"active": True, **_facts(record)})


def _concerns(record: Record, caller: Caller) -> bool:
    return record.client_id == caller.client_id or caller.is_audience_of(Ceiling.of(record.claims).targets)


def _facts(record: Record) -> Mapping[str, object]:
    facts: dict[str, object] = dict(record.claims)
    facts["client_id"] = record.client_id
    cnf = record.claims.get("cnf")
    if record.kind == names.ACCESS_TOKEN:
        facts["token_type"] = "DPoP" if isinstance(cnf, Mapping) and "jkt" in cnf else "Bearer"
    else:
        facts["token_type"] = "N_A"
    return facts
