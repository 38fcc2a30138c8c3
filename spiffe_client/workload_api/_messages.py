"""The messages of the Workload API's X.509 profile, and the empty requests (Workload API §5.1).

A client decodes responses and encodes requests, the development server does the opposite: every
message does both. Attributes are named as in the standard's definition; a field that is absent is
at its default, which is its value (§4.4). The other profiles are in `_jwt_messages` and
`_wit_messages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

from spiffe_client._values import dataclass
from spiffe_client.workload_api._fields import BLOB, TEXT, Layout, MapOf, Message, Repeated, Single

__all__ = ["Empty", "X509BundlesResponse", "X509SvidEntry", "X509SvidResponse"]


@dataclass(frozen=True, slots=True)
class Empty(Message):
    """X509SVIDRequest, X509BundlesRequest, JWTBundlesRequest, WITBundlesRequest: no fields."""

    NAME: ClassVar = "request"
    LAYOUT: ClassVar[Layout] = {}


@dataclass(frozen=True, slots=True)
class X509SvidEntry(Message):
    """X509SVID: one identity; all but `hint` is mandatory.

    Attributes:
        x509_svid: DER certificates, concatenated, the leaf first.
        x509_svid_key: PKCS#8 DER, unencrypted; not in the repr.
        bundle: DER certificates of the own trust domain, concatenated.
        hint: For what the operator means this identity.
    """

    NAME: ClassVar = "X509SVID"
    LAYOUT: ClassVar[Layout] = {
        1: ("spiffe_id", TEXT),
        2: ("x509_svid", BLOB),
        3: ("x509_svid_key", BLOB),
        4: ("bundle", BLOB),
        5: ("hint", TEXT),
    }

    spiffe_id: str = ""
    x509_svid: bytes = b""
    x509_svid_key: bytes = field(default=b"", repr=False)
    bundle: bytes = b""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class X509SvidResponse(Message):
    """X509SVIDResponse.

    Attributes:
        crl: DER certificate revocation lists.
        federated_bundles: DER certificates, concatenated, by the SPIFFE ID of a trust domain.
    """

    NAME: ClassVar = "X509SVIDResponse"
    LAYOUT: ClassVar[Layout] = {
        1: ("svids", Repeated(Single(X509SvidEntry.decode, X509SvidEntry.encode))),
        2: ("crl", Repeated(BLOB)),
        3: ("federated_bundles", MapOf(BLOB)),
    }

    svids: tuple[X509SvidEntry, ...] = ()
    crl: tuple[bytes, ...] = ()
    federated_bundles: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class X509BundlesResponse(Message):
    """X509BundlesResponse.

    Attributes:
        crl: DER certificate revocation lists.
        bundles: DER certificates, concatenated, by the SPIFFE ID of a trust domain.
    """

    NAME: ClassVar = "X509BundlesResponse"
    LAYOUT: ClassVar[Layout] = {1: ("crl", Repeated(BLOB)), 2: ("bundles", MapOf(BLOB))}

    crl: tuple[bytes, ...] = ()
    bundles: Mapping[str, bytes] = field(default_factory=dict)
