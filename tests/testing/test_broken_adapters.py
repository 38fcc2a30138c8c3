"""Each check of the contract fails for an adapter that breaks what it holds."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from tests.support.loops import GateLoop

from spiffe_client.agents import Answer, Call, current_call
from spiffe_client.agents._context import CALL, TASK
from spiffe_client.errors import PolicyError, TaskError
from spiffe_client.testing import AdapterContract, Play, ToolCall

pytestmark = pytest.mark.anyio


class Broken(GateLoop, AdapterContract):
    """One of those below."""


class RunsFirst(Broken):
    """Asks when the tool has run."""

    async def one(self, play: Play, it: ToolCall) -> Any:
        result = await self.body(play, it)
        async with self.call_of(play, it):
            return result


class FailsOpen(Broken):
    """Runs the tool when anything goes wrong."""

    async def one(self, play: Play, it: ToolCall) -> Any:
        try:
            return await super().one(play, it)
        except Exception:
            return await self.body(play, it)


class Aborts(Broken):
    """Lets a denial end the run."""

    async def shown(self, play: Play, it: ToolCall) -> None:
        play.show(it.id, await self.one(play, it))


class SaysWhy(Broken):
    """Shows the model where a denial came from."""

    async def one(self, play: Play, it: ToolCall) -> Any:
        try:
            return await super().one(play, it)
        except PolicyError as error:
            return f"{error} {error.__cause__!r} {error.decision.evidence} a bug"


class OwnWords(Broken):
    """Has a text of its own for denials."""

    async def one(self, play: Play, it: ToolCall) -> Any:
        try:
            return await super().one(play, it)
        except (PolicyError, TaskError):
            return "no"


class SharesCalls(Broken):
    """One call for all of a message's."""

    async def run(self, play: Play) -> None:
        for turn in play.turns:
            async with self.call_of(play, turn[0]) as call:
                self.shared = call
                for it in turn:
                    play.show(it.id, call.clean(await self.body(play, it)))


class SharesTasks(Broken):
    """Takes the first task for everybody's."""

    first: Any = None

    async def one(self, play: Play, it: ToolCall) -> Any:
        self.first = self.first or TASK.get()
        TASK.set(self.first)
        return await super().one(play, it)


class NoIds(Broken):
    """Does not pass on the ids of calls."""

    def id_of(self, it: ToolCall) -> str:
        return ""


class NoDefaults(Broken):
    """Asks about what the model said, and not about what the tool gets."""

    def arguments_of(self, play: Play, it: ToolCall) -> dict[str, Any]:
        return {}


class Raw(Broken):
    """Passes on what came back."""

    async def one(self, play: Play, it: ToolCall) -> Any:
        async with self.call_of(play, it):
            return await self.body(play, it)


class CleansText(Broken):
    """Cleans what is text, and nothing else."""

    async def one(self, play: Play, it: ToolCall) -> Any:
        async with self.call_of(play, it) as call:
            result = await self.body(play, it)
            return call.clean(result) if isinstance(result, str) else result


class TracesRaw(Broken):
    """Cleans it for the model, and not for the tracer."""

    async def body(self, play: Play, it: ToolCall) -> Any:
        result = await super().body(play, it)
        play.see(result)
        return result


class Swallows(Broken):
    """Says that all is well when a tool fails."""

    async def one(self, play: Play, it: ToolCall) -> Any:
        async with self.call_of(play, it):
            try:
                return await self.body(play, it)
            except Exception:
                return "done"


class NeverEnds(Broken):
    """Does not close its calls."""

    async def one(self, play: Play, it: ToolCall) -> Any:
        call = await self.call_of(play, it).__aenter__()
        call._scope.__exit__(None, None, None)
        return call.clean(await self.body(play, it))


class GoesOn(Broken):
    """Shows and does things when the task has ended."""

    async def run(self, play: Play) -> None:
        for turn in play.turns:
            for it in turn:
                try:
                    play.show(it.id, await self.one(play, it))
                except BaseException:
                    play.show(it.id, "it went on")
                    raise


