"""The canary of the token room: whatever goes wrong with a token broker, no secret comes to light.

Every request to it holds secrets, and many answers do. Here a token broker answers as badly as it can,
repeats what it was sent wherever there is room for it, hangs, breaks off, and refuses; and all that a
program could show afterwards is searched for what was on the wire.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import anyio
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client._redact import Secret, fingerprint
from spiffe_client.audit import Event
from spiffe_client.bundle import BundleSet
from spiffe_client.dev import CertificateAuthority
from spiffe_client.errors import SpiffeError, TokenError
from spiffe_client.http import TokenAuth
from spiffe_client.tokens import (
    CaepPoll,
    ChainedTokens,
    ClientSecret,
    ForeignToken,
    JwtSpiffe,
    Metadata,
    OwnSvid,
    PrivateKeyJwt,
    SecretCall,
    SpiffePeer,
    TokenBroker,
    TokenRequest,
    WebPki,
    X509SvidTls,
)
from spiffe_client.tokens._dpop import DpopKey
from spiffe_client.tokens.experimental import fetch_transaction_token
from spiffe_client.workload_api import X509Context
from tests.support.fake_identity import FakeIdentity
from tests.support.protected import Answer, serve_site, trust_web
from tests.support.raw_broker import HANG, Asked, RawBroker, json_reply, raw_reply, serve_raw
from tests.support.secret_hunt import Hunt
from tests.support.tokens import compact, ec_key

#: Each is told from all else, and looks like what it is.
CLIENT_SECRET = "canary-secret-4f9d0b7a2c6e8135-of/the+client=%"
FOREIGN = "canary-foreign-8d1e6b3f9a7c5042-token"
ISSUED = "canary-issued-1a2b3c4d5e6f7081-token-of-the-broker"
ISSUED_JWT = compact({"alg": "ES256", "typ": "at+jwt"}, {"sub": "canary-subject", "cnf": {"jkt": "of-somebody-else"}})
HIDDEN = ("subject_token", "actor_token", "assertion", "client_assertion", "client_secret", "token")
SHOWN = ("authorization", "dpop", "txn-token")


class Hurried:
    """The system's clock, but who waits waits a hundredth."""

    now = staticmethod(SYSTEM_CLOCK.now)
    monotonic = staticmethod(SYSTEM_CLOCK.monotonic)

    async def sleep(self, seconds: float) -> None:
        await SYSTEM_CLOCK.sleep(seconds / 100)


@dataclass
class Told:
    """What a server knows when it answers: all the secrets that it was sent, and how often it was asked."""

    asked: Asked
    number: int = 0

    @property
    def secrets(self) -> list[str]:
        if self.asked.target == "/resource":
            return []  # what a service answers is its caller's own, and httpx shows it
        return self.sent

    @property
    def sent(self) -> list[str]:
        form = [value for name, value in self.asked.form if name in HIDDEN]
        shown = [value.partition(" ")[2] or value for name, value in self.asked.headers if name in SHOWN]
        basic = self.asked.header("authorization") or ""
        if basic.startswith("Basic "):
            form.append(unquote_plus(base64.b64decode(basic[6:]).decode().partition(":")[2]))
        return [*form, *shown]

    @property
    def echo(self) -> str:
        """All of it, as a server that helps with debugging would repeat it."""
        return " and ".join([*self.secrets, ISSUED]) if self.secrets else "nothing"

    @property
    def header(self) -> str:
        """The same as it fits into a header."""
        return (self.secrets or ["nothing"])[-1]


def refuses(status: int = 400, **members: Any) -> Callable[[Told], bytes]:
    return lambda told: json_reply({k: v(told) if callable(v) else v for k, v in members.items()}, status)


def issues(**members: Any) -> Callable[[Told], bytes]:
    whole = {"access_token": ISSUED, "token_type": "DPoP", "expires_in": 300, "scope": "orders:read",
             "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", **members}  # fmt: skip

    def answer(told: Told) -> bytes:
        return json_reply({k: v(told) if callable(v) else v for k, v in whole.items() if v is not ...})

    return answer


def echo(told: Told) -> str:
    return told.echo


