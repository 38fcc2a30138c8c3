"""What each tool of a server needs of the token that it is called with, checked once more where it runs."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension
from mcp_types import CallToolRequestParams, CallToolResult, TextContent

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.agents import arguments_digest
from spiffe_client.agents._arguments import ResourcePath
from spiffe_client.audit import Event, EventSink, safe_sink
from spiffe_client_mcp._once import Once, ReplayCache

__all__ = [
    "REFUSED",
    "BoundCall",
    "CheckedTools",
    "Needs",
    "bound_call",
    "fits",
    "is_bound",
    "lacks",
    "token_of",
]

_CALL_DETAILS: Final = "agent_call"
_MOST_TOKENS: Final = 100_000
REFUSED: Final = "not permitted: the caller's credential is not one for this call"
_HOLE: Final = re.compile(r"\{([A-Za-z_]\w*)\}\Z")
_SEGMENT: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~@+=:-]{1,128}\Z")


@dataclass(frozen=True, slots=True, init=False)
class Needs:
    """What a tool needs.

    Attributes:
        scopes: All of which the token must have.
        action: What this is called in contracts of agents; the only scope, if there is one only.
        resource: What it touches, such as `tenants/{tenant}/orders/{order}`: what is in braces is the argument of
            that name, or else whatever one segment the token says, which `bound_call` tells.
        bound: Whether only a token for this very call will do, as agents have for sensitive actions. Where one
            comes, it is held against the call in any case.
    """

    scopes: frozenset[str]
    action: str
    resource: str
    bound: bool

    def __init__(self, *scopes: str, action: str = "", resource: str = "", bound: bool = False) -> None:
        if not scopes and not bound:
            raise ValueError("a tool needs a scope, or a token for the very call")
        ResourcePath(resource)
        object.__setattr__(self, "scopes", frozenset(scopes))
        object.__setattr__(self, "action", action or (scopes[0] if len(scopes) == 1 else ""))
        object.__setattr__(self, "resource", resource)
        object.__setattr__(self, "bound", bound)
        if bound and not self.action:
            raise ValueError("say which action a token for the very call must name: action=")


@dataclass(frozen=True, slots=True)
class BoundCall:
    """What the token of the present call says that it is for.

    Attributes:
        action: What is done.
        resource: To what.
        parameters: What was in braces in `Needs.resource`, such as the tenant.
        task: The id of the agent's task.
    """

    action: str
    resource: str
    parameters: Mapping[str, str] = field(hash=False)
    task: str = ""


_BOUND: ContextVar[BoundCall | None] = ContextVar("spiffe_client_mcp.bound", default=None)


def bound_call() -> BoundCall | None:
    """Return what the token of the present call was issued for; None if it is not bound to one call."""
    return _BOUND.get()


class CheckedTools(Extension):
    """An extension of an `MCPServer`: a tool runs only if the token that came with its call permits it.

    It must have the tool's scopes. If it has `authorization_details` of the type `agent_call`, one of them must fit
    this call: the action, the resource, and the digest of the arguments that came; such a token is good once.
    A tool that is not listed is refused, and so is a call without a token. The caller is told no more than that.

    Args:
        tools: By name, what each needs: a scope, or all of it.
        replay_cache: Remembers the tokens that are good once; None remembers them in this process.
        clock: What says now.
        on_event: Is told why a call was refused; logged if None.
    """

    identifier = "dev.spiffe-client/checked-tools"

    def __init__(
        self,
        tools: Mapping[str, Needs | str],
        *,
        replay_cache: ReplayCache | None = None,
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
    ) -> None:
        self.needs: Mapping[str, Needs] = MappingProxyType(
            {name: Needs(needs) if isinstance(needs, str) else needs for name, needs in tools.items()}
        )
        self._once = Once(_MOST_TOKENS, clock) if replay_cache is None else replay_cache
        self._tell = safe_sink(on_event)

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """See mcp's `Extension`."""
        token = token_of(ctx)
        why = (
            "the tool is not listed"
            if params.name not in self.needs
            else lacks(self.needs[params.name], token)
        )
        bound = None
        if not why and token is not None:
            why, bound = fits(self.needs[params.name], token, params.arguments or {})
            if bound is not None:
                why = await self._use(token, bound, params.arguments or {})
        if why:
            facts = {"tool": f"{params.name:.128}", "client": "" if token is None else token.client_id}
            self._tell(Event("tool.refused", f"a call of a tool was refused: {why}", facts, logging.WARNING))
            return CallToolResult(content=[TextContent(type="text", text=REFUSED)], is_error=True)
        if bound is not None and not bound.parameters.keys() <= (params.arguments or {}).keys():
            # Not what the tool takes where an argument is left out: the token says what it is.
            params.arguments = {**bound.parameters, **(params.arguments or {})}
        mark = _BOUND.set(bound)
        try:
            return await call_next(ctx)
        finally:
            _BOUND.reset(mark)

    async def _use(self, token: AccessToken, bound: BoundCall, arguments: Mapping[str, object]) -> str:
        """Say what speaks against using a token now; nothing does once only, and it is used then."""
        # A token may be for several calls, each once. What is signed counts: others can write the signature of
        # ECDSA in another way, without the key.
        signed, _, signature = token.token.rpartition(".")
        if not signature or "." not in signed:
            signed = token.token
        what = f"{signed} {bound.action} {bound.resource} {arguments_digest(arguments)}"
        until = math.inf if token.expires_at is None else token.expires_at + 1.0
        try:
            first = await self._once.add(hashlib.sha256(what.encode()).hexdigest(), until)
        except Exception as error:  # noqa: BLE001 - whatever it is: what is not remembered could come again
            return f"tokens that are good once cannot be remembered: {type(error).__name__}"
        return "" if first else "the token was used before, has expired meanwhile, or too many are remembered"


