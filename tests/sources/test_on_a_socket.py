"""Sources over a real unix socket, with the real client: the same promises, through gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from spiffe_client import (
    InvalidRequestError,
    JwtSource,
    NoIdentityIssuedError,
    ProtocolError,
    StaleError,
    UnavailableError,
    UnimplementedError,
    WorkloadApiClient,
    X509Source,
)
from spiffe_client._grpc import Status
from spiffe_client._retry import Backoff
from spiffe_client.dev import CertificateAuthority
from spiffe_client.workload_api._jwt_messages import JwtBundlesResponse, JwtSvidEntry, JwtSvidResponse
from spiffe_client.workload_api._messages import X509SvidEntry, X509SvidResponse
from tests.support.scripted_workload_api import DROP, HOLD, NO_IDENTITY, Fail, Feed, ScriptedWorkloadApi

pytestmark = pytest.mark.anyio

BILLING = "spiffe://prod.example/billing"


class Agent(ScriptedWorkloadApi):
    """A scripted Workload API with an authority, and events to wait for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.authority = CertificateAuthority("prod.example")
        self.events: list[str] = []
        self._heard = anyio.Event()

    def issue(self, path: str = "/billing") -> X509SvidResponse:
        svid = self.authority.issue_x509_svid(f"spiffe://prod.example{path}")
        key = svid.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        bundle = self.authority.x509_bundle.to_der()
        return X509SvidResponse((X509SvidEntry(str(svid.id), b"".join(svid.ders), key, bundle),))

    def hear(self, event) -> None:
        self.events.append(event.name)
        self._heard.set()
        self._heard = anyio.Event()

    async def heard(self, name: str) -> None:
        with anyio.fail_after(20):
            while name not in self.events:
                await self._heard.wait()

    def source(self, **more) -> X509Source:
        client = WorkloadApiClient(self.endpoint, timeout=more.pop("answer", 5))
        return X509Source(client, on_event=self.hear, backoff=Backoff(first=0.01, cap=0.05), **more)


@pytest.fixture
async def agent(anyio_backend: str) -> AsyncIterator[Agent]:
    async with Agent() as agent:
        yield agent


async def test_waiting_for_the_identity(agent) -> None:
    """Workload Endpoint §6: PermissionDenied is waited out; every call has the mandatory header."""
    agent.script("FetchX509SVID", NO_IDENTITY)
    agent.script("FetchX509SVID", NO_IDENTITY)
    agent.script("FetchX509SVID", agent.issue(), HOLD)
    async with agent.source() as source:
        assert BILLING == str(source.svid.id)
        assert isinstance(source.health.last_error, NoIdentityIssuedError)
    assert 3 == len(agent.calls) == agent.connections
    assert {"true"} == {call.metadata["workload.spiffe.io"] for call in agent.calls}
    assert 1 == agent.events.count("svid.updated")


@pytest.mark.parametrize(
    ("status", "error"),
    [(Status.INVALID_ARGUMENT, InvalidRequestError), (Status.UNIMPLEMENTED, UnimplementedError)],
)
async def test_statuses_that_waiting_cannot_cure(agent, status, error) -> None:
    """Workload Endpoint §6: one call, one error, no retry."""
    agent.script("FetchX509SVID", Fail(status, "no"))
    with pytest.raises(error):
        await agent.source().open()
    assert 1 == len(agent.calls)


async def test_withdrawn_and_issued_again(agent) -> None:
    """Workload API §4.4: two denials in a row and the grace is over; it comes back by itself."""
    feed = Feed(agent.issue())
    agent.script("FetchX509SVID", feed)
    async with agent.source(grace=0) as source:
        feed.push(NO_IDENTITY)
        await agent.heard("svid.withdrawn")
        with pytest.raises(StaleError):
            _ = source.svid
        feed.push(agent.issue("/renamed"))
        with anyio.fail_after(20):
            await source.wait_updated()
        assert "spiffe://prod.example/renamed" == str(source.svid.id)


async def test_a_broken_message(agent) -> None:
    """Trap: one malformed update closing the source. It is refused and the stream lives on."""
    feed = Feed(agent.issue())
    agent.script("FetchX509SVID", feed)
    async with agent.source() as source:
        held = source.x509_context
        feed.push(b"\xff\xff\xff")
        await agent.heard("svid.refused")
        assert held is source.x509_context
        assert isinstance(source.health.last_error, ProtocolError)
        feed.push(X509SvidResponse())  # its mandatory field is empty (§4.5): discarded, too
        feed.push(agent.issue())
        with anyio.fail_after(20):
            await source.wait_updated()
        assert "fresh" == source.health.state
        assert 1 == agent.connections


@pytest.mark.parametrize("last", [DROP, Fail(Status.UNAVAILABLE, "shutting down"), Fail(Status.INTERNAL, "bug")])
async def test_a_stream_that_breaks(agent, last) -> None:
    """Everything else is retried with a small backoff, while the last known good is served."""
    agent.script("FetchX509SVID", agent.issue(), last)
    agent.script("FetchX509SVID", agent.issue("/newer"), HOLD)
    async with agent.source() as source:
        with anyio.fail_after(20):
            while "spiffe://prod.example/newer" != str(source.svid.id):
                await source.wait_updated()
        await agent.heard("source.recovered")


async def test_a_stream_that_ends_well(agent) -> None:
    """Workload API §4.3: a regular end is no trouble; the stream is opened again at once."""
    agent.script("FetchX509SVID", agent.issue())
    agent.script("FetchX509SVID", agent.issue("/newer"), HOLD)
    async with agent.source() as source:
        with anyio.fail_after(20):
            while "spiffe://prod.example/newer" != str(source.svid.id):
                await source.wait_updated()
        assert "source.unavailable" not in agent.events


async def test_something_else_listens(agent) -> None:
    """A socket of another server is named as such, and the wait goes on."""
    agent.greet_with(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    agent.script("FetchX509SVID", agent.issue(), HOLD)
    source = agent.source()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.open)
        await agent.heard("source.unavailable")
        assert isinstance(source.health.last_error, ProtocolError | UnavailableError)
        agent.greet_with(None)
        with anyio.fail_after(20):
            await source.wait_first_update()
    await source.aclose()


async def test_a_silent_agent(agent) -> None:
    """An agent that accepts and never answers is given up for each attempt, and said."""
    agent.script("FetchX509SVID", HOLD)
    source = agent.source(answer=0.05)
    source.start()
    await agent.heard("source.unavailable")
    assert isinstance(source.health.last_error, UnavailableError)
    with anyio.fail_after(20):
        await source.aclose()


async def test_jwt(agent) -> None:
    """Tokens and bundles over the wire."""
    jwks = agent.authority.jwt_bundle.to_jwks()
    agent.script("FetchJWTBundles", JwtBundlesResponse({"spiffe://prod.example": jwks}), HOLD)

    def issue(call):
        token = agent.authority.issue_jwt_svid(BILLING, "reports")
        return JwtSvidResponse((JwtSvidEntry(BILLING, token),))

    agent.script("FetchJWTSVID", issue)
    async with JwtSource(WorkloadApiClient(agent.endpoint), on_event=agent.hear) as source:
        svid = await source.fetch_jwt_svid("reports")
        assert svid is await source.fetch_jwt_svid("reports")
        assert BILLING == str(source.verify_jwt_svid(svid.token.reveal(), "reports").id)
    assert ["FetchJWTBundles", "FetchJWTSVID"] == [call.method for call in agent.calls]
