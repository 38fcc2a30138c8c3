"""A contract decides: what is not in it is denied, and each reason comes before those that matter less."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from spiffe_client import SpiffeId
from spiffe_client.policy import Contract, ContractDecider, Decision, ResourceTemplate
from tests.policy.test_templates import HOSTILE
from tests.support.contracts import MONDAY, TEXT, changed, closer, question

ALL = frozenset(closer().actions)
AUDITOR = SpiffeId.parse("spiffe://prod.example/agent/auditor")
STRANGER = SpiffeId.parse("spiffe://prod.example/agent/stranger")
AGENT = "spiffe://prod.example/agent/closer"


def decide(contract: Contract | None = None, held: frozenset[str] = ALL, **other: Any) -> Decision:
    return ContractDecider(contract or closer()).decide(question(**other), held)


class TestAnswers:
    def test_allowed(self) -> None:
        """With the template by which it is."""
        evidence = (("template", "tenants/{tenant}/invoices/*"),)
        assert Decision(allowed=True, reason="allowed", policy="contract", evidence=evidence) == decide()

    @pytest.mark.parametrize(
        ("reason", "other"),
        [
            ("wrong_environment", {"environment": "stage"}),
            ("wrong_environment", {"environment": ""}),
            ("contract_expired", {"at": datetime(2027, 7, 1, tzinfo=UTC)}),
            ("missing_scope", {"action": "invoices:delete"}),
            ("missing_scope", {"agent": STRANGER}),
            ("tenant_boundary", {"resource": "tenants/globex/invoices/7"}),
            ("tenant_boundary", {"tenant": "globex"}),
            ("tenant_boundary", {"tenant": ""}),
            ("tenant_boundary", {"tenant": "..", "params": {"tenant": "acme"}}),
            ("outside_purpose", {"resource": "tenants/acme/invoices"}),
            ("outside_purpose", {"resource": "tenants/acme/invoices/7/lines"}),
            ("outside_purpose", {"resource": "tenants/acme/orders/7"}),
            ("outside_purpose", {"resource": ""}),
            ("outside_purpose", {"resource": "tenants/acme/invoices/" + "a/" * 600 + "a"}),
            ("outside_purpose", {"action": "summarize", "resource": "tenants/acme/invoices/7"}),
            ("outside_window", {"at": datetime(2026, 11, 29, 10, tzinfo=UTC)}),
            ("classification", {"classification": "restricted"}),
            ("classification", {"classification": "top secret"}),
        ],
        ids=range(18),
    )
    def test_denied(self, reason: str, other: dict[str, Any]) -> None:
        """Each with its reason, by the contract."""
        decision = decide(**other)
        assert (False, reason, "contract") == (decision.allowed, decision.reason, decision.policy)

    def test_what_a_task_does_not_hold(self) -> None:
        """Whatever the contract has."""
        assert (False, "missing_scope") == ((d := decide(held=ALL - {"invoices:read"})).allowed, d.reason)
        assert (("in_contract", True),) == d.evidence
        assert (("in_contract", False),) == decide(action="x", held=frozenset({"x"})).evidence

    @pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
    def test_names_out_of_a_model(self, name: str) -> None:
        """Neither as a resource nor as a parameter do they lead anywhere."""
        assert "outside_purpose" == decide(resource=f"tenants/acme/invoices/{name}").reason
        assert not decide(resource=f"tenants/{name}/invoices/7", tenant=name).allowed
        order = {"action": "orders:refund", "resource": f"tenants/acme/orders/{name}", "params": {"order": name}}
        assert not decide(**order).allowed

    def test_a_moment_without_a_zone(self) -> None:
        """Nobody knows when that is; who raises has denied."""
        with pytest.raises(TypeError):
            decide(at=MONDAY.replace(tzinfo=None))


class TestOrder:
    def test_first_reason_first(self) -> None:
        """Everything is wrong, and is mended step by step."""
        order = {"action": "orders:refund", "resource": "x", "classification": "restricted", "params": {"order": "9"}}
        wrong: dict[str, Any] = {**order, "environment": "x", "at": datetime(2028, 1, 1, tzinfo=UTC)}
        contract = changed(("approval = true", TEXT.partition("invoices/*\"]\n")[2].partition("\n")[0] + "\napproval = true"))
        steps: list[tuple[str, dict[str, Any], frozenset[str]]] = [
            ("wrong_environment", {}, frozenset()),
            ("contract_expired", {"environment": "prod"}, frozenset()),
            ("missing_scope", {"at": datetime(2026, 11, 29, tzinfo=UTC)}, frozenset()),
            ("outside_purpose", {}, ALL),
            ("tenant_boundary", {"resource": "tenants/globex/orders/9"}, ALL),
            ("outside_window", {"resource": "tenants/acme/orders/9"}, ALL),
            ("classification", {"at": MONDAY}, ALL),
            ("allowed", {"classification": "confidential"}, ALL),
        ]
        for reason, mended, held in steps:
            wrong |= mended
            assert reason == (decision := decide(contract, held, **wrong)).reason
        assert frozenset({"approve"}) == decision.obligations


class TestParameters:
    def test_they_are_the_tasks(self) -> None:
        """A refund of the order that the task is about, and no other; without the parameter, of none."""
        order = {"action": "orders:refund", "resource": "tenants/acme/orders/9"}
        assert decide(**order, params={"order": "9"}).allowed
        assert "outside_purpose" == decide(**order, params={"order": "8"}).reason
        assert "outside_purpose" == decide(**order).reason
        assert "tenant_boundary" == decide(**order, tenant="globex", params={"order": "9"}).reason

    def test_a_parameter_named_tenant_is_not_the_tenant(self) -> None:
        """Whoever chooses parameters does not choose the tenant."""
        assert "tenant_boundary" == decide(tenant="globex", params={"tenant": "acme"}).reason
        assert decide(params={"tenant": "globex"}).allowed

    def test_several_templates(self) -> None:
        """One of them is enough; evidence says which."""
        contract = changed(('["tenants/{tenant}/invoices/*"]', '["shared/**", "tenants/{tenant}/invoices/*"]'))
        assert (("template", "shared/**"),) == decide(contract, resource="shared/a/b").evidence
        assert decide(contract).allowed
        assert "tenant_boundary" == decide(contract, tenant="b").reason

    def test_as_the_filled_template_says(self) -> None:
        """The decision and `ResourceTemplate` agree on what is inside."""
        filled = ResourceTemplate("tenants/{tenant}/invoices/*").fill({"tenant": "acme"})
        for resource in ("tenants/acme/invoices/7", "tenants/acme/invoices/..", "tenants/b/invoices/7", "", "a"):
            assert filled.matches(resource) == decide(resource=resource).allowed


class TestDelegates:
    def test_they_have_what_the_contract_gives(self) -> None:
        """And not what their task holds besides."""
        assert decide(agent=AUDITOR).allowed
        order = {"action": "orders:refund", "resource": "tenants/acme/orders/9", "params": {"order": "9"}}
        decision = decide(agent=AUDITOR, **order)
        assert ("missing_scope", (("delegated", False),)) == (decision.reason, decision.evidence)

    def test_the_agent_itself_by_value(self) -> None:
        """Another object of the same ID is the same agent."""
        assert decide(agent=SpiffeId.parse(AGENT)).allowed


class TestReview:
    LATE = datetime(2027, 1, 4, 10, tzinfo=UTC)

    def test_overdue_is_warned_about(self) -> None:
        """From the midnight on that ends the day, in the evidence of what is allowed."""
        contract = changed(('"Europe/Zurich"', '"UTC"'), ('"fri"', '"fri", "sat"'), ("20:00", "24:00"), ("06:00", "00:00"))
        decider = ContractDecider(contract)
        on_time = decider.decide(question(at=datetime(2027, 1, 1, 23, 59, tzinfo=UTC)), ALL)
        late = decider.decide(question(at=datetime(2027, 1, 2, tzinfo=UTC)), ALL)
        assert (True, True) == (on_time.allowed, late.allowed)
        assert (("review_overdue", "2027-01-01"),) == late.evidence[len(on_time.evidence) :]

    def test_or_refused(self) -> None:
        """As if the contract had expired; which it says where it has."""
        decider = ContractDecider(closer(), review="refuse")
        assert decider.decide(question(), ALL).allowed
        late = decider.decide(question(at=self.LATE), ALL)
        assert ("contract_expired", (("review_overdue", "2027-01-01"),)) == (late.reason, late.evidence)
        expired = decider.decide(question(at=datetime(2027, 7, 1, tzinfo=UTC)), ALL)
        assert ("contract_expired", (("expires", "2027-06-30"),)) == (expired.reason, expired.evidence)

    def test_neither_review_nor_end(self) -> None:
        """It goes on."""
        contract = changed(("review_by = 2027-01-01", ""), ("expires = 2027-06-30", ""))
        decision = ContractDecider(contract, review="refuse").decide(question(at=datetime(2099, 1, 1, 9, tzinfo=UTC)), ALL)
        assert decision.allowed

    def test_other_policies_are_a_mistake(self) -> None:
        """No word is taken for one that allows."""
        with pytest.raises(ValueError, match='"warn" or "refuse"'):
            ContractDecider(closer(), review="ignore")  # type: ignore[arg-type]


class TestWindow:
    @pytest.mark.parametrize(
        ("moment", "is_open"),
        [
            ("2026-11-30T04:59:59Z", False),  # Monday, 05:59 in Zurich
            ("2026-11-30T05:00:00Z", True),
            ("2026-11-30T18:59:59Z", True),
            ("2026-11-30T19:00:00Z", False),
            ("2026-10-23T04:00:00Z", True),  # in summer Zurich is two hours ahead
            ("2026-11-28T10:00:00Z", False),  # Saturday
        ],
    )
    def test_by_the_clocks_of_the_place(self, moment: str, is_open: bool) -> None:
        """From its first minute, before its last, also in summer."""
        assert is_open == decide(at=datetime.fromisoformat(moment)).allowed

    @pytest.mark.parametrize(
        ("moment", "is_open"),
        [
            ("2026-11-27T21:59:00Z", False),  # Friday
            ("2026-11-27T22:00:00Z", True),
            ("2026-11-28T05:59:00Z", True),  # Saturday, still Friday's
            ("2026-11-28T06:00:00Z", False),
            ("2026-11-28T22:00:00Z", False),  # no window begins on Saturday
            ("2026-11-30T01:00:00Z", False),  # nor on Sunday
        ],
    )
    def test_over_midnight(self, moment: str, is_open: bool) -> None:
        """It belongs to the day on which it begins."""
        contract = changed(("06:00", "22:00"), ("20:00", "06:00"), ("Europe/Zurich", "UTC"))
        assert is_open == decide(contract, at=datetime.fromisoformat(moment)).allowed


class TestClassification:
    @pytest.mark.parametrize("classification", ["", "public", "internal", "confidential"])
    def test_up_to_the_ceiling(self, classification: str) -> None:
        """What nobody classified is public."""
        assert decide(classification=classification).allowed

    def test_without_a_ceiling_only_what_is_public(self) -> None:
        """No default that allows."""
        assert "classification" == decide(action="summarize", resource="").reason
        assert decide(action="summarize", resource="", classification="public").allowed
