"""A guarded tool: the model sees its arguments and nothing else, and nothing secret comes back."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

import anyio
import anyio.to_thread
import httpx
import pytest
from tests.support.agent_world import AGENT, AgentWorld

from spiffe_client.agents import Call, Scrubber, Task, ToolGate, current_call, guard
from spiffe_client.agents._scrub import scrubbed, shows_nothing
from spiffe_client.errors import DeniedError, NoTaskError

if TYPE_CHECKING:
    from decimal import Decimal

pytestmark = pytest.mark.anyio

READ = "invoices:read"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
KEY = "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----"


def task_of(world: AgentWorld) -> Task:
    return world.host.task("close the March books", [READ, "summarize"], tenant="acme", params={"month": "3"})


@guard(requires=READ, resource="tenants/{tenant}/invoices/{invoice_id}")
async def read_invoice(tenant: str, invoice_id: str, *, full: bool = False) -> str:
    """Read an invoice."""
    return f"{tenant}/{invoice_id}/{full}"


@guard(requires=READ, resource="tenants/{tenant}/invoices/{invoice_id}")
def read_blocking(invoice_id: int, call: Call) -> str:
    """Read an invoice, the old way."""
    assert call is current_call()
    return f"{call.resource}"


class TestCalls:
    async def test_a_coroutine_function(self, world: AgentWorld) -> None:
        """Its arguments are mapped to the resource, and another tenant's is denied before anything runs."""
        async with task_of(world):
            assert "acme/7/False" == await read_invoice(tenant="acme", invoice_id="7")
            assert "acme/8/True" == await read_invoice("acme", "8", full=True)
            with pytest.raises(DeniedError, match="this task works for acme"):
                await read_invoice(tenant="globex", invoice_id="7")
        assert ["tenants/acme/invoices/7", "tenants/acme/invoices/8"] == [
            facts["resource"] for facts in world.told("call.finished")
        ]

    async def test_a_function(self, world: AgentWorld) -> None:
        """In a thread or not; what is no argument is the task's."""
        async with task_of(world):
            assert "tenants/acme/invoices/7" == read_blocking(7)
            assert "tenants/acme/invoices/8" == await anyio.to_thread.run_sync(read_blocking, 8)

    async def test_outside_a_task(self, world: AgentWorld) -> None:
        """Nobody answers for it, so it is denied; the agent that is open here has it in its audit."""
        with pytest.raises(NoTaskError):
            read_blocking(7)
        (facts,) = world.told("call.denied")
        assert ("no_task", "deny", "invoices:read", AGENT) == tuple(
            facts[name] for name in ("reason", "decision", "action", "agent")
        )
        assert not {"task", "call"} & facts.keys()

    @pytest.mark.parametrize(
        "name", ["../8", "..", "", "7/8", "*", "%2e%2e", "７", "a" * 129, "7\n", "7\0", "x\\y", " "]
    )
    async def test_names_that_are_no_names(self, world: AgentWorld, name: str) -> None:
        """Prompt-supplied resources match nothing but what they are."""
        async with task_of(world):
            with pytest.raises(DeniedError):
                await read_invoice(tenant="acme", invoice_id=name)
        assert ["outside_purpose"] == world.reasons

    @pytest.mark.parametrize("value", [None, 1.5, ["7"], b"7", {"a": 1}], ids=repr)
    async def test_values_that_are_no_names(self, world: AgentWorld, value: Any) -> None:
        """Neither are other things."""
        async with task_of(world):
            with pytest.raises(DeniedError):
                await read_invoice(tenant="acme", invoice_id=value)

    async def test_wrong_arguments(self, world: AgentWorld) -> None:
        """A TypeError as of any function, and no call: also for what only the guard gives."""
        async with task_of(world):
            with pytest.raises(TypeError, match="invoice_id"):
                await read_invoice(tenant="acme")
            with pytest.raises(TypeError, match="call"):
                read_blocking(7, call="forged")
        assert [] == world.told("call.finished")

    async def test_a_callable_object_and_a_partial(self, world: AgentWorld) -> None:
        """Whatever can be called can be guarded."""

        class Adder:
            """Adds."""

            async def __call__(self, a: int, b: int = 1) -> int:
                return a + b

        adder = guard(Adder(), requires="summarize")
        partial = guard(functools.partial(lambda a, b: a * b, 2), requires="summarize")
        async with task_of(world):
            assert (3, 6) == (await adder(2), partial(3))


