"""Attacks on how tokens are asked for: by what a token broker answers, and by whose token is given to whom."""

from __future__ import annotations

import base64
import dataclasses
import gc
import json
import os
import signal
import socket
import subprocess
import time
from http.cookiejar import Cookie
from pathlib import Path

import anyio
import pytest

from spiffe_client._redact import Secret
from spiffe_client.errors import (
    DiscoveryError,
    InvalidClientError,
    InvalidScopeError,
    OAuthError,
    SecretSourceError,
    TokenBrokerUnavailableError,
    TokenError,
    TokenProtocolError,
    TokenRequestError,
)
from spiffe_client.tokens import (
    ChainedTokens,
    ClientSecret,
    ForeignToken,
    IdJag,
    SecretCall,
    SecretCommand,
    SecretFile,
    SecretVariable,
    TokenBroker,
    TokenRequest,
    WebPki,
)
from spiffe_client.tokens import _secret_command as command_module
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._gates import Gate
from spiffe_client.tokens._http import get, post
from spiffe_client.tokens._origin import origin_of
from spiffe_client.tokens._retries import Retries, asked_patience
from spiffe_client.tokens._unprinted import Unprinted
from tests.support.canary import assert_no_secret
from tests.support.raw_broker import HANG, Asked, issues, json_reply, raw_reply, serve_raw
from tests.support.token_parties import access_token, metadata_of

pytestmark = pytest.mark.anyio

SECRET = "correct-horse-battery/staple+ü"
#: Where httpx cannot tell where a redirect leads, although nobody follows it.
NOWHERE = [
    "https:x",
    "mailto:x",
    "tel:+1",
    "data:,x",
    "javascript:alert(1)",
    "http://xn--/",
    "http:",
    "//",
    " ",
]


def broker_at(url: str, **more) -> TokenBroker:
    secret = ClientSecret(SecretCall(lambda: SECRET), "c1")
    return TokenBroker(**{"metadata": metadata_of(url), "authentication": secret, "binding": "none", **more})


@pytest.fixture
async def channel():
    channel = Channel(WebPki())
    yield channel
    await channel.aclose()


def echo_of_subject(asked: Asked) -> bytes:
    return issues(access_token=f"for-{dict(asked.form)['subject_token']}")


