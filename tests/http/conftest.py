"""What the HTTP tests share: a shop with its servers, and clients with one face."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from spiffe_client.authorize import Authorizer, custom
from spiffe_client.svid import X509Svid
from spiffe_client.tls import SpiffeTls
from tests.support.http_faces import AsyncFace, BlockingFace
from tests.support.shop import SHOP, WEB, Hold, Shop
from tests.support.web_servers import App, serve_hypercorn, serve_uvicorn


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
    """The identity of a server that rotates."""
    return shop.source(SHOP)


class Stage:
    """Servers that stay up for a module: one for each identity and protocol.

    What they answer changes from test to test.
    """

    def __init__(self, shop: Shop, running: ExitStack) -> None:
        self._shop = shop
        self._running = running
        self._urls: dict[tuple, str] = {}
        self._apps: dict[tuple, App] = {}

    def serve(
        self, identity: X509Svid | str, app: App, *, http2: bool, authorize: Authorizer | None = None
    ) -> str:
        """Answer with `app` from now on; returns the URL."""
        rule = authorize or custom("anybody", lambda peer: True)
        key = (identity if isinstance(identity, str) else identity.ders, http2, rule.rule)
        self._apps[key] = app
        if key not in self._urls:

            async def forward(scope, receive, send) -> None:
                await self._apps[key](scope, receive, send)

            context = SpiffeTls(self._shop.context(identity), rule).server_context()
            server = serve_hypercorn if http2 else serve_uvicorn
            port = self._running.enter_context(server(forward, context))
            self._urls[key] = f"https://localhost:{port}"
        return self._urls[key]


@pytest.fixture(scope="module")
def stage(shop: Shop):
    with ExitStack() as running:
        yield Stage(shop, running)


@pytest.fixture(params=["h1", "h2"])
def http2(request: pytest.FixtureRequest) -> bool:
    return request.param == "h2"


@pytest.fixture
def serve(stage: Stage, http2: bool) -> Callable[..., str]:
    """Starts a server of the protocol under test, or takes the one that is up, with another app."""

    def serve(identity: X509Svid | str, app: App, **options) -> str:
        return stage.serve(identity, app, http2=http2, **options)

    return serve


@pytest.fixture
def hold():
    hold = Hold()
    yield hold
    hold.go_on.set()
