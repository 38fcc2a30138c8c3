"""The Workload API's calls, answered by what an issuer says (SPIFFE Workload API §5-7).

All of the standard is answered, WIT-SVIDs (§7, incubating) included. Every call is refused
without the mandatory header (Workload Endpoint §6.1) and to callers that no registration means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar, cast

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from spiffe_client._grpc import Call, Handler, Status, StatusError
from spiffe_client.bundle import BundleSet
from spiffe_client.dev._caller import Caller
from spiffe_client.dev._issuer import Issuer
from spiffe_client.dev._registration import Registration
from spiffe_client.errors import InvalidIdError, ProtocolError, SpiffeError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid import X509Svid, verify_jwt_svid
from spiffe_client.workload_api._fields import Message
from spiffe_client.workload_api._jwt_messages import (
    JwtBundlesResponse,
    JwtSvidEntry,
    JwtSvidRequest,
    JwtSvidResponse,
    ValidateJwtSvidRequest,
    ValidateJwtSvidResponse,
)
from spiffe_client.workload_api._messages import X509BundlesResponse, X509SvidEntry, X509SvidResponse
from spiffe_client.workload_api._wit_messages import (
    WitBundlesResponse,
    WitSvidEntry,
    WitSvidRequest,
    WitSvidResponse,
)

if TYPE_CHECKING:
    from spiffe_client.workload_api._struct import JsonObject

__all__ = ["Entitled", "WorkloadApi"]

_HEADER = "workload.spiffe.io"

#: Says which registrations a caller is entitled to.
Entitled = Callable[[Caller], Sequence[Registration]]
_Entries = Sequence[Registration]
_M = TypeVar("_M", bound=Message)


class WorkloadApi:
    """Answers calls on one endpoint.

    Args:
        issuer: Issues what is answered, and tells of changes.
        entitled: Who gets what on this endpoint.
    """

    def __init__(self, issuer: Issuer, entitled: Entitled) -> None:
        self._issuer = issuer
        self._entitled = entitled

    @property
    def handlers(self) -> Mapping[str, Handler[Caller]]:
        """What to call by the path of the request: the service has no package (§4)."""
        calls: dict[str, Handler[Caller]] = {
            "FetchX509SVID": lambda call: self._stream(call, self._x509_svids, self._issuer.x509_svids.due),
            "FetchX509Bundles": lambda call: self._stream(call, self._x509_bundles),
            "FetchJWTSVID": self._fetch_jwt_svid,
            "FetchJWTBundles": lambda call: self._stream(call, self._jwt_bundles),
            "ValidateJWTSVID": self._validate_jwt_svid,
            "FetchWITSVID": self._fetch_wit_svid,
            "FetchWITBundles": lambda call: self._stream(call, self._wit_bundles),
        }
        return {f"/SpiffeWorkloadAPI/{name}": handler for name, handler in calls.items()}

    def _entries(self, call: Call[Caller]) -> _Entries:
        if call.metadata.get(_HEADER) != "true":
            raise StatusError(
                Status.INVALID_ARGUMENT, f"security header missing from request: {_HEADER}: true"
            )
        entries = self._entitled(call.peer)
        if not entries:
            raise StatusError(Status.PERMISSION_DENIED, "no identity issued")
        return entries

    async def _stream(
        self,
        call: Call[Caller],
        answer: Callable[[_Entries], Message],
        due: Callable[[_Entries], datetime | None] = lambda _entries: None,
    ) -> AsyncIterator[bytes]:
        """Send the answer whenever it is another one than before (§4.3), until nobody is left.

        Args:
            call: Who asks.
            answer: Makes the answer.
            due: Says when something in the answer is to be renewed.
        """
        sent: bytes | None = None
        with self._issuer.streams.open() as told:
            while True:
                seen = self._issuer.changes.version
                entries = self._entries(call)
                message = answer(entries).encode()
                if message != sent:
                    yield message
                    sent = message
                told(seen)
                if not await self._issuer.wait_news(seen, due(entries)):
                    return

    def _x509_svids(self, entries: _Entries) -> X509SvidResponse:
        own = self._issuer.ca.x509_bundle.to_der()
        return X509SvidResponse(
            svids=tuple(_x509_entry(self._issuer.x509_svids.current(e), own) for e in entries),
            federated_bundles={
                str(b.trust_domain.id): b.x509_bundle.to_der() for b in self._issuer.foreign_bundles(entries)
            },
        )

    def _x509_bundles(self, entries: _Entries) -> X509BundlesResponse:
        bundles = (self._issuer.ca.spiffe_bundle, *self._issuer.foreign_bundles(entries))
        return X509BundlesResponse(bundles={str(b.trust_domain.id): b.x509_bundle.to_der() for b in bundles})

    def _jwt_bundles(self, entries: _Entries) -> JwtBundlesResponse:
        bundles = (self._issuer.ca.spiffe_bundle, *self._issuer.foreign_bundles(entries))
        return JwtBundlesResponse(bundles={str(b.trust_domain.id): b.jwt_bundle.to_jwks() for b in bundles})

    def _wit_bundles(self, _entries: _Entries) -> WitBundlesResponse:
        bundle = self._issuer.ca.wit_bundle
        return WitBundlesResponse(bundles={str(bundle.trust_domain.id): bundle.to_jwks().decode()})

    async def _fetch_jwt_svid(self, call: Call[Caller]) -> AsyncIterator[bytes]:
        request = _decoded(JwtSvidRequest, call)
        if not request.audience or not all(request.audience):
            raise StatusError(Status.INVALID_ARGUMENT, "audience must be specified")
        entries = _only(request.spiffe_id, self._entries(call))
        yield JwtSvidResponse(
            svids=tuple(
                JwtSvidEntry(str(e.id), self._issuer.jwt_svid(e, request.audience), e.hint) for e in entries
            )
        ).encode()

    async def _validate_jwt_svid(self, call: Call[Caller]) -> AsyncIterator[bytes]:
        request = _decoded(ValidateJwtSvidRequest, call)
        if not request.audience or not request.svid:
            raise StatusError(Status.INVALID_ARGUMENT, "audience and svid must be specified")
        bundles = (self._issuer.ca.spiffe_bundle, *self._issuer.foreign_bundles(self._entries(call)))
        try:
            svid = verify_jwt_svid(
                request.svid,
                BundleSet(b.jwt_bundle for b in bundles),
                audience=request.audience,
                at=self._issuer.clock.now(),
            )
            claims = cast("JsonObject", svid.claims)  # decoded from JSON
            answer = ValidateJwtSvidResponse(str(svid.id), claims).encode()
        except SpiffeError as error:
            raise StatusError(Status.INVALID_ARGUMENT, str(error)) from error
        yield answer

    def _fetch_wit_svid(self, call: Call[Caller]) -> AsyncIterator[bytes]:
        wanted = _decoded(WitSvidRequest, call).spiffe_id

        def answer(entries: _Entries) -> WitSvidResponse:
            current = [(e, self._issuer.wit_svids.current(e)) for e in _only(wanted, entries)]
            return WitSvidResponse(
                svids=tuple(WitSvidEntry(str(e.id), token, key, e.hint) for e, (token, key) in current)
            )

        return self._stream(call, answer, self._issuer.wit_svids.due)


def _x509_entry(svid: X509Svid, own_bundle: bytes) -> X509SvidEntry:
    key = svid.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return X509SvidEntry(str(svid.id), b"".join(svid.ders), key, own_bundle, svid.hint)


def _decoded(kind: type[_M], call: Call[Caller]) -> _M:
    try:
        return kind.decode(call.request)
    except ProtocolError as error:
        raise StatusError(Status.INVALID_ARGUMENT, str(error)) from error


def _only(wanted: str, entries: _Entries) -> _Entries:
    """Return the registrations of the one identity that a request names, or all if it names none."""
    if not wanted:
        return entries
    try:
        spiffe_id = SpiffeId.parse(wanted)
    except InvalidIdError as error:
        raise StatusError(Status.INVALID_ARGUMENT, str(error)) from error
    named = [e for e in entries if e.id == spiffe_id]
    if not named:
        raise StatusError(Status.PERMISSION_DENIED, "no identity issued")
    return named
