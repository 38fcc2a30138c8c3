"""`spiffe-client introspect` and `revoke`: the token from a file or a pipe, the outcome in the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spiffe_client._redact import fingerprint
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from tests.support.command import Outcome, on_terminal, run_command

ORDERS = "https://orders.dev.example"
WORKLOAD = "spiffe://dev.example/workload"


@pytest.fixture
def ask(domain: DevTrustDomain, broker: DevTokenBroker) -> Any:
    """Run a command at this broker, as this workload."""

    def run(command: str, *words: str, token: str = "") -> Outcome:
        here = ["--token-broker", broker.issuer, "--socket", domain.endpoint]
        return run_command(command, *words, *here, stdin=token.encode())

    return run


@pytest.fixture
def token(ask: Any) -> str:
    """One that permits to read orders."""
    words = ["orders:read", "--audience", ORDERS, "--purpose", "close the books", "--binding", "none"]
    return ask("token", *words, "--show-token", "--raw").out.strip()


class TestIntrospect:
    def test_an_active_token(self, ask: Any, token: str) -> None:
        """RFC 7662 §2.2: what it permits, whose it is, until when."""
        outcome = ask("introspect", token=token)
        assert (0, f"active: {fingerprint(token)}…") == (outcome.code, outcome.out.splitlines()[0])
        for line in (f"  subject       {WORKLOAD}", "  scope         orders:read", f"  audience      {ORDERS}"):
            assert line in outcome.out.splitlines()
        assert "\n  expires       " in outcome.out

    def test_for_programs(self, ask: Any, token: str, tmp_path: Path) -> None:
        """The same from a file."""
        (tmp_path / "token").write_text(token + "\n")
        record = ask("introspect", str(tmp_path / "token"), "--json").record
        assert (True, WORKLOAD, ["orders:read"], [ORDERS], fingerprint(token)) == (
            record["active"], record["subject"], record["scope"], record["audience"], record["fingerprint"],
        )  # fmt: skip
        assert record["expires_at"].endswith("Z")

    @pytest.mark.parametrize("show", [[], ["--json"]])
    def test_one_that_is_not_active(self, ask: Any, show: list[str]) -> None:
        """Exit code 1: nothing is said about it but that (RFC 7662 §2.2)."""
        outcome = ask("introspect", *show, token="never-heard-of-it")
        assert 1 == outcome.code
        if show:
            assert (False, None, []) == (outcome.record["active"], outcome.record["expires_at"], outcome.record["scope"])
        else:
            assert outcome.out.startswith("not active: ")

    def test_a_token_bound_to_a_key(self, ask: Any) -> None:
        """What it is bound to is named (RFC 9449 §6.2)."""
        bound = ask("token", "orders:read", "--audience", ORDERS, "--show-token", "--raw").out
        assert "  bound to      jkt\n" in ask("introspect", token=bound).out

    def test_who_acts_for_whom(self) -> None:
        """The chain of actors, the latest first (RFC 8693 §4.1)."""
        from spiffe_client.cli._introspect import _facts
        from spiffe_client.tokens import Introspection

        chain = {"sub": "spiffe://dev.example/c", "act": {"sub": "spiffe://dev.example/b", "act": "nonsense"}}
        facts = _facts(Introspection(active=True, actor=chain), None)  # type: ignore[arg-type]  # nothing expires
        assert "spiffe://dev.example/c, for spiffe://dev.example/b" == facts["actors"]

    def test_a_client_that_is_not_accepted(self, ask: Any, token: str) -> None:
        """A refusal is no answer: it reads neither active nor inactive."""
        outcome = ask("introspect", "--auth", "none", "--client-id", "nobody", "--json", token=token)
        assert (1, "invalid_client") == (outcome.code, outcome.record["error"]["code"])

    def test_a_token_broker_that_cannot_say(self, world: Any, domain: DevTrustDomain) -> None:
        """It has no introspection endpoint."""
        broker = world.enter(lambda: DevTokenBroker(domain, without=["introspection"]))
        words = ["introspect", "--token-broker", broker.issuer, "--socket", domain.endpoint, "--json"]
        outcome = run_command(*words, stdin=b"x")
        assert (1, "unsupported_by_broker") == (outcome.code, outcome.record["error"]["code"])


class TestRevoke:
    def test_it_is_revoked(self, ask: Any, token: str) -> None:
        """It was active, and is not any more: that is what proves it (RFC 7009 §2.2)."""
        outcome = ask("revoke", token=token)
        assert (0, f"revoked: {fingerprint(token)}…, it was active, and is not any more\n") == (outcome.code, outcome.out)
        assert 1 == ask("introspect", token=token).code

    def test_for_programs(self, ask: Any, token: str) -> None:
        """The outcome by its stable name."""
        record = ask("revoke", "--json", token=token).record
        assert ["time", "token_broker", "fingerprint", "outcome", "detail", "code", "advice"] == list(record)
        assert ("revoked", "", "") == (record["outcome"], record["code"], record["advice"])

    def test_a_200_proves_nothing(self, ask: Any) -> None:
        """RFC 7009 §2.2: so is answered for tokens that nobody ever issued; exit code 1."""
        outcome = ask("revoke", token="never-heard-of-it")
        assert 1 == outcome.code
        assert outcome.out.startswith("not proven: ")
        assert "next: it cannot say whether the token was active before" in outcome.out

    def test_one_that_cannot_be_revoked(self, world: Any, domain: DevTrustDomain) -> None:
        """There is no revocation endpoint: the token lives until it expires."""
        broker = world.enter(lambda: DevTokenBroker(domain, without=["revocation"]))
        words = ["revoke", "--token-broker", broker.issuer, "--socket", domain.endpoint]
        outcome = run_command(*words, stdin=b"x")
        assert 1 == outcome.code
        assert outcome.out.startswith("not possible: ")
        record = run_command(*words, "--json", stdin=b"x").record
        assert ("unsupported_token_type", "unsupported_by_broker") == (record["outcome"], record["code"])

    def test_a_token_broker_that_fails(self, ask: Any, broker: DevTokenBroker, token: str) -> None:
        """The token still exists (RFC 7009 §2.2.1)."""
        broker.fail_next(503, times=None, endpoint="revocation")
        outcome = ask("revoke", "--timeout", "1", token=token)
        assert 1 == outcome.code
        assert outcome.out.startswith("failed: ")
        record = ask("revoke", "--timeout", "1", "--json", token=token).record
        assert ("failed", True) == (record["outcome"], record["code"] != "")
        broker.heal()


@pytest.mark.parametrize("command", ["introspect", "revoke"])
class TestBoth:
    def test_a_token_among_the_words(self, broker: DevTokenBroker, command: str, token: str) -> None:
        """Refused before anything else: every process can see it there."""
        outcome = run_command(command, token, "--token-broker", broker.issuer)
        assert (2, "") == (outcome.code, outcome.out)
        assert "every process can see a token" in outcome.err

    def test_no_token_at_all(self, ask: Any, command: str) -> None:
        """Nothing was piped in."""
        outcome = ask(command, "--json")
        assert (1, "token_request_invalid") == (outcome.code, outcome.record["error"]["code"])

    def test_a_malformed_issuer(self, command: str) -> None:
        """Exit code 2, before standard input is read."""
        assert 2 == run_command(command, "--token-broker", "tokens.example").code

    def test_an_agent_that_is_away(self, ask: Any, command: str, broker: DevTokenBroker) -> None:
        """Nothing is sent without an identity to authenticate with."""
        words = [command, "--token-broker", broker.issuer, "--socket", "unix:///nowhere/api.sock", "--json"]
        outcome = run_command(*words, stdin=b"opaque-token")
        assert (1, "unavailable", 0) == (outcome.code, outcome.record["error"]["code"], broker.requests.total())


class TestInput:
    @pytest.mark.parametrize(
        "words", [["introspect"], ["revoke"], ["token", "x", "--subject-token-file", "-"]], ids=["introspect", "revoke", "token"]
    )
    def test_it_says_that_it_waits_for_input(self, words: list[str]) -> None:
        """And Ctrl-C ends it while it does."""
        terminal = on_terminal(*words, "--token-broker", "http://127.0.0.1:1")
        terminal.read_until("reading standard input, until Ctrl-D")
        terminal.press("\x03")
        assert 130 == terminal.end().code

    def test_no_token_in_it(self, ask: Any, tmp_path: Path) -> None:
        """What is expected instead is said."""
        (tmp_path / "token").write_text("two words")
        for command in ("introspect", "revoke"):
            outcome = ask(command, str(tmp_path / "token"))
            assert 1 == outcome.code
            assert "next: give a file, or standard input, with the token and nothing else in it" in outcome.err
