"""What the tests of attacks say by themselves: the attack, what refuses it, and by which code that is known.

Nothing is run and no test is imported for that, so that those of distributions that are not installed are read
as well. Whether the audit has these codes is seen where the tests run (`attacks_seen`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from spiffe_client import errors
from spiffe_client.agents._endings import Ending
from spiffe_client.policy import Reason

__all__ = ["ADVERSARY", "REASONS", "REFUSALS", "ROOT", "WITHHELD", "Attack", "attacks_of"]

ROOT = Path(__file__).parents[2]
ADVERSARY = "tests/agents/adversary"

#: `denied`: why, in `call.denied`. `refused`: why, in `delegation.refused` or `task.refused`. `token`: why, in `token.denied`. `http`: the other side's answer. `verifier`:
#: what the verifier of audit files says. `event`: a server's own event. `error`: raised to the caller. `withheld`: why,
#: in `credential.withheld`. `ignored`: why a person's answer was, in `approval.ignored`. `ended`: how the task ended that a call was cancelled with. `outcome`: how a call or a task
#: ended that was let in. `fact`: counted in its record.
Kind: TypeAlias = Literal[
    "denied", "refused", "withheld", "token", "http", "verifier", "event", "error", "ignored", "ended", "outcome", "fact"
]
_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

#: Why a call is denied.
REASONS = frozenset(get_args(Reason)) - {"allowed"}
_ERRORS = {name: it.code for name, it in vars(errors).items() if isinstance(getattr(it, "code", None), str)}
_ERRORS |= {name: name for name in ("MCPError", "TypeError")}
_CHALLENGES = frozenset({"invalid_token", "invalid_dpop_proof", "insufficient_scope", "invalid_request"})
_STATUSES = frozenset({400, 401, 403, 404})
_EVENTS = frozenset({"peer.refused", "token.refused", "tool.refused", "method.refused"})
#: Events of authority that was not given.
REFUSALS = frozenset({"delegation.refused", "task.refused"})
#: The event of a credential that was not given, or not sent; and why, beside errors.
WITHHELD = "credential.withheld"
_WHY_WITHHELD = frozenset({"call_ended", "copied", *_ERRORS.values()})
_WHY_IGNORED = frozenset({"answer_used", "answer_of_another_task", "answer_not_recorded"})
_ENDINGS = frozenset(get_args(Ending))
_OUTCOMES = frozenset({"cancelled", "error", "stopped", "parent"})
_FACTS = frozenset({"redacted", "revoked", "not_revoked"})  # of which there is one at least


@dataclass(frozen=True)
class Attack:
    """One test.

    Attributes:
        file: Where it is, from the root of the repository.
        test: Its name, with that of its class.
        attack: The first paragraph of its docstring: what is tried.
        answer: The second one: what refuses it, or what is left to who tries.
        codes: By what that is known, as the test's own assertions have it.
    """

    file: str
    test: str
    attack: str
    answer: str
    codes: tuple[tuple[Kind, str], ...]

    @property
    def id(self) -> str:
        """As in pytest, without parameters."""
        return f"{self.file}::{self.test.replace('.', '::')}"

    @property
    def name(self) -> str:
        return self.test.rpartition(".")[2]

    @property
    def is_control(self) -> bool:
        """Whether it is no attack, but shows that those beside it mean something."""
        return self.attack.startswith("Control: ")

    @property
    def kinds(self) -> frozenset[str]:
        """Of which kinds its codes are."""
        return frozenset(kind for kind, _ in self.codes)

    def of(self, *kinds: Kind) -> list[str]:
        """Its codes of these kinds."""
        return [code for kind, code in self.codes if kind in kinds]


@cache
def attacks_of(file: str) -> tuple[Attack, ...]:
    """Read the tests of a file, in their order."""
    return tuple(_read(file, test, function) for test, function in _tests(ast.parse((ROOT / file).read_text())))


def _tests(tree: ast.Module) -> Iterator[tuple[str, _Function]]:
    for node in tree.body:
        within, prefix = (node.body, f"{node.name}.") if isinstance(node, ast.ClassDef) else ([node], "")
        for it in within:
            if isinstance(it, _Function) and it.name.startswith("test_"):
                yield prefix + it.name, it


def _read(file: str, test: str, function: _Function) -> Attack:
    attack, _, answer = (ast.get_docstring(function) or "").partition("\n\n")
    codes = tuple(dict.fromkeys(_codes(function)))
    return Attack(file, test, " ".join(attack.split()), " ".join(answer.split()), codes)


def _codes(function: _Function) -> Iterator[tuple[Kind, str]]:
    for part in [*function.decorator_list, *function.body[1:]]:
        if not (isinstance(part, ast.Assert) and {*REFUSALS, WITHHELD} & set(_texts(part))):  # it is the other event's then
            yield from (("denied", text) for text in _texts(part) if text in REASONS)
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            yield from _asserted(set(_texts(node)), none=ast.unparse(node).startswith("assert 0 =="))
        elif isinstance(node, ast.Compare | ast.Tuple | ast.List):
            said = {it.value for it in ast.walk(node) if isinstance(it, ast.Constant) and type(it.value) is int}
            yield from (("http", str(status)) for status in sorted(said & _STATUSES) if not _is_bound(node))
        elif isinstance(node, ast.Call) and "raises(AuditError" in ast.unparse(node):
            matched = [ast.literal_eval(it.value) for it in node.keywords if it.arg == "match"]
            yield from (("verifier", text) for it in matched for text in it.split("|"))
        elif isinstance(node, ast.Name) and node.id in _ERRORS:
            yield "error", _ERRORS[node.id]


def _is_bound(node: ast.AST) -> bool:
    return isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.LtE)


def _asserted(texts: set[str], *, none: bool) -> Iterator[tuple[Kind, str]]:
    """What an assertion has that is of one meaning only beside what it is held against."""
    if "token.denied" in texts:
        yield from (("token", text) for text in sorted(texts & set(_ERRORS.values())))
    elif texts & REFUSALS:
        yield from (("refused", text) for text in sorted(texts & set(_ERRORS.values())))
    elif "approval.ignored" in texts:
        yield from (("ignored", text) for text in sorted(texts & _WHY_IGNORED))
    elif WITHHELD in texts:
        yield from (("withheld", text) for text in sorted(texts & _WHY_WITHHELD))
    else:
        yield from (("http", text) for text in sorted(texts & _CHALLENGES))
    if "ended" in texts:
        yield from (("ended", text) for text in sorted(texts & _ENDINGS))
    if "outcome" in texts:
        yield from (("outcome", text) for text in sorted(texts & _OUTCOMES))
    yield from (("event", text) for text in sorted(texts & _EVENTS))
    if not none:
        yield from (("fact", text) for text in sorted(texts & _FACTS))


def _texts(part: ast.AST) -> Iterator[str]:
    """All strings but the keys of dictionaries."""
    if isinstance(part, ast.Constant) and isinstance(part.value, str):
        yield part.value
    for inner in part.values if isinstance(part, ast.Dict) else ast.iter_child_nodes(part):
        yield from _texts(inner)
