"""Guarded calls against a real token broker and a real service that takes its tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import httpx
import jwt
import pytest

from spiffe_client import TokenBrokerOptions, Workload
from spiffe_client.agents import AgentOptions, Call, guard
from spiffe_client.audit import Event
from spiffe_client.dev import DevTokenBroker, DevTrustDomain, ProtectedService
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import (
    ContractError,
    DeniedError,
    PeerNotAllowedError,
    TaskEndedError,
    TaskError,
    TokenOriginError,
    find,
)
from spiffe_client.policy import Contract
from spiffe_client.tokens import CaepPoll

pytestmark = pytest.mark.anyio

AGENT = "spiffe://prod.example/agent/closer"
READ, REFUND, LOCAL = "orders:read", "orders:refund", "summarize"


@dataclass
class Shop:
    """An agent, its token broker, and the service it works with."""

    me: Workload
    broker: DevTokenBroker
    service: ProtectedService
    audit: list[Event] = field(default_factory=list)

    def told(self, name: str) -> list[dict]:
        return [dict(event.attributes) for event in self.audit if event.name == name]

    def task(self, *actions: str, **terms):
        return self.me.task("close the books", actions or [READ], tenant="acme", **terms)


def contract(service: ProtectedService, **changes) -> Contract:
    tenant = "tenants/{tenant}/orders/*"
    actions = {
        READ: {"audience": [service.url], "scopes": ["orders:read"], "resources": [tenant]},
        REFUND: {
            "audience": [service.url],
            "scopes": ["orders:refund"],
            "resources": [tenant],
            "sensitive": True,
        },
        LOCAL: {},
    }
    whole = {
        "agent": {"id": AGENT, "purpose": "x", "environment": "prod", "trust_domain": "prod.example"},
        "limits": {"parallel_tasks": 50, "delegation_depth": 2},
        "actions": actions,
        **changes,
    }
    return Contract.parse(json.dumps(whole).encode(), "json")


@pytest.fixture
async def shop(anyio_backend: str) -> AsyncIterator[Shop]:
    async with opened() as shop:
        yield shop


@asynccontextmanager
async def opened(*, events: bool = False, **options) -> AsyncIterator[Shop]:
    scopes = "orders:read orders:refund ssf.read"
    rules = [Client.of(AGENT, audiences=["*"], scopes=scopes, details=["agent_call"])]
    audit: list[Event] = []
    async with DevTrustDomain("prod.example") as dev:
        dev.register(AGENT, any=True, ttl=3600)
        async with DevTokenBroker(dev, rules=rules) as broker, ProtectedService(broker) as service:
            what = AgentOptions(contract(service), **options)
            async with Workload(
                dev.endpoint,
                token_broker=TokenBrokerOptions(
                    broker.issuer, security_events=CaepPoll(broker.issuer) if events else None
                ),
                contract=what,
                environment="prod",
                on_event=audit.append,
            ) as me:
                yield Shop(me, broker, service, audit)


class TestCredentials:
    async def test_a_tool_with_a_client(self, shop: Shop) -> None:
        """Five lines, and no credential in sight: the service sees a bound token for this task."""
        url = shop.service.url

        @guard(requires=READ, resource="tenants/{tenant}/orders/{order}")
        async def read_order(order: str, http: httpx.AsyncClient) -> dict:
            return (await http.get(f"{url}/v1/orders")).json()

        async with shop.task() as task:
            said = await read_order(order="7")
            assert (AGENT, "orders:read", "close the books") == (said["sub"], said["scope"], said["purpose"])
            assert said == await read_order("8")
            (token,) = [call["token"] for call in shop.told("call.finished")[:1]]
        assert 1 == shop.broker.requests["token"]
        assert [(token, shop.service.url)] * 2 == [(c["token"], c["audience"]) for c in shop.told("call.finished")]
        assert 1 == shop.told("task.ended")[0]["revoked"]
        assert task.id not in json.dumps(said)

    async def test_a_blocking_tool(self, shop: Shop) -> None:
        """The same in a thread."""
        url = shop.service.url

        @guard(requires=READ, resource="tenants/{tenant}/orders/{order}")
        def read_order(order: str, http: httpx.Client) -> int:
            return http.get(f"{url}/v1/orders").status_code

        async with shop.task():
            assert [200, 200] == [await anyio.to_thread.run_sync(read_order, str(n)) for n in range(2)]

    async def test_your_own_client(self, shop: Shop) -> None:
        """With the call's auth; after the call it is of no use, in either kind of client."""
        async with shop.task() as task, httpx.AsyncClient() as http:
            async with task.call(READ, "tenants/acme/orders/7") as call:
                auth = call.auth
                assert 200 == (await http.get(f"{shop.service.url}/v1/orders", auth=auth)).status_code
            with pytest.raises(TaskError, match="has ended"):
                await http.get(f"{shop.service.url}/v1/orders", auth=auth)
            with httpx.Client() as blocking, pytest.raises(TaskError, match="has ended"):
                await anyio.to_thread.run_sync(lambda: blocking.get(f"{shop.service.url}/v1/orders", auth=auth))

    async def test_a_client_left_behind(self, shop: Shop) -> None:
        """A background task that a tool leaves running has a client without authority."""
        async with shop.task() as task:
            async with task.call(READ, "tenants/acme/orders/7") as call:
                http = call.http
                assert 200 == (await http.get(f"{shop.service.url}/v1/orders")).status_code
            with pytest.raises(TaskError, match="has ended"):
                await http.get(f"{shop.service.url}/v1/orders")
        with pytest.raises(TaskEndedError):
            await http.get(f"{shop.service.url}/v1/orders")

    async def test_to_nobody_else(self, shop: Shop) -> None:
        """The token goes to the action's audience and to no other origin."""
        async with shop.task() as task:
            async with task.call(READ, "tenants/acme/orders/7") as call:
                with pytest.raises(TokenOriginError):
                    await call.http.get("https://evil.example/")

    async def test_without_a_token(self, shop: Shop) -> None:
        """A local tool's client carries nothing, in either kind."""
        async with shop.task(LOCAL) as task:
            async with task.call(LOCAL) as call:
                assert 401 == (await call.http.get(f"{shop.service.url}/v1/orders")).status_code
                ask = call.http_sync.get
                reply = await anyio.to_thread.run_sync(ask, f"{shop.service.url}/v1/orders")
                assert 401 == reply.status_code

    async def test_each_task_has_its_own(self, shop: Shop) -> None:
        """Tokens are not shared between tasks, though they ask for the same."""

        async def work() -> None:
            async with shop.task() as task:
                async with task.call(READ, "tenants/acme/orders/7"):
                    pass

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(work)
        assert 5 == len({call["token"] for call in shop.told("call.finished")})

    async def test_a_token_that_comes_back(self, shop: Shop) -> None:
        """A tool that returns its own token returns a gap."""

        @guard(requires=READ, resource="tenants/{tenant}/orders/{order}")
        async def leaky(order: str, call: Call) -> str:
            return f"the token is {call.token.token.reveal()}"

        async with shop.task():
            assert "the token is [redacted]" == await leaky("7")


