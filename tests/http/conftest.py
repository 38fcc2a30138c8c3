"""What the HTTP tests share: a shop with its servers, and clients with one face."""

from __future__ import annotations

import pytest

from tests.support.http_faces import AsyncFace, BlockingFace
from tests.support.shop import SHOP, WEB, Hold, Shop


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


@pytest.fixture(params=["async", "blocking"])
def face(request: pytest.FixtureRequest) -> type[AsyncFace] | type[BlockingFace]:
    """The async client on asyncio and trio, the blocking one beside both."""
    return AsyncFace if request.param == "async" else BlockingFace


@pytest.fixture
def web(shop: Shop):
    """The identity of the client."""
    return shop.source(WEB)


@pytest.fixture
def orders(shop: Shop):
    """The identity of the server."""
    return shop.source(SHOP)


@pytest.fixture
def hold():
    hold = Hold()
    yield hold
    hold.go_on.set()
