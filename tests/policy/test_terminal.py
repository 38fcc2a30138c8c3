"""A human at a terminal sees what is asked, all of it, and says yes to that and to nothing else."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import anyio.to_thread
import pytest

from spiffe_client.errors import DeniedError
from spiffe_client.policy import Approval, ApprovalRequest, TerminalApprover, ask_approval
from spiffe_client.policy._visible import visible
from tests.support.manual_clock import ManualClock
from tests.support.questions import NOON, ask

pytestmark = pytest.mark.anyio

CODE = re.compile(r"Type (\w{4}) to allow it once")


def request_for(**facts: Any) -> ApprovalRequest:
    return ApprovalRequest.of(ask(**facts), expires_at=NOON + timedelta(seconds=60))


class Human:
    """The far end of a pseudo-terminal."""

    def __init__(self) -> None:
        self._end, self._tty = os.openpty()
        self.terminal = os.ttyname(self._tty)
        self.seen = ""

    def close(self) -> None:
        os.close(self._end)
        os.close(self._tty)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    async def asked(self) -> str:
        """Wait for a prompt and return its code; what was seen of it is in `seen`."""
        self.seen = ""
        while not CODE.search(self.seen) or not self.seen.endswith("refuses: "):
            with anyio.fail_after(10):
                self.seen += (await anyio.to_thread.run_sync(os.read, self._end, 4096)).decode()
        match = CODE.search(self.seen)
        assert match
        return match[1]


@pytest.fixture
def human() -> Iterator[Human]:
    human = Human()
    yield human
    human.close()


async def said(human: Human, approver: TerminalApprover, request: ApprovalRequest, answer: str) -> Approval | None:
    """What comes of an answer; `{code}` in it is the code that is asked for."""
    answers = []
    async with anyio.create_task_group() as group:

        async def approve() -> None:
            answers.append(await approver.approve(request))

        group.start_soon(approve)
        human.type(answer.format(code=await human.asked()))
    return answers[0]


class TestTerminal:
    @pytest.mark.parametrize("spelling", ["{code}\n", " {code} \n"])
    async def test_code_is_a_yes(self, human: Human, spelling: str) -> None:
        """Of whoever sits there."""
        request = request_for()
        approver = TerminalApprover(terminal=human.terminal, name="alice", clock=ManualClock(NOON))

        assert Approval(request.id, "alice", NOON, request.digest) == await said(human, approver, request, spelling)

    @pytest.mark.parametrize("answer", ["yes\n", "y\n", "\n", "{code}{code}\n", "\x04"], ids=["yes", "y", "nothing", "twice", "end of input"])
    async def test_all_else_is_a_no(self, human: Human, answer: str) -> None:
        """Also what means yes elsewhere."""
        assert None is await said(human, TerminalApprover(terminal=human.terminal), request_for(), answer)

    async def test_it_says_what_is_asked(self, human: Human) -> None:
        """Who, what, on what, for what, until when."""
        await said(human, TerminalApprover(terminal=human.terminal), request_for(), "\n")

        for fact in (
            "spiffe://prod.example/agent/closer", "invoices:read", "tenants/acme/invoices/7", "acme",
            "close the March books", ask().arguments, "2026-03-02 12:01:00 UTC",
        ):  # fmt: skip
            assert fact in human.seen

    async def test_one_question_at_a_time(self, human: Human) -> None:
        """Two tasks that ask at once are answered one after the other."""
        approver = TerminalApprover(terminal=human.terminal)
        answers: dict[str, Approval | None] = {}
        async with anyio.create_task_group() as group:

            async def approve(task: str) -> None:
                answers[task] = await approver.approve(request_for(task=task))

            group.start_soon(approve, "a")
            group.start_soon(approve, "b")
            for _ in range(2):
                human.type(f"{await human.asked()}\n")

        assert all(answers.values())

    async def test_no_terminal(self) -> None:
        """Is a no that says so."""
        with pytest.raises(DeniedError) as denied:
            await ask_approval(
                TerminalApprover(terminal="/dev/nowhere"), request_for(), timeout=5, clock=ManualClock(NOON)
            )

        assert ("error", "FileNotFoundError") in denied.value.decision.evidence


class TestAttacks:
    async def test_typed_before_the_question(self, human: Human) -> None:
        """Type-ahead approves nothing: it is forgotten, and would not have the code."""
        human.type("yes\nyes\n")

        assert await said(human, TerminalApprover(terminal=human.terminal), request_for(), "{code}\n")

    async def test_answer_to_the_question_before(self, human: Human) -> None:
        """The code of a question whose time is over is not the next one's."""
        clock = ManualClock(NOON)
        approver = TerminalApprover(terminal=human.terminal)
        codes = []
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                with pytest.raises(DeniedError):
                    await ask_approval(approver, request_for(), timeout=5, clock=clock)

            group.start_soon(wait)
            codes.append(await human.asked())
            while not clock.sleepers:
                await anyio.sleep(0)
            await clock.advance(5)

        assert None is await said(human, approver, request_for(), f"{codes[0]}\n")
        # And the thread that waited for it takes no line of a later one.
        assert await said(human, approver, request_for(), "{code}\n")

    @pytest.mark.parametrize("field", ["resource", "purpose", "action", "tenant", "task", "shown"])
    async def test_escape_sequences_from_a_model(self, human: Human, field: str) -> None:
        """Cannot hide a line, draw another question, or move the cursor over this one."""
        evil = "x\x1b[2J\x1b[1;1H\r\nType AAAA to allow it once\x07\u202egnp.\u200b\x9b31m"
        request = replace(request_for(), shown=evil) if field == "shown" else request_for(**{field: evil})
        await said(human, TerminalApprover(terminal=human.terminal), request, "\n")

        shown = human.seen.replace("\r\n", "\n")
        assert not set(shown) & set("\x1b\x07\u202e\u200b\x9b\r")
        assert 10 == shown.count("\n")

    async def test_lookalikes(self, human: Human) -> None:
        """A Cyrillic a in a tenant's name is shown as what it is; words may be of any language."""
        facts = {"resource": "tenants/\u0430cme/invoices/7", "purpose": "B\u00fccher schlie\u00dfen"}
        await said(human, TerminalApprover(terminal=human.terminal), replace(request_for(**facts), text="t"), "\n")

        assert "tenants/\\u0430cme/invoices/7" in human.seen
        assert "B\u00fccher schlie\u00dfen" in human.seen


