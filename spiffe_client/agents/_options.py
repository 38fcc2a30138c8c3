"""An agent as the front door is told of it: by its contract, or with all options."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from spiffe_client.agents._host import AgentHost
from spiffe_client.errors import ContractError

if TYPE_CHECKING:
    import ssl
    from os import PathLike

    from spiffe_client._clock import Clock
    from spiffe_client.agents._standing import AgentIdentity
    from spiffe_client.audit import EventSink
    from spiffe_client.policy import Approver, Contract, Decider
    from spiffe_client.tokens import TokenBroker

__all__ = ["AgentOptions", "TaskTerms", "new_agent_host"]


class TaskTerms(TypedDict, total=False):
    """What a task is given beside its actions; see `AgentHost.task`."""

    tenant: str
    params: Mapping[str, str]
    ttl: float | None


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What an agent may do, and who decides about it; for `Workload(contract=…)`.

    Attributes:
        contract: The contract, or its file.
        deciders: Who is asked beside the contract; each may deny.
        approver: Who is asked where a person must approve; None denies such calls.
        review: What an overdue review of the contract means.
        approval_timeout: Seconds that a person has for an answer.
        web: Whom to trust on the web; None for the authorities that httpx trusts.
    """

    contract: Contract | str | PathLike[str]
    deciders: Collection[Decider] = ()
    approver: Approver | None = None
    review: Literal["warn", "refuse"] = "warn"
    approval_timeout: float = 300.0
    web: ssl.SSLContext | None = None


def new_agent_host(
    which: Contract | str | PathLike[str] | AgentOptions | None,
    environment: str,
    identity: AgentIdentity,
    tokens: TokenBroker | None,
    *,
    clock: Clock,
    on_event: EventSink | None,
) -> AgentHost:
    """Make the host of the agent that a workload was told of; it is not open.

    Args:
        which: Its contract, and more.
        environment: Where this runs.
        identity: The workload.
        tokens: Its token broker client.
        clock: Where the time comes from.
        on_event: Takes events.

    Raises:
        ContractError: It was told of none, or it cannot be used.
    """
    if which is None:
        raise ContractError(
            'there is no contract: give it as Workload(contract="agent.toml", environment="…")'
        )
    options = which if isinstance(which, AgentOptions) else AgentOptions(which)
    return AgentHost(
        options.contract,
        identity,
        environment=environment,
        tokens=tokens,
        deciders=options.deciders,
        approver=options.approver,
        review=options.review,
        approval_timeout=options.approval_timeout,
        web=options.web,
        clock=clock,
        on_event=on_event,
    )