#: What a token broker may do instead of what it should.
SCENARIOS: dict[str, Callable[[Told], Any]] = {
    "an HTML page": lambda t: raw_reply(200, f"<html>{t.echo}</html>".encode(), ("content-type", "text/html")),
    "an HTML error": lambda t: raw_reply(500, f"<html>{t.echo}</html>".encode(), ("content-type", "text/html")),
    "no content type": lambda t: raw_reply(200, json.dumps({"access_token": ISSUED}).encode()),
    "a content type that says it": lambda t: raw_reply(200, b"{}", ("content-type", f"text/{t.header[:40]}")),
    "cut off JSON": lambda t: raw_reply(200, b'{"access_token":"' + ISSUED.encode(), ("content-type", "application/json")),
    "duplicate keys": lambda t: raw_reply(200, b'{"access_token":"%b","access_token":"%b"}' % (ISSUED.encode(), ISSUED.encode()), ("content-type", "application/json")),
    "a list": lambda t: json_reply([ISSUED, t.echo]),
    "too large": lambda t: json_reply({"access_token": ISSUED * 2000}),
    "another encoding": lambda t: raw_reply(200, t.echo.encode(), ("content-encoding", "gzip")),
    "a description": refuses(error="invalid_grant", error_description=echo),
    "a description of a request": refuses(error="invalid_request", error_description=lambda t: t.asked.body.decode() or t.echo),
    "a code": refuses(error=echo),
    "a short code": refuses(error=lambda t: t.header[:90]),
    "an error address": refuses(error="invalid_scope", error_uri=echo),
    "not this client": lambda t: json_reply({"error": "invalid_client", "error_description": t.echo}, 401, ("www-authenticate", f"Basic realm={t.header}")),
    "a code nobody knows": refuses(403, error="scope_escalation", error_description=echo),
    "status 200 with an error": refuses(200, error="invalid_target", error_description=echo),
    "a wider scope": issues(scope=lambda t: f"orders:read {t.header}"),
    "another token type": issues(token_type=lambda t: t.header),
    "another kind": issues(issued_token_type=lambda t: f"urn:{t.header}"),
    "a number for a token": issues(access_token=17),
    "a token of two lines": issues(access_token=ISSUED + "\n" + ISSUED),
    "a bearer token": issues(token_type="Bearer"),
    "a token of somebody else": issues(access_token=ISSUED_JWT),
    "an assertion": issues(token_type="N_A", issued_token_type="urn:ietf:params:oauth:token-type:jwt"),
    "a refresh token": issues(issued_token_type="urn:ietf:params:oauth:token-type:refresh_token"),
    "wider details": issues(authorization_details=lambda t: [{"type": t.header}]),
    "malformed details": issues(authorization_details=echo),
    "an absurd life": issues(expires_in=lambda t: t.header),
    "a redirect": lambda t: raw_reply(302, b"", ("location", f"https://else.example/{t.header}")),
    "a redirect that keeps the method": lambda t: raw_reply(307, t.echo.encode(), ("location", f"/{t.header}")),
    "a nonce loop": lambda t: json_reply({"error": "use_dpop_nonce", "error_description": t.echo}, 400, ("dpop-nonce", f"nonce-{t.number}")),
    "the same nonce": lambda t: json_reply({"error": "use_dpop_nonce"}, 400, ("dpop-nonce", "once")),
    "a secret for a nonce": lambda t: json_reply({"error": "use_dpop_nonce"}, 400, ("dpop-nonce", t.header)),
    "come again": lambda t: raw_reply(503, t.echo.encode(), ("retry-after", t.header)),
    "too many": lambda t: json_reply({"error": "slow_down", "error_description": t.echo}, 429, ("retry-after", "0")),
    "a reason": lambda t: raw_reply(f"200 {t.header}", b"{}"),
    "an odd status": lambda t: raw_reply(f"999 {t.header}", t.echo.encode()),
    "broken headers": lambda t: b"HTTP/1.1 200 OK\r\n" + t.header.encode() + b"\r\n\r\n",
    "no HTTP": lambda t: b"220 " + t.header.encode() + b" ESMTP\r\n",
    "broken off": lambda t: b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 9999\r\n\r\n" + t.echo.encode(),
    "nothing": lambda t: b"",
    "silence": lambda t: HANG,
    "sets of garbage": lambda t: json_reply({"sets": {"one": ISSUED_JWT, "two": 17, t.header[:100]: t.echo}}),
    "sets that are none": lambda t: json_reply({"sets": t.echo}),
    "a token that is its own id": lambda t: json_reply({"active": True, "jti": t.header, "username": t.echo, "act": {"sub": t.echo}}),
    "a cookie": lambda t: json_reply({"error": "access_denied"}, 403, ("set-cookie", f"a={t.header}")),
}  # fmt: skip