class TestSensitive:
    async def test_a_token_for_one_call(self, shop: Shop) -> None:
        """It names action, resource and the digest of the arguments, and ends with the call."""
        async with shop.task(REFUND) as task:
            said = []
            for amount in (5, 6):
                async with task.call(REFUND, "tenants/acme/orders/7", arguments={"amount": amount}) as call:
                    other = await call.http.post(f"{shop.service.url}/any", json={"amount": amount + 1})
                    assert 403 == other.status_code
                    assert 403 == (await call.http.post(f"{shop.service.url}/any", content=b"[]")).status_code
                    reply = (await call.http.post(f"{shop.service.url}/any", json={"amount": amount})).json()
                    said.append((call.digest, reply["authorization_details"][0]))
            assert {} == dict(task.authorities)
        for digest, details in said:
            assert {
                "type": "agent_call",
                "actions": [REFUND],
                "identifier": "tenants/acme/orders/7",
                "digest": digest,
                "task": task.id,
            } == details
        assert said[0][0] != said[1][0]
        assert 2 == shop.broker.requests["revocation"]

    async def test_without_arguments(self, shop: Shop) -> None:
        """The call has none, so the request has none."""
        async with shop.task(REFUND) as task:
            async with task.call(REFUND, "tenants/acme/orders/7") as call:
                assert 200 == (await call.http.post(f"{shop.service.url}/any")).status_code
                assert 403 == (await call.http.post(f"{shop.service.url}/any", json={"n": 1})).status_code

    async def test_arguments_that_are_no_json(self, shop: Shop) -> None:
        """Nothing can be bound to them."""
        async with shop.task(REFUND) as task:
            with pytest.raises(DeniedError) as caught:
                async with task.call(REFUND, "tenants/acme/orders/7", arguments={"amount": object()}):
                    pass
        assert "token_refused" == caught.value.reason


