"""Tokens bound to a key or a certificate: proofs, nonces, and what a thief can do with them: nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client import allow
from spiffe_client.bundle import BundleSet
from spiffe_client.dev import CertificateAuthority, DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.tls import client_context
from spiffe_client.workload_api import X509Context
from tests.dev.conftest import AGENT, ORDERS
from tests.support.manual_clock import ManualClock
from tests.support.oauth_client import OAuthClient, ProofKey, b64, claims_of, client_tls

pytestmark = pytest.mark.anyio

KEY = ProofKey()


def refused(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]


class TestDpop:
    async def test_token_is_bound_to_the_key(self, agent: OAuthClient) -> None:
        """RFC 9449 §5, §6.1: the type says so, and the claim."""
        reply = await agent.credentials("orders:read", audience=ORDERS, headers=agent.proven(KEY))
        token = reply.json()["access_token"]

        assert "DPoP" == reply.json()["token_type"]
        assert {"jkt": KEY.jkt} == claims_of(token)["cnf"]
        assert "DPoP" == (await agent.introspect(token))["token_type"]

    @pytest.mark.parametrize(
        "claims",
        [
            {"htm": "GET"},
            {"htu": "https://elsewhere.example/token"},
            {"htu": "http://[x"},
            {"htu": None},
            {"htm": None},
            {"jti": None},
            {"jti": "\ud800"},  # half of a pair: JSON, and no text
            {"nonce": "\ud800"},
            {"htm": "POST", "more": ["\udfff"]},
            {"iat": None},
            {"iat": int(time.time()) - 7200},
            {"iat": int(time.time()) + 86400},  # worked out long before it is used
            {"header": {"typ": "JWT"}},
            {"header": {"jwk": "x"}},
            {"header": {"jwk": {"kty": "oct", "k": "eA"}}},
            {"header": {"jwk": {"kty": "EC"}}},
            {"header": {"jwk": {"kty": "OKP", "crv": "X"}}},
            {"header": {"jwk": {**KEY.jwk, "d": "eA"}}},
            {"header": {"jwk": ProofKey().jwk}},
        ],
    )
    async def test_each_part_of_a_proof_counts(self, agent: OAuthClient, claims: dict[str, object]) -> None:
        """RFC 9449 §4.3."""
        reply = await agent.credentials(audience=ORDERS, headers=agent.proven(KEY, **claims))
        assert (400, "invalid_dpop_proof") == refused(reply)

    async def test_proof_is_good_once(self, agent: OAuthClient) -> None:
        """Who overhears one cannot use it again (RFC 9449 §11.1)."""
        headers = agent.proven(KEY)
        replies = [await agent.credentials(audience=ORDERS, headers=headers) for _ in range(2)]
        assert [200, 400] == [r.status_code for r in replies]

    async def test_two_proofs_are_refused(self, agent: OAuthClient) -> None:
        """RFC 9449 §4.3 item 1."""
        headers = [("DPoP", agent.proven(KEY)["DPoP"]), ("DPoP", agent.proven(KEY)["DPoP"])]
        assert (400, "invalid_dpop_proof") == refused(
            await agent.credentials(audience=ORDERS, headers=headers)
        )

    async def test_query_case_and_default_port_do_not_matter(self, agent: OAuthClient) -> None:
        """RFC 9449 §4.3: compared after normalisation, without query and fragment."""
        url = f"{agent.broker.issuer}/token".replace("http://", "HTTP://") + "?a=b#c"
        reply = await agent.credentials(audience=ORDERS, headers={"DPoP": KEY.proof("POST", url)})
        assert 200 == reply.status_code

    @pytest.mark.parametrize(
        ("key", "alg"),
        [
            (rsa.generate_private_key(65537, 2048), "RS256"),
            (rsa.generate_private_key(65537, 2048), "PS384"),
            (ec.generate_private_key(ec.SECP384R1()), "ES384"),
            (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        ],
    )
    async def test_other_algorithms(self, agent: OAuthClient, key: object, alg: str) -> None:
        """Those the metadata names (RFC 9449 §5.1); the thumbprint is that of RFC 7638."""
        algorithm = jwt.get_algorithm_by_name(alg)
        jwk = json.loads(algorithm.to_jwk(key.public_key()))
        jwk = {n: jwk[n] for n in ("kty", "crv", "x", "y", "n", "e") if n in jwk}
        url = f"{agent.broker.issuer}/token"
        claims = {"htm": "POST", "htu": url, "iat": int(time.time()), "jti": alg}
        proof = jwt.encode(claims, key, alg, headers={"typ": "dpop+jwt", "jwk": jwk})
        reply = await agent.credentials(audience=ORDERS, headers={"DPoP": proof})
        cnf = claims_of(reply.json()["access_token"])["cnf"]
        canonical = json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()
        assert {"jkt": b64(hashlib.sha256(canonical).digest())} == cnf

        # Another key's algorithm, and a signature that is cut short.
        for broken in (proof[:-8], proof.rsplit(".", 1)[0] + "." + b64(b"x" * 70)):
            reply = await agent.credentials(audience=ORDERS, headers={"DPoP": broken})
            assert (400, "invalid_dpop_proof") == refused(reply)

    @pytest.mark.parametrize("alg", ["ES384", "RS256", "EdDSA", "none"])
    async def test_algorithm_must_fit_the_key(self, agent: OAuthClient, alg: str) -> None:
        """The header is the sender's word; the key decides (RFC 8725 §3.1)."""
        proof = agent.proven(KEY)["DPoP"].split(".")
        header = {"typ": "dpop+jwt", "alg": alg, "jwk": KEY.jwk}
        proof[0] = b64(json.dumps(header).encode())
        reply = await agent.credentials(audience=ORDERS, headers={"DPoP": ".".join(proof)})
        assert (400, "invalid_dpop_proof") == refused(reply)

    async def test_bound_token_is_exchanged_by_its_holder(self, agent: OAuthClient) -> None:
        """One proof for both, over the token that is exchanged (`ath`)."""
        parent = (await agent.credentials(audience=ORDERS, headers=agent.proven(KEY))).json()["access_token"]
        reply = await agent.exchange(parent, headers=agent.proven(KEY, token=parent))
        assert ("DPoP", {"jkt": KEY.jkt}) == (
            reply.json()["token_type"],
            claims_of(reply.json()["access_token"])["cnf"],
        )

    async def test_thief_cannot_exchange_a_bound_token(self, agent: OAuthClient) -> None:
        """Not without a proof, not with another key, not with a proof that is for something else."""
        parent = (await agent.credentials(audience=ORDERS, headers=agent.proven(KEY))).json()["access_token"]
        replies = [
            await agent.exchange(parent),
            await agent.exchange(parent, headers=agent.proven(ProofKey(), token=parent)),
            await agent.exchange(parent, headers=agent.proven(KEY)),
            await agent.exchange(parent, headers=agent.proven(KEY, token="other")),
        ]
        assert [400] * 4 == [r.status_code for r in replies]
        assert ["invalid_request"] * 2 + ["invalid_dpop_proof"] * 2 == [r.json()["error"] for r in replies]


