"""`spiffe-client demo` plays its agent's part by LangChain where this is installed."""

from __future__ import annotations

import pytest

from spiffe_client.cli._demo import _agent, _tokens
from spiffe_client.cli._demo._players import player_for
from spiffe_client.cli._demo._stage import HOME, Stage
from spiffe_client.dev import DevTrustDomain
from spiffe_client_langchain.demo import ScriptedAgent

pytestmark = pytest.mark.anyio


def silent(_: str) -> None:
    pass


def test_it_is_found() -> None:
    """By its name, without being asked for."""
    assert isinstance(player_for(), ScriptedAgent)


async def test_the_agents_part() -> None:
    """All of it goes as it must: refused, asked, handed on, stopped, recorded."""
    async with DevTrustDomain(HOME) as home:
        stage = Stage(home, None, None, None)  # type: ignore[arg-type]
        async with stage.stack:
            await _tokens.exchange(stage, silent)
            said = {}
            for scene in (
                _agent.agent,
                _agent.tenant,
                _agent.approval,
                _agent.delegation,
                _agent.stop,
                _agent.audit,
            ):
                _, said[scene.__name__], *_ = await scene(stage, silent)
    assert "langchain" == said["agent"]["framework"]
    assert 401 == said["stop"]["status"]
    assert ["stopped", "finished", "refused"] == [task["ended"] for task in said["audit"]["tasks"]]


async def test_a_model_may_stop_at_once() -> None:
    """A script without calls is a run without answers."""
    agent = ScriptedAgent()
    assert [] == await agent.play()