class TestRefused:
    async def test_by_the_token_broker(self, shop: Shop) -> None:
        """A denial, told as one; the tool never runs."""
        shop.broker.rules = type(shop.broker.rules)(clients=(), **{})
        async with shop.task() as task:
            with pytest.raises(DeniedError, match="no credential is issued") as caught:
                async with task.call(READ, "tenants/acme/orders/7"):
                    pass
        assert "token_refused" == caught.value.reason
        assert ["token_refused"] == [facts["reason"] for facts in shop.told("call.denied")]

    async def test_while_it_is_away(self, shop: Shop) -> None:
        """Try again later; what could not be revoked is told."""
        async with shop.task() as task:
            async with task.call(READ, "tenants/acme/orders/7"):
                pass
            await shop.broker.pause()
        assert (0, 1) == tuple(shop.told("task.ended")[0][name] for name in ("revoked", "not_revoked"))


class TestStop:
    async def test_all_at_once(self, shop: Shop) -> None:
        """The workload's kill switch ends tasks, calls and tokens."""
        with pytest.raises(TaskEndedError, match="agent was stopped: leak"):
            async with shop.task() as task:
                async with task.call(READ, "tenants/acme/orders/7") as call:
                    shop.me.stop("leak")
                    await anyio.sleep_forever()
        with pytest.raises(TaskEndedError):
            _ = call.auth
        with pytest.raises(TaskError):
            async with shop.task():
                pass

    async def test_a_security_event(self) -> None:
        """A token broker that takes this agent's tokens back ends its tasks; others may begin."""
        async with opened(events=True) as shop:
            with pytest.raises(TaskEndedError, match="a security event took this agent's tokens back"):
                async with shop.task() as task:
                    async with task.call(READ, "tenants/acme/orders/7"):
                        with anyio.fail_after(10):
                            while not shop.broker.streams:
                                await anyio.sleep(0.01)
                        shop.broker.emit_session_revoked(AGENT, reason="drill")
                        with anyio.fail_after(10):
                            await anyio.sleep_forever()
            async with shop.task() as task:
                assert None is task.ended

    async def test_a_security_event_about_one_token(self) -> None:
        """The task that works with it ends; another one goes on, with its own."""
        async with opened(events=True) as shop, shop.task() as other:
            async with other.call(READ, "tenants/acme/orders/8") as call:
                with pytest.raises(TaskEndedError, match="a security event took a token of this task back"):
                    async with shop.task() as task, task.call(READ, "tenants/acme/orders/7") as doomed:
                        assert doomed.token is not None
                        claims = jwt.decode(doomed.token.token.reveal(), options={"verify_signature": False})
                        with anyio.fail_after(10):
                            while not shop.broker.streams:
                                await anyio.sleep(0.01)
                            about = {"format": "jwt_id", "iss": claims["iss"], "jti": claims["jti"]}
                            shop.broker.emit_session_revoked(about, reason="drill")
                            await anyio.sleep_forever()
                assert (None, call.token) == (other.ended, await other.authorities[READ].fetch())
            (received,) = shop.told("security_event.received")
            assert (1, False) == (received["tokens"] + task.revoked, received["all"])
        assert ["cancelled", "ok"] == [told["outcome"] for told in shop.told("call.finished")]

    async def test_a_token_on_its_way_ends_with_its_task(self, shop: Shop) -> None:
        """What comes after the end is not used, and taken back."""
        async with anyio.create_task_group() as group:

            async def work(call: Call) -> None:
                with pytest.raises(TaskEndedError):
                    async with call:
                        raise AssertionError("it was let in")

            async with shop.task() as task:
                group.start_soon(work, task.call(READ, "tenants/acme/orders/7"))
                await anyio.lowlevel.checkpoint()
        assert [] == shop.me.tokens._open.cache.held()


