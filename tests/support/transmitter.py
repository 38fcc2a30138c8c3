"""A transmitter of security events that is scripted, and a receiver's surroundings."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

import anyio

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.tokens import CaepPoll, TokenRequest
from spiffe_client.tokens._caep import Receiver, Receiving
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._dpop import DpopKey
from spiffe_client.tokens._nonces import Nonces
from spiffe_client.tokens._security_events import SESSION_REVOKED
from tests.support.raw_broker import json_reply, raw_reply
from tests.support.token_parties import access_token
from tests.support.tokens import ec_key, public_jwk, sign_token

__all__ = ["TOKENS", "US", "QuickClock", "Transmitter", "World"]

US = "spiffe://dev.example/agent"
TOKENS = "https://tokens.test"


class QuickClock:
    """Real time, but nobody sleeps; what would have been slept is noted."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.ahead = 0.0

    def now(self) -> datetime:
        return SYSTEM_CLOCK.now()

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await anyio.lowlevel.checkpoint()


class Transmitter:
    """Answers polls as scripted, then holds them until there is more."""

    def __init__(self) -> None:
        self.url = ""
        self.key = ec_key()
        self.polls: list[dict] = []
        self.script: list[object] = []
        self.documents: dict[str, object] = {}
        self.keys_read = 0
        self.authorizations: list[str | None] = []
        self.proofs: list[str] = []

    def answer(self, asked):
        target = asked.target.partition("?")[0]
        if target in self.documents:
            return self.documents[target]
        if target == "/.well-known/ssf-configuration":
            return json_reply(
                {
                    "issuer": self.url,
                    "jwks_uri": f"{self.url}/jwks",
                    "configuration_endpoint": f"{self.url}/streams",
                }
            )
        if target == "/jwks":
            self.keys_read += 1
            return raw_reply(200, json.dumps({"keys": [public_jwk(self.key)]}).encode())
        self.authorizations.append(asked.header("authorization"))
        if asked.header("dpop"):
            self.proofs.append(asked.header("dpop"))
        if target == "/streams":
            return json_reply(self.stream())
        self.polls.append(json.loads(asked.body))
        return self._next

    def _next(self):
        if not self.script:
            return None
        step = self.script.pop(0)
        return json_reply(step) if isinstance(step, dict) else step

    def stream(self, **changes: object) -> dict:
        delivery = {"method": "urn:ietf:rfc:8936", "endpoint_url": f"{self.url}/poll"}
        return {"stream_id": "s1", "delivery": delivery, **changes}

    def event(self, jti: str, *, key=None, kind: str = SESSION_REVOKED, **changes: object) -> str:
        claims = {
            "iss": self.url,
            "aud": "client-1",
            "iat": int(SYSTEM_CLOCK.now().timestamp()),
            "jti": jti,
            "sub_id": {"format": "uri", "uri": US},
            "events": {kind: {}},
            **changes,
        }
        return sign_token(key or self.key, "ES256", claims, typ="secevent+jwt")

    def deliver(self, *jtis: str, **changes: object) -> None:
        self.script.append({"sets": {jti: self.event(jti, **changes) for jti in jtis}})

    @property
    def acks(self) -> list[str]:
        return [ack for poll in self.polls for ack in poll.get("ack", [])]

    @property
    def errors(self) -> dict[str, str]:
        return {jti: said["err"] for poll in self.polls for jti, said in poll.get("setErrs", {}).items()}


class World:
    def __init__(self, transmitter: Transmitter, channel: Channel) -> None:
        self.transmitter = transmitter
        self.channel = channel
        self.clock = QuickClock()
        self.events = []
        self.held = [access_token("one"), access_token("two")]
        self.purged: list[object] = []
        self.withdrawn: list[tuple[object, int]] = []
        self.listener_errors: list[Exception] = []
        self.acks_at_purge: list[list[str]] = []
        self.dpop: DpopKey | None = None
        self.nonces = Nonces()
        self.fetched: list[TokenRequest] = []
        self.token_type = "Bearer"
        self.own_id = lambda: US

    async def fetch(self, request: TokenRequest):
        self.fetched.append(request)
        return replace(access_token(f"poll-token-{len(self.fetched)}"), token_type=self.token_type)

    def purge(self, which) -> int:
        self.acks_at_purge.append(list(self.transmitter.acks))
        gone = [which] if not callable(which) else [token for token in self.held if which(token)]
        self.purged += gone
        self.held = [token for token in self.held if token not in gone]
        return len(gone)

    def tell_withdrawn(self, affected: object) -> None:
        self.withdrawn.append((affected, len(self.held)))
        if self.listener_errors:
            raise self.listener_errors.pop()

    def receiver(self, **options: object) -> Receiver:
        poll = CaepPoll(self.transmitter.url, **{"authorization": False, **options})
        receiving = Receiving(
            channel=self.channel,
            fetch=self.fetch,
            dpop=self.dpop,
            nonces=self.nonces,
            issuer=TOKENS,
            client_id=lambda: "client-1",
            own_id=lambda: self.own_id(),
            held=lambda: self.held,
            purge=self.purge,
            withdrawn=self.tell_withdrawn,
            clock=self.clock,
            sink=self.events.append,
        )
        return Receiver(poll, receiving)

    @asynccontextmanager
    async def running(self, **options: object):
        receiver = self.receiver(**options)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receiver.run)
            yield receiver
            receiver.end()

    async def until(self, condition) -> None:
        with anyio.fail_after(10):
            while not condition():
                await anyio.sleep(0.005)

    def told(self, name: str) -> list[str]:
        return [event.message for event in self.events if event.name == name]
