"""A contract says what it says, once, and what it cannot mean is refused with the key that says it."""

from __future__ import annotations

import copy
import json
import pickle
import re
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest

from spiffe_client import ContractError, SpiffeId, TrustDomain
from spiffe_client.policy import Contract, ResourceTemplate, contract_schema, load_contract
from tests.support.contracts import CLOSER, TEXT, changed, closer

DOCS = Path(__file__).parents[2] / "docs"
SMALLEST = b'[agent]\nid = "spiffe://a.test/x"\npurpose = "p"\nenvironment = "e"\ntrust_domain = "a.test"\n[actions]\n'


def refused(text: str | bytes, **how: str) -> ContractError:
    with pytest.raises(ContractError) as e:
        Contract.parse(text if isinstance(text, bytes) else text.encode(), name="c.toml", **how)  # type: ignore[arg-type]
    assert str(e.value).startswith(f"c.toml: {e.value.path}: " if e.value.path else "c.toml: ")
    return e.value


class TestReading:
    def test_the_sample(self) -> None:
        """Every part, as values."""
        contract = closer()
        assert SpiffeId.parse("spiffe://prod.example/agent/closer") == contract.agent.id
        assert TrustDomain("prod.example") == contract.agent.trust_domain
        assert (date(2027, 6, 30), 900) == (contract.agent.expires, contract.limits.task_seconds)
        assert ["invoices:list", "invoices:read", "orders:refund", "summarize"] == list(contract.actions)
        read = contract.actions["invoices:read"]
        assert SpiffeId.parse("spiffe://prod.example/billing") == read.peer
        assert read.window is not None
        assert ("06:00", "20:00", "Europe/Zurich") == (read.window.start, read.window.until, read.window.zone)
        assert (True, False) == (read.needs_token, contract.actions["summarize"].needs_token)
        assert ("invoices:list", "invoices:read") == contract.delegates["spiffe://prod.example/agent/auditor"].actions

    def test_the_smallest(self) -> None:
        """What is not said gives nothing: bounds, and no rights."""
        contract = Contract.parse(SMALLEST)
        assert ({}, {}, None) == (dict(contract.actions), dict(contract.delegates), contract.workflow)
        assert (900, 200, 60, 0, 8) == msgspec.structs.astuple(contract.limits)
        assert (None, None) == (contract.agent.expired_at, contract.agent.overdue_at)

    def test_json_is_the_same(self, tmp_path: Path) -> None:
        """By its digest too, with every default said and keys in another order."""
        file = tmp_path / "c.json"
        file.write_text(json.dumps(closer().to_dict(), sort_keys=True))
        assert closer() == load_contract(file)
        assert closer().digest == load_contract(file).digest
        assert Contract.parse(SMALLEST) == Contract.parse(json.dumps(Contract.parse(SMALLEST).to_dict()).encode(), "json")

    def test_digest(self) -> None:
        """SHA-256 in hex, which changes with what is said and with nothing else."""
        assert 64 == len(closer().digest)
        assert closer().digest == Contract.parse(b"# a comment\n" + TEXT.encode()).digest
        assert closer().digest != changed(("calls_per_task = 200", "calls_per_task = 201")).digest

    def test_it_is_a_value(self) -> None:
        """Hashable, picklable, and nothing in it can be written to."""
        contract = closer()
        assert 1 == len({contract, closer(), pickle.loads(pickle.dumps(contract)), copy.deepcopy(contract)})
        for table in (contract.actions, contract.delegates, contract.workflow.follows):  # type: ignore[union-attr]
            with pytest.raises(TypeError):
                table["x"] = None  # type: ignore[index]
        with pytest.raises(AttributeError):
            contract.actions["summarize"].approval = True  # type: ignore[misc]

    def test_days_end_with_their_midnight(self) -> None:
        """In UTC; the calendar's last day has no next one."""
        assert datetime(2027, 7, 1, tzinfo=UTC) == closer().agent.expired_at
        assert datetime(2027, 1, 2, tzinfo=UTC) == closer().agent.overdue_at
        assert 9999 == changed(("2027-06-30", "9999-12-31")).agent.expired_at.year  # type: ignore[union-attr]

    def test_workflow(self) -> None:
        """What may follow what; without one, anything."""
        may = closer().may_follow
        assert (True, False) == (may("invoices:list", None), may("orders:refund", None))
        assert (True, False) == (may("orders:refund", "invoices:read"), may("orders:refund", "invoices:list"))
        assert not may("summarize", "summarize")  # it is followed by nothing
        assert Contract.parse(SMALLEST).may_follow("x", None)


