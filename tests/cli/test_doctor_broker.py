"""`spiffe-client doctor --token-broker`: the first thing between a workload and its token is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from tests.support.command import Outcome, run_command
from tests.support.raw_broker import Asked, RawBroker, json_reply, raw_reply, serve_raw

IDENTITY = ["endpoint", "socket", "header", "issuance", "clock", "expiry", "chain", "tls"]
BROKER = ["token_broker", "broker_clock", "discovery", "offers", "client"]
ORDERS = "https://orders.dev.example"
WORKLOAD = "spiffe://dev.example/workload"
NOBODY = ["--auth", "none", "--client-id", "somebody"]


def steps(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Each step by its name; the exit code says whether one failed."""
    *found, summary = outcome.records
    failed = [step["step"] for step in found if step["state"] == "failed"]
    assert ({"ok": not failed, "failed": failed}, 1 if failed else 0) == (summary, outcome.code)
    for step in found:
        assert (step["state"] == "failed") == bool(step["advice"])
    return {step["step"]: step for step in found}


def failed(outcome: Outcome, name: str) -> dict[str, Any]:
    """The step that failed; it is the only one."""
    found = steps(outcome)
    assert [name] == [n for n, step in found.items() if step["state"] == "failed"]
    return found[name]


@pytest.fixture
def ask(domain: DevTrustDomain, broker: DevTokenBroker) -> Any:
    def run(*words: str, at: str = "") -> Outcome:
        here = ["--socket", domain.endpoint, "--token-broker", at or broker.issuer]
        return run_command("doctor", "--json", *words, *here)

    return run


@pytest.fixture
def raw() -> Iterator[Any]:
    """A token broker that answers with what a test says, asked without any identity."""
    with ExitStack() as stack:

        def run(script: Any, *words: str) -> Outcome:
            broker = stack.enter_context(serve_raw(lambda asked: script(broker, asked)))
            return run_command("doctor", "--json", *NOBODY, *words, "--token-broker", broker.url)

        yield run


