"""A token broker as the front door is told of it: by its issuer, its metadata, or with all options."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from spiffe_client._clock import Clock
from spiffe_client.audit import EventSink
from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens._broker import TokenBroker
from spiffe_client.tokens._metadata import Metadata
from spiffe_client.tokens._tokens import BindingMethod

if TYPE_CHECKING:
    from spiffe_client.tokens._authentication import ClientAuthentication
    from spiffe_client.tokens._caep import CaepPoll
    from spiffe_client.tokens._channel import ServerTrust
    from spiffe_client.tokens._identity import Identity
    from spiffe_client.tokens._parties import Subject

__all__ = ["TokenBrokerOptions", "TokenTerms", "new_token_broker"]


class TokenTerms(TypedDict, total=False):
    """What a token is for, beside its scopes; see `TokenRequest.of`."""

    audience: str | Collection[str]
    resource: str | Collection[str]
    authorization_details: Sequence[Mapping[str, object]]
    purpose: str
    subject: Subject | None
    actor: Subject | None
    exact: bool


@dataclass(frozen=True, slots=True)
class TokenBrokerOptions:
    """Which token broker a workload uses, and how; for `Workload(token_broker=…)`.

    Attributes:
        issuer: Its issuer identifier; None where `metadata` is given.
        metadata: Its endpoints, where it has no discovery.
        client_id: The OAuth client; None for the SPIFFE ID.
        authentication: How the workload shows who it is; None for its JWT-SVID.
        binding: What tokens are bound to. `none` accepts bearer tokens.
        trust: How the token broker's own certificate is verified; None for `WebPki()`.
        allowed_origins: Origins beside the issuer's that its endpoints may have.
        max_ttl: Seconds after which a token is not used any more, whatever its issuer says.
        timeout: Seconds that a caller waits for a token at most.
        capacity: Most tokens kept.
        security_events: Where the token broker tells what it revoked; None asks for nothing.
    """

    issuer: str | None = None
    metadata: Metadata | None = None
    client_id: str | None = None
    authentication: ClientAuthentication | None = None
    binding: BindingMethod = "dpop"
    trust: ServerTrust | None = None
    allowed_origins: tuple[str, ...] = ()
    max_ttl: float = 3600.0
    timeout: float = 10.0
    capacity: int = 16384
    security_events: CaepPoll | None = None


class _OfWorkload(TokenBroker):
    _KNOWN = ("this Workload", "`async with Workload(…) as me:`")


class _OfBlockingWorkload(TokenBroker):
    _KNOWN = ("this Workload", "`with Workload(…) as me:`")


def new_token_broker(
    which: str | Metadata | TokenBrokerOptions | None,
    identity: Identity,
    clock: Clock,
    on_event: EventSink | None,
    *,
    blocking: bool = False,
) -> TokenBroker:
    """Make the client of the token broker that a workload was told of; it is not open.

    Args:
        which: Which one, and how.
        identity: The workload.
        clock: Where the time comes from.
        on_event: Takes events.
        blocking: Whether its user opens it with `with`, for messages.

    Raises:
        TokenRequestError: It was told of none, or the options do not fit together.
    """
    if which is None:
        raise TokenRequestError('there is no token broker: give it as Workload(token_broker="https://…")')
    if isinstance(which, str):
        which = TokenBrokerOptions(which)
    elif isinstance(which, Metadata):
        which = TokenBrokerOptions(metadata=which)
    return (_OfBlockingWorkload if blocking else _OfWorkload)(
        which.issuer,
        metadata=which.metadata,
        identity=identity,
        client_id=which.client_id,
        authentication=which.authentication,
        binding=which.binding,
        trust=which.trust,
        allowed_origins=which.allowed_origins,
        max_ttl=which.max_ttl,
        timeout=which.timeout,
        capacity=which.capacity,
        security_events=which.security_events,
        clock=clock,
        on_event=on_event,
    )
