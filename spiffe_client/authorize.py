"""Who may be on the other end of a connection.

An authorizer is asked after the peer's X509-SVID was verified against its own trust domain's
bundle, never before: it decides about an identity that is already proven. There is no default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable

from spiffe_client._values import dataclass
from spiffe_client.errors import InvalidIdError, PeerNotAllowedError
from spiffe_client.ids import SpiffeId, TrustDomain

__all__ = ["Authorizer", "allow", "any_of", "custom", "member_of", "under"]


@dataclass(frozen=True, slots=True)
class Authorizer:
    """A rule about peers whose identity is proven.

    Called on the event loop inside the TLS handshake: it neither blocks nor awaits.

    Attributes:
        rule: The rule as it reads in an error or a log line.
        trust_domains: The only domains a permitted peer can come from, or None where the rule
            cannot say. TLS contexts load no other bundles, so that a federated domain which is
            not needed here cannot interfere here.
        permits: Whether this proven identity may connect. Anything but `True` is a refusal.
    """

    rule: str
    trust_domains: frozenset[TrustDomain] | None
    permits: Callable[[SpiffeId], bool]

    def __call__(self, peer: SpiffeId) -> None:
        """Return if `peer` may connect.

        Raises:
            PeerNotAllowedError: It may not; carries the peer and the rule.
        """
        # `is True`: a rule written as a coroutine function or returning a match object would
        # otherwise let everybody in.
        if self.permits(peer) is not True:
            raise PeerNotAllowedError(peer, rule=self.rule)

    @classmethod
    def parse(cls, peer: Authorizer | SpiffeId | str) -> Authorizer:
        """Make an authorizer from what users pass as `peer=`.

        Args:
            peer: An authorizer, or the SPIFFE ID of the one peer that is meant.

        Raises:
            InvalidIdError: A string is not a workload's SPIFFE ID. A whole trust domain is never
                meant by accident: say `member_of(…)`.
            TypeError: It is something else, such as None.
        """
        if isinstance(peer, Authorizer):
            return peer
        if isinstance(peer, SpiffeId):
            return allow(peer)
        if isinstance(peer, str):
            return _allow_text(peer)
        raise TypeError(
            f"peer= must say who may be on the other end (a SPIFFE ID or an Authorizer such as "
            f"member_of(…)), got {type(peer).__name__}{_hint(peer)}"
        )


def _hint(peer: object) -> str:
    """Say what somebody who passed this probably meant."""
    if isinstance(peer, Iterable):
        return "; for several peers say any_of(allow(…), allow(…))"
    if callable(peer):
        return '; for a rule of your own say custom("what it allows", function)'
    return ""


def _allow_text(peer: str) -> Authorizer:
    try:
        return allow(peer)
    except InvalidIdError as error:
        meant = _meant(peer)
        if meant is None:
            raise
        raise InvalidIdError(f"{error}; did you mean {meant}?") from error


def _meant(peer: str) -> str | None:
    """Return what a string that is no workload's SPIFFE ID stands for elsewhere, None if nothing."""
    stem = peer.removesuffix("*").rstrip("/")
    try:
        spiffe_id = SpiffeId.parse(stem if "://" in stem else f"spiffe://{stem}")
    except InvalidIdError:
        return None
    if peer == str(spiffe_id):
        return None  # allow() has said it itself
    if not spiffe_id.path:
        return f"member_of({spiffe_id.trust_domain.name!r})"
    return f"{'under' if peer.endswith('/*') else 'allow'}({str(spiffe_id)!r})"


def _workload_id(value: SpiffeId | str) -> SpiffeId:
    spiffe_id = SpiffeId.parse(value)
    if not spiffe_id.path:
        raise InvalidIdError(
            f"{spiffe_id} names a trust domain, not a workload; to allow all of its workloads "
            f"say member_of({spiffe_id.trust_domain.name!r})"
        )
    return spiffe_id


