"""Attacks on the receiver of security events: by its transmitter, and by what it is told of."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio
import pytest

from spiffe_client._redact import Secret
from spiffe_client.tokens import (
    CaepPoll,
    ClientSecret,
    ForeignToken,
    SecretCall,
    TokenBroker,
    TokenRequest,
    WebPki,
)
from spiffe_client.tokens import _affected as affected_module
from spiffe_client.tokens._affected import Ours, affected_by
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._poll import PollStream
from spiffe_client.tokens._security_events import SESSION_REVOKED, SecurityEvent, SubjectIdentifier
from tests.support.raw_broker import issues, raw_reply, serve_raw
from tests.support.token_parties import ISSUER, access_token, metadata_of
from tests.support.tokens import ec_key, sign_token
from tests.support.transmitter import TOKENS, Transmitter, World
from tests.support.work import counted

pytestmark = pytest.mark.anyio

ALICE = "spiffe://dev.example/alice"
OURS = Ours(ISSUER, frozenset({"spiffe://dev.example/agent"}))


@pytest.fixture
async def world():
    transmitter = Transmitter()
    with serve_raw(transmitter.answer) as server:
        transmitter.url = server.url
        channel = Channel(WebPki())
        yield World(transmitter, channel)
        await channel.aclose()


def jwt(**claims: object) -> str:
    return sign_token(ec_key(), "ES256", {"iss": ISSUER, "jti": "j", **claims}, typ="at+jwt")


def revoked(kind: str, **members: str) -> SecurityEvent:
    subject = SubjectIdentifier(kind, members)
    return SecurityEvent(
        "e1", ISSUER, frozenset({"client-1"}), datetime.now(UTC), subject, {SESSION_REVOKED: {}}
    )


class TestUnforeseen:
    @pytest.mark.parametrize("where", ["find", "poll", "keys"])
    async def test_attack_an_answer_that_nobody_foresaw(self, world, monkeypatch, where) -> None:
        """A bug that an answer sets off is trouble with a pause after it, not the end of all tokens."""
        whole, left = getattr(PollStream, where), [ValueError("Invalid URL: a secret")]

        async def broken(*args, **more):
            if left:
                raise left.pop()
            return await (whole(*args[1:], **more) if where == "find" else whole(*args, **more))

        monkeypatch.setattr(PollStream, where, classmethod(broken) if where == "find" else broken)
        world.transmitter.deliver("j1")
        world.transmitter.deliver("j1")
        async with world.running() as receiver:
            await world.until(lambda: world.transmitter.acks)
            assert None is receiver.trouble
        assert ["one", "two"] == [token.token.reveal() for token in world.purged]
        (told,) = world.told("security_event.unavailable")
        assert told.endswith("failed with ValueError, which is a bug")
        assert "a secret" not in told

    async def test_attack_one_event_breaks_the_reading_of_the_next(self, world, monkeypatch) -> None:
        """What was verified before it counts all the same, and is acknowledged."""
        whole = PollStream.keys
        calls = []

        async def broken(self, **more):
            calls.append(1)
            if len(calls) == 2:
                raise RuntimeError("unforeseen")
            return await whole(self, **more)

        monkeypatch.setattr(PollStream, "keys", broken)
        world.transmitter.deliver("j1", "j2")
        async with world.running():
            await world.until(lambda: world.transmitter.acks)
        assert ["one", "two"] == [token.token.reveal() for token in world.purged]
        assert ["j1"] == world.transmitter.acks

    async def test_attack_a_redirect_ends_the_client(self) -> None:
        """A transmitter that redirects to no URL at all: the tokens stay, and new ones come."""

        def script(asked):
            if asked.target == "/token":
                return issues()
            return raw_reply("302 Found", b"", ("Location", "https:x"))

        told = []
        with serve_raw(script) as server:
            client = TokenBroker(
                metadata=metadata_of(server.url),
                authentication=ClientSecret(SecretCall(lambda: "s3cret")),
                client_id="c1",
                binding="none",
                security_events=CaepPoll(server.url, authorization=False),
                on_event=told.append,
            )
            async with client:
                first = TokenRequest.of("x", subject=ForeignToken(Secret("subject")))
                await client.fetch(first)
                with anyio.fail_after(10):
                    while not [event for event in told if event.name == "security_event.unavailable"]:
                        await anyio.sleep(0.01)
                assert None is not client.peek(first)
                await client.fetch(TokenRequest.of("y", subject=ForeignToken(Secret("subject"))))
        assert [] == [event for event in told if event.name == "broker.crashed"]


class TestFlood:
    async def test_attack_more_than_asked_for(self, world) -> None:
        """RFC 8936 §2.2, `maxEvents`: what is beyond it costs nothing, and is trouble; the first ones count."""
        world.transmitter.deliver(*(f"j{number}" for number in range(100)))
        async with world.running() as receiver:
            await world.until(lambda: world.transmitter.acks)
            await world.until(lambda: receiver.trouble is None or len(world.transmitter.polls) > 1)
        assert [f"j{number}" for number in range(16)] == world.transmitter.acks
        (told,) = world.told("security_event.unavailable")
        assert told.endswith("has 100 events, 16 were asked for")
        assert 1 == len(world.acks_at_purge)

    async def test_attack_garbage_without_end(self, world) -> None:
        """New garbage in each answer is no news: it is paced, more and more, and told once for each poll."""
        world.transmitter.script += [
            {"sets": {f"{poll}.{number}": 1 for number in range(16)}} for poll in range(12)
        ]
        async with world.running():
            await world.until(lambda: len(world.transmitter.polls) == 13)
        pauses = world.clock.pauses[:12]
        assert all(pause >= 2.5 for pause in pauses)
        assert max(pauses) > 5
        told = [event for event in world.events if event.name == "security_event.refused"]
        assert [16] * 12 == [event.attributes["count"] for event in told]

    async def test_attack_many_events_many_tokens(self, world, monkeypatch) -> None:
        """16 events are one pass over what is held, and each token is read once in its life."""
        read, parse = [], affected_module.parse_compact

        def counted(text, **more):
            read.append(text)
            return parse(text, **more)

        monkeypatch.setattr(affected_module, "parse_compact", counted)
        world.held = [access_token(jwt(sub=f"u{number}", jti=f"t{number}")) for number in range(200)]
        others = {"format": "iss_sub", "iss": ISSUER, "sub": "u7"}
        world.transmitter.deliver(*(f"a{number}" for number in range(16)), sub_id=others)
        world.transmitter.deliver(*(f"b{number}" for number in range(16)), sub_id={**others, "sub": "u8"})
        async with world.running():
            await world.until(lambda: len(world.transmitter.acks) == 32)
        assert 2 == len(world.acks_at_purge)
        assert 200 == len(read)
        assert 2 == len(world.purged)
        assert 198 == len(world.held)

    def test_attack_a_full_cache_is_looked_through(self) -> None:
        """Once tokens were looked at, going through as many as a cache holds takes milliseconds."""
        text = jwt(sub="u1", scope="a " * 50)
        tokens = [access_token(text)] * 16384
        affected = affected_by(revoked("iss_sub", iss=ISSUER, sub="nobody"), OURS)
        affected(tokens[0])
        with counted("/spiffe_client/") as work:
            assert not any(affected(token) for token in tokens)
        assert work.count < 100 * len(tokens)


class TestNames:
    @pytest.mark.parametrize(
        "subject",
        [
            {"kind": "iss_sub", "iss": ISSUER, "sub": ALICE},
            {"kind": "uri", "uri": ALICE},
            {"kind": "opaque", "id": ALICE},
        ],
    )
    @pytest.mark.parametrize(
        "claims",
        [
            {"sub": ALICE},
            {"sub": "u", "act": {"sub": ALICE}},
            {"sub": "u", "act": {"sub": "v", "act": {"sub": ALICE}}},
        ],
    )
    def test_attack_revoked_by_another_name(self, subject: dict[str, str], claims: dict[str, object]) -> None:
        """RFC 9493 §3.2: a SPIFFE ID is a URI; whichever format names it, its tokens go, and no others."""
        affected = affected_by(
            revoked(subject["kind"], **{n: v for n, v in subject.items() if n != "kind"}), OURS
        )
        assert affected(access_token(jwt(**claims)))
        assert not affected(access_token(jwt(sub="spiffe://dev.example/bob")))
        assert not affected(access_token("opaque"))

    def test_actors_without_end(self) -> None:
        """RFC 8693 §4.1: only so many of a chain are looked at."""
        party: dict[str, object] = {"sub": ALICE}
        for number in range(20):
            party = {"sub": f"a{number}", "act": party}
        affected = affected_by(revoked("uri", uri=ALICE), OURS)
        assert not affected(access_token(jwt(**party)))

    def test_client(self) -> None:
        """RFC 9068 §2.2: `client_id` names who asked."""
        affected = affected_by(revoked("uri", uri=ALICE), OURS)
        assert affected(access_token(jwt(sub="u", client_id=ALICE)))

    @pytest.mark.parametrize("text", ["opaque", None])
    def test_attack_subject_of_the_request(self, text: str | None) -> None:
        """What an opaque token was made from says whom it speaks for, however far up (RFC 8693 §2.1)."""
        affected = affected_by(revoked("iss_sub", iss="https://idp.test", sub="alice"), OURS)
        alice = ForeignToken(Secret(jwt(iss="https://idp.test", sub="alice")))
        bob = ForeignToken(Secret(jwt(iss="https://idp.test", sub="bob")))
        text = text or jwt(sub="pairwise-1")
        assert affected(access_token(text, subject=alice))
        assert affected(access_token(text, subject=bob, actor=alice))
        assert affected(access_token(text, subject=access_token("between", subject=alice)))
        assert not affected(access_token(text, subject=bob))
        elsewhere = ForeignToken(SecretCall(lambda: "never read here", name="a test's"))
        assert not affected(access_token(text, subject=elsewhere))

    def test_malformed_claims(self) -> None:
        """Names that are no text name nobody."""
        affected = affected_by(revoked("iss_sub", iss=ISSUER, sub="7"), OURS)
        assert not affected(access_token(jwt(sub=7, client_id=[], act="x")))

    def test_what_is_remembered_shows_nobody(self) -> None:
        """A token that was looked at has no names in it beside its text."""
        token = access_token(jwt(sub=ALICE))
        before = repr(token)
        affected_by(revoked("uri", uri=TOKENS), OURS)(token)
        assert before == repr(token)
        assert all(isinstance(one, int) for one in token._identities)
        assert access_token(token.token.reveal(), expires_at=token.expires_at) == token
