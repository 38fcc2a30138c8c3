"""Live rotation: both ends change their identity again and again, and no request fails."""

from __future__ import annotations

import anyio
import pytest

from spiffe_client.authorize import member_of
from spiffe_client.http import AsyncClient, Client
from spiffe_client.tls import SpiffeTls
from tests.support.shop import SHOP, WEB, shop_app
from tests.support.web_servers import serve_hypercorn, serve_uvicorn

pytestmark = pytest.mark.anyio

ROTATIONS = 30
WORKERS = 4


@pytest.mark.parametrize("drain", [0, 0.05], ids=["at once", "within a window"])
async def test_no_request_fails(face, http2, shop, web, orders, drain) -> None:
    """30 rotations of both ends while requests run: the next one comes when the last was used.

    No pace is kept: a rotation follows as soon as requests have finished since the one before.
    """
    tls = SpiffeTls(orders, member_of("shop.test"))
    finished = anyio.Event()
    statuses: list[int] = []
    rotating = True

    async def work(client) -> None:
        nonlocal finished
        while rotating:
            response = await client.get(url)
            statuses.append(response.status_code)
            finished.set()

    async def rotate() -> None:
        nonlocal finished, rotating
        for number in range(ROTATIONS):
            source, identity = ((web, WEB), (orders, SHOP))[number % 2]
            source.publish(shop.context(identity))
            for _ in range(2):
                finished = anyio.Event()
                await finished.wait()
        rotating = False

    server = serve_hypercorn if http2 else serve_uvicorn
    kind = AsyncClient if face.is_async else Client
    with server(shop_app(), tls.server_context()) as port:
        url = f"https://localhost:{port}"
        async with face(kind(peer=SHOP, workload=web, drain=drain, http2=http2)) as client:
            async with anyio.create_task_group() as tasks:
                # One blocking HTTP/2 connection shared by threads breaks in httpcore now and then,
                # with fixed certificates of the standard library and without any rotation too.
                for _ in range(1 if http2 and not face.is_async else WORKERS):
                    tasks.start_soon(work, client)
                tasks.start_soon(rotate)

    assert {200} == set(statuses)
    assert 2 * ROTATIONS <= len(statuses)
    assert 0 == tls.stats.refused
    if drain == 0:
        assert ROTATIONS // 2 <= tls.stats.handshakes
