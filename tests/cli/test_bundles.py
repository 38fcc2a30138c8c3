"""`spiffe-client bundles`: authorities by trust domain, and the document that `verify` takes."""

from __future__ import annotations

import json

import pytest

from spiffe_client._grpc import Status
from spiffe_client.bundle import SpiffeBundle
from spiffe_client.dev import CertificateAuthority, DevTrustDomain
from spiffe_client.ids import TrustDomain
from spiffe_client.workload_api._jwt_messages import JwtBundlesResponse
from spiffe_client.workload_api._messages import X509BundlesResponse
from tests.support.command import press_ctrl_c, run_command
from tests.support.pki import new_authority
from tests.support.scripted_workload_api import Fail, Feed, ScriptedWorkloadApi

DEV, PARTNER = TrustDomain("dev.example"), TrustDomain("partner.example")


@pytest.fixture
def partner(world, domain: DevTrustDomain) -> CertificateAuthority:
    """A trust domain that `domain` federates with."""
    partner = CertificateAuthority(PARTNER)
    world.call(domain.federate_with, partner)
    return partner


class TestOnce:
    def test_for_people(self, domain: DevTrustDomain, partner: CertificateAuthority) -> None:
        """Each trust domain with its authorities of both kinds."""
        outcome = run_command("bundles", "--socket", domain.endpoint)
        lines = outcome.out.splitlines()
        assert (0, "") == (outcome.code, outcome.err)
        assert ["dev.example", "partner.example"] == [line for line in lines if not line.startswith(" ")]
        assert 2 == sum(line.startswith("  X.509 ") for line in lines)
        assert 2 == sum(line.startswith("  JWT ") for line in lines)

    def test_for_programs(self, domain: DevTrustDomain) -> None:
        """The keys that docs/cli.md promises; the document is the standard's."""
        record = run_command("bundles", "--json", "--socket", domain.endpoint).record
        assert ["time", "bundles", "left_out"] == list(record)
        (bundle,) = record["bundles"]
        assert ["trust_domain", "x509_authorities", "jwt_authorities", "document"] == list(bundle)
        assert ["key_id", "algorithm", "key"] == list(bundle["jwt_authorities"][0])
        document = SpiffeBundle.parse(DEV, json.dumps(bundle["document"]).encode())
        assert domain.ca.x509_bundle == document.x509_bundle

    @pytest.mark.parametrize(("kind", "methods"), [("x509", ["FetchX509Bundles"]), ("jwt", ["FetchJWTBundles"])])
    def test_one_kind_alone(self, api: ScriptedWorkloadApi, kind: str, methods: list[str]) -> None:
        """An agent that offers no JWT-SVIDs is not asked for their bundles."""
        ca = CertificateAuthority(DEV)
        api.script("FetchX509Bundles", X509BundlesResponse(bundles={str(DEV.id): ca.x509_bundle.to_der()}))
        api.script("FetchJWTBundles", JwtBundlesResponse(bundles={str(DEV.id): ca.jwt_bundle.to_jwks()}))
        (bundle,) = run_command("bundles", "--type", kind, "--json", "--socket", api.endpoint).record["bundles"]
        assert methods == [call.method for call in api.calls]
        assert (kind == "x509", kind == "jwt") == (
            bool(bundle["x509_authorities"]), bool(bundle["jwt_authorities"])
        )  # fmt: skip

    def test_one_trust_domain(self, domain: DevTrustDomain, partner: CertificateAuthority) -> None:
        """`--trust-domain` leaves the others out; a mixed-case spelling is the same one (SPIFFE-ID §2.4)."""
        outcome = run_command("bundles", "--trust-domain", "Partner.example", "--socket", domain.endpoint)
        assert outcome.out.startswith("partner.example\n")
        assert "dev.example" not in outcome.out

    def test_one_that_is_not_there(self, domain: DevTrustDomain) -> None:
        """It is an answer of its own: nothing from it is trusted."""
        outcome = run_command("bundles", "--trust-domain", "b.test", "--json", "--socket", domain.endpoint)
        assert (1, "bundle_not_found") == (outcome.code, outcome.record["error"]["code"])
        advice = "federate with this trust domain; without --trust-domain those that are known are listed"
        assert advice == outcome.record["error"]["advice"]

    def test_an_empty_bundle_says_what_that_means(self, api: ScriptedWorkloadApi) -> None:
        """No keys is valid, and trusts nothing (JWT-SVID §6)."""
        api.script("FetchJWTBundles", JwtBundlesResponse(bundles={str(DEV.id): b'{"keys": []}'}))
        outcome = run_command("bundles", "--type", "jwt", "--socket", api.endpoint)
        assert "no authorities: nothing from it is trusted" in outcome.out

    def test_keys_without_a_name(self, api: ScriptedWorkloadApi) -> None:
        """`kid` is optional (JWT-SVID §2.2); the line says that there is none."""
        jwk = {**CertificateAuthority(DEV).jwt_bundle.authorities[0].to_jwk()}
        jwk.pop("kid")
        api.script(
            "FetchJWTBundles", JwtBundlesResponse(bundles={str(DEV.id): json.dumps({"keys": [jwk]}).encode()})
        )
        outcome = run_command("bundles", "--type", "jwt", "--socket", api.endpoint)
        assert "no key id, EC secp256r1\n" in outcome.out

    def test_an_authority_without_a_json_form(self, api: ScriptedWorkloadApi) -> None:
        """It is shown; only the document cannot be made."""
        from cryptography.hazmat.primitives.asymmetric import ec

        # a curve that JWK has no name for here
        root = new_authority("dev.example", key=ec.generate_private_key(ec.SECP256K1()))
        api.script("FetchX509Bundles", X509BundlesResponse(bundles={str(DEV.id): root.bundle().to_der()}))
        record = run_command("bundles", "--type", "x509", "--json", "--socket", api.endpoint).record
        (bundle,) = record["bundles"]
        assert (1, None) == (len(bundle["x509_authorities"]), bundle["document"])
        outcome = run_command(
            "bundles", "--type", "x509", "--document", "--trust-domain", "dev.example", "--socket", api.endpoint
        )
        assert (1, "") == (outcome.code, outcome.out)

    def test_a_bundle_of_no_use_is_told(self, api: ScriptedWorkloadApi) -> None:
        """It costs only itself."""
        ca = CertificateAuthority(DEV)
        bundles = {str(DEV.id): ca.x509_bundle.to_der(), "spiffe://b.test": b"junk"}
        api.script("FetchX509Bundles", X509BundlesResponse(bundles=bundles))
        outcome = run_command("bundles", "--type", "x509", "--socket", api.endpoint)
        assert "left out: " in outcome.out
        assert 0 == outcome.code


