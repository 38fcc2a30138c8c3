"""What reviewers are told: what is worth a second look, what a change adds, which agents there are."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from spiffe_client import ContractError
from spiffe_client.policy import Change, Contract, Finding, InventoryRow, diff, inventory, lint, lint_delegations
from tests.support.contracts import MONDAY, TEXT, changed, closer

READ = 'actions."invoices:read"'
REFUND = 'actions."orders:refund"'
AUDITOR = 'delegates."spiffe://prod.example/agent/auditor"'


def found(contract: Contract, at: datetime = MONDAY) -> dict[str, str]:
    """What lint says, by path; each of these has to be a finding of its own."""
    findings = lint(contract, at=at)
    assert len(findings) == len({f.path for f in findings})
    return {f.path: f"{f.severity}: {f.message}" for f in findings}


class TestLint:
    def test_the_sample_is_clean(self) -> None:
        """It is what others begin with."""
        assert [] == lint(closer(), at=MONDAY)

    @pytest.mark.parametrize(
        ("old", "new", "path", "why"),
        [
            ("owner =", "#", "agent.owner", "nobody answers"),
            ("reviewed = 2026-10-01", "reviewed = 2026-12-01", "agent.reviewed", "in the future"),
            ("review_by =", "#", "agent.review_by", "there is none"),
            ("review_by = 2027-01-01", "review_by = 2026-11-29", "agent.review_by", "overdue since 2026-11-29"),
            ("expires =", "#", "agent.expires", "for ever"),
            ("expires = 2027-06-30", "expires = 2028-06-30", "agent.expires", "more than 400 days"),
            ("delegation_depth = 2", "", "limits.delegation_depth", "it is 0"),
            ("invoices/*", "invoices/*\", \"*/*/*", f"{READ}.resources[1]", "is in every tenant's"),
            ("invoices/*", "invoices/*\", \"tenants/*/x", f"{READ}.resources[1]", "every tenant's"),
            ("invoices/*", "invoices/*\", \"tenants/{tenant}/invoices/x", f"{READ}.resources[1]", "adds nothing"),
            ("tenants/{tenant}/invoices/*", "*/{tenant}/x", f"{READ}.resources[0]", "begins with a wildcard"),
            ("token_seconds = 300", "token_seconds = 901", f"{READ}.token_seconds", "901 s outlive the task"),
            ("[actions.summarize]", "[actions.summarize]\nsensitive = true\n#", "actions.summarize.sensitive", "no token"),
            ('"orders:refund", "summarize"]', '"summarize"]', REFUND, "never leads to it"),
            ("[delegates.\"spiffe://prod.", "[delegates.\"spiffe://other.", 'delegates."spiffe://other.example/agent/auditor"', "another trust domain"),
            ('actions = ["invoices:list", "invoices:read"]', 'actions = ["orders:refund"]', f"{AUDITOR}.actions[0]", "never leads to 'orders:refund'"),
        ],
        ids=range(16),
    )  # fmt: skip
    def test_worth_a_second_look(self, old: str, new: str, path: str, why: str) -> None:
        """Each is a warning with its key, and says why it matters."""
        messages = [f.message for f in lint(changed((old, new)), at=MONDAY) if f.path == path]
        assert [] != [m for m in messages if why in m]
        assert {"warning"} == {f.severity for f in lint(changed((old, new)), at=MONDAY)}

    def test_an_expired_contract_is_wrong(self) -> None:
        """From the midnight on that ends its last day."""
        assert "agent.expires" not in found(closer(), datetime(2027, 6, 30, 23, 59, tzinfo=UTC))
        at = datetime(2027, 7, 1, tzinfo=UTC)
        assert found(closer(), at)["agent.expires"].startswith("error: it has expired on 2027-06-30")

    def test_one_that_permits_nothing(self) -> None:
        """And what may be handed on, to nobody."""
        text = TEXT.partition("[actions")[0] + "[actions]\n"
        assert {"actions", "limits.delegation_depth"} == set(found(Contract.parse(text.encode())))

    @pytest.mark.parametrize("template", ["**", "*", "*/**"])
    def test_everything(self, template: str) -> None:
        """A template of wildcards alone says so, also where nobody has tenants."""
        text = TEXT.partition("[actions")[0] + f'[actions.a]\nresources = ["{template}"]\n'
        assert "neither a name nor a parameter" in found(Contract.parse(text.encode()))["actions.a.resources[0]"]

    def test_without_a_workflow_everything_is_reachable(self) -> None:
        """Nothing is said about an order that there is not."""
        text = TEXT.replace(TEXT[TEXT.index("[workflow]") : TEXT.index("[delegates")], "")
        assert {} == found(Contract.parse(text.encode()))


class TestBetweenContracts:
    def auditor(self, *pairs: tuple[str, str]) -> Contract:
        own = TEXT[: TEXT.index('[delegates')].replace("agent/closer", "agent/auditor").replace("delegation_depth = 2", "")
        for old, new in pairs:
            assert old in own
            own = own.replace(old, new)
        return Contract.parse(own.encode())

    def said(self, auditor: Contract) -> list[Finding]:
        said = lint_delegations({"a.toml": closer(), "b.toml": auditor})
        assert [] == said["b.toml"]
        return said["a.toml"]

    def test_they_fit(self) -> None:
        """The delegate's own contract permits what it is given and no more of it."""
        assert [] == self.said(self.auditor())
        assert {"a": []} == lint_delegations({"a": closer()})  # nothing is known of the delegate

    def test_a_delegate_without_the_action(self) -> None:
        """What it is given it cannot do."""
        auditor = self.auditor(("invoices:list", "invoices:all"))
        (finding,) = self.said(auditor)
        assert (f"{AUDITOR}.actions[0]", "warning") == (finding.path, finding.severity)
        assert "has no action 'invoices:list'" in finding.message

    def test_an_action_wider_than_its_delegation(self) -> None:
        """Somebody may think that the delegation bounds it."""
        (finding,) = self.said(self.auditor(("invoices/*", "invoices/**")))
        assert f"{AUDITOR}.actions[1]" == finding.path
        assert "permits more of 'invoices:read': resources: tenants/{tenant}/invoices/**" in finding.message


