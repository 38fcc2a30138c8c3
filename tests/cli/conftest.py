"""Trust domains and scripted Workload APIs that live beside the commands, on a loop of their own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from spiffe_client.dev import DevTrustDomain
from tests.support.scripted_workload_api import ScriptedWorkloadApi

_T = TypeVar("_T")


class World:
    """Runs things on a loop in another thread, while a command has this one."""

    def __init__(self, portal: BlockingPortal, stack: ExitStack) -> None:
        self._portal = portal
        self._stack = stack

    def enter(self, make: Callable[[], AbstractAsyncContextManager[_T]]) -> _T:
        """Make something there and enter it, until the test ends."""
        thing = self._portal.call(make)
        return self._stack.enter_context(self._portal.wrap_async_context_manager(thing))

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function there, plain or async."""
        return self._portal.call(function, *args)


@pytest.fixture(autouse=True)
def a_plain_shell() -> Iterator[None]:
    """Whoever runs the tests under nohup has SIGHUP ignored, and commands started here would inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def world() -> Iterator[World]:
    with start_blocking_portal() as portal, ExitStack() as stack:
        yield World(portal, stack)


@pytest.fixture
def domain(world: World) -> DevTrustDomain:
    """A trust domain in which everybody is spiffe://dev.example/workload."""
    domain = world.enter(lambda: DevTrustDomain("dev.example", svid_ttl=3600, jwt_ttl=300))
    world.call(lambda: domain.register("spiffe://dev.example/workload", any=True))
    return domain


@pytest.fixture
def api(world: World) -> ScriptedWorkloadApi:
    """A Workload API that answers what the test tells it to."""
    return world.enter(ScriptedWorkloadApi)
