"""An agent at work: what its task lets it do, what it is refused, and how it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.audit import read_trail, verify_trail
from spiffe_client.audit._story import Story
from spiffe_client.bundle import BundleSet
from spiffe_client.cli._audit_lines import task_lines, task_record
from spiffe_client.cli._demo._desk import AUDITOR, CLOSER, PURPOSE, READ, REFUND, TENANT, Desk, open_desk
from spiffe_client.cli._demo._players import ToolCall
from spiffe_client.cli._demo._process import Broken
from spiffe_client.cli._demo._stage import Stage
from spiffe_client.cli._lines import Line
from spiffe_client.errors import AttenuationError, AuditError, TaskEndedError, TaskError

__all__ = ["agent", "approval", "audit", "delegation", "stop", "tenant"]

_Outcome = tuple[str, Mapping[str, object], *tuple[Line, ...]]

_OTHER, _REASON = "globex", "the demo says so"
#: Seconds within which nothing may go on any more.
_AT_ONCE = 1.0
#: Seconds until a tool has surely begun.
_LONGEST_WAIT = 10.0


async def agent(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """An agent reads two invoices; its tools have no credentials, and the service sees some."""
    del say
    desk = stage.desk = await open_desk(stage)
    told = await desk.player.play(_read("7"), _read("8"))
    seen = [(said.get("sub"), said.get("scope"), said.get("purpose")) for said in desk.witness.said]
    if seen != [(str(CLOSER), READ, PURPOSE)] * 2:
        raise Broken(f"the service has seen {seen}, and the model was told {told}")
    detail = (
        f"{CLOSER} has a task for {TENANT}:\n"
        f"{PURPOSE}. it reads 2 invoices by tools without a\n"
        "credential; the service sees a token for this task alone"
    )
    facts = {"framework": desk.player.framework, "task": desk.task.id, "scope": READ, "told": told}
    return f"{detail}\n{desk.player.note}".rstrip(), facts


async def tenant(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """The model names another tenant: refused before there is a token for it."""
    del say
    desk = _desk(stage)
    before = _done(desk)
    (told,) = await desk.player.play(_read("7", _OTHER))
    if "not permitted" not in told or _done(desk) != before:
        raise Broken(f"the model was told {told!r}; tokens and requests were {before}, and are {_done(desk)}")
    return f"it asks for {_OTHER}'s: no token, no request, and the model reads\n{_short(told)}", {
        "told": told
    }


async def approval(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """Refunds need a person, who says no to one and yes to the other."""
    del say
    desk = _desk(stage)
    witness, requests = desk.witness, len(desk.witness.said)
    witness.yes.add(f"tenants/{TENANT}/orders/7/chf/40")  # the person sees the sum
    refused, paid = await desk.player.play(_refund("6", 4000), _refund("7", 40))
    if "not permitted" not in refused or "paid back" not in paid or len(witness.said) != requests + 1:
        raise Broken(f"a person has said no and yes, and the model was told {refused!r} and {paid!r}")
    if witness.overpaid:
        raise Broken("the service has taken its token for another sum")
    call, bound = witness.calls[-1], _bound(desk)
    if bound != ([REFUND], call.resource, call.digest):
        raise Broken(f"the service has seen a token for {bound}")
    detail = (
        "it asks for two refunds, and so a person: no to 4000 CHF,\n"
        "yes to 40 CHF, by a token that is good for no other sum"
    )
    return (
        detail,
        {"asked": [one.resource for one in witness.asked], "approval": call.approval, "digest": call.digest},
    )


async def delegation(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """A sub-agent gets one invoice and nothing else, whatever it asks for."""
    del say
    desk = _desk(stage)
    mine = f"tenants/{TENANT}/invoices/7"
    try:
        desk.task.delegate(AUDITOR, [READ, REFUND])
    except AttenuationError:
        pass
    else:
        raise Broken("the sub-agent could be given refunds")
    read, refused = "", [""]
    async with desk.task.delegate(AUDITOR, [READ], resources=[mine], ttl=30, calls=5) as child:
        read, *refused = await desk.player.play(_read("7"), _read("8"), _refund("7", 40))
    if "paid" not in read or not all("not permitted" in told for told in refused) or child.ended is None:
        raise Broken(f"the sub-agent was told {[read, *refused]}, and is {child!r}")
    return (
        f"{AUDITOR} is handed one invoice,\nfor 30 s: it reads that; the next one and a refund are refused",
        {"child": child.id, "resources": [mine], "refused": len(refused)},
    )


async def stop(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """The agent is stopped while a tool runs: the tool ends, its token is dead, nothing begins any more."""
    del say
    desk = _desk(stage)
    key = desk.me.tokens.dpop
    stopped_at: list[float] = []

    def stop_it() -> None:
        if desk.witness.busy.wait(_LONGEST_WAIT):
            stopped_at.append(SYSTEM_CLOCK.monotonic())
            desk.me.agent.stop(_REASON)

    stopper = threading.Thread(target=stop_it, name="demo stop")
    stopper.start()
    try:
        async with desk.work.pop_all():
            told = await desk.player.play(("export", {"tenant": TENANT}))
        raise Broken(f"the tool was not stopped: {told}")
    except TaskEndedError:
        seconds = SYSTEM_CLOCK.monotonic() - stopped_at[0]
    finally:
        desk.witness.busy.set()
        stopper.join()
    facts: dict[str, object] = {
        "seconds": round(seconds, 3),
        "revoked": desk.task.revoked,
        "begins": await _begins(desk),
    }
    token = desk.witness.calls[-1].token
    assert token is not None  # the action has an audience
    answer = await replace(desk.office, token=token, path="/v1/invoices").present(key=key)
    facts["status"] = answer.status_code
    if facts["begins"] or answer.status_code != 401 or seconds > _AT_ONCE:
        raise Broken(f"it is stopped, and not all of it: {facts}")
    detail = (
        f"stopped in the middle of a tool: after {1000 * seconds:.0f} ms the tool has ended,\n"
        "the service refuses its token, and no task begins any more"
    )
    return detail, facts


async def audit(stage: Stage, say: Callable[[str], None]) -> _Outcome:
    """All of it is in a trail that is signed with the agent's SVID; this is what it tells."""
    del say
    desk = _desk(stage)
    await desk.open.aclose()
    bundles = BundleSet([stage.home.ca.x509_bundle])
    try:
        found = verify_trail(desk.trail, bundles=bundles, workload=CLOSER)
    except AuditError as error:
        raise Broken(f"the audit trail does not verify: {error}") from error
    if not (found.closed and found.proven and found.vouched == found.records and found.denials):
        raise Broken(f"the audit trail is not whole: {found}")
    lines = desk.trail.read_bytes().replace(b"globex", b"acme").splitlines(keepends=True)
    try:
        verify_trail(lines, bundles=bundles)
    except AuditError as error:
        edited = error.line
    else:
        raise Broken("the audit trail was edited, and verifies all the same")
    story = Story.of(read_trail(desk.trail))
    tree = [line for depth, task in story.walk() for line in task_lines(task, depth)]
    facts = {
        "records": found.records,
        "denials": found.denials,
        "edited_line": edited,
        "tasks": [task_record(task) for _, task in story.walk()],
    }
    detail = (
        f"{found.records} records, chained, and signed by the agent's SVID;\n"
        "with one name changed they do not verify. what they tell:"
    )
    return detail, facts, *tree


def _read(invoice: str, tenant: str = TENANT) -> ToolCall:
    return "read_invoice", {"tenant": tenant, "invoice": invoice}


def _refund(order: str, chf: int) -> ToolCall:
    return "refund", {"tenant": TENANT, "order": order, "chf": chf}


def _done(desk: Desk) -> tuple[int, int]:
    """Return how many tokens were issued, and how many requests were made."""
    return desk.office.broker.issued.total(), len(desk.witness.said)


def _short(told: str) -> str:
    return told.partition(" (ref")[0]


def _bound(desk: Desk) -> tuple[object, ...]:
    """Return which call the token was for that the service has seen last."""
    (details,) = desk.witness.said[-1].get("authorization_details") or [{}]
    return tuple(details.get(name) for name in ("actions", "identifier", "digest"))


async def _begins(desk: Desk) -> bool:
    try:
        async with desk.me.task(PURPOSE, [READ]):
            pass
    except TaskError:
        return False
    return True


def _desk(stage: Stage) -> Desk:
    assert stage.desk is not None  # an earlier scene went well
    return stage.desk
