"""Identity documents: X509-SVID and JWT-SVID, their rules, and verification offline."""

from __future__ import annotations

from spiffe_client.svid._jwt import JwtSvid
from spiffe_client.svid._jwt_verify import examine_jwt_svid, verify_jwt_svid
from spiffe_client.svid._leaf import Role, check_leaf, leaf_id
from spiffe_client.svid._path import check_signer
from spiffe_client.svid._rules import Check
from spiffe_client.svid._verify import examine_x509_svid, verify_x509_svid
from spiffe_client.svid._x509 import PrivateKey, X509Svid

__all__ = [
    "Check",
    "JwtSvid",
    "PrivateKey",
    "Role",
    "X509Svid",
    "check_leaf",
    "check_signer",
    "examine_jwt_svid",
    "examine_x509_svid",
    "leaf_id",
    "verify_jwt_svid",
    "verify_x509_svid",
]
