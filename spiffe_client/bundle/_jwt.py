"""The JWT authorities of one trust domain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from spiffe_client.bundle._jwk import JwtAuthority
from spiffe_client.bundle._jwks import keys_of, parse_jwk_set, readable
from spiffe_client.errors import BundleError
from spiffe_client.ids import TrustDomain

__all__ = ["JwtBundle", "WitBundle"]

_JWT_USE = "jwt-svid"
_WIT_USE = "wit-svid"


@dataclass(frozen=True, slots=True)
class JwtBundle:
    """The keys that vouch for the JWT-SVIDs of one trust domain (JWT-SVID §6).

    Attributes:
        trust_domain: Whose authorities these are.
        authorities: In the order given; empty trusts nothing.
    """

    trust_domain: TrustDomain
    authorities: tuple[JwtAuthority, ...]

    @classmethod
    def parse_jwks(cls, trust_domain: TrustDomain, jwks: bytes) -> JwtBundle:
        """Parse the JWK Set that the Workload API sends.

        Keys with another `use` or an unknown type are ignored, broken ones are left out.

        Args:
            trust_domain: Whose authorities these are.
            jwks: JSON, UTF-8, at most 1 MiB and 1000 keys; no keys is valid and trusts nothing.

        Raises:
            BundleError: It is no JWK Set, too large, or has keys of which none can be read.
        """
        _, entries = parse_jwk_set(jwks)
        return cls(trust_domain, readable(keys_of(entries, {None, _JWT_USE}), JwtAuthority.parse))

    def to_jwks(self) -> bytes:
        """Return the authorities as a JWK Set."""
        return _to_jwks(self.authorities, _JWT_USE)


@dataclass(frozen=True, slots=True)
class WitBundle:
    """The keys that vouch for the WIT-SVIDs of one trust domain. Experimental (WIT-SVID §6).

    A type of its own, because a key for one kind of SVID verifies no other kind.

    Attributes:
        trust_domain: Whose authorities these are.
        authorities: Each with a `key_id`; empty trusts nothing.
    """

    trust_domain: TrustDomain
    authorities: tuple[JwtAuthority, ...]

    @classmethod
    def parse_jwks(cls, trust_domain: TrustDomain, jwks: bytes) -> WitBundle:
        """Parse the JWK Set that the Workload API sends; as `JwtBundle.parse_jwks`.

        Raises:
            BundleError: It is no JWK Set, too large, or has keys of which none can be read.
        """
        _, entries = parse_jwk_set(jwks)
        return cls(trust_domain, readable(keys_of(entries, {None, _WIT_USE}), _wit_authority))

    def to_jwks(self) -> bytes:
        """Return the authorities as a JWK Set."""
        return _to_jwks(self.authorities, _WIT_USE)


def _wit_authority(jwk: Mapping[str, object]) -> JwtAuthority:
    """Parse the key of a WIT issuer, which must have a `kid` (WIT-SVID §6.1)."""
    authority = JwtAuthority.parse(jwk)
    if authority.key_id is None:
        raise BundleError("a key for WIT-SVIDs must have a `kid`")
    return authority


def _to_jwks(authorities: tuple[JwtAuthority, ...], use: str) -> bytes:
    return json.dumps({"keys": [{**a.to_jwk(), "use": use} for a in authorities]}).encode()