def changes(*pairs: tuple[str, str]) -> list[Change]:
    return diff(closer(), changed(*pairs))


#: What becomes of the sample, and whether that is more; the other way round it is what is said behind it.
STEPS = {
    "purpose": ("the monthly", "all", "agent.purpose", "changes", False, False),
    "owner": ('owner = "finance-platform@prod.example"', "", "agent.owner", "removes", False, False),
    "review": ("review_by = 2027-01-01", "review_by = 2027-02-01", "agent.review_by", "changes", False, False),
    "environment": ('environment = "prod"', 'environment = "dev"', "agent.environment", "changes", True, True),
    "id": ("agent/closer", "agent/opener", "agent.id", "changes", True, True),
    "later": ("expires = 2027-06-30", "expires = 2027-07-30", "agent.expires", "changes", True, False),
    "no end": ("expires = 2027-06-30", "", "agent.expires", "removes", True, False),
    "limit": ("calls_per_task = 200", "calls_per_task = 201", "limits.calls_per_task", "changes", True, False),
    "depth": ("delegation_depth = 2", "delegation_depth = 3", "limits.delegation_depth", "changes", True, False),
    "scope": ('scopes = ["invoices:read"]', 'scopes = ["invoices:read", "x"]', f"{READ}.scopes", "adds", True, False),
    "audience": ('prod.example"]\nscopes = ["invoices:read"]', 'prod.example", "x"]\nscopes = ["invoices:read"]', f"{READ}.audience", "adds", True, False),
    "details": ('{ type = "refund", currency = "CHF" }', '{ type = "refund", currency = "CHF" }, { type = "x" }', f"{REFUND}.authorization_details", "adds", True, False),
    "narrower template": ("invoices/*\"]", "invoices/*\", \"tenants/{tenant}/invoices/7\"]", f"{READ}.resources", "adds", False, False),
    "another template": ("invoices/*\"]", "invoices/*\", \"shared\"]", f"{READ}.resources", "adds", True, False),
    "longer window": ("06:00", "05:00", f"{READ}.window", "changes", True, False),
    "another place": ("Europe/Zurich", "Europe/Berlin", f"{READ}.window", "changes", True, True),
    "ceiling": ('"internal"', '"confidential"', 'actions."invoices:list".classification', "changes", True, False),
    "approval": ("approval = true", "approval = false", f"{REFUND}.approval", "changes", True, False),
    "sensitive": ("sensitive = true", "sensitive = false", f"{REFUND}.sensitive", "changes", True, False),
    "token": ("token_seconds = 300", "token_seconds = 301", f"{READ}.token_seconds", "changes", True, False),
    "peer": ('peer = "spiffe://prod.example/billing"', "", f"{READ}.peer", "removes", True, False),
    "another peer": ("example/billing", "example/other", f"{READ}.peer", "changes", True, True),
    "action": ("[workflow]", "[actions.x]\nresources = [\"a\"]\n[workflow]", "actions.x", "adds", True, False),
    "local action": ("[workflow]", "[actions.x]\n[workflow]", "actions.x", "adds", True, False),
    "start": ('start = ["invoices:list", "', 'start = ["summarize", "invoices:list", "', "workflow.start", "adds", True, False),
    "follows": ('"orders:refund" = ["summarize"]', '"orders:refund" = ["summarize", "invoices:list"]', 'workflow.follows."orders:refund"', "adds", True, False),
    "delegate": ('[delegates', '[delegates."spiffe://prod.example/x"]\nactions = ["summarize"]\n[delegates', 'delegates."spiffe://prod.example/x"', "adds", True, False),
    "delegated": ('actions = ["invoices:list"', 'actions = ["summarize", "invoices:list"', f"{AUDITOR}.actions", "adds", True, False),
}  # fmt: skip