def metadata(broker: RawBroker, **members: Any) -> dict[str, Any]:
    whole = {
        "issuer": broker.url,
        "token_endpoint": f"{broker.url}/token",
        "revocation_endpoint": f"{broker.url}/revocation",
        "dpop_signing_alg_values_supported": ["ES256"],
        **members,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def describes(**members: Any) -> Any:
    """Metadata with these members; `answer` is what everything else gets."""
    answer = members.pop("answer", json_reply({}))

    def script(broker: RawBroker, asked: Asked) -> bytes:
        return json_reply(metadata(broker, **members)) if "well-known" in asked.target else answer

    return script


class TestHealthy:
    def test_all_is_well(self, ask: Any, broker: DevTokenBroker) -> None:
        """The way to an identity first, then that to a token, which is not asked for unless said."""
        found = steps(ask())
        assert [*IDENTITY, *BROKER] == list(found)
        assert {"ok"} == {step["state"] for step in found.values()}
        assert f"{broker.issuer}/.well-known/oauth-authorization-server" == found["discovery"]["facts"]["url"]
        assert broker.issuer == found["discovery"]["facts"]["issuer"]
        assert (True, True) == (found["offers"]["facts"]["introspection"], found["offers"]["facts"]["mtls"])
        assert (WORKLOAD, "spiffe_jwt") == (
            found["client"]["facts"]["client_id"], found["client"]["facts"]["method"],
        )  # fmt: skip
        assert abs(found["broker_clock"]["facts"]["ahead"]) < 30

    def test_a_token_is_asked_for_and_taken_back(self, ask: Any, broker: DevTokenBroker) -> None:
        """With an audience; nothing is left behind at the token broker."""
        step = steps(ask("orders:read", "orders:refund", "--audience", ORDERS))["exchange"]
        assert (["orders:read"], ["orders:refund"], "dpop", "revoked") == (
            step["facts"]["scope"], step["facts"]["missing_scope"], step["facts"]["binding"],
            step["facts"]["revocation"],
        )  # fmt: skip
        assert {"access_token": 1} == dict(broker.issued)

    def test_for_people(self, domain: DevTrustDomain, broker: DevTokenBroker) -> None:
        """A line for each step."""
        words = ["doctor", "orders:read", "--socket", domain.endpoint, "--token-broker", broker.issuer]
        outcome = run_command(*words)
        lines = outcome.out.splitlines()
        assert (0, "all is well") == (outcome.code, lines[-1])
        assert f"✓ token broker  {broker.issuer} answers, without TLS: it is this machine" in lines
        assert f"✓ client        {WORKLOAD} is accepted, by spiffe_jwt" in lines

    def test_without_an_identity(self, broker: DevTokenBroker, tmp_path: Path) -> None:
        """Who authenticates by a secret needs no agent: those steps are left out (RFC 6749 §2.3.1)."""
        (tmp_path / "secret").write_text("correct horse battery")
        words = ["--auth", "client-secret", "--client-id", "batch", "--secret-file", str(tmp_path / "secret")]
        words += ["--client-credentials", "--token-broker", broker.issuer]
        found = steps(run_command("doctor", "orders:read", "--json", *words))
        assert [*BROKER, "exchange"] == list(found)
        assert "client_secret_basic" == found["client"]["facts"]["method"]
        assert "client_credentials" == found["exchange"]["facts"]["grant"]
        assert "tried: client credentials, for the client itself" in found["exchange"]["detail"]

    def test_over_tls(self, ask: Any, world: Any, domain: DevTrustDomain, tmp_path: Path) -> None:
        """Trust is said in words: whose authorities, or which SPIFFE ID."""
        web = world.enter(lambda: DevTokenBroker(domain, rules=[Client.of(WORKLOAD)], issuer_at="web"))
        (tmp_path / "ca.pem").write_text(web.web_roots)
        words = ["--auth", "spiffe-x509", "--ca", str(tmp_path / "ca.pem")]
        found = steps(ask(*words, at=web.issuer))
        assert f"its certificate is good, by those in {tmp_path / 'ca.pem'}" in found["token_broker"]["detail"]
        assert "spiffe_x509" == found["client"]["facts"]["method"]
        spiffe = world.enter(lambda: DevTokenBroker(domain, rules=[Client.of(WORKLOAD)], issuer_at="spiffe", aliases_at="spiffe"))
        found = steps(ask("--broker-id", str(spiffe.id), at=spiffe.issuer))
        assert f"the bundle of its trust domain: {spiffe.id}" in found["token_broker"]["detail"]

    def test_an_assertion(self, world: Any, ask: Any, domain: DevTrustDomain) -> None:
        """What is issued for another token broker is no access token; it is bound to nothing."""
        far = world.enter(lambda: DevTokenBroker(domain))
        near = world.enter(lambda: DevTokenBroker(domain, rules=[Client.of(WORKLOAD, audiences=["*"], scopes="*")]))
        near.trust_issuer(far)
        step = steps(ask("x", "--audience", far.issuer, at=near.issuer))["exchange"]
        assert ("none", ["x"]) == (step["facts"]["binding"], step["facts"]["scope"])


SECRET = ["--auth", "client-secret", "--client-id", "batch", "--secret-env", "BATCH_SECRET"]
ENV = {"BATCH_SECRET": "correct horse battery"}


class TestWhoseToken:
    """As `token` does it with the same words, whatever the environment holds."""

    @pytest.mark.parametrize("there", [True, False])
    def test_client_credentials_with_and_without_a_socket(
        self, domain: DevTrustDomain, broker: DevTokenBroker, there: bool
    ) -> None:
        """The same steps, the same grant (RFC 6749 §4.4): no identity is needed, and none is looked at."""
        env = {**ENV, **({"SPIFFE_ENDPOINT_SOCKET": domain.endpoint} if there else {})}
        words = ["doctor", "orders:read", "--json", *SECRET, "--client-credentials", "--token-broker", broker.issuer]
        found = steps(run_command(*words, env=env))
        assert [*BROKER, "exchange"] == list(found)
        assert ("ok", "client_credentials") == (found["exchange"]["state"], found["exchange"]["facts"]["grant"])

    def test_a_svid_that_is_not_there(self, broker: DevTokenBroker) -> None:
        """Exchanged unless something else is said; the client is judged all the same, and what to say is said."""
        found = steps(run_command("doctor", "orders:read", "--json", *SECRET, "--token-broker", broker.issuer, env=ENV))
        assert ("ok", "not_reached") == (found["client"]["state"], found["exchange"]["state"])
        assert found["endpoint"]["advice"].endswith("a client with a secret of its own needs neither: --client-credentials")

    def test_a_svid_that_is(self, domain: DevTrustDomain, broker: DevTokenBroker) -> None:
        """RFC 8693: by the client that the secret is of."""
        env = {**ENV, "SPIFFE_ENDPOINT_SOCKET": domain.endpoint}
        found = steps(run_command("doctor", "orders:read", "--json", *SECRET, "--token-broker", broker.issuer, env=env))
        assert [*IDENTITY, *BROKER, "exchange"] == list(found)
        assert "tried: token exchange of this process's JWT-SVID" in found["exchange"]["detail"]

    def test_a_token_from_a_file(self, ask: Any, domain: DevTrustDomain, broker: DevTokenBroker, tmp_path: Path) -> None:
        """`--subject-token-file`; it is asked for without a scope, too, and never shown."""
        words = ["token", "--audience", ORDERS, "--binding", "none", "--show-token", "--raw", "--socket", domain.endpoint]
        (tmp_path / "token").write_text(run_command(*words, "--token-broker", broker.issuer).out)
        step = steps(ask("--subject-token-file", str(tmp_path / "token")))["exchange"]
        assert ("ok", True) == (step["state"], "the token that was handed in" in step["detail"])
        assert "urn:ietf:params:oauth:grant-type:token-exchange" == step["facts"]["grant"]


class TestReach:
    def test_nobody_listens(self, ask: Any, world: Any, broker: DevTokenBroker) -> None:
        """What comes behind is not reached."""
        world.call(broker.pause)
        outcome = ask()
        step = failed(outcome, "token_broker")
        assert ("refused", "nobody listens there") == (step["facts"]["code"], step["advice"][:20])
        assert "not reached: token_broker is in the way" == steps(outcome)["client"]["detail"]

    def test_a_name_that_nobody_knows(self, ask: Any) -> None:
        """RFC 6761 §6.4: `.invalid` is never known."""
        step = failed(ask(at="https://tokens.invalid"), "token_broker")
        assert "name_unknown" == step["facts"]["code"]

    def test_an_authority_that_is_not_trusted(self, ask: Any, broker: DevTokenBroker) -> None:
        """How to trust it, in both ways."""
        step = failed(ask(at=broker.url_at("web")), "token_broker")
        assert "tls_untrusted" == step["facts"]["code"]
        assert "--ca FILE" in step["advice"]
        assert "--broker-id" in step["advice"]

    def test_another_workload(self, ask: Any, broker: DevTokenBroker, caplog: pytest.LogCaptureFixture) -> None:
        """Who it is, is in the words."""
        step = failed(ask("--broker-id", "spiffe://dev.example/else", at=broker.url_at("spiffe")), "token_broker")
        assert "tls_peer" == step["facts"]["code"]
        assert str(broker.id) in step["detail"]

    def test_no_tls_there(self, ask: Any, broker: DevTokenBroker) -> None:
        """https:// to a port that speaks http."""
        step = failed(ask(at=broker.issuer.replace("http:", "https:")), "token_broker")
        assert "tls_failed" == step["facts"]["code"]

    def test_one_that_hangs(self, ask: Any, broker: DevTokenBroker) -> None:
        """Until the deadline."""
        broker.fail_next(None, delay=30, times=None, endpoint="metadata")
        step = failed(ask("--timeout", "0.5"), "token_broker")
        assert "token_broker_unavailable" == step["facts"]["code"]
        broker.heal()

    def test_a_malformed_issuer_is_a_finding(self, ask: Any) -> None:
        """As a malformed address is for the endpoint."""
        step = failed(ask(at="http://tokens.example"), "token_broker")
        assert ("discovery", True) == (step["facts"]["code"], "only https protects" in step["detail"])
        assert step["advice"].startswith("write it like https://")

    def test_an_identity_that_is_not_there(self, ask: Any, domain: DevTrustDomain, broker: DevTokenBroker) -> None:
        """What needs none is looked at all the same."""
        words = ["doctor", "--json", "--socket", "unix:///nowhere/a.sock", "--token-broker", broker.issuer]
        found = steps(run_command(*words))
        assert ("failed", "ok", "not_reached") == (
            found["endpoint"]["state"] if found["endpoint"]["state"] == "failed" else found["socket"]["state"],
            found["discovery"]["state"],
            found["client"]["state"],
        )
        assert "not reached: socket is in the way" == found["client"]["detail"]


class TestClock:
    @pytest.mark.parametrize(("off", "says"), [(-300, "5 min ahead of"), (300, "4 min behind"), (90, "s behind")])
    def test_clocks_that_differ(self, raw: Any, off: int, says: str) -> None:
        """Assertions and proofs would be refused; the rest is looked at all the same."""
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=off), usegmt=True)

        def script(broker: RawBroker, asked: Asked) -> bytes:
            return json_reply(metadata(broker), 200, ("Date", date))

        step = failed(raw(script), "broker_clock")
        assert ("clock_differs", True) == (step["facts"]["code"], says in step["detail"])

    @pytest.mark.parametrize("date", ["", "soon", "Sun, 22 Nov 2026 03:00:00"])
    def test_it_does_not_say(self, raw: Any, date: str) -> None:
        """Without the header, or with nonsense in it, nothing is known (RFC 9110 §6.6.1)."""

        def script(broker: RawBroker, asked: Asked) -> bytes:
            return json_reply(metadata(broker), 200, *([("Date", date)] if date else []))

        assert "does not say" in steps(raw(script))["broker_clock"]["detail"]


