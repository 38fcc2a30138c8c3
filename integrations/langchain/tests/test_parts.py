"""What passes between a tool and a model: values of LangChain's and LangGraph's, defaults, questions, denials."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import anyio
import anyio.to_thread
import httpx
import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain.tools import InjectedState, InjectedStore, InjectedToolCallId, ToolRuntime
from langchain_core.tools import BaseTool, InjectedToolArg, StructuredTool, Tool, ToolException, tool
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel, field_validator
from tests.support.agent_world import AgentWorld
from tests.support.scripted_langchain import Model

from spiffe_client.agents import Requires, ToolGate, current_call
from spiffe_client.errors import NoTaskError, TaskError
from spiffe_client.testing import ManualClock, ToolCall
from spiffe_client_langchain import TaskCredentials, UsedAnswers, _people, approve, guarded_tool, refuse
from spiffe_client_langchain._cleaning import cleaned
from spiffe_client_langchain._tools import KnownTools

pytestmark = pytest.mark.anyio

JWT = "eyJhbGciOiJub25l.eyJhIjoxfQ."
INVOICE = "tenants/{tenant}/invoices/{invoice}"
GATE = ToolGate({name: Requires("invoices:read", INVOICE) for name in ("read", "single", "named")})


@asynccontextmanager
async def at_work(**options: Any) -> AsyncIterator[AgentWorld]:
    async with AgentWorld(**options).running() as world:
        async with world.host.task("x", ["invoices:read", "orders:refund", "summarize"], tenant="acme"):
            yield world


async def shown(tools: list[Any], name: str, arguments: Any, middleware: Any = None, **more: Any) -> ToolMessage:
    """What the model is shown of one call."""
    around = [TaskCredentials(GATE)] if middleware is None else middleware
    agent = create_agent(Model(turns=[[ToolCall(name, arguments, "c1")]]), tools, middleware=around, **more)
    state = await agent.ainvoke({"messages": [HumanMessage("go")]})
    (message,) = [it for it in state["messages"] if isinstance(it, ToolMessage)]
    return message


class Odd:
    def __str__(self) -> str:
        return f"odd {JWT}"


class TestCleaning:
    @pytest.mark.parametrize(
        "value",
        [
            f"a {JWT}", JWT.encode(), [1, JWT], (JWT, None), {JWT}, {"a": {"b": [JWT]}}, {JWT: 1}, Odd(),
            ToolMessage(JWT, tool_call_id="1"), ToolMessage("x", tool_call_id="1", artifact={"a": JWT}),
            AIMessage([{"type": "text", "text": JWT}]), Send("node", {"a": JWT}),
            Command(update={"messages": [ToolMessage(JWT, tool_call_id="1")]}), Command(goto=[Send("node", JWT)]),
            ToolMessage("x", tool_call_id="1", artifact=[Document("x", metadata={"a": JWT})]), Command(update=SimpleNamespace(a=JWT)),
            Command(update=[AIMessage("", tool_calls=[{"name": "a", "args": {"a": JWT}, "id": "1"}])], graph=Command.PARENT),
            ToolMessage("x", tool_call_id="1", artifact=SimpleNamespace(a=Odd())), ToolMessage(JWT, tool_call_id="1", artifact="x"),
        ],
        ids=lambda value: type(value).__name__,
    )  # fmt: skip
    async def test_secrets_go(self, value: Any) -> None:
        """From wherever they are; what they were in stays."""
        async with at_work() as world:
            async with current_task_call(world) as call:
                clean = cleaned(call, value)
        assert JWT not in f"{clean!r} {clean}"
        assert "[redacted]" in f"{clean!r}"
        assert type(clean) is (str if isinstance(value, Odd) else type(value))

    @pytest.mark.parametrize(
        "value",
        [
            "a", b"a", 1, None, [1, "a"], ("a",), {"a"}, {"a": [2]}, {}, [], SimpleNamespace(),
            ToolMessage("a", tool_call_id="1"), Send("node", {"a": 1}), Command(update={"a": 1}, goto="b"),
            ToolMessage("a", tool_call_id="1", artifact=Document("a")), Command(update=SimpleNamespace(a="a")),
        ],
        ids=lambda value: type(value).__name__,
    )  # fmt: skip
    async def test_all_else_stays(self, value: Any) -> None:
        """It is the same object."""
        async with at_work() as world:
            async with current_task_call(world) as call:
                assert value is cleaned(call, value)

    async def test_what_would_run_later(self) -> None:
        """Is no result."""
        async with at_work() as world:
            async with current_task_call(world) as call:
                with pytest.raises(TypeError, match="after its call has ended"):
                    cleaned(call, (n for n in ()))


def current_task_call(world: AgentWorld) -> Any:
    (task,) = world.host.tasks.values()
    return task.call("summarize")


class TestArguments:
    async def test_a_validator_that_changes_them(self) -> None:
        """A validator of the tool's schema changes the tenant after the decision.

        What the tool gets is not what was decided about: it does not run.
        """
        ran = []

        class Named(BaseModel):
            invoice: str
            tenant: str = "acme"

            @field_validator("tenant")
            @classmethod
            def elsewhere(cls, value: str) -> str:
                return "globex"

        @tool(args_schema=Named)
        def named(invoice: str, tenant: str) -> str:
            """Read an invoice."""
            ran.append(tenant)
            return "read"

        async with at_work() as world:
            message = await shown([named], "named", {"invoice": "7", "tenant": "acme"})
        assert ("error", []) == (message.status, ran)
        assert "not permitted: invoices:read on tenants/globex/invoices/7" in message.content
        assert ["outside_purpose"] == world.reasons

    async def test_tools_of_other_kinds(self) -> None:
        """One that takes a single argument, and one whose schema is JSON."""
        single = Tool("single", lambda invoice: f"read {invoice}", "Read an invoice.", args_schema=One)
        schema = {"type": "object", "properties": {"invoice": {"type": "string"}, "tenant": {"type": "string"}}}
        named = StructuredTool.from_function(read_far, name="named", description="Read.", args_schema=schema)
        async with at_work():
            assert "read 7" == (await shown([single], "single", {"invoice": "7"})).content
            assert "globex" in (await shown([named], "named", {"invoice": "7"})).content

    async def test_what_is_injected(self) -> None:
        """However it is written; nothing else is hidden from who is asked, also not what a schema leaves out."""

        def several(
            invoice: str,
            state: Annotated[dict[str, Any], InjectedState],
            item: Annotated[str, InjectedState("item")],
            store: Annotated[Any, InjectedStore()],
            call: Annotated[str, InjectedToolCallId],
            runtime: ToolRuntime[Any, Any],
            maybe: Annotated[int | None, InjectedToolArg] = None,
            *,
            force: bool = False,
        ) -> str:
            """Read an invoice."""
            return "read"

        schema = {"type": "object", "properties": {"invoice": {"type": "string"}}}
        every = {name: 1 for name in ("invoice", "state", "item", "store", "call", "runtime", "maybe", "force")}
        for made in (StructuredTool.from_function(several), StructuredTool.from_function(several, args_schema=schema)):
            known = KnownTools(GATE).find(made)
            assert {"invoice", "maybe", "force"} == known.own(every).keys()
            assert {"invoice", "force"} <= known.own({"invoice": 1, "force": True}).keys()

    async def test_a_tool_class(self) -> None:
        """With `_run` of its own, whose hints only a type checker knows."""
        async with at_work():
            assert "read 7" == (await shown([Read()], "read", {"invoice": "7"})).content

    async def test_a_tool_out_of_its_call(self) -> None:
        """A twin that somebody kept is of no use."""
        twin = KnownTools(GATE).find(Read()).twin
        with pytest.raises(TaskError, match="without its call"):
            twin.invoke({"invoice": "7"})

    def test_many_tools(self) -> None:
        """No more are kept than there is room for."""
        known = KnownTools(GATE)
        tools = [Read() for _ in range(257)]
        for it in tools:
            known.find(it)
        assert 1 == len(known._known)

    async def test_a_tool_that_nobody_has(self) -> None:
        """The framework finds that out itself: behind ours it is an error of its own."""
        request = ToolCallRequest({"name": "read", "args": {"invoice": "7"}, "id": None, "type": "tool_call"}, None, {}, None)

        def handler(request: Any) -> Any:
            assert request.tool is None
            return ToolMessage("no such tool", tool_call_id="1", status="error")

        async with at_work() as world:
            credentials = TaskCredentials(GATE)
            answer = await anyio.to_thread.run_sync(credentials.wrap_tool_call, request, handler)
        assert "no such tool" == answer.content
        assert ["error"] == [facts["outcome"] for facts in world.told("call.finished")]

    async def test_an_error_that_the_framework_made_a_message_of(self) -> None:
        """To the model it is an answer, to the audit an error: for those who await it, too."""
        request = ToolCallRequest({"name": "read", "args": {"invoice": "7"}, "id": None, "type": "tool_call"}, None, {}, None)

        async def handler(request: Any) -> Any:
            return ToolMessage(f"it broke: {JWT}", tool_call_id="1", status="error")

        async with at_work() as world:
            answer = await TaskCredentials(GATE).awrap_tool_call(request, handler)
        assert "it broke: [redacted]" == answer.content
        assert ["error"] == [facts["outcome"] for facts in world.told("call.finished")]


class One(BaseModel):
    invoice: str


def read_far(invoice: str, tenant: str = "globex") -> str:
    return "it ran"


class Read(BaseTool):
    name: str = "read"
    description: str = "Read an invoice."
    args_schema: type[BaseModel] = One

    def _run(self, invoice: str) -> Nothing:  # noqa: F821
        return f"read {invoice}"


class TestPauses:
    @pytest.mark.parametrize(
        "pause",
        [GraphInterrupt((Interrupt({"a": JWT}, id="1"),)), ParentCommand(Command(update={"a": JWT}, graph="x"))],
        ids=lambda pause: type(pause).__name__,
    )
    async def test_a_pause_that_spills(self, pause: Any) -> None:
        """A tool pauses the graph with a token in what it asks.

        What a person or a parent graph is handed has no secrets in it, nor has the checkpoint.
        """

        def spill(invoice: str) -> Any:
            """Read."""
            raise pause

        twin = KnownTools(GATE).find(StructuredTool.from_function(spill, name="read")).twin
        async with at_work() as world:
            async with GATE.call("read", {"invoice": "7"}) as call:
                with pytest.raises(type(pause)) as caught:
                    await twin.ainvoke({"invoice": "7"})
        assert [1] == [facts["redacted"] for facts in world.told("call.finished")]
        assert (JWT not in repr(caught.value.args), 1) == ("[redacted]" in repr(caught.value.args), call.redacted)

    async def test_a_pause_of_the_tools_own(self) -> None:
        """It passes."""

        def pause(*_: Any) -> Any:
            raise GraphInterrupt(())

        async def apause(invoice: str) -> Any:
            raise GraphInterrupt(())

        blocking = StructuredTool.from_function(lambda invoice: pause(), name="read", description="-", args_schema=One)
        waiting = StructuredTool.from_function(coroutine=apause, name="read", description="-", args_schema=One)
        for it in (blocking, waiting):
            twin = KnownTools(GATE).find(it).twin
            async with at_work():
                async with GATE.call("read", {"invoice": "7"}):
                    with pytest.raises(GraphInterrupt):
                        await twin.ainvoke({"invoice": "7"})
                    with pytest.raises((GraphInterrupt, NotImplementedError)):
                        await anyio.to_thread.run_sync(twin.invoke, {"invoice": "7"})

    def test_answers(self) -> None:
        """A yes has somebody who says it."""
        question = {**dict.fromkeys(_people._ECHO, "-"), "digest": "d", "text": "?"}
        with pytest.raises(ValueError, match="by="):
            approve(question, by="")
        assert ("alice", "d") == (approve(question, by="alice")["approved_by"], approve(question, by="alice")["digest"])
        said = approve(question, by="alice")
        assert isinstance(said.pop("approved_at"), float)
        assert {**said, "approved_by": ""} == refuse(question)

    @pytest.mark.parametrize("answer", ["yes", True, {}, {"approved_by": "alice"}, {"approved_by": 1}], ids=repr)
    async def test_what_is_no_answer(self, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Resume the graph with something that looks like a yes: `true`, "yes", half an answer.

        Anything that is not a yes to this call is a no.
        """
        def interrupt(question: Any) -> Any:
            return {**refuse(question), **answer} if answer == {"approved_by": 1} else answer

        monkeypatch.setattr(_people, "interrupt", interrupt)
        gate = ToolGate({"refund": Requires("orders:refund", "tenants/{tenant}/orders/{order}")})

        @tool
        def refund(order: str) -> str:
            """Refund an order."""
            raise AssertionError("it ran")

        async with at_work() as world:
            message = await shown([refund], "refund", {"order": "7"}, [TaskCredentials(gate)])
        assert "a person's approval" in message.content
        assert ["not_approved"] == world.reasons


