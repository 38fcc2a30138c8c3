"""Who is on the other end of a connection, proven."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from anyio import TypedAttributeProvider
from anyio.streams.tls import TLSAttribute

from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.errors import PeerUnverifiedError
from spiffe_client.ids import SpiffeId, TrustDomain

__all__ = ["Peer", "Why", "peer_of", "verify_anchor", "verify_still_trusted"]

#: What can be wrong with a peer, in `PeerError.why` and in the event `peer.refused`.
Why: TypeAlias = Literal[
    "anchor_withdrawn",  # the authority that vouched for it is in no bundle any more
    "authorizer_failed",  # the authorizer raised something of its own
    "certificate_invalid",  # OpenSSL found no valid chain; the message says why
    "foreign_authority",  # vouched for by an authority of another trust domain
    "interrupted",  # verification was broken off
    "no_bundle",  # nothing is known about its trust domain
    "no_certificate",  # it presented none
    "not_allowed",  # proven, and the authorizer says no
    "not_an_svid",  # the leaf breaks a rule of X509-SVID §2-4
    "session",  # a resumed session whose peer cannot be verified again
    "unverified",
]


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer whose X509-SVID was verified against its own trust domain's bundle, and allowed.

    Attributes:
        id: Who it is.
        not_after: When its certificate expires.
        chain: The verified chain, DER, leaf first, authority last.
    """

    id: SpiffeId
    not_after: datetime
    chain: tuple[bytes, ...] = field(repr=False)

    @property
    def trust_domain(self) -> TrustDomain:
        """Who vouches for it."""
        return self.id.trust_domain


def verify_anchor(peer: Peer, bundles: BundleSet[X509Bundle]) -> None:
    """Check that a chain is anchored in the peer's own trust domain (Workload API §4).

    Every link was verified by OpenSSL; if one of the issuers is an authority of that domain, the
    chain up to it is valid by that domain's bundle alone.

    Raises:
        PeerUnverifiedError: There is no such bundle, or other authorities vouch for the chain.
    """
    bundle = bundles.get(peer.id.trust_domain)
    if bundle is None or not bundle.ders:
        raise PeerUnverifiedError(
            f"peer claims to be {peer.id}, and there is no authority of {peer.trust_domain} to verify it by",
            peer=peer.id,
            why="no_bundle",
        )
    if bundle.ders.isdisjoint(peer.chain[1:]):
        raise PeerUnverifiedError(
            f"peer claims to be {peer.id}, and no authority of {peer.trust_domain} vouches for it",
            peer=peer.id,
            why="foreign_authority",
        )


def verify_still_trusted(peer: Peer, bundles: BundleSet[X509Bundle]) -> None:
    """Check again, with newer bundles, whether anybody still vouches for a connected peer.

    Raises:
        PeerUnverifiedError: The authority was withdrawn; the connection must end.
    """
    try:
        verify_anchor(peer, bundles)
    except PeerUnverifiedError as error:
        raise PeerUnverifiedError(
            f"the authority that vouched for {peer.id} was withdrawn", peer=peer.id, why="anchor_withdrawn"
        ) from error


def peer_of(connection: object) -> Peer:
    """Return the proven peer of a connection made with a SPIFFE TLS context.

    Args:
        connection: An `ssl.SSLObject` or `ssl.SSLSocket`; an asyncio transport or `StreamWriter`;
            a stream of anyio, trio or httpcore; an `httpx.Response`; or anything that has one of
            these as its `transport`, `connection` or `sock`, such as an `aiohttp.web.Request`.

    Raises:
        PeerUnverifiedError: There is no such connection in it, its handshake has not been done,
            or its peer was refused.
    """
    peer = getattr(_ssl_of(connection), "spiffe_peer", None)
    if not isinstance(peer, Peer):
        raise PeerUnverifiedError(f"this {type(connection).__name__} has no verified SPIFFE peer")
    return peer


def _ssl_of(connection: object) -> object:
    """Find the ssl object or socket behind what a library hands out, by public ways only."""
    if isinstance(connection, (ssl.SSLObject, ssl.SSLSocket)):
        return connection
    if isinstance(connection, TypedAttributeProvider):  # anyio
        return connection.extra(TLSAttribute.ssl_object, None)  # noqa: S610 - anyio, not Django
    get_extra_info = getattr(connection, "get_extra_info", None)
    if callable(get_extra_info):  # asyncio, uvloop, httpcore
        found = get_extra_info("ssl_object")
        # httpcore's blocking streams give the private object inside of the socket.
        return found if isinstance(found, (ssl.SSLObject, ssl.SSLSocket)) else get_extra_info("socket")
    extensions = getattr(connection, "extensions", None)
    if isinstance(extensions, Mapping):  # responses of httpx and httpcore
        return _ssl_of(extensions.get("network_stream"))
    for name in ("transport", "connection", "sock"):  # aiohttp, http.server, http.client
        inner = getattr(connection, name, None)
        if inner is not None:
            return _ssl_of(inner)
    # trio.SSLStream lends the methods of its SSLObject.
    return getattr(getattr(connection, "pending", None), "__self__", None)
