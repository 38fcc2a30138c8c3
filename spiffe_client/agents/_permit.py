"""What a task has of one action: what is the same for all of its calls, looked up once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spiffe_client.agents._task import Task
    from spiffe_client.policy import Ruling

__all__ = ["Permit", "permit_of"]


class Permit:
    """What a task has of one action.

    Args:
        task: Whose it is.
        action: Of the contract, by name, or none of it.

    Attributes:
        action: Its name.
        ruling: What the contract says of it.
        needs_token: Whether its calls are made with a token.
        sensitive: Whether each call has one of its own.
        ordered: Whether the contract says what may come before it.
    """

    __slots__ = ("action", "needs_token", "ordered", "ruling", "sensitive")

    def __init__(self, task: Task, action: str) -> None:
        host = task.host
        known = host.contract.actions.get(action)
        self.action: str = action
        self.ruling: Ruling = host.decider.ruling(
            action,
            task.actions,
            agent=task.agent,
            environment=host.environment,
            tenant=task.tenant,
            params=task.params,
        )
        self.needs_token: bool = known is not None and known.needs_token
        self.sensitive: bool = known is not None and known.sensitive
        self.ordered: bool = host.contract.workflow is not None


def permit_of(task: Task, action: str) -> Permit:
    """Return what a task has of an action, which may be nothing."""
    found = task.permits.get(action)
    if found is None:
        found = Permit(task, action)
        if action in task.host.contract.actions:  # of names that somebody made up none is kept
            found = task.permits.setdefault(action, found)
    return found
