"""`spiffe-client token`: what is granted is shown, the token only on request, refusals with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spiffe_client._jose import parse_compact
from spiffe_client._redact import fingerprint
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import TokenError
from tests.support.command import Outcome, run_command
from tests.support.raw_broker import Asked, issues, json_reply, serve_raw
from tests.support.tokens import ec_key

ORDERS = "https://orders.dev.example"
WORKLOAD = "spiffe://dev.example/workload"
KEYS = [
    "time", "issuer", "scope", "missing_scope", "audience", "authorization_details", "purpose", "token_type",
    "issued_token_type", "binding", "expires_at", "fingerprint",
]  # fmt: skip


@pytest.fixture
def ask(domain: DevTrustDomain, broker: DevTokenBroker) -> Any:
    """Run `spiffe-client token` at this broker, as this workload."""

    def run(*words: str, **options: Any) -> Outcome:
        options.setdefault("env", {"SPIFFE_ENDPOINT_SOCKET": domain.endpoint})
        return run_command("token", *words, "--token-broker", broker.issuer, **options)

    return run


class TestExchange:
    def test_for_people(self, ask: Any, broker: DevTokenBroker) -> None:
        """What was granted, by whom, for whom, until when, bound to what; and what was not granted."""
        outcome = ask("orders:read", "orders:refund", "--audience", ORDERS, "--purpose", "close the books")
        lines = outcome.out.splitlines()
        assert (0, "", broker.issuer) == (outcome.code, outcome.err, lines[0])
        assert [
            "  scope         orders:read",
            "  not granted   orders:refund",
            f"  audience      {ORDERS}",
            "  purpose       close the books",
        ] == lines[1:5]
        assert lines[5].startswith("  bound to      a key that ends with this command")
        assert lines[6].startswith("  expires       ")
        assert lines[7].endswith("… (--show-token prints it)")

    def test_for_programs(self, ask: Any, broker: DevTokenBroker) -> None:
        """The keys that docs/cli.md promises; bound to a key unless something else is said (RFC 9449 §5)."""
        details = [{"type": "payment", "actions": ["refund"]}]
        record = ask("orders:read", "--audience", ORDERS, "--details", json.dumps(details), "--json").record
        assert KEYS == list(record)
        assert (broker.issuer, ["orders:read"], [], [ORDERS], details, "DPoP", "dpop") == (
            record["issuer"], record["scope"], record["missing_scope"], record["audience"],
            record["authorization_details"], record["token_type"], record["binding"]["method"],
        )  # fmt: skip

    def test_the_token_on_request(self, ask: Any, broker: DevTokenBroker) -> None:
        """`--show-token`, for people, for programs, and `--raw` for shells."""
        words = ["orders:read", "--audience", ORDERS, "--binding", "none", "--show-token"]
        record = ask(*words, "--json").record
        assert fingerprint(record["token"]) == record["fingerprint"]
        (raw,) = ask(*words, "--raw").out.splitlines()
        claims = parse_compact(raw, error=TokenError).claims
        assert (broker.issuer, WORKLOAD, ORDERS) == (claims["iss"], claims["sub"], claims["aud"])
        shown = ask(*words).out.splitlines()
        assert "  bound to      nothing: whoever holds it can use it" in shown
        assert shown[-1].startswith("eyJ")

    def test_a_token_that_nobody_can_use(self, ask: Any) -> None:
        """Bound to a key that ends with the command (RFC 9449 §5): printed as asked for, and said on standard error."""
        outcome = ask("orders:read", "--audience", ORDERS, "--show-token", "--raw")
        assert 1 == len(outcome.out.splitlines())
        says = "this token is bound to a key that ends with this command, and nobody can use it: say --binding none"
        assert (0, [says]) == (outcome.code, outcome.err.splitlines())
        assert "" == ask("orders:read", "--audience", ORDERS, "--show-token", "--raw", "--binding", "none").err

    def test_details_for_people(self, ask: Any) -> None:
        """As the token broker granted them (RFC 9396 §7)."""
        outcome = ask("orders:read", "--audience", ORDERS, "--details", '[{"type":"payment"}]')
        assert '  details       [{"type":"payment"}]\n' in outcome.out

    def test_nothing_is_named(self, ask: Any) -> None:
        """Scope and audience are left to the token broker, which says what it granted."""
        record = ask("--json").record
        assert (["orders:list", "orders:read"], []) == (record["scope"], record["audience"])
        assert "audience      left to the token broker" in ask().out

    def test_bound_to_the_certificate(self, ask: Any, broker: DevTokenBroker, tmp_path: Path) -> None:
        """RFC 8705 §3: the X509-SVID is shown, the token broker is of the web PKI."""
        (tmp_path / "ca.pem").write_text(broker.web_roots)
        words = ["orders:read", "--audience", ORDERS, "--binding", "mtls", "--ca", str(tmp_path / "ca.pem")]
        record = ask(*words, "--json").record
        assert ("Bearer", "mtls") == (record["token_type"], record["binding"]["method"])
        assert "  bound to      this X509-SVID\n" in ask(*words).out


class TestWhoAsks:
    def test_the_svid_in_tls(self, ask: Any, broker: DevTokenBroker, tmp_path: Path) -> None:
        """draft-ietf-oauth-spiffe-client-auth §3.2."""
        (tmp_path / "ca.pem").write_text(broker.web_roots)
        assert 0 == ask("--auth", "spiffe-x509", "--ca", str(tmp_path / "ca.pem")).code

    def test_a_token_broker_that_is_a_workload(self, world: Any, domain: DevTrustDomain) -> None:
        """`--broker-id`: both ends show X509-SVIDs, and another ID there is refused."""
        me = Client.of(WORKLOAD, audiences=[ORDERS], scopes="orders:read")
        broker = world.enter(lambda: DevTokenBroker(domain, rules=[me], issuer_at="spiffe", aliases_at="spiffe"))
        words = ["token", "--token-broker", broker.issuer, "--auth", "spiffe-x509", "--socket", domain.endpoint]
        assert 0 == run_command(*words, "--broker-id", str(broker.id)).code
        outcome = run_command(*words, "--broker-id", "spiffe://dev.example/impostor", "--json")
        assert (1, "token_broker_unavailable") == (outcome.code, outcome.record["error"]["code"])
        assert str(broker.id) in outcome.record["error"]["message"]

    @pytest.mark.parametrize("kind", ["file", "env", "command"])
    def test_a_secret(self, ask: Any, tmp_path: Path, kind: str) -> None:
        """From a file, the environment, or a program; no Workload API is asked for it (RFC 6749 §2.3.1)."""
        (tmp_path / "secret").write_text("correct horse battery\n")
        value = {"file": str(tmp_path / "secret"), "env": "BATCH_SECRET", "command": f"cat {tmp_path}/secret"}[kind]
        words = ["--auth", "client-secret", "--client-id", "batch", f"--secret-{kind}", value, "--client-credentials"]
        outcome = ask("orders:read", *words, "--json", env={"BATCH_SECRET": "correct horse battery"})
        assert (0, ["orders:read"]) == (outcome.code, outcome.record["scope"])

    def test_a_secret_and_no_agent(self, ask: Any) -> None:
        """This process's JWT-SVID is exchanged unless something else is said: it is said that it need not be."""
        words = ["orders:read", "--auth", "client-secret", "--client-id", "batch", "--secret-env", "BATCH_SECRET"]
        env = {"BATCH_SECRET": "correct horse battery"}
        outcome = ask(*words, "--json", env=env)
        advice = "set SPIFFE_ENDPOINT_SOCKET, or pass --socket; a client with a secret of its own needs neither: --client-credentials"
        assert (1, advice) == (outcome.code, outcome.record["error"]["advice"])
        # It would be no help where the identity is needed for more.
        for more in (["--binding", "mtls"], ["--broker-id", "spiffe://dev.example/token-broker"]):
            assert "--client-credentials" not in ask(*words, *more, "--json", env=env).record["error"]["advice"]

    def test_a_key_of_its_own(self, world: Any, domain: DevTrustDomain, tmp_path: Path) -> None:
        """RFC 7523 §2.2: PEM in a file."""
        from cryptography.hazmat.primitives import serialization

        from jwt.algorithms import ECAlgorithm

        key = ec_key()
        jwk = ECAlgorithm(ECAlgorithm.SHA256).to_jwk(key.public_key(), as_dict=True)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / "key.pem").write_bytes(pem)
        rule = Client.of("signer", jwk=jwk, audiences=[ORDERS], scopes="orders:read")
        broker = world.enter(lambda: DevTokenBroker(domain, rules=[rule]))
        words = ["--auth", "private-key-jwt", "--client-id", "signer", "--secret-file", str(tmp_path / "key.pem")]
        assert 0 == run_command("token", "--client-credentials", *words, "--token-broker", broker.issuer).code

    def test_nobody(self, ask: Any) -> None:
        """A client that proves nothing, beside the token that is exchanged (RFC 6749 §2.3)."""
        assert 0 == ask("orders:read", "--auth", "none", "--client-id", "public").code

    @pytest.mark.parametrize(
        ("words", "client_id"),
        [([], WORKLOAD), (["--client-id", "public"], "public"), (["--client-id", ""], None)],
    )
    @pytest.mark.parametrize("whose", ["svid", "handed in", "nobody"])
    def test_nobody_has_a_name(
        self, domain: DevTrustDomain, tmp_path: Path, words: list[str], client_id: str | None, whose: str
    ) -> None:
        """The SPIFFE ID unless another is said, whoever's token is exchanged; an empty name is none (RFC 6749 §3.2.1)."""
        (tmp_path / "token").write_text("a-token")
        more = {"svid": [], "handed in": ["--subject-token-file", str(tmp_path / "token")], "nobody": ["--client-credentials"]}

        def script(asked: Asked) -> bytes:
            if "well-known" in asked.target:
                return json_reply({"issuer": broker.url, "token_endpoint": f"{broker.url}/token"})
            return issues(**({"issued_token_type": ...} if whose == "nobody" else {}))

        with serve_raw(script) as broker:
            here = ["--token-broker", broker.url, "--socket", domain.endpoint, "--binding", "none", "--json"]
            outcome = run_command("token", "orders:read", "--auth", "none", *words, *more[whose], *here)
            assert (0, client_id) == (outcome.code, dict(broker.asked[-1].form).get("client_id"))

    @pytest.mark.parametrize("command", ["token", "introspect", "revoke"])
    def test_a_name_takes_an_agent(self, broker: DevTokenBroker, command: str) -> None:
        """Whose SPIFFE ID it is has to be asked for, which `--client-id` saves."""
        words = [command, "--auth", "none", "--token-broker", broker.issuer, "--json"]
        more = ["--client-credentials"] if command == "token" else []
        error = run_command(*words, *more, stdin=b"a-token").record["error"]
        advice = "set SPIFFE_ENDPOINT_SOCKET, or pass --socket: who asks is the SPIFFE ID, unless --client-id says another"
        assert ("endpoint_invalid", advice) == (error["code"], error["advice"])
        record = run_command(*words, *more, "--client-id", "public", stdin=b"a-token").records[-1]
        assert "endpoint_invalid" != record.get("error", {}).get("code")