class TestDiscovery:
    def test_somewhere_else(self, world: Any, ask: Any, domain: DevTrustDomain) -> None:
        """Which of the places answered (RFC 8414 §3.1, OpenID Connect Discovery §4)."""
        broker = world.enter(
            lambda: DevTokenBroker(domain, rules=[Client.of(WORKLOAD)], issuer_path="/t1", well_known=["openid_appended"])
        )
        found = steps(ask(at=broker.issuer))
        assert f"{broker.issuer}/.well-known/openid-configuration" == found["discovery"]["facts"]["url"]

    def test_nowhere(self, ask: Any, broker: DevTokenBroker) -> None:
        """All places that were tried, and what each said."""
        step = failed(ask(at=f"{broker.issuer}/else"), "discovery")
        assert 4 == step["detail"].count("HTTP status 404")

    def test_another_issuer(self, ask: Any, broker: DevTokenBroker) -> None:
        """Mix-up (RFC 8414 §3.3)."""
        step = failed(ask(at=broker.issuer.replace("127.0.0.1", "localhost")), "discovery")
        assert "say --token-broker exactly as its metadata does" in step["advice"]
        assert step["detail"].endswith(f"say --token-broker {broker.issuer}, exactly")

    def test_endpoints_elsewhere(self, raw: Any) -> None:
        """Refused unless it was said that they may be."""
        script = describes(token_endpoint="https://else.example/token")
        assert "--allow-origin" in failed(raw(script), "discovery")["advice"]
        found = steps(raw(script, "--allow-origin", "https://else.example"))
        assert "ok" == found["discovery"]["state"]

    def test_a_redirect(self, raw: Any) -> None:
        """It answers, and is not followed."""

        def script(broker: RawBroker, asked: Asked) -> bytes:
            return raw_reply(302, b"", ("location", "https://else.example/"))

        step = failed(raw(script), "discovery")
        assert "redirects" in step["detail"]

    def test_a_web_page(self, raw: Any) -> None:
        """Something else lives there; none of it is repeated."""

        def script(broker: RawBroker, asked: Asked) -> bytes:
            return raw_reply(200, b"<html>hello</html>", ("content-type", "text/html"))

        step = failed(raw(script), "discovery")
        assert "text/html instead of application/json" in step["detail"]
        assert "hello" not in step["detail"]


