"""What stops a client of a token broker for good, and with it what others made of its tokens."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from weakref import WeakMethod

from spiffe_client.errors import StoppedError
from spiffe_client.tokens._flight import again
from spiffe_client.tokens._parties import ForeignToken
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._tokens import AccessToken, SecurityToken

__all__ = ["KillSwitch", "orphaned"]


class KillSwitch:
    """Used once; from any thread, also in a signal handler, so without a lock.

    Attributes:
        used: Whether it was.
    """

    def __init__(self) -> None:
        self.used: bool = False
        # Appending is one step: of two who use it at once, one is the first.
        self._words: list[StoppedError] = []
        self._cuts: dict[int, WeakMethod[Callable[[], object]]] = {}

    @property
    def error(self) -> StoppedError | None:
        """Why it was used; None if it was not."""
        return self._words[0] if self._words else None

    def refuse(self) -> None:
        """Return if it was not used.

        Raises:
            StoppedError: It was.
        """
        if self._words:
            raise again(self._words[0])

    def stop(self, error: StoppedError) -> None:
        """Use it; only the first reason counts."""
        if not self._words:
            self._words.append(error)
        self.used = True
        self._cut()

    def also(self, cut: Callable[[], object]) -> None:
        """Have a bound method called when it is used, now if it was; held weakly, one of each object.

        Args:
            cut: For any thread and any moment, as all of this.
        """
        assert isinstance(cut, MethodType)
        key, cuts = id(cut.__self__), self._cuts
        cuts[key] = WeakMethod(cut, lambda _: cuts.pop(key, None))
        if self._words:
            self._cut()

    def _cut(self) -> None:
        failed: list[BaseException] = []
        while (cut := self._next()) is not None:
            try:
                cut()
            except BaseException as error:  # noqa: BLE001 - raised below: one that fails must not spare the others
                failed.append(error)
        if failed:
            raise failed[0]

    def _next(self) -> Callable[[], object] | None:
        while self._cuts:
            try:
                _, ref = self._cuts.popitem()
            except KeyError:  # another thread was quicker
                return None
            cut = ref()
            if cut is not None:
                return cut
        return None


def orphaned(request: TokenRequest) -> StoppedError | None:
    """Return why what is asked for must not be used any more: what it is made of was stopped.

    A source of tokens that can be stopped says so as its `stopped`.
    """
    for party in (request.subject, request.actor):
        if isinstance(party, ForeignToken):
            error = getattr(party.token, "stopped", None)
        elif isinstance(party, AccessToken | SecurityToken):
            error = orphaned(party.request)
        else:
            continue
        if isinstance(error, StoppedError):
            return error
    return None