@lru_cache
def key_pem() -> str:
    """A private key of the client's own."""
    return ec_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@lru_cache
def x509_context() -> X509Context:
    """Who the client is."""
    authority = CertificateAuthority("shop.test")
    svid = authority.issue_x509_svid("spiffe://shop.test/web")
    return X509Context((svid,), BundleSet([authority.x509_bundle]), svid)


def failing_source() -> str:
    raise RuntimeError(f"the secret manager said {CLIENT_SECRET}")


#: How a client authenticates, and what it exchanges.
CLIENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "a secret in the header": lambda: {"authentication": ClientSecret(SecretCall(lambda: CLIENT_SECRET), "me"), "subject": ForeignToken(Secret(FOREIGN))},
    "a secret in the form": lambda: {
        "authentication": ClientSecret(SecretCall(lambda: CLIENT_SECRET), "me", method="client_secret_post"),
        "subject": ForeignToken(SecretCall(lambda: FOREIGN)),
    },
    "a key": lambda: {"authentication": PrivateKeyJwt(SecretCall(key_pem), "me"), "subject": ForeignToken(Secret(FOREIGN))},
    "an SVID": lambda: {"authentication": JwtSpiffe(), "identity": FakeIdentity(context=x509_context()), "subject": OwnSvid()},
    "a secret that cannot be had": lambda: {"authentication": ClientSecret(SecretCall(failing_source), "me"), "subject": ForeignToken(Secret(FOREIGN))},
    "a key that is none": lambda: {"authentication": PrivateKeyJwt(SecretCall(lambda: key_pem()[:-40]), "me"), "subject": ForeignToken(Secret(FOREIGN))},
}  # fmt: skip


class Scene:
    """A token broker that behaves until it is asked at the endpoint that is under attack."""

    def __init__(self) -> None:
        self.attacked = "/token"
        self.scenario: Callable[[Told], Any] = SCENARIOS["nothing"]
        self.good = 0
        self.number = 0

    def __call__(self, asked: Asked) -> Any:
        self.number += 1
        told = Told(asked, self.number)
        if asked.target.startswith(self.attacked) and self.good <= 0:
            return self.scenario(told)
        self.good -= 1
        if asked.target == "/introspection":
            return json_reply({"active": True})
        if asked.method == "GET":
            return json_reply(described(f"http://{asked.header('host')}"))
        if "urn:ietf:params:oauth:token-type:jwt" in dict(asked.form).get("requested_token_type", ""):
            kind = "urn:ietf:params:oauth:token-type:jwt"
            return issues(token_type="N_A", access_token=ISSUED_JWT, issued_token_type=kind)(told)
        return issues(token_type="DPoP" if asked.header("dpop") else "Bearer")(told)


def described(url: str) -> dict[str, Any]:
    """What the token broker says of itself, also as a transmitter of security events."""
    return {
        "issuer": url, "token_endpoint": f"{url}/token", "jwks_uri": f"{url}/jwks",
        "revocation_endpoint": f"{url}/revocation", "introspection_endpoint": f"{url}/introspection",
        "dpop_signing_alg_values_supported": ["ES256"], "keys": [],
    }  # fmt: skip


@contextlib.contextmanager
def broker_of(scene: Scene) -> Iterator[RawBroker]:
    with serve_raw(scene) as raw:
        yield raw


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[Scene, RawBroker]]:
    """One server for all; each example has a scene of its own in it."""
    scene = Scene()
    with broker_of(scene) as raw:
        yield scene, raw


async def fetch(tokens: TokenBroker, request: TokenRequest, url: str) -> object:
    return await tokens.fetch(request)


async def exchange(tokens: TokenBroker, request: TokenRequest, url: str) -> object:
    return await tokens.exchange(request)


async def introspect(tokens: TokenBroker, request: TokenRequest, url: str) -> object:
    return await tokens.introspect(await tokens.fetch(request))


async def revoke(tokens: TokenBroker, request: TokenRequest, url: str) -> object:
    return await tokens.revoke(await tokens.fetch(request))


async def close(tokens: TokenBroker, request: TokenRequest, url: str) -> object:
    token = await tokens.fetch(request)
    await tokens.aclose(revoke=True)
    return token


