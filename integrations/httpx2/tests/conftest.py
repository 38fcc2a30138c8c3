"""Async clients on asyncio and trio, blocking ones beside both, and the servers they talk to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest

from tests.support.http_faces import AsyncFace, BlockingFace
from tests.support.protected import Site, serve_site
from tests.support.shop import SHOP, WEB, MovingSource, Shop


class AsyncFace2(AsyncFace):
    plain = httpx2.AsyncClient


class BlockingFace2(BlockingFace):
    plain = httpx2.Client


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["async", "blocking"])
def face(request: pytest.FixtureRequest) -> type:
    return AsyncFace2 if request.param == "async" else BlockingFace2


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


@pytest.fixture
def web(shop: Shop) -> MovingSource:
    """The identity of the client."""
    return shop.source(WEB)


@pytest.fixture
def orders(shop: Shop) -> MovingSource:
    """The identity of the server."""
    return shop.source(SHOP)


@pytest.fixture(scope="module")
def sites() -> Iterator[list[Site]]:
    """Two of the web PKI, one without TLS on this machine."""
    with ExitStack() as running:
        yield [running.enter_context(serve_site(tls=tls)) for tls in (True, True, False)]


@pytest.fixture(autouse=True)
def forget(request: pytest.FixtureRequest) -> None:
    if "sites" in request.fixturenames:
        for site in request.getfixturevalue("sites"):
            site.reset()
