"""A client without a workload opens an identity of its own, and closes it with itself."""

from __future__ import annotations

from functools import partial

import anyio
import httpx
import pytest

from spiffe_client.audit import Event
from spiffe_client.dev import DevTrustDomain
from spiffe_client.errors import FirstUpdateTimeoutError, SourceClosedError, SourceError, find
from spiffe_client.http import AsyncClient, Client
from spiffe_client.sources import X509Source
from spiffe_client.workload_api import Endpoint, WorkloadApiClient
from tests.support.shop import SHOP, WEB, shop_app

pytestmark = pytest.mark.anyio


@pytest.fixture
async def dev(shop):
    """A Workload API that gives everybody the identity of the shop's customer."""
    async with DevTrustDomain("shop.test") as dev:
        dev.ca = dev._issuer.ca = shop.ca
        yield dev


@pytest.fixture
def open_client(face, dev):
    def open_client(**options):
        options.setdefault("endpoint", dev.endpoint)
        kind = AsyncClient if face.is_async else Client
        return face(kind(peer=SHOP, **options))

    return open_client


@pytest.fixture
def url(stage):
    return stage.serve(SHOP, shop_app(), http2=False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources wait for the first SVID no time at all."""
    monkeypatch.setattr("spiffe_client.sources.X509Source", partial(X509Source, timeout=0.01))


def source_of(client):
    return client.client._own_identity.source


class TestOpening:
    async def test_on_entering(self, open_client, dev, url) -> None:
        """`async with` waits for the first SVID."""
        dev.register(WEB, any=True)
        async with open_client() as client:
            assert WEB == str(source_of(client).svid.id)
            assert 200 == (await client.get(url)).status_code

        with pytest.raises(SourceClosedError):
            source_of(client).svid

    async def test_at_the_first_request(self, open_client, dev, url) -> None:
        """Without `async with` too, as with httpx; whoever comes meanwhile waits along."""
        dev.register(WEB, any=True)
        client = open_client()
        statuses = []

        async def request() -> None:
            statuses.append((await client.get(url)).status_code)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(request)
        await client.aclose()

        assert [200] * 5 == statuses
        with pytest.raises(SourceClosedError):
            source_of(client).svid

    async def test_endpoint_of_the_environment(self, open_client, dev, url, monkeypatch) -> None:
        """SPIFFE Workload Endpoint §4: the well-known variable."""
        dev.register(WEB, any=True)
        monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", dev.endpoint)
        async with open_client(endpoint=None) as client:
            assert 200 == (await client.get(url)).status_code

    async def test_parsed_endpoint(self, open_client, dev, url) -> None:
        """An `Endpoint` is as good as its text."""
        dev.register(WEB, any=True)
        async with open_client(endpoint=Endpoint.parse(dev.endpoint)) as client:
            assert 200 == (await client.get(url)).status_code

    async def test_not_for_plaintext(self, open_client, dev) -> None:
        """What is refused anyway opens nothing."""
        client = open_client()
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("http://localhost/")
        with pytest.raises(SourceClosedError, match="not opened yet"):
            source_of(client).svid
        await client.aclose()

    async def test_events(self, open_client, dev, url) -> None:
        """What happens to the identity is told where the client's events go."""
        dev.register(WEB, any=True)
        events: list[Event] = []
        async with open_client(on_event=events.append):
            pass

        assert "svid.updated" in {e.name for e in events}


@pytest.mark.usefixtures("impatient")
class TestNoIdentityInTime:
    async def test_entering_fails(self, open_client, dev) -> None:
        """Entering says why, and leaves nothing behind."""
        client = open_client()
        with pytest.raises(FirstUpdateTimeoutError):
            await client.__aenter__()

        assert client.client.is_closed
        with pytest.raises(SourceClosedError):
            source_of(client).svid

    async def test_request_fails_and_a_later_one_works(self, open_client, dev, url) -> None:
        """A request says why, as httpx would; the next one finds the identity that came meanwhile."""
        client = open_client()
        with pytest.raises(httpx.ConnectTimeout) as e:
            await client.get(url)
        assert isinstance(find(e.value, SourceError), FirstUpdateTimeoutError)
        assert url == str(e.value.request.url)

        dev.register(WEB, any=True)
        while True:
            try:
                response = await client.get(url)
            except httpx.ConnectTimeout:
                continue
            break
        assert 200 == response.status_code
        await client.aclose()


class TestClosing:
    async def test_twice_and_never_opened(self, open_client, dev, url) -> None:
        """Closing is idempotent, and needs no opening."""
        client = open_client()
        await client.aclose()
        await client.aclose()

        with pytest.raises(RuntimeError, match="closed"):
            await client.get(url)

    async def test_while_a_request_waits(self, open_client, dev, url) -> None:
        """Who waits for an identity is told that there will be none."""
        client = open_client()

        async def close() -> None:
            await anyio.wait_all_tasks_blocked()
            await client.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            with pytest.raises((httpx.ConnectError, RuntimeError)) as e:
                await client.get(url)
        if isinstance(e.value, httpx.ConnectError):  # not closed before the request began
            assert find(e.value, SourceClosedError) is not None

    async def test_shared_identity_stays_open(self, face, dev, url) -> None:
        """What was passed belongs to the caller."""
        dev.register(WEB, any=True)
        async with X509Source(WorkloadApiClient(dev.endpoint)) as source:
            kind = AsyncClient if face.is_async else Client
            async with face(kind(peer=SHOP, workload=source)) as client:
                assert 200 == (await client.get(url)).status_code
            assert WEB == str(source.svid.id)


class TestRotation:
    async def test_own_identity_rotates(self, open_client, dev, url) -> None:
        """It is an X509Source like any other: updates arrive, connections follow."""
        dev.register(WEB, any=True)
        async with open_client(drain=0) as client:
            first = await client.get(url)
            before = source_of(client).svid.serial_number
            await dev.rotate()
            with anyio.fail_after(10):
                while source_of(client).svid.serial_number == before:
                    await anyio.lowlevel.checkpoint()
            second = await client.get(url)

        assert first.extensions["network_stream"] is not second.extensions["network_stream"]
