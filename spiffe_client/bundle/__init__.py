"""What a trust domain is trusted by: its X.509 and JWT authorities, and sets of them by domain."""

from __future__ import annotations

from spiffe_client._lazy import load_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client.bundle._certificate import Certificate, certificate_of, parse_certificate
    from spiffe_client.bundle._certificates import parse_certificates_der, parse_certificates_pem, split_der
    from spiffe_client.bundle._document import DEFAULT_REFRESH_HINT, SpiffeBundle
    from spiffe_client.bundle._jwk import SIGNATURE_ALGORITHMS, JwtAuthority, PublicKey
    from spiffe_client.bundle._jwt import JwtBundle
    from spiffe_client.bundle._set import BundleSet, JwtBundleSource, X509BundleSource
    from spiffe_client.bundle._x509 import X509Bundle
    from spiffe_client.bundle.experimental import WitBundle

__all__ = [
    "DEFAULT_REFRESH_HINT",
    "SIGNATURE_ALGORITHMS",
    "BundleSet",
    "Certificate",
    "JwtAuthority",
    "JwtBundle",
    "JwtBundleSource",
    "PublicKey",
    "SpiffeBundle",
    "WitBundle",
    "X509Bundle",
    "X509BundleSource",
    "certificate_of",
    "parse_certificate",
    "parse_certificates_der",
    "parse_certificates_pem",
    "split_der",
]

_HOMES = {
    "BundleSet": "spiffe_client.bundle._set",
    "Certificate": "spiffe_client.bundle._certificate",
    "DEFAULT_REFRESH_HINT": "spiffe_client.bundle._document",
    "JwtAuthority": "spiffe_client.bundle._jwk",
    "JwtBundle": "spiffe_client.bundle._jwt",
    "JwtBundleSource": "spiffe_client.bundle._set",
    "PublicKey": "spiffe_client.bundle._jwk",
    "SIGNATURE_ALGORITHMS": "spiffe_client.bundle._jwk",
    "SpiffeBundle": "spiffe_client.bundle._document",
    "WitBundle": "spiffe_client.bundle.experimental",
    "X509Bundle": "spiffe_client.bundle._x509",
    "X509BundleSource": "spiffe_client.bundle._set",
    "certificate_of": "spiffe_client.bundle._certificate",
    "parse_certificate": "spiffe_client.bundle._certificate",
    "parse_certificates_der": "spiffe_client.bundle._certificates",
    "parse_certificates_pem": "spiffe_client.bundle._certificates",
    "split_der": "spiffe_client.bundle._certificates",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
