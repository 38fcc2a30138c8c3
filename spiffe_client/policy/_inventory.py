"""All agents of a folder of contracts, a row each: who they are, whose, and how much they may do."""

from __future__ import annotations

from datetime import date, datetime
from os import PathLike
from pathlib import Path
from typing import Final, Literal, TypeAlias

from spiffe_client._values import dataclass
from spiffe_client.errors import ContractError
from spiffe_client.policy._contract import Contract, load_contract
from spiffe_client.policy._contract_parts import CLASSIFICATIONS, Action, end_of
from spiffe_client.policy._templates import ResourceTemplate

__all__ = ["InventoryRow", "InventoryState", "inventory", "widest_action"]

#: `valid`, or `overdue` for a review, or `expired`; `broken` where the file is no contract.
InventoryState: TypeAlias = Literal["valid", "overdue", "expired", "broken"]

_SUFFIXES: Final = (".json", ".toml")


@dataclass(frozen=True, slots=True)
class InventoryRow:
    """One contract.

    Attributes:
        file: Where it is, below the folder.
        state: Whether it permits anything.
        id: Whom it binds; of a broken one everything from here on is empty.
        owner: Who answers for it, perhaps nobody.
        purpose: What it is for.
        environment: Where it may run.
        reviewed: When somebody last looked at it.
        review_by: Until when somebody must look again.
        expires: Its last day.
        task_seconds: How long a task may live.
        token_seconds: How long the longest-lived token may; 0 where there are none.
        widest: The action that may touch the most; see `widest_action`.
        digest: Of the contract.
        error: What is wrong with a broken one.
    """

    file: str
    state: InventoryState
    id: str = ""
    owner: str = ""
    purpose: str = ""
    environment: str = ""
    reviewed: date | None = None
    review_by: date | None = None
    expires: date | None = None
    task_seconds: int = 0
    token_seconds: int = 0
    widest: str = ""
    digest: str = ""
    error: str = ""

    @property
    def overdue_at(self) -> datetime | None:
        """The moment from which on a review is overdue."""
        return None if self.review_by is None else end_of(self.review_by)

    @property
    def expired_at(self) -> datetime | None:
        """The moment from which on it permits nothing."""
        return None if self.expires is None else end_of(self.expires)


def inventory(directory: str | PathLike[str], *, at: datetime) -> list[InventoryRow]:
    """Read every `.toml` and `.json` of a folder and of those below it; hidden ones are left out.

    Args:
        directory: The folder.
        at: As of when.

    Raises:
        ContractError: It is no folder that can be read.
    """
    root = Path(directory)
    try:
        if not root.is_dir():
            raise ContractError(f"{root}: not a folder")
        files = sorted(path for path in root.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    except (OSError, ValueError) as error:
        if isinstance(error, ContractError):
            raise
        why = getattr(error, "strerror", None) or error
        raise ContractError(f"{root}: cannot be read: {why}") from error
    below = [(path, path.relative_to(root)) for path in files]
    return [
        _row(path, str(name), at) for path, name in below if not any(p.startswith(".") for p in name.parts)
    ]


def _row(path: Path, name: str, at: datetime) -> InventoryRow:
    try:
        contract = load_contract(path)
    except ContractError as error:
        return InventoryRow(file=name, state="broken", error=str(error).removeprefix(f"{path}: "))
    agent, tokens = contract.agent, [a.token_seconds for a in contract.actions.values() if a.needs_token]
    return InventoryRow(
        file=name,
        state=_state(contract, at),
        id=str(agent.id),
        owner=agent.owner,
        purpose=agent.purpose,
        environment=agent.environment,
        reviewed=agent.reviewed,
        review_by=agent.review_by,
        expires=agent.expires,
        task_seconds=contract.limits.task_seconds,
        token_seconds=max(tokens, default=0),
        widest=widest_action(contract),
        digest=contract.digest,
    )


def _state(contract: Contract, at: datetime) -> InventoryState:
    agent = contract.agent
    if agent.expired_at is not None and at >= agent.expired_at:
        return "expired"
    return "overdue" if agent.overdue_at is not None and at >= agent.overdue_at else "valid"


def widest_action(contract: Contract) -> str:
    """Return the name of the action that may touch the most; empty where there is none.

    More is: a `**`, then more wildcards, then fewer names and parameters around them, then a higher
    classification, then no approval, then a longer-lived token. The first of those that are equal counts.
    """
    return max(contract.actions, key=lambda name: _width(contract.actions[name]), default="")


def _width(action: Action) -> tuple[tuple[bool, int, int], int, bool, int]:
    reach = max(map(_reach, action.resources), default=(False, -1, 0))
    seconds = action.token_seconds if action.needs_token else 0
    return reach, CLASSIFICATIONS.index(action.classification), not action.approval, seconds


def _reach(text: str) -> tuple[bool, int, int]:
    segments = ResourceTemplate(text).segments
    wild = sum(segment in ("*", "**") for segment in segments)
    return "**" in segments, wild, wild - len(segments)
