"""Identity documents: X509-SVID and JWT-SVID, their rules, and verification offline."""

from __future__ import annotations

from spiffe_client._lazy import load_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client.svid._jwt import JwtSvid
    from spiffe_client.svid._jwt_verify import examine_jwt_svid, verify_jwt_svid
    from spiffe_client.svid._keys import PrivateKey
    from spiffe_client.svid._leaf import Role, check_leaf, leaf_id
    from spiffe_client.svid._path import check_signer
    from spiffe_client.svid._rules import Check
    from spiffe_client.svid._verify import examine_x509_svid, verify_x509_svid
    from spiffe_client.svid._x509 import X509Svid

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

_HOMES = {
    "Check": "spiffe_client.svid._rules",
    "JwtSvid": "spiffe_client.svid._jwt",
    "PrivateKey": "spiffe_client.svid._keys",
    "Role": "spiffe_client.svid._leaf",
    "X509Svid": "spiffe_client.svid._x509",
    "check_leaf": "spiffe_client.svid._leaf",
    "check_signer": "spiffe_client.svid._path",
    "examine_jwt_svid": "spiffe_client.svid._jwt_verify",
    "examine_x509_svid": "spiffe_client.svid._verify",
    "leaf_id": "spiffe_client.svid._leaf",
    "verify_jwt_svid": "spiffe_client.svid._jwt_verify",
    "verify_x509_svid": "spiffe_client.svid._verify",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
