"""The kill switch and TLS: connections of a stopped workload carry nothing more, in both roles."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import ExitStack

import anyio
import httpx
import pytest

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.authorize import custom
from spiffe_client.errors import IdentityUnavailableError, StoppedError, find
from spiffe_client.http import AsyncSpiffeTransport, SpiffeTransport
from spiffe_client.sources import X509Source
from spiffe_client.tls import SpiffeTls
from tests.support.fake_workload_api import FakeWorkloadApi
from tests.support.shop import Hold, shop_app
from tests.support.web_servers import serve_uvicorn

pytestmark = pytest.mark.anyio

ANYBODY = custom("anybody", lambda peer: True)


@pytest.fixture
def api() -> FakeWorkloadApi:
    api = FakeWorkloadApi(SYSTEM_CLOCK)
    api.x509.greeting = [api.context("/billing")]
    return api


@pytest.fixture
def hold() -> Hold:
    return Hold()


@pytest.fixture
def url(api, hold):
    """A server of the same trust domain, which is not stopped."""
    tls = SpiffeTls(api.context("/orders"), ANYBODY)
    with ExitStack() as running:
        port = running.enter_context(serve_uvicorn(shop_app(hold), tls.server_context()))
        yield f"https://127.0.0.1:{port}"
        hold.go_on.set()


def stop_in_thread(source: X509Source) -> None:
    """Stop it while this thread, and so the event loop, stands still."""
    thread = threading.Thread(target=source.stop, args=("compromised",))
    thread.start()
    thread.join()


async def test_pooled_connection_is_cut_before_stop_returns(api, url) -> None:
    """An idle connection of another thread's pool is hung up by the stopping thread itself."""
    async with X509Source(api) as source:
        transport = AsyncSpiffeTransport(SpiffeTls(source, ANYBODY))
        async with httpx.AsyncClient(transport=transport) as client:
            stream = (await client.get(url)).extensions["network_stream"]
            assert stream.get_extra_info("is_readable") is False
            stop_in_thread(source)
            assert stream.get_extra_info("is_readable") is True  # the end of it
            with pytest.raises(httpx.ConnectError, match="compromised") as e:
                await client.get(url)
        assert find(e.value, StoppedError) is not None


async def test_long_response_is_cut(api, url, hold) -> None:
    """A reader that waits for the rest of a response fails at once, and says why."""
    async with X509Source(api) as source:
        transport = AsyncSpiffeTransport(SpiffeTls(source, ANYBODY))
        async with (
            httpx.AsyncClient(transport=transport) as client,
            client.stream("GET", f"{url}/hold") as response,
            anyio.create_task_group() as tasks,
        ):

            async def read() -> None:
                with pytest.raises(httpx.ReadError, match="compromised"):
                    await response.aread()

            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            stop_in_thread(source)


async def test_blocking_client_is_cut(api, url, hold) -> None:
    """So does one that blocks in a thread of its own."""
    failures: list[BaseException] = []
    reading = threading.Event()

    def call(transport: SpiffeTransport) -> None:
        with httpx.Client(transport=transport) as client, client.stream("GET", f"{url}/hold") as response:
            try:
                for _ in response.iter_raw():
                    reading.set()
            except httpx.ReadError as error:
                failures.append(error)

    async with X509Source(api) as source, anyio.create_task_group() as tasks:
        transport = SpiffeTransport(SpiffeTls(source, ANYBODY))
        tasks.start_soon(anyio.to_thread.run_sync, call, transport)
        await anyio.to_thread.run_sync(reading.wait, 10)
        source.stop("compromised")
    assert ["compromised"] == [e.reason for failure in failures if (e := find(failure, StoppedError))]


async def test_server_hears_nothing_more(api) -> None:
    """A connection that was accepted before yields no byte that came after; new ones are refused."""
    async with X509Source(api) as source:
        tls = SpiffeTls(source, ANYBODY)
        source.after_publish(tls.release)
        client_tls = SpiffeTls(api.context("/web"), ANYBODY).client_context()
        outcome = await anyio.to_thread.run_sync(_talk, tls.server_context(), client_tls, source)
        assert b"before" == outcome[0]
        assert all(isinstance(error, IdentityUnavailableError) for error in outcome[1:])
        assert ["StoppedError"] * 2 == [type(error.__cause__).__name__ for error in outcome[1:]]
        assert (None, None) == (tls._generations._current, tls._generations._prepared)


async def test_key_that_is_being_prepared(api) -> None:
    """What an update prepares while the source is stopped is not kept."""
    source = X509Source(api)
    tls = SpiffeTls(source, ANYBODY)
    facade = tls.client_context()
    tls.prepare(api.context("/billing"))
    assert None is not tls._generations._prepared
    source.stop("compromised")
    tls.prepare(api.context("/billing"))
    assert None is tls._generations._prepared
    del facade


def _talk(server: ssl.SSLContext, client: ssl.SSLContext, source: X509Source) -> list[object]:
    outcome: list[object] = []
    ours, theirs = socket.socketpair()
    spoken = threading.Event()
    speaker = threading.Thread(target=_speak, args=(client, theirs, spoken))
    speaker.start()
    with server.wrap_socket(ours, server_side=True) as accepted:
        assert spoken.wait(10)  # all of it is there, and only the first record is read
        outcome.append(accepted.recv(100))
        source.stop("compromised")
        try:
            accepted.recv(100)
        except ssl.SSLError as error:
            outcome.append(error)
    speaker.join()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            server.wrap_socket(ours, server_side=True)
        except ssl.SSLError as error:
            outcome.append(error)
    return outcome


def _speak(context: ssl.SSLContext, raw: socket.socket, spoken: threading.Event) -> None:
    with context.wrap_socket(raw) as connection:
        connection.sendall(b"before")
        connection.sendall(b"after")
        spoken.set()
