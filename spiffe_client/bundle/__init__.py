"""What a trust domain is trusted by: its X.509 and JWT authorities, and sets of them by domain."""

from __future__ import annotations

from spiffe_client.bundle._certificates import parse_certificates_der, parse_certificates_pem, split_der
from spiffe_client.bundle._document import DEFAULT_REFRESH_HINT, SpiffeBundle
from spiffe_client.bundle._json import decode_base64url, parse_json_object
from spiffe_client.bundle._jwk import SIGNATURE_ALGORITHMS, JwtAuthority, PublicKey
from spiffe_client.bundle._jwt import JwtBundle
from spiffe_client.bundle._set import BundleSet, JwtBundleSource, X509BundleSource
from spiffe_client.bundle._x509 import X509Bundle
from spiffe_client.bundle.experimental import WitBundle

__all__ = [
    "DEFAULT_REFRESH_HINT",
    "SIGNATURE_ALGORITHMS",
    "BundleSet",
    "JwtAuthority",
    "JwtBundle",
    "JwtBundleSource",
    "PublicKey",
    "SpiffeBundle",
    "WitBundle",
    "X509Bundle",
    "X509BundleSource",
    "decode_base64url",
    "parse_certificates_der",
    "parse_certificates_pem",
    "parse_json_object",
    "split_der",
]
