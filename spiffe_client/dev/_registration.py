"""Which callers get which identity."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from spiffe_client.dev._caller import Caller
from spiffe_client.errors import RegistrationError
from spiffe_client.ids import SpiffeId, TrustDomain

__all__ = ["Registration", "Selectors"]

_MAX_TTL = 10 * 366 * 86400.0
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_DNS_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_MAX_DNS_NAME = 253


@dataclass(frozen=True, slots=True)
class Selectors:
    """What must be true of a caller, all of it.

    Attributes:
        any_caller: Whoever opens the socket; said explicitly, and alone.
        uid: User ID of the process.
        gid: Group ID of the process.
        pid: Process ID.
        path: Its executable; symbolic links are resolved when it is compared.
        own_endpoint: Nobody on the shared socket: only who uses the identity's own endpoint
            (`DevTrustDomain.endpoint_for`).

    Raises:
        RegistrationError: Nothing is selected, or any caller and something else besides.
    """

    any_caller: bool = False
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    path: str | None = None
    own_endpoint: bool = False

    def __post_init__(self) -> None:
        if self.path is not None and (not Path(self.path).is_absolute() or "\0" in self.path):
            raise RegistrationError(f"the selector path must be absolute, got {self.path!r}")
        for name, number in (("uid", self.uid), ("gid", self.gid), ("pid", self.pid)):
            if number is not None and number < 0:
                raise RegistrationError(f"the selector {name} cannot be negative, got {number}")
        some = any(v is not None for v in (self.uid, self.gid, self.pid, self.path))
        said = (self.any_caller, some, self.own_endpoint).count(True)
        if said == 0:
            raise RegistrationError(
                "no selector would match nobody: name uid, gid, pid or path, or say explicitly that any caller is meant"
            )
        if said > 1:
            raise RegistrationError(
                "any caller is selected, and something else besides: say one or the other"
            )

    def match(self, caller: Caller) -> bool:
        """Whether this caller is meant. What the platform does not tell never matches."""
        if self.own_endpoint:
            return False
        wanted = ((self.uid, caller.uid), (self.gid, caller.gid), (self.pid, caller.pid))
        if any(want is not None and want != is_ for want, is_ in wanted):
            return False
        return self.path is None or (
            caller.path is not None and Path(self.path).resolve() == Path(caller.path)
        )


@dataclass(frozen=True, slots=True)
class Registration:
    """One identity, and who gets it.

    Attributes:
        id: A workload's SPIFFE ID.
        selectors: Who gets it.
        ttl: Seconds an X509-SVID lasts, or None for the trust domain's own.
        hint: Passed on with its SVIDs (Workload API §5.2.1).
        dns_names: DNS SANs of its X509-SVIDs.
        federates_with: The other trust domains whose bundles it gets, or None for all that there
            are.
        where: Where it was read, for messages.

    Raises:
        RegistrationError: Something of this is malformed.
    """

    id: SpiffeId
    selectors: Selectors
    ttl: float | None = None
    hint: str = ""
    dns_names: tuple[str, ...] = ()
    federates_with: frozenset[TrustDomain] | None = None
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.id.path:
            raise RegistrationError(f"{self.id} names a trust domain, not a workload")
        if self.ttl is not None and not (math.isfinite(self.ttl) and 0 < self.ttl <= _MAX_TTL):
            raise RegistrationError(f"ttl must be positive seconds, at most ten years, got {self.ttl!r}")
        for name in self.dns_names:
            if len(name) > _MAX_DNS_NAME or not _DNS_NAME.fullmatch(name):
                raise RegistrationError(f"not a DNS name: {name[:_MAX_DNS_NAME]!r}")

    def __str__(self) -> str:
        return f"{self.where}: {self.id}" if self.where else str(self.id)
