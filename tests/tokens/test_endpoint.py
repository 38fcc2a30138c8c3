"""One try of one request: the subject as it is now, credentials and proof of its own, and an answer that is checked."""

from __future__ import annotations

import logging
import ssl
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client._jose import parse_compact
from spiffe_client._redact import Secret
from spiffe_client.errors import (
    InvalidClientError,
    InvalidGrantError,
    OAuthError,
    SecretSourceError,
    TokenBrokerUnavailableError,
    TokenError,
    TokenProtocolError,
    TokenRequestError,
    UnacceptableTokenError,
    UnsupportedByBrokerError,
)
from spiffe_client.tokens import (
    AccessToken,
    Binding,
    ClientSecret,
    ForeignToken,
    JwtSpiffe,
    Metadata,
    NoAuthentication,
    OwnSvid,
    PrivateKeyJwt,
    SecretCall,
    SecurityToken,
    TokenRequest,
    WebPki,
    X509SvidTls,
)
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._dpop import DpopKey
from spiffe_client.tokens._endpoint import TokenEndpoint
from spiffe_client.tokens._nonces import Nonces
from spiffe_client.tokens._urns import ACCESS_TOKEN, CLIENT_CREDENTIALS, ID_TOKEN, JWT
from tests.support.canary import assert_no_secret
from tests.support.fake_identity import FakeIdentity
from tests.support.manual_clock import ManualClock
from tests.support.pki import new_authority
from tests.support.raw_broker import HANG, issues, json_reply, raw_reply, serve_raw
from tests.support.shop import WEB, Shop
from tests.support.tokens import compact, ec_key

pytestmark = pytest.mark.anyio

ISSUER = "https://tokens.prod.example"
CANARY = "canary-7f3a9c1e5b2d8f4a6c0e1d3b5a7f9c2e"
START = datetime(2026, 1, 1, tzinfo=UTC)


