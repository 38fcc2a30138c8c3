"""Which authorities OpenSSL is given to build chains with.

They share one store, so whom a chain leads to proves nothing yet; `_check` ties it to the peer's
own trust domain. What is decided here is that one domain cannot disturb another: OpenSSL takes the
first issuer that looks right by name and key identifier, and does not come back if its signature
is wrong. A federated domain that publishes look-alikes of our authorities could stop all
handshakes of ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from spiffe_client._der import DerError
from spiffe_client.bundle import Certificate, X509Bundle
from spiffe_client.errors import BundleError
from spiffe_client.ids import TrustDomain
from spiffe_client.tls._names import Comparable, comparable
from spiffe_client.workload_api import X509Context

__all__ = ["LeftOut", "Selection", "select_authorities"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An authority that is not loaded.

    Attributes:
        trust_domain: Whose bundle it is in.
        like: The trust domain that has one which looks the same; None if this one is unreadable.
    """

    trust_domain: TrustDomain
    like: TrustDomain | None


@dataclass(frozen=True, slots=True)
class Selection:
    """What to load and what not.

    Attributes:
        owners: Certificates, DER, without duplicates, and in whose bundle each is.
        left_out: Why there are not more.
    """

    owners: Mapping[bytes, TrustDomain]
    left_out: tuple[LeftOut, ...]


class _UnreadableError(Exception):
    """It cannot be told what OpenSSL would take a certificate for."""


class _Looks:
    """How the authorities chosen so far look to OpenSSL: subject and key identifier."""

    def __init__(self) -> None:
        self._taken: dict[Comparable, list[tuple[bytes | None, Certificate, TrustDomain]]] = {}

    def add(self, authority: Certificate, owner: TrustDomain, *, by_name: bool = False) -> None:
        """Take the looks of an authority: others must not look like it, or with `by_name` not be called like it."""
        subject, key_id = _looks(authority)
        key_id = None if by_name else key_id
        self._taken.setdefault(subject, []).append((key_id, authority, owner))

    def imitated(self, authority: Certificate, by: TrustDomain) -> TrustDomain | None:
        """Return another domain that has an authority OpenSSL could take for this one."""
        subject, key_id = _looks(authority)
        for taken, original, owner in self._taken.get(subject, ()):
            # Without a key identifier on either side, the subject is all there is to go by.
            alike = taken is None or key_id is None or taken == key_id
            if alike and owner != by and original != authority:
                return owner
        return None


def _looks(authority: Certificate) -> tuple[Comparable, bytes | None]:
    try:
        return comparable(authority.subject), authority.extensions.key_identifier
    except (BundleError, DerError) as error:
        raise _UnreadableError from error


def _names_no_key(certificate: Certificate) -> bool:
    try:
        return certificate.extensions.authority_key_identifier is None
    except BundleError as error:
        raise _UnreadableError from error


def _by_preference(context: X509Context, only: Collection[TrustDomain] | None) -> Iterator[X509Bundle]:
    """The bundles to load, the own domain's first: what comes first wins."""
    own = context.svid.id.trust_domain
    for trust_domain in sorted(context.bundles, key=lambda td: (td != own, td)):
        if only is None or trust_domain in only:
            yield context.bundles[trust_domain]


def select_authorities(context: X509Context, only: Collection[TrustDomain] | None) -> Selection:
    """Choose the authorities for a TLS context.

    Args:
        context: Bundles, and our own SVID, whose intermediates must not be imitated either.
        only: The trust domains that a permitted peer can come from; None for all.
    """
    looks, own = _Looks(), context.svid.id.trust_domain
    for below, intermediate in pairwise(context.svid.certificates):
        with suppress(_UnreadableError):
            # What does not say which key signed it leaves OpenSSL nothing but the name.
            looks.add(intermediate, own, by_name=_names_no_key(below))
    owners: dict[bytes, TrustDomain] = {}
    left_out: list[LeftOut] = []
    for bundle in _by_preference(context, only):
        for authority in bundle.certificates:
            try:
                like = looks.imitated(authority, bundle.trust_domain)
            except _UnreadableError:
                left_out.append(LeftOut(bundle.trust_domain, None))
                continue
            if like is None:
                looks.add(authority, bundle.trust_domain)
                owners.setdefault(authority.der, bundle.trust_domain)
            else:
                left_out.append(LeftOut(bundle.trust_domain, like))
    return Selection(owners, tuple(left_out))
