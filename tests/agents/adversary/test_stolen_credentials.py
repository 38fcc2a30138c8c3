"""Attacks with what was stolen: tokens, proofs, tickets. Real token broker, real service, real keys.

Each test is one attack, and ends with what the audit or the other side has for it.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx
import pytest
from tests.support.agent_pair import AUDITOR, CLOSER, ORDER, READ, REFUND, THIEF, Pair, pair_contract, pair_of_agents
from tests.support.oauth_client import OAuthClient, ProofKey

from spiffe_client._clock import SystemClock
from spiffe_client.agents import Call, Task, Ticket
from spiffe_client.agents._ticket import redeem_ticket
from spiffe_client.errors import DeniedError, TaskEndedError, TaskError, TicketError, TokenError
from spiffe_client.tokens import TokenRequest

pytestmark = pytest.mark.anyio


def challenge(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.headers["www-authenticate"]


async def overheard(call: Call, url: str) -> httpx.Headers:
    """The headers of a request that the service took."""
    seen: list[httpx.Headers] = []

    async def keep(request: httpx.Request) -> None:
        seen.append(request.headers.copy())

    async with httpx.AsyncClient(auth=call.auth, event_hooks={"response": [lambda r: keep(r.request)]}) as http:
        assert 200 == (await http.get(url)).status_code
    return seen[-1]


class TestTokens:
    async def test_a_stolen_token_with_the_thiefs_key(self, pair: Pair) -> None:
        """Show a stolen token to the service: with a proof by the thief's key, without one, as a bearer token.

        It is bound to the task's own key: the thief's proof, or none, does not fit.
        """
        url, key = f"{pair.service.url}/v1/orders", ProofKey()
        async with pair.task() as task, httpx.AsyncClient() as http:
            async with task.call(READ, ORDER) as call:
                token = call.token.token.reveal()
                proof = {"DPoP": key.proof("GET", url, token=token)}
                for headers in (
                    {"Authorization": f"DPoP {token}", **proof},
                    {"Authorization": f"DPoP {token}"},
                    {"Authorization": f"Bearer {token}"},
                ):
                    status, why = challenge(await http.get(url, headers=headers))
                    assert 401 == status
                    assert "invalid_token" in why or "invalid_dpop_proof" in why
                    assert "token.refused" == pair.refused[-1][0]
                    assert token not in repr(pair.service_audit)
        assert {("token.refused", "invalid_dpop_proof"), ("token.refused", "invalid_token")} == set(pair.refused)
        assert 0 == pair.service.answers[200]
        assert [call.token.fingerprint] == [facts["token"] for facts in pair.told("call.finished")]

    async def test_a_stolen_token_used_up_the_chain(self, pair: Pair) -> None:
        """Exchange a stolen token for another one at the token broker, with a key of one's own.

        Our client exchanges a token for its holder only; to a thief with another client the token broker says
        that it may not act for that agent.
        """
        async with pair.task() as task:
            async with task.call(READ, ORDER) as call:
                stolen = call.token.token.reveal()
                with pytest.raises(TokenError, match="only its holder can exchange it"):
                    await pair.thief.tokens.fetch(TokenRequest.of(READ, subject=call.token))
                async with httpx.AsyncClient() as http:  # and a thief who does not use our client
                    thief, key = OAuthClient(pair.broker, http, THIEF), ProofKey()
                    for headers in ({}, thief.proven(key), thief.proven(key, token=stolen)):
                        reply = await thief.exchange(stolen, headers=headers)
                        assert (400, "invalid_request") == (reply.status_code, reply.json()["error"])
        assert ["token_request_invalid"] == [facts["error"] for facts in pair.told("token.denied")]

    async def test_a_request_sent_twice(self, pair: Pair) -> None:
        """Overhear token and proof of a request, and send them again.

        A proof is good once.
        """
        url = f"{pair.service.url}/v1/orders"
        async with pair.task() as task, httpx.AsyncClient() as http:
            async with task.call(READ, ORDER) as call:
                headers = await overheard(call, url)
                again = {name: headers[name] for name in ("authorization", "dpop")}
                status, why = challenge(await http.get(url, headers=again))
        assert (401, True) == (status, "invalid_dpop_proof" in why)
        assert [("token.refused", "invalid_dpop_proof")] == pair.refused

    async def test_a_proof_for_another_request(self, pair: Pair) -> None:
        """Use an overheard proof for another path or method.

        It is for one path and one method.
        """
        url = f"{pair.service.url}/v1/orders"
        async with pair.task() as task, httpx.AsyncClient() as http:
            async with task.call(READ, ORDER) as call:
                seen = await overheard(call, url)
                again = {name: seen[name] for name in ("authorization", "dpop")}
                for reply in (
                    await http.get(f"{pair.service.url}/any", headers=again),
                    await http.post(url, headers=again),
                ):
                    status, why = challenge(reply)
                    assert (401, True) == (status, "invalid_dpop_proof" in why)
        assert [("token.refused", "invalid_dpop_proof")] * 2 == pair.refused

    @pytest.mark.parametrize("action", [READ, REFUND])
    async def test_a_token_kept_beyond_its_task(self, pair: Pair, action: str) -> None:
        """Keep a token, with the right key, after its task's or its sensitive call's end.

        It was revoked when that ended.
        """
        async with httpx.AsyncClient() as http:
            asking = OAuthClient(pair.broker, http, CLOSER)
            async with pair.task() as task:
                async with task.call(action, ORDER, arguments={"n": 1}) as call:
                    token = call.token.token.reveal()
                    assert (await asking.introspect(token))["active"]
                if action == REFUND:
                    assert {"active": False} == await asking.introspect(token)
            assert {"active": False} == await asking.introspect(token)
        assert 1 == pair.told("task.ended")[0]["revoked"]
        with pytest.raises(TaskEndedError):
            call.refuse()
        assert ["task_ended"] == [facts["reason"] for facts in pair.told("credential.withheld")]

    async def test_a_sensitive_call_that_is_cancelled(self, pair: Pair) -> None:
        """Cancel a sensitive call, so that nobody gives its token back.

        It is revoked all the same, at the task's end at the latest.
        """
        async with pair.task() as task:
            with anyio.CancelScope() as scope:
                async with task.call(REFUND, ORDER, arguments={"n": 1}) as call:
                    scope.cancel()
                    await anyio.sleep_forever()
            with pytest.raises(TaskError, match="has ended"):
                _ = call.auth
        assert ["call_ended"] == [facts["reason"] for facts in pair.told("credential.withheld")]
        (ended,) = pair.told("task.ended")
        assert 1 == ended["revoked"]
        assert 0 == ended["not_revoked"]
        assert ["cancelled"] == [facts["outcome"] for facts in pair.told("call.finished")]
        assert call.token is not None

    async def test_a_sensitive_call_in_a_thread(self, pair: Pair) -> None:
        """Make a sensitive call in a thread, and keep its token.

        It is revoked when the call ends, as that of any other.
        """

        def refund(task: Task) -> None:
            with task.call(REFUND, ORDER, arguments={"n": 1}) as call:
                auth = call.auth
                call.http_sync.post(f"{pair.service.url}/any", json={"n": 1}).raise_for_status()
            with pytest.raises(TaskError, match="has ended"):
                httpx.post(f"{pair.service.url}/any", json={"n": 1}, auth=auth)

        async with pair.task() as task:
            await anyio.to_thread.run_sync(refund, task)
            assert (1, []) == (task.revoked, task.leftover)
        assert ["call_ended"] == [facts["reason"] for facts in pair.told("credential.withheld")]
        assert 1 == pair.told("task.ended")[0]["revoked"]

    async def test_a_sensitive_call_that_runs_when_its_task_ends(self, pair: Pair) -> None:
        """Let sensitive calls run on while their task takes back what it has.

        All are cancelled, and none of their tokens is left.
        """
        begun = anyio.Event()

        async def work(call: Call) -> None:
            with pytest.raises(TaskEndedError):
                async with call:
                    begun.set()
                    await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            async with pair.task() as task:
                for number in range(3):
                    group.start_soon(work, task.call(REFUND, ORDER, arguments={"n": number}))
                await begun.wait()
                while len([c for c in task.calls.values() if c.token is not None]) < 3:
                    await anyio.sleep(0.001)
        assert ["cancelled"] * 3 == [facts["outcome"] for facts in pair.told("call.finished")]
        assert ["finished"] * 3 == [facts["ended"] for facts in pair.told("call.finished")]
        assert 0 == pair.told("task.ended")[0]["not_revoked"]


class TestTickets:
    async def test_used_twice(self, pair: Pair) -> None:
        """Redeem a ticket twice.

        The token broker has it crossed out.
        """
        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, [READ], calls=3)
            async with pair.auditor.agent.redeem(ticket):
                pass
            with pytest.raises(TicketError, match="used before"):
                async with pair.auditor.agent.redeem(ticket):
                    pass
        assert 1 == len(pair.told("delegation.redeemed"))
        assert ["ticket"] == [facts["reason"] for facts in pair.told("delegation.refused")]
        assert ["invalid_grant"] == [facts["error"] for facts in pair.told("token.denied")]

    async def test_used_twice_at_once(self, pair: Pair) -> None:
        """Redeem one ticket four times at once.

        One gets it.
        """
        outcome: list[str] = []

        async def redeem(ticket: Ticket) -> None:
            try:
                async with pair.auditor.agent.redeem(ticket):
                    outcome.append("taken")
            except TicketError:
                outcome.append("refused")

        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, [READ], calls=3)
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(redeem, ticket)
        assert ["refused"] * 3 + ["taken"] == sorted(outcome)
        assert 1 == len(pair.told("delegation.redeemed"))
        assert ["ticket"] * 3 == [facts["reason"] for facts in pair.told("delegation.refused")]
        assert ["invalid_grant"] * 3 == [facts["error"] for facts in pair.told("token.denied")]

    @pytest.mark.parametrize("who", ["thief", "closer"])
    async def test_by_another_agent(self, pair: Pair, who: str) -> None:
        """Another agent redeems it: as it is, and with its own check taken out.

        It refuses by itself; and who has that check taken out is refused by the token broker.
        """
        one: Any = getattr(pair, who)
        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, [READ], calls=3)
            with pytest.raises(TicketError, match="made out to"):
                async with one.agent.redeem(ticket):
                    pass
            lying = pair_contract(pair.service, AUDITOR)
            with pytest.raises(TicketError, match="not taken"):
                await redeem_ticket(one.tokens, ticket, lying, "x", now=datetime.now(UTC))
            async with pair.auditor.agent.redeem(ticket):
                pass
        assert [AUDITOR] == [facts["agent"] for facts in pair.told("delegation.redeemed")]
        assert ["ticket"] == [facts["reason"] for facts in pair.told("delegation.refused")]
        assert ["invalid_grant"] == [facts["error"] for facts in pair.told("token.denied")]

    async def test_late(self, pair: Pair) -> None:
        """Redeem it after the time it says.

        It is not even shown to the token broker.
        """

        class Later(SystemClock):
            def now(self) -> datetime:
                return super().now() + timedelta(seconds=11)

        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, [READ], calls=3, redeem_within=10)
            asked = pair.broker.requests["token"]
            pair.auditor.agent.clock = Later()
            with pytest.raises(TicketError, match="too late"):
                async with pair.auditor.agent.redeem(ticket):
                    pass
        assert asked == pair.broker.requests["token"]
        assert ["ticket"] == [facts["reason"] for facts in pair.told("delegation.refused")]

    @pytest.mark.parametrize(
        "change",
        [
            {"calls": 100_000},
            {"tenant": "globex"},
            {"actions": [READ, REFUND]},
            {"seconds": 1e6},
            {"depth": 9},
            {"within": None, "purpose": "something else"},
            {"to": THIEF},
        ],
        ids=lambda change: next(iter(change)),
    )
    async def test_forged(self, pair: Pair, change: dict[str, Any]) -> None:
        """Change the ticket: calls, tenant, actions, time, depth, purpose, for whom.

        It has no valid signature any more, whatever was changed.
        """
        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, [READ], calls=3)
            head, body, signature = ticket.reveal().split(".")
            claims = json.loads(base64.urlsafe_b64decode(body + "=="))
            claims["authorization_details"][0] |= change
            forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
            redeemer = pair.thief if "to" in change else pair.auditor
            with pytest.raises(TicketError, match="not taken"):
                async with redeemer.agent.redeem(f"{head}.{forged}.{signature}"):
                    pass
        assert [] == pair.told("delegation.redeemed")
        assert ["ticket"] == [facts["reason"] for facts in pair.told("delegation.refused")]
        assert ["invalid_grant"] == [facts["error"] for facts in pair.told("token.denied")]

    async def test_an_access_token_as_a_ticket(self, pair: Pair) -> None:
        """Redeem an access token as if it were a ticket.

        It is none.
        """
        async with pair.task() as task:
            async with task.call(READ, ORDER) as call:
                with pytest.raises(TicketError, match="no ticket"):
                    async with pair.auditor.agent.redeem(call.token.token.reveal()):
                        pass
        assert [] == pair.told("delegation.redeemed")
        assert ["ticket"] == [facts["reason"] for facts in pair.told("delegation.refused")]

    async def test_issued_while_its_task_ends(self, pair: Pair) -> None:
        """End the task while its ticket is being issued.

        The ticket is revoked, and nobody gets it.
        """
        said: list[BaseException] = []
        waiting, go_on = anyio.Event(), anyio.Event()

        async def ask(task: Task) -> None:
            real = pair.closer.tokens.exchange

            async def slow(*args: Any, **options: Any) -> Any:
                token = await real(*args, **options)
                waiting.set()
                await go_on.wait()
                return token

            pair.closer.tokens.exchange = slow  # type: ignore[method-assign]
            try:
                await task.ticket(AUDITOR, [READ], calls=3)
            except TaskEndedError as error:
                said.append(error)

        async with anyio.create_task_group() as group:
            async with pair.task() as task:
                group.start_soon(ask, task)
                await waiting.wait()
            go_on.set()
        assert (1, 1) == (len(said), task.revoked)
        assert ["task_ended"] == [facts["reason"] for facts in pair.told("delegation.refused")]
        assert [] == pair.told("delegation.granted")

    async def test_redeemed_where_nothing_may_begin(self, pair: Pair) -> None:
        """Redeem it at an agent that was stopped, or that has too many tasks.

        A stopped agent does not use it up; one that has too much to do gives back what it was worth.
        """
        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, [READ], calls=3)
            host = pair.auditor.agent
            tasks = [host.task(str(n), [READ], tenant="acme") for n in range(4)]
            async with tasks[0], tasks[1], tasks[2], tasks[3]:
                with pytest.raises(TaskError, match="4 tasks are alive"):
                    async with host.redeem(ticket):
                        pass
            revoked = pair.broker.requests["revocation"]
            assert revoked >= 1
            another = await task.ticket(AUDITOR, [READ], calls=3)
            asked = pair.broker.requests["token"]
            host.stop("enough")
            with pytest.raises(TaskError, match="no task begins: enough"):
                async with host.redeem(another):
                    pass
            assert asked == pair.broker.requests["token"]
        assert [] == pair.told("delegation.redeemed")
        assert ["task"] == [facts["reason"] for facts in pair.told("task.refused")]
        assert ["task"] == [facts["reason"] for facts in pair.told("delegation.refused")]


class TestWhatATicketSays:
    """Written by an agent that the token broker trusts, and that was taken over."""

    @pytest.mark.parametrize(
        "change",
        [
            {"params": {"tenant": "globex"}, "tenant": ""},
            {"params": {"month": "../3"}},
            {"tenant": "acme/../globex"},
            {"within": ["tenants/{tenant}/orders/*"]},
            {"within": ["../x"]},
            {"purpose": "close\nthe books"},
            {"purpose": "x" * 1001},
            {"parents": "a b"},
            {"task": "x\n"},
            {"trace_id": "nope"},
            {"seconds": -1.0},
            {"calls": -1},
            {"depth": -1},
        ],
        ids=lambda change: next(reversed(change)),
    )
    async def test_nonsense(self, pair: Pair, change: dict[str, Any]) -> None:
        """An agent that was taken over writes tickets with nonsense: another tenant, `../`, line breaks,
        negative numbers.

        Each is refused before it is shown to the token broker.
        """
        details = {
            "type": "agent_ticket",
            "to": AUDITOR,
            "actions": [READ],
            "tenant": "acme",
            "params": {},
            "within": None,
            "seconds": 60.0,
            "calls": 3,
            "depth": 1,
            "purpose": "x",
            "task": "0" * 32,
            "parents": "",
            "trace_id": "0" * 32,
            "until": datetime.now(UTC).timestamp() + 60,
            **change,
        }
        claims = {"authorization_details": [details]}
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        head = base64.urlsafe_b64encode(b'{"alg":"ES256","typ":"JWT"}').rstrip(b"=").decode()
        with pytest.raises(TicketError):
            async with pair.auditor.agent.redeem(f"{head}.{body}.c2ln"):
                pass
        assert 0 == pair.broker.requests["token"]
        assert ["ticket"] == [facts["reason"] for facts in pair.told("delegation.refused")]

    async def test_more_than_its_own_contract(self) -> None:
        """Redeem a ticket that is worth more than one's own contract permits.

        Time, calls and depth are cut to what the contract of who redeems it has.
        """
        limits = {"delegation_depth": 1, "task_seconds": 20, "calls_per_task": 2}
        async with pair_of_agents(limits=limits) as pair:
            async with pair.task() as task:
                ticket = await task.ticket(AUDITOR, [READ], calls=100)
                async with pair.auditor.agent.redeem(ticket) as work:
                    assert (20, 2, 1) == (work.terms.seconds, work.terms.calls, work.terms.depth)
                    for _ in range(2):
                        async with work.call(READ, ORDER):
                            pass
                    with pytest.raises(DeniedError):
                        async with work.call(READ, ORDER):
                            pass
        assert ["budget_spent"] == pair.reasons
        assert CLOSER != AUDITOR