class TestDocument:
    def test_it_is_what_trust_domains_exchange(self, domain: DevTrustDomain) -> None:
        """Trust Domain and Bundle §4."""
        outcome = run_command(
            "bundles", "--document", "--trust-domain", "dev.example", "--socket", domain.endpoint
        )
        document = SpiffeBundle.parse(DEV, outcome.out.encode())
        assert (domain.ca.x509_bundle, domain.ca.jwt_bundle) == (document.x509_bundle, document.jwt_bundle)


class TestWatch:
    def test_every_change_until_ctrl_c(self, world, domain: DevTrustDomain) -> None:
        """A new authority shows up as soon as it is published."""
        counts: list[int] = []

        def react(line: str) -> None:
            counts.append(len(json.loads(line)["bundles"][0]["x509_authorities"]))
            if len(counts) == 1:
                world.call(domain.ca.prepare_x509_authority)
            if counts[-1] == 2:
                press_ctrl_c()

        outcome = run_command(
            "bundles", "--watch", "--type", "x509", "--json", "--socket", domain.endpoint, react=react
        )
        assert (130, 1, 2) == (outcome.code, counts[0], counts[-1])

    def test_a_federation_that_ends(
        self, world, domain: DevTrustDomain, partner: CertificateAuthority
    ) -> None:
        """Who watches one trust domain sees it go, and the watch goes on."""
        seen: list[list[str]] = []

        def react(line: str) -> None:
            record = json.loads(line)
            if "event" in record:
                return
            seen.append([b["trust_domain"] for b in record["bundles"]])
            if len(seen) == 1:
                world.call(domain.unfederate, partner.trust_domain)
            if not seen[-1]:
                press_ctrl_c()

        words = ["bundles", "--watch", "--type", "jwt", "--trust-domain", "partner.example", "--json"]
        outcome = run_command(*words, "--socket", domain.endpoint, react=react)
        assert (130, ["partner.example"], []) == (outcome.code, seen[0], seen[-1])

    def test_bundles_that_are_taken_away(self, world, api: ScriptedWorkloadApi) -> None:
        """After a denial nothing is trusted any more (Workload API §4.4), which the watch shows."""
        ca = CertificateAuthority(DEV)
        feed = world.call(lambda: Feed(X509BundlesResponse(bundles={str(DEV.id): ca.x509_bundle.to_der()})))
        api.script("FetchX509Bundles", feed)
        api.script("FetchX509Bundles", Fail(Status.PERMISSION_DENIED, "no identity issued"))
        api.script("FetchJWTBundles", JwtBundlesResponse(bundles={str(DEV.id): ca.jwt_bundle.to_jwks()}))
        seen: list[str] = []

        def react(line: str) -> None:
            record = json.loads(line)
            seen.append(record.get("event") or " ".join(b["trust_domain"] for b in record["bundles"]))
            if seen == ["dev.example"]:
                world.call(feed.push, Fail(Status.PERMISSION_DENIED, "no identity issued"))
            if seen[-1] == "":
                press_ctrl_c()

        words = ["bundles", "--watch", "--type", "x509", "--json", "--socket", api.endpoint]
        outcome = run_command(*words, react=react)
        assert 130 == outcome.code
        assert "bundle.withdrawn" in seen

    def test_for_people_each_with_the_time(self, domain: DevTrustDomain) -> None:
        """Plain blocks, when they came."""
        outcome = run_command(
            "bundles", "--watch", "--socket", domain.endpoint,
            react=lambda line: press_ctrl_c() if line == "dev.example" else None,
        )  # fmt: skip
        assert outcome.out.splitlines()[0].endswith("Z")