class TestDiff:
    def test_nothing(self) -> None:
        """A comment changes nothing."""
        assert [] == changes(("# The contract", "# This contract"))

    @pytest.mark.parametrize(("old", "new", "path", "kind", "widens", "back"), STEPS.values(), ids=STEPS)
    def test_one_step(self, old: str, new: str, path: str, kind: str, widens: bool, back: bool) -> None:
        """One change is said once, by its key, and whether it is more; so is the way back."""
        other = changed((old, new))
        (forth,) = diff(closer(), other)
        assert (path, kind, widens) == (forth.path, forth.kind, forth.widens)
        (again,) = diff(other, closer())
        opposite = {"adds": "removes", "removes": "adds", "changes": "changes"}
        assert (path, opposite[kind], back) == (again.path, again.kind, again.widens)

    def test_a_wider_template(self) -> None:
        """The narrower one goes without loss, the wider one comes."""
        gone, come = changes(("invoices/*", "invoices/**"))
        assert ("removes", False, "adds", True) == (gone.kind, gone.widens, come.kind, come.widens)
        assert gone.message.endswith("which is within tenants/{tenant}/invoices/**")
        (gone, come) = diff(changed(("invoices/*", "invoices/**")), closer())
        assert (False, False) == (gone.widens, come.widens)

    def test_calls_that_name_nothing(self) -> None:
        """They were refused before, so it is more."""
        other = changed(('resources = ["tenants/{tenant}/invoices/*"]\n', ""))
        assert {"changes": True, "removes": False} == {c.kind: c.widens for c in diff(closer(), other)}

    def test_windows_come_and_go(self) -> None:
        """Without one it is always open."""
        window = "window = " + TEXT.partition("window = ")[2].partition("\n")[0] + "\n"
        other = changed((window, ""))
        (gone,), (come,) = diff(closer(), other), diff(other, closer())
        assert ("removes", True, "adds", False) == (gone.kind, gone.widens, come.kind, come.widens)

    def test_orders_come_and_go(self) -> None:
        """Without one any is permitted."""
        other = changed((TEXT[TEXT.index("[workflow]") : TEXT.index("[delegates")], ""))
        (gone,), (come,) = diff(closer(), other), diff(other, closer())
        assert ("removes", True, "adds", False) == (gone.kind, gone.widens, come.kind, come.widens)
        assert [] == diff(other, other)


