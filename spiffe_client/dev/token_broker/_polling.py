"""The stream endpoints: configuration, verification, and the poll (Shared Signals §7-8, RFC 8936)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from spiffe_client.dev.token_broker._access import AccessCheck, ChallengedError
from spiffe_client.dev.token_broker._app import call_of, json_response, read_body
from spiffe_client.dev.token_broker._authorization_server import AuthorizationServer
from spiffe_client.dev.token_broker._document import parse_document
from spiffe_client.dev.token_broker._events import (
    CREDENTIAL_CHANGE,
    SESSION_REVOKED,
    VERIFICATION,
    EventStreams,
    Stream,
)
from spiffe_client.dev.token_broker._jwt import NotAcceptableError
from spiffe_client.dev.token_broker._messages import Form, RefusedError, Reply

__all__ = ["Polling"]

POLL = "urn:ietf:rfc:8936"
#: Scope that an access token for the streams has to have (CAEP Interoperability Profile §2.7.2).
SCOPE = "ssf.read"
#: How long a poll is held while there is nothing, in seconds.
_LONG = 30.0
_EVENTS = [SESSION_REVOKED, CREDENTIAL_CHANGE]


@dataclass(slots=True)
class Polling:
    """Answers receivers of security events.

    A receiver shows an access token of ours with the scope `ssf.read` and for us, or its X509-SVID
    in TLS. Its stream comes to be when it asks for it, or polls for the first time.

    Attributes:
        server: Issues the access tokens.
    """

    server: AuthorizationServer
    _waiting: set[asyncio.Event] = field(default_factory=set)

    @property
    def streams(self) -> EventStreams:
        """What is waiting."""
        return self.server.streams

    @property
    def issuer(self) -> str:
        """Who transmits."""
        return self.server.issuer

    def configuration(self) -> dict[str, object]:
        """Return the transmitter's metadata (Shared Signals §7.1)."""
        return {
            "spec_version": "1_0",
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "delivery_methods_supported": [POLL],
            "configuration_endpoint": f"{self.issuer}/ssf/streams",
            "verification_endpoint": f"{self.issuer}/ssf/verify",
            "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6749"}],
            "default_subjects": "ALL",
        }

    def wake(self) -> None:
        """Have all polls look again; on the loop that serves."""
        for event in self._waiting:
            event.set()

    async def stream(self, request: Request) -> Response:
        """Create, show or delete the receiver's stream (§8.1.1)."""
        receiver = self._receiver(request)
        body = await read_body(request)
        with self.server.lock:
            stream = self.streams.of(receiver)
            if request.method == "POST":
                delivery = (_object(body) if body else {}).get("delivery", {"method": POLL})
                if not isinstance(delivery, Mapping) or delivery.get("method") != POLL:
                    raise RefusedError("invalid_request", "only delivery by poll is supported")
                return json_response(Reply(self._shown(self.streams.open(receiver)), 201))
            if stream is None:
                raise RefusedError("not_found", "there is no stream", status=404)
            if request.method == "DELETE":
                self.streams.close(receiver)
                return json_response(Reply(status=204))
            return json_response(Reply(self._shown(stream)))

    async def verify(self, request: Request) -> Response:
        """Put a verification event into the stream, as the receiver asks (§8.1.4)."""
        receiver = self._receiver(request)
        asked = _object(await read_body(request))
        with self.server.lock:
            stream = self.streams.of(receiver)
            if stream is None or asked.get("stream_id") != stream.id:
                raise RefusedError("not_found", "there is no such stream", status=404)
            event = {"state": asked["state"]} if "state" in asked else {}
            self.streams.emit(VERIFICATION, event, {"format": "opaque", "id": stream.id}, only=stream)
        return json_response(Reply(status=204))

    async def poll(self, request: Request) -> Response:
        """Take acknowledgements, and give what is waiting, as soon as something is (RFC 8936 §2)."""
        receiver = self._receiver(request)
        asked = _Poll.parse(_object(await read_body(request)))
        with self.server.lock:
            stream = self.streams.open(receiver)
            stream.settle(asked.acks, asked.errors)
            woken = asyncio.Event()
            waits = asked.most != 0 and not asked.at_once and not stream.waiting
            if waits:  # under the lock: an event that comes from now on will wake us
                self._waiting.add(woken)
        if waits:
            await self._wait(woken, request.state.stopping)
        with self.server.lock:
            sets = dict(list(stream.waiting.items())[: asked.most])
            more = len(stream.waiting) > len(sets)
        return json_response(Reply({"sets": sets, "moreAvailable": more}))

    async def _wait(self, woken: asyncio.Event, stopping: asyncio.Event) -> None:
        both = [asyncio.ensure_future(event.wait()) for event in (woken, stopping)]
        try:
            await asyncio.wait(both, timeout=_LONG, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(woken)
            for waiting in both:
                waiting.cancel()

    def _receiver(self, request: Request) -> str:
        call = call_of(request, Form(()))
        if call.header("authorization") is None and call.certificate is not None:
            return str(call.certificate.id)
        with self.server.lock:
            proofs = self.server.proofs
            keys = self.server.store.keys
            check = AccessCheck(
                self.issuer, frozenset({self.issuer}), lambda: keys, proofs, self.server.clock
            )
            try:
                presented = check.check(call, SCOPE)
                self.server.store.find(presented.token)
            except NotAcceptableError as error:
                refused = ChallengedError(401, "invalid_token", f"the token: {error}", scheme="Bearer")
                raise self._refusal(refused) from error
            except ChallengedError as error:
                raise self._refusal(error) from error
        return str(presented.claims["client_id"])

    def _refusal(self, error: ChallengedError) -> RefusedError:
        headers = {"WWW-Authenticate": error.challenge, **self.server.nonce_header}
        return RefusedError(error.error, error.description, status=error.status, headers=headers)

    def _shown(self, stream: Stream) -> dict[str, object]:
        return {
            "stream_id": stream.id,
            "iss": self.issuer,
            "aud": stream.receiver,
            "delivery": {"method": POLL, "endpoint_url": f"{self.issuer}/ssf/poll"},
            "events_supported": _EVENTS,
            "events_requested": _EVENTS,
            "events_delivered": _EVENTS,
        }


def _object(body: bytes) -> dict[str, object]:
    value = parse_document(body)
    if value is None:
        raise RefusedError("invalid_request", "the body is not a JSON object")
    return value


@dataclass(frozen=True, slots=True)
class _Poll:
    """What a receiver asks for and reports."""

    most: int | None
    at_once: bool
    acks: tuple[str, ...]
    errors: Mapping[str, Mapping[str, object]]

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> _Poll:
        most, at_once = body.get("maxEvents"), body.get("returnImmediately", False)
        acks, errors = body.get("ack", []), body.get("setErrs", {})
        fits = (
            (most is None or (isinstance(most, int) and not isinstance(most, bool) and most >= 0))
            and isinstance(at_once, bool)
            and isinstance(acks, list)
            and all(isinstance(ack, str) for ack in acks)
            and isinstance(errors, dict)
            and all(isinstance(error, dict) and "err" in error for error in errors.values())
        )
        if not fits:
            raise RefusedError("invalid_request", "a member of the poll is not as RFC 8936 says")
        assert isinstance(acks, list)
        assert isinstance(errors, dict)
        return cls(most if isinstance(most, int) else None, bool(at_once), tuple(acks), errors)
