"""Which client is asking: every way to prove it, and what is not believed."""

from __future__ import annotations

import base64
import time
from urllib.parse import urlencode

import httpx
import jwt
import pytest

from spiffe_client.dev import CertificateAuthority, DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client, Rules
from spiffe_client.dev.token_broker._jwt import Jwt, NotAcceptableError
from tests.support.oauth_client import BEARER, SPIFFE, OAuthClient, ProofKey

pytestmark = pytest.mark.anyio

AGENT = "spiffe://dev.example/agent"
KEY = ProofKey()


@pytest.fixture
def rules() -> list[Client]:
    return [
        Client.of(AGENT, scopes="orders:read"),
        Client.of("by-svid", spiffe_id=AGENT, scopes="orders:read"),
        Client.of("by-secret %", secret="s3cr3t: ä", scopes="orders:read"),
        Client.of("by-key", jwk=KEY.jwk, scopes="orders:read"),
        Client.of("anybody", public=True, scopes="orders:read"),
        Client.of("spiffe://dev.example/jobs/*", scopes="jobs"),
        Client.of("spiffe://dev.example/jobs/special/*", scopes="special"),
    ]


async def ask(agent: OAuthClient, form: dict[str, object], **options: object) -> httpx.Response:
    said = {"grant_type": "client_credentials", **form}
    return await agent.post("token", said, authenticated=False, **options)


def refused(reply: httpx.Response) -> tuple[int, str]:
    assert "application/json" == reply.headers["content-type"]
    assert "no-store" == reply.headers["cache-control"]
    return reply.status_code, reply.json()["error"]


