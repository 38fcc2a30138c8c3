"""What JWT messages mean: tokens for the audience that was asked for, bundles, validated claims."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import MappingProxyType

from spiffe_client._frames import border
from spiffe_client.bundle import BundleSet, JwtBundle
from spiffe_client.errors import (
    ExpiredError,
    InvalidAudienceError,
    InvalidRequestError,
    JwtSvidError,
    ProtocolError,
    SpiffeError,
)
from spiffe_client.ids import SpiffeId
from spiffe_client.svid import JwtSvid
from spiffe_client.workload_api._jwt_messages import (
    JwtBundlesResponse,
    JwtSvidEntry,
    JwtSvidRequest,
    JwtSvidResponse,
    ValidateJwtSvidRequest,
    ValidateJwtSvidResponse,
)
from spiffe_client.workload_api._reading import check_mandatory, id_of, read_bundle_set, usable_entries
from spiffe_client.workload_api._rpc import Refused
from spiffe_client.workload_api._validated import ValidatedJwtSvid

__all__ = [
    "jwt_svid_request",
    "read_jwt_bundles",
    "read_jwt_svids",
    "read_validated",
    "validate_request",
]


def jwt_svid_request(audience: str | Sequence[str], subject: SpiffeId | str | None) -> JwtSvidRequest:
    """Make the request for tokens; the audience is passed on as it is.

    Raises:
        InvalidAudienceError: There is no audience, or an empty one.
        InvalidIdError: The subject is no SPIFFE ID.
    """
    audiences = (audience,) if isinstance(audience, str) else tuple(audience)
    if not audiences:
        raise InvalidAudienceError("an audience is needed: whom shall the JWT-SVID be for?")
    for text in audiences:
        _check_text("the audience of a JWT-SVID", text, InvalidAudienceError)
    return JwtSvidRequest(audiences, "" if subject is None else str(SpiffeId.parse(subject)))


def validate_request(token: str, audience: str) -> ValidateJwtSvidRequest:
    """Make the request to validate a token.

    Raises:
        InvalidAudienceError: The audience is empty.
        InvalidRequestError: The token is.
    """
    _check_text("the audience that a JWT-SVID is validated for", audience, InvalidAudienceError)
    _check_text("the JWT-SVID to validate", token, InvalidRequestError)
    return ValidateJwtSvidRequest(audience, token)


@border
def read_jwt_svids(data: bytes, request: JwtSvidRequest, *, at: datetime) -> tuple[JwtSvid, ...]:
    """Read a JWTSVIDResponse.

    Args:
        data: The message.
        request: What was asked for: audience and subject must be these.
        at: When the tokens have to be unexpired.

    Raises:
        ProtocolError: It is malformed, or a mandatory field is empty or makes no sense.
        JwtSvidError: One of its tokens is not what was asked for; none is used then.
    """
    response = JwtSvidResponse.decode(data)
    check_mandatory("JWTSVIDResponse", response, "svids")
    for number, entry in enumerate(response.svids):
        check_mandatory(f"JWTSVIDResponse.svids[{number}]", entry, "spiffe_id", "svid")
    return tuple(
        _read_svid(where, entry, request, at)
        for where, entry in usable_entries("JWTSVIDResponse.svids", response.svids)
    )


def read_jwt_bundles(data: bytes, *, refused: Refused) -> BundleSet[JwtBundle]:
    """Read a JWTBundlesResponse.

    Args:
        data: The message.
        refused: Told a `BundleError` for each bundle that is left out.

    Raises:
        ProtocolError: It is malformed or has no usable bundle.
    """
    response = JwtBundlesResponse.decode(data)
    return read_bundle_set("JWTBundlesResponse.bundles", response.bundles, JwtBundle.parse_jwks, refused)


def read_validated(data: bytes) -> ValidatedJwtSvid:
    """Read a ValidateJWTSVIDResponse.

    Raises:
        ProtocolError: It is malformed, a mandatory field is empty, or ID and subject differ.
    """
    response = ValidateJwtSvidResponse.decode(data)
    check_mandatory("ValidateJWTSVIDResponse", response, "spiffe_id", "claims")
    spiffe_id = id_of("ValidateJWTSVIDResponse", response.spiffe_id)
    subject = response.claims.get("sub")
    if subject is not None and (
        not isinstance(subject, str) or id_of("ValidateJWTSVIDResponse.claims.sub", subject) != spiffe_id
    ):
        raise ProtocolError(f"ValidateJWTSVIDResponse: the claims are not about {spiffe_id}")
    return ValidatedJwtSvid(spiffe_id, MappingProxyType(response.claims))


def _check_text(what: str, text: object, error: type[SpiffeError]) -> None:
    if not isinstance(text, str) or not text:
        raise error(f"{what} must be text and not empty")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise error(f"{what} holds half of a surrogate pair")


def _read_svid(where: str, entry: JwtSvidEntry, request: JwtSvidRequest, at: datetime) -> JwtSvid:
    spiffe_id = id_of(where, entry.spiffe_id)
    try:
        svid = JwtSvid.parse_unverified(entry.svid, hint=entry.hint)
    except JwtSvidError as error:
        raise JwtSvidError(f"{where} ({spiffe_id}): {error}") from error
    if svid.id != spiffe_id:
        raise JwtSvidError(f"{where} ({spiffe_id}): the token is of {svid.id}")
    if request.spiffe_id not in ("", str(spiffe_id)):
        raise JwtSvidError(
            f"{where} ({spiffe_id}): not the SPIFFE ID that was asked for, {request.spiffe_id}"
        )
    if not svid.audience.issuperset(request.audience):
        raise JwtSvidError(f"{where} ({spiffe_id}): the token is not for the audience that was asked for")
    if svid.expires_at <= at:
        raise ExpiredError(
            f"{where} ({spiffe_id}): the token has expired at {svid.expires_at:%Y-%m-%dT%H:%M:%SZ}; "
            f"is this machine's clock right?"
        )
    return svid