class TestLooks:
    def test_like_the_tool(self) -> None:
        """Name, words, arguments, types; without what is injected, and without a way around."""

        @guard(requires=READ)
        async def tool(
            a: Annotated[int, "how many"], http: httpx.AsyncClient, blocking: httpx.Client, call: Call, *rest: str
        ) -> str:
            """Does it."""
            return ""

        assert ("tool", "Does it.", __name__) == (tool.__name__, tool.__doc__, tool.__module__)
        assert ["a", "rest"] == list(inspect.signature(tool).parameters)
        assert {"a", "rest", "return"} == set(get_type_hints(tool))
        assert Annotated[int, "how many"] == get_type_hints(tool, include_extras=True)["a"]
        assert tool is inspect.unwrap(tool)
        assert inspect.iscoroutinefunction(tool)

    def test_names_that_only_type_checkers_know(self) -> None:
        """What can be told from their text is."""

        def tool(amount: Decimal, http: httpx.Client, call: agents.Call) -> Decimal:  # noqa: F821
            return amount

        guarded = guard(tool, requires="summarize")
        assert ["amount"] == list(inspect.signature(guarded).parameters)
        assert "Decimal" == guarded.__annotations__["amount"]

    def test_without_annotations(self) -> None:
        """Nothing is injected, then."""
        assert ["http"] == list(inspect.signature(guard(lambda http: http, requires="x")).parameters)

    @pytest.mark.parametrize("kind", ["generator", "async generator", "object"])
    def test_generators_run_too_late(self, kind: str) -> None:
        """A generator's body would run after its call has ended, in whatever task is there then."""

        def generator():
            yield 1

        async def async_generator():
            yield 1

        class Generator:
            def __call__(self):
                yield 1

        tool = {"generator": generator, "async generator": async_generator, "object": Generator()}[kind]
        with pytest.raises(TypeError, match="is a generator"):
            guard(tool, requires="x")

    async def test_a_slip_in_the_resource(self, world: AgentWorld, caplog: pytest.LogCaptureFixture) -> None:
        """The call is denied, and the log says which name there is nowhere."""

        @guard(requires=READ, resource="tenants/{firm}/invoices/{invoice}")
        async def tool(invoice: str) -> None:
            raise AssertionError("it ran")

        async with task_of(world):
            with pytest.raises(DeniedError):
                await tool("7")
        assert "names {firm}, and there is no argument and no task parameter" in caplog.text

    @pytest.mark.parametrize("resource", ["a//b", "a/{b", "a/*", "../x", "a/{}", "/a"])
    def test_malformed_resources(self, resource: str) -> None:
        """Said when the tool is made, not when it is called."""
        with pytest.raises(ValueError, match="no name and no"):
            guard(lambda: None, requires="x", resource=resource)

    @pytest.mark.parametrize("action", ["", "invoices read", "invoices:read\n", "\u0456nvoices:read", "a" * 129, "-x"])
    def test_actions_that_no_contract_has(self, action: str) -> None:
        """A slip is said when the tool is made, in words; each call would be denied without a hint of it."""
        with pytest.raises(ValueError, match="an action is called by one word"):
            guard(lambda: None, requires=action)
        with pytest.raises(ValueError, match="an action is called by one word"):
            ToolGate({"tool": action})

    def test_no_classification(self) -> None:
        """One that is misspelled would be above every ceiling."""
        with pytest.raises(ValueError, match="no classification 'secret', only public, internal"):
            guard(lambda: None, requires="summarize", classification="secret")

    def test_a_resource_of_what_is_injected(self) -> None:
        """It would never be a name."""

        def tool(call: Call) -> None:
            pass

        with pytest.raises(ValueError, match="'call', which is injected"):
            guard(tool, requires="x", resource="a/{call}")


class Pair(NamedTuple):
    left: str
    right: str