class TestOffers:
    def test_a_binding_that_is_not_offered(self, world: Any, ask: Any, domain: DevTrustDomain) -> None:
        """What to say instead; the client is looked at all the same."""
        broker = world.enter(lambda: DevTokenBroker(domain, rules=[Client.of(WORKLOAD)], without=["dpop"]))
        outcome = ask(at=broker.issuer)
        step = failed(outcome, "offers")
        assert ("unsupported_by_broker", True) == (step["facts"]["code"], "--binding mtls" in step["advice"])
        assert "ok" == steps(outcome)["client"]["state"]

    def test_no_binding_at_all(self, raw: Any) -> None:
        """Then a token is whoever's who holds it."""
        step = failed(raw(describes(dpop_signing_alg_values_supported=...)), "offers")
        assert "--binding none" in step["advice"]

    def test_what_it_does_not_list(self, raw: Any) -> None:
        """Told, and no failure: lists are often incomplete."""
        script = describes(
            grant_types_supported=["client_credentials"],
            token_endpoint_auth_methods_supported=["client_secret_basic"],
            revocation_endpoint=...,
        )
        detail = steps(raw(script, "--binding", "none"))["offers"]["detail"]
        for says in ("without introspection and revocation", "token exchange", "does not list none"):
            assert says in detail


