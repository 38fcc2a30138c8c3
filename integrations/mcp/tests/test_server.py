"""The server's side by itself: which tokens are good, which proofs, and for which call."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams

from spiffe_client._jose import sign_compact
from spiffe_client.agents import arguments_digest
from spiffe_client.audit import Event
from spiffe_client.bundle import JwtAuthority
from spiffe_client.errors import TokenError
from spiffe_client.testing import ManualClock
from spiffe_client.tokens._dpop import DpopKey
from spiffe_client_mcp import (
    BrokerTokenVerifier,
    CheckedMethods,
    CheckedTools,
    Needs,
    ProofOfPossession,
    SqliteReplayCache,
    bound_call,
)

pytestmark = pytest.mark.anyio

ISSUER, HERE = "https://tokens.prod.example", "https://tools.prod.example"
KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
DPOP = DpopKey()


class Keys:
    """Keys of a token broker that no network is needed for."""

    def __init__(self, *kept: Any) -> None:
        self.kept = tuple(JwtAuthority(None, key.public_key()) for key in kept)
        self.later = self.kept

    async def current(self):
        return self.kept

    async def anew(self):
        return self.later


class Case:
    """A verifier, and a token that it takes; `claims` and `header` replace parts of it, None takes one away."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.events: list[Event] = []
        self.verifier = BrokerTokenVerifier(ISSUER, HERE, clock=self.clock, on_event=self.events.append, **options)
        self.verifier._keys = Keys(KEY)

    def token(self, *, header: dict | None = None, key: Any = KEY, **claims: Any) -> str:
        now = int(self.clock.now().timestamp())
        whole = {
            "iss": ISSUER,
            "aud": HERE,
            "sub": "agent",
            "client_id": "agent",
            "scope": "b a",
            "exp": now + 60,
            "iat": now,
            **claims,
        }
        head = {"typ": "at+jwt", **(header or {})}
        return sign_compact(head, {name: value for name, value in whole.items() if value is not None}, key)

    async def take(self, **parts: Any) -> AccessToken | None:
        return await self.verifier.verify_token(self.token(**parts))

    async def refused(self, why: str, **parts: Any) -> None:
        assert await self.take(**parts) is None
        assert why in self.events[-1].message
        assert "eyJ" not in repr(self.events)

    @property
    def told(self) -> list[tuple[str, object]]:
        """What was told, and why."""
        return [(event.name, event.attributes["reason"]) for event in self.events]


