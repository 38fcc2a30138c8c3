"""What must hold in a contract beyond the type of each key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from spiffe_client.errors import ContractError, InvalidIdError, ResourceError
from spiffe_client.ids import SpiffeId
from spiffe_client.policy._templates import ResourceTemplate

if TYPE_CHECKING:
    from spiffe_client.policy._contract import Contract
    from spiffe_client.policy._contract_parts import Action, Agent, Window, Workflow

__all__ = ["ACTION_NAME", "check_contract", "is_action_name", "key"]

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
#: What an action is called: one word in audits, tickets and on the command line.
ACTION_NAME: Final = "one word of at most 128 of A-Z a-z 0-9 _ . : / -"
_ACTION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}\Z")
#: One scope (RFC 6749 §3.3): printable ASCII without space, quotation mark and backslash.
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+\Z")
#: A name or URI of an audience (RFC 8693 §2.1).
_AUDIENCE: Final = re.compile(r"[\x21-\x7e]{1,2048}\Z")
#: An absolute URI without fragment (RFC 8707 §2, RFC 3986 §4.3).
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21\x24-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e%]+\Z")


def is_action_name(text: str) -> bool:
    """Say whether an action can be called this: `ACTION_NAME`, in words."""
    return _ACTION.match(text) is not None


def check_contract(contract: Contract) -> None:
    """Return if the parts of a contract fit together.

    Raises:
        ContractError: They do not; `path` is the offending key.
    """
    _check_agent(contract.agent)
    for name, action in contract.actions.items():
        path = f"actions.{key(name)}"
        if not is_action_name(name):
            raise ContractError(f"an action is called by {ACTION_NAME}", path=path)
        _check_action(action, path)
    if contract.workflow is not None:
        _check_workflow(contract.workflow, contract)
    for name, delegate in contract.delegates.items():
        path = f"delegates.{key(name)}"
        _check_delegate(name, contract, path)
        _check_known(delegate.actions, contract, f"{path}.actions")


def key(name: str) -> str:
    """Return a key as TOML has it in a dotted path."""
    return name if _BARE.match(name) else json.dumps(name[:200], ensure_ascii=False)


def _check_agent(agent: Agent) -> None:
    if not agent.id.path:
        raise ContractError(f"{agent.id} names a trust domain; an agent's ID has a path", path="agent.id")
    if agent.id.trust_domain != agent.trust_domain:
        raise ContractError(
            f"{agent.id} is not in the trust domain {agent.trust_domain} (agent.trust_domain)",
            path="agent.id",
        )
    for name in ("environment", "purpose", "owner"):
        text: str = getattr(agent, name)
        if not text.isprintable() or text != text.strip():
            raise ContractError(
                "one line of text is expected, without spaces around it", path=f"agent.{name}"
            )
    dates = [(n, getattr(agent, n)) for n in ("reviewed", "review_by", "expires") if getattr(agent, n)]
    for (earlier, first), (later, second) in pairwise(dates):
        if second < first:
            raise ContractError(
                f"{second} is before agent.{earlier}, which is {first}", path=f"agent.{later}"
            )


def _check_action(action: Action, path: str) -> None:
    _check_words(action.audience, _AUDIENCE, "a name or URI without spaces is expected", f"{path}.audience")
    _check_words(
        action.resource_uris, _URI, "an absolute URI without fragment is expected (RFC 8707 §2)",
        f"{path}.resource_uris",
    )  # fmt: skip
    _check_words(action.scopes, _SCOPE, "one scope is one word of ASCII (RFC 6749 §3.3)", f"{path}.scopes")
    _check_token(action, path)
    _unique(action.resources, f"{path}.resources")
    for number, text in enumerate(action.resources):
        try:
            ResourceTemplate.parse(text)
        except ResourceError as error:
            raise ContractError(str(error), path=f"{path}.resources[{number}]") from error
    if action.window is not None:
        _check_window(action.window, f"{path}.window")
    if action.peer is not None and not action.peer.path:
        raise ContractError(
            f"{action.peer} names a trust domain; a peer's ID has a path", path=f"{path}.peer"
        )


def _check_token(action: Action, path: str) -> None:
    for number, detail in enumerate(action.authorization_details):
        where = f"{path}.authorization_details[{number}]"
        if not (isinstance(detail.get("type"), str) and detail["type"]):
            raise ContractError("an object with a `type` is expected (RFC 9396 §2)", path=where)
        try:
            json.dumps(detail, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ContractError(f"JSON has no such value: {error}", path=where) from error
    if action.needs_token and not (action.scopes or action.authorization_details):
        raise ContractError(
            "a token that permits nothing: say scopes or authorization_details", path=f"{path}.scopes"
        )
    for name in ("scopes", "authorization_details"):
        if getattr(action, name) and not action.needs_token:
            raise ContractError(
                "for whom? say audience or resource_uris, or it has no token", path=f"{path}.{name}"
            )


def _check_window(window: Window, path: str) -> None:
    from zoneinfo import ZoneInfo

    _unique(window.days, f"{path}.days")
    for name, clock in (("from", window.start), ("until", window.until)):
        if len(clock) > len("00:00"):  # what msgspec searches for may be followed by a line's end
            raise ContractError("a time is HH:MM", path=f"{path}.{name}")
    if window.start == "24:00":
        raise ContractError("a window begins before 24:00", path=f"{path}.from")
    if window.start == window.until:
        raise ContractError("it would never be open: from and until are the same", path=f"{path}.until")
    try:
        ZoneInfo(window.zone)
    except (KeyError, ValueError, OSError) as error:
        raise ContractError(
            f"{window.zone!r} is no IANA time zone known here, such as Europe/Zurich", path=f"{path}.zone"
        ) from error


def _check_workflow(workflow: Workflow, contract: Contract) -> None:
    _check_known(workflow.start, contract, "workflow.start")
    for name, following in workflow.follows.items():
        path = f"workflow.follows.{key(name)}"
        if name not in contract.actions:
            raise ContractError("there is no such action", path=path)
        _check_known(following, contract, path)


def _check_delegate(name: str, contract: Contract, path: str) -> None:
    try:
        delegate = SpiffeId.parse(name)
    except InvalidIdError as error:
        raise ContractError(str(error), path=path) from error
    if not delegate.path or str(delegate) != name:
        raise ContractError(
            "an agent's SPIFFE ID in its canonical spelling is expected: with a path, the trust domain in "
            "lower case",
            path=path,
        )
    if delegate == contract.agent.id:
        raise ContractError("an agent does not delegate to itself", path=path)


def _check_known(names: Iterable[str], contract: Contract, path: str) -> None:
    _unique(names, path)
    for number, name in enumerate(names):
        if name not in contract.actions:
            raise ContractError(f"there is no action {name[:128]!r}", path=f"{path}[{number}]")


def _check_words(words: tuple[str, ...], form: re.Pattern[str], what: str, path: str) -> None:
    _unique(words, path)
    for number, word in enumerate(words):
        if not form.match(word):
            raise ContractError(f"{what}, not {word[:128]!r}", path=f"{path}[{number}]")


def _unique(words: Iterable[str], path: str) -> None:
    seen: set[str] = set()
    for number, word in enumerate(words):
        if word in seen:
            raise ContractError(f"{word[:128]!r} is there twice", path=f"{path}[{number}]")
        seen.add(word)