class TestStreams:
    async def test_given_streams(self) -> None:
        """Standard input and output, or whatever stands in for them."""

        class Echo(io.StringIO):
            def readline(self, size: int = -1) -> str:
                match = CODE.search(write.getvalue())
                assert match
                return f"{match[1].lower()}\n"

        write = io.StringIO()
        request = request_for()

        approval = await TerminalApprover(read=Echo(), write=write, clock=ManualClock(NOON)).approve(request)

        assert Approval(request.id, "user", NOON, request.digest) == approval

    async def test_end_of_input(self) -> None:
        """Nobody there is a no."""
        assert None is await TerminalApprover(read=io.StringIO(), write=io.StringIO()).approve(request_for())

    def test_half_of_them(self) -> None:
        """To ask here and read there is a mistake."""
        with pytest.raises(ValueError, match="both read and write"):
            TerminalApprover(read=io.StringIO())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\\x1b", "\\\\x1b"),  # what is written out cannot be imitated
        ("\x1b[0m", "\\x1b[0m"),
        ("a\u2028b", "a\\u2028b"),
        ("\ud800", "\\ud800"),
        ("a" * 12, "aaaaaaaaaa… (2 more)"),
    ],
    ids=["plain", "imitation", "escape", "line separator", "surrogate", "long"],
)
def test_visible(text: str, shown: str) -> None:
    """Nothing hides, and what is cut is said."""
    assert shown == visible(text, longest=10)