def token_of(ctx: ServerRequestContext[Any, Any]) -> AccessToken | None:
    """Return the token of the very HTTP request that this call came in; sessions have several."""
    if ctx.request is None:
        return get_access_token()
    user = ctx.request.scope.get("user")
    return user.access_token if isinstance(user, AuthenticatedUser) else None


def is_bound(token: AccessToken) -> bool:
    """Say whether a token is for one call, or for nobody knows what."""
    details = (token.claims or {}).get("authorization_details", [])
    known = isinstance(details, list) and all(isinstance(one, dict) for one in details)
    return not known or any(one.get("type") == _CALL_DETAILS for one in details)


def lacks(needs: Needs, token: AccessToken | None) -> str:
    """Return what is missing; empty for nothing."""
    if token is None:
        return "there is no token"
    missing = needs.scopes - set(token.scopes)
    return f"the token lacks {' '.join(sorted(missing))}" if missing else ""


def fits(needs: Needs, token: AccessToken, arguments: Mapping[str, object]) -> tuple[str, BoundCall | None]:
    """Hold a token against a call; return what is wrong, and what it is bound to."""
    details = (token.claims or {}).get("authorization_details", [])
    if not isinstance(details, list) or not all(isinstance(one, dict) for one in details):
        return "the token's authorization_details are malformed", None
    calls = [one for one in details if one.get("type") == _CALL_DETAILS]
    if not calls:
        return ("the token is not for this very call" if needs.bound else ""), None
    why = ""
    for one in calls:
        why, parameters = _misfit(needs, one, arguments)
        if not why:
            task = one.get("task")
            text = task if isinstance(task, str) else ""
            return "", BoundCall(needs.action, str(one["identifier"]), parameters, text)
    return why, None


def _misfit(
    needs: Needs, detail: Mapping[str, object], arguments: Mapping[str, object]
) -> tuple[str, Mapping[str, str]]:
    actions, identifier = detail.get("actions"), detail.get("identifier")
    if not needs.action or not isinstance(actions, list) or needs.action not in actions:
        return "the token is for another action", {}
    parameters = _matched(needs.resource, identifier, arguments) if isinstance(identifier, str) else None
    if parameters is None:
        return "the token is for another resource", {}
    # Without arguments there is no digest, which the token says as an empty one.
    digest = arguments_digest(arguments) if arguments else ""
    if digest is None or detail.get("digest") != digest:
        return "the token is for other arguments", {}
    return "", parameters


def _matched(template: str, identifier: str, arguments: Mapping[str, object]) -> Mapping[str, str] | None:
    """Return what is in the places in braces; None if it is another resource."""
    wanted, given = template.split("/"), identifier.split("/")
    if len(wanted) != len(given):
        return None
    found: dict[str, str] = {}
    for part, value in zip(wanted, given, strict=True):
        hole = _HOLE.match(part)
        if hole is None:
            if part != value:
                return None
            continue
        name = hole[1]
        said = arguments.get(name, found.get(name, value))
        if (
            not _SEGMENT.match(value)
            or isinstance(said, bool)
            or not isinstance(said, str | int)
            or str(said) != value
        ):
            return None
        found[name] = value
    return MappingProxyType(found)
