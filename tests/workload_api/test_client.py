"""Every call of the Workload API, once and as a stream, against a server that does as it is told."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Any

import anyio
import pytest
from blockbuster import blockbuster_ctx

from spiffe_client import errors
from spiffe_client._grpc import Server, Status
from spiffe_client.bundle import JwtBundle
from spiffe_client.ids import TrustDomain
from spiffe_client.workload_api import Endpoint, Limits, WorkloadApiClient, _rpc
from spiffe_client.workload_api._fields import Message
from spiffe_client.workload_api._jwt_messages import (
    JwtBundlesResponse,
    JwtSvidEntry,
    JwtSvidRequest,
    JwtSvidResponse,
    ValidateJwtSvidRequest,
    ValidateJwtSvidResponse,
)
from spiffe_client.workload_api._messages import Empty, X509BundlesResponse, X509SvidEntry, X509SvidResponse
from tests.support.pki import days, new_authority
from tests.support.scripted_workload_api import (
    DROP,
    HOLD,
    METHODS,
    NO_IDENTITY,
    Fail,
    Feed,
    ScriptedWorkloadApi,
)
from tests.support.tokens import claims_for, ec_key, public_jwk, sign_token

pytestmark = pytest.mark.anyio

A, B = new_authority("a.test"), new_authority("b.test")
ORDERS, BILLING = "spiffe://a.test/orders", "spiffe://a.test/billing"
PEER = "spiffe://a.test/peer"
JWKS = json.dumps({"keys": [public_jwk(ec_key())]}).encode()
TOKEN = sign_token(ec_key(), "ES256", claims_for(sub=PEER, exp=int(days(1).timestamp())))


def identity(spiffe_id: str = ORDERS) -> X509SvidResponse:
    leaf = A.leaf(spiffe_id)
    entry = X509SvidEntry(spiffe_id, b"".join(leaf.ders), leaf.key_der, A.bundle().to_der())
    return X509SvidResponse(svids=(entry,))


X509 = identity()
X509_BUNDLES = X509BundlesResponse((), {"spiffe://a.test": A.bundle().to_der()})
JWT = JwtSvidResponse((JwtSvidEntry(PEER, TOKEN),))
JWT_BUNDLES = JwtBundlesResponse({"spiffe://a.test": JWKS})
VALIDATED = ValidateJwtSvidResponse(PEER, {"sub": PEER, "aud": ["orders"]})

Call = Callable[[WorkloadApiClient], Awaitable[Any]]

#: One-shot calls: method, call, a good answer.
ONCE: dict[str, tuple[Call, Message]] = {
    "FetchX509SVID": (lambda client: client.fetch_x509_context(), X509),
    "FetchX509Bundles": (lambda client: client.fetch_x509_bundles(), X509_BUNDLES),
    "FetchJWTSVID": (lambda client: client.fetch_jwt_svids("orders"), JWT),
    "FetchJWTBundles": (lambda client: client.fetch_jwt_bundles(), JWT_BUNDLES),
    "ValidateJWTSVID": (lambda client: client.validate_jwt_svid(TOKEN, audience="orders"), VALIDATED),
}

#: Streams: method, how to open it, a good message, one that is of no use.
STREAMS: dict[str, tuple[Callable[..., Any], Message, Message]] = {
    "FetchX509SVID": (WorkloadApiClient.watch_x509_contexts, X509, X509SvidResponse()),
    "FetchX509Bundles": (WorkloadApiClient.watch_x509_bundles, X509_BUNDLES, X509BundlesResponse()),
    "FetchJWTBundles": (WorkloadApiClient.watch_jwt_bundles, JWT_BUNDLES, JwtBundlesResponse()),
}

every_call = pytest.mark.parametrize("method", ONCE)
every_stream = pytest.mark.parametrize("method", STREAMS)


class Now:
    """A clock that stands still."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the client does not wait by itself")


@pytest.fixture
def client(api: ScriptedWorkloadApi) -> WorkloadApiClient:
    return WorkloadApiClient(api.endpoint, clock=Now(days(0)))


def chain_of(error: BaseException | None) -> list[BaseException]:
    """An error and all that a traceback would show with it."""
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