async def use(tokens: TokenBroker, request: TokenRequest, url: str) -> object:
    auth = TokenAuth(tokens, request, origins=[url])
    async with httpx.AsyncClient(auth=auth, follow_redirects=True, trust_env=False, timeout=0.3, max_redirects=3) as http:
        response = await http.post(f"{url}/resource", content=b"order")
        return response.request, response.request.headers, response.request.headers.raw


async def chain(tokens: TokenBroker, request: TokenRequest, url: str) -> object:
    authentication = ClientSecret(SecretCall(lambda: CLIENT_SECRET), "me")
    async with TokenBroker(
        metadata=Metadata(url, f"{url}/token"), authentication=authentication, binding="none", timeout=0.3,
        clock=Hurried(), on_event=lambda _: None,
    ) as far:  # fmt: skip
        chained = ChainedTokens(tokens, far, subject=request.subject)
        return await far.fetch(chained.request("orders:read", audience="https://orders.example"))


async def trace(tokens: TokenBroker, request: TokenRequest, url: str) -> object:
    token = await fetch_transaction_token(tokens, "orders:read", trust_domain="shop.test", subject=request.subject)
    return token, token.headers


async def discover(tokens: TokenBroker, request: TokenRequest, url: str) -> object:
    options = {"authentication": ClientSecret(SecretCall(lambda: CLIENT_SECRET), "me"), "timeout": 0.3}
    async with TokenBroker(url, clock=Hurried(), on_event=lambda _: None, **options) as found:
        return await found.fetch(request)


async def listen(tokens: TokenBroker, request: TokenRequest, url: str, hunt: Hunt) -> object:
    poll = CaepPoll(url, endpoint=f"{url}/poll", authorization=SecretCall(lambda: FOREIGN))
    options = {"authentication": ClientSecret(SecretCall(lambda: CLIENT_SECRET), "me"), "timeout": 0.3}
    metadata = Metadata(url, f"{url}/token")
    async with TokenBroker(
        metadata=metadata, security_events=poll, clock=Hurried(), on_event=hunt.sink, **options
    ) as open_:
        with anyio.move_on_after(0.3):
            while not hunt.events:  # the first answer was taken in, or refused
                await anyio.sleep(0.005)
        return open_, open_.health, open_._open._receiver


#: What a program does, where it goes wrong, and how many answers are good before.
OPERATIONS: dict[str, tuple[Callable[..., Any], str, int]] = {
    "fetch": (fetch, "/token", 0),
    "exchange": (exchange, "/token", 0),
    "introspect": (introspect, "/introspection", 1),
    "revoke": (revoke, "/revocation", 1),
    "close": (close, "/revocation", 1),
    "use": (use, "/resource", 1),
    "renew": (use, "/token", 1),
    "chain": (chain, "/token", 0),
    "redeem": (chain, "/token", 1),
    "trace": (trace, "/token", 0),
    "discover": (discover, "/.well-known", 0),
    "listen": (listen, "/poll", 0),
    "listen without keys": (listen, "/jwks", 0),
}


async def play(hunt: Hunt, url: str, client: str, operation: str, binding: Any) -> None:
    """Do it, and show everything that is left over."""
    options = CLIENTS[client]()
    subject = options.pop("subject")
    request = TokenRequest.of(
        "orders:read", audience="https://orders.example", purpose="close the books", subject=subject, exact=True
    )
    metadata = Metadata(
        url, f"{url}/token", revocation_endpoint=f"{url}/revocation", introspection_endpoint=f"{url}/introspection"
    )
    tokens = TokenBroker(
        metadata=metadata, binding=binding, timeout=0.3, clock=Hurried(), on_event=hunt.sink, **options
    )
    if binding == "dpop":
        key = ec_key()
        number = key.private_numbers().private_value
        hunt.add(f"{number:x}", f"{number}")
        tokens._session.dpop = DpopKey(key)
    act = OPERATIONS[operation][0]
    try:
        async with tokens:
            hunt.saw(tokens, request, metadata, *options.values(), tokens.dpop, tokens.nonces, tokens.channel)
            hunt.saw(*vars(tokens).values(), *vars(tokens._session).values())
            more = [hunt] if act is listen else []
            found = await act(tokens, request, url, *more)
            hunt.saw(*(found if isinstance(found, tuple) else [found]), tokens.health)
    except (SpiffeError, httpx.HTTPError) as error:
        hunt.caught(error)
    hunt.saw(tokens.health, tokens.peek(request))