class TestSubject:
    def test_a_token_from_a_file(self, ask: Any, tmp_path: Path) -> None:
        """RFC 8693 §2.1: exchanged for less; the file is read, the token never shown."""
        raw = ask("--audience", ORDERS, "--binding", "none", "--show-token", "--raw").out
        (tmp_path / "token").write_text(raw)
        words = ["orders:read", "--subject-token-file"]
        narrowed = ask(*words, str(tmp_path / "token"), "--binding", "none", "--json").record
        assert ["orders:read"] == narrowed["scope"]
        piped = ask(*words, "-", "--binding", "none", "--json", stdin=raw.encode()).record
        assert ["orders:read"] == piped["scope"]

    def test_a_jwt_svid_from_a_file(self, ask: Any, domain: DevTrustDomain, broker: DevTokenBroker, tmp_path: Path) -> None:
        """Another type, by its short name or as URN (RFC 8693 §3)."""
        svid = run_command("jwt", broker.issuer, "--show-token", "--raw", "--socket", domain.endpoint).out
        (tmp_path / "svid").write_text(svid)
        for kind in ("jwt", "urn:ietf:params:oauth:token-type:jwt"):
            words = ["--subject-token-file", str(tmp_path / "svid"), "--subject-token-type", kind]
            assert 0 == ask("orders:read", *words).code

    @pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe"])
    def test_no_token_in_it(self, ask: Any, tmp_path: Path, content: bytes) -> None:
        """Empty, prose, or something binary: nothing is sent."""
        (tmp_path / "token").write_bytes(content)
        outcome = ask("--subject-token-file", str(tmp_path / "token"))
        assert 1 == outcome.code
        assert f"{tmp_path / 'token'} holds no token" in outcome.err


