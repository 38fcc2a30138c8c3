"""What adapters to agent frameworks share: from a tool's name and arguments to a guarded call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.agents._admission import is_bound, question_of, recheck, request_of
from spiffe_client.agents._arguments import ResourcePath
from spiffe_client.agents._call import Call
from spiffe_client.agents._context import task_of_call
from spiffe_client.agents._denials import denial, refusal
from spiffe_client.agents._records import record_denial
from spiffe_client.policy import Approval, ApprovalRequest
from spiffe_client.policy._contract_parts import CLASSIFICATIONS
from spiffe_client.policy._contract_rules import ACTION_NAME, is_action_name

if TYPE_CHECKING:
    from spiffe_client.agents._task import Task
    from spiffe_client.policy import Approver

__all__ = ["Answer", "Requires", "ToolGate"]

#: A resource that is none: what cannot be part of a resource is on nobody's list.
_NONE = "?"


@dataclass(frozen=True, slots=True)
class Requires:
    """What a tool needs.

    Attributes:
        action: The action, as the contract calls it.
        resource: What it touches, with the tool's arguments in braces; see `guard`.
        classification: How confidential that is: a `policy.Classification`, or empty.

    Raises:
        ValueError: No contract can have such an action, or there is no such classification.
    """

    action: str
    resource: str = ""
    classification: str = ""

    def __post_init__(self) -> None:
        # It would be denied at each call, with a reason that sounds like the contract's.
        if not is_action_name(self.action):
            raise ValueError(
                f"the tool requires {self.action!r:.100}, and an action is called by {ACTION_NAME}"
            )
        if self.classification and self.classification not in CLASSIFICATIONS:
            known = ", ".join(CLASSIFICATIONS)
            raise ValueError(f"there is no classification {self.classification!r:.100}, only {known}")


class ToolGate:
    """The tools of an agent framework, by name, and what each needs; any other tool is denied.

    `async with gate.call(name, arguments, call_id=…) as call:` around a tool's run does all that
    `guard` does. What comes back goes through `call.clean`, an exception through `call.clean_error`.
    Of what it raises, the text of `PolicyError` and `TaskError` is for the model; nothing else is
    to be caught.

    Args:
        requires: By the tool's name: the action, or all that it requires.

    Raises:
        ValueError: A resource is malformed.
    """

    def __init__(self, requires: Mapping[str, str | Requires]) -> None:
        rules = {name: Requires(one) if isinstance(one, str) else one for name, one in requires.items()}
        self.requires: Mapping[str, Requires] = MappingProxyType(rules)
        self._paths = {name: ResourcePath(rule.resource) for name, rule in rules.items()}

    def call(
        self,
        tool: str,
        arguments: Mapping[str, object],
        *,
        call_id: str = "",
        approver: Approver | None = None,
        task: Task | None = None,
    ) -> Call:
        """Make the call of a tool.

        Args:
            tool: Its name.
            arguments: As the model gave them.
            call_id: The framework's id of this call. One that is made again with the same arguments,
                as after a pause for a person, is the same call: it is counted once.
            approver: Who is asked in place of the host's: a framework's own way to ask a person.
            task: Whose call it is; None for the present task.

        Raises:
            DeniedError: There is no task, or the tool is not listed.
        """
        rule = self.requires.get(tool)
        # A name that is on no list was made up by a model: it is told of its own task, cut, and of nobody else.
        task = task_of_call("" if rule is None else rule.action) if task is None else task
        if rule is None:
            call = Call(task, f"{tool:.200}", "", arguments=arguments)
            decision = refusal("missing_scope", "adapter", ("listed", False))
            record_denial(call, decision, None)
            raise denial(task, tool, "", call.id, decision)
        resource = self._paths[tool].fill(dict(arguments), task.names)
        return Call(
            task,
            rule.action,
            _NONE if resource is None else resource,
            arguments=arguments,
            classification=rule.classification,
            call_id=call_id,
            approver=approver,
        )

    def verify(self, call: Call, tool: str, arguments: Mapping[str, object]) -> None:
        """Return if a tool gets what was decided about, for frameworks that change arguments after that.

        Args:
            call: What was decided about.
            tool: Its name.
            arguments: What the tool gets, after defaults, types and validators.

        Raises:
            DeniedError: It would touch something else.
        """
        rule = self.requires.get(tool)
        resource = None if rule is None else self._paths[tool].fill(dict(arguments), call.task.names)
        if rule is None or rule.action != call.action or resource != call.resource:
            decision = refusal("outside_purpose", "adapter", ("cause", "arguments_were_changed"))
            record_denial(call, decision, None)
            raise denial(call.task, call.action, resource or _NONE, call.id, decision)

    def recheck(self, call: Call, arguments: Mapping[str, object]) -> bool:
        """Say whether a call is bound to its arguments: somebody approved them, or its token is for them alone.

        For frameworks whose mappings may have been changed while somebody looked at what they held. Go on
        with a copy, then.

        Args:
            call: Once it is open.
            arguments: What it was made with, as it is now.

        Raises:
            DeniedError: It is bound, and they were changed.
        """
        if bound := is_bound(call):
            recheck(call, arguments)
        return bound

    def asks(self, call: Call) -> ApprovalRequest | None:
        """Return what a person has to be asked about a call by contract, before it is made.

        None if nobody has to be asked, also because the call will be denied anyhow. For frameworks that
        pause a run until somebody has answered; then make the call with `approver=Answer(digest, by=…)`,
        the digest as the answer repeats it.
        """
        host = call.task.host
        known = host.contract.actions.get(call.action)
        if known is None or not known.approval:
            return None
        question = question_of(call)
        decision = host.decider.decide(question, call.task.actions)
        if not decision.allowed or "approve" not in decision.obligations:
            return None
        return None if call.digest is None else request_of(call, question)


class Answer:
    """An approver who was asked before: by a framework that pauses a run until somebody has answered.

    It is about what they were shown, once: a yes to another call, however it got here, is none.

    Args:
        digest: Of what they were asked, `ApprovalRequest.digest`: as it comes back with the answer, and
            not as it would be now.
        by: Who said yes; empty for a no.
        clock: When this is.
    """

    def __init__(self, digest: str, *, by: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._digest = digest
        self._by = by
        self._left = [by] if by else []
        self._clock = clock

    async def approve(self, request: ApprovalRequest) -> Approval | None:
        """See `Approver.approve`."""
        if request.digest == self._digest:  # what is not about this is compared and told where it is decided
            try:
                self._left.pop()  # of two at once, one is the first
            except IndexError:
                return None
        return Approval(request.id, self._by, self._clock.now(), self._digest) if self._by else None