class TestGuardedTool:
    async def test_a_denial_is_an_answer(self) -> None:
        """With the status `error`; the client is injected, and the model does not see it."""

        @guarded_tool(requires="invoices:read", resource=INVOICE)
        async def read(invoice: str, http: httpx.AsyncClient, tenant: str = "acme") -> str:
            """Read an invoice."""
            return f"read {invoice} with {type(http).__name__}"

        @guarded_tool(requires="invoices:read", resource=INVOICE)
        def read_blocking(invoice: str, tenant: str = "acme") -> str:
            """Read an invoice."""
            return f"read {invoice} in {current_call().resource}"

        assert {"invoice", "tenant"} == read.args.keys() == read_blocking.args.keys()
        async with at_work():
            assert "read 7 with AsyncClient" == (await shown([read], "read", {"invoice": "7"}, [])).content
            assert "read 7 in tenants/acme" in (await shown([read_blocking], "read_blocking", {"invoice": "7"}, [])).content
            for it in (read, read_blocking):
                message = await shown([it], it.name, {"invoice": "7", "tenant": "globex"}, [])
                assert ("error", True) == (message.status, "another tenant's" in message.content)

    @pytest.mark.parametrize("blocking", [False, True])
    async def test_other_errors_are_the_frameworks(self, blocking: bool) -> None:
        """Also the tool's own `ToolException`, and that there is no task."""

        def fail(invoice: str) -> str:
            """Read an invoice."""
            raise ToolException("broken")

        async def afail(invoice: str) -> str:
            """Read an invoice."""
            raise ToolException("broken")

        it = guarded_tool(fail if blocking else afail, requires="invoices:read", resource=INVOICE)
        async with at_work():
            with pytest.raises(ToolException, match="broken"):
                await it.ainvoke({"invoice": "7"})
        with pytest.raises(NoTaskError):
            await it.ainvoke({"invoice": "7"})