class TestAnAssertion:
    def test_it_is_no_access_token(self, world: Any, domain: DevTrustDomain) -> None:
        """`N_A` (RFC 8693 §2.2.1): for another token broker, to be exchanged there."""
        me = Client.of(WORKLOAD, audiences=["*"], scopes="orders:read")
        far = world.enter(lambda: DevTokenBroker(domain))
        near = world.enter(lambda: DevTokenBroker(domain, rules=[me]))
        near.trust_issuer(far)
        words = ["token", "orders:read", "--audience", far.issuer, "--token-broker", near.issuer]
        outcome = run_command(*words, "--socket", domain.endpoint)
        assert "kind          urn:ietf:params:oauth:token-type:jwt: an assertion, no access token" in outcome.out
        record = run_command(*words, "--socket", domain.endpoint, "--json").record
        assert ("N_A", "none", []) == (
            record["token_type"], record["binding"]["method"], record["authorization_details"],
        )  # fmt: skip


class TestRefused:
    def test_more_than_may_be_had(self, ask: Any) -> None:
        """The token broker's code and words, and what to do (RFC 6749 §5.2)."""
        outcome = ask("orders:refund", "--audience", ORDERS, "--json")
        error = outcome.record["error"]
        assert (1, "invalid_scope") == (outcome.code, error["code"])
        assert "nothing of this scope" in error["message"]
        assert "whoever runs the token broker" in error["advice"]

    def test_no_agent(self, ask: Any, tmp_path: Path) -> None:
        """Without an identity nothing is asked of the token broker."""
        outcome = ask("orders:read", "--socket", f"unix://{tmp_path}/none.sock", "--json")
        assert (1, "unavailable") == (outcome.code, outcome.record["error"]["code"])

    def test_a_token_broker_that_is_away(self, world: Any, ask: Any, broker: DevTokenBroker) -> None:
        """Within the deadline, and what to do."""
        world.call(broker.pause)
        outcome = ask("orders:read", "--timeout", "3", "--json")
        error = outcome.record["error"]
        assert (1, "token_broker_unavailable") == (outcome.code, error["code"])
        assert error["advice"].startswith("nobody listens there")

    def test_one_that_hangs(self, ask: Any, broker: DevTokenBroker) -> None:
        """A socket that says nothing ends with the deadline."""
        broker.fail_next(None, delay=30, times=None)
        outcome = ask("orders:read", "--timeout", "2", "--json")
        assert (1, "token_broker_unavailable") == (outcome.code, outcome.record["error"]["code"])
        assert "doctor --token-broker" in outcome.record["error"]["advice"]
        broker.heal()

    def test_one_whose_authority_is_not_trusted(self, ask: Any, broker: DevTokenBroker, domain: DevTrustDomain) -> None:
        """How to trust it."""
        words = ["token", "orders:read", "--token-broker", broker.url_at("web"), "--socket", domain.endpoint]
        assert "--ca FILE" in run_command(*words, "--json").record["error"]["advice"]

    def test_a_secret_that_is_wrong(self, ask: Any) -> None:
        """It is not repeated."""
        secret = "wrong-but-a-secret-4711-all-the-same"
        words = ["--auth", "client-secret", "--client-id", "batch", "--secret-env", "BATCH", "--client-credentials"]
        outcome = ask(*words, env={"BATCH": secret})
        assert (1, "") == (outcome.code, outcome.out)
        assert "invalid_client" in outcome.err
        assert "next: are its ID, its secret or key, and --auth those registered there?" in outcome.err
        assert secret not in outcome.err

    def test_a_token_broker_that_binds_nothing(self, world: Any, domain: DevTrustDomain) -> None:
        """Nothing weaker is used by itself."""
        me = Client.of(WORKLOAD, audiences=[ORDERS], scopes="orders:read")
        broker = world.enter(lambda: DevTokenBroker(domain, rules=[me], without=["dpop"]))
        words = ["token", "orders:read", "--token-broker", broker.issuer, "--socket", domain.endpoint]
        outcome = run_command(*words, "--json")
        assert (1, "unsupported_by_broker") == (outcome.code, outcome.record["error"]["code"])
        assert "; --binding none accepts bearer tokens" in outcome.record["error"]["message"]
        assert 0 == run_command(*words, "--binding", "none").code

    def test_another_issuer(self, ask: Any, broker: DevTokenBroker, domain: DevTrustDomain) -> None:
        """Mix-up (RFC 8414 §3.3): what to say is said in options."""
        words = ["token", "--token-broker", broker.issuer.replace("127.0.0.1", "localhost"), "--socket", domain.endpoint]
        error = run_command(*words, "--json").record["error"]
        assert "discovery" == error["code"]
        assert error["message"].endswith(f"; if it is the right one, say --token-broker {broker.issuer}, exactly")

    def test_a_missing_secret(self, ask: Any) -> None:
        """The variable is named, which is no secret."""
        words = ["--auth", "client-secret", "--client-id", "batch", "--secret-env", "NOT_THERE", "--client-credentials"]
        outcome = ask(*words, "--json", env={})
        assert (1, "secret_source") == (outcome.code, outcome.record["error"]["code"])
        assert "NOT_THERE" in outcome.record["error"]["message"]

    def test_authorities_that_are_none(self, ask: Any, tmp_path: Path) -> None:
        """`--ca` with something else in it."""
        (tmp_path / "ca.pem").write_text("nothing of the kind")
        outcome = ask("--ca", str(tmp_path / "ca.pem"), "--json")
        assert (1, "tls_configuration") == (outcome.code, outcome.record["error"]["code"])
        assert outcome.record["error"]["message"].startswith(f"{tmp_path / 'ca.pem'}: no PEM certificates: not one ")


