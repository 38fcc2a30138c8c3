"""Work handed on to another process: a ticket that is redeemed once, with the other one's own key.

A token that is bound to its holder's key is of no use to anybody else, and one that is not must not
travel. So the token broker issues a ticket, an assertion for itself that lives a minute, and to whom
it is made out gets a token of its own for it, by the grant of RFC 7523 §2.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from spiffe_client._jose import parse_compact
from spiffe_client._redact import Secret
from spiffe_client.agents._attenuation import Terms
from spiffe_client.errors import AttenuationError, SpiffeError, TaskError, TicketError, TokenError
from spiffe_client.ids import SpiffeId
from spiffe_client.tokens import AccessToken, ForeignToken, OwnSvid, SecurityToken, TokenRequest
from spiffe_client.tokens._urns import JWT, JWT_BEARER

if TYPE_CHECKING:
    from spiffe_client.agents._task import Task
    from spiffe_client.policy import Contract
    from spiffe_client.tokens import TokenBroker

__all__ = ["TICKET_HEADER", "Redeemed", "Ticket", "issue_ticket", "redeem_ticket"]

#: The header of a message or request that a ticket travels in.
TICKET_HEADER: Final = "Agent-Ticket"
#: The type of the authorization details that say what it is worth (RFC 9396 §2).
_DETAILS: Final = "agent_ticket"
_LONGEST: Final = 16384
_IDS: Final = re.compile(r"[0-9a-f]{32}(?: [0-9a-f]{32}){0,32}\Z")


class Ticket:
    """A ticket, to be sent to whom it is made out; it never shows its text by accident.

    Args:
        text: As it was issued or received.

    Raises:
        TicketError: It is no ticket, to look at.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or len(text) > _LONGEST or text.count(".") != 2 or not text.isascii():
            raise TicketError("this is no ticket")
        self._text = Secret(text)

    def reveal(self) -> str:
        """Return its text, for a header or message to whom it is made out."""
        return self._text.reveal()

    def __repr__(self) -> str:
        return "Ticket(…)"