def allow(*ids: SpiffeId | str) -> Authorizer:
    """Allow exactly these peers.

    Args:
        ids: At least one SPIFFE ID with a path.

    Raises:
        InvalidIdError: One of `ids` is not a workload's SPIFFE ID.
        ValueError: No ID was given; an empty list would allow nobody, which is never meant.
    """
    allowed = frozenset(_workload_id(i) for i in ids)
    if not allowed:
        raise ValueError("allow() needs at least one SPIFFE ID")
    return Authorizer(
        rule=f"allow({', '.join(map(str, sorted(allowed)))})",
        trust_domains=frozenset(i.trust_domain for i in allowed),
        permits=allowed.__contains__,
    )


def member_of(trust_domain: TrustDomain | SpiffeId | str) -> Authorizer:
    """Allow every workload of one trust domain.

    The trust domain's own ID (no path) names an authority, not a workload, and is refused
    (X509-SVID §2).

    Raises:
        InvalidIdError: It is not a trust domain, or it is the ID of one workload: say `allow`.
    """
    td = _trust_domain(trust_domain)
    return Authorizer(
        rule=f"member_of({td})",
        trust_domains=frozenset({td}),
        permits=lambda peer: peer.trust_domain == td and bool(peer.path),
    )


def _trust_domain(value: TrustDomain | SpiffeId | str) -> TrustDomain:
    if isinstance(value, str) and "://" in value:
        value = SpiffeId.parse(value)
    if isinstance(value, SpiffeId) and value.path:
        raise InvalidIdError(f"{value} names one workload, not a trust domain; say allow({str(value)!r})")
    return TrustDomain.parse(value)


def under(prefix: SpiffeId | str) -> Authorizer:
    """Allow every workload whose path lies below a prefix, segment by segment.

    `under("spiffe://prod.example/billing")` allows `/billing/api`, and neither `/billing` itself
    nor `/billing-eu`.

    Raises:
        InvalidIdError: `prefix` is not a SPIFFE ID with a path; for a whole domain: `member_of`.
    """
    root = _workload_id(prefix)
    below = root.path + "/"
    return Authorizer(
        rule=f"under({root})",
        trust_domains=frozenset({root.trust_domain}),
        permits=lambda peer: peer.trust_domain == root.trust_domain and peer.path.startswith(below),
    )


def any_of(*authorizers: Authorizer) -> Authorizer:
    """Allow what at least one of these rules allows.

    Raises:
        ValueError: No rule was given.
    """
    if not authorizers:
        raise ValueError("any_of() needs at least one authorizer")
    domains: frozenset[TrustDomain] | None = frozenset()
    for a in authorizers:
        domains = None if domains is None or a.trust_domains is None else domains | a.trust_domains
    return Authorizer(
        rule=f"any_of({', '.join(a.rule for a in authorizers)})",
        trust_domains=domains,
        permits=lambda peer: any(a.permits(peer) is True for a in authorizers),
    )


def custom(
    rule: str,
    permits: Callable[[SpiffeId], bool],
    *,
    trust_domains: frozenset[TrustDomain | str] | set[TrustDomain | str] | None = None,
) -> Authorizer:
    """Allow what a function of yours allows.

    Args:
        rule: The rule in words, for errors and logs.
        permits: Called with the proven ID on the event loop: no blocking, no coroutine. Only
            `True` allows.
        trust_domains: Where permitted peers can come from; None loads every bundle held.

    Raises:
        InvalidIdError: One of `trust_domains` is not a trust domain.
        TypeError: `permits` is a coroutine function, which could not allow anybody.
        ValueError: `trust_domains` is empty, which would allow nobody.
    """
    # The method too: an object may have an async one.
    if any(map(inspect.iscoroutinefunction, (permits, type(permits).__call__))):
        raise TypeError("custom() needs a plain function: it is called in the handshake and not awaited")
    domains = None if trust_domains is None else frozenset(map(_trust_domain, trust_domains))
    if domains is not None and not domains:
        raise ValueError("custom() with an empty trust_domains would allow nobody")
    return Authorizer(
        rule=f"custom({rule})",
        trust_domains=domains,
        permits=lambda peer: (domains is None or peer.trust_domain in domains) and permits(peer) is True,
    )