class TestVerifier:
    async def test_a_good_token(self) -> None:
        """What it says is passed on."""
        access = await Case().take()
        assert access is not None
        assert ("agent", "agent", ["a", "b"], HERE) == (
            access.client_id,
            access.subject,
            access.scopes,
            access.resource,
        )
        assert access.claims is not None and ISSUER == access.claims["iss"]

    @pytest.mark.parametrize(
        ("why", "parts"),
        [
            ("another issuer", {"iss": "https://evil.example"}),
            ("for somebody else", {"aud": "https://other.example"}),
            ("for somebody else", {"aud": [7]}),
            ("for somebody else", {"aud": None}),
            ("`exp` is not a number", {"exp": None}),
            ("`exp` is not a number", {"exp": True}),
            ("`exp` is no time", {"exp": 1e300}),
            ("has expired", {"exp": 1}),
            ("not valid yet", {"nbf": 1 << 34}),
            ("not valid yet", {"iat": 1 << 34}),
            ("no `client_id`", {"client_id": None}),
            ("no `sub`", {"sub": ""}),
            ("`scope` is not text", {"scope": ["a"]}),
            ("certificate", {"cnf": {"x5t#S256": "x"}}),
            ("certificate", {"cnf": {"jkt": "x", "x5t#S256": "x"}}),
            ("certificate", {"cnf": "x"}),
            ("no proof by that key", {"cnf": {"jkt": "x"}}),
            ("`typ`", {"header": {"typ": "JWT"}}),
            ("none of the keys", {"key": OTHER}),
            ("no key", {"header": {"kid": "x"}, "key": rsa.generate_private_key(65537, 2048)}),
        ],
        ids=lambda value: value if isinstance(value, str) else "-".join(value),
    )
    async def test_what_is_refused(self, why: str, parts: dict[str, Any]) -> None:
        """Show the server a token that is forged, expired, for somebody else, of another issuer or kind.

        Each is refused; the server's audit has why, without the token.
        """
        case = Case()
        await case.refused(why, **parts)
        assert [("token.refused", "invalid_token")] == case.told

    async def test_an_algorithm_that_does_not_count(self) -> None:
        """Show it a token that is signed by an algorithm it does not want.

        It is refused, though the key is the token broker's.
        """
        case = Case(algorithms=["RS256"])
        await case.refused("`alg`")
        assert [("token.refused", "invalid_token")] == case.told

    async def test_garbage(self) -> None:
        """No text ends the server."""
        case = Case()
        for text in ("", "a.b.c", "Bearer x", "é" * 10):
            assert await case.verifier.verify_token(text) is None

    async def test_a_new_key(self) -> None:
        """One that is unknown is looked for once more."""
        case = Case()
        case.verifier._keys.later = Keys(OTHER).kept
        assert await case.take(key=OTHER) is not None
        await case.refused("none of the keys", key=ec.generate_private_key(ec.SECP256R1()))

    @pytest.mark.parametrize(
        "options",
        [{"audience": []}, {"audience": ""}, {"algorithms": ["none"]}, {"algorithms": ["HS256"]}, {"algorithms": []}],
        ids=["nobody", "empty", "none", "mac", "nothing"],
    )
    def test_what_makes_no_sense(self, options: dict[str, Any]) -> None:
        """It would take anything, or nothing."""
        with pytest.raises(ValueError, match="audience|algorithms"):
            BrokerTokenVerifier(ISSUER, **{"audience": HERE, **options})


async def request(app: Any, *headers: tuple[str, str], kind: str = "http") -> tuple[int, dict[bytes, bytes]]:
    """Send one POST to an ASGI app."""
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": kind, "method": "POST", "path": "/mcp", "raw_path": b"/mcp", "headers": raw}
    await app(scope, None, send)
    return (said[0]["status"], dict(said[0]["headers"])) if said else (0, {})


class Proven:
    """A server that asks the verifier about the token it gets."""

    def __init__(self, case: Case, **options: Any) -> None:
        self.case = case
        self.taken: list[AccessToken | None] = []
        self.scopes: list[Any] = []
        self.app = ProofOfPossession(self, HERE, clock=case.clock, on_event=case.events.append, **options)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        for name, value in scope["headers"]:
            if name == b"authorization":
                self.taken.append(await self.case.verifier.verify_token(value.decode("latin-1").partition(" ")[2]))

    def proof(self, token: str, *, method: str = "POST", url: str = f"{HERE}/mcp", **more: Any) -> str:
        return str.__str__(DPOP.proof(method, url, at=self.case.clock.now(), token=token, **more))

    async def status(self, *headers: tuple[str, str]) -> int:
        return (await request(self.app, *headers))[0]


