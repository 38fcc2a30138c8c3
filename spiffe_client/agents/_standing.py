"""Whether this is the agent that a contract is about, where it may run, while it may."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from spiffe_client._clock import Clock
from spiffe_client.errors import ContractError, SourceError
from spiffe_client.policy import Contract

if TYPE_CHECKING:
    from spiffe_client.svid import X509Svid
    from spiffe_client.workload_api import X509Context

__all__ = ["AgentIdentity", "Standing"]


class AgentIdentity(Protocol):
    """Who the agent is; an open `Workload` is one."""

    @property
    def x509_context(self) -> X509Context:
        """As `X509Source.x509_context`."""
        ...

    @property
    def x509_svid(self) -> X509Svid:
        """The current X509-SVID; raises a `SourceError` if there is none."""
        ...

    def after_publish(self, notify: Callable[[], object]) -> None:
        """As `X509Source.after_publish`."""
        ...


class Standing:
    """Compares who and where this is with what a contract says.

    Args:
        contract: What it says.
        identity: Who this is.
        environment: Where this is.
        clock: When this is.
    """

    def __init__(self, contract: Contract, identity: AgentIdentity, environment: str, clock: Clock) -> None:
        self._contract = contract
        self._identity = identity
        self._environment = environment
        self._clock = clock
        self._known: X509Svid | None = None
        #: This workload's SPIFFE ID and its SVID's serial number in hex, as last seen.
        self.who: tuple[str, str] = ("", "")

    def trouble(self) -> str:
        """Return why this is not the agent that the contract is about, now; empty if it is."""
        try:
            svid = self._identity.x509_svid
        except SourceError as error:
            return str(error)
        if self._known is not svid:
            if svid.id != self._contract.agent.id:
                return f"the contract is about {self._contract.agent.id}, and this is {svid.id}"
            self._known, self.who = svid, (str(svid.id), f"{svid.serial_number:x}")
        return ""

    def seconds_left(self) -> float | None:
        """Return for how long the contract permits anything; None for no end."""
        expires = self._contract.agent.expired_at
        return None if expires is None else (expires - self._clock.now()).total_seconds()

    def check(self) -> None:
        """Return if the contract is about this agent, here and now.

        Raises:
            ContractError: It is not.
            SourceError: There is no identity to compare with.
        """
        agent = self._contract.agent
        if self._environment != agent.environment:
            raise ContractError(
                f"the contract is for the environment {agent.environment!r}, and this is "
                + (repr(self._environment) if self._environment else "not said to be any: give environment="),
                path="agent.environment",
            )
        self._identity.x509_svid  # noqa: B018 - raises if there is none
        if trouble := self.trouble():
            raise ContractError(trouble, path="agent.id")
        left = self.seconds_left()
        if left is not None and left <= 0:
            raise ContractError(
                f"the contract of {agent.id} expired on {agent.expires}", path="agent.expires"
            )
