"""What a call hands out: credentials that are of no use once it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from spiffe_client.agents._records import record_withheld
from spiffe_client.errors import TaskError

if TYPE_CHECKING:
    import httpx

    from spiffe_client.agents._call import Call
    from spiffe_client.agents._clients import CallAuth

__all__ = ["CallCredentials", "copied", "over"]

#: Reasons and origins that are told of a call: whoever chooses addresses can choose others without end.
_MOST: Final = 64


class CallCredentials:
    """That part of a `Call`."""

    _withheld: set[tuple[str, str]] | None = None

    @property
    def auth(self) -> CallAuth:
        """What puts this call's token on requests, for `httpx.AsyncClient` and `httpx.Client`.

        Raises:
            TaskEndedError: The call has ended.
            TaskError: The action has no token.
        """
        call = cast("Call", self)
        call.refuse()
        if call.authority is None:
            raise TaskError(f"{call.action} has no token: the contract names no audience for it")
        from spiffe_client.agents._clients import CallAuth

        return CallAuth(call, call.authority.auth())

    @property
    def http(self) -> httpx.AsyncClient:
        """An HTTP client with this call's credentials; it need not be closed."""
        call = cast("Call", self)
        call.refuse()
        from spiffe_client.agents._clients import async_client

        return async_client(call)

    @property
    def http_sync(self) -> httpx.Client:
        """As `http`, for code that blocks in a thread."""
        call = cast("Call", self)
        call.refuse()
        from spiffe_client.agents._clients import client

        return client(call)

    def withhold(self, reason: str, origin: str = "") -> None:
        """Tell that something of it was asked for in vain, or was not sent; once for each reason and origin.

        Args:
            reason: A stable code.
            origin: Where it was not sent, such as `https://orders.prod.example`; empty for nowhere.
        """
        told = self._withheld = self._withheld or set()
        # Of threads that come at once, each may be told.
        if (reason, origin) not in told and len(told) < _MOST:
            told.add((reason, origin))
            record_withheld(cast("Call", self), reason, origin)


def copied(call: Call) -> TypeError:
    """Return the error for who copies a call, and tell of it."""
    call.withhold("copied")
    return TypeError("a call cannot be pickled or copied: a copy would not end with it")


def over(call: Call, why: str = "") -> TaskError:
    """Return the error for who asks something of a call that has ended, or has not begun; and tell of it.

    Args:
        call: Which.
        why: What to say in place of how it ended.
    """
    task = call.task
    if task.calls.get(call.id) is not call:  # what still runs has its own record, which says how it ended
        call.withhold("call_ended" if task.ended is None else "task_ended")
    if why or task.ended is None:
        return TaskError(why or f"the call {call.id} has ended")
    return task.ending()