class TestJwtSvid:
    async def test_own_svid_authenticates(self, agent: OAuthClient) -> None:
        """draft-ietf-oauth-spiffe-client-auth §3.1."""
        reply = await agent.credentials()

        assert 200 == reply.status_code
        assert "Bearer" == reply.json()["token_type"]

    async def test_svid_stands_for_the_client_it_is_registered_for(self, agent: OAuthClient) -> None:
        """A client may have a name of its own; its tokens are about the workload."""
        form = {"client_id": "by-svid", "client_assertion_type": SPIFFE, "client_assertion": agent.svid()}
        reply = await ask(agent, form)

        said = jwt.decode(reply.json()["access_token"], options={"verify_signature": False})
        assert ("by-svid", AGENT) == (said["client_id"], said["sub"])

    async def test_client_id_is_required(self, agent: OAuthClient) -> None:
        """The draft of the working group: a request without it must be rejected."""
        form = {"client_assertion_type": SPIFFE, "client_assertion": agent.svid()}
        assert (400, "invalid_request") == refused(await ask(agent, form))

    @pytest.mark.parametrize(
        "audience", [["https://other.example"], ["ISSUER", "https://other.example"], ["ISSUER/token"]]
    )
    async def test_assertion_for_others_too_is_refused(self, agent: OAuthClient, audience: list[str]) -> None:
        """Whoever else it is for could authenticate here with it (draft-ietf-oauth-rfc7523bis §4)."""
        meant = [a.replace("ISSUER", agent.broker.issuer) for a in audience]
        form = {"client_id": AGENT, "client_assertion_type": SPIFFE, "client_assertion": agent.svid(meant)}
        assert (401, "invalid_client") == refused(await ask(agent, form))

    async def test_somebody_elses_svid_is_refused(self, agent: OAuthClient) -> None:
        """One workload does not become another by naming it."""
        theirs = agent.broker.domain.ca.issue_jwt_svid("spiffe://dev.example/thief", agent.broker.issuer)
        form = {"client_id": AGENT, "client_assertion_type": SPIFFE, "client_assertion": theirs}
        assert (401, "invalid_client") == refused(await ask(agent, form))

    async def test_svid_of_an_unknown_authority_is_refused(self, agent: OAuthClient) -> None:
        """Anybody can set up an authority with this trust domain's name (JWT-SVID §4)."""
        forged = CertificateAuthority("dev.example").issue_jwt_svid(AGENT, agent.broker.issuer)
        form = {"client_id": AGENT, "client_assertion_type": SPIFFE, "client_assertion": forged}
        assert (401, "invalid_client") == refused(await ask(agent, form))

    async def test_svid_of_a_trust_domain_without_bundle_is_refused(self, agent: OAuthClient) -> None:
        """Nothing of a trust domain can be believed that nobody federated with."""
        other = CertificateAuthority("other.example").issue_jwt_svid(
            "spiffe://other.example/x", agent.broker.issuer
        )
        form = {"client_id": AGENT, "client_assertion_type": SPIFFE, "client_assertion": other}
        assert (401, "invalid_client") == refused(await ask(agent, form))

    async def test_federated_workload_is_a_client(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """A JWT-SVID verifies by the bundle of its own trust domain (JWT-SVID §4)."""
        partner = CertificateAuthority("partner.example")
        them = "spiffe://partner.example/job"
        async with DevTokenBroker(domain, rules=[Client.of(them, scopes="orders:read")]) as broker:
            domain.federate_with(partner)
            form = {
                "grant_type": "client_credentials",
                "client_id": them,
                "client_assertion_type": SPIFFE,
                "client_assertion": partner.issue_jwt_svid(them, broker.issuer),
            }
            reply = await http.post(f"{broker.issuer}/token", data=form)
        assert 200 == reply.status_code

    async def test_expired_svid_is_refused(self, agent: OAuthClient) -> None:
        """JWT-SVID §3.3, with a few seconds for clocks that differ."""
        form = {
            "client_id": AGENT,
            "client_assertion_type": SPIFFE,
            "client_assertion": agent.svid(ttl=-30.0),
        }
        assert (401, "invalid_client") == refused(await ask(agent, form))

    @pytest.mark.parametrize("assertion", ["", "a.b", "a.b.c", "e30.e30.", "e30.W10.AA", "x" * 70_000])
    async def test_malformed_assertion_is_refused(self, agent: OAuthClient, assertion: str) -> None:
        """Nothing that is not a signed JSON object is looked at."""
        form = {"client_id": AGENT, "client_assertion_type": SPIFFE, "client_assertion": assertion}
        assert (401, "invalid_client") == refused(await ask(agent, form))

    async def test_unsigned_assertion_is_refused(self, agent: OAuthClient) -> None:
        """`alg: none` and symmetric keys are not algorithms here (RFC 8725 §3.1)."""
        claims = jwt.decode(agent.svid(), options={"verify_signature": False})
        for token in (jwt.encode(claims, None, "none"), jwt.encode(claims, "k" * 32, "HS256")):
            form = {"client_id": AGENT, "client_assertion_type": SPIFFE, "client_assertion": token}
            assert (401, "invalid_client") == refused(await ask(agent, form))

    @pytest.mark.parametrize("header", [{"crit": ["x"], "x": 1}, {"typ": "at+jwt"}])
    async def test_other_kinds_of_token_are_refused(self, agent: OAuthClient, header: dict[str, object]) -> None:
        """Another type, or an extension that nobody understands (RFC 7515 §4.1.11, RFC 8725 §3.11)."""
        claims = jwt.decode(agent.svid(), options={"verify_signature": False})
        ca = agent.broker.domain.ca
        token = jwt.encode(claims, ca._jwt.active.key, "ES256", headers={"kid": ca._jwt.active.key_id, **header})
        form = {"client_id": AGENT, "client_assertion_type": SPIFFE, "client_assertion": token}
        assert (401, "invalid_client") == refused(await ask(agent, form))

    async def test_trust_domain_is_no_subject(self, agent: OAuthClient) -> None:
        """Its ID names an authority (JWT-SVID §3.1), wherever a JWT-SVID is shown."""
        said = {"sub": "spiffe://dev.example", "aud": agent.broker.issuer, "exp": int(time.time()) + 60}
        token = agent.broker.domain.ca._jwt.active.sign(said, typ="JWT")
        with pytest.raises(NotAcceptableError, match="names a trust domain"):
            agent.broker._server.trust.jwt_svid(Jwt.parse(token), agent.broker.issuer, sole=True)

    @pytest.mark.parametrize("subject", ["x", "spiffe://dev.example", 7, ""])
    async def test_subject_must_be_a_workload(self, agent: OAuthClient, subject: object) -> None:
        """JWT-SVID §3.1."""
        ca = agent.broker.domain.ca
        claims = {"sub": subject, "aud": agent.broker.issuer, "exp": int(time.time()) + 60}
        token = ca._jwt.active.sign(claims, typ="JWT")
        form = {"client_id": AGENT, "client_assertion_type": SPIFFE, "client_assertion": token}
        assert (401, "invalid_client") == refused(await ask(agent, form))

    @pytest.mark.parametrize(
        "claims",
        [{"exp": None}, {"exp": "soon"}, {"exp": True}, {"nbf": 4e9}, {"iat": 4e9}, {"aud": {}}, {"aud": [1]}],
    )
    async def test_claims_of_the_wrong_kind_are_refused(
        self, agent: OAuthClient, claims: dict[str, object]
    ) -> None:
        """Times are numbers, an audience is text (RFC 7519 §4.1)."""
        said = {"sub": AGENT, "aud": agent.broker.issuer, "exp": int(time.time()) + 60, **claims}
        said = {k: v for k, v in said.items() if v is not None}
        token = agent.broker.domain.ca._jwt.active.sign(said, typ="JWT")
        form = {"client_id": AGENT, "client_assertion_type": SPIFFE, "client_assertion": token}
        assert (401, "invalid_client") == refused(await ask(agent, form))

    async def test_pattern_lets_all_below_in_with_the_longest_rule(
        self, broker: DevTokenBroker, http: httpx.AsyncClient
    ) -> None:
        """`…/jobs/*` is every workload below, and no prefix of a name."""
        scopes = []
        for path in ("/jobs/1", "/jobs/special/2"):
            job = OAuthClient(broker, http, f"spiffe://dev.example{path}")
            scopes.append((await job.credentials()).json()["scope"])
        assert ["jobs", "special"] == scopes
        for path in ("/jobs", "/jobsx/1"):
            reply = await OAuthClient(broker, http, f"spiffe://dev.example{path}").credentials()
            assert (401, "invalid_client") == refused(reply)

    async def test_pattern_matches_no_text_that_is_no_spiffe_id(
        self, broker: DevTokenBroker, agent: OAuthClient
    ) -> None:
        """Dots that climb out of a prefix make no SPIFFE ID (SPIFFE-ID §2.2)."""
        form = {"client_id": "spiffe://dev.example/jobs/../x", "client_assertion_type": SPIFFE}
        assert (401, "invalid_client") == refused(await ask(agent, {**form, "client_assertion": agent.svid()}))


class TestPrivateKey:
    async def test_own_key_authenticates(self, agent: OAuthClient) -> None:
        """RFC 7523 §2.2."""
        reply = await ask(agent, self.form(agent))
        assert 200 == reply.status_code

    def form(self, agent: OAuthClient, key: ProofKey = KEY, **claims: object) -> dict[str, str]:
        return {
            "client_id": "by-key",
            "client_assertion_type": BEARER,
            "client_assertion": key.assertion("by-key", agent.broker.issuer, **claims),
        }

    async def test_assertion_is_good_once(self, agent: OAuthClient) -> None:
        """Who overhears one cannot use it again (RFC 7523 §3 item 7)."""
        form = self.form(agent)
        replies = [await ask(agent, form) for _ in range(2)]
        assert [200, 401] == [r.status_code for r in replies]

    @pytest.mark.parametrize(
        "claims",
        [
            {"jti": None},
            {"exp": None},
            {"exp": 1},
            {"exp": 4_000_000_000},
            {"iss": "somebody"},
            {"sub": "somebody"},
            {"aud": "https://other.example"},
        ],
    )
    async def test_each_claim_counts(self, agent: OAuthClient, claims: dict[str, object]) -> None:
        """RFC 7523 §3; the lifetime is limited because its `jti` must be remembered as long."""
        assert (401, "invalid_client") == refused(await ask(agent, self.form(agent, **claims)))

    async def test_another_key_is_refused(self, agent: OAuthClient) -> None:
        """The key is the client's whole proof."""
        assert (401, "invalid_client") == refused(await ask(agent, self.form(agent, ProofKey())))

    async def test_unknown_kind_of_assertion_is_refused(self, agent: OAuthClient) -> None:
        """Whatever says what it is (RFC 7521 §4.2)."""
        form = {**self.form(agent), "client_assertion_type": "urn:x"}
        assert (401, "invalid_client") == refused(await ask(agent, form))


class TestSecret:
    async def test_secret_in_the_header(self, agent: OAuthClient) -> None:
        """Both parts are form-encoded before they are joined (RFC 6749 §2.3.1)."""
        auth = ("by-secret+%25", "s3cr3t%3A+%C3%A4")
        assert 200 == (await ask(agent, {}, auth=auth)).status_code
        assert 200 == (await ask(agent, {"client_id": "by-secret %"}, auth=auth)).status_code

    async def test_secret_in_the_form(self, agent: OAuthClient) -> None:
        """RFC 6749 §2.3.1."""
        form = {"client_id": "by-secret %", "client_secret": "s3cr3t: ä"}
        assert 200 == (await ask(agent, form)).status_code

    async def test_wrong_secret_is_refused(self, agent: OAuthClient) -> None:
        """RFC 6749 §5.2: with `WWW-Authenticate` where the client used the header, only there."""
        reply = await ask(agent, {}, auth=("by-secret+%25", "guess"))
        assert (401, "invalid_client") == refused(reply)
        assert f'Basic realm="{agent.broker.issuer}"' == reply.headers["www-authenticate"]

        reply = await ask(agent, {"client_id": "by-secret %", "client_secret": "guess"})
        assert (401, "invalid_client") == refused(reply)
        assert "www-authenticate" not in reply.headers

    async def test_client_without_secret_has_no_empty_one(self, agent: OAuthClient) -> None:
        """No secret is not the empty secret."""
        reply = await ask(agent, {}, auth=("by-key", ""))
        assert (401, "invalid_client") == refused(reply)

    @pytest.mark.parametrize("value", ["Basic", "Basic !", "Basic eA==", "Bearer eDp5", "Basic /w=="])
    async def test_malformed_header_is_refused(self, agent: OAuthClient, value: str) -> None:
        """RFC 7617 §2."""
        assert (401, "invalid_client") == refused(await ask(agent, {}, headers={"Authorization": value}))

    async def test_right_secret_under_another_scheme_is_refused(self, agent: OAuthClient) -> None:
        """Whoever reads it as a token would keep it as one."""
        value = base64.b64encode(b"by-secret+%25:s3cr3t%3A+%C3%A4").decode()
        replies = [await ask(agent, {}, headers={"Authorization": f"{s} {value}"}) for s in ("basic", "Bearer")]
        assert [200, 401] == [r.status_code for r in replies]

    async def test_two_client_ids_are_refused(self, agent: OAuthClient) -> None:
        """Which of the two would it be?"""
        reply = await ask(agent, {"client_id": "by-key"}, auth=("by-secret+%25", "s3cr3t%3A+%C3%A4"))
        assert (401, "invalid_client") == refused(reply)

    async def test_two_methods_are_refused(self, agent: OAuthClient) -> None:
        """RFC 6749 §2.3: never more than one."""
        form = {"client_id": "by-key", "client_secret": "x", "client_assertion": "y"}
        assert (400, "invalid_request") == refused(await ask(agent, form))

    async def test_two_authorization_headers_are_refused(self, agent: OAuthClient) -> None:
        """Which of them would a proxy have looked at?"""
        headers = [("Authorization", "Basic eDp5"), ("Authorization", "Basic eDp5")]
        assert (400, "invalid_request") == refused(await ask(agent, {}, headers=headers))


class TestNone:
    async def test_public_client_gets_nothing_for_itself(self, agent: OAuthClient) -> None:
        """RFC 6749 §4.4: client credentials are for confidential clients."""
        assert (400, "unauthorized_client") == refused(await ask(agent, {"client_id": "anybody"}))

    async def test_public_client_cannot_introspect(self, agent: OAuthClient) -> None:
        """RFC 7662 §2.1: or tokens could be guessed."""
        form = {"client_id": "anybody", "token": "x"}
        reply = await agent.post("introspection", form, authenticated=False)
        assert (401, "invalid_client") == refused(reply)

    @pytest.mark.parametrize("client_id", ["by-key", "nobody", AGENT])
    async def test_others_must_authenticate(self, agent: OAuthClient, client_id: str) -> None:
        """A name alone proves nothing."""
        assert (401, "invalid_client") == refused(await ask(agent, {"client_id": client_id}))


class TestWitSvid:
    def headers(self, agent: OAuthClient, wit: str, key: str, **claims: object) -> dict[str, str]:
        now = int(time.time())
        said = {"iss": AGENT, "aud": agent.broker.issuer, "jti": f"{time.monotonic()}", "iat": now, **claims}
        said = {k: v for k, v in said.items() if v is not None}
        private = jwt.algorithms.ECAlgorithm.from_jwk(key)
        header = {"typ": claims.pop("typ", "oauth-client-attestation-pop+jwt")}
        said.pop("typ", None)
        proof = jwt.encode(said, private, "ES256", headers=header)
        return {"OAuth-Client-Attestation": wit, "OAuth-Client-Attestation-PoP": proof}

    async def test_wit_svid_with_its_key_authenticates(self, agent: OAuthClient) -> None:
        """draft-ietf-oauth-spiffe-client-auth §3.3; each proof is good once."""
        headers = self.headers(agent, *agent.broker.domain.ca.issue_wit_svid(AGENT))
        replies = [await ask(agent, {"client_id": AGENT}, headers=headers) for _ in range(2)]
        assert [200, 401] == [r.status_code for r in replies]

    @pytest.mark.parametrize(
        "claims",
        [
            {"iss": "x"},
            {"aud": "x"},
            {"aud": None},
            {"iat": 1},
            {"iat": None},
            {"jti": None},
            {"typ": "JWT"},
        ],
    )
    async def test_each_claim_of_the_proof_counts(self, agent: OAuthClient, claims: dict[str, object]) -> None:
        """draft-ietf-oauth-attestation-based-client-auth §5.2."""
        headers = self.headers(agent, *agent.broker.domain.ca.issue_wit_svid(AGENT), **claims)
        assert (401, "invalid_client") == refused(await ask(agent, {"client_id": AGENT}, headers=headers))

    async def test_stolen_wit_svid_is_useless(self, agent: OAuthClient) -> None:
        """Without its key it proves nothing (WIT-SVID §5)."""
        ca = agent.broker.domain.ca
        headers = self.headers(agent, ca.issue_wit_svid(AGENT)[0], ca.issue_wit_svid(AGENT)[1])
        assert (401, "invalid_client") == refused(await ask(agent, {"client_id": AGENT}, headers=headers))

    async def test_anything_else_is_no_attestation(self, agent: OAuthClient) -> None:
        """Another type, another's, another trust domain's, without a key, or alone."""
        ca = agent.broker.domain.ca
        wit, key = ca.issue_wit_svid(AGENT)
        theirs = CertificateAuthority("other.example").issue_wit_svid("spiffe://other.example/x")
        bare = ca._wit.sign({"sub": AGENT, "exp": int(time.time()) + 60}, typ="wit+jwt")
        headers = [
            self.headers(agent, agent.svid(), key),
            self.headers(agent, *theirs),
            self.headers(agent, bare, key),
            {"OAuth-Client-Attestation": wit},
        ]
        for one in headers:
            assert (401, "invalid_client") == refused(await ask(agent, {"client_id": AGENT}, headers=one))
        for sub, typ in ((AGENT, "JWT"), ("spiffe://other.example/x", "wit+jwt")):
            # By the right key: only its type, or its trust domain, is another.
            said = {**jwt.decode(wit, options={"verify_signature": False}), "sub": sub}
            agent.broker.rules = Rules((*agent.broker.rules, Client.of("spiffe://other.example/x")))
            one = self.headers(agent, ca._wit.sign(said, typ=typ), key, iss=sub)
            assert (401, "invalid_client") == refused(await ask(agent, {"client_id": sub}, headers=one))
            agent.broker.rules = Rules(tuple(agent.broker.rules)[:-1])
        other = self.headers(agent, *ca.issue_wit_svid("spiffe://dev.example/x"), iss="spiffe://dev.example/x")
        assert (401, "invalid_client") == refused(await ask(agent, {"client_id": AGENT}, headers=other))

    async def test_challenge_is_demanded(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """The draft's `use_attestation_challenge`: it comes with the challenge to repeat."""
        async with DevTokenBroker(
            domain, rules=[Client.of(AGENT)], dpop_nonces="always"
        ) as broker:
            agent = OAuthClient(broker, http, AGENT)
            wit = domain.ca.issue_wit_svid(AGENT)
            reply = await ask(agent, {"client_id": AGENT}, headers=self.headers(agent, *wit))
            assert (400, "use_attestation_challenge") == refused(reply)
            challenge = reply.headers["oauth-client-attestation-challenge"]
            headers = self.headers(agent, *wit, challenge=challenge)
            assert 200 == (await ask(agent, {"client_id": AGENT}, headers=headers)).status_code


class TestForm:
    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            (b'{"grant_type":"client_credentials"}', "application/json"),
            (b"grant_type=\xff", "application/x-www-form-urlencoded"),
            (b"&".join(b"a%d=1" % n for n in range(300)), "application/x-www-form-urlencoded"),
            (b"grant_type=a&grant_type=b", "application/x-www-form-urlencoded"),
            (b"", "application/x-www-form-urlencoded"),
            (b"grant_type=", "application/x-www-form-urlencoded"),
        ],
    )
    async def test_what_is_no_form_is_refused(self, agent: OAuthClient, body: bytes, kind: str) -> None:
        """RFC 6749 §3.2: a form, no parameter twice, and an empty one counts as left out."""
        url = f"{agent.broker.issuer}/token"
        reply = await agent.http.post(url, content=body, headers={"Content-Type": kind})
        assert (400, "invalid_request") == refused(reply)

    @pytest.mark.parametrize(
        ("kind", "status"),
        [
            ("application/x-www-form-urlencoded", 200),
            ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", 200),
            ("text/plain", 400),
            ("", 400),
        ],
    )
    async def test_kind_of_body_counts(self, agent: OAuthClient, kind: str, status: int) -> None:
        """A page of another site can send a form as `text/plain`."""
        body = urlencode({"grant_type": "client_credentials", **agent.authentication()})
        url = f"{agent.broker.issuer}/token"
        assert status == (await agent.http.post(url, content=body, headers={"Content-Type": kind})).status_code

    async def test_large_body_is_refused(self, agent: OAuthClient) -> None:
        """Before it fills the memory."""
        reply = await agent.http.post(f"{agent.broker.issuer}/token", content=b"x" * 300_000)
        assert (413, "invalid_request") == refused(reply)

    async def test_description_is_plain(self, agent: OAuthClient) -> None:
        """RFC 6749 §5.2: no quotation marks, no line ends, nothing that is not ASCII."""
        body = b"%22%0a%c3%a4=1&%22%0a%c3%a4=2"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = await agent.http.post(f"{agent.broker.issuer}/token", content=body, headers=headers)
        assert "the parameter ??? is given twice" == reply.json()["error_description"]

    async def test_unknown_grant_is_refused(self, agent: OAuthClient) -> None:
        """RFC 6749 §5.2."""
        reply = await agent.post("token", {"grant_type": "password"})
        assert (400, "unsupported_grant_type") == refused(reply)

    async def test_other_methods_and_paths_are_refused_in_json(self, agent: OAuthClient) -> None:
        """RFC 6749 §3.2: POST; and no page of HTML for anybody."""
        assert 405 == (await agent.http.get(f"{agent.broker.issuer}/token")).status_code
        reply = await agent.http.get(f"{agent.broker.issuer}/nothing", headers={"Accept": "text/html"})
        assert (404, "invalid_request") == refused(reply)