class TestFiles:
    @pytest.mark.parametrize("name", ["c.yaml", "c", "c.TOML", "toml"])
    def test_other_names(self, tmp_path: Path, name: str) -> None:
        """What a file is called says what it is."""
        with pytest.raises(ContractError, match=r"a \.toml or a \.json file"):
            load_contract(tmp_path / name)

    def test_a_folder(self, tmp_path: Path) -> None:
        """It says what to name instead."""
        with pytest.raises(ContractError, match="this is a folder: name the files in it"):
            load_contract(tmp_path)

    def test_unreadable(self, tmp_path: Path) -> None:
        """File and reason are in the message."""
        (tmp_path / "folder.toml").mkdir()
        for name, why in (("nope.toml", "No such file"), ("folder.toml", "directory"), ("a\0.toml", "null byte")):
            with pytest.raises(ContractError, match=why) as e:
                load_contract(str(tmp_path / name))
            assert "cannot be read" in str(e.value)

    def test_too_large(self, tmp_path: Path) -> None:
        """It is not parsed."""
        (tmp_path / "c.toml").write_bytes(SMALLEST + b"#" * (1 << 20))
        with pytest.raises(ContractError, match="larger than 1048576 bytes"):
            load_contract(tmp_path / "c.toml")

    @pytest.mark.parametrize("text", [b"[agent", b"a = 1\na = 2", b"\xff", b"a = " + b"[" * 5000], ids=range(4))
    def test_not_toml(self, text: bytes) -> None:
        """The parser's line and column are in the message."""
        assert "not TOML" in str(refused(text))

    @pytest.mark.parametrize("text", [b"", b"[]", b'{"agent": {}, "agent": {}}', b"{'a': 1}", b"{" * 9999], ids=range(5))
    def test_not_json(self, text: bytes) -> None:
        """Neither is what has two meanings."""
        assert "not a JSON object" in str(refused(text, format="json"))

    def test_other_formats(self) -> None:
        """There are two."""
        assert "TOML or JSON, not 'yaml'" in str(refused(b"", format="yaml"))


