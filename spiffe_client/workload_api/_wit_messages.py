"""The messages of the Workload API's WIT profile (Workload API §7.1, incubating); see `_messages`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

from spiffe_client._values import dataclass
from spiffe_client.workload_api._fields import TEXT, Layout, MapOf, Message, Repeated, Single

__all__ = ["WitBundlesResponse", "WitSvidEntry", "WitSvidRequest", "WitSvidResponse"]


@dataclass(frozen=True, slots=True)
class WitSvidRequest(Message):
    """WITSVIDRequest.

    Attributes:
        spiffe_id: Whose WIT-SVID; all identities where empty.
    """

    NAME: ClassVar = "WITSVIDRequest"
    LAYOUT: ClassVar[Layout] = {1: ("spiffe_id", TEXT)}

    spiffe_id: str = ""


@dataclass(frozen=True, slots=True)
class WitSvidEntry(Message):
    """WITSVID: one identity; all but `hint` is mandatory.

    Attributes:
        wit_svid: The token; not in the repr.
        wit_svid_key: The private key as a JWK; not in the repr.
        hint: For what the operator means this identity.
    """

    NAME: ClassVar = "WITSVID"
    LAYOUT: ClassVar[Layout] = {
        1: ("spiffe_id", TEXT),
        2: ("wit_svid", TEXT),
        3: ("wit_svid_key", TEXT),
        4: ("hint", TEXT),
    }

    spiffe_id: str = ""
    wit_svid: str = field(default="", repr=False)
    wit_svid_key: str = field(default="", repr=False)
    hint: str = ""


@dataclass(frozen=True, slots=True)
class WitSvidResponse(Message):
    """WITSVIDResponse."""

    NAME: ClassVar = "WITSVIDResponse"
    LAYOUT: ClassVar[Layout] = {1: ("svids", Repeated(Single(WitSvidEntry.decode, WitSvidEntry.encode)))}

    svids: tuple[WitSvidEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class WitBundlesResponse(Message):
    """WITBundlesResponse.

    Attributes:
        bundles: JWK Sets by the SPIFFE ID of a trust domain.
    """

    NAME: ClassVar = "WITBundlesResponse"
    LAYOUT: ClassVar[Layout] = {1: ("bundles", MapOf(TEXT))}

    bundles: Mapping[str, str] = field(default_factory=dict)
