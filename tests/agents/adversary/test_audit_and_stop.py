"""Attacks on what is written down, on sinks, and on the kill switch."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.support.agent_world import AgentWorld, contract
from tests.support.audit_trails import chained, reasons_in

from spiffe_client.agents import Call, Task, ToolGate, _spans, current_call
from spiffe_client.audit import Event, JsonlSink, verify_trail
from spiffe_client.errors import AuditError, DeniedError, TaskEndedError

pytestmark = pytest.mark.anyio

READ, INVOICE = "invoices:read", "tenants/acme/invoices/7"


def task_of(world: AgentWorld) -> Task:
    return world.host.task("close the March books", [READ, "summarize"], tenant="acme")


class TestTrail:
    @pytest.fixture
    async def trail(self, tmp_path: Path) -> list[bytes]:
        """What an agent's day leaves: calls, and an attempt at another tenant's; signed by the agent's SVID."""
        path = tmp_path / "audit.jsonl"
        world = AgentWorld()
        signer = world.identity
        options: Any = {"signer": lambda: signer.x509_svid, "checkpoint_every": 3}
        with JsonlSink(path, on_trouble="block", **options) as sink:
            world = AgentWorld(on_event=sink)
            async with world.running():
                async with task_of(world) as task:
                    for resource in (INVOICE, "tenants/globex/invoices/7", INVOICE):
                        try:
                            async with task.call(READ, resource):
                                pass
                        except DeniedError:
                            pass
                        sink.flush()
        self.bundles = signer.x509_context.bundles
        lines = path.read_bytes().splitlines(keepends=True)
        report = verify_trail(lines, bundles=self.bundles)
        assert (True, 1) == (report.proven, report.denials)
        return lines

    @pytest.mark.parametrize("old", [b"tenant_boundary", b'"decision":"deny"', b"globex"])
    async def test_edited(self, trail: list[bytes], old: bytes) -> None:
        """Change one line of the audit file: the reason, the decision, the tenant.

        The verifier names the line, whose hash is not that of what it says.
        """
        at = next(n for n, text in enumerate(trail) if old in text)
        changed = [*trail[:at], trail[at].replace(old, b"x" * len(old)), *trail[at + 1 :]]
        with pytest.raises(AuditError, match="its hash is not that of what it says|no record of an audit trail") as caught:
            verify_trail(changed, bundles=self.bundles)
        assert at + 1 == caught.value.line

    async def test_edited_with_new_hashes(self, trail: list[bytes]) -> None:
        """Change a line, and make all hashes of the file anew.

        Who does so has no key for the signatures of the checkpoints.
        """
        changed = chained([text.replace(b"tenant_boundary", b"outside_purpose") for text in trail])
        with pytest.raises(AuditError, match="signature is not of its key"):
            verify_trail(changed, bundles=self.bundles)

    async def test_a_denial_left_out(self, trail: list[bytes]) -> None:
        """Take the lines of denials out of the file: as it is, with new hashes, with new numbers, counts and hashes.

        The numbers have a hole; where all is made anew, no signature is valid.
        """
        left = [text for text in trail if b'"call.denied"' not in text]
        for lines in (left, chained(left)):
            with pytest.raises(AuditError, match="were removed or moved"):
                verify_trail(lines, bundles=self.bundles)
        anew = [re.sub(rb'"(seq|records)":\d+', rb'"\1":%d' % number, text) for number, text in enumerate(left)]
        with pytest.raises(AuditError, match="signature is not of its key"):
            verify_trail(chained(anew), bundles=self.bundles)

    async def test_truncated(self, trail: list[bytes]) -> None:
        """Cut the file: its end, half a line, its beginning.

        A file without its end is not closed, and the report says up to which line it is vouched for; one
        without its beginning has a hole there.
        """
        for lines in (trail[:-1], [*trail[:-1], trail[-1][:-20]]):
            report = verify_trail(lines, bundles=self.bundles)
            assert (False, True) == (report.closed, report.vouched < len(trail) - 1)
        with pytest.raises(AuditError, match="were removed or moved"):
            verify_trail(trail[1:], bundles=self.bundles)

    async def test_reordered(self, trail: list[bytes]) -> None:
        """Swap two lines.

        Their numbers and hashes do not fit any more.
        """
        with pytest.raises(AuditError, match="were removed or moved"):
            verify_trail([*trail[:2], trail[3], trail[2], *trail[4:]], bundles=self.bundles)

    async def test_events_that_pretend(self, tmp_path: Path) -> None:
        """Call a tool by the name of an event, of a checkpoint or with a line break, so that the audit seems to
        say something else.

        Each is one denial, on one line, and the file verifies.
        """
        gate = ToolGate({})
        path = tmp_path / "audit.jsonl"
        names = ["trail.checkpoint", 'x","decision":"allow', "call.finished\n{}", "\x00", "reason"]
        with JsonlSink(path, on_trouble="block") as sink:
            async with AgentWorld(on_event=sink).running() as world:
                async with task_of(world):
                    for name in names:
                        with pytest.raises(DeniedError):
                            gate.call(name, {"decision": "allow", "reason": "allowed"})
        assert len(names) == verify_trail(path).denials
        assert ["missing_scope"] * len(names) == reasons_in(path)


