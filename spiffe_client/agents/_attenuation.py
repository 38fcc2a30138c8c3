"""What a task is given, and what it hands on: never more than there is, of anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spiffe_client.agents._records import record_refusal
from spiffe_client.errors import AttenuationError, InvalidIdError, ResourceError, SpiffeError, TaskError
from spiffe_client.ids import SpiffeId
from spiffe_client.policy import ResourceTemplate

if TYPE_CHECKING:
    from spiffe_client.agents._host import AgentHost
    from spiffe_client.agents._task import Task

__all__ = ["Terms", "attenuate", "initial_terms"]

_LONGEST: Final = 1000


@dataclass(frozen=True, slots=True)
class Terms:
    """What a task may do.

    Attributes:
        agent: For whom it is.
        purpose: What for, in words.
        actions: What, by name.
        tenant: Whose it is; empty for nobody's.
        params: What templates of resources are filled with.
        within: The only resources that calls may be about, as templates without parameters; None for
            all that the contract has for the actions.
        seconds: How long it lives at most.
        calls: How many calls it has.
        depth: How often it may be handed on further.

    Raises:
        TaskError: The tenant, or a parameter, is none that a resource can be made of, or what a person is
            to read about it is not on one line of at most 1000 characters.
    """

    agent: SpiffeId
    purpose: str
    actions: frozenset[str]
    tenant: str
    params: Mapping[str, str]
    within: tuple[str, ...] | None
    seconds: float
    calls: int
    depth: int

    def __post_init__(self) -> None:
        if not self.purpose.isprintable() or len(self.purpose) > _LONGEST:
            raise TaskError(f"a purpose is one line of at most {_LONGEST} characters: {self.purpose!r:.100}")
        if "tenant" in self.params:
            raise TaskError("whose a task is, is said by its tenant, and by no parameter of that name")
        names = {**self.params, **({"tenant": self.tenant} if self.tenant != "" else {})}
        try:
            for name in names:
                ResourceTemplate(f"{{{name}}}").fill(names)
            for text in self.within or ():
                ResourceTemplate(text).matches("")
        except ResourceError as error:
            raise TaskError(f"no resource can be made of this: {error}") from error

    def covers(self, resource: str) -> bool:
        """Say whether a call may be about this resource, as far as these terms go."""
        if self.within is None or not resource:
            return True
        return any(ResourceTemplate(text).matches(resource) for text in self.within)


def attenuate(
    task: Task,
    agent: SpiffeId | str,
    actions: Collection[str],
    *,
    purpose: str,
    resources: Collection[str] | None,
    ttl: float | None,
    calls: int | None,
) -> Terms:
    """Return the terms of what a task hands on; that it may not is told.

    Args:
        task: What there is to give.
        agent: To whom.
        actions: Some of its actions.
        purpose: What for; empty for the same.
        resources: Some of its resources, as templates; None for all.
        ttl: Seconds, at most what it has left; None for that.
        calls: At most what it has left; None for that.

    Raises:
        AttenuationError: It would be more than the task has, or the contract lets it give.
    """
    now = task.host.clock.monotonic()
    try:
        task.refuse(now)
        to, names = _to_whom(task, agent, actions)
        left = task.deadline - now
        return Terms(
            agent=to,
            purpose=purpose or task.purpose,
            actions=names,
            tenant=task.tenant,
            params=task.params,
            within=task.terms.within if resources is None else _resources(task, names, resources),
            seconds=left if ttl is None else _at_most(ttl, left, "seconds"),
            calls=task.budget.left if calls is None else int(_at_most(calls, task.budget.left, "calls")),
            depth=task.terms.depth - 1,
        )
    except SpiffeError as error:
        record_refusal(task.host, "delegation.refused", error, task, to=_named(agent))
        raise


def _named(agent: SpiffeId | str) -> str:
    try:
        return str(SpiffeId.parse(agent))
    except InvalidIdError:
        return ""  # whatever it is, it may be a secret in the wrong place


def _to_whom(task: Task, agent: SpiffeId | str, actions: Collection[str]) -> tuple[SpiffeId, frozenset[str]]:
    if task.terms.depth < 1:
        raise AttenuationError("this work may not be handed on any further", asked="depth 1", held="depth 0")
    to, names = _agent(agent), frozenset((actions,) if isinstance(actions, str) else actions)
    _check_actions(task, to, names)
    return to, names


def initial_terms(
    host: AgentHost,
    purpose: str,
    actions: frozenset[str],
    *,
    tenant: str,
    params: Mapping[str, str],
    ttl: float | None,
) -> Terms:
    """Return the terms of a task that nobody handed on; that there is none is told.

    Args:
        host: Whose contract gives them.
        purpose: What for.
        actions: Some of the contract's.
        tenant: Whose it is.
        params: What templates of resources are filled with.
        ttl: Seconds; None for as long as the contract permits.

    Raises:
        TaskError: It would have more than the contract gives.
    """
    contract = host.contract
    limits = contract.limits
    seconds = limits.task_seconds if ttl is None else ttl
    try:
        if unknown := sorted(actions - contract.actions.keys()):
            raise TaskError(f"the contract of {contract.agent.id} has no action {', '.join(unknown)}")
        if not actions:
            raise TaskError("a task without actions may do nothing")
        if not 0 < seconds <= limits.task_seconds:
            raise TaskError(f"a task lives {limits.task_seconds} s at most by contract, not {seconds:g} s")
        return Terms(
            agent=contract.agent.id,
            purpose=purpose,
            actions=actions,
            tenant=tenant,
            params=params,
            within=None,
            seconds=seconds,
            calls=limits.calls_per_task,
            depth=limits.delegation_depth,
        )
    except SpiffeError as error:
        record_refusal(host, "task.refused", error)
        raise


def _agent(agent: SpiffeId | str) -> SpiffeId:
    try:
        return SpiffeId.parse(agent)
    except InvalidIdError as error:
        raise AttenuationError(
            f"work is handed on to an agent: {error}", asked=f"{agent!r:.100}", held=""
        ) from error


def _check_actions(task: Task, agent: SpiffeId, actions: frozenset[str]) -> None:
    delegate = task.host.contract.delegates.get(str(agent))
    given = frozenset() if delegate is None else frozenset(delegate.actions)
    held = task.actions & given
    if not actions or actions - held:
        asked, there = " ".join(sorted(actions)) or "no action", " ".join(sorted(held)) or "nothing"
        raise AttenuationError(
            f"{agent} cannot be given {asked}: of this task's actions, the contract lets it have {there}",
            asked=asked,
            held=there,
        )


def _at_most(asked: float, held: float, what: str) -> float:
    if not 0 < asked <= held:
        raise AttenuationError(
            f"{asked:g} {what} were asked for, and there are {held:g} to give",
            asked=f"{asked:g} {what}",
            held=f"{held:g} {what}",
        )
    return asked


def _resources(task: Task, actions: frozenset[str], asked: Collection[str]) -> tuple[str, ...]:
    contract = task.host.contract.actions
    held = [ResourceTemplate(text) for name in actions for text in contract[name].resources]
    texts = []
    for text in (asked,) if isinstance(asked, str) else asked:
        template = _filled(text, task.names)
        inside = [mine for mine in held if _covers(mine, template, task.names)]
        if not inside or (task.terms.within is not None and not _any_covers(task.terms.within, template)):
            there = " ".join(task.terms.within or sorted(one.text for one in held)) or "nothing"
            raise AttenuationError(
                f"{template.text} is no part of this task's resources: {there}",
                asked=template.text,
                held=there,
            )
        texts.append(template.text)
    return tuple(texts)


def _filled(text: str, names: Mapping[str, str]) -> ResourceTemplate:
    try:
        return ResourceTemplate(text).fill(names)
    except ResourceError as error:
        raise AttenuationError(str(error), asked=f"{text!r:.100}", held="") from error


def _covers(mine: ResourceTemplate, other: ResourceTemplate, names: Mapping[str, str]) -> bool:
    try:
        return mine.fill(names).covers(other)
    except ResourceError:  # of a parameter that this task has not
        return False


def _any_covers(within: tuple[str, ...], template: ResourceTemplate) -> bool:
    return any(ResourceTemplate(text).covers(template) for text in within)
