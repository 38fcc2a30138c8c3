"""An agent whose decision point, person and token broker answer when a test lets them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import Lock
from types import SimpleNamespace
from typing import Any

import anyio

from spiffe_client.agents import Task
from spiffe_client.errors import SpiffeError
from spiffe_client.policy import Approval, ApprovalRequest, Decision, Question
from spiffe_client.tokens import AccessToken, TokenRequest
from tests.support.agent_world import AUDITOR, AgentWorld, contract
from tests.support.protected import FakeBroker, access_token

__all__ = ["WAITERS", "Scene", "Waits", "scene_of_waiting"]

#: What a call waits for, in this order, by attributes of `Scene`.
WAITERS = ("point", "person", "broker")
_TO: dict[str, Any] = {"audience": ["https://x.example"], "resources": ["tenants/{tenant}/orders/*"]}
_ACTIONS = {
    "read": {**_TO, "scopes": ["read"]},
    "refund": {**_TO, "approval": True, "sensitive": True, "scopes": ["refund"]},
}


class Waits:
    """Whoever is asked.

    Attributes:
        asked: What it was asked.
        hangs: Whether it waits for `answer` before it answers.
        deaf: Whether it goes on waiting when it is cancelled.
    """

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.answer = anyio.Event()
        self.hangs = self.deaf = False

    async def said(self, question: object) -> None:
        self.asked.append(question)
        if self.hangs:
            with anyio.CancelScope(shield=self.deaf):
                await self.answer.wait()


class Point(Waits):
    """Allows everything."""

    async def decide(self, question: Question) -> Decision:
        await self.said(question)
        return Decision(allowed=True, reason="allowed", policy="pdp")


class Person(Waits):
    """Says yes."""

    async def approve(self, request: ApprovalRequest) -> Approval | None:
        await self.said(request)
        return request.approve(by="alice")


class Broker(Waits, FakeBroker):
    """Keeps what it has handed out until it is told to forget; `revoking` is who revokes."""

    def __init__(self) -> None:
        FakeBroker.__init__(self)
        Waits.__init__(self)
        self.tokens: dict[bytes, AccessToken] = {}
        self.issued: list[AccessToken] = []
        self.lock = Lock()
        self.landing: Callable[[], object] = lambda: None
        self.revoking = Waits()
        self.metadata = SimpleNamespace(revocation_endpoint="https://tokens.prod.example/revoke")

    def peek(self, request: TokenRequest) -> AccessToken | None:
        return self.tokens.get(request.key)

    async def fetch(self, request: TokenRequest) -> AccessToken:
        await self.said(request)
        return self.fetch_blocking(request)

    def fetch_blocking(self, request: TokenRequest) -> AccessToken:
        if self.error is not None:
            raise self.error
        with self.lock:
            if request.key not in self.tokens:
                self.issued.append(access_token(request, f"token-{len(self.issued)}"))
                self.tokens[request.key] = self.issued[-1]
            token = self.tokens[request.key]
        self.landing()
        return token

    def forget(self, request: TokenRequest, error: SpiffeError) -> AccessToken | None:
        return self.tokens.pop(request.key, None)

    async def revoke(self, token: AccessToken) -> SimpleNamespace:
        await self.revoking.said(token)
        return SimpleNamespace(error=None)


class Scene:
    """The agent, and whom it asks."""

    def __init__(self) -> None:
        self.point, self.person, self.broker = Point(), Person(), Broker()
        tokens: Any = self.broker
        limits = {"calls_per_minute": 1_000_000}  # the clock stands still
        what = contract(actions=_ACTIONS, limits=limits, delegates={AUDITOR: {"actions": ["read"]}})
        self.world = AgentWorld(what, deciders=[self.point], approver=self.person, tokens=tokens)

    def make_wait(self, name: str, *, deaf: bool = False) -> Waits:
        """Have one of them wait."""
        found: Waits = getattr(self, name)
        found.hangs, found.deaf = True, deaf
        return found

    def task(self) -> Task:
        return self.world.host.task("close the March books", ["read", "refund"], tenant="acme")

    def take_back(self, token: AccessToken | None) -> None:
        """Have a security event take a token back."""
        assert token is not None
        self.broker.withdraw(lambda one: one is token)

    def forget(self) -> None:
        """Forget what was told and asked."""
        for kept in (self.world.audit, self.broker.issued, self.broker.revoking.asked):
            kept.clear()

    def left(self, task: Task) -> list[object]:
        """What there still is of a task's calls; a token for all calls of an action is the task's."""
        single = [one for key, one in task.authorities.items() if key != "read"]
        return [*task.calls.values(), *single, *task.leftover, *self.world.host.approvals._held]


@asynccontextmanager
async def scene_of_waiting() -> AsyncIterator[Scene]:
    """Open all of it."""
    scene = Scene()
    async with scene.world.running():
        yield scene
