"""`spiffe-client verify`: chains and tokens judged check by check, by bundles from files or the agent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.bundle import SpiffeBundle
from spiffe_client.cli._verify import _ALL, Kind
from spiffe_client.dev import CertificateAuthority, DevTrustDomain
from spiffe_client.svid import X509Svid
from spiffe_client.workload_api._messages import X509BundlesResponse
from tests.support.command import Outcome, on_terminal, press_ctrl_c, run_command, start_command
from tests.support.pki import days, new_authority
from tests.support.scripted_workload_api import ScriptedWorkloadApi
from tests.support.tokens import compact

CA = CertificateAuthority("dev.example")
PEER = "spiffe://dev.example/peer"
SVID: X509Svid = CA.issue_x509_svid(PEER)
# Good for longer than a run of all tests takes.
TOKEN = CA.issue_jwt_svid(PEER, "orders", ttl=6 * 3600)
TOO_LATE = "have a new one issued; or is this machine's clock wrong? --at judges as of another time"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A chain, a token and bundles of every form."""
    (tmp_path / "chain.pem").write_bytes(SVID.chain_pem())
    (tmp_path / "with-key.pem").write_bytes(SVID.key_pem().reveal() + SVID.chain_pem())
    (tmp_path / "chain.der").write_bytes(b"".join(SVID.ders))
    (tmp_path / "token.jwt").write_text(f"\n {TOKEN} \n")
    (tmp_path / "bundle.pem").write_bytes(CA.x509_bundle.to_pem())
    (tmp_path / "bundle.der").write_bytes(CA.x509_bundle.to_der())
    (tmp_path / "bundle.jwks").write_bytes(CA.jwt_bundle.to_jwks())
    (tmp_path / "bundle.json").write_bytes(CA.spiffe_bundle.to_json())
    return tmp_path


def verify(*words: str, **options: object) -> Outcome:
    return run_command("verify", *words, **options)  # type: ignore[arg-type]


