"""Bundles for WIT-SVIDs. Experimental: the standard is incubating, and this changes with it."""

from __future__ import annotations

from collections.abc import Mapping

from spiffe_client._values import dataclass
from spiffe_client.bundle._jwk import JwtAuthority
from spiffe_client.bundle._jwks import keys_of, parse_jwk_set, readable
from spiffe_client.bundle._jwt import to_jwks
from spiffe_client.errors import BundleError
from spiffe_client.ids import TrustDomain

__all__ = ["WitBundle"]

_WIT_USE = "wit-svid"


@dataclass(frozen=True, slots=True)
class WitBundle:
    """The keys that vouch for the WIT-SVIDs of one trust domain (WIT-SVID §6).

    A type of its own, because a key for one kind of SVID verifies no other kind.

    Attributes:
        trust_domain: Whose authorities these are.
        authorities: Each with a `key_id`; empty trusts nothing.
    """

    trust_domain: TrustDomain
    authorities: tuple[JwtAuthority, ...]

    @classmethod
    def parse_jwks(cls, trust_domain: TrustDomain, jwks: bytes) -> WitBundle:
        """Parse the JWK Set that the Workload API sends; limits as `JwtBundle.parse_jwks`.

        Raises:
            BundleError: It is no JWK Set, too large, or has keys of which none can be read.
        """
        _, entries = parse_jwk_set(jwks)
        return cls(trust_domain, readable(keys_of(entries, {None, _WIT_USE}), _authority))

    def to_jwks(self) -> bytes:
        """Return the authorities as a JWK Set."""
        return to_jwks(self.authorities, _WIT_USE)


def _authority(jwk: Mapping[str, object]) -> JwtAuthority:
    authority = JwtAuthority.parse(jwk)
    if authority.key_id is None:
        raise BundleError("a key for WIT-SVIDs must have a `kid` (WIT-SVID §6.1)")
    return authority
