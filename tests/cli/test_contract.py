"""`spiffe-client contract` and `inventory`: what reviewers see, and what CI goes by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import on_terminal, run_command
from tests.support.contracts import CLOSER, TEXT, closer

AT = ("--at", "2026-11-30T10:00:00Z")
AGENT = "spiffe://prod.example/agent/closer"


@pytest.fixture
def unowned(tmp_path: Path) -> str:
    """The sample with something worth a second look."""
    file = tmp_path / "unowned.toml"
    file.write_text(TEXT.replace("owner =", "#"))
    return str(file)


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """The sample with a template that leads elsewhere."""
    file = tmp_path / "broken.toml"
    file.write_text(TEXT.replace("tenants/{tenant}/invoices/*", "tenants/../invoices/*"))
    return str(file)


class TestCheck:
    def test_a_good_one(self) -> None:
        """One line, also where warnings count."""
        outcome = run_command("contract", "check", "--strict", *AT, str(CLOSER))
        assert (0, f"✓ {CLOSER}: {AGENT}, 4 actions\n", "") == (outcome.code, outcome.out, outcome.err)

    def test_a_warning(self, unowned: str) -> None:
        """Is said, and is a failure only where it is to be."""
        outcome = run_command("contract", "check", *AT, unowned)
        assert 0 == outcome.code
        assert f"✓ {unowned}: {AGENT}, 4 actions\n  ! agent.owner: there is none: nobody answers for this agent\n" == outcome.out
        assert 1 == run_command("contract", "check", "--strict", *AT, unowned).code

    def test_a_mistake(self, broken: str) -> None:
        """File and key, once each; the others are looked at all the same."""
        outcome = run_command("contract", "check", *AT, broken, str(CLOSER))
        first, second, third = outcome.out.splitlines()
        assert (1, f"✗ {broken}") == (outcome.code, first)
        assert second.startswith('  ✗ actions."invoices:read".resources[0]: not a resource template:')
        assert third.startswith("✓")

    def test_expired(self) -> None:
        """Is no warning."""
        outcome = run_command("contract", "check", "--at", "2027-07-01T00:00:00Z", str(CLOSER))
        assert 1 == outcome.code
        assert "  ✗ agent.expires: it has expired on 2027-06-30" in outcome.out

    def test_of_one_action(self, tmp_path: Path) -> None:
        """It is counted as people count."""
        (tmp_path / "c.toml").write_text(TEXT.partition("[actions")[0] + "[actions.x]\n")
        assert ", 1 action\n" in run_command("contract", "check", *AT, str(tmp_path / "c.toml")).out

    def test_between_files(self, tmp_path: Path) -> None:
        """What is delegated is held against the delegate's own contract."""
        own = TEXT[: TEXT.index("[delegates")].replace("agent/closer", "agent/auditor").replace("invoices/*", "invoices/**")
        (tmp_path / "auditor.toml").write_text(own)
        outcome = run_command("contract", "check", *AT, str(CLOSER), str(tmp_path / "auditor.toml"))
        assert "own contract permits more of 'invoices:read'" in outcome.out

    def test_for_programs(self, unowned: str, broken: str) -> None:
        """One object for each file; a mistake in it is no error of the command."""
        one, other = run_command("contract", "check", "--json", *AT, unowned, broken).records
        assert (True, closer().digest != one["digest"], AGENT) == (one["ok"], True, one["id"])
        assert ["warning"] == [f["severity"] for f in one["findings"]]
        assert (False, "", "") == (other["ok"], other["id"], other["digest"])
        assert ['actions."invoices:read".resources[0]'] == [f["path"] for f in other["findings"]]

    def test_unreadable(self) -> None:
        """Is a finding about the whole file."""
        outcome = run_command("contract", "check", "nope.toml")
        assert (1, "✗ nope.toml\n  ✗ cannot be read: No such file or directory\n") == (outcome.code, outcome.out)


class TestShow:
    def test_for_people(self) -> None:
        """Who, within which bounds, what, in which order, and to whom."""
        outcome = run_command("contract", "show", *AT, str(CLOSER))
        assert 0 == outcome.code
        for shown in (
            f"{AGENT}\n  purpose       close the monthly books\n",
            "  review by     2027-01-01 (in 32 d)\n",
            "  a task        15 min, 200 calls; 8 at once\n",
            "  when          mon tue wed thu fri 06:00-20:00 Europe/Zurich\n",
            "  permits       details of type refund\n  lasts         1 min, bound to the call itself\n",
            "summarize\n  up to         public\n  token         none\n",
            "  after invoices:list → invoices:list, invoices:read\n",
            "may delegate to spiffe://prod.example/agent/auditor\n  actions       invoices:list, invoices:read\n",
        ):
            assert shown in outcome.out

    def test_what_is_missing(self, tmp_path: Path) -> None:
        """Is said, and what has passed."""
        text = TEXT[: TEXT.index("[workflow]")].replace("owner =", "#").replace("reviewed =", "#").replace("expires =", "#")
        (tmp_path / "c.toml").write_text(text.replace("delegation_depth = 2", "").replace("= 900", "= 7201"))
        outcome = run_command("contract", "show", "--at", "2027-01-02T00:00:00Z", str(tmp_path / "c.toml"))
        for shown in (
            "owner         nobody", "reviewed      never", "review by     2027-01-01 (overdue)", "expires       never",
            "a task        7201 s", "hands on      nothing", "in any order",
        ):  # fmt: skip
            assert shown in outcome.out

    def test_on_its_last_day(self) -> None:
        """It is not over yet."""
        outcome = run_command("contract", "show", "--at", "2027-06-30T01:00:00Z", str(CLOSER))
        assert "expires       2027-06-30 (today)" in outcome.out

    def test_followed_by_nothing(self, tmp_path: Path) -> None:
        """An empty list is said in words."""
        (tmp_path / "c.toml").write_text(TEXT.replace('"orders:refund" = ["summarize"]', '"orders:refund" = []'))
        assert "after orders:refund → nothing\n" in run_command("contract", "show", str(tmp_path / "c.toml")).out

    def test_for_programs(self) -> None:
        """The contract as JSON, with every default said."""
        record = run_command("contract", "show", "--json", str(CLOSER)).record
        assert {"digest": closer().digest, "contract": json.loads(json.dumps(closer().to_dict()))} == record
        assert "2027-06-30" == record["contract"]["agent"]["expires"]

    def test_a_mistake(self, broken: str) -> None:
        """There is nothing to show."""
        outcome = run_command("contract", "show", "--json", broken)
        assert (1, "contract_invalid") == (outcome.code, outcome.record["error"]["code"])

    @pytest.mark.parametrize("at", ["tomorrow", "2026-11-30", "0001-01-01T00:00:00+05:00"])
    def test_no_moment(self, at: str) -> None:
        """A time needs a zone, or nobody knows when that is."""
        outcome = run_command("contract", "show", "--at", at, str(CLOSER))
        assert (2, True) == (outcome.code, "is no moment" in outcome.err)

    def test_on_a_terminal(self) -> None:
        """In colours, and with nothing that turns the terminal around."""
        outcome = on_terminal("contract", "show", str(CLOSER)).end()
        assert 0 == outcome.code
        assert f"\x1b[36m{AGENT}\x1b[0m" in outcome.out


