"""What each method of a server needs beside the calls of tools: resources, prompts, and what is its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError

from spiffe_client.audit import Event, EventSink, safe_sink
from spiffe_client_mcp._messages import DENIED, SESSION_METHODS
from spiffe_client_mcp._tools import REFUSED, Needs, fits, is_bound, lacks, token_of

__all__ = ["CheckedMethods"]

_TOOL: Final = "tools/call"


class CheckedMethods:
    """A middleware of an `MCPServer`: a request is answered only if the token that came with it permits it.

    What is listed needs what is said there, `resources/read` for one; its parameters count as arguments.
    What belongs to a session (`SESSION_METHODS`) needs no more than a token that is not for one call, unless it is
    listed. Calls of tools are left to `CheckedTools`. Whatever else there is is refused, and so is a request without a
    token. The caller is told no more than that.

    `MCPServer(…, middleware=[CheckedMethods({"resources/read": "files:read"})])`

    Args:
        methods: By name, what each needs: a scope, or all of it.
        on_event: Is told why a request was refused; logged if None.

    Raises:
        ValueError: Calls of tools are among them.
    """

    def __init__(self, methods: Mapping[str, Needs | str], *, on_event: EventSink | None = None) -> None:
        if _TOOL in methods:
            raise ValueError("what each tool needs is for CheckedTools to know")
        self.needs: Mapping[str, Needs] = MappingProxyType(
            {name: Needs(needs) if isinstance(needs, str) else needs for name, needs in methods.items()}
        )
        self._tell = safe_sink(on_event)

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """See mcp's `ServerMiddleware`."""
        if ctx.request_id is None or ctx.method == _TOOL:  # notifications do nothing here
            return await call_next(ctx)
        if why := self._wrong(ctx):
            token = token_of(ctx)
            facts = {"method": f"{ctx.method:.128}", "client": "" if token is None else token.client_id}
            self._tell(Event("method.refused", f"a request was refused: {why}", facts, logging.WARNING))
            raise MCPError(DENIED, REFUSED)
        return await call_next(ctx)

    def _wrong(self, ctx: ServerRequestContext[Any, Any]) -> str:
        needs, token = self.needs.get(ctx.method), token_of(ctx)
        if token is None:
            return "there is no token"
        if needs is not None:
            return lacks(needs, token) or fits(needs, token, ctx.params or {})[0]
        if ctx.method not in SESSION_METHODS:
            return "the method is not listed"
        return "the token is for one call" if is_bound(token) else ""