class TestInventory:
    def test_rows(self, tmp_path: Path) -> None:
        """One for each file, in their order, also of folders below; broken ones say why, hidden ones are not looked at."""
        (tmp_path / "below").mkdir()
        (tmp_path / ".git").mkdir()
        (tmp_path / "a.toml").write_text(TEXT)
        (tmp_path / "below" / "b.toml").write_text(TEXT.replace("owner =", "ovner ="))
        (tmp_path / ".git" / "c.toml").write_text(TEXT)
        (tmp_path / "notes.md").write_text("no contract")
        (tmp_path / "folder.toml").mkdir()
        row, broken = inventory(tmp_path, at=MONDAY)
        assert row == InventoryRow(
            file="a.toml", state="valid", id="spiffe://prod.example/agent/closer", owner="finance-platform@prod.example",
            purpose="close the monthly books", environment="prod", reviewed=date(2026, 10, 1), review_by=date(2027, 1, 1),
            expires=date(2027, 6, 30), task_seconds=900, token_seconds=300, widest="invoices:read", digest=closer().digest,
        )  # fmt: skip
        assert (str(Path("below", "b.toml")), "broken", "") == (broken.file, broken.state, broken.id)
        assert broken.error.startswith("agent.ovner: there is no such key")
        assert (None, None) == (broken.overdue_at, broken.expired_at)

    @pytest.mark.parametrize(("at", "state"), [("2027-01-01", "valid"), ("2027-01-02", "overdue"), ("2027-07-01", "expired")])
    def test_states(self, tmp_path: Path, at: str, state: str) -> None:
        """As of when it is asked."""
        (tmp_path / "a.toml").write_text(TEXT)
        (row,) = inventory(tmp_path, at=datetime.fromisoformat(at).replace(tzinfo=UTC))
        assert state == row.state
        assert (closer().agent.overdue_at, closer().agent.expired_at) == (row.overdue_at, row.expired_at)

    def test_no_folder(self, tmp_path: Path) -> None:
        """It says what it is not, or why it cannot be read."""
        for name, why in (("nope", "not a folder"), ("a\0b", "not a folder|null")):
            with pytest.raises(ContractError, match=why):
                inventory(tmp_path / name, at=MONDAY)

    def test_a_folder_that_cannot_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The system's reason is said."""

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "rglob", refuse)
        with pytest.raises(ContractError, match="cannot be read: .*Permission denied"):
            inventory(tmp_path, at=MONDAY)

    @pytest.mark.parametrize(
        ("wide", "narrow"),
        [
            ('resources = ["a/**"]', 'resources = ["a/*/*"]'),
            ('resources = ["a/*/*"]', 'resources = ["a/*/b"]'),
            ('resources = ["*"]', 'resources = ["a/*"]'),
            ('resources = ["a"]', ""),
            ('classification = "restricted"', 'classification = "internal"'),
            ("", "approval = true"),
            ('audience = ["a"]\nscopes = ["a"]\ntoken_seconds = 1', "token_seconds = 900"),
        ],
        ids=range(7),
    )
    def test_the_widest_action(self, tmp_path: Path, wide: str, narrow: str) -> None:
        """Wherever it stands."""
        head = TEXT.partition("[actions")[0]
        (tmp_path / "a.toml").write_text(f"{head}[actions.wide]\n{wide}\n[actions.narrow]\n{narrow}\n")
        (tmp_path / "b.toml").write_text(f"{head}[actions.narrow]\n{narrow}\n[actions.wide]\n{wide}\n")
        (tmp_path / "c.toml").write_text(f"{head}[actions]\n")
        assert ["wide", "wide", ""] == [row.widest for row in inventory(tmp_path, at=MONDAY)]
