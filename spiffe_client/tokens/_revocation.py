"""Taking tokens back: here first, then at the token broker, what descends from them before them (RFC 7009)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import anyio

from spiffe_client._frames import async_border, without_frames
from spiffe_client.audit import Event, EventSink
from spiffe_client.errors import (
    OAuthError,
    SpiffeError,
    TokenError,
    TokenRequestError,
    UnsupportedByBrokerError,
)
from spiffe_client.tokens._calls import Endpoints, call
from spiffe_client.tokens._introspection import introspect
from spiffe_client.tokens._tokens import AccessToken

if TYPE_CHECKING:
    from spiffe_client._clock import Clock
    from spiffe_client.tokens._lineage import Issued, Lineage

__all__ = ["Revocation", "RevocationOutcome", "Revoker"]

#: `revoked`: the token broker took the request, and says that the token is not active any more,
#: which it was before. `unknown`: it took the request, which proves nothing (RFC 7009 §2.2).
#: `unsupported_token_type`: it cannot revoke tokens of this kind, or none, and this one lives until
#: it expires. `failed`: it was not told, or says that the token is active all the same.
RevocationOutcome: TypeAlias = Literal["revoked", "unknown", "unsupported_token_type", "failed"]

#: Tokens that are revoked at the same time.
_AT_ONCE: Final = 16
#: Of the time left, for asking whether a token is active: revoking it is what the time is for.
_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Revocation:
    """What came of revoking a token. It is not used here any more, whatever came of it.

    Attributes:
        fingerprint: Of the token.
        outcome: What the token broker made of it, see `RevocationOutcome`.
        error: What went wrong, where it is `failed` or `unsupported_token_type`.
        descendants: The same of each token that was made from it, the youngest generation first.
    """

    fingerprint: str
    outcome: RevocationOutcome
    error: SpiffeError | None = field(default=None, compare=False)
    descendants: tuple[Revocation, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the token and all that was made from it are known to be revoked."""
        return all(one.outcome == "revoked" for one in (self, *self.descendants))