def search(stage: tuple[Scene, RawBroker], scenario: str, client: str, operation: str, binding: Any, backend: str) -> Hunt:
    """Play one accident, and mark everything secret that was on the wire."""
    scene, raw = stage
    _, scene.attacked, scene.good = OPERATIONS[operation]
    scene.scenario = SCENARIOS[scenario]
    raw.asked.clear()
    hunt = Hunt()
    hunt.add(CLIENT_SECRET, FOREIGN, ISSUED, ISSUED_JWT, *key_pem().splitlines()[1:-1])
    hunt.add(*x509_context().svid.key_pem().reveal().decode().splitlines()[1:-1])
    with hunt.watching():
        anyio.run(play, hunt, raw.url, client, operation, binding, backend=backend)
    for asked in list(raw.asked):
        hunt.add(*Told(asked).sent)
    return hunt


@pytest.mark.parametrize("operation", ["exchange", "introspect", "revoke", "use", "listen"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_accident(stage: tuple[Scene, RawBroker], scenario: str, operation: str) -> None:
    """Each answer at each endpoint, with the secrets of a DPoP-bound client that has a secret."""
    hunt = search(stage, scenario, "a secret in the form", operation, "dpop", "asyncio")
    assert hunt.looked > 50
    assert [] == hunt.leaks()


@given(
    scenario=st.sampled_from(sorted(SCENARIOS)),
    client=st.sampled_from(sorted(CLIENTS)),
    operation=st.sampled_from(sorted(OPERATIONS)),
    binding=st.sampled_from(["dpop", "none"]),
    backend=st.sampled_from(["asyncio", "trio"]),
)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_client(
    stage: tuple[Scene, RawBroker], scenario: str, client: str, operation: str, binding: Any, backend: str
) -> None:
    """Whoever it is, however it authenticates, and whatever tokens are bound to."""
    assert [] == search(stage, scenario, client, operation, binding, backend).leaks()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("operation", ["fetch", "exchange", "introspect", "revoke", "use"])
def test_who_gives_up(stage: tuple[Scene, RawBroker], operation: str, backend: str) -> None:
    """A cancellation has frames, too, and the error of a deadline leads to it."""
    scene, raw = stage
    act, scene.attacked, scene.good = OPERATIONS[operation]
    scene.scenario = SCENARIOS["silence"]
    raw.asked.clear()
    hunt = Hunt()
    hunt.add(CLIENT_SECRET, FOREIGN, ISSUED)

    async def main() -> None:
        options = CLIENTS["a secret in the form"]()
        request = TokenRequest.of("orders:read", audience="https://orders.example", subject=options.pop("subject"))
        metadata = Metadata(
            raw.url, f"{raw.url}/token", revocation_endpoint=f"{raw.url}/revocation",
            introspection_endpoint=f"{raw.url}/introspection",
        )  # fmt: skip
        async with TokenBroker(metadata=metadata, on_event=hunt.sink, **options) as tokens:
            with anyio.move_on_after(20) as deadline:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(give_up)
                    try:
                        await act(tokens, request, raw.url)
                    except BaseException as error:
                        hunt.caught(error)
                        raise
                    finally:
                        tasks.cancel_scope.cancel()
            assert not deadline.cancelled_caught

    async def give_up() -> None:
        while not any(asked.target == scene.attacked for asked in list(raw.asked)):
            await anyio.sleep(0.005)
        raise GivenUpError

    with hunt.watching(), contextlib.suppress(ExceptionGroup):
        anyio.run(main, backend=backend)
    hunt.add(*(secret for asked in list(raw.asked) for secret in Told(asked).sent))
    assert hunt.looked > 5
    assert [] == hunt.leaks()


@pytest.mark.parametrize("status", [200, 401, 307])
def test_over_http2(stage: tuple[Scene, RawBroker], status: int) -> None:
    """hpack logs the headers of requests, and keeps them: the token and its proof are not among them."""
    scene, raw = stage
    scene.good = 10
    hunt = Hunt()
    hunt.add(CLIENT_SECRET, FOREIGN, ISSUED)

    async def main(origin: str) -> None:
        options = CLIENTS["a secret in the form"]()
        request = TokenRequest.of("orders:read", subject=options.pop("subject"))
        async with TokenBroker(metadata=Metadata(raw.url, f"{raw.url}/token"), on_event=hunt.sink, **options) as tokens:
            auth = TokenAuth(tokens, request, origins=[origin])
            async with httpx.AsyncClient(http2=True, verify=trust_web(), auth=auth, trust_env=False) as http:
                for _ in range(2):
                    response = await http.get(f"{origin}/orders")
                assert ("HTTP/2", status) == (response.http_version, response.status_code)
                hunt.saw(response.request, response.request.headers, response.request.headers.raw, auth)

    with serve_site(http2=True) as site, hunt.watching():
        headers = {401: {"www-authenticate": 'DPoP error="invalid_token"'}, 307: {"location": "/else"}}
        site.answer = lambda _: Answer(status, headers.get(status, {}))
        anyio.run(main, site.origin)
    for seen in site.seen:
        hunt.add(*(value.partition(" ")[2] or value for name, value in seen.headers if name in SHOWN))
    assert len(hunt.secrets) >= 5
    assert [] == hunt.leaks()


@pytest.mark.parametrize("server", [WebPki(), WebPki("no certificates"), SpiffePeer("spiffe://shop.test/tokens")])
@pytest.mark.parametrize("binding", ["mtls", "dpop"])
def test_a_handshake_that_fails(server: Any, binding: Any) -> None:
    """The key of the X509-SVID is loaded for it; the other end is not who it must be."""
    context = x509_context()
    key = context.svid.private_key.private_numbers().private_value
    identity = FakeIdentity("spiffe://shop.test/web", context)
    hunt = Hunt()
    hunt.add(*context.svid.key_pem().reveal().decode().splitlines()[1:-1], f"{key:x}", f"{key}")

    async def main(url: str) -> None:
        options = {"identity": identity, "authentication": X509SvidTls(server), "binding": binding}
        async with TokenBroker(metadata=Metadata(url, f"{url}/token"), clock=Hurried(), on_event=hunt.sink, **options) as tokens:
            hunt.saw(tokens, tokens.channel, *vars(tokens.channel).values(), options["authentication"])
            with pytest.raises(SpiffeError) as e:
                await tokens.token("orders:read", audience="https://orders.example")
            hunt.caught(e.value)

    with serve_site() as site, hunt.watching():
        anyio.run(main, site.origin)
    hunt.add(*(token for _, token in identity.issued))
    assert [] == hunt.leaks()


class GivenUpError(Exception):
    """Somebody else in the same task group fails."""


def spill(token: str) -> None:
    """As a careless library does it."""
    namespace: dict[str, Any] = {}
    exec(compile("def careless(token):\n    raise ValueError('no')", "/elsewhere/careless.py", "exec"), namespace)
    namespace["careless"](token)


class TestTheCanarySings:
    """Searching is worth something only if it finds what is there."""

    @pytest.fixture
    def hunt(self) -> Hunt:
        hunt = Hunt()
        hunt.add(FOREIGN, CLIENT_SECRET)
        return hunt

    def test_in_logs(self, hunt: Hunt) -> None:
        """In the text, and in what is only beside it; in part, and encoded."""
        with hunt.watching():
            logging.getLogger("httpx").debug("sent %s", FOREIGN[3:40])
            logging.getLogger("httpcore").debug("sent", extra={"form": quote_plus(CLIENT_SECRET)})
        assert ["the fields of the log of httpcore", "the fields of the log of httpx", "the log of httpx"] == hunt.leaks()

    def test_in_frames(self, hunt: Hunt) -> None:
        """Of any error that is linked to the one that is shown."""
        try:
            try:
                spill(FOREIGN)
            except ValueError:
                raise KeyError("else")  # noqa: B904
        except KeyError as error:
            hunt.caught(error)
        assert ["locals of careless of careless.py, under ValueError"] == hunt.leaks()

    def test_in_errors(self, hunt: Hunt) -> None:
        """Message, notes, attributes."""
        error = TokenError(f"no: {FOREIGN}")
        error.add_note(CLIENT_SECRET)
        hunt.caught(error)
        assert {"str of TokenError", "notes of TokenError", "a pickle of TokenError"} <= set(hunt.leaks())

    def test_in_events_and_spans(self, hunt: Hunt) -> None:
        """As an exporter sends them away."""
        with hunt.watching():
            hunt.sink(Event("token.issued", "a token", {"token": FOREIGN, "code": FOREIGN}))
        assert ["a metric", "a span", "token.issued"] == hunt.leaks()

    def test_not_where_nothing_is(self, hunt: Hunt) -> None:
        """A fingerprint is none of it."""
        hunt.saw(Secret(FOREIGN), fingerprint(FOREIGN), ForeignToken(Secret(FOREIGN)))
        assert [] == hunt.leaks()
