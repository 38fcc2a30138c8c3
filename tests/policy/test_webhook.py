"""An approval service is asked once, and only a whole yes to this very request is one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest

from spiffe_client.errors import DecisionUnavailableError, DeniedError, PolicyError
from spiffe_client.policy import Approval, ApprovalRequest, WebhookApprover, ask_approval
from tests.support.manual_clock import ManualClock
from tests.support.questions import NOON, ask
from tests.support.raw_broker import HANG, Asked, RawBroker, json_reply, raw_reply, serve_raw

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[RawBroker]:
    with serve_raw(lambda asked: HANG) as server:
        yield server


@pytest.fixture
def hook(server: RawBroker) -> RawBroker:
    server.asked.clear()
    return server


def request_for(**facts: Any) -> ApprovalRequest:
    return ApprovalRequest.of(ask(**facts), expires_at=NOON + timedelta(seconds=60))


def replies(hook: RawBroker, request: ApprovalRequest, status: int = 200, **changes: Any) -> None:
    """Have the service say yes, but for the changes; `...` leaves a member out."""
    reply = {"approved": True, "approver": "alice", "id": request.id, "digest": request.digest, **changes}
    answer = json_reply({name: value for name, value in reply.items() if value is not ...}, status)
    hook.script = lambda asked: answer


async def approve(hook: RawBroker, request: ApprovalRequest) -> Approval | None:
    async with WebhookApprover(f"{hook.url}/approvals", clock=ManualClock(NOON)) as approver:
        return await approver.approve(request)


async def test_yes(hook: RawBroker) -> None:
    """With the name of who said it."""
    request = request_for()
    replies(hook, request)

    assert Approval(request.id, "alice", NOON, request.digest) == await approve(hook, request)
    (asked,) = hook.asked
    assert ("POST", "/approvals", request.id) == (asked.method, asked.target, asked.header("x-request-id"))
    assert {
        "id": request.id,
        "agent": "spiffe://prod.example/agent/closer",
        "task": "task-1",
        "tenant": "acme",
        "purpose": "close the March books",
        "action": "invoices:read",
        "resource": "tenants/acme/invoices/7",
        "arguments": ask().arguments,
        "digest": request.digest,
        "expires_at": "2026-03-02T12:01:00Z",
        "text": request.text,
        "shown": "",
    } == json.loads(asked.body)


async def test_no(hook: RawBroker) -> None:
    """Needs no name."""
    request = request_for()
    replies(hook, request, approved=False, approver=..., digest=...)

    assert None is await approve(hook, request)


async def test_client_of_ones_own(hook: RawBroker) -> None:
    """Brings its authentication, and stays open."""
    request = request_for()
    replies(hook, request)
    async with httpx.AsyncClient(headers={"authorization": "Bearer mine"}, trust_env=False) as http:
        approver = WebhookApprover(hook.url, client=http, clock=ManualClock(NOON))
        assert await approver.approve(request)
        await approver.aclose()
        assert not http.is_closed

    assert "Bearer mine" == hook.asked[0].header("authorization")


async def test_client_with_less_patience_than_people(hook: RawBroker) -> None:
    """A client's own time limits are for machines: here the request's expiry counts."""
    request = request_for()
    replies(hook, request)
    answer = hook.script

    def slowly(asked: Asked) -> Any:
        time.sleep(0.2)
        return answer(asked)

    hook.script = slowly
    async with httpx.AsyncClient(timeout=0.05, trust_env=False) as http:
        assert await WebhookApprover(hook.url, client=http, clock=ManualClock(NOON)).approve(request)


class TestAttacks:
    @pytest.mark.parametrize(
        "changes",
        [
            {"approved": "true"}, {"approved": 1}, {"approved": None}, {"approved": ...}, {"approved": [True]},
            {"id": "another"}, {"id": ...}, {"digest": "of-another"}, {"digest": ...}, {"digest": None},
            {"approver": ...}, {"approver": None}, {"approver": 7}, {"status": 202}, {"status": 500}, {"status": 503},
        ],
        ids=lambda changes: ascii(changes).replace("Ellipsis", "missing"),
    )  # fmt: skip
    async def test_answer_that_is_none(self, hook: RawBroker, changes: dict) -> None:
        """A yes to something else, of another type, or by nobody is a no; and nobody is asked twice."""
        request = request_for()
        replies(hook, request, **changes)

        with pytest.raises(DecisionUnavailableError, match="gave no answer that counts"):
            await approve(hook, request)
        assert 1 == len(hook.asked)

    @pytest.mark.parametrize("name", ["", "a\x1b[2Jb", "a" * 500], ids=["empty", "escape", "long"])
    async def test_approver_that_is_no_name(self, hook: RawBroker, name: str) -> None:
        """What would be shown as who approved has to be a name."""
        request = request_for()
        replies(hook, request, approver=name)

        with pytest.raises(DeniedError) as denied:
            await ask_through(hook, request)
        assert ("cause", "wrong_answer") in denied.value.decision.evidence

    async def test_redirect(self, hook: RawBroker) -> None:
        """Who approves is not for the network to say."""
        hook.script = lambda asked: raw_reply(307, b"", ("Location", "/yes"))

        with pytest.raises(DecisionUnavailableError, match="redirect"):
            await approve(hook, request_for())

    async def test_members_twice(self, hook: RawBroker) -> None:
        """`approved` given twice means nothing."""
        request = request_for()
        reply = json.dumps({"approved": False, "approver": "a", "id": request.id, "arguments": request.arguments})
        body = reply.replace("{", '{"approved": true, ', 1).encode()
        hook.script = lambda asked: raw_reply(200, body, ("Content-Type", "application/json"))

        with pytest.raises(DecisionUnavailableError, match="not_json"):
            await approve(hook, request)

    @pytest.mark.parametrize("url", ["http://approvals.example", "https://user:secret@approvals.example", "approvals.example"])
    async def test_address(self, url: str) -> None:
        """Answers come over https, or from this machine; a password is not shown."""
        with pytest.raises(PolicyError):
            WebhookApprover(url)

    async def test_error_in_the_evidence(self, hook: RawBroker) -> None:
        """Asked with a deadline, the refusal says what was wrong with the answer."""
        request = request_for()
        replies(hook, request, status=503)

        with pytest.raises(DeniedError) as denied:
            await ask_through(hook, request)

        evidence = dict(denied.value.decision.evidence)
        assert ("error", "decision_unavailable", "status") == (evidence["cause"], evidence["error"], evidence["detail"])


async def ask_through(hook: RawBroker, request: ApprovalRequest) -> Approval:
    clock = ManualClock(NOON)
    async with WebhookApprover(hook.url, clock=clock) as approver:
        return await ask_approval(approver, request, timeout=30, clock=clock)


async def test_silence(hook: RawBroker) -> None:
    """Asked without another deadline, it ends when the request expires."""
    hook.script = lambda asked: HANG
    request = ApprovalRequest.of(ask(), expires_at=NOON + timedelta(milliseconds=100))

    with anyio.fail_after(10), pytest.raises(DecisionUnavailableError, match="timeout"):
        await approve(hook, request)


async def test_caller_that_stops_waiting(hook: RawBroker) -> None:
    """A deadline before that is kept too, and no connection stays open."""
    hook.script = lambda asked: HANG
    with anyio.move_on_after(0.1) as scope:
        await approve(hook, request_for())
    assert scope.cancelled_caught