class TestChain:
    @pytest.mark.parametrize("bundle", ["bundle.pem", "bundle.der", "bundle.json"])
    @pytest.mark.parametrize("chain", ["chain.pem", "chain.der", "with-key.pem"])
    def test_a_good_one(self, files: Path, chain: str, bundle: str) -> None:
        """Each check with its section, and whom it proves; in every form that files have."""
        outcome = verify(str(files / chain), "--bundle", f"dev.example={files / bundle}")
        *checks, verdict = outcome.out.splitlines()
        assert (0, "") == (outcome.code, outcome.err)
        assert f"good: {PEER}" == verdict
        assert all(line.startswith("✓ ") for line in checks)
        assert any("X509-SVID §4.3" in line for line in checks)

    def test_for_programs(self, files: Path) -> None:
        """The keys that docs/cli.md promises."""
        words = [str(files / "chain.pem"), "--bundle", f"dev.example={files / 'bundle.pem'}"]
        record = verify(*words, "--at", "2026-12-01T00:00:00+02:00", "--json").record
        assert ["type", "ok", "id", "claimed_id", "at", "checks", "advice"] == list(record)
        assert ("x509_svid", "2026-11-30T22:00:00Z", PEER) == (record["type"], record["at"], record["claimed_id"])
        assert {"name", "section", "ok", "detail"} == set(record["checks"][0])

    def test_a_forged_one_proves_nobody(self, files: Path) -> None:
        """Signed by another authority: who it claims to be is said, and not that it is."""
        forged = CertificateAuthority("b.test").forge_x509_svid(PEER)
        (files / "forged.pem").write_bytes(forged.chain_pem())
        words = [str(files / "forged.pem"), "--bundle", f"dev.example={files / 'bundle.pem'}"]
        record = verify(*words, "--json").record
        assert (False, None, PEER) == (record["ok"], record["id"], record["claimed_id"])
        assert ["signed"] == [check["name"] for check in record["checks"] if not check["ok"]]

        outcome = verify(*words)
        assert 1 == outcome.code
        assert "✗ signed " in outcome.out
        refused, advice = outcome.out.splitlines()[-2:]
        assert refused.startswith("refused: 1 of ")
        assert advice == (
            "next: the bundle may be old, or of another trust domain of this name: where dev.example is trusted, "
            "`spiffe-client bundles --document --trust-domain dev.example` prints the current one"
        )

    def test_no_svid_at_all(self, files: Path) -> None:
        """A leaf with two IDs claims neither (X509-SVID §2)."""
        leaf = new_authority("dev.example").leaf(PEER, "spiffe://dev.example/other")
        (files / "two.pem").write_bytes(leaf.chain_pem)
        words = [str(files / "two.pem"), "--bundle", f"dev.example={files / 'bundle.pem'}"]
        record = verify(*words, "--json").record
        assert (False, None, "") == (record["ok"], record["claimed_id"], record["advice"])

    def test_as_of_another_time(self, files: Path) -> None:
        """What was good last year is no longer, and the other way round."""
        root = new_authority("dev.example")
        (files / "old.pem").write_bytes(root.leaf(PEER, not_before=days(-3), not_after=days(-2)).chain_pem)
        (files / "root.pem").write_bytes(root.bundle().to_pem())
        words = [str(files / "old.pem"), "--bundle", f"dev.example={files / 'root.pem'}"]
        outcome = verify(*words)
        assert 1 == outcome.code
        assert f"next: {TOO_LATE}" == outcome.out.splitlines()[-1]
        assert 0 == verify(*words, "--at", days(-2.5).isoformat()).code

    def test_by_the_agents_bundles(self, domain: DevTrustDomain, files: Path) -> None:
        """Without `--bundle` the Workload API is asked whom to trust."""
        (files / "own.pem").write_bytes(domain.ca.issue_x509_svid(PEER).chain_pem())
        assert 0 == verify(str(files / "own.pem"), "--socket", domain.endpoint).code
        refused = verify(str(files / "chain.pem"), "--socket", domain.endpoint)
        assert 1 == refused.code
        assert "next: it may be of another trust domain of this name, or older than the authorities of dev.example: " in refused.out

    def test_an_agents_bundle_of_no_use(self, api: ScriptedWorkloadApi, files: Path) -> None:
        """It is noted, and verification goes on without it."""
        bundles = {"spiffe://dev.example": CA.x509_bundle.to_der(), "spiffe://b.test": b"junk"}
        api.script("FetchX509Bundles", X509BundlesResponse(bundles=bundles))
        outcome = verify(str(files / "chain.pem"), "--socket", api.endpoint)
        assert 0 == outcome.code
        assert "left out: X509BundlesResponse.bundles: the bundle of 'spiffe://b.test'" in outcome.err

    def test_no_bundle_for_its_trust_domain(self, files: Path) -> None:
        """Another domain's bundle is of no use (Workload API §4)."""
        words = [str(files / "chain.pem"), "--bundle", f"b.test={files / 'bundle.pem'}", "--json"]
        record = verify(*words).record
        assert ["bundle"] == [c["name"] for c in record["checks"] if not c["ok"]]
        assert "give --bundle dev.example=FILE" == record["advice"]

    def test_no_bundle_from_the_agent(self, domain: DevTrustDomain, files: Path) -> None:
        """What to do next is on the last line."""
        (files / "b.pem").write_bytes(CertificateAuthority("b.test").issue_x509_svid("spiffe://b.test/x").chain_pem())
        outcome = verify(str(files / "b.pem"), "--socket", domain.endpoint)
        assert "next: federate with b.test, or give --bundle b.test=FILE" == outcome.out.splitlines()[-1]

    def test_checks_that_were_not_made(self, files: Path) -> None:
        """Said where there are some, and only there: an expired chain has all of them."""
        root = new_authority("dev.example")
        (files / "old.pem").write_bytes(root.leaf(PEER, not_before=days(-3), not_after=days(-2)).chain_pem)
        (files / "root.pem").write_bytes(root.bundle().to_pem())
        expired = verify(str(files / "old.pem"), "--bundle", f"dev.example={files / 'root.pem'}")
        assert "refused: 1 of 19 checks failed" == expired.out.splitlines()[-2]
        unknown = verify(str(files / "old.pem"), "--bundle", f"dev.example={files / 'bundle.pem'}")
        assert "checks failed, those that need them were not made" in unknown.out.splitlines()[-2]

    @pytest.mark.parametrize(
        ("file", "kind", "more"),
        [("chain.pem", "x509_svid", []), ("token.jwt", "jwt_svid", ["--audience", "orders"])],
    )
    def test_how_many_checks_there_are(self, files: Path, file: str, kind: Kind, more: list[str]) -> None:
        """What is good has had them all; by that number it is known whether some were left out."""
        record = verify(str(files / file), "--bundle", f"dev.example={files / 'bundle.json'}", *more, "--json").record
        assert _ALL[kind] == len(record["checks"])


