"""Real token brokers, started once for each module that uses them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from spiffe_client import Workload
from spiffe_client.tokens import TokenBroker, WebPki
from tests.support.peers import (
    Authgent,
    Domain,
    OidcProvider,
    logs_of_running_peers,
    serve_authgent,
    serve_oidc_provider,
)

#: An agent of the development trust domain, and its client of a token broker.
Agent = Callable[..., AbstractAsyncContextManager[TokenBroker]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """A failure shows what the peers wrote."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {name}", text) for name, text in logs_of_running_peers()]
    return report


def _required(variable: str) -> None:
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set: `nox -s peers` installs the token brokers and sets it")


@pytest.fixture(scope="module")
def domain() -> Iterator[Domain]:
    """Who issues the identities that the token brokers know."""
    domain = Domain()
    yield domain
    domain.close()


@pytest.fixture(scope="module")
def oidc_of_module(request: pytest.FixtureRequest, domain: Domain) -> Iterator[OidcProvider]:
    _required("OIDC_PROVIDER_DIR")
    knobs = getattr(request.module, "KNOBS", {})
    spiffe_server = getattr(request.module, "SPIFFE_SERVER", False)
    with serve_oidc_provider(domain, spiffe_server=spiffe_server, **knobs) as peer:
        yield peer


@pytest.fixture
def oidc(oidc_of_module: OidcProvider) -> Iterator[OidcProvider]:
    """The module's oidc-provider, set as the module says in `KNOBS`; no fault outlives a test."""
    yield oidc_of_module
    oidc_of_module.forget_faults()


@pytest.fixture(scope="module")
def authgent(request: pytest.FixtureRequest) -> Iterator[Authgent]:
    """The module's authgent-server, set as the module says in `SETTINGS`."""
    _required("AUTHGENT_BIN")
    with serve_authgent(**getattr(request.module, "SETTINGS", {})) as peer:
        yield peer


@pytest.fixture
def agent(domain: Domain, oidc: OidcProvider, anyio_backend: str) -> Agent:
    """`async with agent("a", binding="none") as tokens`: an agent's client of the module's oidc-provider."""

    @asynccontextmanager
    async def open_agent(name: str, **options: object) -> AsyncIterator[TokenBroker]:
        options.setdefault("trust", WebPki(oidc.roots or None))
        async with Workload(domain.endpoint_for(f"spiffe://example.org/agent/{name}")) as me:
            async with TokenBroker(oidc.issuer, identity=me, **options) as tokens:
                tokens.me = me  # for tests that look at the identity too
                yield tokens

    return open_agent