class TestClient:
    def test_one_that_is_not_registered(self, ask: Any) -> None:
        """RFC 6749 §5.2: `invalid_client`."""
        step = failed(ask("--client-id", "stranger"), "client")
        assert "invalid_client" == step["facts"]["code"]
        assert "stranger is not accepted by spiffe_jwt" in step["detail"]
        assert step["advice"].startswith("register it there")

    def test_a_secret_that_is_wrong(self, broker: DevTokenBroker) -> None:
        """It is registered: that is not what there is to do."""
        words = ["doctor", "--json", *SECRET, "--token-broker", broker.issuer]
        step = failed(run_command(*words, env={"BATCH_SECRET": "wrong"}), "client")
        assert "are its ID, its secret or key, and --auth those registered there?" == step["advice"]

    @pytest.mark.parametrize(
        ("without", "endpoint"),
        [([], "revocation_endpoint"), (["revocation"], "introspection_endpoint"), (["revocation", "introspection"], "token_endpoint")],
    )
    def test_where_it_is_asked(self, world: Any, ask: Any, domain: DevTrustDomain, without: list[Any], endpoint: str) -> None:
        """Where it does nothing: with a token that nobody issued."""
        broker = world.enter(lambda: DevTokenBroker(domain, rules=[Client.of(WORKLOAD)], without=without))
        assert endpoint == steps(ask(at=broker.issuer))["client"]["facts"]["endpoint"]
        assert 0 == broker.issued.total()

    def test_one_without_a_name(self) -> None:
        """Which not every token broker asks for."""
        with serve_raw(lambda asked: describes()(broker, asked)) as broker:
            words = ["doctor", "--json", "--auth", "none", "--client-id", "", "--token-broker", broker.url]
            assert "this client is accepted, by none" == steps(run_command(*words))["client"]["detail"]
            assert "client_id" not in dict(broker.asked[-1].form)

    def test_a_name_that_nothing_proves(self, domain: DevTrustDomain) -> None:
        """The SPIFFE ID, as `token` would say it; the way to it is walked first."""
        with serve_raw(lambda asked: describes()(broker, asked)) as broker:
            words = ["doctor", "--json", "--auth", "none", "--token-broker", broker.url]
            found = steps(run_command(*words, env={"SPIFFE_ENDPOINT_SOCKET": domain.endpoint}))
            assert [*IDENTITY, *BROKER] == list(found)
            assert f"{WORKLOAD} is accepted, by none" == found["client"]["detail"]
            assert WORKLOAD == dict(broker.asked[-1].form)["client_id"]

    def test_an_answer_that_is_none(self, raw: Any) -> None:
        """It says nothing about the client."""
        step = failed(raw(describes(answer=raw_reply(500, b"oops"))), "client")
        assert "token_broker_unavailable" == step["facts"]["code"]

    def test_a_refusal_by_status(self, raw: Any) -> None:
        """401 with another code is one, too."""
        step = failed(raw(describes(answer=json_reply({"error": "access_denied"}, 401))), "client")
        assert "access_denied" == step["facts"]["code"]

    def test_another_error(self, raw: Any) -> None:
        """It comes behind the authentication, so that was good."""
        answer = json_reply({"error": "unsupported_token_type"}, 400)
        assert "ok" == steps(raw(describes(answer=answer)))["client"]["state"]


class TestExchange:
    def test_a_refusal(self, ask: Any) -> None:
        """The token broker's code and words."""
        step = failed(ask("orders:refund", "--audience", ORDERS), "exchange")
        assert ("invalid_scope", "urn:ietf:params:oauth:grant-type:token-exchange") == (
            step["facts"]["code"], step["facts"]["grant"],
        )  # fmt: skip
        assert step["detail"].endswith("tried: token exchange of this process's JWT-SVID")


class TestCalledWrongly:
    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["orders:read"], "SCOPE needs --token-broker"),
            (["--audience", "x"], "--audience needs --token-broker"),
            (["--broker-id", "x"], "--broker-id needs --token-broker"),
            (["--client-credentials"], "--client-credentials needs --token-broker"),
            (["--subject-token-file", "x"], "--subject-token-file needs --token-broker"),
            (
                ["--token-broker", "https://a.example", "--client-credentials", "--subject-token-file", "x"],
                "exclude each other",
            ),
            (["--no-such-option"], "next: `spiffe-client doctor --help`"),
            (["--token-broker", "https://a.example", "--auth", "client-secret"], "needs --secret-file"),
            (["--token-broker", "https://a.example", "--resource", "no uri"], "resource 'no uri'"),
        ],
    )
    def test_nothing_is_looked_at(self, words: list[str], says: str) -> None:
        """Exit code 2."""
        outcome = run_command("doctor", *words, env={"SPIFFE_ENDPOINT_SOCKET": "unix:///nowhere/a.sock"})
        assert (2, "") == (outcome.code, outcome.out)
        assert says in outcome.err
