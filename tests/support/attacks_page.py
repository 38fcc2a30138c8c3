"""Writes `docs/attacks.md` from the tests of attacks: `python -m tests.support.attacks_page`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from tests.support.attack_kinds import Kind, attacks_by_kind
from tests.support.attacks import REASONS, ROOT, Attack

__all__ = ["PAGE", "page"]

PAGE = ROOT / "docs" / "attacks.md"

_INTRO = """\
# Attacks

Here is what was tried against agents, what refused it, and where to see that. Each line is one test, which is run before every
change lands; the page is written from the tests (`python -m tests.support.attacks_page`), and a test fails where it says anything else
than they do.

**What is attacked** is the library as agents use it: tasks, guarded tools, approvals, tickets, contracts, the audit. The attacker is a
model that was talked into something, a tool or an adapter with a bug, another agent, a thief of credentials, somebody who
can write to the audit file, or a peer that is down, slow or lying. **The peers are real**: a token broker and a service that
verify each token and each proof over HTTP, workloads with keys of their own from a Workload API, a decision point on a socket (and
[Cerbos](decisions-and-approvals.md), where it says so), the verifier of audit files, LangGraph, clients and servers of MCP. Asynchronous
tests run on asyncio and on trio, but for LangGraph's, which run on asyncio.

```console
$ pytest tests/agents/adversary                         # the adversary's tests by themselves, in a minute or two
$ pytest tests/agents/adversary -k test_used_twice      # one of them
$ nox -s integrations peers                             # those with LangGraph, MCP, httpx2 and Cerbos
```

