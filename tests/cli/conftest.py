"""Trust domains and scripted Workload APIs that live beside the commands, on a loop of their own."""

from __future__ import annotations

import argparse
import json
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from spiffe_client.cli._arguments import _parser
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from tests.support import command as command_support
from tests.support.command import Outcome, refuse_secrets
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


def _parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, and under the empty name the program's own."""
    whole = _parser()
    (commands,) = (a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    return {"": whole, **commands.choices}


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """Of a command, and of the commands that it has itself."""
    nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return set(parser._option_string_actions).union(*(_options(p) for a in nested for p in a.choices.values()))


#: The options that each command has, as its parser knows them: help also names those of others.
OPTIONS = {name: _options(parser) if name else set(parser._option_string_actions) for name, parser in _parsers().items()}


def foreign_options(command: str, advice: str) -> set[str]:
    """Options in an advice that the command has not for which they are meant.

    In a command that is quoted they are that one's, else those of the command that was run.
    """
    quoted = re.findall(r"`spiffe-client(?: ([a-z0-9]+))?([^`]*)`", advice)
    said = [(command, re.sub(r"`spiffe-client[^`]*`", "", advice)), *quoted]
    return {
        f"{name} {option}"
        for name, words in said
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", words)
        if option not in OPTIONS[name]
    }


def all_advice(outcome: Outcome) -> list[str]:
    """Every advice that a command gave, to people or to programs."""
    found = re.findall(r"next: (.*)", outcome.out + outcome.err)
    for text in outcome.out.splitlines():
        record = json.loads(text) if text.startswith("{") else {}
        found += [record.get("advice", ""), record.get("error", {}).get("advice", "")]
    return [advice for advice in found if advice]


@pytest.fixture(autouse=True)
def advice_that_can_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command that a test runs is held to it: the options in its advice exist; `doctor` sends nobody to itself."""

    def check(outcome: Outcome, words: Sequence[str]) -> None:
        refuse_secrets(outcome, words)
        command = next((word for word in words if word in OPTIONS), "")
        for advice in all_advice(outcome):
            assert set() == foreign_options(command, advice)
            assert command != "doctor" or "`spiffe-client doctor" not in advice.replace("doctor --help", "")

    monkeypatch.setattr(command_support, "refuse_secrets", check)


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


#: For whom tokens are in these tests.
ORDERS = "https://orders.dev.example"


@pytest.fixture
def broker(world: World, domain: DevTrustDomain) -> DevTokenBroker:
    """A token broker at which everybody may read and list orders, in several ways of authentication."""
    rights = {"audiences": [ORDERS], "scopes": "orders:read orders:list", "details": ["payment"], "serves": [ORDERS]}
    me = Client.of("spiffe://dev.example/workload", **rights)
    batch = Client.of("batch", secret="correct horse battery", **rights)
    public = Client.of("public", public=True, spiffe_id="spiffe://dev.example/workload", **rights)
    return world.enter(lambda: DevTokenBroker(domain, rules=[me, batch, public]))
