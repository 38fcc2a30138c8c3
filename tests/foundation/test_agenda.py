"""The agenda calls back at the right time, with one task, for any number of keys."""

import anyio
import pytest

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client._agenda import Agenda
from tests.support.manual_clock import ManualClock, settle

pytestmark = pytest.mark.anyio


@pytest.fixture
async def agenda():
    """A running agenda, its clock, and what it called back for with the time of it."""
    clock, done = ManualClock(), []
    agenda = Agenda(clock, lambda key: done.append((key, clock.monotonic())))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agenda.run)
        yield agenda, clock, done
        tasks.cancel_scope.cancel()


async def test_each_key_at_its_time(agenda) -> None:
    """Keys come due in the order of their times, not of their entry."""
    agenda, clock, done = agenda
    agenda.put("late", 20)
    agenda.put("early", 10)

    await clock.advance(15)
    assert [("early", 10)] == done
    await clock.advance(15)
    assert [("early", 10), ("late", 20)] == done


async def test_a_key_has_one_time(agenda) -> None:
    """Putting a key again moves it, in either direction."""
    agenda, clock, done = agenda
    agenda.put("a", 10)
    agenda.put("b", 20)
    await settle()
    agenda.put("a", 30)
    agenda.put("b", 5)

    await clock.advance(100)
    assert [("b", 5), ("a", 30)] == done


async def test_a_dropped_key_is_silent(agenda) -> None:
    """A dropped key does not come due; dropping an unknown one is harmless."""
    agenda, clock, done = agenda
    agenda.put("a", 10)
    agenda.drop("a")
    agenda.drop("never there")

    await clock.advance(100)
    assert [] == done
    assert 0 == len(agenda)


async def test_moving_a_key_for_ever_does_not_fill_the_memory(agenda) -> None:
    """What was moved away is swept out of the heap."""
    agenda, clock, done = agenda
    for n in range(10_000):
        agenda.put("a", 100 + n)

    assert 1 == len(agenda)
    assert 200 > len(agenda._heap)
    await clock.advance(20_000)
    assert [("a", 10_099)] == done


async def test_the_callback_may_put(agenda) -> None:
    """Something that recurs puts itself again while it is being called."""
    clock, done = ManualClock(), []

    def again(key: str) -> None:
        done.append(clock.monotonic())
        agenda.put(key, clock.monotonic() + 7)

    agenda = Agenda(clock, again)
    agenda.put("a", 7)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agenda.run)
        await clock.advance(22)
        tasks.cancel_scope.cancel()

    assert [7, 14, 21] == done


async def test_time_in_the_past_is_now() -> None:
    """On the machine's own clock, what is overdue is called at once."""
    done = anyio.Event()
    agenda = Agenda(SYSTEM_CLOCK, lambda _: done.set())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agenda.run)
        await settle()
        agenda.put("a", SYSTEM_CLOCK.monotonic() - 5)
        with anyio.fail_after(10):
            await done.wait()
        tasks.cancel_scope.cancel()