class Calls:
    """An endpoint as one test needs it, and what it was asked."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.identity = FakeIdentity()
        self.clock = ManualClock(START)
        self.dpop = DpopKey()
        self.nonces = Nonces()

    def endpoint(self, url: str, **changes) -> TokenEndpoint:
        metadata = changes.pop("metadata", {})
        options = {
            "authentication": JwtSpiffe(),
            "client_id": "web",
            "identity": self.identity,
            "clock": self.clock,
            "dpop": self.dpop,
            "nonces": self.nonces,
            **changes,
        }
        known = {"issuer": ISSUER, "token_endpoint": f"{url}/token", **metadata}
        return TokenEndpoint(Metadata(**known), self.channel, **options)


@pytest.fixture
async def calls():
    channel = Channel(WebPki())
    yield Calls(channel)
    await channel.aclose()


def access_token(binding: Binding = Binding(), text: str = "parent-token") -> AccessToken:
    return AccessToken(
        token=Secret(text),
        token_type="DPoP" if binding.method == "dpop" else "Bearer",
        issuer=ISSUER,
        request=TokenRequest.of("a"),
        scope=frozenset({"a"}),
        authorization_details="",
        issued_token_type=ACCESS_TOKEN,
        expires_at=START,
        binding=binding,
    )


class TestMint:
    async def test_own_svid_for_an_access_token(self, calls: Calls) -> None:
        """Subject and client assertion are JWT-SVIDs for the issuer; the token says what was granted."""
        with serve_raw(lambda asked: issues(scope="a", refresh_in=200)) as broker:
            request = TokenRequest.of("a b", audience="orders")
            minted = await calls.endpoint(broker.url).mint(request, timeout=5)

        form = dict(broker.asked[0].form)
        issued = [token for audience, token in calls.identity.issued if audience == ISSUER]
        assert [form["subject_token"], form["client_assertion"]] == issued
        assert (JWT, "web", "a b", "orders") == (
            form["subject_token_type"],
            form["client_id"],
            form["scope"],
            form["audience"],
        )
        assert broker.asked[0].header("dpop") is None
        token = minted.token
        assert isinstance(token, AccessToken)
        assert ("issued-token", "Bearer", ISSUER) == (token.token.reveal(), token.token_type, token.issuer)
        assert ({"a"}, {"b"}, request) == (token.scope, token.missing_scope, token.request)
        assert (START + timedelta(seconds=300), Binding()) == (token.expires_at, token.binding)
        assert (300.0, 200.0) == (minted.expires_in, minted.refresh_in)
        assert "issued-token" not in repr(minted)

    async def test_unknown_lifetime(self, calls: Calls) -> None:
        """Is said to be unknown, and shown as the minute it is taken for."""
        with serve_raw(lambda asked: issues(expires_in=0)) as broker:
            minted = await calls.endpoint(broker.url).mint(TokenRequest.of("a"), timeout=5)

        assert minted.expires_in is None
        assert START + timedelta(seconds=60) == minted.token.expires_at

    async def test_a_token_that_is_no_access_token(self, calls: Calls) -> None:
        """Is of another type, which fits no Authorization header (RFC 8693 §2.2.1)."""
        with serve_raw(lambda asked: issues(token_type="N_A", issued_token_type=JWT)) as broker:
            request = TokenRequest.of("a", requested_token_type=JWT)
            minted = await calls.endpoint(broker.url, binding="dpop").mint(request, timeout=5)

        assert isinstance(minted.token, SecurityToken)
        assert ("issued-token", JWT) == (minted.token.token.reveal(), minted.token.issued_token_type)

    async def test_client_credentials(self, calls: Calls) -> None:
        """No subject; the identity is not even needed."""
        with serve_raw(lambda asked: issues(issued_token_type=None)) as broker:
            endpoint = calls.endpoint(
                broker.url, authentication=ClientSecret(SecretCall(lambda: "s")), identity=None
            )
            await endpoint.mint(TokenRequest.of("a", grant=CLIENT_CREDENTIALS), timeout=5)

        assert [("grant_type", "client_credentials"), ("scope", "a")] == broker.asked[0].form
        assert "Basic d2ViOnM=" == broker.asked[0].header("authorization")

    async def test_subjects_and_actors_of_every_kind(self, calls: Calls) -> None:
        """Own tokens by their issued type; foreign ones read anew; an own SVID for another audience."""
        texts = iter(["foreign-1", "foreign-2"])
        foreign = ForeignToken(SecretCall(lambda: next(texts)), ID_TOKEN)
        security = SecurityToken(Secret("grant"), ISSUER, TokenRequest.of("a"), frozenset(), JWT, START)
        with serve_raw(lambda asked: issues()) as broker:
            endpoint = calls.endpoint(broker.url, authentication=NoAuthentication())
            for subject in (
                access_token(),
                security,
                foreign,
                foreign,
                ForeignToken(Secret("fixed")),
                OwnSvid("elsewhere", ID_TOKEN),
            ):
                await endpoint.mint(TokenRequest.of("a", subject=subject, actor=OwnSvid()), timeout=5)

        forms = [dict(asked.form) for asked in broker.asked]
        elsewhere = next(token for audience, token in calls.identity.issued if audience == "elsewhere")
        assert [
            ("parent-token", ACCESS_TOKEN),
            ("grant", JWT),
            ("foreign-1", ID_TOKEN),
            ("foreign-2", ID_TOKEN),
            ("fixed", ACCESS_TOKEN),
            (elsewhere, ID_TOKEN),
        ] == [(form["subject_token"], form["subject_token_type"]) for form in forms]
        assert {JWT} == {form["actor_token_type"] for form in forms}

    async def test_what_cannot_be_had(self, calls: Calls) -> None:
        """Nothing is sent: no identity, no foreign token."""
        with serve_raw(lambda asked: issues()) as broker:
            endpoint = calls.endpoint(broker.url, authentication=NoAuthentication(), identity=None)
            with pytest.raises(TokenRequestError, match="identity="):
                await endpoint.mint(TokenRequest.of("a"), timeout=5)
            gone = ForeignToken(SecretCall(lambda: 1, name="vault"))  # type: ignore[arg-type,return-value]
            with pytest.raises(SecretSourceError, match="vault"):
                await endpoint.mint(TokenRequest.of("a", subject=gone), timeout=5)

        assert [] == broker.asked

    async def test_more_than_asked_for(self, calls: Calls) -> None:
        """The token is thrown away."""
        with serve_raw(lambda asked: issues(scope="a admin")) as broker:
            with pytest.raises(UnacceptableTokenError) as e:
                await calls.endpoint(broker.url).mint(TokenRequest.of("a"), timeout=5)

        assert "wider_scope" == e.value.why

    async def test_the_deadline_is_for_everything(self, calls: Calls) -> None:
        """For a secret that does not come, and an answer that does not."""

        async def never() -> str:
            await anyio.sleep(100)
            return ""

        with serve_raw(lambda asked: HANG) as broker:
            for subject in (OwnSvid(), ForeignToken(SecretCall(never))):
                with pytest.raises(TokenBrokerUnavailableError, match=r"0.3 s"):
                    await calls.endpoint(broker.url).mint(TokenRequest.of("a", subject=subject), timeout=0.3)

    async def test_a_refused_client_hears_what_is_taken(self, calls: Calls) -> None:
        """The metadata may say so."""
        metadata = {"token_endpoint_auth_methods_supported": ("private_key_jwt", "none")}
        with serve_raw(lambda asked: json_reply({"error": "invalid_client"}, 401)) as broker:
            for known, notes in ((metadata, 1), ({}, 0)):
                with pytest.raises(InvalidClientError) as e:
                    await calls.endpoint(broker.url, metadata=known).mint(TokenRequest.of("a"), timeout=5)
                assert notes == len(getattr(e.value, "__notes__", []))
                if notes:
                    assert [
                        "tried was spiffe_jwt; its metadata names private_key_jwt, none"
                    ] == e.value.__notes__


class TestDpop:
    async def test_proof(self, calls: Calls) -> None:
        """For this URL and method (RFC 9449 §4.2); the token is bound to its key."""
        with serve_raw(lambda asked: issues(token_type="DPoP")) as broker:
            endpoint = calls.endpoint(broker.url, binding="dpop")
            minted = await endpoint.mint(TokenRequest.of("a"), timeout=5)

        proof = parse_compact(broker.asked[0].header("dpop"), error=TokenError)
        assert ("POST", f"{broker.url}/token") == (proof.claims["htm"], proof.claims["htu"])
        assert {"jti", "htm", "htu", "iat"} == set(proof.claims)
        assert isinstance(minted.token, AccessToken)
        assert Binding("dpop", calls.dpop.jkt) == minted.token.binding
        assert "DPoP" == minted.token.token_type

    async def test_downgrade_attack(self, calls: Calls) -> None:
        """A bearer token in place of a bound one is thrown away (RFC 9449 §5)."""
        with serve_raw(lambda asked: issues(token_type="Bearer")) as broker:
            with pytest.raises(UnacceptableTokenError) as e:
                await calls.endpoint(broker.url, binding="dpop").mint(TokenRequest.of("a"), timeout=5)

        assert "unbound" == e.value.why

    async def test_a_nonce_is_answered_once(self, calls: Calls) -> None:
        """With another proof and another assertion, and remembered for the next request (§8)."""

        def script(asked):
            if "nonce" not in parse_compact(asked.header("dpop"), error=TokenError).claims:
                return json_reply({"error": "use_dpop_nonce"}, 400, ("DPoP-Nonce", "n-1"))
            return issues(token_type="DPoP")

        with serve_raw(script) as broker:
            authentication = PrivateKeyJwt(ec_key())
            endpoint = calls.endpoint(broker.url, binding="dpop", authentication=authentication)
            for _ in range(2):
                await endpoint.mint(TokenRequest.of("a"), timeout=5)

        proofs = [parse_compact(asked.header("dpop"), error=TokenError).claims for asked in broker.asked]
        assert [None, "n-1", "n-1"] == [claims.get("nonce") for claims in proofs]
        assert 3 == len({claims["jti"] for claims in proofs})
        assertions = [dict(asked.form)["client_assertion"] for asked in broker.asked]
        assert 3 == len(set(assertions))

    async def test_a_nonce_of_a_good_answer(self, calls: Calls) -> None:
        """Is the one to use next (§8.2)."""
        with serve_raw(
            lambda asked: issues(token_type="DPoP").replace(
                b"Content-Type", b"DPoP-Nonce: n-2\r\nContent-Type"
            )
        ) as broker:
            endpoint = calls.endpoint(broker.url, binding="dpop")
            for _ in range(2):
                await endpoint.mint(TokenRequest.of("a"), timeout=5)

        proofs = [parse_compact(asked.header("dpop"), error=TokenError).claims for asked in broker.asked]
        assert [None, "n-2"] == [claims.get("nonce") for claims in proofs]

    @pytest.mark.parametrize("fresh", [False, True])
    async def test_endless_nonces(self, fresh: bool, calls: Calls) -> None:
        """A token broker that is never satisfied is asked twice, and its error is the answer."""
        count = iter(range(100))

        def script(asked):
            nonce = f"n-{next(count) if fresh else 0}"
            return json_reply({"error": "use_dpop_nonce"}, 400, ("DPoP-Nonce", nonce))

        with serve_raw(script) as broker:
            with pytest.raises(OAuthError) as e:
                await calls.endpoint(broker.url, binding="dpop").mint(TokenRequest.of("a"), timeout=5)

        assert ("use_dpop_nonce", 2) == (e.value.error, len(broker.asked))

    async def test_exchanging_a_bound_token(self, calls: Calls) -> None:
        """One proof is for both: it holds the hash of the token that is exchanged."""
        parent = access_token(Binding("dpop", calls.dpop.jkt))
        with serve_raw(lambda asked: issues(token_type="DPoP")) as broker:
            endpoint = calls.endpoint(broker.url, binding="dpop")
            await endpoint.mint(TokenRequest.of("a", subject=parent), timeout=5)

        assert "ath" in parse_compact(broker.asked[0].header("dpop"), error=TokenError).claims

    @pytest.mark.parametrize("binding", [Binding("dpop", "somebody's"), Binding("mtls", "somebody's")])
    async def test_a_token_bound_to_somebody_else_is_not_shown(self, binding: Binding, calls: Calls) -> None:
        """It could not be exchanged; asking would give it away for nothing."""
        with serve_raw(lambda asked: issues()) as broker:
            endpoint = calls.endpoint(broker.url, binding="dpop")
            for whose in ({"subject": access_token(binding)}, {"actor": access_token(binding)}):
                with pytest.raises(TokenRequestError, match="only its holder"):
                    await endpoint.mint(TokenRequest.of("a", **whose), timeout=5)

        assert [] == broker.asked

    async def test_no_key(self, calls: Calls) -> None:
        """A mistake of the caller's."""
        with pytest.raises(TokenRequestError):
            calls.endpoint("https://x.example", binding="dpop", dpop=None)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


