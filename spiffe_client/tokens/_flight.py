"""One request on its way to the token broker, for all who want its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import anyio

from spiffe_client._clock import Clock
from spiffe_client.errors import SpiffeError, TokenBrokerClosedError, TokenBrokerUnavailableError
from spiffe_client.tokens._gates import Gate
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._retries import Retries, Try, asked_patience
from spiffe_client.tokens._tokens import AccessToken

if TYPE_CHECKING:
    from spiffe_client.tokens._endpoint import Minted

__all__ = ["Flight", "Mint", "again", "ask"]

_E = TypeVar("_E", bound=SpiffeError)

#: Asks the token broker once.
Mint: TypeAlias = "Callable[[TokenRequest, Try], Awaitable[Minted]]"


class Flight:
    """It belongs to nobody: a caller that is cancelled takes only itself away.

    Attributes:
        until: When it ends at the latest, in monotonic seconds.
        ahead: Whether nobody waited when it began: a token that is still valid is replaced.
        scope: Of its task.
        done: Set when there is an outcome.
        alone: Whether one caller has it for itself: nothing of it is kept.
        token: The outcome, if it is one that may be used.
        minted: The outcome of one that is `alone`.
        error: The outcome otherwise.
        conclusive: Whether the error answers those who wait; else they ask anew.
        wanted: Whether the outcome may be kept: not if everything was dropped meanwhile.
        vetoes: Each says of a token whether it was purged while it was on its way.
        arrived: The tokens that purges are asked about, from when it came; None before.
    """

    __slots__ = (
        "ahead",
        "alone",
        "arrived",
        "conclusive",
        "done",
        "error",
        "minted",
        "scope",
        "token",
        "until",
        "vetoes",
        "wanted",
    )

    def __init__(self, until: float, *, ahead: bool = False, alone: bool = False) -> None:
        self.until = until
        self.ahead = ahead
        self.alone = alone
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.token: AccessToken | None = None
        self.minted: Minted | None = None
        self.error: SpiffeError = TokenBrokerClosedError("the token broker client was closed")
        self.conclusive = True
        self.wanted = True
        self.vetoes: list[Callable[[AccessToken], bool]] = []
        self.arrived: list[AccessToken] | None = None

    def failed(self, error: SpiffeError, *, conclusive: bool) -> None:
        """Note what came of it; only the first word counts."""
        if not self.done.is_set() and self.wanted:
            self.error = error
            self.conclusive = conclusive

    def drop(self, error: SpiffeError | None) -> None:
        """Have nobody get what comes of it, from any thread; `end` wakes those who wait.

        Args:
            error: What they get; None if they are to ask anew.
        """
        self.error = error or TokenBrokerUnavailableError(
            "the request was dropped; there is no time for another"
        )
        self.conclusive = error is not None
        self.wanted = False
        self.token = self.minted = None

    def end(self) -> None:
        """Wake all who wait, and take the task away; on the event loop."""
        self.done.set()
        self.scope.cancel()


def again(error: _E) -> _E:
    """Return a copy of an error, so that each of those who get it has a traceback of their own."""
    copy = error.__class__.__new__(error.__class__, *error.args)
    copy.args = error.args  # of an OSError, `__new__` leaves them out
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    copy.__suppress_context__ = True
    return copy


async def ask(
    request: TokenRequest,
    mint: Mint,
    *,
    gate: Gate,
    clock: Clock,
    until: float,
    retries: Retries,
    held: Callable[[TokenRequest], AccessToken | None] | None = None,
) -> tuple[Minted | AccessToken, float]:
    """Ask for a token until it comes, is refused, or there is no time left.

    Args:
        request: What for.
        mint: Asks once.
        gate: Before the endpoint.
        clock: Measures.
        until: In monotonic seconds; the caller ends tries that take longer.
        retries: Decides about each failure.
        held: Looks before each try whether the token came from elsewhere meanwhile.

    Returns:
        What came, and when the try that brought it began.

    Raises:
        SpiffeError: Of the last try.
    """
    number, refresh = 0, False
    while True:
        now = clock.monotonic()
        pause = gate.wait(now, left=until - now)
        if pause is None:
            patience = gate.left(now)
            raise TokenBrokerUnavailableError(
                f"the token broker asked for patience: {patience:.0f} s more", retry_after=patience
            )
        if pause:
            await clock.sleep(pause)
        started = clock.monotonic()
        if held is not None and (token := held(request)) is not None:
            return token, started
        number += 1
        try:
            return await mint(request, Try(number, until - started, refresh)), started
        except SpiffeError as error:
            now = clock.monotonic()
            gate.shut(asked_patience(error), now=now)
            next_try = retries.after(error, left=until - now)
            if next_try is None:
                raise
        refresh = next_try.refresh
        if next_try.pause:
            await clock.sleep(next_try.pause)
