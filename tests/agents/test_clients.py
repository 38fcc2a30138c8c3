"""Connections of a task: its own, and one set of them whoever asks first."""

from __future__ import annotations

import threading

import pytest
from tests.support.agent_world import AgentWorld

from spiffe_client.agents._clients import Clients

pytestmark = pytest.mark.anyio


async def test_threads_that_come_at_once(world: AgentWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share what one of them made: nothing is opened that the task would not close."""
    meeting = threading.Barrier(4)
    make = Clients.__init__

    def slow(self: Clients, *args: object) -> None:
        meeting.wait(5)
        make(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Clients, "__init__", slow)
    found = []
    async with world.host.task("close the March books", ["summarize"]) as task:

        def ask() -> None:
            clients = world.host.clients(task)
            found.append((clients, clients.blocking_transport(None)))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {(task.clients, found[0][1])} == set(found)
