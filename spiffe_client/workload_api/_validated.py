"""The Workload API's word on a JWT-SVID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from spiffe_client._values import dataclass
from spiffe_client.ids import SpiffeId

__all__ = ["ValidatedJwtSvid"]


@dataclass(frozen=True, slots=True)
class ValidatedJwtSvid:
    """Whom a JWT-SVID is about; the Workload API has validated it (Workload API §6.2.3).

    Attributes:
        id: The subject: proven.
        claims: All that the Workload API passes on, read-only; a whole number is an int.
    """

    id: SpiffeId
    claims: Mapping[str, object] = field(hash=False, repr=False)
