"""Clock, secrets, the latest value, backoff, background services, events."""

from __future__ import annotations

import copy
import logging
import pickle
from datetime import UTC, datetime

import anyio
import anyio.lowlevel
import pytest
from anyio import wait_all_tasks_blocked

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client._latest import Latest
from spiffe_client._redact import Secret, fingerprint
from spiffe_client._retry import Backoff
from spiffe_client._service import Service
from spiffe_client.audit import Event, log_event, safe_sink


class TestClock:
    def test_wall_clock_is_aware(self) -> None:
        """Certificates and tokens speak UTC."""
        before = datetime.now(UTC)
        assert before <= SYSTEM_CLOCK.now() <= datetime.now(UTC)
        assert SYSTEM_CLOCK.monotonic() <= SYSTEM_CLOCK.monotonic()

    @pytest.mark.anyio
    async def test_sleep(self) -> None:
        """It waits at least as long as asked."""
        start = SYSTEM_CLOCK.monotonic()
        await SYSTEM_CLOCK.sleep(0.01)
        assert 0.009 <= SYSTEM_CLOCK.monotonic() - start


class TestSecret:
    @pytest.mark.parametrize("value", ["hunter2-token", b"hunter2-key"])
    def test_never_shows(self, value: str | bytes) -> None:
        """Not in any of the ways in which values end up in logs."""
        secret = Secret(value)
        for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, repr([secret])):
            assert "hunter2" not in shown
        assert value == secret.reveal()

    def test_does_not_leave_the_process(self) -> None:
        """Pickles and deep copies are how secrets reach disks and other processes."""
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(Secret("x"))
        with pytest.raises(TypeError, match="pickled"):
            copy.deepcopy(Secret("x"))

    def test_compares_by_value_with_its_like_only(self) -> None:
        """A secret is not equal to its plain text, so a test cannot leak it by comparing."""
        assert Secret("x") == Secret("x")
        assert Secret(b"x") != Secret(b"y")
        assert Secret("x") != "x"
        assert 1 == len({Secret("x"), Secret("x")})

    def test_fingerprint(self) -> None:
        """The start of SHA-256, the same for text and its bytes."""
        assert "2d711642b726" == fingerprint("x") == fingerprint(b"x")


class TestLatest:
    pytestmark = pytest.mark.anyio

    async def test_waiters_wake_on_change(self) -> None:
        """Everybody who waits sees the newest value."""
        latest = Latest(0)
        seen: list[int] = []

        async def watch() -> None:
            async for value in latest.changes():
                seen.append(value)

        async with anyio.create_task_group() as tg:
            tg.start_soon(watch)
            tg.start_soon(watch)
            await wait_all_tasks_blocked()
            latest.set(1)
            await wait_all_tasks_blocked()
            latest.set(2)
            latest.set(3)  # a slow reader skips to the newest
            await wait_all_tasks_blocked()
            latest.close()
        assert [1, 1, 3, 3] == seen
        assert 3 == latest.value

    async def test_nothing_to_wait_for(self) -> None:
        """A version already passed returns at once; a closed one says so."""
        latest = Latest("a")
        latest.set("b")
        assert await latest.wait_newer(0)
        latest.close()
        assert not await latest.wait_newer(1)


class TestBackoff:
    def test_full_jitter_under_a_small_cap(self) -> None:
        """Uniform from zero, doubling, and never above the cap: no synchronised waves."""
        backoff = Backoff(first=0.1, cap=1.0)
        for attempt, bound in ((1, 0.1), (2, 0.2), (3, 0.4), (5, 1.0), (60, 1.0), (5000, 1.0)):
            delays = [backoff.delay(attempt) for _ in range(300)]
            assert 0 <= min(delays) < bound * 0.1
            assert bound * 0.9 < max(delays) <= bound


class TestService:
    pytestmark = pytest.mark.anyio

    async def test_stops_from_any_task(self) -> None:
        """What was started here may be stopped there, once or twice."""
        ended = []

        async def body() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(True)

        service = Service(body, name="test", crashed=pytest.fail)
        await wait_all_tasks_blocked()
        async with anyio.create_task_group() as tg:
            tg.start_soon(service.stop)
            tg.start_soon(service.stop)
        assert [True] == ended

    async def test_a_crash_is_told_and_hurts_nobody_else(self) -> None:
        """The owner hears of a bug in the body; the event loop lives on."""
        crashed: list[Exception] = []

        async def body() -> None:
            raise KeyError("bug")

        service = Service(body, name="test", crashed=crashed.append)
        await wait_all_tasks_blocked()
        await service.stop()
        assert ["'bug'"] == [str(e) for e in crashed]

    async def test_stop_waits_even_when_cancelled(self) -> None:
        """Cancelling the closer does not leave a task behind."""
        ended = []

        async def body() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.lowlevel.checkpoint()
                ended.append(True)

        service = Service(body, name="test", crashed=pytest.fail)
        await wait_all_tasks_blocked()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await service.stop()
        assert [True] == ended

    async def test_cancel_before_it_ran(self) -> None:
        """A service that never got to run ends all the same."""
        service = Service(anyio.sleep_forever, name="test", crashed=pytest.fail)
        service.cancel()
        await service.stop()


class TestEvents:
    EVENT = Event("svid.updated", "a new one", {"id": "spiffe://a.test/x"}, logging.WARNING)

    def test_the_default_sink_logs(self, caplog: pytest.LogCaptureFixture) -> None:
        """Name, message, level and facts reach `logging`."""
        safe_sink(None)(self.EVENT)
        (record,) = caplog.records
        assert "svid.updated: a new one" == record.getMessage()
        assert logging.WARNING == record.levelno
        assert {"id": "spiffe://a.test/x"} == record.spiffe  # type: ignore[attr-defined]
        assert log_event is safe_sink(None)

    def test_a_broken_sink_does_not_break_what_it_reports(self, caplog: pytest.LogCaptureFixture) -> None:
        """The failure is logged, the caller goes on."""
        heard: list[Event] = []

        def broken(event: Event) -> None:
            heard.append(event)
            raise RuntimeError("disk full")

        safe_sink(broken)(self.EVENT)
        assert [self.EVENT] == heard
        assert "the event sink failed on svid.updated" in caplog.text

    def test_attributes_default_to_none_at_all(self) -> None:
        """An event without facts is fine."""
        assert {} == dict(Event("x", "y").attributes)