class TestSinks:
    @pytest.mark.parametrize("error", [RuntimeError("full"), ValueError("eyJ")], ids=repr)
    async def test_one_that_fails(self, error: Exception) -> None:
        """Make the audit's sink raise an error.

        It does not let anything through, and does not break what goes on: denials are counted.
        """

        def fails(event: Event) -> None:
            raise error

        async with AgentWorld(on_event=fails).running() as world:
            async with task_of(world) as task:
                async with task.call(READ, INVOICE):
                    pass
                with pytest.raises(DeniedError) as caught:
                    async with task.call(READ, "tenants/globex/invoices/7"):
                        raise AssertionError("it was let in")
                assert (1, "tenant_boundary") == (task.denied, caught.value.reason)

    @pytest.mark.parametrize("name", ["call.finished", "call.denied", "task.ended", "task.started"])
    async def test_one_that_ends_the_program(self, name: str) -> None:
        """Interrupt the program (Ctrl-C) in the middle of an event.

        Whatever it interrupts: no call stays open, and none begins.
        """

        reasons: list[object] = []
        withheld: list[object] = []

        def interrupts(event: Event) -> None:
            if event.name == "call.denied":
                reasons.append(event.attributes["reason"])
            if event.name == "credential.withheld":
                withheld.append(event.attributes["reason"])
            if event.name == name:
                raise KeyboardInterrupt

        async with AgentWorld(on_event=interrupts).running() as world:
            task = task_of(world)
            with pytest.raises(KeyboardInterrupt):
                async with task:
                    async with task.call(READ, INVOICE) as call:
                        pass
                    async with task.call("payroll:read"):
                        raise AssertionError("it was let in")
            assert ({}, {}) == (task.calls, world.host.tasks)
            assert task.ended is not None
            if name not in {"task.started"}:
                with pytest.raises(TaskEndedError):
                    call.refuse()
            assert (["missing_scope"] if name in {"call.denied", "task.ended"} else []) == reasons
        assert ([] if name == "task.started" else ["task_ended"]) == withheld, "credential.withheld"


