"""An agent's contract: what it is for, whose it is, what it may do, and within which bounds.

A value only: `_contract_file.py` reads it, `_contract_rules.py` holds what no single key can say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from types import MappingProxyType
from typing import Any, Literal, cast

from msgspec import Struct, to_builtins
from msgspec.structs import force_setattr

from spiffe_client.policy._contract_parts import Action, Agent, Delegate, Limits, Workflow

__all__ = ["Contract", "load_contract"]


class Contract(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """An agent's job description. Made by `load_contract` and `Contract.parse`.

    Attributes:
        agent: Who.
        limits: How long and how much.
        actions: What, by name.
        workflow: In which order; None for any.
        delegates: Whom it may give which actions, by SPIFFE ID.
    """

    agent: Agent
    limits: Limits = Limits()
    actions: Mapping[str, Action]
    workflow: Workflow | None = None
    delegates: Mapping[str, Delegate] = {}

    def __post_init__(self) -> None:
        from spiffe_client.policy._contract_rules import check_contract

        force_setattr(self, "actions", MappingProxyType(dict(self.actions)))
        force_setattr(self, "delegates", MappingProxyType(dict(self.delegates)))
        check_contract(self)

    @classmethod
    def parse(
        cls,
        text: bytes,
        format: Literal["toml", "json"] = "toml",  # noqa: A002 - its name
        *,
        name: str = "the contract",
    ) -> Contract:
        """Read a contract.

        Args:
            text: UTF-8, at most 1 MiB.
            format: TOML or JSON.
            name: What to call it in messages, such as the file's name.

        Raises:
            ContractError: It is malformed, or says what cannot be meant; `path` is the offending key.
        """
        from spiffe_client.policy._contract_file import read_contract

        return read_contract(text, format, name)

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of what it says: the same for TOML and JSON, for keys in any order, with or without defaults."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, with every default said."""
        said: dict[str, Any] = to_builtins(
            self, enc_hook=lambda table: dict(cast("Mapping[str, object]", table))
        )
        said["agent"].update(id=str(self.agent.id), trust_domain=str(self.agent.trust_domain))
        for name, action in self.actions.items():
            said["actions"][name]["peer"] = None if action.peer is None else str(action.peer)
        return said

    def may_follow(self, action: str, previous: str | None) -> bool:
        """Say whether an action may follow another in a task; without a workflow, any may.

        Args:
            action: What is to be done.
            previous: What the task did last; None where this is the first.
        """
        return self.workflow is None or self.workflow.permits(action, previous=previous)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # its tables cannot be written to, and so not be pickled as they are
        return Contract.parse, (json.dumps(self.to_dict()).encode(), "json")


def load_contract(path: str | PathLike[str]) -> Contract:
    """Read a contract from a file.

    Args:
        path: `….toml` or `….json`, at most 1 MiB.

    Raises:
        ContractError: It cannot be read, is malformed, or says what cannot be meant; `path` is the offending
            key.
    """
    from spiffe_client.policy._contract_file import read_file

    return read_file(path)