class TestNonces:
    async def test_are_demanded(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """RFC 9449 §8: 400 with the nonce to use; successes carry one, too (§8.2)."""
        async with DevTokenBroker(domain, rules=[Client.of(AGENT)], dpop_nonces="always") as broker:
            agent = OAuthClient(broker, http, AGENT)
            first = await agent.credentials(headers=agent.proven(KEY))
            nonce = first.headers["dpop-nonce"]
            second = await agent.credentials(headers=agent.proven(KEY, nonce=nonce))
            broker.forget_nonces()
            third = await agent.credentials(headers=agent.proven(KEY, nonce=nonce))
            wrong = await agent.credentials(headers=agent.proven(KEY, nonce=7))
            bearer = await agent.credentials()

        assert [(400, "use_dpop_nonce")] * 3 == [refused(r) for r in (first, third, wrong)]
        assert (200, nonce) == (second.status_code, second.headers["dpop-nonce"])
        assert nonce != third.headers["dpop-nonce"]
        assert (200, "Bearer") == (bearer.status_code, bearer.json()["token_type"])

    async def test_are_optional(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """Offered, and checked if they come back."""
        async with DevTokenBroker(domain, rules=[Client.of(AGENT)], dpop_nonces="optional") as broker:
            agent = OAuthClient(broker, http, AGENT)
            without = await agent.credentials(headers=agent.proven(KEY))
            wrong = await agent.credentials(headers=agent.proven(KEY, nonce="x"))
        assert (200, True) == (without.status_code, "dpop-nonce" in without.headers)
        assert (400, "use_dpop_nonce") == refused(wrong)

    async def test_heal_a_wrong_clock(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """A nonce shows freshness whatever the client's clock says (RFC 9449 §11.1)."""
        async with DevTokenBroker(domain, rules=[Client.of(AGENT)], dpop_nonces="always") as broker:
            agent = OAuthClient(broker, http, AGENT)
            nonce = (await agent.credentials(headers=agent.proven(KEY))).headers["dpop-nonce"]
            reply = await agent.credentials(headers=agent.proven(KEY, nonce=nonce, iat=1000))
        assert 200 == reply.status_code

    async def test_grow_old(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """A nonce is good for one to two minutes, and what was seen is forgotten after it."""
        clock = ManualClock()
        clock.skew = domain._clock.now() - clock.now()
        async with DevTokenBroker(
            domain, rules=[Client.of(AGENT)], dpop_nonces="always", clock=clock
        ) as broker:
            agent = OAuthClient(broker, http, AGENT)
            nonce = (await agent.credentials(headers=agent.proven(KEY))).headers["dpop-nonce"]
            replies = []
            for _ in range(3):
                proof = agent.proven(KEY, nonce=nonce)
                replies.append(await agent.credentials(headers=proof))
                clock.skew += timedelta(seconds=60)
                agent.svid = lambda *a, **k: domain.ca.issue_jwt_svid(AGENT, broker.issuer, ttl=3600)
            clock.skew += timedelta(seconds=400)
            later = await agent.credentials(
                headers=agent.proven(KEY, nonce=replies[-1].headers["dpop-nonce"])
            )
        assert [200, 200, 400] == [r.status_code for r in replies]
        assert "use_dpop_nonce" == later.json()["error"]


class TestRules:
    @pytest.mark.parametrize(
        ("binding", "proof", "status", "kind"),
        [
            ("dpop", True, 200, "DPoP"),
            ("dpop", False, 400, None),
            ("mtls", False, 400, None),
            ("bearer", True, 200, "DPoP"),
            ("bearer", False, 200, "Bearer"),
        ],
    )
    async def test_binding_is_what_the_rule_says(
        self,
        domain: DevTrustDomain,
        http: httpx.AsyncClient,
        binding: str,
        proof: bool,
        status: int,
        kind: str,
    ) -> None:
        """RFC 9449 §5.2 `dpop_bound_access_tokens`, RFC 8705 §3.4."""
        async with DevTokenBroker(domain, rules=[Client.of(AGENT, binding=binding)]) as broker:
            agent = OAuthClient(broker, http, AGENT)
            reply = await agent.credentials(headers=agent.proven(KEY) if proof else None)
        assert (status, kind) == (reply.status_code, reply.json().get("token_type"))

    async def test_broker_without_dpop_ignores_proofs(
        self, domain: DevTrustDomain, http: httpx.AsyncClient
    ) -> None:
        """As one that has never heard of it: the client has to notice by itself (RFC 9449 §5)."""
        async with DevTokenBroker(domain, rules=[Client.of(AGENT)], without={"dpop"}) as broker:
            agent = OAuthClient(broker, http, AGENT)
            reply = await agent.credentials(headers=agent.proven(KEY))
            url = f"{broker.issuer}/.well-known/oauth-authorization-server"
            document = (await http.get(url)).json()
        assert "Bearer" == reply.json()["token_type"]
        assert "dpop_signing_alg_values_supported" not in document


@pytest.fixture
def svid(domain: DevTrustDomain):
    return domain.ca.issue_x509_svid(AGENT)


async def by_certificate(context: ssl.SSLContext, url: str, **form: object) -> httpx.Response:
    data = {"grant_type": "client_credentials", "client_id": AGENT, **form}
    async with httpx.AsyncClient(verify=context, trust_env=False) as http:
        return await http.post(f"{url}/token", data=data)


class TestMutualTls:
    async def test_x509_svid_authenticates_and_binds(
        self, broker: DevTokenBroker, svid, agent: OAuthClient
    ) -> None:
        """RFC 8705 §2, §3 at the alias of the metadata, whose server is of the web PKI."""
        document = (await agent.http.get(f"{broker.issuer}/.well-known/oauth-authorization-server")).json()
        alias = document["mtls_endpoint_aliases"]["token_endpoint"].removesuffix("/token")
        with client_tls(broker.web_roots, svid) as context:
            reply = await by_certificate(context, alias, audience=ORDERS)
        token = reply.json()["access_token"]

        print = b64(hashlib.sha256(svid.leaf.public_bytes(Encoding.DER)).digest())
        assert alias == broker.url_at("web")
        assert ("Bearer", {"x5t#S256": print}) == (reply.json()["token_type"], claims_of(token)["cnf"])
        assert {"x5t#S256": print} == (await agent.introspect(token))["cnf"]

    async def test_bound_token_is_exchanged_over_its_certificate_only(
        self, broker: DevTokenBroker, domain: DevTrustDomain, svid, agent: OAuthClient
    ) -> None:
        """RFC 8705 §3: another certificate of the same workload is another one."""
        url = broker.url_at("web")
        form = {"audience": ORDERS, **agent.authentication()}
        with client_tls(broker.web_roots, svid) as context:
            parent = (await by_certificate(context, url, **form)).json()["access_token"]
        exchange = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": parent,
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }
        statuses = []
        for shown in (svid, domain.ca.issue_x509_svid(AGENT), None):
            with client_tls(broker.web_roots, shown) as context:
                reply = await by_certificate(context, url, **{**exchange, **agent.authentication()})
            statuses.append(reply.status_code)
        assert [200, 400, 400] == statuses

    async def test_who_shows_no_certificate_is_nobody(self, broker: DevTokenBroker) -> None:
        """The port asks for one and takes connections without."""
        with client_tls(broker.web_roots) as context:
            reply = await by_certificate(context, broker.url_at("web"))
        assert (401, "invalid_client") == refused(reply)

    async def test_certificate_of_another_workload_is_refused(
        self, broker: DevTokenBroker, domain: DevTrustDomain
    ) -> None:
        """RFC 8705 §2.1.2: its URI SAN is the client's."""
        with client_tls(broker.web_roots, domain.ca.issue_x509_svid("spiffe://dev.example/thief")) as context:
            reply = await by_certificate(context, broker.url_at("web"))
        assert (401, "invalid_client") == refused(reply)

    def handshake_fails(self, context: ssl.SSLContext, url: str) -> None:
        host, port = url.removeprefix("https://").split(":")
        answer = b""
        with socket.create_connection((host, int(port)), timeout=10) as raw, contextlib.suppress(OSError):
            with context.wrap_socket(raw, server_hostname=host) as connection:
                # TLS 1.3: what is wrong with a client it hears after its part of the handshake.
                connection.sendall(b"GET /jwks HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = connection.recv(1)
        assert b"" == answer

    async def test_certificate_of_another_authority_ends_the_handshake(self, broker: DevTokenBroker) -> None:
        """Also one with the same name (X509-SVID §5.2)."""
        forged = CertificateAuthority("dev.example").issue_x509_svid(AGENT)
        with client_tls(broker.web_roots, forged) as context:
            self.handshake_fails(context, broker.url_at("web"))

    async def test_federated_authority_vouches_for_nobody_here(
        self, broker: DevTokenBroker, domain: DevTrustDomain
    ) -> None:
        """A partner's authority must not make identities of this trust domain (Workload API §4)."""
        partner = CertificateAuthority("partner.example")
        domain.federate_with(partner)
        forged = partner.forge_x509_svid(AGENT)
        with client_tls(broker.web_roots, forged) as context:
            self.handshake_fails(context, broker.url_at("web"))

    async def test_new_authority_is_trusted_at_once(
        self, broker: DevTokenBroker, domain: DevTrustDomain
    ) -> None:
        """The next connection sees the bundle of that moment."""
        with client_tls(broker.web_roots, domain.ca.issue_x509_svid(AGENT)) as context:
            assert 200 == (await by_certificate(context, broker.url_at("web"), audience=ORDERS)).status_code
        domain.ca.rotate_x509_authority()
        domain.ca.retire_old_authorities()
        with client_tls(broker.web_roots, domain.ca.issue_x509_svid(AGENT)) as context:
            assert 200 == (await by_certificate(context, broker.url_at("web"), audience=ORDERS)).status_code

    async def test_workload_below_no_path_is_refused(
        self, broker: DevTokenBroker, domain: DevTrustDomain
    ) -> None:
        """A certificate of the authority that is no X509-SVID of a workload (X509-SVID §2)."""
        ca = domain.ca._x509.active
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")]))
            .issuer_name(ca.issuer.subject)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(minutes=1))
            .sign(ca.key, hashes.SHA256())
        )

        class Odd:
            private_key = key
            chain = (leaf, *ca.chain)

        with client_tls(broker.web_roots, Odd()) as context:
            reply = await by_certificate(context, broker.url_at("web"))
        assert (401, "invalid_client") == refused(reply)

    async def test_between_spiffe_identities(
        self, broker: DevTokenBroker, domain: DevTrustDomain, svid
    ) -> None:
        """The port where the server is verified by its SPIFFE ID, too; it is `…/token-broker`."""
        bundles = BundleSet([domain.ca.x509_bundle])
        context = client_context(
            X509Context((svid,), bundles, svid), allow("spiffe://dev.example/token-broker")
        )
        for _ in range(2):
            reply = await by_certificate(context, broker.url_at("spiffe"), audience=ORDERS)
            assert ["x5t#S256"] == list(claims_of(reply.json()["access_token"])["cnf"])

    async def test_federated_workload_comes_to_the_spiffe_port(
        self, domain: DevTrustDomain, http: httpx.AsyncClient
    ) -> None:
        """Verified by its own trust domain's bundle."""
        partner = CertificateAuthority("partner.example")
        domain.federate_with(partner)
        them = "spiffe://partner.example/job"
        svid = partner.issue_x509_svid(them)
        bundles = BundleSet([domain.ca.x509_bundle])
        context = client_context(
            X509Context((svid,), bundles, svid), allow("spiffe://dev.example/token-broker")
        )
        async with DevTokenBroker(domain, rules=[Client.of(them)]) as broker:
            reply = await by_certificate(context, broker.url_at("spiffe"), client_id=them)
        assert 200 == reply.status_code

    async def test_broker_without_mtls_sees_no_certificate(
        self, domain: DevTrustDomain, svid, http: httpx.AsyncClient
    ) -> None:
        """As one that has never heard of it."""
        async with DevTokenBroker(domain, rules=[Client.of(AGENT)], without={"mtls"}) as broker:
            with client_tls(broker.web_roots, svid) as context:
                reply = await by_certificate(context, broker.url_at("web"))
            document = (await http.get(f"{broker.issuer}/.well-known/oauth-authorization-server")).json()
        assert (401, "invalid_client") == refused(reply)
        assert "mtls_endpoint_aliases" not in document
        assert "tls_client_auth" not in document["token_endpoint_auth_methods_supported"]

    @pytest.mark.parametrize("port", ["web", "spiffe"])
    async def test_issuer_can_be_at_another_port(self, domain: DevTrustDomain, svid, port: str) -> None:
        """An https issuer, and aliases that are where it is said."""
        async with DevTokenBroker(
            domain, rules=[Client.of(AGENT)], issuer_at=port, aliases_at="spiffe"
        ) as broker:
            assert broker.url_at(port) == broker.issuer
            if port == "web":
                with client_tls(broker.web_roots, svid) as context:
                    reply = await by_certificate(context, broker.issuer)
            else:
                bundles = BundleSet([domain.ca.x509_bundle])
                peer = allow("spiffe://dev.example/token-broker")
                reply = await by_certificate(
                    client_context(X509Context((svid,), bundles, svid), peer), broker.issuer
                )
        assert (200, broker.issuer) == (reply.status_code, claims_of(reply.json()["access_token"])["iss"])
