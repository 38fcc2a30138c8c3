"""What the user of a source decided about waiting, withdrawal, time and reporting."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._retry import Backoff
from spiffe_client._values import dataclass
from spiffe_client.audit import EventSink, log_event

if TYPE_CHECKING:

    class SourceTerms(TypedDict):
        """What a `Workload` hands on to each of its sources."""

        hint: str | None
        timeout: float
        on_redaction: OnRedaction
        grace: float
        backoff: Backoff
        clock: Clock
        on_event: EventSink | None


__all__ = ["OnRedaction", "Terms"]

#: What to do when the issuer takes an identity back: stop using it, or use it until it expires.
OnRedaction: TypeAlias = Literal["drop", "keep-until-expiry"]


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings that all sources share.

    Attributes:
        timeout: Seconds to wait for the first update.
        on_redaction: `drop`, or the documented opt-out.
        grace: Seconds for which a confirmed PermissionDenied does not cut anything off yet.
        backoff: Between attempts to reach the Workload API.
        clock: Where the time comes from.
        sink: Takes the events; does not raise.
        owner: What the user holds, for messages, where that is not the source: `this Workload`.
        opening: How the user opens it, for messages.
    """

    timeout: float = 30.0
    on_redaction: OnRedaction = "drop"
    grace: float = 3.0
    backoff: Backoff = field(default_factory=Backoff)
    clock: Clock = SYSTEM_CLOCK
    sink: EventSink = log_event
    owner: str = ""
    opening: str = "`async with` or await open()"
