"""`spiffe-client token`, `introspect` and `revoke`, against oidc-provider over TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Outcome, run_command
from tests.support.peers import Domain, OidcProvider

pytestmark = pytest.mark.peers

KNOBS = {"TLS": "1", "DPOP_NONCE": "always"}
API = "https://api.example.org/"


@pytest.fixture
def run(domain: Domain, oidc: OidcProvider, tmp_path: Path):
    roots = tmp_path / "roots.pem"
    roots.write_text(oidc.roots)
    socket = domain.endpoint_for("spiffe://example.org/agent/a")
    terms = ("--socket", socket, "--token-broker", oidc.issuer, "--ca", str(roots))

    def run(*words: str, stdin: str = "") -> Outcome:
        return run_command(*words, *terms, stdin=stdin.encode())

    return run


def test_life_of_a_token(run) -> None:
    """Issued, shown on request only, looked up, revoked, gone."""
    issued = run("token", "read", "fly", "--resource", API, "--json")
    assert (0, ["read"], ["fly"]) == (issued.code, issued.record["scope"], issued.record["missing_scope"])
    token = run("token", "read", "--resource", API, "--show-token", "--raw").out.strip()
    assert token not in issued.out
    known = run("introspect", "--json", stdin=token)
    assert (0, "spiffe://example.org/agent/a") == (known.code, known.record["subject"])
    assert "revoked" == run("revoke", "--json", stdin=token).record["outcome"]
    gone = run("introspect", "--json", stdin=token)
    assert (1, False) == (gone.code, gone.record["active"])


def test_refusal(run) -> None:
    """What the token broker says, and what to do."""
    refused = run("token", "read", "--resource", "https://elsewhere.example/")
    assert 1 == refused.code
    assert "invalid_target" in refused.err