SECRET = ["--auth", "client-secret", "--client-id", "batch"]


class TestCalledWrongly:
    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["--raw"], "say --show-token too"),
            (["--raw", "--show-token", "--json"], "--raw and --json exclude each other"),
            (["--subject-token-file", "x", "--client-credentials"], "exclude each other"),
            (["--subject-token-file", "eyJhbGciOiJub25lIn0.e30."], "every process can see a token"),
            (["--subject-token-file", "a\0b"], "is no file name"),
            (["--resource", "no uri"], "resource 'no uri' is malformed"),
            (["--details", "{"], "--details is no JSON array"),
            (["--details", '{"type":"payment"}'], "--details is no JSON array"),
            (["--details", "[" * 100_000], "--details is no JSON array"),
            (["--details", "[1]"], "needs a `type`"),
            (["--auth", "client-secret"], "needs --secret-file, --secret-env or --secret-command"),
            (["--auth", "client-secret", "--secret-env", "X"], "needs --client-id"),
            (["--secret-env", "X"], "--auth spiffe-jwt has no secret"),
            ([*SECRET, "--secret-command", '"'], "--secret-command: No closing quotation"),
            ([*SECRET, "--secret-command", " "], "--secret-command: "),
            (["--broker-id", "nobody"], "--broker-id: "),
            (["--broker-id", "spiffe://a/b", "--ca", "x"], "not allowed with argument"),
            (["--token-broker", "http://tokens.example"], "only https protects"),
        ],
    )  # fmt: skip
    def test_nothing_is_asked(self, ask: Any, broker: DevTokenBroker, words: list[str], says: str) -> None:
        """Exit code 2, and why."""
        if words[0] == "--token-broker":
            outcome = run_command("token", *words)
        else:
            outcome = ask(*words)
        assert 2 == outcome.code
        assert says in (outcome.record["error"]["message"] if "--json" in words else outcome.err)
        assert 0 == broker.requests.total()

    def test_the_token_broker_is_named(self) -> None:
        """There is no default."""
        assert "--token-broker" in run_command("token").err
