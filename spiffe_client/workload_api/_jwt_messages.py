"""The messages of the Workload API's JWT profile (Workload API §6.1); see `_messages`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

from spiffe_client._values import dataclass
from spiffe_client.workload_api._fields import BLOB, TEXT, Layout, MapOf, Message, Repeated, Single
from spiffe_client.workload_api._struct import STRUCT, JsonObject

__all__ = [
    "JwtBundlesResponse",
    "JwtSvidEntry",
    "JwtSvidRequest",
    "JwtSvidResponse",
    "ValidateJwtSvidRequest",
    "ValidateJwtSvidResponse",
]


@dataclass(frozen=True, slots=True)
class JwtSvidRequest(Message):
    """JWTSVIDRequest.

    Attributes:
        audience: Whom the token is for; mandatory.
        spiffe_id: Whose token; all identities where empty.
    """

    NAME: ClassVar = "JWTSVIDRequest"
    LAYOUT: ClassVar[Layout] = {1: ("audience", Repeated(TEXT)), 2: ("spiffe_id", TEXT)}

    audience: tuple[str, ...] = ()
    spiffe_id: str = ""


@dataclass(frozen=True, slots=True)
class JwtSvidEntry(Message):
    """JWTSVID: one token; all but `hint` is mandatory.

    Attributes:
        svid: The token; not in the repr.
        hint: For what the operator means this identity.
    """

    NAME: ClassVar = "JWTSVID"
    LAYOUT: ClassVar[Layout] = {1: ("spiffe_id", TEXT), 2: ("svid", TEXT), 3: ("hint", TEXT)}

    spiffe_id: str = ""
    svid: str = field(default="", repr=False)
    hint: str = ""


@dataclass(frozen=True, slots=True)
class JwtSvidResponse(Message):
    """JWTSVIDResponse."""

    NAME: ClassVar = "JWTSVIDResponse"
    LAYOUT: ClassVar[Layout] = {1: ("svids", Repeated(Single(JwtSvidEntry.decode, JwtSvidEntry.encode)))}

    svids: tuple[JwtSvidEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class JwtBundlesResponse(Message):
    """JWTBundlesResponse.

    Attributes:
        bundles: JWK Sets by the SPIFFE ID of a trust domain.
    """

    NAME: ClassVar = "JWTBundlesResponse"
    LAYOUT: ClassVar[Layout] = {1: ("bundles", MapOf(BLOB))}

    bundles: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ValidateJwtSvidRequest(Message):
    """ValidateJWTSVIDRequest; both fields are mandatory.

    Attributes:
        audience: Who validates.
        svid: The token; not in the repr.
    """

    NAME: ClassVar = "ValidateJWTSVIDRequest"
    LAYOUT: ClassVar[Layout] = {1: ("audience", TEXT), 2: ("svid", TEXT)}

    audience: str = ""
    svid: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ValidateJwtSvidResponse(Message):
    """ValidateJWTSVIDResponse; both fields are mandatory."""

    NAME: ClassVar = "ValidateJWTSVIDResponse"
    LAYOUT: ClassVar[Layout] = {1: ("spiffe_id", TEXT), 2: ("claims", STRUCT)}

    spiffe_id: str = ""
    claims: JsonObject = field(default_factory=dict)
