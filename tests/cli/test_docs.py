"""docs/cli.md promises keys and exit codes: these are they."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spiffe_client.cli import _demo
from spiffe_client.dev import CertificateAuthority, DevTokenBroker, DevTrustDomain
from tests.support.audit_trails import write_trail
from tests.support.command import press_ctrl_c, run_command

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def promised() -> dict[str, set[str]]:
    """The keys in the tables of the page, by the name above each."""
    tables = re.findall(r"<!-- keys: (\w+) -->\n\n\| key \| \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE)
    return {
        name: {key for row in rows.splitlines() for key in re.findall(r"`([^`]+)`", row.split("|")[1])}
        for name, rows in tables
    }


PROMISED = promised()


def paths(value: Any, promises: set[str], path: str = "") -> Iterator[str]:
    """The keys of a record, down to where the page goes."""
    if path in promises:
        yield path
    elif isinstance(value, dict):
        for key, inside in value.items():
            yield from paths(inside, promises, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inside in value:
            yield from paths(inside, promises, f"{path}[]")
        if f"{path}[]" in promises:
            yield f"{path}[]"
    else:
        yield path


def check(name: str, record: dict[str, Any]) -> None:
    assert PROMISED[name] == set(paths(record, PROMISED[name]))


def links() -> Iterator[tuple[str, str]]:
    """Every relative link in README and docs, and from which page."""
    root = Path(__file__).parents[2]
    for page in [*root.glob("*.md"), *(root / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if not re.match(r"[a-z]+:|#", target):
                yield str(page.relative_to(root)), target.partition("#")[0]


class TestLinks:
    def test_relative_links_lead_somewhere(self) -> None:
        """From where their page is."""
        root = Path(__file__).parents[2]
        found = set(links())
        assert ("README.md", "CONTRIBUTING.md") in found
        assert [] == sorted((p, t) for p, t in found if not (root / p).parent.joinpath(t).exists())


class TestKeys:
    def test_every_table_is_looked_at(self) -> None:
        """The names of the tables; a new one wants a test here."""
        expected = (
            "error x509 event jwt bundles verify token introspect revoke step doctor "
            "contract_check contract_show contract_diff inventory audit_verify audit_show audit_report dev rotated demo"
        )
        assert expected.split() == list(PROMISED)

    def test_x509(self, domain: DevTrustDomain) -> None:
        """With the key, which is promised only on request."""
        check("x509", run_command("x509", "--json", "--show-key", "--socket", domain.endpoint).record)

    def test_event(self) -> None:
        """Of a watch."""
        words = ["x509", "--watch", "--json", "--timeout", "0.05", "--socket", "unix:///nowhere/a.sock"]
        event, error = run_command(*words).records
        check("event", event)
        check("error", error)

    def test_jwt(self, domain: DevTrustDomain) -> None:
        """With the token, which is promised only on request."""
        check("jwt", run_command("jwt", "a", "--json", "--show-token", "--socket", domain.endpoint).record)

    def test_bundles(self, domain: DevTrustDomain) -> None:
        """Both kinds."""
        check("bundles", run_command("bundles", "--json", "--socket", domain.endpoint).record)

    def test_verify(self, tmp_path: Path) -> None:
        """A chain; a token has the same keys."""
        ca = CertificateAuthority("dev.example")
        (tmp_path / "chain").write_bytes(ca.issue_x509_svid("spiffe://dev.example/x").chain_pem())
        (tmp_path / "bundle").write_bytes(ca.x509_bundle.to_pem())
        words = ["verify", str(tmp_path / "chain"), "--bundle", f"dev.example={tmp_path / 'bundle'}"]
        check("verify", run_command(*words, "--json").record)

    def test_tokens(self, domain: DevTrustDomain, broker: DevTokenBroker) -> None:
        """Of all three commands; with the token, which is promised only on request."""
        here = ["--token-broker", broker.issuer, "--socket", domain.endpoint, "--json"]
        details = '[{"type":"payment"}]'
        words = ["token", "orders:read", "--details", details, "--binding", "none", "--show-token"]
        record = run_command(*words, *here).record
        check("token", record)
        token = record["token"].encode()
        check("introspect", run_command("introspect", *here, stdin=token).record)
        check("revoke", run_command("revoke", *here, stdin=token).record)

    def test_doctor_at_a_token_broker(self, domain: DevTrustDomain, broker: DevTokenBroker) -> None:
        """Each step is on the page."""
        words = ["doctor", "orders:read", "--token-broker", broker.issuer, "--socket", domain.endpoint, "--json"]
        for step in run_command(*words).records[:-1]:
            check("step", step)
            assert f"| `{step['step']}` |" in PAGE

    def test_doctor(self, domain: DevTrustDomain) -> None:
        """Each step, and the last object."""
        *steps, summary = run_command("doctor", "--json", "--socket", domain.endpoint).records
        for step in steps:
            check("step", step)
            assert f"| `{step['step']}` |" in PAGE
        assert PROMISED["doctor"] == set(summary)

    def test_audit(self, tmp_path: Path) -> None:
        """Of a good trail, and what is said of a changed one."""
        trail = str(tmp_path / "audit.jsonl")
        write_trail(Path(trail), 2)
        record = run_command("audit", "verify", trail, "--json").record
        check("audit_verify", record)
        check("audit_show", run_command("audit", "show", trail, "--json").record)
        check("audit_report", run_command("audit", "report", trail, "-o", str(tmp_path / "r"), "--json").record)
        Path(trail).write_bytes(Path(trail).read_bytes()[50:])
        assert ["code", "line", "message"] == list(run_command("audit", "verify", trail, "--json").record["refused"])
        assert list(record) == ["file", "ok", "refused", "report"]

    def test_contracts(self, tmp_path: Path) -> None:
        """Of all that is said about contracts."""
        old, new = str(Path(__file__).parents[2] / "docs" / "closer.toml"), str(tmp_path / "new.toml")
        Path(new).write_text(Path(old).read_text().replace("owner =", "#"))
        check("contract_check", run_command("contract", "check", "--json", new).record)
        check("contract_show", run_command("contract", "show", "--json", new).record)
        check("contract_diff", run_command("contract", "diff", "--json", old, new).record)
        check("inventory", run_command("inventory", "--json", str(tmp_path)).record)

    def test_dev(self) -> None:
        """The first object, and one for each rotation."""
        seen: list[str] = []

        def react(line: str) -> None:
            seen.append(line)
            if len(seen) == 2:
                press_ctrl_c()

        run_command("dev", "--token-broker", "--rotate-every", "0.01", "--json", react=react)
        check("dev", json.loads(seen[0]))
        check("rotated", json.loads(seen[1]))

    def test_demo(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The last object; the steps are as doctor's, and named on the page."""
        for scene in _demo.STORY:
            assert f"`{scene.name}`" in PAGE
        monkeypatch.setattr(_demo, "STORY", ())
        check("demo", run_command("demo", "--json").record)
