"""`spiffe-client x509`: identities and bundles, once and watched, without the key."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from cryptography.x509 import load_pem_x509_certificates
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from spiffe_client._grpc import Status
from spiffe_client.bundle import X509Bundle
from spiffe_client.dev import CertificateAuthority, DevTrustDomain
from spiffe_client.svid import X509Svid
from spiffe_client.workload_api._messages import X509SvidEntry, X509SvidResponse
from tests.support.command import press_ctrl_c, run_command
from tests.support.scripted_workload_api import DROP, HOLD, NO_IDENTITY, Fail, ScriptedWorkloadApi

WORKLOAD = "spiffe://dev.example/workload"


def entry(svid: X509Svid, bundle: X509Bundle, *, spiffe_id: str | None = None) -> X509SvidEntry:
    """An SVID as the Workload API sends it."""
    key = load_pem_private_key(svid.key_pem().reveal(), None)
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return X509SvidEntry(spiffe_id or str(svid.id), b"".join(svid.ders), der, bundle.to_der(), svid.hint)


class TestOnce:
    def test_for_people(self, domain: DevTrustDomain) -> None:
        """Who this is, for how long, and who is trusted."""
        outcome = run_command("x509", "--socket", domain.endpoint)
        assert (0, "") == (outcome.code, outcome.err)
        assert outcome.out.startswith(f"{WORKLOAD}\n  expires ")
        assert "leaf and 1 intermediate\n" in outcome.out
        assert "EC secp256r1, in memory\n" in outcome.out
        assert outcome.out.endswith("trusts\n  dev.example   1 authority\n")

    def test_for_programs(self, domain: DevTrustDomain) -> None:
        """The keys that docs/cli.md promises."""
        record = run_command("x509", "--json", "--socket", domain.endpoint).record
        assert ["time", "svids", "bundles", "left_out"] == list(record)
        (svid,) = record["svids"]
        leaf, _ = load_pem_x509_certificates(svid["chain"].encode())
        assert {
            "id": WORKLOAD,
            "hint": "",
            "serial_number": f"{leaf.serial_number:x}",
            "not_before": f"{leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
            "not_after": f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
            "key": "EC secp256r1",
        } == {name: svid[name] for name in svid if name not in ("chain", "sha256")}
        (bundle,) = record["bundles"]
        assert ("dev.example", []) == (bundle["trust_domain"], record["left_out"])
        assert ["subject", "serial_number", "not_before", "not_after", "sha256"] == list(bundle["authorities"][0])

    def test_the_address_comes_from_the_environment(self, domain: DevTrustDomain) -> None:
        """Workload Endpoint §4: SPIFFE_ENDPOINT_SOCKET."""
        outcome = run_command("x509", env={"SPIFFE_ENDPOINT_SOCKET": domain.endpoint})
        assert 0 == outcome.code

    def test_hints_and_several_identities(self, world, domain: DevTrustDomain) -> None:
        """Each identity is shown with what the issuer means it for (Workload API §5.2.1)."""
        world.call(lambda: domain.register("spiffe://dev.example/second", any=True, hint="internal"))
        outcome = run_command("x509", "--socket", domain.endpoint)
        assert "spiffe://dev.example/second\n  hint          internal\n" in outcome.out

    def test_pem_can_be_piped_on(self, domain: DevTrustDomain) -> None:
        """The chain and nothing else."""
        outcome = run_command("x509", "--pem", "--socket", domain.endpoint)
        assert 2 == len(load_pem_x509_certificates(outcome.out.encode()))
        assert outcome.out.startswith("-----BEGIN CERTIFICATE-----\n")

    def test_a_bundle_of_no_use_is_told(self, world, api: ScriptedWorkloadApi) -> None:
        """It costs only its trust domain, and somebody should know."""
        ca = CertificateAuthority("dev.example")
        svid = entry(ca.issue_x509_svid(WORKLOAD), ca.x509_bundle)
        api.script("FetchX509SVID", X509SvidResponse((svid,), federated_bundles={"spiffe://b.test": b"junk"}))
        outcome = run_command("x509", "--socket", api.endpoint)
        assert "left out: X509SVIDResponse.federated_bundles: the bundle of 'spiffe://b.test' is left out" in outcome.out
        (left_out,) = run_command("x509", "--json", "--socket", api.endpoint).record["left_out"]
        assert "bundle_invalid" == left_out["code"]

    def test_a_hint_cannot_draw_on_the_terminal(self, api: ScriptedWorkloadApi) -> None:
        """Control characters and direction marks of somebody else's are shown, not obeyed."""
        ca = CertificateAuthority("dev.example")
        svid = entry(ca.issue_x509_svid(WORKLOAD, hint="\x1b[31mroot\u202e"), ca.x509_bundle)
        api.script("FetchX509SVID", X509SvidResponse((svid,)))
        outcome = run_command("x509", "--socket", api.endpoint)
        assert "hint          \\x1b[31mroot\\u202e\n" in outcome.out


