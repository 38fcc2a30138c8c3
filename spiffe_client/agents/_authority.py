"""What a task's calls are made with: one request for a token for each action, withdrawn when it ends."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import anyio

from spiffe_client.agents._spans import spanned
from spiffe_client.errors import ContractError, TaskEndedError, TokenError, TokenRequestError
from spiffe_client.tokens import AccessToken, SecurityToken, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spiffe_client.agents._call import Call
    from spiffe_client.agents._task import Task
    from spiffe_client.audit import Event
    from spiffe_client.http import TokenAuth
    from spiffe_client.policy import Action, Contract
    from spiffe_client.tokens import TokenBroker

__all__ = ["Authority", "Root", "authority_of", "check_tokens"]

#: The type of the authorization details that bind a token to one call (RFC 9396 §2).
_CALL_DETAILS: Final = "agent_call"


def _untold(_: Event) -> None:
    """Where a token was not sent, the call whose it is tells."""


def _request(task: Task, name: str, call: Call | None) -> TokenRequest:
    """Return what is asked of the token broker for an action of a task.

    Args:
        task: Whose tokens nobody else gets.
        name: What its token is to permit.
        call: The call that the token is for; None if it is for all of the action's.
    """
    action = task.host.contract.actions[name]
    if call is None:
        # Most of it is the same for all tasks, and shared: there may be thousands.
        known = task.host.requests.get(name)
        if known is None:
            known = task.host.requests[name] = _asked(action, [])
        return dataclasses.replace(known, purpose=task.purpose, partition=task.id)
    bound = {
        "type": _CALL_DETAILS,
        "actions": [call.action],
        "identifier": call.resource,
        "digest": call.digest,
        "task": call.task.id,
    }
    return dataclasses.replace(_asked(action, [bound]), purpose=task.purpose, partition=task.id)


def _asked(action: Action, details: list[Mapping[str, object]]) -> TokenRequest:
    return TokenRequest.of(
        *action.scopes,
        audience=action.audience,
        resource=action.resource_uris,
        authorization_details=[*action.authorization_details, *details],
        max_ttl=action.token_seconds,
    )


class Authority:
    """A token for an action of a task, as long as the task lives.

    One of a task that work was handed on to is made from its parent's token: it can only be less.

    Args:
        broker: Where tokens come from.
        request: What is asked for.
        above: The parent's for the same action; None for a task of its own.
    """

    def __init__(self, broker: TokenBroker, request: TokenRequest, above: Authority | None = None) -> None:
        self._broker = broker
        self._request = request
        self._above = above
        self._auth: TokenAuth | None = None
        self._error: TaskEndedError | None = None
        #: What there is to revoke, once it was withdrawn; threads that were on their way may bring more.
        self.left: list[AccessToken] = []

    def peek(self) -> AccessToken | None:
        """Return the token if it is at hand."""
        return None if self._error is not None else self._broker.peek(self._request)

    async def fetch(self) -> AccessToken:
        """Return the token, from memory or from the token broker.

        Raises:
            TaskEndedError: The authority was withdrawn.
            TokenError: It was refused, or did not come in time.
        """
        self._refuse()
        if self._above is not None:
            self._descend(await self._above.fetch())
            self._refuse()  # the end may have come meanwhile, and knows nothing of what is asked for next
        with spanned("exchange", **{"spiffe.scope": " ".join(sorted(self._request.scope))}):
            return self._landed(await self._broker.fetch(self._request))

    def fetch_blocking(self) -> AccessToken:
        """As `fetch`, from a thread that is not the token broker client's event loop."""
        self._refuse()
        if self._above is not None:
            self._descend(self._above.fetch_blocking())
            self._refuse()
        return self._landed(self._broker.fetch_blocking(self._request))

    def withdraw(self, error: TaskEndedError) -> None:
        """Forget the token, also one on its way, and hand out none any more; from any thread."""
        self._error = self._error or error
        if (held := self._broker.forget(self._request, error)) is not None:
            self.left.append(held)

    def auth(self) -> TokenAuth:
        """Return what puts the token on requests to whom it is for."""
        if self._auth is None:
            from spiffe_client.http import TokenAuth

            self._auth = TokenAuth(self._broker, self._request, on_event=_untold)
        return self._auth

    async def revoke(self) -> bool:
        """Have the next of what is left revoked, and first what was made from it, where the token broker can.

        Returns:
            Whether it was.

        Raises:
            SpiffeError: The token broker was not told.
        """
        token = self.left.pop()
        try:
            return await revoke(self._broker, token)
        except anyio.get_cancelled_exc_class():
            self.left.append(token)  # for whoever comes next
            raise

    def _refuse(self) -> None:
        if self._error is not None:
            raise self._error

    def _descend(self, token: AccessToken) -> None:
        if self._request.subject is not token:
            if isinstance(self._request.subject, AccessToken):
                self._broker.forget(self._request, TokenError("the token it was made from was replaced"))
            self._request = dataclasses.replace(self._request, subject=token)
            self._auth = None

    def _landed(self, token: AccessToken) -> AccessToken:
        if self._error is not None:  # withdrawn while it was on its way
            late = self._broker.forget(self._request, self._error) or token
            if late not in self.left:
                self.left.append(late)
            raise self._error
        return token