class TestPossession:
    async def test_a_good_proof(self) -> None:
        """The server sees a bearer token, and the verifier that the key was proven."""
        case = Case()
        server = Proven(case)
        token = case.token(cnf={"jkt": DPOP.jkt})
        await request(server.app, ("authorization", f"DPoP {token}"), ("dpop", server.proof(token)))
        assert server.taken[0] is not None
        assert [(b"authorization", f"Bearer {token}".encode())] == server.scopes[0]["headers"]

    async def test_another_scheme(self) -> None:
        """Show a bound token as a bearer token, or with somebody else's proof.

        A bound token as a bearer is a stolen one; one that is not bound needs no proof, and has none.
        """
        case = Case()
        server = Proven(case)
        bound, free = case.token(cnf={"jkt": DPOP.jkt}), case.token()
        await request(server.app, ("authorization", f"Bearer {bound}"), ("dpop", server.proof(bound)))
        await request(server.app, ("authorization", f"DPoP {free}"), ("dpop", server.proof(free)))
        await request(server.app, ("authorization", f"Bearer {free}"))
        other = case.token(cnf={"jkt": DpopKey().jkt})
        await request(server.app, ("authorization", f"DPoP {other}"), ("dpop", server.proof(other)))
        assert [True, True, False, True] == [taken is None for taken in server.taken]
        assert [("token.refused", "invalid_token")] * 3 == case.told

    async def test_once(self) -> None:
        """Replay a proof, at once and later.

        A proof that was seen is refused, until it would be too old anyhow.
        """
        case = Case()
        server = Proven(case)
        token = case.token(exp=1 << 34, cnf={"jkt": DPOP.jkt})
        proof = server.proof(token)
        headers = (("authorization", f"DPoP {token}"), ("dpop", proof))
        assert [0, 401] == [await server.status(*headers) for _ in range(2)]
        await case.clock.advance(130)
        assert 401 == await server.status(*headers)
        assert 0 == await server.status(("authorization", f"DPoP {token}"), ("dpop", server.proof(token)))
        assert 1 == len(server.app._once._seen)
        assert [("token.refused", "invalid_dpop_proof")] * 2 == case.told
        assert proof not in repr(case.events)

    async def test_attack_a_proof_in_another_worker(self, tmp_path: Path) -> None:
        """Show a proof to each worker of a server.

        Where they share a memory, one takes it.
        """
        case = Case()
        caches = [SqliteReplayCache(tmp_path / "seen", clock=case.clock) for _ in range(2)]
        with closing(caches[0]), closing(caches[1]):
            one, two = (Proven(case, replay_cache=cache) for cache in caches)
            token = case.token(exp=1 << 34, cnf={"jkt": DPOP.jkt})
            headers = (("authorization", f"DPoP {token}"), ("dpop", one.proof(token)))
            assert [0, 401, 401] == [await server.status(*headers) for server in (one, two, one)]
            other = (headers[0], ("dpop", one.proof(token)))
            assert [0, 401] == [await server.status(*other) for server in (two, one)]
        assert [("token.refused", "invalid_dpop_proof")] * 3 == case.told

    async def test_attack_no_memory_of_proofs(self, tmp_path: Path) -> None:
        """Take the memory away that the workers share.

        Nothing is taken, and the server's audit has why.
        """
        case = Case()
        cache = SqliteReplayCache(tmp_path / "no folder" / "seen", clock=case.clock)
        server = Proven(case, replay_cache=cache)
        token = case.token(cnf={"jkt": DPOP.jkt})
        assert 401 == await server.status(("authorization", f"DPoP {token}"), ("dpop", server.proof(token)))
        assert [] == server.taken
        (event,) = case.events
        assert ("token.refused", "invalid_dpop_proof") == (event.name, event.attributes["reason"])
        assert "FileNotFoundError" == event.attributes["error"]
        assert "FileNotFoundError" not in event.message, "which is what the client is told, too"

    async def test_not_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fill the memory of proofs that were seen.

        It has a bound, beyond which nothing is taken.
        """
        monkeypatch.setattr("spiffe_client_mcp._possession._MOST_PROOFS", 1)
        case = Case()
        server = Proven(case)
        token = case.token(cnf={"jkt": DPOP.jkt})
        tries = [(("authorization", f"DPoP {token}"), ("dpop", server.proof(token))) for _ in range(2)]
        assert [0, 401] == [await server.status(*headers) for headers in tries]
        assert [("token.refused", "invalid_dpop_proof")] == case.told

    @pytest.mark.parametrize(
        ("why", "how"),
        [
            ("htm", {"method": "GET"}),
            ("htu", {"url": "https://evil.example/mcp"}),
            ("htu", {"url": f"{HERE}/other"}),
            ("htu", {"url": "http://tools.prod.example/mcp"}),
            ("ath", {"token": "another"}),
        ],
        ids=["method", "origin", "path", "scheme", "token"],
    )
    async def test_meant_for_something_else(self, why: str, how: dict[str, str]) -> None:
        """Use a proof for another method, host, path or token.

        It is for this request and this token (RFC 9449 §4.3).
        """
        case = Case()
        server = Proven(case)
        token = case.token(cnf={"jkt": DPOP.jkt})
        proof = server.proof(**{"token": token, **how})
        status, headers = await request(server.app, ("authorization", f"DPoP {token}"), ("dpop", proof))
        assert (401, True) == (status, f"`{why}`".encode() in headers[b"www-authenticate"])
        assert [] == server.scopes
        assert [("token.refused", "invalid_dpop_proof")] == case.told

    @pytest.mark.parametrize(
        ("header", "claims"),
        [
            ({"typ": "JWT"}, {}),
            ({"jwk": None}, {}),
            ({"jwk": {"kty": "oct", "k": "AA"}}, {}),
            ({"jwk": {"kty": "EC", "d": "AA"}}, {}),
            ({"jwk": {"kty": "EC"}}, {}),
            ({"jwk": JwtAuthority(None, OTHER.public_key()).to_jwk()}, {}),
            ({}, {"iat": None}),
            ({}, {"iat": True}),
            ({}, {"iat": 1}),
            ({}, {"jti": None}),
            ({}, {"jti": ""}),
            ({}, {"htu": None}),
            ({}, {"htu": "https://[::1"}),
        ],
        ids="type jwk mac private broken another iat iat-kind iat-old jti jti-empty htu htu-url".split(),
    )
    async def test_malformed(self, header: dict[str, Any], claims: dict[str, Any]) -> None:
        """Send a proof that is malformed: of another type, with a private key, without a time, with an odd URL.

        Nothing of it gets through.
        """
        case = Case()
        server = Proven(case)
        token = case.token()
        whole = {
            "jti": "one",
            "htm": "POST",
            "htu": f"{HERE}/mcp",
            "iat": int(case.clock.now().timestamp()),
            "ath": base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode(),
            **claims,
        }
        head = {"typ": "dpop+jwt", "jwk": JwtAuthority(None, KEY.public_key()).to_jwk(), **header}
        good = sign_compact({**head, "typ": "dpop+jwt", "jwk": JwtAuthority(None, KEY.public_key()).to_jwk()}, whole, KEY)
        assert (await server.status(("authorization", f"DPoP {token}"), ("dpop", good)) == 0) == (not claims)
        bad = sign_compact(head, {name: value for name, value in whole.items() if value is not None}, KEY)
        assert 401 == await server.status(("authorization", f"DPoP {token}"), ("dpop", bad))
        assert ("token.refused", "invalid_dpop_proof") == case.told[-1]

    async def test_attack_a_flood_of_what_is_refused(self) -> None:
        """Who has no token at all does not fill the disk: sixty a minute are told, and of the rest how many there were."""
        case = Case()
        server = Proven(case)
        for _ in range(100):
            assert 401 == await server.status(("authorization", "DPoP x"), ("dpop", "x"))
        assert 60 == len(case.told)
        await case.clock.advance(61)
        assert 401 == await server.status(("authorization", "DPoP x"), ("dpop", "x"))
        assert 40 == case.events[-1].attributes["untold"]

    async def test_how_many(self) -> None:
        """There is one token, and one proof of it."""
        server = Proven(Case())
        token = ("authorization", "DPoP x")
        for headers in ([token], [token, token, ("dpop", "x")], [token, ("dpop", "x"), ("dpop", "x")]):
            assert 401 == await server.status(*headers)
        assert 401 == await server.status(("authorization", "Bearer x"), token, ("dpop", "x"))

    async def test_not_http(self) -> None:
        """A lifespan is the server's own."""
        server = Proven(Case())
        await request(server.app, kind="lifespan")
        assert 1 == len(server.scopes)

    def test_an_origin_that_is_none(self) -> None:
        """It is said at once."""
        with pytest.raises(TokenError):
            ProofOfPossession(Proven(Case()), "https://[::1")


