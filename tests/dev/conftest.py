"""A trust domain, and a token broker in it, for the tests of this room."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import httpx
import pytest

from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from tests.support.oauth_client import OAuthClient

AGENT = "spiffe://dev.example/agent"
AUDITOR = "spiffe://dev.example/auditor"
ORDERS = "https://orders.example"


@pytest.fixture
async def domain() -> AsyncIterator[DevTrustDomain]:
    async with DevTrustDomain("dev.example") as domain:
        yield domain


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as http:
        yield http


@pytest.fixture
def rules() -> list[Client]:
    return [
        Client.of(
            AGENT,
            audiences=[ORDERS, "https://stock.example"],
            scopes="orders:read orders:refund ssf.read",
            details=["payment"],
            may_delegate_to=[AUDITOR],
        ),
        Client.of(AUDITOR, audiences=[ORDERS], scopes="orders:read"),
    ]


@pytest.fixture
async def broker(domain: DevTrustDomain, rules: list[Client]) -> AsyncIterator[DevTokenBroker]:
    async with DevTokenBroker(domain, rules=rules) as broker:
        yield broker


@pytest.fixture
def agent(broker: DevTokenBroker, http: httpx.AsyncClient) -> OAuthClient:
    return OAuthClient(broker, http, AGENT)


@pytest.fixture
def auditor(broker: DevTokenBroker, http: httpx.AsyncClient) -> OAuthClient:
    return OAuthClient(broker, http, AUDITOR)
