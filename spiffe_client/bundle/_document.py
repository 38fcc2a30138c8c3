"""The SPIFFE bundle document: what trust domains exchange (SPIFFE Trust Domain and Bundle §4)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client._values import dataclass
from spiffe_client.bundle._certificates import parse_certificates_der
from spiffe_client.bundle._jwk import JwtAuthority, key_members
from spiffe_client.bundle._jwks import keys_of, parse_jwk_set, readable
from spiffe_client.bundle._jwt import JwtBundle
from spiffe_client.bundle._x509 import X509Bundle
from spiffe_client.errors import BundleError
from spiffe_client.ids import TrustDomain

__all__ = ["DEFAULT_REFRESH_HINT", "SpiffeBundle"]

#: Seconds between two looks at a bundle endpoint that gives no hint (SPIFFE Federation §5).
DEFAULT_REFRESH_HINT = 300

_X509_USE = "x509-svid"
_JWT_USE = "jwt-svid"
_64_BITS = range(1 << 64)


@dataclass(frozen=True, slots=True)
class SpiffeBundle:
    """All that vouches for a trust domain, as its bundle endpoint serves it.

    Attributes:
        trust_domain: Whose bundle it is; the document does not say, so whoever asked for it must.
        x509_authorities: The certificates that vouch for X509-SVIDs; empty trusts none.
        jwt_authorities: The keys that vouch for JWT-SVIDs; empty trusts none.
        sequence: Grows with every change, 0 to 2^64-1; None if the document has none.
        refresh_hint: How often to look again, in seconds; None if the document does not say.
    """

    trust_domain: TrustDomain
    x509_authorities: tuple[x509.Certificate, ...]
    jwt_authorities: tuple[JwtAuthority, ...]
    sequence: int | None = None
    refresh_hint: int | None = None

    @property
    def x509_bundle(self) -> X509Bundle:
        """What to verify X509-SVIDs with."""
        return X509Bundle(self.trust_domain, self.x509_authorities)

    @property
    def jwt_bundle(self) -> JwtBundle:
        """What to verify JWT-SVIDs with."""
        return JwtBundle(self.trust_domain, self.jwt_authorities)

    @property
    def refresh_interval(self) -> int:
        """Seconds to wait before looking again: the hint, or 300 where there is none."""
        return self.refresh_hint or DEFAULT_REFRESH_HINT

    @classmethod
    def parse(cls, trust_domain: TrustDomain, document: bytes) -> SpiffeBundle:
        """Parse a bundle document.

        Entries of unknown type or use are ignored, also `x509-svid` entries without `x5c`;
        broken ones are left out.

        Args:
            trust_domain: Whose bundle it is, from configuration.
            document: JSON, UTF-8, at most 1 MiB and 1000 keys; no keys revokes everything.

        Raises:
            BundleError: It is no JWK Set, too large, has a sequence or hint that is no integer,
                or has keys for a kind of SVID of which none can be read.
        """
        members, entries = parse_jwk_set(document)
        with_certificate = [
            entry
            for entry in keys_of(entries, {_X509_USE}, types={"EC", "RSA", "OKP"})
            if entry.get("x5c") not in (None, [])
        ]
        return cls(
            trust_domain,
            readable(with_certificate, _first_certificate),
            readable(keys_of(entries, {_JWT_USE}), JwtAuthority.parse),
            _number(members, "spiffe_sequence"),
            _number(members, "spiffe_refresh_hint"),
        )

    def to_json(self) -> bytes:
        """Return the document.

        Raises:
            BundleError: An authority's key has no JSON form: it is not EC, RSA or Ed25519.
        """
        document: dict[str, object] = {
            "keys": [
                *(_x509_entry(certificate) for certificate in self.x509_authorities),
                *({**authority.to_jwk(), "use": _JWT_USE} for authority in self.jwt_authorities),
            ]
        }
        if self.sequence is not None:
            document["spiffe_sequence"] = self.sequence
        if self.refresh_hint is not None:
            document["spiffe_refresh_hint"] = self.refresh_hint
        return json.dumps(document).encode()

    def check_follows(self, held: SpiffeBundle) -> None:
        """Return if this document may take the place of the one that is held.

        An endpoint that answers with an older document may be an attacker's replay of revoked keys.

        Raises:
            BundleError: It is of another trust domain, or its sequence number is lower.
        """
        if self.trust_domain != held.trust_domain:
            raise BundleError(
                f"a bundle of {self.trust_domain} cannot take the place of {held.trust_domain}'s"
            )
        if held.sequence is not None and self.sequence is not None and self.sequence < held.sequence:
            raise BundleError(
                f"the bundle of {self.trust_domain} went back from sequence {held.sequence} "
                f"to {self.sequence}; the newer one is kept"
            )


def _number(members: Mapping[str, object], name: str) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value not in _64_BITS:
        raise BundleError(f"`{name}` must be an integer of at most 64 bits, not negative")
    return value


def _first_certificate(entry: Mapping[str, object]) -> x509.Certificate:
    values = entry["x5c"]
    # All but the first value must be ignored (X509-SVID §6.2).
    first = values[0] if isinstance(values, list) else None
    if not isinstance(first, str):
        raise BundleError("`x5c` is no list of text")
    try:
        der = base64.b64decode(first, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BundleError("`x5c` is not base64") from error
    return parse_certificates_der(der, most=1)[0].x509


def _x509_entry(certificate: x509.Certificate) -> dict[str, object]:
    der = certificate.public_bytes(Encoding.DER)
    return {
        **key_members(certificate.public_key()),
        "use": _X509_USE,
        "x5c": [base64.b64encode(der).decode()],
    }