class TestWhatComesBack:
    @pytest.mark.parametrize("make", [list, tuple, set, frozenset, lambda one: {"k": one[0]}, lambda one: {one[0]: 1}])
    async def test_tokens_and_keys_do_not(self, world: AgentWorld, make: Any) -> None:
        """Wherever they are inside; how many there were is told."""

        @guard(requires="summarize")
        def tool() -> object:
            return make([f"it said {JWT} and {KEY} ok"])

        async with task_of(world):
            assert make(["it said [redacted] and [redacted] ok"]) == tool()
        assert [2] == [facts["redacted"] for facts in world.told("call.finished")]

    def test_one_that_looks_like_nothing(self) -> None:
        """An opaque token is known by being the call's; another text is as it was."""
        text, found = scrubbed("Bearer opaque-8f31 it was", ["opaque-8f31"])
        assert ("opaque-8f31" in text, found) == (False, 1)
        assert ("nothing in it", 0) == scrubbed("nothing in it", ["opaque-8f31"])
        assert [False, True] == [
            shows_nothing(said, ["opaque-8f31"]) for said in ("it was opaque-8f31", "nothing in it")
        ]

    async def test_in_errors_neither(self, world: AgentWorld) -> None:
        """Their text, their notes, their causes, their groups."""

        @guard(requires="summarize")
        async def tool() -> None:
            try:
                raise ValueError(f"first {JWT}")
            except ValueError as error:
                error.add_note(f"note {JWT}")
                error.__context__ = error  # a loop must not be one for us
                raise ExceptionGroup("many", [KeyError(JWT), error]) from error

        async with task_of(world):
            with pytest.raises(ExceptionGroup) as caught:
                await tool()
        cause = caught.value.__cause__
        assert ("first [redacted]", ["note [redacted]"]) == (str(cause), cause.__notes__)
        assert ("[redacted]",) == caught.value.exceptions[0].args
        assert 3 == world.told("call.finished")[0]["redacted"]

    async def test_blocking_ones(self, world: AgentWorld) -> None:
        """The same in threads."""

        @guard(requires="summarize")
        def tool() -> None:
            raise ValueError(JWT)

        async with task_of(world):
            with pytest.raises(ValueError, match="redacted"):
                tool()

    @pytest.mark.parametrize("kind", ["generator", "coroutine", "async generator", "future"])
    async def test_what_would_run_later(self, world: AgentWorld, kind: str) -> None:
        """It would run after its call has ended."""

        async def later() -> None:
            pass

        async def many():
            yield 1

        class Future:
            def __await__(self):
                yield

        made = {
            "generator": lambda: (n for n in "ab"),
            "coroutine": later,
            "async generator": many,
            "future": Future,
        }[kind]
        tool = guard(lambda: made(), requires="summarize")
        async with task_of(world):
            with pytest.raises(TypeError, match="after its call has ended"):
                tool()


class TestScrubber:
    @pytest.mark.parametrize("value", ["plain", b"plain", 7, None, ["a", ("b", {"c"})], {"k": "v"}, Pair("a", "b")])
    def test_the_same_object_where_there_is_nothing(self, value: object) -> None:
        """Nothing is copied."""
        scrubber = Scrubber(["tok"])
        assert value is scrubber.clean(value)
        assert 0 == scrubber.count

    def test_known_tokens(self) -> None:
        """Also those that look like nothing; the longer first."""
        scrubber = Scrubber(["opaque", "opaque-and-longer", ""])
        assert "[redacted] [redacted]" == scrubber.text("opaque-and-longer opaque")
        assert 2 == scrubber.count

    def test_shapes(self) -> None:
        """A named tuple stays one; bytes and bytearrays, too."""
        assert Pair("[redacted]", "b") == Scrubber().clean(Pair(JWT, "b"))
        assert b"\xff [redacted]" == Scrubber().clean(b"\xff " + JWT.encode())
        assert bytearray(b"[redacted]") == Scrubber().clean(bytearray(JWT.encode()))

    def test_a_key_without_an_end(self) -> None:
        """A cut one is one."""
        assert "a [redacted]" == Scrubber().text("a -----BEGIN EC PRIVATE KEY-----\nMIGH")

    def test_too_deep(self) -> None:
        """What is not looked through is not passed on."""
        value: object = "x"
        for _ in range(100):
            value = [value]
        scrubber = Scrubber()
        assert "[redacted]" in str(scrubber.clean(value))
        assert 1 == scrubber.count


class _Anything(type):
    """Says that it is every type."""

    def __eq__(cls, other: object) -> bool:
        return True

    __hash__ = type.__hash__


class _Faces(str, metaclass=_Anything):
    def __str__(self) -> str:
        return "acme"


def test_attack_a_type_that_equals_text() -> None:
    """What stands in the resource is what the tool gets, whatever its type says of itself."""
    world = AgentWorld()
    seen = []

    @guard(requires="invoices:read", resource="tenants/{tenant}/invoices/{invoice}")
    async def read(tenant: str, invoice: str) -> None:
        seen.append(tenant)

    async def main() -> None:
        async with world.running(), world.host.task("close the books", ["invoices:read"], tenant="acme"):
            await read(_Faces("globex"), "7")

    with pytest.raises(DeniedError):
        anyio.run(main)
    assert not seen
    assert ["tenant_boundary"] == [facts["reason"] for facts in world.told("call.denied")]
