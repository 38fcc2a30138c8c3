"""The parts of the suite that are of use elsewhere, and its tools out of any call."""

from __future__ import annotations

import inspect
import logging
from datetime import timedelta

import anyio
import pytest

from spiffe_client import testing
from spiffe_client.testing import LeakHunt, ManualClock, Reply
from spiffe_client.testing._scene import _nobody
from spiffe_client.testing._toolbox import Toolbox

pytestmark = pytest.mark.anyio


def test_the_room_has_no_pytest_at_its_door() -> None:
    """Its names are known without loading what is behind them."""
    assert set(testing.__all__) <= set(dir(testing))


def test_nobody_says_no() -> None:
    """Where a check has no person, the answer is a no."""
    assert Reply("", "x") == _nobody("x")


def test_a_hunt() -> None:
    """A piece of a secret is found, in what is shown and in what is logged; short texts are no secrets."""
    hunt = LeakHunt()
    hunt.mark("short", "a" * 12 + "b" * 30)
    with hunt.watching():
        logging.getLogger("httpx").debug("see %s", "b" * 24)
        logging.getLogger("httpx").debug("short")
    hunt.look("a state", {"a": "b" * 23})
    assert (["the log of httpx"], 5) == (hunt.leaks(), hunt.looked)


async def test_a_clock() -> None:
    """Time passes only when a test says so; sleepers wake in their order."""
    clock, woke = ManualClock(), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woke.append((seconds, clock.monotonic()))

    start = clock.now()
    async with anyio.create_task_group() as group:
        for seconds in (3.0, 1.0, 0.0):
            group.start_soon(sleep, seconds)
        await clock.advance(2)
        assert ([(0.0, 0.0), (1.0, 1.0)], 1) == (woke, clock.sleepers)
        await clock.advance(1)
    clock.skew = timedelta(hours=1)
    assert timedelta(hours=1, seconds=3) == clock.now() - start


@pytest.mark.parametrize("blocking", [False, True])
async def test_tools_out_of_any_call(blocking: bool) -> None:
    """They run, and say that they had nothing to work with: a check sees that they ran."""
    tools = Toolbox("https://a.example", "https://b.example", (), LeakHunt())
    functions = tools.functions(blocking=blocking)
    tools.go_on.set()
    for name in functions.keys() - {"fail", "wait_here"}:
        arguments = {"order": "7", "amount": 5} if name == "refund" else {"order": "7"}
        result = functions[name](**arguments)
        assert (await result if inspect.isawaitable(result) else result)
        assert ("", "", 1) == (tools.ran[-1].call, tools.ran[-1].token, tools.bodies(name))