class TestFrontDoor:
    async def test_a_contract_that_does_not_fit(self) -> None:
        """It is not open, and nothing of it stays open."""
        async with DevTrustDomain("prod.example") as dev:
            dev.register("spiffe://prod.example/other", any=True, ttl=3600)
            async with DevTokenBroker(dev, rules=[]) as broker, ProtectedService(broker) as service:
                me = Workload(dev.endpoint, contract=contract(service), environment="prod")
                with pytest.raises(ContractError, match="this is spiffe://prod.example/other"):
                    await me.open()
                assert "closed" == me.health.state

    async def test_no_contract(self) -> None:
        """It says how to give one."""
        async with DevTrustDomain("prod.example") as dev:
            dev.register(AGENT, any=True, ttl=3600)
            async with Workload(dev.endpoint) as me:
                with pytest.raises(ContractError, match="contract=\"agent.toml\""):
                    me.task("x", [READ])


class TestPeer:
    async def test_by_mutual_tls(self) -> None:
        """An action that names a peer is carried out with that peer, and with nobody else at its address."""
        async with DevTrustDomain("prod.example") as dev:
            dev.register(AGENT, any=True, ttl=3600)
            rules = [Client.of(AGENT, audiences=["*"], scopes="orders:read orders:refund")]
            async with DevTokenBroker(dev, rules=rules) as broker, ProtectedService(broker) as service:
                url = service.url_at("spiffe")
                to = {"audience": [url], "scopes": ["orders:read"]}
                actions = {
                    "good": {**to, "peer": str(service.id)},
                    "wrong": {**to, "peer": "spiffe://prod.example/imposter"},
                }
                what = contract(service, actions=actions)
                audit: list[Event] = []
                async with Workload(
                    dev.endpoint,
                    token_broker=broker.issuer,
                    contract=what,
                    environment="prod",
                    on_event=audit.append,
                ) as me:
                    async with me.task("x", ["good", "wrong"]) as task:
                        async with task.call("good") as call:
                            assert AGENT == (await call.http.get(f"{url}/v1/orders")).json()["sub"]
                            get = call.http_sync.get
                            reply = await anyio.to_thread.run_sync(get, f"{url}/v1/orders")
                            assert 200 == reply.status_code
                        async with task.call("wrong") as call, task.call("wrong") as another:
                            with pytest.raises(httpx.ConnectError) as caught:
                                await call.http.get(f"{url}/v1/orders")
                            with pytest.raises(httpx.ConnectError):
                                await anyio.to_thread.run_sync(another.http_sync.get, f"{url}/v1/orders")
        assert None is not find(caught.value, PeerNotAllowedError)
        told = [event.attributes for event in audit if event.name == "credential.withheld"]
        assert [(call.id, "peer_not_allowed", url), (another.id, "peer_not_allowed", url)] == [
            (facts["call"], facts["reason"], facts["origin"]) for facts in told
        ]