class TestToken:
    @pytest.mark.parametrize("bundle", ["bundle.jwks", "bundle.json"])
    def test_a_good_one(self, files: Path, bundle: str) -> None:
        """From a file, white space around it does no harm."""
        words = [str(files / "token.jwt"), "--bundle", f"dev.example={files / bundle}"]
        record = verify(*words, "--audience", "orders", "--json").record
        assert ("jwt_svid", True, PEER) == (record["type"], record["ok"], record["id"])

    @pytest.mark.parametrize("words", [[], ["-"]])
    def test_from_standard_input(self, files: Path, words: list[str]) -> None:
        """Where tokens belong: no process list shows them there."""
        outcome = verify(
            *words, "--bundle", f"dev.example={files / 'bundle.jwks'}", "--audience", "orders", stdin=TOKEN.encode()
        )  # fmt: skip
        assert 0 == outcome.code

    def test_from_a_pipe(self, files: Path) -> None:
        """A real one, in pieces."""
        words = ["verify", "--audience", "orders", "--bundle", f"dev.example={files / 'bundle.jwks'}"]
        import subprocess

        with start_command(*words, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            for half in (TOKEN[:20], TOKEN[20:]):
                process.stdin.write(half)
                process.stdin.flush()
            out, err = process.communicate(timeout=60)
        assert (0, "") == (process.returncode, err)
        assert out.endswith(f"good: {PEER}\n")

    def test_by_the_agents_bundles(self, domain: DevTrustDomain) -> None:
        """Without `--bundle` the Workload API is asked whom to trust."""
        token = domain.ca.issue_jwt_svid(PEER, "orders").encode()
        assert 0 == verify("--audience", "orders", "--socket", domain.endpoint, stdin=token).code

    def test_for_somebody_else(self, files: Path) -> None:
        """JWT-SVID §3.2."""
        words = ["--bundle", f"dev.example={files / 'bundle.jwks'}", "--audience", "billing", "--json"]
        record = verify(*words, stdin=TOKEN.encode()).record
        assert (False, None, PEER) == (record["ok"], record["id"], record["claimed_id"])
        assert record["advice"].startswith("who sent it has to ask for one for this audience")

    def test_an_expired_one(self, files: Path) -> None:
        """A new one is needed, or the right time (JWT-SVID §3.3)."""
        words = ["--bundle", f"dev.example={files / 'bundle.jwks'}", "--audience", "orders", "--json"]
        record = verify(*words, "--at", "2099-01-01T00:00:00Z", stdin=TOKEN.encode()).record
        assert (["in_time"], TOO_LATE) == ([c["name"] for c in record["checks"] if not c["ok"]], record["advice"])

    def test_a_key_that_the_bundle_has_not(self, files: Path) -> None:
        """What comes first is advised on, though it is for somebody else, too (JWT-SVID §4)."""
        token = CertificateAuthority("dev.example").issue_jwt_svid(PEER, "orders").encode()
        words = ["--bundle", f"dev.example={files / 'bundle.jwks'}", "--audience", "billing", "--json"]
        record = verify(*words, stdin=token).record
        assert ["signature", "for_us"] == [c["name"] for c in record["checks"] if not c["ok"]]
        assert "`spiffe-client bundles --document --trust-domain dev.example` prints" in record["advice"]

    def test_a_key_that_the_bundle_has_not_and_nobody_is_named(self, files: Path) -> None:
        """A claim that is no date: whose bundle it would be is not said then, only what is clear."""
        token = compact({"alg": "ES256", "kid": "x"}, {"sub": PEER, "aud": ["orders"], "exp": "soon"}).encode()
        words = ["--bundle", f"dev.example={files / 'bundle.jwks'}", "--audience", "orders", "--json"]
        record = verify(*words, stdin=token).record
        assert ["expiry", "signature"] == [c["name"] for c in record["checks"] if not c["ok"]]
        assert (None, "") == (record["claimed_id"], record["advice"])

    def test_garbage_of_three_parts(self, files: Path) -> None:
        """It claims nothing, and is not repeated."""
        words = ["--bundle", f"dev.example={files / 'bundle.jwks'}", "--audience", "orders", "--json"]
        outcome = verify(*words, stdin=b"hunter2.hunter2.hunter2")
        assert (1, None) == (outcome.code, outcome.record["claimed_id"])
        assert "hunter2" not in outcome.out

    @pytest.mark.parametrize(
        "damage",
        [
            lambda t: t[:-4],
            lambda t: t.replace(".", "..", 1),
            lambda t: t + "A",
            lambda t: f"x{t}",
            lambda t: t.split(".")[0] + ".e30." + t.split(".")[2],
            lambda t: f"{t} {t}",
        ],
    )
    def test_nothing_of_it_is_shown(self, files: Path, damage) -> None:
        """A damaged token is still somebody's token."""
        words = ["--bundle", f"dev.example={files / 'bundle.jwks'}", "--audience", "orders"]
        for more in ([], ["--json"]):
            outcome = verify(*words, *more, stdin=damage(TOKEN).encode())
            assert 1 == outcome.code
            for part in TOKEN.split("."):
                assert part[:-4] not in outcome.out + outcome.err

    def test_never_among_the_words(self) -> None:
        """Every process can read them; the message does not repeat the token."""
        outcome = verify(TOKEN, "--audience", "orders")
        assert 2 == outcome.code
        assert "put it in a file or pipe it in" in outcome.err
        assert "eyJ" not in outcome.err


class TestCalledWrongly:
    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["chain.pem", "--audience", "orders"], "--audience is for a JWT-SVID"),
            (["token.jwt"], "say who accepts it with --audience"),
            (["token.jwt", "--audience", ""], "say who accepts it with --audience"),
            (["chain.pem", "--at", "yesterday"], "--at 'yesterday' is no moment"),
            (["chain.pem", "--at", "2026-12-01T00:00:00"], "is no moment"),
            (["chain.pem", "--at", "0001-01-01T00:00:00+14:00"], "is no moment"),
            (["chain.pem\0"], "is no file name"),
            (["chain.pem", "--bundle", "dev.example"], "is not TRUST-DOMAIN=FILE"),
            (["chain.pem", "--bundle", "dev.example="], "is not TRUST-DOMAIN=FILE"),
            (["chain.pem", "--bundle", "a b=x"], "not a trust domain"),
        ],
    )
    def test_exit_code_2(self, files: Path, words: list[str], says: str) -> None:
        """Nothing was judged, and it says how it is meant."""
        outcome = verify(str(files / words[0]), *words[1:])
        assert (2, "") == (outcome.code, outcome.out)
        assert says in outcome.err


