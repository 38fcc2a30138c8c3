"""Token exchange (RFC 8693): one's own authority narrowed, or somebody's lent to an actor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spiffe_client.dev.token_broker import _names as names
from spiffe_client.dev.token_broker._assertions import issue_assertion, issue_id_jag
from spiffe_client.dev.token_broker._authentication import Caller
from spiffe_client.dev.token_broker._authorization_server import AuthorizationServer, Bound
from spiffe_client.dev.token_broker._delegation import chain
from spiffe_client.dev.token_broker._granting import Ceiling, Granted, decide
from spiffe_client.dev.token_broker._messages import Call, Form, RefusedError
from spiffe_client.dev.token_broker._parties import Party, party_of
from spiffe_client.dev.token_broker._rules import Client
from spiffe_client.dev.token_broker._transaction_tokens import issue_transaction_token

__all__ = ["Exchange", "exchange"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange that is allowed, before anything is issued.

    Attributes:
        server: Who was asked.
        caller: Who asked.
        call: What for.
        subject: Whom the new token is about.
        granted: What it will allow.
        bound: What it will be bound to.
        act: Who acts for the subject, if somebody does.
    """

    server: AuthorizationServer
    caller: Caller
    call: Call
    subject: Party
    granted: Granted
    bound: Bound
    act: Mapping[str, object] | None

    @property
    def claims(self) -> dict[str, object]:
        """The claims of delegation (RFC 8693 §4.1)."""
        return {} if self.act is None else {"act": dict(self.act)}


def exchange(server: AuthorizationServer, caller: Caller, call: Call) -> dict[str, object]:
    """Answer a request for token exchange.

    Raises:
        RefusedError: A token is not acceptable, or may not be exchanged for what is asked.
    """
    form = call.form
    token, kind = form.need("subject_token"), form.need("subject_token_type")
    subject = party_of(server, token, kind, caller, "subject")
    actor = _actor(server, caller, form)
    rules = _authority(server, caller, subject, actor)
    ours = subject.record is not None
    bound = server.bound(caller, call, (token, subject.claims) if ours else None)
    limited = ours or ("scope" in subject.claims and not subject.own_word)
    ceiling = Ceiling.of(subject.claims) if limited else None
    granted = decide(form, rules, server.always, ceiling)
    act = chain(subject.claims, None if actor is None else actor.subject)
    done = Exchange(server, caller, call, subject, granted, bound, act)
    wanted = _wanted(server, form, granted)
    issue = _ISSUERS.get(wanted)
    restricted = subject.own_word or kind == names.TXN_TOKEN
    if issue is None or (restricted and wanted != names.TXN_TOKEN):
        raise RefusedError("invalid_request", "the requested_token_type is not supported")
    return issue(done)


def _actor(server: AuthorizationServer, caller: Caller, form: Form) -> Party | None:
    token, kind = form.one("actor_token"), form.one("actor_token_type")
    if (token is None) != (kind is None):
        raise RefusedError("invalid_request", "actor_token and actor_token_type come together or not at all")
    if token is None or kind is None:
        return None
    actor = party_of(server, token, kind, caller, "actor")
    if actor.subject != caller.subject:
        raise RefusedError("invalid_request", "the actor token is not that of the client which is asking")
    return actor


def _authority(
    server: AuthorizationServer, caller: Caller, subject: Party, actor: Party | None
) -> tuple[Client, ...]:
    """Return on whose authority this is, if the caller may use it at all.

    Raises:
        RefusedError: Nobody lets it.
    """
    may_act = subject.claims.get("may_act")
    named = isinstance(may_act, Mapping) and may_act.get("sub") == caller.subject
    if subject.record is not None:
        owner = subject.record.client_id
        own = owner == caller.client_id
    elif subject.is_svid:
        owner = subject.subject
        own = owner == caller.subject
    else:  # of another issuer, and meant for us or for this client: that was checked
        owner = caller.client_id
        own = not isinstance(may_act, Mapping)
    rule = server.rules.client(owner)
    lent = named or (rule is not None and rule.lets_act(caller.subject))
    meant = subject.record is not None and caller.is_audience_of(Ceiling.of(subject.claims).targets)
    if not (own or lent or meant):
        who = "the actor" if actor else "this client"
        raise RefusedError("invalid_request", f"{who} may not act for the subject")
    if subject.is_svid and not own:  # its authority is lent, and nothing of the borrower's goes with it
        return () if rule is None else (rule,)
    return (caller.rule,) if rule is None else (rule, caller.rule)


def _wanted(server: AuthorizationServer, form: Form, granted: Granted) -> str:
    """Which kind of token is asked for; an assertion, where the audience is another issuer (A10)."""
    wanted = form.one("requested_token_type")
    if wanted is None and not server.trust.issuers.keys().isdisjoint(granted.targets):
        return names.JWT
    return wanted or names.ACCESS_TOKEN


def _access_token(done: Exchange) -> dict[str, object]:
    reply = done.server.issue_access_token(
        done.caller,
        done.granted,
        done.bound,
        subject=done.subject.subject,
        extra=done.claims,
        parent=done.subject.record,
    )
    return {**reply, "issued_token_type": names.ACCESS_TOKEN}


_ISSUERS: Mapping[str, Callable[[Exchange], dict[str, object]]] = {
    names.ACCESS_TOKEN: _access_token,
    names.JWT: issue_assertion,
    names.ID_JAG: issue_id_jag,
    names.TXN_TOKEN: issue_transaction_token,
}