class TestStop:
    async def test_while_200_calls_run(self) -> None:
        """Have 200 calls running, in loops and threads, when somebody pulls the kill switch.

        All of them end without waiting for anything, and nothing begins.
        """
        limits = {"calls_per_task": 1000, "calls_per_minute": 10_000}
        async with AgentWorld(contract(limits=limits)).running() as world:
            go_on = threading.Event()
            ready: list[int] = []
            outcome: list[str] = []

            async def run(call: Call, number: int) -> None:
                try:
                    async with call:
                        ready.append(number)
                        await anyio.sleep_forever()
                except TaskEndedError as error:
                    outcome.append(error.reason)

            def block(call: Call, number: int) -> str:
                with call:
                    ready.append(number)
                    go_on.wait(20)
                    return "came back"

            async def in_thread(call: Call, number: int, limit: anyio.CapacityLimiter) -> None:
                try:
                    outcome.append(await anyio.to_thread.run_sync(block, call, number, limiter=limit))
                except TaskEndedError as error:
                    outcome.append(error.reason)

            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    with pytest.raises(TaskEndedError, match="leak"):
                        async with task_of(world) as task:
                            limit = anyio.CapacityLimiter(20)
                            for number in range(180):
                                group.start_soon(run, task.call(READ, INVOICE), number)
                            for number in range(20):
                                group.start_soon(in_thread, task.call("summarize"), number, limit)
                            while len(ready) < 200:
                                await anyio.sleep(0.001)
                            begun = world.clock.monotonic()
                            await anyio.to_thread.run_sync(world.host.stop, "leak")
                            go_on.set()
                            await anyio.sleep_forever()
            assert begun == world.clock.monotonic()
            assert ["task_ended"] * 200 == outcome
            assert ["cancelled"] * 200 == [facts["outcome"] for facts in world.told("call.finished")]
            assert ["stopped"] * 200 == [facts["ended"] for facts in world.told("call.finished")]
            with pytest.raises(TaskEndedError):
                async with task.call(READ, INVOICE):
                    pass
        assert ["task_ended"] == world.reasons

    async def test_by_many_threads_at_once(self, world: AgentWorld) -> None:
        """Begin and end tasks while ten threads pull the kill switch at once.

        Afterwards there are no tasks.
        """

        async def work() -> None:
            try:
                async with task_of(world) as task:
                    async with task.call("summarize"):
                        await anyio.sleep_forever()
            except (TaskEndedError, Exception):
                pass

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(work)
            await anyio.lowlevel.checkpoint()
            threads = [threading.Thread(target=world.host.stop, args=(str(n),)) for n in range(10)]
            for thread in threads:
                thread.start()
            for _ in range(5):
                group.start_soon(work)
        for thread in threads:
            thread.join()
        assert {} == world.host.tasks
        assert all(facts["outcome"] == "stopped" for facts in world.told("task.ended"))
        assert {"task"} == {facts["reason"] for facts in world.told("task.refused")}
        assert {"stopped"} >= {facts["ended"] for facts in world.told("call.finished")}


async def test_a_program_that_swallows_the_end(world: AgentWorld) -> None:
    """Catch and ignore every error, the end of the task included.

    The next call is denied, and the program hears of the end when it leaves the task.
    """
    said: list[Any] = []
    with pytest.raises(TaskEndedError):
        async with task_of(world) as task:
            task.end("stopped", "enough")
            try:
                async with task.call("summarize"):
                    said.append("let in")
            except Exception as error:  # noqa: BLE001
                said.append(type(error).__name__)
    assert ["TaskEndedError"] == said
    assert ["task_ended"] == world.reasons


@pytest.mark.parametrize("when", ["on_start", "on_end"])
async def test_a_span_processor_that_fails(
    world: AgentWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """Break the telemetry around a call.

    The call has its record in the audit, and nothing is let through.
    """
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    class Fails(SpanProcessor):
        pass

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the collector is gone")

    setattr(Fails, when, fail)
    provider = TracerProvider()
    provider.add_span_processor(Fails())
    monkeypatch.setattr(_spans, "_tracer", lambda: provider.get_tracer("test"))
    async with task_of(world) as task:
        async with task.call(READ, INVOICE) as call:
            assert call is current_call()
        assert None is current_call()
        with pytest.raises(DeniedError):
            async with task.call(READ, "tenants/globex/invoices/7"):
                raise AssertionError("it was let in")
    assert ["ok"] == [facts["outcome"] for facts in world.told("call.finished")]
    assert ["tenant_boundary"] == world.reasons
    assert "a span could not" in caplog.text