class Anywhere(Broken):
    """Puts the token into a client for any origin."""

    async def body(self, play: Play, it: ToolCall) -> Any:
        call = current_call()
        assert call is not None and call.token is not None
        headers = {"authorization": f"Bearer {call.token.token.reveal()}"}
        async with httpx.AsyncClient(headers=headers) as http:
            facts = {name: getattr(call, name) for name in ("id", "resource", "task", "token")}
            CALL.set(SimpleNamespace(http=http, **facts))
            return await super().body(play, it)


class AlwaysYes(Broken):
    """Takes every answer for a yes."""

    def call_of(self, play: Play, it: ToolCall, **more: Any) -> Call:
        question = play.gate.asks(play.gate.call(it.name, it.arguments, call_id=it.id))
        if question is None:
            return super().call_of(play, it)
        play.person(question.arguments)
        return super().call_of(play, it, approver=Answer(question.digest, by="somebody"))


class AnyYes(Broken):
    """Takes a yes to anything for a yes to this."""

    def is_about(self, reply: Any, question: Any) -> bool:
        return True


class NobodyAsked(Broken):
    """Asks nobody."""

    def call_of(self, play: Play, it: ToolCall, **more: Any) -> Call:
        return play.gate.call(it.name, {**self.arguments_of(play, it), **it.arguments}, call_id=it.id)


class Silent(Broken):
    """Reports nothing of messages, state and traces."""

    async def run(self, play: Play) -> None:
        try:
            await super().run(play)
        finally:
            play.seen.clear()


BREAKS = {
    RunsFirst: "an_allowed_call another_tenants a_default_is_an_argument an_unlisted_tool outside_of_a_task a_budget "
    "a_decider_that_breaks a_token_broker_that_is_away a_token_broker_that_says_no a_no what_a_tool_left_behind",
    FailsOpen: "another_tenants an_unlisted_tool outside_of_a_task a_budget a_decider_that_breaks "
    "a_token_broker_that_is_away a_token_broker_that_says_no a_no a_yes_to_something_else",
    Aborts: "another_tenants a_decider_that_breaks a_token_broker_that_says_no a_no",
    SaysWhy: "a_decider_that_breaks",
    OwnWords: "another_tenants an_unlisted_tool outside_of_a_task a_budget",
    SharesCalls: "many_at_once",
    SharesTasks: "many_at_once",
    NoIds: "the_same_call_again",
    NoDefaults: "a_default_is_an_argument",
    Raw: "a_tool_that_spills a_tool_that_spills_in_a_value a_tool_that_fails",
    CleansText: "a_tool_that_spills_in_a_value",
    TracesRaw: "a_tool_that_spills",
    Swallows: "a_tool_that_fails",
    NeverEnds: "what_a_tool_left_behind",
    GoesOn: "a_task_that_ends",
    Anywhere: "other_origins",
    AlwaysYes: "a_no a_yes_to_something_else",
    AnyYes: "a_yes_to_something_else",
    NobodyAsked: "a_yes",
    Silent: "a_tool_that_spills",
}


def cases() -> Iterator[Any]:
    for kind, checks in BREAKS.items():
        for check in checks.split():
            yield pytest.param(kind, check, id=f"{kind.__name__}-{check}")


@pytest.mark.parametrize(("kind", "check"), list(cases()))
async def test_it_is_found_out(kind: type[Broken], check: str) -> None:
    """By the check of what it breaks."""
    with pytest.raises(AssertionError):
        await getattr(kind(), f"test_{check}")("async")


def test_every_check_can_fail() -> None:
    """There is a broken adapter for each."""
    checks = {name.removeprefix("test_") for name, _ in inspect.getmembers(AdapterContract) if name.startswith("test_")}
    assert checks == {check for names in BREAKS.values() for check in names.split()}