class Root(Authority):
    """The token that a ticket was worth: what a task's tokens are made from, renewed by nobody.

    Args:
        broker: Who issued it.
        token: The token.
    """

    def __init__(self, broker: TokenBroker, token: AccessToken) -> None:
        super().__init__(broker, token.request)
        self._root = token

    def peek(self) -> AccessToken | None:
        """See `Authority.peek`."""
        return None if self._error is not None else self._root

    async def fetch(self) -> AccessToken:
        """See `Authority.fetch`."""
        self._refuse()
        return self._root

    def fetch_blocking(self) -> AccessToken:
        """See `Authority.fetch_blocking`."""
        self._refuse()
        return self._root

    def withdraw(self, error: TaskEndedError) -> None:
        """See `Authority.withdraw`."""
        self._error = self._error or error
        self.left = [self._root]


def check_tokens(contract: Contract, broker: TokenBroker | None) -> None:
    """Return if the actions of a contract can have the tokens that they need.

    Raises:
        ContractError: There is one that needs any, and nowhere to get it.
    """
    needy = next((name for name, action in contract.actions.items() if action.needs_token), None)
    if needy is not None and broker is None:
        raise ContractError(
            f"the action {needy} is called with a token, and there is no token broker: give token_broker=",
            path=f"actions.{needy}.audience",
        )


def authority_of(task: Task, call: Call) -> Authority | None:
    """Return what a call is made with; None if its action has no token.

    Args:
        task: The call's own task, or one that handed its work on.
        call: The call.

    Raises:
        TokenRequestError: It needs a token, and there is none that could be asked for.
    """
    permit = call.permit
    if not permit.needs_token:
        return None
    key = call.id if permit.sensitive else permit.action
    found = task.authorities.get(key)
    if found is None:
        broker = task.host.tokens
        assert broker is not None  # as `check_tokens` has seen
        if permit.sensitive and call.digest is None:
            raise TokenRequestError(
                f"no token can be bound to the arguments of {call.action}: they are no JSON"
            )
        above = task.authorities.get("") if task.parent is None else authority_of(task.parent, call)
        request = _request(task, permit.action, call if permit.sensitive else None)
        found = task.authorities.setdefault(key, Authority(broker, request, above))
        if task.ended is not None:  # from another thread, and it did not see this one
            found.withdraw(task.ending())
    return found


async def revoke(broker: TokenBroker, token: AccessToken | SecurityToken) -> bool:
    """Have a token revoked, and first what was made from it, where the token broker can.

    Raises:
        SpiffeError: The token broker was not told.
    """
    known = broker.metadata
    if known is None or known.revocation_endpoint is None:
        return False
    told = await broker.revoke(token)
    if told.error is not None:
        raise told.error
    return True
