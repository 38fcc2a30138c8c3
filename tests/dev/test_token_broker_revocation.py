"""Revocation that cascades, and introspection for whom it concerns."""

from __future__ import annotations

import httpx
import pytest

from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from tests.dev.conftest import AGENT, AUDITOR, ORDERS
from tests.support.manual_clock import ManualClock
from spiffe_client.dev.token_broker._replays import Replays
from spiffe_client.dev.token_broker._store import Record, TokenStore
from tests.support.oauth_client import TYPE, OAuthClient, claims_of

pytestmark = pytest.mark.anyio


class TestRevocation:
    async def test_revoked_token_is_not_active(self, agent: OAuthClient) -> None:
        """RFC 7009 §2: an empty 200, and never again active."""
        token = await agent.token("orders:read", audience=ORDERS)
        reply = await agent.post("revocation", {"token": token, "token_type_hint": "access_token"})

        assert (200, b"", "no-store") == (reply.status_code, reply.content, reply.headers["cache-control"])
        assert {"active": False} == await agent.introspect(token)

    async def test_all_that_was_made_from_it_is_revoked(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """RFC 7009 §2.1: children and theirs, whoever holds them; siblings are not."""
        root = await agent.token("orders:read", audience=ORDERS)
        child = (await agent.exchange(root)).json()["access_token"]
        sibling = (await agent.exchange(root)).json()["access_token"]
        grandchild = (await auditor.exchange(child)).json()["access_token"]
        await agent.post("revocation", {"token": child})

        active = [(await c.introspect(t))["active"] for c, t in ((agent, root), (agent, sibling), (agent, child))]
        assert [True, True, False] == active
        assert {"active": False} == await auditor.introspect(grandchild)

    @pytest.mark.parametrize("token", ["x", "a.b.c"])
    async def test_unknown_token_is_as_good_as_revoked(self, agent: OAuthClient, token: str) -> None:
        """RFC 7009 §2.2: 200."""
        assert 200 == (await agent.post("revocation", {"token": token})).status_code

    async def test_twice_is_once(self, agent: OAuthClient) -> None:
        """RFC 7009 §2.2."""
        token = await agent.token(audience=ORDERS)
        assert [200, 200] == [(await agent.post("revocation", {"token": token})).status_code for _ in range(2)]

    async def test_another_clients_token_is_not_revoked(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """RFC 7009 §2.1: nobody can put others out of work."""
        token = await agent.token(audience=ORDERS)
        reply = await auditor.post("revocation", {"token": token})
        assert (400, "unauthorized_client") == (reply.status_code, reply.json()["error"])
        assert True is (await agent.introspect(token))["active"]

    async def test_client_must_authenticate(self, agent: OAuthClient) -> None:
        """RFC 7009 §2.1."""
        reply = await agent.post("revocation", {"token": "x", "client_id": AGENT}, authenticated=False)
        assert (401, "invalid_client") == (reply.status_code, reply.json()["error"])

    async def test_token_is_required(self, agent: OAuthClient) -> None:
        """RFC 7009 §2.1."""
        assert "invalid_request" == (await agent.post("revocation", {})).json()["error"]

    async def test_all_of_a_subject_are_revoked(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """What is about it, what was issued to it, and what was made from these."""
        about = await agent.token("orders:read", audience=ORDERS)
        lent = (await auditor.exchange(about)).json()["access_token"]
        own = await auditor.token()

        assert 2 == agent.broker.revoke_all(AGENT)
        assert 0 == agent.broker.revoke_all(AGENT)
        assert {"active": False} == await auditor.introspect(lent)
        assert True is (await auditor.introspect(own))["active"]
        assert 1 == agent.broker.revoke_all(AUDITOR)


    async def test_forgotten_parents_do_not_cut_the_line(
        self, domain: DevTrustDomain, http: httpx.AsyncClient
    ) -> None:
        """Revoking the oldest reaches the youngest when what was between them has expired; however long."""
        clock = ManualClock()
        store = TokenStore("https://tokens.example", clock)

        def issue(ttl: float, parent: Record | None = None, kind: str = "access_token") -> Record:
            return store.issue(TYPE + kind, {}, typ="JWT", ttl=ttl, client_id="c", parent=parent)[1]

        root = issue(1000)
        ticket = issue(10, root, "jwt")
        child = issue(900, ticket)
        await clock.advance(100)
        leaf = child
        for _ in range(2000):
            leaf = issue(500, leaf)
        assert 2002 == len(store)
        assert (root, {child.jti: child}) == (child.parent, root.children)
        assert 2002 == store.revoke(root)
        assert leaf.revoked

    async def test_what_is_signed_but_not_known_is_not_good(self, agent: OAuthClient) -> None:
        """As after a restart that kept the key."""
        token = agent.broker._server.store.sign({"jti": "x", "exp": 4e9}, typ="at+jwt")
        assert {"active": False} == await agent.introspect(token)


class TestReplays:
    def test_are_forgotten_in_time(self) -> None:
        """Once anything of that age would be refused anyway."""
        replays = Replays()
        assert [True, False, True] == [replays.use("a", until=10, now=now) for now in (0, 10, 11)]
        assert {"a"} == replays._seen


class TestIntrospection:
    async def test_says_what_the_token_says(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """RFC 7662 §2.2, with `act`, purpose and who may act."""
        parent = await agent.token("orders:read", audience=ORDERS, purpose="p")
        said = {"actor_token": auditor.svid(), "actor_token_type": f"{TYPE}jwt"}
        token = (await auditor.exchange(parent, **said)).json()["access_token"]
        reply = await auditor.introspect(token)

        assert {"active": True, "token_type": "Bearer", **claims_of(token)} == reply
        assert ({"sub": AUDITOR}, "p") == (reply["act"], reply["purpose"])

    async def test_tokens_that_are_no_access_tokens(self, agent: OAuthClient) -> None:
        """They are shown, as what they are."""
        form = {"audience": agent.broker.issuer, "requested_token_type": f"{TYPE}jwt"}
        ticket = (await agent.exchange(**form)).json()["access_token"]
        assert "N_A" == (await agent.introspect(ticket))["token_type"]

    async def test_nobody_else_is_told(self, agent: OAuthClient, auditor: OAuthClient) -> None:
        """RFC 7662 §4: for others the token is as good as none."""
        assert {"active": False} == await auditor.introspect(await agent.token(audience=ORDERS))

    async def test_audience_is_told(
        self, domain: DevTrustDomain, http: httpx.AsyncClient, rules: list[Client]
    ) -> None:
        """A resource server asks about what it is shown."""
        rules.append(Client.of("orders-service", secret="s", serves=[ORDERS]))
        async with DevTokenBroker(domain, rules=rules) as broker:
            token = await OAuthClient(broker, http, AGENT).token(audience=ORDERS)
            url = f"{broker.issuer}/introspection"
            reply = await http.post(url, data={"token": token}, auth=("orders-service", "s"))
        assert True is reply.json()["active"]

    async def test_expired_token_is_not_active_and_is_forgotten(
        self, domain: DevTrustDomain, http: httpx.AsyncClient, rules: list[Client]
    ) -> None:
        """Nothing is remembered for ever."""
        clock = ManualClock()
        clock.skew = domain._clock.now() - clock.now()
        async with DevTokenBroker(domain, rules=rules, clock=clock) as broker:
            agent = OAuthClient(broker, http, AGENT)
            token = await agent.token(audience=ORDERS)
            agent.svid = lambda: domain.ca.issue_jwt_svid(AGENT, broker.issuer, ttl=3600)
            await clock.advance(301)
            assert {"active": False} == await agent.introspect(token)
            assert 1 == len(broker._server.store)
            await clock.advance(100)
            await agent.token(audience=ORDERS)
            assert 1 == len(broker._server.store)
