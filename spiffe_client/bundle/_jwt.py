"""The JWT authorities of one trust domain."""

from __future__ import annotations

import json

from spiffe_client._values import dataclass
from spiffe_client.bundle._jwk import JwtAuthority
from spiffe_client.bundle._jwks import keys_of, parse_jwk_set, readable
from spiffe_client.ids import TrustDomain

__all__ = ["JwtBundle", "to_jwks"]

_JWT_USE = "jwt-svid"


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
        return to_jwks(self.authorities, _JWT_USE)


def to_jwks(authorities: tuple[JwtAuthority, ...], use: str) -> bytes:
    """Return authorities as a JWK Set for one `use`."""
    return json.dumps({"keys": [{**a.to_jwk(), "use": use} for a in authorities]}).encode()