ORDER = "tenants/{tenant}/orders/{order}"
ARGUMENTS = {"order": 7, "amount": 5}
DETAIL = {
    "type": "agent_call",
    "actions": ["orders:refund"],
    "identifier": "tenants/acme/orders/7",
    "digest": arguments_digest(ARGUMENTS),
    "task": "t1",
}


async def called(
    needs: Needs | str,
    token: AccessToken | None,
    arguments: Any = ARGUMENTS,
    events: list[Event] | None = None,
    **options: Any,
) -> str:
    """Return how a call of the tool `refund` ends: what it is bound to, or why it was refused."""
    events = [] if events is None else events
    tools = CheckedTools({"refund": needs}, on_event=events.append)
    user = None if token is None else AuthenticatedUser(token)
    ctx = SimpleNamespace(request=SimpleNamespace(scope={"user": user}), **options)
    ran = []

    async def run(_: Any) -> Any:
        ran.append(bound_call())
        return "ran"

    params = CallToolRequestParams(name="refund", arguments=arguments)
    result = await tools.intercept_tool_call(params, ctx, run)
    assert bound_call() is None
    if ran:
        return repr(ran[0])
    assert result.is_error and "not permitted" in result.content[0].text
    return events[0].message.removeprefix("a call of a tool was refused: ")


