"""What an agent may do: its contract, and the decisions that are taken before each call."""

from __future__ import annotations

from spiffe_client._lazy import load_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client.policy._approval import Approval, ApprovalRequest, Approvals, Approver
    from spiffe_client.policy._approvers import CallbackApprover
    from spiffe_client.policy._asking import ask_approval
    from spiffe_client.policy._authzen import AuthZenPdp
    from spiffe_client.policy._authzen_metadata import AuthZenMetadata
    from spiffe_client.policy._combined import deny_wins
    from spiffe_client.policy._contract import Contract, load_contract
    from spiffe_client.policy._contract_parts import (
        Action,
        Agent,
        Classification,
        Delegate,
        Limits,
        Window,
        Workflow,
    )
    from spiffe_client.policy._decision import Decider, Decision, Evidence, Question, Reason
    from spiffe_client.policy._decision_cache import CachedDecisions
    from spiffe_client.policy._diff import Change, diff
    from spiffe_client.policy._inventory import InventoryRow, inventory
    from spiffe_client.policy._lint import Finding, lint, lint_delegations
    from spiffe_client.policy._local import ContractDecider, Ruling
    from spiffe_client.policy._schema import contract_schema
    from spiffe_client.policy._templates import Resource, ResourceTemplate
    from spiffe_client.policy._terminal import TerminalApprover
    from spiffe_client.policy._webhook import WebhookApprover

__all__ = [
    "Action",
    "Agent",
    "Approval",
    "ApprovalRequest",
    "Approvals",
    "Approver",
    "AuthZenMetadata",
    "AuthZenPdp",
    "CachedDecisions",
    "CallbackApprover",
    "Change",
    "Classification",
    "Contract",
    "ContractDecider",
    "Decider",
    "Decision",
    "Delegate",
    "Evidence",
    "Finding",
    "InventoryRow",
    "Limits",
    "Question",
    "Reason",
    "Resource",
    "ResourceTemplate",
    "Ruling",
    "TerminalApprover",
    "WebhookApprover",
    "Window",
    "Workflow",
    "ask_approval",
    "contract_schema",
    "deny_wins",
    "diff",
    "inventory",
    "lint",
    "lint_delegations",
    "load_contract",
]

_HOMES = {
    "Action": "spiffe_client.policy._contract_parts",
    "Agent": "spiffe_client.policy._contract_parts",
    "Approval": "spiffe_client.policy._approval",
    "ApprovalRequest": "spiffe_client.policy._approval",
    "Approvals": "spiffe_client.policy._approval",
    "Approver": "spiffe_client.policy._approval",
    "AuthZenMetadata": "spiffe_client.policy._authzen_metadata",
    "AuthZenPdp": "spiffe_client.policy._authzen",
    "CachedDecisions": "spiffe_client.policy._decision_cache",
    "CallbackApprover": "spiffe_client.policy._approvers",
    "Change": "spiffe_client.policy._diff",
    "Classification": "spiffe_client.policy._contract_parts",
    "Contract": "spiffe_client.policy._contract",
    "ContractDecider": "spiffe_client.policy._local",
    "Decider": "spiffe_client.policy._decision",
    "Decision": "spiffe_client.policy._decision",
    "Delegate": "spiffe_client.policy._contract_parts",
    "Evidence": "spiffe_client.policy._decision",
    "Finding": "spiffe_client.policy._lint",
    "InventoryRow": "spiffe_client.policy._inventory",
    "Limits": "spiffe_client.policy._contract_parts",
    "Question": "spiffe_client.policy._decision",
    "Reason": "spiffe_client.policy._decision",
    "Resource": "spiffe_client.policy._templates",
    "Ruling": "spiffe_client.policy._local",
    "ResourceTemplate": "spiffe_client.policy._templates",
    "TerminalApprover": "spiffe_client.policy._terminal",
    "WebhookApprover": "spiffe_client.policy._webhook",
    "Window": "spiffe_client.policy._contract_parts",
    "Workflow": "spiffe_client.policy._contract_parts",
    "ask_approval": "spiffe_client.policy._asking",
    "contract_schema": "spiffe_client.policy._schema",
    "deny_wins": "spiffe_client.policy._combined",
    "diff": "spiffe_client.policy._diff",
    "inventory": "spiffe_client.policy._inventory",
    "lint": "spiffe_client.policy._lint",
    "lint_delegations": "spiffe_client.policy._lint",
    "load_contract": "spiffe_client.policy._contract",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
