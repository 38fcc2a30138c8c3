"""Where the suite plays: a development trust domain, a token broker, two services, an agent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Literal, Protocol, TypeAlias

import anyio
import anyio.to_thread
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spiffe_client._workload import Workload
from spiffe_client.agents import AgentOptions, Requires, ToolGate
from spiffe_client.audit import Event
from spiffe_client.dev import DevTokenBroker, DevTrustDomain, ProtectedService
from spiffe_client.dev.token_broker import Client
from spiffe_client.policy import Approver, Contract, Decider
from spiffe_client.testing._leaks import LeakHunt
from spiffe_client.testing._play import Play, Reply, ToolCall
from spiffe_client.testing._toolbox import Toolbox
from spiffe_client.tokens import TokenBrokerOptions

__all__ = ["CALLS", "READ", "REFUND", "Adapter", "Scene", "Way", "open_scene"]

#: How a script is run: the framework's async entry with async tools, the same with tools that block,
#: or its blocking entry in a thread.
Way: TypeAlias = Literal["async", "async, blocking tools", "blocking"]

READ, REFUND = "orders:read", "orders:refund"
#: How many calls a task has.
CALLS: Final = 20
_AGENT: Final = "spiffe://prod.example/agent/closer"
_ORDER: Final = "tenants/{tenant}/orders/{order}"
#: Seconds for a token: the machine may have other work, and one that does not come is no denial.
_PATIENCE: Final = 20.0
#: Seconds after which a run is stuck.
_STUCK: Final = 60.0
_GATE: Final = ToolGate(
    {
        "refund": Requires(REFUND, _ORDER),
        **dict.fromkeys(("read_order", "read_far", "spill", "spill_value", "fail"), Requires(READ, _ORDER)),
        **dict.fromkeys(("wait_here", "leave_behind", "reach_out"), Requires(READ, _ORDER)),
    }
)


class Adapter(Protocol):
    """What the suite needs of its subclass."""

    async def run(self, play: Play) -> None:
        """See `AdapterContract.run`."""
        ...

    def run_blocking(self, play: Play) -> None:
        """See `AdapterContract.run_blocking`."""
        ...


def _nobody(arguments: str) -> Reply:
    return Reply("", arguments)


def _contract(service: ProtectedService) -> Contract:
    terms = {"audience": [service.url], "resources": ["tenants/{tenant}/orders/*"]}
    whole = {
        "agent": {"id": _AGENT, "purpose": "tests", "environment": "test", "trust_domain": "prod.example"},
        "limits": {"parallel_tasks": 10, "calls_per_task": CALLS},
        "actions": {
            READ: {**terms, "scopes": [READ]},
            REFUND: {**terms, "scopes": [REFUND], "approval": True, "sensitive": True},
        },
    }
    return Contract.parse(json.dumps(whole).encode(), "json")


class Scene:
    """An open agent, and what it works with.

    Attributes:
        adapter: What is tested.
        me: The agent.
        broker: Its token broker.
        service: Where its tokens are good.
        other: Where they are not.
        hunt: Looks for secrets in all that is shown, seen, logged and audited.
        tools: What it works with.
        audit: What was told, in order.
    """

    def __init__(
        self,
        adapter: Adapter,
        me: Workload,
        broker: DevTokenBroker,
        services: tuple[ProtectedService, ProtectedService],
        *,
        audit: list[Event],
        spilled: tuple[str, ...],
    ) -> None:
        self.adapter = adapter
        self.me = me
        self.broker = broker
        self.service, self.other = services
        self.hunt = LeakHunt()
        self.hunt.mark(*spilled)
        self.tools = Toolbox(self.service.url, self.other.url, spilled, self.hunt)
        self.audit = audit

    async def play(
        self,
        *turns: Sequence[ToolCall],
        way: Way = "async",
        person: Callable[[str], Reply] = _nobody,
        begun: Callable[[Play], object] = lambda _: None,
    ) -> Play:
        """Run a script in a task of its own, and take down what it raises.

        Args:
            turns: What the model asks for.
            way: How.
            person: Who is asked for approvals.
            begun: Told the play once its task is there.
        """
        play = self._new(turns, way, person)
        try:
            async with self.me.task("close the books", [READ, REFUND], tenant="acme") as play.task:
                begun(play)
                await self._run(play, way)
        except Exception as error:  # noqa: BLE001 - what it is, the check looks at
            play.error = play.error or error
        return self._over(play)

    async def play_for_nobody(self, *turns: Sequence[ToolCall], way: Way) -> Play:
        """Run a script outside of any task."""
        play = self._new(turns, way, _nobody)
        await self._run(play, way)
        return self._over(play)

    def told(self, name: str) -> list[dict[str, str | int | float | bool]]:
        """Return the facts of all events of a name."""
        return [dict(event.attributes) for event in self.audit if event.name == name]

    def _new(self, turns: Sequence[Sequence[ToolCall]], way: Way, person: Callable[[str], Reply]) -> Play:
        return Play(_GATE, self.tools.functions(blocking=way != "async"), turns, person)

    async def _run(self, play: Play, way: Way) -> None:
        try:
            with anyio.fail_after(_STUCK):
                if way == "blocking":
                    await anyio.to_thread.run_sync(self.adapter.run_blocking, play)
                else:
                    await self.adapter.run(play)
        except Exception as error:  # noqa: BLE001 - what it is, the check looks at
            play.error = error

    def _over(self, play: Play) -> Play:
        if play.error is not None:
            self.hunt.look("what the run raised", *_linked(play.error))
        self.hunt.look("what the model was shown", *play.shown.values())
        self.hunt.look("messages, state and traces", *play.seen)
        return play


def _linked(error: BaseException) -> list[str]:
    queue: list[BaseException | None] = [error]
    texts: dict[int, str] = {}
    while queue:
        each = queue.pop()
        if each is not None and id(each) not in texts:
            texts[id(each)] = f"{each!r} {each} {getattr(each, '__notes__', '')}"
            queue += (each.__cause__, each.__context__)
            queue += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
    return list(texts.values())


def _pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption()).decode()


@asynccontextmanager
async def open_scene(
    adapter: Adapter, *, deciders: Sequence[Decider] = (), approver: Approver | None = None
) -> AsyncIterator[Scene]:
    """Open all that the suite plays with; at the end nothing secret may have come to light."""
    rules = [Client.of(_AGENT, audiences=["*"], scopes=f"{READ} {REFUND}", details=["agent_call"])]
    audit: list[Event] = []
    async with AsyncExitStack() as stack:
        domain = await stack.enter_async_context(DevTrustDomain("prod.example"))
        domain.register(_AGENT, any=True, ttl=3600)
        broker = await stack.enter_async_context(DevTokenBroker(domain, rules=rules))
        other = await stack.enter_async_context(ProtectedService(broker))
        # The later one is known to the token broker by the name of both.
        service = await stack.enter_async_context(ProtectedService(broker))
        me = Workload(
            domain.endpoint,
            token_broker=TokenBrokerOptions(broker.issuer, timeout=_PATIENCE),
            contract=AgentOptions(_contract(service), deciders=deciders, approver=approver),
            environment="test",
            on_event=audit.append,
        )
        await stack.enter_async_context(me)
        svid = await me.jwt_svid("https://anybody.example")
        scene = Scene(
            adapter, me, broker, (service, other), audit=audit, spilled=(_pem(), svid.token.reveal())
        )
        try:
            with scene.hunt.watching():
                yield scene
        finally:
            scene.tools.go_on.set()
            for thread in scene.tools.left:
                await anyio.to_thread.run_sync(thread.join)
        scene.hunt.look("the audit", *audit)
        leaks = scene.hunt.leaks()
        assert not leaks, f"secrets came to light in {', '.join(leaks)}"
