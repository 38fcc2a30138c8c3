"""The demo's scenes about an agent: each notices when the agent may do what it must not."""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from spiffe_client.cli._demo import _agent, _desk, _players, _tokens
from spiffe_client.cli._demo._desk import Desk
from spiffe_client.cli._demo._players import PlainPlayer, player_for
from spiffe_client.cli._demo._process import Broken
from spiffe_client.cli._demo._stage import HOME, Stage
from spiffe_client.dev import DevTrustDomain
from spiffe_client.errors import AuditError, TaskEndedError

pytestmark = pytest.mark.anyio


def silent(_: str) -> None:
    pass


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the command runs on no other


@asynccontextmanager
async def office() -> AsyncIterator[Stage]:
    async with DevTrustDomain(HOME) as home:
        stage = Stage(home, None, None, None)  # type: ignore[arg-type]
        async with stage.stack:
            await _tokens.exchange(stage, silent)
            yield stage


@pytest.fixture
async def stage(anyio_backend: str) -> AsyncIterator[Stage]:
    async with office() as stage:
        await _agent.agent(stage, silent)
        yield stage


def desk_of(stage: Stage) -> Desk:
    assert stage.desk is not None
    return stage.desk


def rewrite(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Change the agent's contract."""
    assert old in _desk._CONTRACT
    monkeypatch.setattr(_desk, "_CONTRACT", _desk._CONTRACT.replace(old, new))


class TestScenes:
    async def test_a_token_for_something_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The service sees it."""
        rewrite(monkeypatch, 'scopes = ["invoices:read"]', 'scopes = ["invoices:read", "orders:refund"]')
        async with office() as stage:
            with pytest.raises(Broken, match="the service has seen .*orders:refund"):
                await _agent.agent(stage, silent)

    async def test_another_tenant_who_is_none(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was not refused is not said to have been."""
        monkeypatch.setattr(_agent, "_OTHER", "acme")
        with pytest.raises(Broken, match="the model was told 'invoice 7 of acme"):
            await _agent.tenant(stage, silent)

    async def test_a_person_who_always_says_yes(self, stage: Stage) -> None:
        """A refund that nobody meant."""
        desk_of(stage).witness.yes.add("tenants/acme/orders/6/chf/4000")
        with pytest.raises(Broken, match="no and yes, and the model was told 'order 6"):
            await _agent.approval(stage, silent)

    async def test_a_person_who_never_says_yes(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """Then there is no refund to show."""
        monkeypatch.setattr(_desk.Witness, "answer", lambda self, request: None)
        async with office() as other:
            await _agent.agent(other, silent)
            with pytest.raises(Broken, match="and .not permitted: orders:refund on tenants/acme/orders/7/chf/40"):
                await _agent.approval(other, silent)

    async def test_a_token_that_fits_other_calls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that is not bound to the call."""
        rewrite(monkeypatch, "sensitive = true", "sensitive = false")
        async with office() as stage:
            await _agent.agent(stage, silent)
            with pytest.raises(Broken, match="taken its token for another sum"):
                await _agent.approval(stage, silent)

    async def test_a_token_that_names_another_call(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """Bound, and not to the one that was approved."""
        monkeypatch.setattr(_agent, "_bound", lambda desk: ("x",))
        with pytest.raises(Broken, match="seen a token for .'x'"):
            await _agent.approval(stage, silent)

    async def test_a_sub_agent_with_too_much(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By contract."""
        rewrite(monkeypatch, 'actions = ["invoices:read"]', 'actions = ["invoices:read", "orders:refund"]')
        async with office() as stage:
            await _agent.agent(stage, silent)
            with pytest.raises(Broken, match="could be given refunds"):
                await _agent.delegation(stage, silent)

    async def test_a_sub_agent_that_is_not_refused(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the reason."""
        monkeypatch.setattr(_agent, "_refund", lambda order, chf: _agent._read("7"))
        with pytest.raises(Broken, match="the sub-agent was told"):
            await _agent.delegation(stage, silent)

    async def test_a_tool_that_goes_on(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """To its end."""

        async def play(*calls: Any) -> list[str]:
            return ["done"]

        desk_of(stage).player = SimpleNamespace(framework="", note="", play=play)
        with pytest.raises(Broken, match="was not stopped: .'done'"):
            await _agent.stop(stage, silent)

    async def test_a_stop_that_takes_long(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """Longer than it may."""
        assert await _agent._begins(desk_of(stage))
        monkeypatch.setattr(_agent, "_AT_ONCE", 0.0)
        with pytest.raises(Broken, match="and not all of it: .*'begins': False"):
            await _agent.stop(stage, silent)


class TestAudit:
    async def test_a_trail_that_was_changed(self, stage: Stage) -> None:
        """It is told as what it is."""
        desk = desk_of(stage)
        await desk.work.aclose()
        await desk.open.aclose()
        desk.trail.write_bytes(desk.trail.read_bytes().replace(b"acme", b"evil"))
        with pytest.raises(Broken, match="does not verify: "):
            await _agent.audit(stage, silent)

    async def test_a_trail_without_its_end(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is not signed to the end is not whole."""
        verify = _agent.verify_trail
        monkeypatch.setattr(_agent, "verify_trail", lambda *args, **terms: replace(verify(*args, **terms), closed=False))
        await desk_of(stage).work.aclose()
        with pytest.raises(Broken, match="not whole"):
            await _agent.audit(stage, silent)

    async def test_a_verification_that_does_not_look(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """It takes everything."""
        found: list[Any] = []
        verify = _agent.verify_trail

        def blind(*args: Any, **terms: Any) -> Any:
            try:
                found.append(verify(*args, **terms))
            except AuditError:
                pass
            return found[0]

        monkeypatch.setattr(_agent, "verify_trail", blind)
        await _agent.tenant(stage, silent)
        await desk_of(stage).work.aclose()
        with pytest.raises(Broken, match="was edited, and verifies"):
            await _agent.audit(stage, silent)


class TestPlayers:
    def test_which(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The integration's, where it is there; else the tools are called as they are, which is said."""
        monkeypatch.setattr(_players, "_LANGCHAIN", "there_is_no_such.demo")
        plain = player_for()
        assert isinstance(plain, PlainPlayer)
        assert "pip install 'spiffe-client[demo]'" in plain.note
        monkeypatch.setitem(sys.modules, "there_is.demo", SimpleNamespace(ScriptedAgent=lambda *tools: ("it", tools)))
        monkeypatch.setattr(_players, "_LANGCHAIN", "there_is.demo")
        assert ("it", ()) == player_for()

    async def test_loading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is over when what went on meanwhile is, however that ended; a library that is missing, or grumbles, is no matter."""
        asked = []

        def grumble(name: str) -> None:
            asked.append(name)
            warnings.warn("too new a Python", UserWarning, stacklevel=2)
            raise ImportError

        monkeypatch.setattr(_players, "import_module", grumble)
        with pytest.raises(ZeroDivisionError):
            async with _players.loading():
                raise ZeroDivisionError
        assert ["spiffe_client_langchain.demo"] == asked

    async def test_an_ended_task_is_no_answer_to_a_model(self, stage: Stage) -> None:
        """It ends the run."""
        desk = desk_of(stage)
        desk.task.end("finished")
        with pytest.raises(TaskEndedError):
            await desk.player.play(_agent._read("7"))