class TestOnesTokenForAnother:
    """Whose token is exchanged is part of what a token is kept by."""

    @pytest.mark.parametrize("kind", ["call", "command", "file", "variable"])
    async def test_two_principals_share_nothing(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Attack: Bob asks with a source that is called as Alice's is, and is given her token."""

        def source_of(who: str):
            (tmp_path / who).write_text(who)
            monkeypatch.setenv(f"TOKEN_{who}", who)
            return {
                "call": SecretCall(lambda: who),
                "command": SecretCommand("echo", who),
                "file": SecretFile(tmp_path / who),
                "variable": SecretVariable(f"TOKEN_{who}"),
            }[kind]

        with serve_raw(echo_of_subject) as server:
            async with broker_at(server.url) as broker:
                got = [
                    (await broker.token("read", subject=ForeignToken(source_of(who)))).token.reveal()
                    for who in ("alice", "bob")
                ]

        assert ["for-alice", "for-bob"] == got

    @pytest.mark.parametrize(
        "make",
        [
            lambda: SecretCommand("echo", "x"),
            lambda: SecretFile("/run/x"),
            lambda: SecretVariable("X"),
        ],
    )
    async def test_the_same_source_is_found_again(self, make) -> None:
        """One made anew of the same parts; else each request would make a token of its own."""
        one, two = (TokenRequest.of("read", subject=ForeignToken(make())).key for _ in range(2))
        assert one == two

    async def test_a_function_is_known_by_its_object(self) -> None:
        """One that is kept is found again; another one of the same function is another."""

        def read() -> str:
            return "x"

        one, two = SecretCall(read), SecretCall(read)
        assert (True, False) == (one.key == one.key, one.key == two.key)
        assert one != two

    async def test_the_path_of_another_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A relative path means another file elsewhere; `..` after a link is not what it seems."""
        monkeypatch.chdir(tmp_path)
        here = SecretFile("token").key
        assert ("file", str(tmp_path / "token")) == here
        monkeypatch.chdir("/")
        assert here != SecretFile("token").key
        assert SecretFile("/a/link/../token").key != SecretFile("/a/token").key

    async def test_no_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative path where there is no working directory is no file at all."""
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        with pytest.raises(SecretSourceError, match="No such file"):
            _ = SecretFile("token").key

    async def test_a_source_of_another_class(self) -> None:
        """The same key means nothing between classes; one without a key is no source."""

        class Mine:
            name = "mine"
            key = SecretVariable("X").key

            async def read(self) -> Secret[str]:
                raise NotImplementedError

        class Unkeyed:
            name = "mine"

        assert ForeignToken(Mine()).key != ForeignToken(SecretVariable("X")).key
        with pytest.raises(TokenRequestError, match="has no key"):
            _ = ForeignToken(Unkeyed()).key  # type: ignore[arg-type]

    async def test_grants_that_are_checked_in_another_way(self) -> None:
        """Attack: what one profile does not look at is not taken for what another one checked."""
        there, home, other = (broker_at(f"http://127.0.0.1:{port}") for port in (1, 2, 2))

        @dataclasses.dataclass(frozen=True)
        class Careless(IdJag):
            def check(self, grant, first, second) -> None:
                pass

        keys = {
            ChainedTokens(first, there, profile=profile).request("read").key
            for first in (home, other)
            for profile in (IdJag(), Careless())
        }
        assert 4 == len(keys)
        again = ChainedTokens(home, there, profile=IdJag()).request("read").key
        assert again in keys

    async def test_a_client_at_the_address_of_a_former_one(self) -> None:
        """Attack: `id()` of a client that is gone is another one's, who has another identity."""
        there, keys = broker_at("http://127.0.0.1:1"), set()
        gc.freeze()  # what all other tests have left is not looked through fifty times
        try:
            for _ in range(50):
                keys.add(ChainedTokens(broker_at("http://127.0.0.1:2"), there).request("read").key)
                gc.collect()
        finally:
            gc.unfreeze()
        assert 50 == len(keys)


class TestRedirectsToNowhere:
    """httpx reads where a redirect leads even if it does not follow it, and raises what is no HTTP error."""

    @pytest.mark.parametrize("location", NOWHERE)
    async def test_a_typed_error(self, location: str, channel: Channel) -> None:
        """Attack: an answer that ends the caller with an error nobody expects."""
        with serve_raw(lambda asked: raw_reply(302, b"", ("Location", location))) as server:
            with pytest.raises(TokenProtocolError, match="redirects") as e:
                await post(channel, server.url, [("subject_token", SECRET)], timeout=5)

        assert_no_secret(e.value, SECRET)

    async def test_every_call_of_a_client(self) -> None:
        """Tokens, introspection, revocation, and closing with revocation, which always closes."""

        def script(asked: Asked) -> bytes:
            return issues() if asked.target == "/token" else raw_reply(302, b"", ("Location", "mailto:x"))

        request = TokenRequest.of("read", subject=ForeignToken(Secret("x")))
        with serve_raw(script) as server:
            broker = await broker_at(server.url).open()
            token = await broker.fetch(request)
            with pytest.raises(TokenProtocolError):
                await broker.introspect(token)
            assert "failed" == (await broker.revoke(access_token("x"))).outcome
            await broker.aclose(revoke=True)
            with pytest.raises(TokenError):
                await broker.fetch(request)

    async def test_what_nobody_foresaw(self, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever is raised below is said by type and place, and not shown."""

        async def fail(_route: object, _request: object) -> None:
            raise LookupError(SECRET)

        monkeypatch.setattr("spiffe_client.tokens._route.Route.handle_async_request", fail)
        with pytest.raises(TokenBrokerUnavailableError, match=r"LookupError in fail, test_attacks_wire") as e:
            await post(channel, "http://127.0.0.1:9/", [("subject_token", SECRET)], timeout=5)

        assert_no_secret(e.value, SECRET)
        assert (None, None) == (e.value.__cause__, e.value.__context__)

    @pytest.mark.parametrize(
        "url", ["https://xn--/", "https://999.1.1.1/", "https://-.example/", "https://a..b/"]
    )
    async def test_an_endpoint_that_httpx_refuses(self, url: str, channel: Channel) -> None:
        """Attack: metadata with a URL that only httpx takes for none."""
        with pytest.raises((DiscoveryError, TokenBrokerUnavailableError)):
            await get(channel, url, timeout=5)

    async def test_text_that_cannot_be_sent(self, channel: Channel) -> None:
        """A lone surrogate: Python's error would hold what it is in."""
        for form, headers in (
            ([("subject_token", f"{SECRET}\ud800")], []),
            ([], [("authorization", Unprinted(f"Bearer {SECRET}"))]),
        ):
            with pytest.raises(TokenRequestError, match="no text that can be sent") as e:
                await post(channel, "http://127.0.0.1:9/", form, headers=headers, timeout=5)
            assert_no_secret(e.value, SECRET)
            assert (None, None) == (e.value.__cause__, e.value.__context__)


class TestCookies:
    async def test_none_are_kept(self) -> None:
        """Attack: each answer fills a jar that nobody reads, until there is no memory left."""
        cookies = [("Set-Cookie", f"c{number}={'x' * 4000}") for number in range(20)]
        answer = json_reply({"access_token": "t", "token_type": "Bearer"}, 200, *cookies)
        before = sum(isinstance(found, Cookie) for found in gc.get_objects())
        with serve_raw(lambda asked: answer) as server:
            async with broker_at(server.url) as broker:
                for _ in range(10):
                    await broker.exchange(TokenRequest.of("read", subject=ForeignToken(Secret("x"))))
                kept = sum(isinstance(found, Cookie) for found in gc.get_objects()) - before

        assert 0 == kept
        assert {None} == {asked.header("cookie") for asked in server.asked}


class TestEchoes:
    @pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
    @pytest.mark.parametrize("spell", ["raw", "quoted", "lower", "sent"])
    async def test_the_client_secret(self, spell: str, method) -> None:
        """Attack: a token broker repeats the secret, decoded, where it is printed (RFC 6749 §2.3.1)."""
        seen: list[str] = []

        def script(asked: Asked) -> bytes:
            sent = asked.header("authorization") or ""
            quoted = base64.b64decode(sent[6:]).decode().partition(":")[2]
            quoted = quoted or "correct-horse-battery%2Fstaple%2B%C3%BC"
            text = {"raw": SECRET, "quoted": quoted, "lower": quoted.lower(), "sent": sent[6:] or SECRET}[
                spell
            ]
            return json_reply({"error": "invalid_client", "error_description": f"not {text}!"}, 401)

        secret = ClientSecret(SecretCall(lambda: SECRET), "c1", method=method)
        with serve_raw(script) as server:
            async with broker_at(
                server.url, authentication=secret, on_event=lambda event: seen.append(event.message)
            ) as broker:
                with pytest.raises(InvalidClientError) as e:
                    await broker.token("read", subject=ForeignToken(Secret("short")))

        assert "not …!" == e.value.description
        for text in (*seen, str(e.value)):
            assert "horse" not in text and "not …!" in text
        assert seen

    async def test_a_command_shows_no_argument(self) -> None:
        """`--password x` is neither in its repr nor in what dataclasses copy."""
        source = SecretCommand("prog", "--password", SECRET)
        assert "SecretCommand(program='prog', timeout=10.0)" == repr(source)
        assert SECRET not in json.dumps(source.key)
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            dataclasses.asdict(source)
        with pytest.raises(SecretSourceError, match="as text"):
            SecretCommand("prog", 1)  # type: ignore[arg-type]


class TestOrigins:
    @pytest.mark.parametrize(
        "url",
        [
            "https://[2001:db8::1]8443",
            "https://[2001:db8::1]8443:443",
            "https://x[2001:db8::1]",
            "https://[::1]@good.example",
            "https://[::1@good.example]",
            "https://a@b@good.example",
            "https://[v1.x]",
            "https://[1::2::3]",
            "https://good.example:443:8443",
            "https://good.example:+443",
            "https://good.example,evil.example",
            "https://good.example;evil.example",
            "https://good.example'",
        ],
    )
    async def test_what_parsers_disagree_on(self, url: str) -> None:
        """Attack: port 443 to who checks and 8443 to who connects."""
        with pytest.raises(TokenRequestError):
            origin_of(url)

    async def test_localhost_that_is_elsewhere(
        self, channel: Channel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Attack: a resolver says that localhost is another machine, and tokens go there in the clear."""
        address = other_address()
        listener = socket.create_server((address, 0))
        listener.settimeout(5)
        port = listener.getsockname()[1]
        resolve = socket.getaddrinfo

        def lying(host, *args, **more):
            return resolve(address if host in ("localhost", b"localhost") else host, *args, **more)

        monkeypatch.setattr(socket, "getaddrinfo", lying)
        with listener:
            with pytest.raises(TokenBrokerUnavailableError, match="which is another machine") as e:
                await post(channel, f"http://localhost:{port}/", [("subject_token", SECRET)], timeout=5)
            peer, _ = listener.accept()
            peer.settimeout(5)
            with peer:
                assert b"" == peer.recv(1)

        assert not e.value.retryable
        assert_no_secret(e.value, SECRET)

    async def test_localhost(self, channel: Channel) -> None:
        """Where it is this machine it is reached."""
        with serve_raw(lambda asked: json_reply({})) as server:
            reply = await get(channel, f"http://localhost:{server.port}/", timeout=5)

        assert 200 == reply.status


def other_address() -> str:
    """An address of this machine that is not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))  # sends nothing
        return str(sock.getsockname()[0])


class TestDeadlines:
    async def test_discovery_and_the_call_share_one(self) -> None:
        """Attack: a token broker that takes all the time for each step doubles it."""
        with serve_raw(lambda asked: slow_metadata(server.url, asked)) as server:
            async with broker_at(server.url, metadata=None, issuer=server.url) as broker:
                began = time.monotonic()
                with pytest.raises(TokenBrokerUnavailableError):
                    await broker.introspect(access_token("x"), timeout=3.0)

        assert ["/introspection"] == [asked.target for asked in server.asked[1:]]
        assert time.monotonic() - began < 4.5  # and not 5

    async def test_who_waits_for_anothers_discovery(self) -> None:
        """It waits its own time, not that of the one who reads."""
        with serve_raw(lambda asked: HANG) as server:
            async with (
                broker_at(server.url, metadata=None, issuer=server.url) as broker,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(ignoring, broker.introspect, access_token("x"), 60.0)
                while not server.asked:
                    await anyio.sleep(0.01)
                with anyio.fail_after(20):
                    await ignoring(broker.introspect, access_token("x"), 0.3)
                tasks.cancel_scope.cancel()

    async def test_a_refusal_of_one_request_stops_nobody_else(self) -> None:
        """Attack: one refused scope with `Retry-After: 60` closes the gate for every key."""

        def script(asked: Asked) -> bytes:
            if "bad" in asked.body.decode():
                return json_reply({"error": "invalid_scope"}, 400, ("Retry-After", "60"))
            return issues()

        with serve_raw(script) as server:
            async with broker_at(server.url) as broker:
                subject = ForeignToken(Secret("x"))
                with pytest.raises(InvalidScopeError):
                    await broker.token("bad", subject=subject)
                assert (
                    "issued-token" == (await broker.token("good", subject=subject, timeout=20)).token.reveal()
                )

    @pytest.mark.parametrize(
        ("status", "error", "seconds"),
        [
            (400, "invalid_scope", 0.0),
            (401, "invalid_client", 0.0),
            (400, "temporarily_unavailable", 7.0),
            (429, "slow_down", 7.0),
            (503, "x", 7.0),
        ],
    )
    async def test_whose_patience_is_asked(self, status: int, error: str, seconds: float) -> None:
        """Overload concerns everybody (RFC 9110 §10.2.3); a refusal concerns who is refused."""
        assert seconds == asked_patience(OAuthError("x", error=error, status=status, retry_after=7.0))
        gate = Gate()
        gate.shut(seconds, now=0.0)
        assert seconds == gate.left(0.0)

    async def test_rereading_keeps_the_deadline(self) -> None:
        """Attack: refused credentials with a long Retry-After are not waited for beyond the deadline."""
        refused = InvalidClientError("x", error="invalid_client", status=429, retry_after=3600.0)
        refused.retryable = False
        assert Retries().after(refused, left=5.0) is None

        def script(asked: Asked) -> bytes:
            return json_reply({"error": "invalid_client"}, 401, ("Retry-After", "30"))

        with serve_raw(script) as server:
            async with broker_at(server.url) as broker:
                with anyio.fail_after(15), pytest.raises(InvalidClientError):
                    await broker.introspect(access_token("x"), timeout=20.0)


def slow_metadata(url: str, asked: Asked) -> bytes | object:
    if not asked.target.startswith("/.well-known"):
        return HANG
    time.sleep(2)  # in the server's own thread
    names = {"token_endpoint": "/token", "introspection_endpoint": "/introspection"}
    return json_reply({"issuer": url, **{name: url + path for name, path in names.items()}})


async def ignoring(call, token, seconds: float) -> None:
    with pytest.raises(TokenBrokerUnavailableError):
        await call(token, timeout=seconds)


class TestUnkillable:
    async def test_a_child_that_changed_its_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Attack: a program that cannot be killed keeps its caller for ever, shielded."""
        started: list[int] = []
        real_kill = os.kill

        def forbidden(pid: int, sign: int) -> None:
            started.append(pid)
            if sign:
                raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "killpg", forbidden)
        monkeypatch.setattr(os, "kill", forbidden)
        monkeypatch.setattr(command_module, "_LAST_SECONDS", 0.3)
        began = time.monotonic()
        with pytest.raises(SecretSourceError, match="did not end within 0.3 s"):
            await SecretCommand("sleep", "60", timeout=0.3).read()

        assert time.monotonic() - began < 10
        [process] = command_module._UNENDING
        real_kill(process.pid, signal.SIGKILL)
        monkeypatch.undo()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # It is let go of at the next use.
        assert "x" == (await SecretCommand("echo", "x").read()).reveal()
        assert -signal.SIGKILL == process.returncode
        assert set() == command_module._UNENDING
        assert subprocess._active == [] or process.pid not in [p.pid for p in subprocess._active]  # type: ignore[attr-defined]