#: What is replaced in the sample by what, the key that is at fault, and a word of the message.
MISTAKES = {
    "unknown table": ("[limits]", "[limitz]", "limitz", "there are agent, limits"),
    "unknown key": ("owner =", "ovner =", "agent.ovner", "there are id, trust_domain"),
    "unknown key of an action": ("peer =", '"pe er" =', 'actions."invoices:read"."pe er"', "there are audience"),
    "unknown key of a window": ("from =", "form =", 'actions."invoices:read".window.form', "there are days, from"),
    "unknown key of a workflow": ("start = [", "begin = 1\nstart = [", "workflow.begin", "there are start"),
    "missing": ("purpose =", "# ", "agent.purpose", "missing"),
    "missing start": ('start = ["invoices:list", "invoices:read"]', "", "workflow.start", "missing"),
    "type": ("task_seconds = 900", 'task_seconds = "900"', "limits.task_seconds", "expected int"),
    "bool is no number": ("task_seconds = 900", "task_seconds = true", "limits.task_seconds", "got bool"),
    "negative": ("calls_per_task = 200", "calls_per_task = -1", "limits.calls_per_task", ">= 1"),
    "zero": ("parallel_tasks = 8", "parallel_tasks = 0", "limits.parallel_tasks", ">= 1"),
    "too deep": ("delegation_depth = 2", "delegation_depth = 33", "limits.delegation_depth", "<= 32"),
    "a moment for a day": ("expires = 2027-06-30", "expires = 2027-06-30T00:00:00Z", "agent.expires", "datetime"),
    "no table": ("[workflow]", "actions.x = 3\n[workflow]", 'actions.summarize.actions', "no such key"),
    "no action": ("[actions.summarize] ", "[actions]\nsummarize = 3\n#", "actions.summarize", "expected object"),
    "id": ("/agent/closer", "/agent/../closer", "agent.id", "'..' segment"),
    "id of a trust domain": ("prod.example/agent/closer", "prod.example", "agent.id", "has a path"),
    "trust domain": ('trust_domain = "prod', 'trust_domain = "pröd', "agent.trust_domain", "may not hold"),
    "another trust domain": ('trust_domain = "prod', 'trust_domain = "stage', "agent.id", "not in the trust domain"),
    "empty environment": ('environment = "prod"', 'environment = ""', "agent.environment", "length >= 1"),
    "two lines": ('"close the', '"close\\nthe', "agent.purpose", "one line"),
    "padded": ('"finance', '" finance', "agent.owner", "without spaces"),
    "order of dates": ("review_by = 2027-01-01", "review_by = 2026-09-30", "agent.review_by", "before agent.reviewed"),
    "expires first": ("2027-06-30", "2026-12-31", "agent.expires", "before agent.review_by"),
    "name of an action": ("actions.summarize", 'actions."sum up"', 'actions."sum up"', "one word"),
    "no audience": ('audience = ["https://billing.prod.example"]\nscopes = ["invoices:list"]', 'scopes = ["a"]',
                    'actions."invoices:list".scopes', "for whom"),
    "no scope": ('scopes = ["invoices:list"]', "", 'actions."invoices:list".scopes', "permits nothing"),
    "empty scopes": ('scopes = ["invoices:list"]', "scopes = []", 'actions."invoices:list".scopes', "permits nothing"),
    "details without audience": ("resource_uris = [", "# [", 'actions."orders:refund".authorization_details', "for whom"),
    "scope": ('scopes = ["invoices:list"]', 'scopes = ["a", "b c"]', 'actions."invoices:list".scopes[1]', "RFC 6749"),
    "scope twice": ('scopes = ["invoices:list"]', 'scopes = ["a", "a"]', 'actions."invoices:list".scopes[1]', "twice"),
    "audience": ('["https://billing.prod.example"]\nscopes = ["invoices:list"]', '["a b"]\nscopes = ["a"]',
                 'actions."invoices:list".audience[0]', "without spaces"),
    "no text": ('scopes = ["invoices:list"]', "scopes = [3]", 'actions."invoices:list".scopes[0]', "expected str"),
    "resource uri": ("https://orders.prod.example/v1", "/v1", 'actions."orders:refund".resource_uris[0]', "absolute"),
    "fragment": ("prod.example/v1", "prod.example/v1#x", 'actions."orders:refund".resource_uris[0]', "absolute"),
    "details without type": ('type = "refund"', "a = 1", 'actions."orders:refund".authorization_details[0]', "`type`"),
    "details that are no JSON": ('currency = "CHF"', "d = 2026-01-01", 'actions."orders:refund".authorization_details[0]', "JSON"),
    "template": ("{order}", "../{order}", 'actions."orders:refund".resources[0]', "segment 4"),
    "template twice": ('["tenants/{tenant}/invoices"]', '["a", "a"]', 'actions."invoices:list".resources[1]', "twice"),
    "zone": ("Europe/Zurich", "Mars/Olympus", 'actions."invoices:read".window.zone', "IANA"),
    "path as zone": ("Europe/Zurich", "../../etc/passwd", 'actions."invoices:read".window.zone', "IANA"),
    "day": ('"fri"', '"freitag"', 'actions."invoices:read".window.days[4]', "freitag"),
    "day twice": ('"fri"', '"mon"', 'actions."invoices:read".window.days[4]', "twice"),
    "no days": ('["mon", "tue", "wed", "thu", "fri"]', "[]", 'actions."invoices:read".window.days', "length >= 1"),
    "clock": ('from = "06:00"', 'from = "6:00"', 'actions."invoices:read".window.from', "matching regex"),
    "clock and more": ('from = "06:00"', 'from = "06:00\\n"', 'actions."invoices:read".window.from', "HH:MM"),
    "begins at the end": ('from = "06:00"', 'from = "24:00"', 'actions."invoices:read".window.from', "before 24:00"),
    "never open": ('from = "06:00"', 'from = "20:00"', 'actions."invoices:read".window.until', "never be open"),
    "classification": ('= "internal"', '= "secret"', 'actions."invoices:list".classification', "secret"),
    "peer": ("example/billing", "example/bil ling", 'actions."invoices:read".peer', "may not hold"),
    "peer is a trust domain": ("example/billing", "example", 'actions."invoices:read".peer', "has a path"),
    "start": ('start = ["invoices:list"', 'start = ["nope"', "workflow.start[0]", "no action 'nope'"),
    "empty start": ('start = ["invoices:list", "invoices:read"]', "start = []", "workflow.start", "length >= 1"),
    "follows": ('["summarize"]', '["nope"]', 'workflow.follows."orders:refund"[0]', "no action 'nope'"),
    "follows what": ('"orders:refund" = ["summarize"]', 'nope = ["summarize"]', "workflow.follows.nope", "no such action"),
    "follows no list": ('["summarize"]', "3", 'workflow.follows."orders:refund"', "expected array"),
    "delegate": ("example/agent/auditor", "example/agent/../x", 'delegates."spiffe://prod.example/agent/../x"', "'..'"),
    "delegate in capitals": ('delegates."spiffe://prod', 'delegates."spiffe://Prod', 'delegates."spiffe://Prod.example/agent/auditor"', "canonical"),
    "delegate without path": ("example/agent/auditor", "example", 'delegates."spiffe://prod.example"', "canonical"),
    "itself": ("agent/auditor", "agent/closer", 'delegates."spiffe://prod.example/agent/closer"', "to itself"),
    "delegated": ('actions = ["invoices:list"', 'actions = ["nope"', 'delegates."spiffe://prod.example/agent/auditor".actions[0]', "no action"),
    "nothing delegated": ('actions = ["invoices:list", "invoices:read"]', "actions = []",
                          'delegates."spiffe://prod.example/agent/auditor".actions', "length >= 1"),
}  # fmt: skip