class TestBadInput:
    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (b"", "svid_invalid"),
            (b"hello", "svid_invalid"),
            (b"\x30\x03abc", "x509_svid_invalid"),
            (b"-----BEGIN CERTIFICATE-----\nxxxx\n-----END CERTIFICATE-----\n", "x509_svid_invalid"),
            (b"-----BEGIN PRIVATE KEY-----\nxxxx\n-----END PRIVATE KEY-----\n", "x509_svid_invalid"),
            (b"A" * ((2 << 20) + 1), "svid_invalid"),
        ],
    )
    def test_typed_and_never_a_crash(self, files: Path, content: bytes, code: str) -> None:
        """What it is not, and how much there was; oversized input is refused unparsed."""
        (files / "bad").write_bytes(content)
        for words, stdin in (([str(files / "bad")], b""), (["-"], content)):
            outcome = verify(*words, "--bundle", f"dev.example={files / 'bundle.pem'}", "--json", stdin=stdin)
            assert (1, code) == (outcome.code, outcome.record["error"]["code"])

    @given(content=st.binary(max_size=200) | st.binary(max_size=100).map(lambda b: b"\x30" + b))
    def test_any_bytes(self, content: bytes) -> None:
        """Whatever is piped in: a verdict or a typed error."""
        outcome = run_command("verify", "--audience", "a", "--json", stdin=content)
        assert outcome.code in (1, 2)
        assert outcome.record["error"]["code"] in ("svid_invalid", "endpoint_invalid", "usage")

    def test_a_bundle_of_the_wrong_kind(self, files: Path) -> None:
        """Certificates do not verify tokens (Workload API §5.3)."""
        bundle = files / "bundle.pem"
        words = ["--bundle", f"dev.example={bundle}", "--audience", "orders", "--json"]
        error = verify(*words, stdin=TOKEN.encode()).record["error"]
        assert "bundle_invalid" == error["code"]
        assert error["message"].startswith(f"{bundle} is no bundle of dev.example to verify a JWT-SVID with: not a JSON")
        assert error["advice"].startswith(
            "--bundle dev.example=FILE wants a JWK Set or a SPIFFE bundle document; "
            "`spiffe-client bundles --document --trust-domain dev.example` prints"
        )

    @pytest.mark.parametrize("content", [b"", b"hello", b"\x30\x03abc", b'{"keys": 1}'])
    def test_a_bundle_that_is_none(self, files: Path, content: bytes) -> None:
        """Which file, whose it should be, and what it should hold."""
        (files / "bad").write_bytes(content)
        words = [str(files / "chain.pem"), "--bundle", f"dev.example={files / 'bad'}", "--json"]
        error = verify(*words).record["error"]
        assert "bundle_invalid" == error["code"]
        assert error["message"].startswith(f"{files / 'bad'} is no bundle of dev.example to verify a certificate chain with: ")
        assert "wants PEM or DER certificates, or a SPIFFE bundle document" in error["advice"]

    def test_keys_for_something_else(self, files: Path) -> None:
        """A JWK Set of JWT authorities for a chain, X.509 authorities for a token: each has keys, and none for this."""
        document = SpiffeBundle(CA.trust_domain, CA.x509_bundle.authorities, ())
        (files / "x509.json").write_bytes(document.to_json())
        chain = [str(files / "chain.pem"), "--bundle", f"dev.example={files / 'bundle.jwks'}"]
        token = [str(files / "token.jwt"), "--bundle", f"dev.example={files / 'x509.json'}", "--audience", "orders"]
        for words in (chain, token):
            error = verify(*words, "--json").record["error"]
            assert "bundle_invalid" == error["code"]
            assert error["message"].endswith(" with: none of its keys is for that")

    def test_a_bundle_that_trusts_nothing(self, files: Path) -> None:
        """No keys at all is a bundle (Trust Domain and Bundle §4.1.3): it is judged by, and refuses all."""
        (files / "empty").write_bytes(b'{"keys": []}')
        for words in ([str(files / "chain.pem")], [str(files / "token.jwt"), "--audience", "orders"]):
            record = verify(*words, "--bundle", f"dev.example={files / 'empty'}", "--json").record
            assert (False, PEER) == (record["ok"], record["claimed_id"])

    def test_two_bundles_for_one_trust_domain(self, files: Path) -> None:
        """Which one is meant?"""
        option = ["--bundle", f"dev.example={files / 'bundle.pem'}"]
        outcome = verify(str(files / "chain.pem"), *option, *option, "--json")
        assert "bundle_invalid" == outcome.record["error"]["code"]


class TestOnATerminal:
    def test_it_says_that_it_waits_for_input(self) -> None:
        """And Ctrl-C ends it while it does."""
        terminal = on_terminal("verify", "--audience", "orders")
        terminal.read_until("reading standard input, until Ctrl-D")
        terminal.press("\x03")
        assert 130 == terminal.end().code