**What is not protected** is [on another page](agents.md#what-is-not-protected), and as important: the code of a tool is trusted, and what a
task may do can be misused.
"""

_LEGEND = """\
## How to read it

*How it is known* is what an auditor can find of the attack afterwards. It has what the test asserts; while the tests of
`tests/agents/adversary` run, what the audit really had is collected, and compared.

| it says | which is |
|---|---|
| `tenant_boundary` | the `reason` of a `call.denied` in the audit; the next table has them all |
| refused: `attenuation` | the `reason` of a `delegation.refused` or `task.refused` in the audit: no authority was given |
| withheld: `call_ended` | the `reason` of a `credential.withheld` in the audit: what a call hands out was asked for after it, or was for somebody else; [the audit page](audit.md#what-events-say) has them |
| ignored: `answer_used` | the `reason` of an `approval.ignored` in the audit: a person's answer that is not taken |
| token: `invalid_grant` | the `error` of a `token.denied` in the audit: the token broker has refused |
| event: `token.refused` `invalid_token` | an event in the audit of the service or MCP server that has refused it, and its `reason` |
| event: `tool.refused` | the same, of a tool or a method: a server has no calls of its own |
| verifier: *were removed or moved* | what `spiffe-client audit verify` says of the file |
| HTTP 401 | what the service or the token broker answers to whoever has no client of ours |
| ended: `stopped` | how its task ended, in the `call.finished` of a call that was cancelled by that |
| outcome: `cancelled` | the `outcome` of a `call.finished` or `task.ended` in the audit: it was let in, and ended |
| fact: `redacted`, `revoked` | counted in that record: secrets that were taken out, tokens that were given back |
| error: `ticket` | the [code of the error](errors.md) that the caller gets. Nothing was begun |
| – | there is no code for it: the attack comes to nothing in another way, which the test looks at; or it is a control, and no attack |
"""

_REASONS: dict[str, str] = {
    "no_task": "the call is part of no task; each agent that is open in this process has it in its audit",
    "task_ended": "the task has ended: finished, stopped, at its deadline, with its parent; or it never began",
    "budget_spent": "the task has made as many calls as it may; denied ones count",
    "rate": "the agent has made as many calls in this minute as it may",
    "workflow": "the contract does not let this action follow the one before",
    "missing_scope": "the task does not have this action, or nobody has this tool",
    "tenant_boundary": "the resource is another tenant's",
    "outside_purpose": "the resource is none that the contract, or who handed the work on, permits; or is no name",
    "outside_window": "the action is not permitted at this hour",
    "wrong_environment": "the agent has no identity now, or runs where it may not",
    "classification": "what it touches is more confidential than the action may see",
    "contract_expired": "the contract is past its end",
    "not_approved": "no person has said yes to this very call, in time, for the first time",
    "decision_point_denied": "a decision point has said no",
    "decision_point_unavailable": "a decision point has not said yes or no: it is down, slow, or makes no sense",
    "token_refused": "no credential is issued for the call",
    "token_unavailable": "no credential could be had for the call now",
    "audit_unavailable": "the call could not be recorded now, so it is not made",
}


def page() -> str:
    """What the page has to be."""
    kinds = attacks_by_kind()
    parts = [_INTRO, _overview(kinds), _LEGEND, _reasons()]
    parts += [f"## {kind.title}\n\n{kind.what}\n\n{_table(attacks)}" for kind, attacks in kinds.items()]
    return "\n".join(parts)


def _reasons() -> str:
    if unknown := REASONS ^ _REASONS.keys():
        raise ValueError(f"say what these reasons mean, and no others: {', '.join(sorted(unknown))}")
    lines = ["The reasons:", "", "| reason | what it says |", "|---|---|", *(f"| `{code}` | {what} |" for code, what in _REASONS.items())]
    return "\n".join([*lines, ""])


def _overview(kinds: dict[Kind, list[Attack]]) -> str:
    lines = ["## All kinds", "", "| kind of attack | tests | mostly known by |", "|---|---|---|"]
    for kind, attacks in kinds.items():
        counted = Counter(code for attack in attacks for code in _first(attack))
        codes = ", ".join(code for code, _ in counted.most_common(4))
        lines.append(f"| [{kind.title}](#{_anchor(kind.title)}) | {len(attacks)} | {codes} |")
    return "\n".join([*lines, "", _counted([attack for attacks in kinds.values() for attack in attacks])])


def _counted(attacks: list[Attack]) -> str:
    """How many there are, by what knows of them."""
    ends: tuple[tuple[str, frozenset[str]], ...] = (
        (
            "are refused with a reason code in the audit, the agent's or that of the server which has refused it",
            frozenset({"denied", "refused", "withheld", "ignored", "token", "event"}),
        ),
        ("were let in, and ended with their task, and how that ended is in the audit", frozenset({"ended", "stopped", "parent"})),
        ("are found by the verifier of audit files", frozenset({"verifier"})),
        ("are refused by the other side", frozenset({"http"})),
        ("were let in or given up, and how they ended is in the audit, or what was taken out of their answers", frozenset({"outcome", "fact"})),
        ("are refused with an error to the caller only", frozenset({"error"})),
        ("come to nothing in another way", frozenset({""})),
    )
    controls = sum(it.is_control for it in attacks)
    attacks = [it for it in attacks if not it.is_control]
    known = [{*it.kinds, *it.of("outcome")} for it in attacks]
    first = Counter(next((at for at, (_, of) in enumerate(ends) if of & codes), len(ends) - 1) for codes in known)
    said = [f"| {first[at]} | {what} |" for at, (what, _) in enumerate(ends) if first[at]]
    said.append(f"| {controls} | are controls, and no attacks: that the rest means something |")
    return "\n".join(["| tests | |", "|---|---|", *said, ""])


def _table(attacks: list[Attack]) -> str:
    lines = ["| attack | what refuses it, or what is left | how it is known | test |", "|---|---|---|---|"]
    for attack in attacks:
        if not attack.answer:
            raise ValueError(f"the docstring of {attack.id} has no second paragraph: what refuses the attack")
        test = f"[`{attack.name}`](../{attack.file})"
        codes = ", ".join(_codes(attack)) or "–"
        lines.append(f"| {_escaped(attack.attack)} | {_escaped(attack.answer)} | {codes} | {test} |")
    return "\n".join([*lines, ""])


def _codes(attack: Attack) -> Iterator[str]:
    """By what it is known, most telling first."""
    denied = attack.of("denied")
    yield from (f"`{code}`" for code in denied)
    yield from (f"refused: `{code}`" for code in attack.of("refused"))
    yield from (f"withheld: `{code}`" for code in attack.of("withheld"))
    yield from (f"ignored: `{code}`" for code in attack.of("ignored"))
    yield from (f"token: `{code}`" for code in attack.of("token"))
    http = attack.of("http")
    numbers = [it for it in http if it.isdecimal()]
    challenges = [f"`{it}`" for it in http if it not in numbers]
    for event in attack.of("event"):
        yield " ".join([f"event: `{event}`", *(challenges if event == "token.refused" else [])])
        challenges = [] if event == "token.refused" else challenges
    yield from (f"verifier: *{text}*" for text in attack.of("verifier"))
    if numbers or challenges:
        yield " ".join(["HTTP", *numbers, *challenges])
    errors = attack.of("error")
    # These say no more than what was said already.
    said = {"audit", "token", *denied, *attack.of("refused", "withheld")}
    said |= {"task_ended", "task"} if denied or attack.of("withheld", "ended") else set()
    said |= {"denied"} if denied or len(errors) > 1 else set()
    yield from (f"ended: `{code}`" for code in attack.of("ended"))
    if not denied:
        yield from (f"outcome: `{code}`" for code in attack.of("outcome"))
    yield from (f"fact: `{code}`" for code in attack.of("fact"))
    yield from (f"error: `{code}`" for code in errors if code not in said)


def _first(attack: Attack) -> list[str]:
    """Why it was denied, or what else it is known by first."""
    denied = [f"`{code}`" for code in attack.of("denied")]
    return denied or list(islice(_codes(attack), 1))


def _escaped(text: str) -> str:
    """Text for a cell, with its code as it is."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(it if it.startswith("`") else re.sub(r"([|*<_\\])", r"\\\1", it) for it in parts)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page())