class Revoker:
    """Revokes tokens at the token broker that issued them.

    Args:
        issuer: The token broker's issuer identifier.
        endpoints: Its endpoints, called as one client.
        lineage: Knows what was made from a token.
        purge: Forgets a token here, also one on its way; from any thread.
        clock: Where the time comes from.
        sink: Told `token.revoked`.
    """

    def __init__(
        self,
        issuer: str,
        endpoints: Endpoints,
        *,
        lineage: Lineage,
        purge: Callable[[AccessToken], object],
        clock: Clock,
        sink: EventSink,
    ) -> None:
        self._issuer = issuer
        self._endpoints = endpoints
        self._lineage = lineage
        self._purge = purge
        self._clock = clock
        self._sink = sink

    @async_border
    async def revoke(
        self,
        token: Issued,
        *,
        timeout: float,  # noqa: ASYNC109 - a total deadline over several requests
        confirm: bool = True,
    ) -> Revocation:
        """Forget a token and all that was made from it, then have the token broker revoke them.

        Children go before their parents, so that what is broken off leaves a parent with which it
        can be tried again, and no orphans.

        Args:
            token: Issued by this token broker.
            timeout: Seconds for everything.
            confirm: Ask before and after whether the tokens are active, where the token broker can say.

        Raises:
            TokenRequestError: Another token broker issued it; nothing was done.
        """
        if token.issuer != self._issuer:
            raise TokenRequestError(
                f"the token was issued by {token.issuer}, and has to be revoked there, not at {self._issuer}"
            )
        generations = self._lineage.generations(token)
        self._forget(token, *chain(*generations))
        until = self._clock.monotonic() + timeout
        descendants: list[Revocation] = []
        for generation in reversed(generations):
            descendants += await self._each(generation, until, confirm=confirm)
        own = await self._one(token, until, confirm=confirm)
        revocation = Revocation(own.fingerprint, own.outcome, own.error, tuple(descendants))
        self._tell(revocation)
        return revocation

    @async_border
    async def revoke_all(self, tokens: Iterable[Issued], *, budget: float) -> list[Revocation]:
        """Forget and revoke many tokens within a budget, even if the caller is being cancelled.

        Args:
            tokens: Which; what was made from them goes before them.
            budget: Seconds for all of them.
        """
        levels = _levels((token, self._lineage.generations(token)) for token in tokens)
        self._forget(*chain(*levels))
        until = self._clock.monotonic() + budget
        done: list[Revocation] = []
        with anyio.CancelScope(shield=True):
            for level in reversed(levels):
                done += await self._each(level, until, confirm=False)
        for revocation in done:
            self._tell(revocation)
        return done

    def _forget(self, *tokens: Issued) -> None:
        for token in tokens:
            if isinstance(token, AccessToken):
                self._purge(token)

    async def _each(self, tokens: Iterable[Issued], until: float, *, confirm: bool) -> list[Revocation]:
        done: list[Revocation] = []
        gate = anyio.CapacityLimiter(_AT_ONCE)

        async def one(token: Issued) -> None:
            async with gate:
                done.append(await self._one(token, until, confirm=confirm))

        async with anyio.create_task_group() as tasks:
            for token in tokens:
                tasks.start_soon(one, token)
        return done

    async def _one(self, token: Issued, until: float, *, confirm: bool) -> Revocation:
        try:
            return await self._take_back(token, until, confirm=confirm)
        except Exception as error:  # noqa: BLE001 - the border to ways of authentication that are not ours
            crash = TokenError(f"revoking a token failed with {type(error).__name__}, which is a bug")
            crash.__cause__ = without_frames(error)
            return Revocation(token.fingerprint, "failed", crash)

    async def _take_back(self, token: Issued, until: float, *, confirm: bool) -> Revocation:
        before = confirm and await self._active(token, until)
        try:
            await self._post(token, until)
        except SpiffeError as error:
            return Revocation(token.fingerprint, _outcome_of(error), error)
        # One that a token broker does not know is not active there either: only a change proves anything.
        after = await self._active(token, until) if before else None
        outcome: RevocationOutcome = "unknown" if after is None else "failed" if after else "revoked"
        if outcome != "failed":
            self._lineage.forget(token)
        return Revocation(token.fingerprint, outcome)

    async def _post(self, token: Issued, until: float) -> None:
        if token.issuer != self._issuer:
            raise TokenRequestError(f"a token of {token.issuer} has to be revoked there")
        form = [("token", token.token.reveal())]
        if isinstance(token, AccessToken):
            form.append(("token_type_hint", "access_token"))
        left = until - self._clock.monotonic()
        await call(self._endpoints, "revocation_endpoint", form, timeout=left, clock=self._clock)

    async def _active(self, token: Issued, until: float) -> bool | None:
        """Whether the token broker says it is active; None if it cannot say."""
        left = (until - self._clock.monotonic()) * _SHARE
        hint = "access_token" if isinstance(token, AccessToken) else ""
        try:
            said = await introspect(self._endpoints, token.token, timeout=left, clock=self._clock, hint=hint)
        except SpiffeError:
            return None
        return said.active

    def _tell(self, revocation: Revocation) -> None:
        facts: dict[str, str | int] = {
            "fingerprint": revocation.fingerprint,
            "outcome": revocation.outcome,
            "descendants": len(revocation.descendants),
        }
        text = f"the token {revocation.fingerprint} was taken back; at the token broker: {revocation.outcome}"
        level = logging.WARNING if revocation.outcome == "failed" else logging.INFO
        self._sink(Event("token.revoked", text, facts, level))


def _levels(trees: Iterable[tuple[Issued, list[list[Issued]]]]) -> list[list[Issued]]:
    """Lay trees side by side: the tops, all their children, and so on; each token at its lowest."""
    depths: dict[Issued, int] = {}
    for top, generations in trees:
        for depth, generation in enumerate([[top], *generations]):
            for token in generation:
                depths[token] = max(depth, depths.get(token, 0))
    levels: list[list[Issued]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for token, depth in depths.items():
        levels[depth].append(token)
    return levels


def _outcome_of(error: SpiffeError) -> RevocationOutcome:
    unsupported = isinstance(error, OAuthError) and error.error == "unsupported_token_type"
    return (
        "unsupported_token_type" if unsupported or isinstance(error, UnsupportedByBrokerError) else "failed"
    )
