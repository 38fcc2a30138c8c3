"""The parts of a contract, as values: who it is about, the bounds, the actions, their order, the delegates.

What is not in a contract is not permitted, so an absent key gives nothing, and each default is a bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from spiffe_client.errors import ContractError, InvalidIdError
from spiffe_client.ids import SpiffeId, TrustDomain

__all__ = [
    "CLASSIFICATIONS",
    "Action",
    "Agent",
    "Classification",
    "Day",
    "Delegate",
    "Limits",
    "Window",
    "Workflow",
    "end_of",
]

#: How confidential something is, the least first.
Classification: TypeAlias = Literal["public", "internal", "confidential", "restricted"]
CLASSIFICATIONS: Final[tuple[Classification, ...]] = ("public", "internal", "confidential", "restricted")
Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

_HOURS = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
_Clock: TypeAlias = Annotated[str, Meta(pattern=_HOURS, description="HH:MM, 00:00 to 24:00")]
_Count: TypeAlias = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Depth: TypeAlias = Annotated[int, Meta(ge=0, le=32)]
_Words: TypeAlias = tuple[str, ...]
if TYPE_CHECKING:
    _Id: TypeAlias = SpiffeId
    _Domain: TypeAlias = TrustDomain
else:  # msgspec would read a dataclass from a table; it is text in the file, and parsed after that
    _Id = Annotated[str, Meta(description="a SPIFFE ID")]
    _Domain = Annotated[str, Meta(description="a trust domain's name")]


class _Part(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of a contract: frozen, and no other keys than these."""

    def _parse(self, name: str, kind: type[SpiffeId | TrustDomain]) -> None:
        try:
            force_setattr(self, name, kind.parse(getattr(self, name)))
        except InvalidIdError as error:
            raise ContractError(str(error), path=name) from error


class Agent(_Part, frozen=True, kw_only=True):
    """Who it is about.

    Attributes:
        id: Whom the contract binds; in `trust_domain`.
        trust_domain: Where it may run.
        environment: Where it may run, such as `prod`.
        purpose: What it is for, in words.
        owner: Who answers for it, such as a team's address; empty is worth a warning.
        reviewed: When somebody last looked at this.
        review_by: The last day (UTC) by which somebody must look again; None for never.
        expires: The last day (UTC) on which it permits anything; None for no end.
    """

    id: _Id
    trust_domain: _Domain
    environment: Annotated[str, Meta(min_length=1, max_length=128)]
    purpose: Annotated[str, Meta(min_length=1, max_length=1024)]
    owner: Annotated[str, Meta(max_length=256)] = ""
    reviewed: date | None = None
    review_by: date | None = None
    expires: date | None = None

    def __post_init__(self) -> None:
        self._parse("id", SpiffeId)
        self._parse("trust_domain", TrustDomain)

    @property
    def expired_at(self) -> datetime | None:
        """The moment from which on it permits nothing."""
        return None if self.expires is None else end_of(self.expires)

    @property
    def overdue_at(self) -> datetime | None:
        """The moment from which on a review is overdue."""
        return None if self.review_by is None else end_of(self.review_by)


class Limits(_Part, frozen=True, kw_only=True):
    """How long and how much.

    Attributes:
        task_seconds: How long a task may live.
        calls_per_task: How many calls it may make.
        calls_per_minute: How many in any minute, of all tasks together.
        delegation_depth: How often authority may be handed on; 0 for never.
        parallel_tasks: How many tasks may be alive at once.
    """

    task_seconds: _Count = 900
    calls_per_task: _Count = 200
    calls_per_minute: _Count = 60
    delegation_depth: _Depth = 0
    parallel_tasks: _Count = 8


class Window(_Part, frozen=True, kw_only=True):
    """When an action is permitted, by the clocks of a place.

    Attributes:
        days: The days on which it begins.
        start: `from` in the file: from this moment on, `HH:MM`.
        until: Before this moment; not later than `from` means on the next day.
        zone: The place, as an IANA time zone such as `Europe/Zurich`.
    """

    days: Annotated[tuple[Day, ...], Meta(min_length=1, max_length=7)]
    start: _Clock = field(name="from", default="00:00")
    until: _Clock = "24:00"
    zone: Annotated[str, Meta(min_length=1, max_length=128)]

    def __str__(self) -> str:
        return f"{' '.join(self.days)} {self.start}-{self.until} {self.zone}"


class Action(_Part, frozen=True, kw_only=True):
    """One thing that the agent may do.

    Attributes:
        audience: Whom its token is for, names or URIs.
        resource_uris: The same as RFC 8707 says it; with neither, the action has no token.
        scopes: What the token is to permit (RFC 6749 §3.3).
        authorization_details: What it is to permit (RFC 9396), objects with a `type` each.
        resources: Templates of what it may touch; with none it touches nothing that has a name.
        window: When; None for at any time.
        classification: How confidential what it touches may be, at most.
        approval: Whether a human must approve each call.
        sensitive: Whether its token is bound to the call itself.
        token_seconds: How long its token may live.
        peer: Whom it calls by mutual TLS; None for whoever the address leads to.
    """

    audience: _Words = ()
    resource_uris: _Words = ()
    scopes: _Words = ()
    authorization_details: tuple[dict[str, Any], ...] = ()
    resources: _Words = ()
    window: Window | None = None
    classification: Classification = "public"
    approval: bool = False
    sensitive: bool = False
    token_seconds: _Count = 300
    peer: _Id | None = None

    def __post_init__(self) -> None:
        if self.peer is not None:
            self._parse("peer", SpiffeId)

    @property
    def needs_token(self) -> bool:
        """Whether it is called with a token; else it is a local tool, or proves itself by mutual TLS alone."""
        return bool(self.audience or self.resource_uris)


class Workflow(_Part, frozen=True, kw_only=True):
    """In which order.

    Attributes:
        start: What a task may begin with.
        follows: What may come next, by what was done last; what is not listed is followed by nothing.
    """

    start: Annotated[_Words, Meta(min_length=1)]
    follows: Mapping[str, _Words] = {}

    def __post_init__(self) -> None:
        force_setattr(self, "follows", MappingProxyType(dict(self.follows)))

    def permits(self, action: str, *, previous: str | None) -> bool:
        """Say whether an action may follow another.

        Args:
            action: What is to be done.
            previous: What the task did last; None where this is the first.
        """
        return action in (self.start if previous is None else self.follows.get(previous, ()))


class Delegate(_Part, frozen=True, kw_only=True):
    """What another agent may be given.

    Attributes:
        actions: The names of the actions.
    """

    actions: Annotated[_Words, Meta(min_length=1)]


def end_of(day: date) -> datetime:
    """Return the moment at which a day has passed, in UTC."""
    if day == date.max:
        return datetime.max.replace(tzinfo=UTC)
    return datetime.combine(day + timedelta(days=1), time(), UTC)