class TestDiff:
    @pytest.fixture
    def wider(self, tmp_path: Path) -> str:
        (tmp_path / "wider.toml").write_text(TEXT.replace("approval = true", "").replace("owner =", "#"))
        return str(tmp_path / "wider.toml")

    def test_more(self, wider: str) -> None:
        """What is more comes first, and is a failure where it is to be."""
        outcome = run_command("contract", "diff", str(CLOSER), wider)
        assert (0, "") == (outcome.code, outcome.err)
        assert outcome.out == (
            f'{AGENT}\n  it may do more\n    ~ actions."orders:refund".approval: true → false\n'
            "  also changed\n    - agent.owner: finance-platform@prod.example\n"
        )
        assert 1 == run_command("contract", "diff", "--fail-on-widening", str(CLOSER), wider).code

    def test_no_more(self, wider: str) -> None:
        """The way back."""
        outcome = run_command("contract", "diff", "--fail-on-widening", wider, str(CLOSER))
        assert 0 == outcome.code
        assert "  it may do no more than before\n    + agent.owner" in outcome.out

    def test_only_more(self, tmp_path: Path) -> None:
        """There is nothing to say besides."""
        (tmp_path / "c.toml").write_text(TEXT.replace("approval = true", ""))
        assert "also changed" not in run_command("contract", "diff", str(CLOSER), str(tmp_path / "c.toml")).out

    def test_nothing(self) -> None:
        """Says so."""
        outcome = run_command("contract", "diff", "--fail-on-widening", str(CLOSER), str(CLOSER))
        assert (0, f"{AGENT}\n  no difference\n") == (outcome.code, outcome.out)

    def test_for_programs(self, wider: str) -> None:
        """Each change, and whether the whole is more."""
        record = run_command("contract", "diff", "--json", str(CLOSER), wider).record
        assert (AGENT, True, closer().digest) == (record["id"], record["widens"], record["old_digest"])
        assert {"agent.owner": False, 'actions."orders:refund".approval': True} == {
            change["path"]: change["widens"] for change in record["changes"]
        }


class TestInventory:
    def test_for_people(self, tmp_path: Path, unowned: str, broken: str) -> None:
        """All of them; a broken one is a failure."""
        outcome = run_command("inventory", *AT, str(tmp_path))
        assert (1, "2 contracts: 1 valid, 1 broken\n") == (outcome.code, outcome.err)
        assert outcome.out.startswith('✗ broken.toml\n  error         actions."invoices:read".resources[0]: not a resource')
        assert f"{AGENT}\n  file          unowned.toml\n" in outcome.out
        assert "  owner         nobody\n" in outcome.out
        assert "  lifetimes     a task 15 min, a token 5 min\n  widest        invoices:read\n" in outcome.out

    def test_agents_that_may_do_nothing(self, tmp_path: Path) -> None:
        """Are agents, too."""
        (tmp_path / "c.toml").write_text(TEXT.partition("[actions")[0] + "[actions]\n")
        outcome = run_command("inventory", *AT, str(tmp_path))
        assert (0, "1 contract: 1 valid\n") == (outcome.code, outcome.err)
        assert "  lifetimes     a task 15 min, no tokens\n  widest        it may do nothing\n" in outcome.out

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        """Is no failure."""
        outcome = run_command("inventory", str(tmp_path))
        assert (0, "", "0 contracts\n") == (outcome.code, outcome.out, outcome.err)

    def test_for_programs(self, tmp_path: Path, unowned: str, broken: str) -> None:
        """One object each, with the same keys."""
        bad, good = run_command("inventory", "--json", *AT, str(tmp_path)).records
        assert list(bad) == list(good)
        assert ("broken", None, "valid", "2027-06-30") == (bad["state"], bad["expires"], good["state"], good["expires"])

    def test_no_folder(self) -> None:
        """Is an error."""
        outcome = run_command("inventory", "--json", str(CLOSER))
        assert (1, "contract_invalid") == (outcome.code, outcome.record["error"]["code"])
        assert outcome.record["error"]["advice"].startswith("name a folder that holds contracts")