class TestConstruction:
    def test_no_io(self) -> None:
        """A constructor that blocks for ever was a trap: this one only looks at the address."""
        assert Endpoint("unix", path="/nobody/here") == WorkloadApiClient("unix:/nobody/here").endpoint
        assert Endpoint("tcp", host="::1", port=1) == WorkloadApiClient(Endpoint("tcp", host="::1", port=1)).endpoint

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Workload Endpoint §4: without an address the environment variable is used."""
        monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", "unix:/from/environment")

        assert "unix:///from/environment" == str(WorkloadApiClient().endpoint)
        assert "unix:///in/code" == str(WorkloadApiClient("unix:/in/code").endpoint)

    @pytest.mark.parametrize("address", ["", "/run/agent.sock", "tcp://localhost:1"])
    def test_malformed_address(self, address: str) -> None:
        """A malformed address is reported at once, and an empty one is not `not given`."""
        with pytest.raises(errors.EndpointError):
            WorkloadApiClient(address)

    def test_no_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No address anywhere is reported at once too."""
        monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
        with pytest.raises(errors.EndpointError, match="SPIFFE_ENDPOINT_SOCKET is not set"):
            WorkloadApiClient()


class TestEveryCall:
    @every_call
    async def test_header_and_path(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str) -> None:
        """Workload Endpoint §3: the header, which this server insists on. Workload API §3: no package."""
        call, answer = ONCE[method]
        api.script(method, answer)

        await call(client)

        [made] = api.calls
        assert (method, "true") == (made.method, made.metadata["workload.spiffe.io"])

    @every_call
    async def test_without_the_header(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The header was forgotten by other clients: this server would notice."""
        call, answer = ONCE[method]
        api.script(method, answer)
        monkeypatch.setattr(_rpc, "_METADATA", ())

        with pytest.raises(errors.SpiffeError, match="security header missing"):
            await call(client)

    @every_call
    @pytest.mark.parametrize(
        ("status", "kind", "retryable"),
        [
            (Status.INVALID_ARGUMENT, errors.InvalidRequestError, False),
            (Status.UNIMPLEMENTED, errors.UnimplementedError, False),
            (Status.UNAVAILABLE, errors.UnavailableError, True),
            (Status.DEADLINE_EXCEEDED, errors.UnavailableError, True),
            (Status.PERMISSION_DENIED, errors.AccessDeniedError, True),
            (Status.INTERNAL, errors.UnexpectedStatusError, True),
            (Status.UNKNOWN, errors.UnexpectedStatusError, True),
            (Status.RESOURCE_EXHAUSTED, errors.UnexpectedStatusError, True),
            (Status.UNAUTHENTICATED, errors.UnexpectedStatusError, True),
            (77, errors.UnexpectedStatusError, True),
        ],
    )
    async def test_statuses(
        self,
        api: ScriptedWorkloadApi,
        client: WorkloadApiClient,
        method: str,
        status: Status | int,
        kind: type[errors.SpiffeError],
        retryable: bool,
    ) -> None:
        """Workload Endpoint §6, appendix A: what each status means, and whether to ask again."""
        if (method, status) == ("ValidateJWTSVID", Status.INVALID_ARGUMENT):
            kind = errors.JwtSvidError  # Workload API §6.2.3: the only thing left that can be wrong
        call, _ = ONCE[method]
        api.script(method, Fail(status, "in the server's words"))

        with pytest.raises(kind, match=f"{method}: in the server's words|in the server's words") as e:
            await call(client)

        assert (kind, retryable) == (type(e.value), e.value.retryable)
        assert 1 == len(api.calls)  # nothing is retried here

    @every_call
    async def test_no_identity_issued(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str) -> None:
        """Workload Endpoint §6: PermissionDenied is not swallowed: no identity is issued (yet)."""
        call, _ = ONCE[method]
        api.script(method, NO_IDENTITY)

        with pytest.raises(errors.NoIdentityIssuedError, match="does a registration match it") as e:
            await call(client)

        assert errors.NoIdentityIssuedError is type(e.value)

    @every_call
    async def test_unexpected_status_is_named(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str
    ) -> None:
        """A status without a meaning here keeps its name, for programs too."""
        call, _ = ONCE[method]
        api.script(method, Fail(Status.DATA_LOSS))

        with pytest.raises(errors.UnexpectedStatusError, match=f"DATA_LOSS: {method}: no details") as e:
            await call(client)

        assert "DATA_LOSS" == e.value.status

    @every_call
    async def test_connection_dropped(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str) -> None:
        """A connection that breaks before the answer is `broken_off`."""
        call, _ = ONCE[method]
        api.script(method, DROP)

        with pytest.raises(errors.UnavailableError) as e:
            await call(client)

        assert "broken_off" == e.value.cause_kind

    @every_call
    async def test_no_answer_in_time(self, api: ScriptedWorkloadApi, method: str) -> None:
        """A server that says nothing costs no more than the timeout."""
        call, _ = ONCE[method]
        api.script(method, HOLD)

        with pytest.raises(errors.UnavailableError):
            await call(WorkloadApiClient(api.endpoint, timeout=0.05))

    @every_call
    @pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x01\x00\x05", b"x" * 100])
    async def test_no_grpc(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str, greeting: bytes
    ) -> None:
        """Something else that listens there is not waited for until the timeout."""
        call, _ = ONCE[method]
        api.greet_with(greeting)

        with pytest.raises((errors.ProtocolError, errors.UnavailableError)):
            await call(client)

    @every_call
    @pytest.mark.parametrize("message", [b"\xff", b"\x0a\x05ab", b"\x08"])
    async def test_malformed_message(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str, message: bytes
    ) -> None:
        """A one-shot call raises on what it cannot read."""
        call, _ = ONCE[method]
        api.script(method, message)

        with pytest.raises(errors.ProtocolError):
            await call(client)

    @every_call
    async def test_empty_message(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str) -> None:
        """Workload API §4.5: an empty answer lacks its mandatory field."""
        call, _ = ONCE[method]
        api.script(method, b"")

        with pytest.raises(errors.ProtocolError, match="mandatory|no bundle"):
            await call(client)

    @every_call
    async def test_oversized_message(self, api: ScriptedWorkloadApi, method: str) -> None:
        """A message over the limit is refused before it is read."""
        call, answer = ONCE[method]
        api.script(method, answer)

        with pytest.raises(errors.ProtocolError, match="40"):
            await call(WorkloadApiClient(api.endpoint, limits=Limits(message=40)))

    @pytest.mark.parametrize("method", STREAMS)
    async def test_stream_ends_without_an_answer(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str
    ) -> None:
        """Workload API §4.3: the first response has to come; a stream without one is no answer."""
        call, _ = ONCE[method]
        api.script(method)

        with pytest.raises(errors.UnavailableError, match=f"{method}: .* ended the stream without an answer"):
            await call(client)

    @pytest.mark.parametrize("method", STREAMS)
    async def test_one_message_is_enough(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str
    ) -> None:
        """A one-shot call takes the first message of the stream and leaves."""
        call, answer = ONCE[method]
        api.script(method, answer, HOLD)

        await call(client)
        await api.until(lambda: not api.open_calls)

        assert 1 == api.connections

    @every_call
    async def test_request_is_well_formed(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str
    ) -> None:
        """Requests without fields are empty messages."""
        call, answer = ONCE[method]
        api.script(method, answer)

        await call(client)

        expected: dict[str, Message] = {
            "FetchJWTSVID": JwtSvidRequest(("orders",)),
            "ValidateJWTSVID": ValidateJwtSvidRequest("orders", TOKEN),
        }
        assert expected.get(method, Empty()).encode() == api.calls[0].request


    @every_call
    async def test_nothing_blocks(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str) -> None:
        """Blocking calls inside of async code were a trap: nothing of ours makes any."""
        call, answer = ONCE[method]
        api.script(method, answer)

        with blockbuster_ctx("spiffe_client"):
            await call(client)

    @every_call
    async def test_over_tcp(self, method: str) -> None:
        """Workload Endpoint §3, §3.1: TCP serves as well as a unix socket, and TLS is not required."""
        call, answer = ONCE[method]

        async def handler(_: Any) -> AsyncIterator[bytes]:
            yield answer.encode()

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        server: Server[None] = Server({f"/SpiffeWorkloadAPI/{method}": handler})
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, lambda stream: server.serve_connection(stream, None))
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            assert await call(WorkloadApiClient(f"tcp://127.0.0.1:{port}", clock=Now(days(0))))
            tasks.cancel_scope.cancel()


class TestEveryStream:
    @every_stream
    async def test_follows(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str) -> None:
        """Workload API §4.2: the stream is kept open and each message is taken as it comes."""
        watch, message, _ = STREAMS[method]
        feed = Feed(message)
        api.script(method, feed)

        async with watch(client, refused=pytest.fail) as values:
            for _ in range(3):
                assert await anext(values)
                feed.push(message)
        await api.until(lambda: not api.open_calls)

        [made] = api.calls
        assert (1, "true") == (api.connections, made.metadata["workload.spiffe.io"])

    @every_stream
    async def test_survives_bad_messages(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str
    ) -> None:
        """One malformed update closed sources of other clients for good: here it is reported and skipped."""
        watch, good, useless = STREAMS[method]
        refused: list[errors.SpiffeError] = []
        api.script(method, good, b"\xff", useless, good)

        async with watch(client, refused=refused.append) as values:
            taken = [value async for value in values]

        assert 2 == len(taken)
        assert [errors.ProtocolError] * 2 == [type(error) for error in refused]

    @every_stream
    async def test_ends_with_the_server(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str
    ) -> None:
        """Workload API §4.2: a stream that the server ends just ends; there is no reconnecting here."""
        watch, good, _ = STREAMS[method]
        api.script(method, good)

        async with watch(client, refused=pytest.fail) as values:
            assert 1 == len([value async for value in values])

        assert 1 == api.connections

    @every_stream
    async def test_withdrawn(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str) -> None:
        """Workload API §5.2.1: PermissionDenied in a stream is told, not swallowed."""
        watch, good, _ = STREAMS[method]
        feed = Feed(good)
        api.script(method, feed)

        async with watch(client, refused=pytest.fail) as values:
            await anext(values)
            feed.push(NO_IDENTITY)
            with pytest.raises(errors.NoIdentityIssuedError):
                await anext(values)

    @every_stream
    async def test_dropped(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str) -> None:
        """A connection that breaks is not taken for an end."""
        watch, good, _ = STREAMS[method]
        api.script(method, good, DROP)

        async with watch(client, refused=pytest.fail) as values:
            await anext(values)
            with pytest.raises(errors.UnavailableError):
                await anext(values)

    @every_stream
    async def test_agent_stops(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str) -> None:
        """An agent that is killed ends the stream, and is `missing` or `refused` afterwards."""
        watch, good, _ = STREAMS[method]
        api.script(method, Feed(good))

        async with watch(client, refused=pytest.fail) as values:
            await anext(values)
            await api.stop(unlink=False)
            with pytest.raises(errors.UnavailableError):
                await anext(values)
        with pytest.raises(errors.UnavailableError) as e:
            await watch(client, refused=pytest.fail).__aenter__()

        assert "refused" == e.value.cause_kind

    @every_stream
    async def test_first_message_late(self, api: ScriptedWorkloadApi, method: str) -> None:
        """The timeout holds for the first message."""
        watch, _, _ = STREAMS[method]
        api.script(method, HOLD)
        client = WorkloadApiClient(api.endpoint, timeout=0.05)

        async with watch(client, refused=pytest.fail) as values:
            with pytest.raises(errors.UnavailableError):
                await anext(values)

    @every_stream
    async def test_further_messages_take_their_time(self, api: ScriptedWorkloadApi, method: str) -> None:
        """The timeout does not hold for later ones: an SVID may live for hours."""
        watch, good, _ = STREAMS[method]
        feed = Feed(good)
        api.script(method, feed)
        client = WorkloadApiClient(api.endpoint, timeout=20)

        async with watch(client, refused=pytest.fail) as values:
            await anext(values)
            values._stream._deadline = anyio.current_time() - 1  # as if the 20 s were over
            with anyio.move_on_after(0.05) as waited:
                await anext(values)
            feed.push(good)
            assert waited.cancelled_caught
            assert await anext(values)

    @every_stream
    async def test_error_in_the_block(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str) -> None:
        """A user's KeyError arrives as a KeyError, and the connection is closed."""
        watch, good, _ = STREAMS[method]
        api.script(method, Feed(good))

        with pytest.raises(KeyError):
            async with watch(client, refused=pytest.fail) as values:
                async for _ in values:
                    raise KeyError("theirs")
        await api.until(lambda: not api.open_calls)

    @every_stream
    async def test_cancelled(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, method: str) -> None:
        """Cancelling who waits closes the connection at once."""
        watch, good, _ = STREAMS[method]
        api.script(method, Feed(good))

        async def follow() -> None:
            async with watch(client, refused=pytest.fail) as values:
                async for _ in values:
                    pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await api.until(lambda: bool(api.open_calls))
            tasks.cancel_scope.cancel()
        await api.until(lambda: not api.open_calls)

    @every_stream
    async def test_oversized_message(self, api: ScriptedWorkloadApi, method: str) -> None:
        """A message over the limit breaks the stream: where the next one begins is not known."""
        watch, good, _ = STREAMS[method]
        api.script(method, good)
        client = WorkloadApiClient(api.endpoint, limits=Limits(message=40))

        async with watch(client, refused=pytest.fail) as values:
            with pytest.raises(errors.ProtocolError):
                await anext(values)


class TestX509:
    async def test_context(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload API §5.2.1: identities and bundles, checked."""
        api.script("FetchX509SVID", X509)

        context = await client.fetch_x509_context()

        assert (ORDERS, A.bundle()) == (str(context.svid.id), context.bundles[TrustDomain("a.test")])

    async def test_each_message_replaces_all_before(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient
    ) -> None:
        """Workload API §4.4: what is not in a message any more is redacted."""
        federated = {"spiffe://b.test": B.bundle().to_der()}
        api.script("FetchX509SVID", replace(X509, crl=(b"crl",), federated_bundles=federated), identity(BILLING))

        async with client.watch_x509_contexts(refused=pytest.fail) as contexts:
            first, second = [context async for context in contexts]

        assert ([ORDERS], 2, (b"crl",)) == ([str(s.id) for s in first.svids], len(first.bundles), first.crls)
        assert ([BILLING], 1, ()) == ([str(s.id) for s in second.svids], len(second.bundles), second.crls)

    async def test_bad_federated_bundle(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A bad federated bundle costs only itself, in a stream and in a single call, where it is logged."""
        bad = replace(X509, federated_bundles={"spiffe://b.test": b"bad"})
        api.script("FetchX509SVID", bad)
        refused: list[errors.SpiffeError] = []

        async with client.watch_x509_contexts(refused=refused.append) as contexts:
            followed = await anext(contexts)
        with caplog.at_level(logging.WARNING, logger="spiffe_client"):
            fetched = await client.fetch_x509_context()
        told = await client.fetch_x509_context(refused=refused.append)

        assert [[TrustDomain("a.test")]] * 3 == [list(context.bundles) for context in (followed, fetched, told)]
        assert [errors.BundleError] * 2 == [type(error) for error in refused]
        assert [f"bundle.refused: {refused[0]}"] == [record.getMessage() for record in caplog.records]

    async def test_bad_svid(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """A bad SVID costs the message: a single call raises, a stream reports it and goes on."""
        bad = X509SvidResponse(svids=(replace(X509.svids[0], spiffe_id=BILLING),))
        api.script("FetchX509SVID", bad, X509)
        refused: list[errors.SpiffeError] = []

        with pytest.raises(errors.X509SvidError, match=f"the certificate is of {ORDERS}"):
            await client.fetch_x509_context()
        async with client.watch_x509_contexts(refused=refused.append) as contexts:
            assert 1 == len([context async for context in contexts])

        assert [errors.X509SvidError] == [type(error) for error in refused]

    async def test_expired_by_the_clock(self, api: ScriptedWorkloadApi) -> None:
        """Expired SVIDs were handed out: here the clock decides when the message comes."""
        api.script("FetchX509SVID", X509)
        clock = Now(days(0))
        client = WorkloadApiClient(api.endpoint, clock=clock)
        await client.fetch_x509_context()
        clock.at = days(2)

        with pytest.raises(errors.X509SvidError):
            await client.fetch_x509_context()

    async def test_bundles(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload API §5.2.2: bundles for X509-SVIDs, of the type that verifies nothing else."""
        api.script("FetchX509Bundles", X509_BUNDLES)

        assert {TrustDomain("a.test"): A.bundle()} == dict(await client.fetch_x509_bundles())

    async def test_bundles_logged_and_told(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What is left out of bundles is logged, or told to who asks."""
        bundles = {**X509_BUNDLES.bundles, "spiffe://b.test": b"bad"}
        api.script("FetchX509Bundles", X509BundlesResponse((), bundles))
        refused: list[errors.SpiffeError] = []

        await client.fetch_x509_bundles()
        await client.fetch_x509_bundles(refused=refused.append)

        assert [f"bundle.refused: {refused[0]}"] == [record.getMessage() for record in caplog.records]


class TestJwt:
    async def test_svids(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload API §6.2.1: audience and subject go out unchanged, tokens come back."""
        api.script("FetchJWTSVID", JWT)

        [svid] = await client.fetch_jwt_svids(["orders"], subject=PEER)

        assert TOKEN == svid.token.reveal()
        assert JwtSvidRequest(("orders",), PEER) == JwtSvidRequest.decode(api.calls[0].request)

    @pytest.mark.parametrize("audience", ["", [], ["orders", ""]])
    async def test_empty_audience(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, audience: str | list[str]
    ) -> None:
        """JWT-SVID §3.2: an empty audience is the caller's mistake; nothing is sent."""
        with pytest.raises(errors.InvalidAudienceError):
            await client.fetch_jwt_svids(audience)

        assert 0 == api.connections

    async def test_bundles(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload API §6.2.2: JWK Sets by trust domain, of the type that verifies JWT-SVIDs only."""
        api.script("FetchJWTBundles", JWT_BUNDLES)

        bundles = await client.fetch_jwt_bundles()

        assert JwtBundle is type(bundles[TrustDomain("a.test")])
        assert ["one"] == [a.key_id for a in bundles[TrustDomain("a.test")].authorities]

    async def test_bundles_told(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """What is left out of bundles is told to who asks."""
        api.script("FetchJWTBundles", JwtBundlesResponse({**JWT_BUNDLES.bundles, "spiffe://b.test": b"bad"}))
        refused: list[errors.SpiffeError] = []

        await client.fetch_jwt_bundles(refused=refused.append)

        assert [errors.BundleError] == [type(error) for error in refused]

    async def test_validate(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload API §6.2.3: ID and claims of a token that the Workload API accepts."""
        api.script("ValidateJWTSVID", VALIDATED)

        validated = await client.validate_jwt_svid(TOKEN, audience="orders")

        assert (PEER, {"sub": PEER, "aud": ["orders"]}) == (str(validated.id), dict(validated.claims))

    @pytest.mark.parametrize(("token", "audience"), [("", "orders"), (TOKEN, ""), (TOKEN, ["orders"]), ("\ud800", "x")])
    async def test_validate_nothing(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient, token: str, audience: str
    ) -> None:
        """JWT-SVID §3.2: an empty expected audience is a mistake, not "skip the check"; nothing is sent."""
        kind = errors.InvalidAudienceError if token == TOKEN else errors.InvalidRequestError
        with pytest.raises(kind):
            await client.validate_jwt_svid(token, audience=audience)

        assert 0 == api.connections

    async def test_quoted_token_cut_short(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """A quoted token that details have no room for shows no piece of itself."""
        api.script("ValidateJWTSVID", Fail(Status.INTERNAL, "x" * (1024 - len(TOKEN) + 30) + TOKEN))
        with pytest.raises(errors.SpiffeError) as e:
            await client.validate_jwt_svid(TOKEN, audience="orders")
        assert not [at for at in range(len(TOKEN) - 16) if TOKEN[at : at + 16] in str(e.value)]

    async def test_subject_not_issued(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Workload Endpoint §6: the error names whom the token was asked for."""
        api.script("FetchJWTSVID", NO_IDENTITY)
        with pytest.raises(errors.NoIdentityIssuedError, match=f"^{PEER} is not issued to this process"):
            await client.fetch_jwt_svids("orders", subject=PEER)
        with pytest.raises(errors.NoIdentityIssuedError, match="^no identity is issued"):
            await client.fetch_jwt_svids("orders")

    @pytest.mark.parametrize(
        "status", [Status.INVALID_ARGUMENT, Status.INTERNAL, Status.UNAVAILABLE, Status.PERMISSION_DENIED]
    )
    async def test_quoted_token(self, api: ScriptedWorkloadApi, client: WorkloadApiClient, status: Status) -> None:
        """A server that quotes the token does not make it appear in an error, nor its signature alone."""
        signature = TOKEN.rpartition(".")[2]
        api.script("ValidateJWTSVID", Fail(status, f"bad token {TOKEN}, its signature {signature} is off"))

        with pytest.raises(errors.SpiffeError, match="bad token …, its signature … is off") as e:
            await client.validate_jwt_svid(TOKEN, audience="orders")

        assert not any(signature in f"{error!r} {error}" for error in chain_of(e.value))

    async def test_quoted_rubbish(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """What is too short to be a token is no secret, and the server's words stay readable."""
        api.script("ValidateJWTSVID", Fail(Status.INVALID_ARGUMENT, "a token has three parts"))

        with pytest.raises(errors.JwtSvidError, match="INVALID_ARGUMENT: a token has three parts"):
            await client.validate_jwt_svid("a", audience="orders")


class TestConcurrency:
    async def test_many_calls_at_once(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """A client holds no state between calls: any number may run at the same time."""
        for method, (_, answer) in ONCE.items():
            api.script(method, answer)

        async with anyio.create_task_group() as tasks:
            for call, _ in [*ONCE.values()] * 4:
                tasks.start_soon(call, client)

        assert 4 * len(ONCE) == api.connections == len(api.calls)

    async def test_slow_reader(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """Who reads late gets everything in its order."""
        api.script("FetchX509SVID", *[identity(f"spiffe://a.test/n{n}") for n in range(5)])

        async with client.watch_x509_contexts(refused=pytest.fail) as contexts:
            await api.until(lambda: not api.open_calls)
            assert [f"/n{n}" for n in range(5)] == [c.svid.id.path async for c in contexts]


class TestScriptedWorkloadApi:
    """The scripted server is shared by other tests, so that it has to keep what it promises."""

    async def test_scripts_are_used_in_their_order(
        self, api: ScriptedWorkloadApi, client: WorkloadApiClient
    ) -> None:
        """One script for each call, the last one stays, `rescript` forgets them."""
        api.script("FetchX509SVID", NO_IDENTITY)
        api.script("FetchX509SVID", lambda call: identity(BILLING) if call.method else HOLD)
        with pytest.raises(errors.NoIdentityIssuedError):
            await client.fetch_x509_context()
        for _ in range(2):
            assert BILLING == str((await client.fetch_x509_context()).svid.id)
        api.rescript("FetchX509SVID", Fail(Status.UNAVAILABLE))
        with pytest.raises(errors.UnavailableError) as e:
            await client.fetch_x509_context()

        assert "answered" == e.value.cause_kind

    async def test_events_hold_an_answer_back(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """An event in a script is waited for."""
        go = anyio.Event()
        api.script("FetchX509SVID", go, X509)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.fetch_x509_context)
            await api.until(lambda: bool(api.calls))
            assert ["FetchX509SVID"] == api.open_calls
            go.set()

    async def test_stops_and_starts(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """An agent that is away is missing, and back when it is."""
        api.script("FetchX509SVID", X509)
        await api.stop()
        with pytest.raises(errors.UnavailableError) as e:
            await client.fetch_x509_context()
        await api.start()
        await client.fetch_x509_context()

        assert "missing" == e.value.cause_kind

    async def test_unscripted(self, api: ScriptedWorkloadApi, client: WorkloadApiClient) -> None:
        """A call without a script says so."""
        for method in METHODS[:5]:
            with pytest.raises(errors.UnimplementedError, match=f"no script for {method}"):
                await ONCE[method][0](client)

    async def test_late_follower_begins_with_the_latest(self) -> None:
        """A feed is a state, not a history."""
        feed = Feed(b"old", b"new")

        async with aclosing(feed.follow()) as steps:
            assert b"new" == await anext(steps)