@pytest.fixture(scope="module")
def web_ca():
    return new_authority("web.test")


@pytest.fixture(scope="module")
def asking_tls(web_ca, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    leaf = web_ca.leaf(dns=["localhost"])
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(leaf.key_pem + leaf.chain_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    authorities = shop.ca.x509_bundle.authorities
    context.load_verify_locations(cadata=b"".join(a.public_bytes(Encoding.DER) for a in authorities))
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


class TestMtls:
    async def test_bound_to_the_certificate_that_was_shown(
        self, calls: Calls, shop: Shop, web_ca, asking_tls: ssl.SSLContext
    ) -> None:
        """At the alias (RFC 8705 §5), and no longer than the certificate lives."""
        svid = shop.issue(WEB)
        identity = FakeIdentity(WEB, shop.context(svid))
        roots = web_ca.certificate.public_bytes(Encoding.PEM).decode()
        channel = Channel(WebPki(roots), identity=identity, present_svid=True)
        calls.channel = channel
        calls.clock = ManualClock(svid.not_after - timedelta(seconds=100))
        metadata = {}
        with serve_raw(lambda asked: issues(), asking_tls) as broker:
            metadata["mtls_endpoint_aliases"] = {"token_endpoint": f"{broker.url}/mtls/token"}
            endpoint = calls.endpoint(
                "https://not.asked.example",
                authentication=X509SvidTls(WebPki(roots)),
                identity=identity,
                binding="mtls",
                metadata=metadata,
                client_id="",
            )
            minted = await endpoint.mint(TokenRequest.of("a"), timeout=5)
            child = await endpoint.mint(TokenRequest.of("a", subject=minted.token), timeout=5)
        await channel.aclose()

        assert "/mtls/token" == broker.asked[0].target
        assert WEB == dict(broker.asked[0].form)["client_id"]
        assert isinstance(minted.token, AccessToken)
        assert ("mtls", channel_thumbprint(svid)) == (
            minted.token.binding.method,
            minted.token.binding.thumbprint,
        )
        assert 100.0 == minted.expires_in
        assert 100.0 == child.expires_in

    async def test_without_a_certificate(self, calls: Calls) -> None:
        """There is nothing to be bound to."""
        with serve_raw(lambda asked: issues()) as broker:
            with pytest.raises(UnacceptableTokenError) as e:
                await calls.endpoint(broker.url, binding="mtls").mint(TokenRequest.of("a"), timeout=5)

        assert "unbound" == e.value.why

    async def test_another_channel(
        self, calls: Calls, shop: Shop, web_ca, asking_tls: ssl.SSLContext
    ) -> None:
        """Tokens for the next SVID are fetched before it is published."""
        roots = web_ca.certificate.public_bytes(Encoding.PEM).decode()
        now, following = shop.issue(WEB), shop.issue(WEB)
        channel = Channel(WebPki(roots), identity=shop.context(now), present_svid=True)
        staged = channel.staged(shop.context(following))
        calls.channel = channel
        with serve_raw(lambda asked: issues(expires_in=...), asking_tls) as broker:
            endpoint = calls.endpoint(broker.url, binding="mtls")
            minted = await endpoint.mint(TokenRequest.of("a"), timeout=5, channel=staged)
        await staged.aclose()
        await channel.aclose()

        assert isinstance(minted.token, AccessToken)
        assert channel_thumbprint(following) == minted.token.binding.thumbprint
        assert minted.expires_in is not None  # the certificate's


def channel_thumbprint(svid) -> str:
    import base64
    import hashlib

    digest = hashlib.sha256(svid.ders[0]).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class TestCall:
    async def test_with_client_authentication(self, calls: Calls) -> None:
        """For revocation and introspection; the answer is the caller's to judge."""
        with serve_raw(lambda asked: raw_reply(200, b"", ("Content-Type", "text/plain"))) as broker:
            endpoint = calls.endpoint(
                "https://x.example", metadata={"revocation_endpoint": f"{broker.url}/revoke"}, binding="dpop"
            )
            reply = await endpoint.call("revocation_endpoint", [("token", "t")], timeout=5)

        assert (200, b"") == (reply.status, reply.body)
        assert ["token", "client_id", "client_assertion_type", "client_assertion"] == [
            name for name, _ in broker.asked[0].form
        ]
        assert broker.asked[0].header("dpop") is None

    async def test_no_such_endpoint(self, calls: Calls) -> None:
        """A typed error, and nothing is sent."""
        with pytest.raises(UnsupportedByBrokerError):
            await calls.endpoint("https://x.example").call("introspection_endpoint", [], timeout=5)

    async def test_deadline(self, calls: Calls) -> None:
        """Also of what client authentication waits for."""

        async def never() -> str:
            await anyio.sleep(100)
            return ""

        endpoint = calls.endpoint("https://x.example", authentication=ClientSecret(SecretCall(never)))
        with pytest.raises(TokenBrokerUnavailableError, match=r"0.2 s"):
            await endpoint.call("token_endpoint", [], timeout=0.2)


class TestNothingIsShown:
    """Subject, assertion, proof and token are in no error, log line or frame."""

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (
                json_reply({"error": "invalid_grant", "error_description": f"bad {CANARY} token"}, 400),
                InvalidGrantError,
            ),
            (json_reply({"error": f"x{CANARY}"}, 400, ("www-authenticate", CANARY)), OAuthError),
            (raw_reply(400, f"<p>{CANARY}".encode(), ("content-type", "text/html")), TokenProtocolError),
            (raw_reply(503, CANARY.encode()), TokenBrokerUnavailableError),
            (issues(access_token=CANARY, token_type=CANARY), UnacceptableTokenError),
            (issues(access_token=CANARY, scope=CANARY), TokenProtocolError),
            (issues(access_token=CANARY, issued_token_type=["x"]), TokenProtocolError),
            (issues(access_token=f"{CANARY} {CANARY}"), TokenProtocolError),
            (issues(access_token=compact({"alg": "x"}, {"jti": CANARY})), UnacceptableTokenError),
            (b"HTTP/1.1 200 OK\r\n" + CANARY.encode() + b"\r\n\r\n", TokenBrokerUnavailableError),
        ],
        ids=str,
    )
    async def test_answers_that_echo(
        self, answer: bytes, kind: type[TokenError], calls: Calls, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Token brokers repeat what they were sent, and proxies quote it."""
        caplog.set_level(logging.DEBUG)
        with serve_raw(lambda asked: answer) as broker:
            endpoint = calls.endpoint(
                broker.url,
                binding="dpop",
                authentication=ClientSecret(SecretCall(lambda: CANARY), method="client_secret_post"),
            )
            request = TokenRequest.of("a", subject=ForeignToken(Secret(CANARY)))
            with pytest.raises(kind) as e:
                await endpoint.mint(request, timeout=5)

        proof = broker.asked[0].header("dpop")
        assert proof is not None
        assert_no_secret(e.value, CANARY, proof)
        assert CANARY not in caplog.text + repr(e.value)
        assert proof not in caplog.text