class TestMistakes:
    @pytest.mark.parametrize(("old", "new", "path", "why"), MISTAKES.values(), ids=MISTAKES)
    def test_located(self, old: str, new: str, path: str, why: str) -> None:
        """Each mistake is refused, and the error names the file, the key and what is wrong."""
        assert old in TEXT
        error = refused(TEXT.replace(old, new, 1))
        assert path == error.path
        assert why in str(error)

    def test_missing_tables(self) -> None:
        """An agent without a name, and one without any word about actions."""
        assert "agent" == refused(b"[actions]").path
        assert "actions" == refused(SMALLEST.replace(b"[actions]", b"")).path

    @pytest.mark.parametrize("table", ["actions", "delegates", "workflow"])
    def test_tables_that_are_none(self, table: str) -> None:
        """A list in their place, for example."""
        document = {**closer().to_dict(), table: [1]}
        assert (table, "a table is expected") == (
            (error := refused(json.dumps(document).encode(), format="json")).path, str(error).rpartition(": ")[2]
        )  # fmt: skip

    def test_what_code_makes_is_checked_too(self) -> None:
        """The parts fit together, or there is no contract."""
        with pytest.raises(ContractError) as e:
            msgspec.structs.replace(closer(), actions={})
        assert "workflow.start[0]" == e.value.path


class TestSchema:
    def test_the_published_one(self) -> None:
        """docs/contract.schema.json is what `contract_schema` returns."""
        assert contract_schema() == json.loads((DOCS / "contract.schema.json").read_text())

    def test_it_knows_every_key(self) -> None:
        """The page about contracts, too; and no other keys are permitted anywhere."""
        schema = contract_schema()
        page = (DOCS / "contracts.md").read_text()
        for part in (schema, *schema["$defs"].values()):
            assert part["additionalProperties"] is False
            assert [] == [name for name in part["properties"] if not re.search(rf"`{name}`|[\[.]{name}[\].]", page)]

    def test_the_sample_on_the_page(self) -> None:
        """It is the file, but for what it leaves out."""
        page = (DOCS / "contracts.md").read_text()
        shown = page.partition("```toml\n")[2].partition("```")[0]
        assert [] == [line for line in shown.splitlines() if line and line not in CLOSER.read_text()]
        assert ResourceTemplate("tenants/{tenant}/invoices/*").text in shown
