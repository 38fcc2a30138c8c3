"""A canary is let into everything an agent's secrets come near, and then looked for wherever something shows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from tests.support.agent_pair import AUDITOR, ORDER, READ, REFUND, Pair
from tests.support.agent_world import AgentWorld
from tests.support.canary import assert_no_secret
from tests.support.secret_hunt import Hunt

from spiffe_client.agents import Call, Ticket, guard
from spiffe_client.errors import DeniedError, TaskError, TicketError

pytestmark = pytest.mark.anyio

CANARY = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLW9mLWEtY2FuYXJ5"
KEY = "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5\n-----END PRIVATE KEY-----"


async def test_nothing_comes_to_light(pair: Pair) -> None:
    """Hunt for canaries: the real token and ticket of each call, returned, raised and logged by leaky tools.

    None is in what models see, logs, traces, metrics, audit, errors with the locals of their frames, reprs or
    pickles.
    """
    hunt = Hunt()
    seen: list[object] = []

    @guard(requires=READ, resource="tenants/{tenant}/orders/{order}")
    async def leaky(order: str, call: Call, http: httpx.AsyncClient) -> object:
        token = call.token.token.reveal()
        hunt.add(token)
        reply = await http.get(f"{pair.service.url}/v1/orders")
        return {"token": token, "sent": [str(reply.request.headers.get("authorization"))], "bytes": token.encode()}

    @guard(requires=READ, resource="tenants/{tenant}/orders/{order}")
    async def failing(order: str, call: Call) -> None:
        raise ValueError(f"401 for Authorization: DPoP {call.token.token.reveal()}")

    @guard(requires=REFUND, resource="tenants/{tenant}/orders/{order}")
    def blocking(order: str, call: Call) -> str:
        hunt.add(call.token.token.reveal())
        return f"it said {call.token.token.reveal()}"

    with hunt.watching():
        async with pair.task() as task:
            seen += [await leaky("7"), await anyio.to_thread.run_sync(blocking, "7")]
            with pytest.raises(ValueError, match="redacted") as failed:
                await failing("7")
            seen.append(str(failed.value))
            async with task.delegate(AUDITOR, [READ]) as child, child.call(READ, ORDER) as call:
                hunt.add(call.token.token.reveal())
                hunt.saw(task, child, call, call.authority, call.auth, call.http, call.token, task.budget)
                hunt.saw(pair.closer, pair.closer.agent, task.host.clients(task), vars(task), task.authorities)
            with pytest.raises(DeniedError) as denied:
                await leaky("../8")
            hunt.caught(denied.value)
            ticket = await task.ticket(AUDITOR, [READ], calls=3)
            hunt.add(ticket.reveal())
            hunt.saw(ticket)
            with pytest.raises(TicketError) as wrong:
                async with pair.closer.agent.redeem(ticket):
                    pass
            async with pair.auditor.agent.redeem(ticket.reveal()) as work:
                async with work.call(READ, ORDER) as theirs:
                    hunt.add(theirs.token.token.reveal(), work.root.token.reveal())
                    hunt.saw(work, theirs, work.root, work.authorities)
            with pytest.raises(TicketError) as again:
                async with pair.auditor.agent.redeem(ticket.reveal()):
                    pass
            for error in (wrong, again):
                hunt.caught(error.value)
        for event in pair.audit:
            hunt.sink(event)
        for thing in seen:
            logging.getLogger("a.model").info("%s", thing)
        hunt.saw(*seen)
    assert ["outside_purpose"] == pair.reasons
    assert ["ticket"] * 2 == [facts["reason"] for facts in pair.told("delegation.refused")]
    assert ["invalid_grant"] == [facts["error"] for facts in pair.told("token.denied")]
    assert {"copied"} == {facts["reason"] for facts in pair.told("credential.withheld")}, "to look into what is pickled"
    assert 4 <= len(hunt.secrets)
    assert hunt.looked > 100
    assert [] == hunt.leaks()


async def test_the_hunt_finds_what_is_there() -> None:
    """Control: would the hunt find anything at all?

    A canary that was let out on purpose is found.
    """
    hunt = Hunt()
    hunt.add(CANARY)
    with hunt.watching():
        logging.getLogger("a.model").info("it is %s", CANARY)
    assert hunt.leaks()


class Told(Exception):
    """As many SDKs have it: what it says is no argument."""

    def __init__(self, body: object) -> None:
        super().__init__()
        self.body = body

    def __str__(self) -> str:
        return f"the server said {self.body}"


class Stubborn(Exception):
    """Says what nobody can take out of it."""

    def __str__(self) -> str:
        return CANARY


def chained() -> BaseException:
    try:
        raise KeyError(CANARY)
    except KeyError as inner:
        try:
            raise ValueError("x") from inner
        except ValueError as outer:
            outer.add_note(CANARY)
            return outer


ERRORS: dict[str, Callable[[], BaseException]] = {
    "an argument": lambda: ValueError("x", [CANARY]),
    "an attribute": lambda: Told({"token": CANARY}),
    "of the system": lambda: OSError(2, f"no such file: {CANARY}", CANARY),
    "a name": lambda: ImportError(CANARY, name=CANARY, path=CANARY),
    "of the parser": lambda: SyntaxError(CANARY, ("x", 1, 1, CANARY)),
    "an exit": lambda: SystemExit(CANARY),
    "an interrupt": lambda: KeyboardInterrupt(CANARY),
    "a key": lambda: ValueError(KEY),
    "a chain": chained,
    "a group": lambda: ExceptionGroup("x", [ValueError(CANARY), Told(CANARY)]),
    "a group of all kinds": lambda: BaseExceptionGroup("x", [KeyboardInterrupt(CANARY), ValueError(CANARY)]),
}


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("blocking", [False, True])
async def test_a_tool_that_fails(world: AgentWorld, make: Callable[[], BaseException], blocking: bool) -> None:
    """A tool raises an error that holds a token or a private key: in its text, an attribute, a note, a chain, a
    group.

    In whatever corner of the error it is, it does not get to a model, a log or a crash report; the audit counts
    what was taken out.
    """

    def fails() -> None:
        raise make()

    async def fails_async() -> None:
        raise make()

    tool: Any = guard(fails if blocking else fails_async, requires="summarize")
    async with world.host.task("x", ["summarize"]):
        try:
            tool() if blocking else await tool()
        except BaseException as error:  # noqa: BLE001
            caught = error
    assert type(make()) is type(caught)
    assert_no_secret(caught, CANARY, KEY)
    assert CANARY not in f"{caught!r} {caught} {vars(caught)} {caught.__cause__!r} {getattr(caught, 'filename', '')}"
    assert [True] == [facts.get("redacted", 0) > 0 for facts in world.told("call.finished")]


@pytest.mark.parametrize(
    "make", [Stubborn, lambda: ExceptionGroup(CANARY, [ValueError()])], ids=["an error", "a group's name"]
)
async def test_an_error_that_cannot_be_cleaned(world: AgentWorld, make: Callable[[], Exception]) -> None:
    """A tool raises an error that writes its secret anew whenever it is shown.

    It is not shown; another one is in its place.
    """

    @guard(requires="summarize")
    async def tool() -> None:
        raise make()

    async with world.host.task("x", ["summarize"]):
        with pytest.raises(TaskError, match="its error is not shown") as caught:
            await tool()
    assert caught.value.__suppress_context__
    assert CANARY not in str(caught.value)
    assert [("error", "TaskError")] == [(facts["outcome"], facts["error"]) for facts in world.told("call.finished")]


async def test_an_answer_without_end(world: AgentWorld) -> None:
    """A tool returns a value that unfolds into more than anybody can look through, with a canary in it.

    What was not looked at is left out.
    """
    value: list[Any] = [CANARY]
    for _ in range(60):
        value = [value, value]

    with anyio.fail_after(60):
        async with world.host.task("x", ["summarize"]):
            cleaned: Any = await anyio.to_thread.run_sync(guard(lambda: value, requires="summarize"))
    while isinstance(cleaned, list):
        cleaned = cleaned[-1]
    assert "[redacted]" == cleaned
    assert world.told("call.finished")[0]["redacted"] > 0


@pytest.mark.parametrize("text", [CANARY, "x" * 17000, "a.b.c\n" * 2, "é.b.c"], ids=["token", "long", "two", "é"])
async def test_a_ticket_shows_nothing(world: AgentWorld, text: str) -> None:
    """Print a ticket, or something that was taken for one; redeem it, so that the audit tells of it.

    Neither shows any of its text, nor does what is told.
    """
    with pytest.raises(TicketError):
        async with world.host.redeem(text):
            pass
    assert ["ticket"] == [facts["reason"] for facts in world.told("delegation.refused")]
    assert text[:24] not in repr(world.audit)
    try:
        thing: object = Ticket(text)
    except TicketError as error:
        thing = error
    assert text[:24] not in f"{thing!r} {thing}"