class _Details(msgspec.Struct, frozen=True):
    """What a ticket says, as its issuer wrote it."""

    type: str
    to: str
    actions: list[str]
    tenant: str
    params: dict[str, str]
    within: list[str] | None
    seconds: float
    calls: int
    depth: int
    purpose: str
    task: str
    parents: str
    trace_id: str
    until: float

    @property
    def well_formed(self) -> bool:
        """Whether its numbers are numbers, and its ids look like ids: they go to the audit."""
        numbers = math.isfinite(self.seconds) and self.seconds > 0 and self.calls >= 0 and self.depth >= 0
        ids = _IDS.match(f"{self.task} {self.parents}".rstrip(" ")) and _IDS.match(self.trace_id)
        return self.type == _DETAILS and numbers and bool(ids)


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What a ticket was worth.

    Attributes:
        broker: Who says so.
        terms: What the task may do.
        token: What its tokens are made from.
        parents: The ids of the tasks that it descends from, the nearest first.
        trace_id: Of the trace that it goes on.
    """

    broker: TokenBroker
    terms: Terms
    token: AccessToken
    parents: tuple[str, ...]
    trace_id: str


async def issue_ticket(task: Task, terms: Terms, seconds: float) -> tuple[Ticket, SecurityToken]:
    """Have a ticket issued for what a task hands on.

    Args:
        task: Which.
        terms: To whom, and what.
        seconds: How long it may be redeemed; at most a minute, which the token broker sees to.

    Raises:
        TokenError: The token broker refuses it, or cannot issue tickets.
        TicketError: There is no token broker.
    """
    broker = _broker(task.host.tokens)
    actions = [task.host.contract.actions[name] for name in sorted(terms.actions)]
    details = _Details(
        type=_DETAILS,
        to=str(terms.agent),
        actions=sorted(terms.actions),
        tenant=terms.tenant,
        params=dict(terms.params),
        within=None if terms.within is None else list(terms.within),
        seconds=float(round(terms.seconds, 3)),
        calls=terms.calls,
        depth=terms.depth,
        purpose=terms.purpose,
        task=task.id,
        parents=" ".join(task.parents),
        trace_id=task.trace_id,
        until=task.host.clock.now().timestamp() + seconds,
    )
    request = TokenRequest.of(
        *{scope for action in actions for scope in action.scopes},
        audience=broker.issuer,
        resource={one for action in actions for one in (*action.audience, *action.resource_uris)},
        authorization_details=[msgspec.to_builtins(details)],
        purpose=terms.purpose,
        subject=OwnSvid() if task.root is None else task.root,
        requested_token_type=JWT,
        partition=task.id,
    )
    token = await broker.exchange(request, timeout=seconds)
    if not isinstance(token, SecurityToken):
        raise TicketError(f"the token broker {broker.issuer} issues access tokens in place of tickets")
    return Ticket(token.token.reveal()), token


async def redeem_ticket(
    broker: TokenBroker | None, ticket: Ticket, contract: Contract, partition: str, *, now: datetime
) -> Redeemed:
    """Redeem a ticket, once.

    What it says counts only because the token broker grants exactly that for it.

    Args:
        broker: Who issued it.
        ticket: The ticket.
        contract: Of who redeems it: nobody can be given what is not in their own.
        partition: Whose tokens are made from it.
        now: When this is.

    Raises:
        AttenuationError: It is for actions that the contract does not have.
        TicketError: It is malformed, late, used before, or somebody else's.
        TokenError: The token broker cannot be asked.
    """
    broker, agent = _broker(broker), contract.agent.id
    claims, details = _read(ticket)
    if details.to != str(agent):
        raise TicketError(f"this ticket is made out to {details.to!r:.200}, and this is {agent}")
    if now.timestamp() > details.until:
        raise TicketError("this ticket comes too late")
    terms = _terms(details, agent)
    if beyond := sorted(set(details.actions) - contract.actions.keys()):
        raise AttenuationError(
            f"the ticket is for {' '.join(beyond)!r:.200}, which the contract of {agent} does not have",
            asked=" ".join(beyond),
            held=" ".join(sorted(contract.actions)),
        )
    scope = claims.get("scope", "")
    request = TokenRequest.of(
        *([scope] if isinstance(scope, str) and scope else []),
        authorization_details=[msgspec.to_builtins(details)],
        purpose=details.purpose,
        subject=ForeignToken(Secret(ticket.reveal()), JWT),
        grant=JWT_BEARER,
        exact=True,
        partition=partition,
    )
    try:
        token = await broker.exchange(request)
    except SpiffeError as error:
        if error.retryable:
            raise
        raise TicketError(f"the ticket is not taken: {error}") from error
    if not isinstance(token, AccessToken) or token.authorization_details != request.authorization_details:
        raise TicketError("the token broker grants something else than the ticket says")
    return Redeemed(broker, terms, token, (details.task, *details.parents.split()), details.trace_id)


def _broker(broker: TokenBroker | None) -> TokenBroker:
    if broker is None:
        raise TicketError("tickets are issued and redeemed by a token broker, and this agent host has none")
    return broker


def _read(ticket: Ticket) -> tuple[Mapping[str, object], _Details]:
    try:
        claims = parse_compact(ticket.reveal(), error=TokenError).claims
        (details,) = msgspec.convert(claims.get("authorization_details"), list[_Details])
    except (TokenError, msgspec.ValidationError, ValueError):
        raise TicketError("this is no ticket, or one of another kind") from None
    if not details.well_formed:
        raise TicketError("this is a ticket of another kind")
    return claims, details


def _terms(details: _Details, agent: SpiffeId) -> Terms:
    try:
        return Terms(
            agent=agent,
            purpose=details.purpose,
            actions=frozenset(details.actions),
            tenant=details.tenant,
            params=details.params,
            within=None if details.within is None else tuple(details.within),
            seconds=details.seconds,
            calls=details.calls,
            depth=details.depth,
        )
    except TaskError as error:
        raise TicketError(f"this ticket is for no task: {error}") from error