class TestKeys:
    def test_the_key_only_on_request(self, domain: DevTrustDomain) -> None:
        """`--show-key` prints PKCS#8 PEM that belongs to the leaf; without it there is none."""
        shown = run_command("x509", "--show-key", "--pem", "--socket", domain.endpoint).out.encode()
        key = load_pem_private_key(shown[shown.index(b"-----BEGIN PRIVATE KEY-----") :], None)
        assert key.public_key() == load_pem_x509_certificates(shown)[0].public_key()

        assert "BEGIN PRIVATE KEY" in run_command("x509", "--show-key", "--socket", domain.endpoint).out
        (svid,) = run_command("x509", "--show-key", "--json", "--socket", domain.endpoint).record["svids"]
        assert svid["private_key"].startswith("-----BEGIN PRIVATE KEY-----")

    @pytest.mark.parametrize("words", [["x509"], ["x509", "--json"], ["x509", "--pem"], ["doctor"], ["doctor", "--json"]])
    @pytest.mark.parametrize("damage", ["none", "foreign_id", "foreign_key", "expired"])
    def test_not_a_byte_of_it_on_any_path(self, api: ScriptedWorkloadApi, words: list[str], damage: str) -> None:
        """Neither in PEM nor in base64 nor in hex, on success and on failure."""
        ca, other = CertificateAuthority("dev.example"), CertificateAuthority("dev.example")
        svid = ca.issue_x509_svid(WORKLOAD, ttl=-5 if damage == "expired" else 60)
        sent = entry(svid, ca.x509_bundle, spiffe_id="spiffe://dev.example/else" if damage == "foreign_id" else None)
        if damage == "foreign_key":
            foreign = entry(other.issue_x509_svid(WORKLOAD), ca.x509_bundle)
            sent = X509SvidEntry(sent.spiffe_id, sent.x509_svid, foreign.x509_svid_key, sent.bundle)
        api.script("FetchX509SVID", X509SvidResponse((sent,)))
        outcome = run_command(*words, "--socket", api.endpoint)
        # X509SvidResponse.key is PKCS#8: the scalar of a P-256 key is at 36, 32 bytes long.
        scalar = sent.x509_svid_key[36:68]
        shown = outcome.out + outcome.err
        assert (damage == "none") == (outcome.code == 0)
        for start in range(3):
            piece = base64.b64encode(scalar[start : start + 24])
            assert piece.decode() not in shown.replace("\n", "")
        assert scalar.hex() not in shown
        assert repr(scalar)[2:40] not in shown


class TestFailures:
    @pytest.mark.parametrize(
        ("step", "code", "advice"),
        [
            (NO_IDENTITY, "no_identity_issued", "register this process"),
            (Fail(Status.PERMISSION_DENIED, "no"), "access_denied", "whoever runs the agent"),
            (Fail(Status.UNAVAILABLE, "starting"), "unavailable", "cannot answer now: its log"),
            (Fail(Status.UNIMPLEMENTED), "unimplemented", "update the agent"),
            (Fail(Status.INTERNAL, "boom"), "unexpected_status", "log says more"),
            (DROP, "unavailable", "is the agent running?"),
            (b"\xff\xff", "protocol_error", "the Workload API's socket"),
        ],
    )
    def test_what_the_agent_says_and_what_to_do(
        self, api: ScriptedWorkloadApi, step: object, code: str, advice: str
    ) -> None:
        """Each with its stable code and a way on."""
        api.script("FetchX509SVID", step)
        error = run_command("x509", "--json", "--socket", api.endpoint).record["error"]
        assert code == error["code"]
        assert advice in error["advice"]

    def test_the_timeout_is_kept(self, api: ScriptedWorkloadApi) -> None:
        """An agent that says nothing costs `--timeout` seconds and no more."""
        api.script("FetchX509SVID", HOLD)
        outcome = run_command("x509", "--timeout", "0.05", "--socket", api.endpoint)
        assert 1 == outcome.code
        assert "within 0.05 s" in outcome.err


class TestWatch:
    def test_every_change_until_ctrl_c(self, world, domain: DevTrustDomain) -> None:
        """A new record for each rotation; Ctrl-C ends it with 130."""
        serials: list[str] = []

        def react(line: str) -> None:
            import json

            serials.append(json.loads(line)["svids"][0]["serial_number"])
            press_ctrl_c() if len(serials) == 3 else world.call(domain.rotate)

        outcome = run_command("x509", "--watch", "--json", "--socket", domain.endpoint, react=react)
        assert (130, 3) == (outcome.code, len(set(serials)))

    def test_for_people_each_with_the_time(self, domain: DevTrustDomain) -> None:
        """Plain blocks, when they came."""
        outcome = run_command("x509", "--watch", "--socket", domain.endpoint, react=_ctrl_c_at("trusts"))
        moment = datetime.strptime(outcome.out.splitlines()[0], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 30

    def test_an_agent_that_goes_and_comes_back(self, world, domain: DevTrustDomain) -> None:
        """The outage is told with its reason, and the watch goes on."""
        told: list[str] = []

        def react(line: str) -> None:
            import json

            record = json.loads(line)
            told.append(record.get("event", "svids"))
            if told == ["svids"]:
                world.call(domain.stop_serving)
            elif told[-1] == "source.unavailable":
                world.call(domain.resume)
            elif told[-1] == "source.recovered":
                press_ctrl_c()

        outcome = run_command("x509", "--watch", "--json", "--socket", domain.endpoint, react=react)
        assert 130 == outcome.code
        assert ["svids", "source.unavailable", "source.recovered"] == [t for t in told if told.count(t) == 1 or t == "svids"][:3]

    def test_a_withdrawn_identity_is_told(self, world, domain: DevTrustDomain) -> None:
        """Events as lines for people."""

        def react(line: str) -> None:
            if line == "trusts":
                world.call(domain.deregister, WORKLOAD)
            if "svid.withdrawn" in line:
                press_ctrl_c()

        outcome = run_command("x509", "--watch", "--socket", domain.endpoint, react=react)
        assert 130 == outcome.code

    def test_no_first_answer(self) -> None:
        """The deadline is `--timeout`; the reason is the agent's."""
        outcome = run_command("x509", "--watch", "--json", "--timeout", "0.1", "--socket", "unix:///nowhere/a.sock")
        assert (1, "first_update_timeout") == (outcome.code, outcome.records[-1]["error"]["code"])


def _ctrl_c_at(text: str):
    return lambda line: press_ctrl_c() if line == text else None