def token(scopes: str = "orders:refund", details: Any = None) -> AccessToken:
    claims = {} if details is None else {"authorization_details": details}
    return AccessToken(token="x", client_id="c", scopes=scopes.split(), claims=claims)


class TestTools:
    async def test_a_scope(self) -> None:
        """All of them must be there."""
        assert "None" == await called("orders:refund", token())
        assert "the token lacks a" == await called(Needs("orders:refund", "a"), token())
        assert "there is no token" == await called("orders:refund", None)
        assert "the tool is not listed" == (await _unlisted())

    async def test_bound_to_this_call(self) -> None:
        """What it is bound to is the tool's to use; one detail of several is enough."""
        needs = Needs("orders:refund", resource=ORDER, bound=True)
        others = [{"type": "other"}, {**DETAIL, "digest": "x"}, DETAIL]
        said = await called(needs, token(details=others))
        assert "'tenant': 'acme'" in said and "task='t1'" in said
        assert "task=''" in await called(needs, token(details=[{**DETAIL, "task": 7}]))

    @pytest.mark.parametrize(
        ("why", "change"),
        [
            ("another action", {"actions": ["orders:read"]}),
            ("another action", {"actions": "orders:refund"}),
            ("another resource", {"identifier": "tenants/acme/orders/8"}),
            ("another resource", {"identifier": "tenants/acme/orders"}),
            ("another resource", {"identifier": "people/acme/orders/7"}),
            ("another resource", {"identifier": "tenants/../orders/7"}),
            ("another resource", {"identifier": None}),
            ("other arguments", {"digest": arguments_digest({**ARGUMENTS, "amount": 6})}),
            ("other arguments", {"digest": None}),
        ],
        ids="action actions order short literal dots none amount digest".split(),
    )
    async def test_bound_to_something_else(self, why: str, change: dict[str, Any]) -> None:
        """Use a call's token for another action, another resource or other arguments.

        It is for that call, also where the tool would do with a scope.
        """
        for bound in (True, False):
            needs = Needs("orders:refund", resource=ORDER, bound=bound)
            events: list[Event] = []
            assert f"the token is for {why}" == await called(needs, token(details=[{**DETAIL, **change}]), events=events)
            assert ["tool.refused"] == [event.name for event in events]

    async def test_attack_a_bound_token_used_again(self) -> None:
        """Use a call's token a second time.

        It is for one call: the same call a second time is another one. Where it is for two, each is one.
        """
        events: list[Event] = []
        case = Case()
        other = {"order": 8, "amount": 5}
        second = {**DETAIL, "identifier": "tenants/acme/orders/8", "digest": arguments_digest(other)}
        good = token(details=[DETAIL, second])
        good.expires_at = int(case.clock.now().timestamp()) + 60
        needs = {"refund": Needs("orders:refund", resource=ORDER, bound=True)}
        tools = CheckedTools(needs, clock=case.clock, on_event=events.append)
        ran: list[Any] = []

        async def run(_: Any) -> Any:
            ran.append(bound_call().resource)

        async def call(arguments: dict[str, Any]) -> None:
            ctx: Any = SimpleNamespace(request=SimpleNamespace(scope={"user": AuthenticatedUser(good)}))
            params = CallToolRequestParams(name="refund", arguments=dict(arguments))
            await tools.intercept_tool_call(params, ctx, run)

        for arguments in (ARGUMENTS, ARGUMENTS, other, other):
            await call(arguments)
        assert ["tenants/acme/orders/7", "tenants/acme/orders/8"] == ran
        assert 2 == sum("was used before" in event.message for event in events)
        assert ["tool.refused"] * 2 == [event.name for event in events]
        await case.clock.advance(100)  # it has expired, which the verifier sees if the request is not slow
        await call(ARGUMENTS)
        assert 2 == len(ran)
        assert 0 == len(tools._once._seen)

    async def test_attack_a_signature_written_in_another_way(self) -> None:
        """Write the signature of a call's token in another way, which ECDSA has for each, and use it again.

        What is signed counts: it is the same token.
        """
        events: list[Event] = []
        tools = CheckedTools({"refund": Needs("orders:refund", resource=ORDER, bound=True)}, on_event=events.append)
        ran: list[Any] = []

        async def run(_: Any) -> Any:
            ran.append(bound_call())

        for text in ("head.claims.one", "head.claims.other", "opaque.one", "opaque.other"):
            shown = token(details=[DETAIL])
            shown.token = text
            ctx: Any = SimpleNamespace(request=SimpleNamespace(scope={"user": AuthenticatedUser(shown)}))
            await tools.intercept_tool_call(CallToolRequestParams(name="refund", arguments=dict(ARGUMENTS)), ctx, run)
        assert 3 == len(ran)
        assert ["tool.refused"] == [event.name for event in events]

    async def test_attack_a_bound_token_in_another_worker(self, tmp_path: Path) -> None:
        """Use a call's token in each worker of a server, or where the memory that they share is gone.

        Where they share one, it is good in one of them; without one, in none.
        """
        case = Case()
        needs = {"refund": Needs("orders:refund", resource=ORDER, bound=True)}
        ran: list[Any] = []

        async def run(_: Any) -> Any:
            ran.append(bound_call())

        caches = [SqliteReplayCache(tmp_path / "seen", clock=case.clock) for _ in range(2)]
        with closing(caches[0]), closing(caches[1]):
            for cache in (*caches, SqliteReplayCache(tmp_path)):
                tools = CheckedTools(needs, clock=case.clock, replay_cache=cache, on_event=case.events.append)
                ctx: Any = SimpleNamespace(request=SimpleNamespace(scope={"user": AuthenticatedUser(token(details=[DETAIL]))}))
                params = CallToolRequestParams(name="refund", arguments=dict(ARGUMENTS))
                await tools.intercept_tool_call(params, ctx, run)
        assert 1 == len(ran)
        assert ["tool.refused"] * 2 == [event.name for event in case.events]
        assert ["used before", "PermissionError"] == [
            why for event in case.events for why in ("used before", "PermissionError") if why in event.message
        ]

    async def test_not_bound(self) -> None:
        """Where only a token for the very call will do."""
        needs = Needs("orders:refund", resource=ORDER, bound=True)
        assert "the token is not for this very call" == await called(needs, token())
        assert "malformed" in await called(needs, token(details={"type": "agent_call"}))

    async def test_arguments(self) -> None:
        """None have no digest; what is no name fits no resource; an argument goes before what the token says."""
        empty = {**DETAIL, "identifier": "", "digest": ""}
        assert "BoundCall" in await called(Needs("orders:refund"), token(details=[empty]), None)
        needs = Needs("orders:refund", resource=ORDER)
        for arguments in ({**ARGUMENTS, "tenant": "globex"}, {"order": True}, {"order": [7]}):
            assert "another resource" in await called(needs, token(details=[DETAIL]), arguments)
        same = Needs("orders:refund", resource="a/{x}/{x}")
        detail = {**DETAIL, "identifier": "a/1/2"}
        assert "another resource" in await called(same, token(details=[detail]))
        broken = {"order": 7, "amount": "\ud800"}
        assert "other arguments" in await called(needs, token(details=[DETAIL]), broken)

    @pytest.mark.parametrize(
        ("method", "token", "why"),
        [
            ("tools/list", token("x"), ""),
            ("tools/list", None, "there is no token"),
            ("tools/list", token("x", [DETAIL]), "the token is for one call"),
            ("tools/list", token("x", "?"), "the token is for one call"),
            ("resources/read", token("files:read"), ""),
            ("resources/read", token("x"), "the token lacks files:read"),
            ("resources/read", token("files:read", [DETAIL]), "the token is for another action"),
            ("prompts/get", token("files:read"), "the method is not listed"),
            ("tools/call", None, ""),
        ],
    )
    async def test_methods(self, method: str, token: AccessToken | None, why: str) -> None:
        """A session's need a token that is not for one call; others what is listed; calls of tools are not looked at."""
        events: list[Event] = []
        methods = CheckedMethods({"resources/read": "files:read"}, on_event=events.append)
        user = None if token is None else AuthenticatedUser(token)
        request = SimpleNamespace(scope={"user": user})
        ctx: Any = SimpleNamespace(method=method, request=request, request_id=1, params=None)

        async def run(_: Any) -> Any:
            return "ran"

        if why:
            with pytest.raises(MCPError, match="not one for this call"):
                await methods(ctx, run)
        else:
            assert "ran" == await methods(ctx, run)
        ctx.request_id = None
        assert "ran" == await methods(ctx, run), "a notification does nothing"
        assert ([f"a request was refused: {why}"] if why else []) == [event.message for event in events]

    def test_tools_are_not_methods(self) -> None:
        """It is said at once."""
        with pytest.raises(ValueError, match="CheckedTools"):
            CheckedMethods({"tools/call": "a"})

    async def test_over_stdio(self) -> None:
        """Where there is no HTTP request, there is nobody known."""
        tools = CheckedTools({"refund": "a"}, on_event=lambda _: None)
        ctx: Any = SimpleNamespace(request=None)
        result: Any = await tools.intercept_tool_call(CallToolRequestParams(name="refund"), ctx, anyio.sleep)
        assert result.is_error

    def test_what_makes_no_sense(self) -> None:
        """A tool that needs nothing, or a bound token for no action, or on a malformed resource."""
        with pytest.raises(ValueError, match="needs a scope"):
            Needs()
        with pytest.raises(ValueError, match="say which action"):
            Needs("a", "b", bound=True)
        with pytest.raises(ValueError, match="segment"):
            Needs("a", resource="a/*")
        assert "x" == Needs(action="x", bound=True).action


async def _unlisted() -> str:
    events: list[Event] = []
    tools = CheckedTools({}, on_event=events.append)
    ctx: Any = SimpleNamespace(request=SimpleNamespace(scope={}))
    await tools.intercept_tool_call(CallToolRequestParams(name="refund"), ctx, anyio.sleep)
    return events[0].message.removeprefix("a call of a tool was refused: ")




def test_json_is_json() -> None:
    """The digest is over what JSON says, not how it says it."""
    said = json.loads(json.dumps({"b": 1.0, "a": "\u00e9"}))
    assert arguments_digest({"a": "é", "b": 1.0}) == arguments_digest(said)
