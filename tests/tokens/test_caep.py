"""The receiver of security events (RFC 8936): purges, then acknowledges; nothing that comes ends it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

import anyio
import pytest

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import StaleError, TokenBrokerUnavailableError
from spiffe_client.tokens import CaepPoll, SecretCall, TokenBroker, TokenRequest, WebPki
from spiffe_client.tokens._caep import Receiver, Receiving
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._dpop import DpopKey
from spiffe_client.tokens._nonces import Nonces
from spiffe_client.tokens._security_events import SESSION_REVOKED, VERIFICATION
from tests.support.oauth_client import claims_of
from tests.support.raw_broker import HANG, json_reply, raw_reply, serve_raw
from tests.support.token_parties import DomainIdentity, access_token
from tests.support.transmitter import TOKENS, US, QuickClock, Transmitter, World
from tests.support.tokens import ec_key, public_jwk, sign_token

pytestmark = pytest.mark.anyio

ORDERS = "https://orders.example"


@pytest.fixture
async def world():
    transmitter = Transmitter()
    with serve_raw(transmitter.answer) as server:
        transmitter.url = server.url
        channel = Channel(WebPki())
        yield World(transmitter, channel)
        await channel.aclose()


class TestPurge:
    async def test_then_acknowledge(self, world) -> None:
        """RFC 8936 §2.4: what is acknowledged is not delivered again, so it comes last."""
        world.transmitter.deliver("j1")
        async with world.running():
            await world.until(lambda: world.transmitter.acks)
        assert ["one", "two"] == [token.token.reveal() for token in world.purged]
        assert [[]] == world.acks_at_purge
        assert ["j1"] == world.transmitter.acks
        assert [{"maxEvents": 16, "returnImmediately": False}] == world.transmitter.polls[:1]
        (event,) = [event for event in world.events if event.name == "security_event.received"]
        assert ("session-revoked", 2) == (event.attributes["events"], event.attributes["tokens"])

    async def test_once(self, world) -> None:
        """The same event delivered again is acknowledged again, and purges nothing more."""
        world.transmitter.deliver("j1")
        world.transmitter.deliver("j1")
        async with world.running():
            await world.until(lambda: len(world.transmitter.acks) == 2)
        assert 1 == len(world.acks_at_purge)
        assert ["j1", "j1"] == world.transmitter.acks

    async def test_acknowledgement_that_is_lost(self, world) -> None:
        """A poll that fails is no acknowledgement: it is made again."""
        world.transmitter.deliver("j1")
        world.transmitter.script.append(raw_reply(503))
        async with world.running():
            await world.until(lambda: len(world.transmitter.acks) == 2)
        assert ["j1", "j1"] == world.transmitter.acks

    async def test_about_others(self, world) -> None:
        """It is acknowledged and takes nothing."""
        world.transmitter.deliver("j1", sub_id={"format": "opaque", "id": "jo"})
        world.transmitter.deliver("j2", kind="https://example/unknown")
        async with world.running():
            await world.until(lambda: len(world.transmitter.acks) == 2)
        assert [] == world.purged

    async def test_without_an_identity(self, world) -> None:
        """Names that we had still count after the SVID was withdrawn."""
        world.transmitter.deliver("j1", sub_id={"format": "opaque", "id": "jo"})
        async with world.running():
            await world.until(lambda: world.transmitter.acks)

            def withdrawn() -> str:
                raise StaleError("withdrawn", reason="withdrawn")

            world.own_id = withdrawn
            world.transmitter.deliver("j2")
            await world.until(lambda: "j2" in world.transmitter.acks)
        assert 2 == len(world.purged)

    async def test_verification(self, world) -> None:
        """Shared Signals Framework §8.1.4: answered like any other."""
        subject = {"format": "opaque", "id": "s1"}
        world.transmitter.deliver(
            "j1", kind=VERIFICATION, sub_id=subject, events={VERIFICATION: {"state": "x"}}
        )
        async with world.running():
            await world.until(lambda: world.transmitter.acks)
        assert 1 == len(world.told("security_event.verified"))
        assert [] == world.purged


class TestBadInput:
    async def test_each_is_answered(self, world) -> None:
        """RFC 8936 §2.6: its transmitter is told what is wrong, and the good one beside it counts."""
        world.transmitter.script.append(
            {
                "sets": {
                    "other-name": world.transmitter.event("j1"),
                    "text": "not a token",
                    "number": 7,
                    "issuer": world.transmitter.event("issuer", iss="https://evil.test"),
                    "audience": world.transmitter.event("audience", aud="somebody"),
                    "good": world.transmitter.event("good"),
                    "n" * 2000: "x",
                },
                "moreAvailable": True,
            }
        )
        async with world.running():
            await world.until(lambda: world.transmitter.acks)
        expected = {
            "other-name": "invalid_request",
            "text": "invalid_request",
            "number": "invalid_request",
            "issuer": "invalid_issuer",
            "audience": "invalid_audience",
        }
        assert expected == world.transmitter.errors
        assert ["good"] == world.transmitter.acks
        (refused,) = [event for event in world.events if event.name == "security_event.refused"]
        assert 6 == refused.attributes["count"]
        assert "invalid_audience invalid_issuer invalid_request" == refused.attributes["error"]

    async def test_forged(self, world) -> None:
        """Attack: a forged event costs one look at the keys a minute, and is refused when that is sure."""
        world.transmitter.deliver("j1", key=ec_key(number=7))
        world.transmitter.deliver("j1", key=ec_key(number=7))
        async with world.running():
            await world.until(lambda: len(world.transmitter.polls) == 3)
            assert {} == world.transmitter.errors
            assert 1 == world.transmitter.keys_read
            world.clock.ahead = 61
            world.transmitter.deliver("j1", key=ec_key(number=7))
            await world.until(lambda: world.transmitter.errors)
        assert {"j1": "invalid_key"} == world.transmitter.errors
        assert 2 == world.transmitter.keys_read
        assert [] == world.purged
        assert any(pause >= 2.5 for pause in world.clock.pauses)  # no busy loop around it

    async def test_who_works_with_them_is_told(self, world) -> None:
        """Before they are forgotten, and after; not where all are: that is told to everybody."""
        jo = {"iss": TOKENS, "sub": "jo", "jti": "t1"}
        world.held[0] = access_token(sign_token(ec_key(), "ES256", jo, typ="at+jwt"))
        world.transmitter.deliver("j1", sub_id={"format": "opaque", "id": "jo"})
        async with world.running():
            await world.until(lambda: world.transmitter.acks)
            (before, held), (after, left) = world.withdrawn
            assert (after, [2, 1]) == (before, [held, left])
            world.transmitter.deliver("j2")
            await world.until(lambda: "j2" in world.transmitter.acks)
        assert 2 == len(world.withdrawn)

    async def test_who_works_with_them_fails(self, world) -> None:
        """They are forgotten all the same, and the event comes again."""
        world.listener_errors.append(ZeroDivisionError())
        world.transmitter.deliver("j1", sub_id={"format": "opaque", "id": "jo"})
        world.transmitter.deliver("j1", sub_id={"format": "opaque", "id": "jo"})
        async with world.running():
            await world.until(lambda: world.transmitter.acks)
        assert (2, 3) == (len(world.acks_at_purge), len(world.withdrawn))
        assert 1 == len(world.told("security_event.unavailable"))

    async def test_rotated_key(self, world) -> None:
        """An event that is signed with a key newer than our look at them is not lost."""
        world.transmitter.deliver("j1", sub_id={"format": "opaque", "id": "jo"})
        async with world.running():
            await world.until(lambda: world.transmitter.acks)
            world.transmitter.key = ec_key("P-256", 9)
            world.clock.ahead = 61
            world.transmitter.deliver("j2")
            await world.until(lambda: "j2" in world.transmitter.acks)
        assert 2 == len(world.purged)

    @pytest.mark.parametrize(
        "reply",
        [
            raw_reply(200, b"<html>", ("Content-Type", "text/html")),
            json_reply([]),
            json_reply({}),
            json_reply({"sets": []}),
            raw_reply(200, b'{"sets":{},"sets":{}}', ("Content-Type", "application/json")),
            raw_reply(200, b"x" * 70_000, ("Content-Type", "application/json")),
            raw_reply(302, b"", ("Location", "https://evil.test/")),
            json_reply({"error": "invalid_request"}, 400),
            raw_reply(500),
            raw_reply(429, b"", ("Retry-After", "30")),
        ],
    )
    async def test_survives(self, world, reply) -> None:
        """Whatever the transmitter answers, the next poll is made, after a pause."""
        world.transmitter.script += [reply, reply, reply, reply]
        world.transmitter.deliver("j1")
        async with world.running() as receiver:
            await world.until(lambda: world.transmitter.acks)
            assert None is receiver.trouble
        assert 2 == len(world.purged)
        assert 1 == len(world.told("security_event.unavailable"))
        assert 1 == len(world.told("security_event.recovered"))

    async def test_retry_after(self, world) -> None:
        """What the transmitter asks for is kept to, with jitter on top of nothing."""
        world.transmitter.script.append(raw_reply(503, b"", ("Retry-After", "30")))
        world.transmitter.deliver("j1")
        async with world.running():
            await world.until(lambda: world.transmitter.acks)
        assert any(pause >= 30 for pause in world.clock.pauses)

    async def test_too_much_at_once(self, world) -> None:
        """An answer larger than is read is asked for in smaller parts, and then in larger ones again."""
        large = raw_reply(200, b"x" * 70_000, ("Content-Type", "application/json"))
        world.transmitter.script += [large, large]
        world.transmitter.deliver("j1")
        async with world.running():
            await world.until(lambda: len(world.transmitter.polls) >= 4)
        assert [16, 8, 4, 8] == [poll["maxEvents"] for poll in world.transmitter.polls[:4]]

    async def test_no_busy_loop(self, world) -> None:
        """A transmitter that answers at once though there is nothing is asked every few seconds."""
        world.transmitter.script += [{"sets": {}}] * 5
        async with world.running():
            await world.until(lambda: len(world.transmitter.polls) == 6)
        assert 5 == len([pause for pause in world.clock.pauses if 2.5 <= pause <= 5])

    async def test_refused_again_and_again(self, world) -> None:
        """One that does not heed our errors is no busy loop either."""
        world.transmitter.script += [{"sets": {"x": "no token"}}] * 3
        async with world.running():
            await world.until(lambda: len(world.transmitter.polls) == 4)
        assert 3 == len([pause for pause in world.clock.pauses if pause >= 2.5])

    async def test_hung(self, world) -> None:
        """A poll ends after the time it may be held, and is made anew."""
        async with world.running(wait=0.05) as receiver:
            await world.until(lambda: len(world.transmitter.polls) >= 2)
            assert isinstance(receiver.trouble, TokenBrokerUnavailableError)

    async def test_memory_is_bounded(self, world, monkeypatch) -> None:
        """Only so many events are recognised."""
        monkeypatch.setattr("spiffe_client.tokens._inbox._REMEMBERED", 2)
        world.transmitter.deliver("j1", "j2", "j3")
        async with world.running() as receiver:
            await world.until(lambda: len(world.transmitter.acks) == 3)
            assert ["j2", "j3"] == list(receiver._inbox._settled)


class TestDiscovery:
    @pytest.mark.parametrize(
        "changes",
        [
            {"issuer": "https://evil.test"},
            {"jwks_uri": None},
            {"jwks_uri": "https://evil.test/jwks"},
            {"jwks_uri": "http://evil.test/jwks"},
            {"configuration_endpoint": "https://evil.test/streams"},
            {"configuration_endpoint": None},
        ],
    )
    async def test_somebody_elses(self, world, changes) -> None:
        """Attack, mix-up: metadata that leads elsewhere is not followed."""
        url = world.transmitter.url
        whole = {
            "issuer": url,
            "jwks_uri": f"{url}/jwks",
            "configuration_endpoint": f"{url}/streams",
            **changes,
        }
        world.transmitter.documents["/.well-known/ssf-configuration"] = json_reply(whole)
        async with world.running() as receiver:
            await world.until(lambda: receiver.trouble)
            assert "discovery" == receiver.trouble.code
        assert [] == world.transmitter.polls

    @pytest.mark.parametrize("streams", ["one", "list", "none", "push"])
    async def test_streams(self, world, streams) -> None:
        """§8.1.1: one stream, a list of them, or none yet: then one is created."""
        push = world.transmitter.stream(
            delivery={"method": "urn:ietf:rfc:8935", "endpoint_url": "https://x/"}
        )
        found = {
            "one": json_reply(world.transmitter.stream()),
            "list": json_reply([push, 7, world.transmitter.stream()]),
            "none": json_reply({"error": "not_found"}, 404),
            "push": json_reply([push]),
        }[streams]
        asked: list[object] = []
        answer = world.transmitter.answer

        def answering(one):
            if one.target == "/streams":
                asked.append((one.method, json.loads(one.body or b"{}")))
                return found if one.method == "GET" else json_reply(world.transmitter.stream(), 201)
            return answer(one)

        with serve_raw(answering) as server:
            world.transmitter.url = server.url
            found = json_reply(world.transmitter.stream()) if streams == "one" else found
            found = json_reply([push, 7, world.transmitter.stream()]) if streams == "list" else found
            world.transmitter.deliver("j1")
            async with world.running():
                await world.until(lambda: world.transmitter.acks)
        created = [body for method, body in asked if method == "POST"]
        assert (streams in ("none", "push")) == bool(created)
        assert all(body["delivery"] == {"method": "urn:ietf:rfc:8936"} for body in created)

    async def test_several_streams(self, world) -> None:
        """Which of them is for the user to say."""
        both = [world.transmitter.stream(), world.transmitter.stream(stream_id="s2")]
        world.transmitter.documents["/streams"] = json_reply(both)
        async with world.running() as receiver:
            await world.until(lambda: receiver.trouble)
            assert "stream_id=" in str(receiver.trouble)

    async def test_named_stream(self, world) -> None:
        """A stream that is named is asked for, and never created."""
        asked: list[str] = []
        answer = world.transmitter.answer

        def answering(one):
            asked.append(f"{one.method} {one.target}")
            return (
                json_reply({"error": "not_found"}, 404) if one.target.startswith("/streams") else answer(one)
            )

        with serve_raw(answering) as server:
            world.transmitter.url = server.url
            async with world.running(stream_id="s 1") as receiver:
                await world.until(lambda: receiver.trouble)
        assert "GET /streams?stream_id=s+1" in asked
        assert not [one for one in asked if one.startswith("POST")]

    async def test_endpoint_given(self, world) -> None:
        """With endpoint= no stream is looked up; another origin has to be allowed."""
        world.transmitter.deliver("j1")
        async with world.running(endpoint=f"{world.transmitter.url}/poll"):
            await world.until(lambda: world.transmitter.acks)

    async def test_no_keys(self, world) -> None:
        """Without keys nothing can be verified: nothing is acknowledged or refused, and it is tried again."""
        world.transmitter.documents["/jwks"] = raw_reply(500)
        world.transmitter.deliver("j1")
        async with world.running() as receiver:
            await world.until(lambda: receiver.trouble)
            assert ([], {}) == (world.transmitter.acks, world.transmitter.errors)
            world.transmitter.documents.clear()
            world.transmitter.deliver("j1")
            await world.until(lambda: world.transmitter.acks)


class TestAuthorization:
    async def test_bearer_from_a_source(self, world) -> None:
        """Read anew for each request."""
        tokens = iter(f"read-{number}" for number in range(9))
        world.transmitter.deliver("j1")
        async with world.running(authorization=SecretCall(lambda: next(tokens), name="a test's")):
            await world.until(lambda: world.transmitter.acks)
        assert ["Bearer read-0", "Bearer read-1", "Bearer read-2"] == world.transmitter.authorizations[:3]

    async def test_token_of_the_broker(self, world) -> None:
        """With the scope that receivers have, for the transmitter, unless told otherwise."""
        world.transmitter.deliver("j1")
        async with world.running(authorization=True):
            await world.until(lambda: world.transmitter.acks)
        assert (frozenset({"ssf.read"}), frozenset({world.transmitter.url})) == (
            world.fetched[0].scope,
            world.fetched[0].audience,
        )
        assert world.transmitter.authorizations[0] == "Bearer poll-token-1"

    async def test_another_request(self, world) -> None:
        """Which token it is can be said."""
        asked = TokenRequest.of("events", audience="x")
        world.transmitter.deliver("j1")
        async with world.running(authorization=asked):
            await world.until(lambda: world.transmitter.acks)
        assert asked == world.fetched[0]

    async def test_refused_token(self, world) -> None:
        """One that is refused is dropped, and the next try has a fresh one."""
        refusal = ("WWW-Authenticate", 'Bearer error="invalid_token"')
        world.transmitter.script.append(json_reply({"error": "invalid_token"}, 401, refusal))
        world.transmitter.deliver("j1", sub_id={"format": "opaque", "id": "jo"})
        async with world.running(authorization=True):
            await world.until(lambda: world.transmitter.acks)
        assert ["poll-token-2"] == [token.token.reveal() for token in world.purged]

    @pytest.mark.parametrize("stubborn", [False, True])
    async def test_dpop_nonce(self, world, stubborn) -> None:
        """RFC 9449 §9: a nonce that is wanted is used once more; one that is wanted for ever is not."""
        world.dpop = DpopKey()
        wants = ("WWW-Authenticate", 'DPoP error="use_dpop_nonce"'), ("DPoP-Nonce", "n1")
        refusal = json_reply({"error": "use_dpop_nonce"}, 401, *wants)
        world.transmitter.script += [refusal] * (2 if stubborn else 1)
        world.transmitter.deliver("j1", sub_id={"format": "opaque", "id": "jo"})
        world.token_type = "DPoP"
        async with world.running(authorization=True):
            await world.until(lambda: world.transmitter.acks)
        assert stubborn == bool(world.purged)
        proofs = [claims_of(proof) for proof in world.transmitter.proofs]
        assert [None, None, "n1"] == [proof.get("nonce") for proof in proofs[:3]]
        assert len(proofs) == len({proof["jti"] for proof in proofs})
        assert ("POST", f"{world.transmitter.url}/poll") == (proofs[1]["htm"], proofs[1]["htu"])


RULES = [
    Client.of(US, audiences=["*"], scopes="orders:read ssf.read"),
]


@pytest.fixture
async def domain():
    async with DevTrustDomain("dev.example") as domain:
        yield domain


@pytest.mark.parametrize("nonces", ["off", "always"])
@pytest.mark.parametrize("binding", ["dpop", "none"])
class TestEndToEnd:
    async def test_session_revoked(self, domain, binding, nonces) -> None:
        """The development token broker says so, and the token is gone before it is acknowledged."""
        async with DevTokenBroker(domain, rules=RULES, dpop_nonces=nonces) as dev:
            poll = CaepPoll(dev.issuer)
            identity = DomainIdentity(domain, US)
            async with TokenBroker(
                dev.issuer, identity=identity, binding=binding, security_events=poll
            ) as broker:
                request = TokenRequest.of("orders:read", audience=ORDERS)
                token = await broker.fetch(request)
                with anyio.fail_after(10):
                    while not dev.streams:
                        await anyio.sleep(0.01)
                    assert token is broker.peek(request)
                    dev.emit_session_revoked(US, reason="drill")
                    while broker.peek(request) is not None:
                        await anyio.sleep(0.01)
                    while not dev.streams[0].acknowledged:
                        await anyio.sleep(0.01)
                assert {} == dev.streams[0].errors
                assert ("dpop" == binding) == ("cnf" in claims_of(token.token.reveal()))
                fresh = await broker.fetch(request)
                assert token.token != fresh.token


async def test_stopped_broker_polls_no_more(domain) -> None:
    """The kill switch ends the receiver, too."""
    async with DevTokenBroker(domain, rules=RULES) as dev:
        identity = DomainIdentity(domain, US)
        broker = TokenBroker(dev.issuer, identity=identity, security_events=CaepPoll(dev.issuer))
        async with broker:
            with anyio.fail_after(10):
                while not dev.streams:
                    await anyio.sleep(0.01)
            broker.stop("drill")
            with anyio.fail_after(10):
                while not broker._open._receiver._ended.is_set():
                    await anyio.sleep(0.005)
            polls = dev.requests["poll"]
            dev.emit_session_revoked(US)
        assert (polls, 0) == (dev.requests["poll"], dev.streams[0].acknowledged)


async def test_closing_waits_for_the_poll(world) -> None:
    """Regression: a poll that was cut by closing the connections was made anew, on a connection nobody closed."""
    async with world.running() as receiver:
        await world.until(lambda: world.transmitter.polls)
        await receiver.aclose()
        await world.channel.aclose()
        assert receiver._scope.cancelled_caught
    assert 1 == len(world.transmitter.polls)


async def test_closing_what_never_ran(world) -> None:
    """A receiver that was not started yet ends at once when it is."""
    receiver = world.receiver()
    await receiver.aclose()
    with anyio.fail_after(20):
        await receiver.run()
    assert [] == world.transmitter.polls


def test_secrets_of_the_option_stay() -> None:
    """The option is a value that shows no token."""
    poll = CaepPoll("https://a.test", authorization=SecretCall(lambda: "hidden-text", name="a test's"))
    assert "hidden-text" not in repr(poll)
