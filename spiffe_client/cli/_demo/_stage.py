"""Who is in the demo: two trust domains and two processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spiffe_client.cli._demo._process import Child, child_process
from spiffe_client.dev import DevTrustDomain
from spiffe_client.ids import SpiffeId, TrustDomain

if TYPE_CHECKING:
    from spiffe_client.cli._demo._desk import Desk
    from spiffe_client.cli._demo._tokens import Office

__all__ = ["AGENT", "CALLER", "HOME", "PARTNER", "SERVER", "Stage", "open_stage"]

HOME, PARTNER = TrustDomain("dev.example"), TrustDomain("partner.example")
SERVER, CALLER = SpiffeId(HOME, "/server"), SpiffeId(HOME, "/caller")
AGENT = SpiffeId(HOME, "/agent")


@dataclass(slots=True)
class Stage:
    """What the scenes play on; each finds what those before it have put there.

    Attributes:
        home: The trust domain of the two processes.
        partner: The one it federates with.
        server: The server process.
        caller: The process that calls it.
        port: Where the server listens, on the loopback interface.
        stack: What a scene has opened, and is closed at the end.
        office: A service that takes tokens, and who has one.
        desk: An agent, and its task.
    """

    home: DevTrustDomain
    partner: DevTrustDomain
    server: Child
    caller: Child
    port: int = 0
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    office: Office | None = None
    desk: Desk | None = None

    @property
    def url(self) -> str:
        """The server's address."""
        return f"https://127.0.0.1:{self.port}/"


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Open both trust domains and start both processes, and end it all whatever happens."""
    async with (
        DevTrustDomain(HOME) as home,
        DevTrustDomain(PARTNER) as partner,
        child_process("server", "_server", home.endpoint, str(CALLER), str(PARTNER)) as server,
        child_process("caller", "_caller", home.endpoint, str(SERVER)) as caller,
    ):
        home.federate_with(partner)
        partner.federate_with(home)
        stage = Stage(home, partner, server, caller)
        async with stage.stack:
            yield stage