class TestUsedAnswers:
    def test_what_is_forgotten(self, tmp_path: Path) -> None:
        """What is old; the mark only goes up, whoever forgets, and what is half written stays."""
        clock = ManualClock(datetime.now(UTC))
        used = UsedAnswers(tmp_path, good_for=timedelta(days=1), clock=clock)
        begin = clock.now() - timedelta(hours=3)
        for hours in range(4):
            assert used(f"{hours:x}", begin + timedelta(hours=hours))
        (tmp_path / "aa").touch()
        (tmp_path / "bb").symlink_to("what another process has just forgotten")
        for hours, left in ((24, 4), (24.5, 3), (26.5, 1), (48, 0)):
            later = ManualClock(begin + timedelta(hours=hours))
            UsedAnswers(tmp_path, good_for=timedelta(days=1), clock=later)
            assert left + 2 + (left < 4) == len(list(tmp_path.iterdir()))
        (tmp_path / "1").write_text("1\n")  # whose process has ended before it had forgotten all
        UsedAnswers(tmp_path, clock=clock)
        assert 3 == len(list(tmp_path.iterdir()))
        assert not used("1", begin + timedelta(hours=3))
        assert used("f", begin + timedelta(hours=3, microseconds=1))
        assert not used("aa", begin + timedelta(hours=3.5))

    def test_attack_an_answer_of_the_future(self, tmp_path: Path) -> None:
        """It would never be old: only what a clock may be ahead is taken."""
        clock = ManualClock(datetime.now(UTC))
        used = UsedAnswers(tmp_path, clock=clock)
        assert used("a", clock.now() + timedelta(minutes=59))
        assert not used("b", clock.now() + timedelta(minutes=61))
        assert not used("c", datetime(9999, 1, 1, tzinfo=UTC))

    def test_a_file_that_is_none_of_ours(self, tmp_path: Path) -> None:
        """It stays, and is in nobody's way."""
        (tmp_path / "notes").write_bytes(b"\xff\n")
        (tmp_path / "folder").mkdir()
        assert UsedAnswers(tmp_path)("a", datetime.now(UTC))
        assert 3 == len(list(tmp_path.iterdir()))
