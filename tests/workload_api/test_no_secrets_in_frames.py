"""What a crash reporter would print of a failed call: no message, key or token in any frame."""

from __future__ import annotations

import anyio
import pytest

from spiffe_client._grpc import Status
from spiffe_client.errors import ProtocolError, SpiffeError, UnavailableError
from spiffe_client.workload_api import WorkloadApiClient
from spiffe_client.workload_api._jwt_messages import JwtSvidEntry, JwtSvidResponse
from spiffe_client.workload_api._messages import X509SvidEntry, X509SvidResponse
from tests.support.canary import assert_no_secret
from tests.support.pki import days, new_authority
from tests.support.scripted_workload_api import HOLD, Fail, ScriptedWorkloadApi
from tests.support.tokens import claims_for, ec_key, sign_token

pytestmark = pytest.mark.anyio

A = new_authority("a.test")
ONE, OTHER = A.leaf("spiffe://a.test/one"), A.leaf("spiffe://a.test/other")
TOKEN = sign_token(ec_key(), "ES256", claims_for(exp=int(days(1).timestamp())))


def identity(key: bytes, bundle: bytes = A.bundle().to_der()) -> X509SvidResponse:
    return X509SvidResponse((X509SvidEntry("spiffe://a.test/one", b"".join(ONE.ders), key, bundle),))


BAD = {
    "another's key": identity(OTHER.key_der),
    "malformed key": identity(OTHER.key_der[:-3]),
    "own bundle": identity(OTHER.key_der, b"bad"),
    "no bundle": identity(OTHER.key_der, b""),
}


@pytest.mark.parametrize("case", BAD)
async def test_x509_message(api: ScriptedWorkloadApi, case: str) -> None:
    """Once and as a stream: raised, or told to who watches."""
    client = WorkloadApiClient(api.endpoint)
    api.script("FetchX509SVID", BAD[case])
    with pytest.raises(SpiffeError) as e:
        await client.fetch_x509_context()
    assert_no_secret(e.value, OTHER.key_der)

    told: list[SpiffeError] = []
    async with client.watch_x509_contexts(refused=told.append) as contexts:
        with pytest.raises(StopAsyncIteration):
            await anext(contexts)
    [error] = told
    assert_no_secret(error, OTHER.key_der)


async def test_a_message_that_the_decoder_refuses(api: ScriptedWorkloadApi) -> None:
    """A key in a field that is cut short."""
    from spiffe_client.workload_api._x509 import read_x509_context

    with pytest.raises(ProtocolError) as e:
        read_x509_context(identity(OTHER.key_der).encode()[:-9], at=days(0), refused=print)
    assert_no_secret(e.value, OTHER.key_der)


async def test_tokens(api: ScriptedWorkloadApi) -> None:
    """A token that is not what was asked for, and one that is not accepted."""
    client = WorkloadApiClient(api.endpoint)
    api.script("FetchJWTSVID", JwtSvidResponse((JwtSvidEntry("spiffe://a.test/other", TOKEN),)))
    api.script("ValidateJWTSVID", Fail(Status.INVALID_ARGUMENT, f"bad token {TOKEN}"))
    with pytest.raises(SpiffeError) as e:
        await client.fetch_jwt_svids("orders")
    assert_no_secret(e.value, TOKEN)
    with pytest.raises(SpiffeError) as e:
        await client.validate_jwt_svid(TOKEN, audience="orders")
    assert_no_secret(e.value, TOKEN)


class TestAddress:
    async def test_no_answer(self, api: ScriptedWorkloadApi) -> None:
        """Whoever reads the error knows which socket to look at."""
        api.script("FetchJWTSVID", HOLD)
        api.script("FetchX509SVID", HOLD)
        client = WorkloadApiClient(api.endpoint, timeout=0.05)
        for call in (client.fetch_jwt_svids("a"), client.fetch_x509_context()):
            with pytest.raises(UnavailableError) as e:
                await call
            assert str(client.endpoint) in str(e.value)
            assert "timed_out" == e.value.cause_kind

    async def test_no_http2(self) -> None:
        """Something else listens there."""

        async def web(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, web)
            client = WorkloadApiClient(f"tcp://127.0.0.1:{port}")
            with pytest.raises(ProtocolError, match=f"^tcp://127.0.0.1:{port}: .*HTTP/2"):
                await client.fetch_x509_context()
            tasks.cancel_scope.cancel()
