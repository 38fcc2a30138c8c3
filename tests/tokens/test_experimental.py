"""Transaction tokens and WIT-SVID attestation, against the development token broker. Experimental."""

from __future__ import annotations

import logging
import pickle
import time

import httpx
import pytest

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client._redact import Secret
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import OAuthError, TokenRequestError, UnacceptableTokenError
from spiffe_client.svid.experimental import WitSvid
from spiffe_client.http.experimental import TransactionTokenAuth
from spiffe_client.tokens import (
    ClientSecret,
    ForeignToken,
    Metadata,
    OwnSvid,
    SecretCall,
    TokenBroker,
    TokenRequest,
)
from spiffe_client.tokens._authentication import ClientFacts
from spiffe_client.tokens._urns import CLIENT_CREDENTIALS, REFRESH_TOKEN, SELF_SIGNED, TXN_TOKEN
from spiffe_client.tokens.experimental import (
    TransactionToken,
    WitSvidAttestation,
    fetch_transaction_token,
    replace_transaction_token,
)
from tests.support.canary import assert_no_secret
from tests.support.oauth_client import claims_of, header_of
from tests.support.raw_broker import issues, json_reply, serve_raw
from tests.support.token_parties import LATER, DomainIdentity, access_token
from tests.support.tokens import ec_key, sign_token

pytestmark = pytest.mark.anyio

AGENT = "spiffe://dev.example/agent"
ORDERS = "https://orders.example"
NOW = SYSTEM_CLOCK.now()


@pytest.fixture
async def domain():
    async with DevTrustDomain("dev.example") as domain:
        yield domain


@pytest.fixture
async def service(domain):
    client = Client.of(AGENT, audiences=[ORDERS, "dev.example"], scopes="orders:read orders:refund")
    async with DevTokenBroker(domain, rules=[client]) as broker:
        yield broker


@pytest.fixture
async def broker(domain, service):
    async with TokenBroker(service.issuer, identity=DomainIdentity(domain, AGENT)) as broker:
        yield broker


async def fetch(broker, *purpose: str, **more) -> TransactionToken:
    asked = {"trust_domain": "dev.example", "subject": OwnSvid(), **more}
    return await fetch_transaction_token(broker, *(purpose or ("orders:read", "orders:refund")), **asked)


class TestTransactionToken:
    async def test_from_an_access_token(self, broker, service) -> None:
        """A12: about the subject of the access token, with what was asked for in it."""
        access = await broker.token("orders:read", audience=ORDERS)
        token = await fetch(
            broker,
            "orders:read",
            subject=access,
            request_context={"ip": "192.0.2.1"},
            request_details={"order": 7, "items": ["a"]},
        )
        claims = claims_of(token.token.reveal())
        assert {"ip": "192.0.2.1"} == claims["rctx"]
        assert {"order": 7, "items": ["a"]} == claims["tctx"]
        assert (claims["txn"], claims["sub"]) == (token.transaction, token.subject)
        assert ("dev.example", AGENT) == (token.audience, token.subject)
        assert frozenset({"orders:read"}) == token.scope
        assert service.issuer == token.issuer
        assert token.expires_at > NOW

    @pytest.mark.parametrize("subject", [{"sub": "user-7"}, {"sub": "user-7", "email": "jo@dev.example"}])
    async def test_from_our_word(self, broker, subject) -> None:
        """`unsigned_json`: where the service takes our word, the claims are the subject token."""
        assert "user-7" == (await fetch(broker, subject=subject)).subject

    async def test_narrower(self, broker) -> None:
        """§5: transaction, subject and audience stay, the scope shrinks."""
        token = await fetch(broker)
        less = await replace_transaction_token(broker, token, "orders:read")
        assert (token.transaction, token.subject) == (less.transaction, less.subject)
        assert frozenset({"orders:read"}) == less.scope
        assert token.token != less.token

    async def test_wider(self, broker, service) -> None:
        """What was not granted is not asked for."""
        token = await fetch(broker, "orders:read")
        count = service.requests["token"]
        with pytest.raises(TokenRequestError, match="orders:refund was not granted"):
            await replace_transaction_token(broker, token, "orders:read", "orders:refund")
        assert count == service.requests["token"]

    async def test_header_and_nothing_else(self, broker, caplog) -> None:
        """It travels in `Txn-Token` alone, never in `Authorization`, and shows nowhere."""
        caplog.set_level(logging.DEBUG)
        token = await fetch(broker)
        text = token.token.reveal()
        request = httpx.Request("GET", "https://x.test/")
        next(TransactionTokenAuth(token, origins=["https://x.test"]).sync_auth_flow(request))
        assert text == request.headers["txn-token"]
        assert "authorization" not in request.headers
        shown = f"{token!r} {token} {request.headers!r} {caplog.text}"
        assert text not in shown
        assert text.split(".")[1] not in shown
        assert 12 == len(token.fingerprint)
        with pytest.raises(TypeError):
            pickle.dumps(token)

    @pytest.mark.parametrize(
        ("purpose", "more"),
        [
            ((), {}),
            (("a b",), {"trust_domain": ""}),
            (("a",), {"subject": ForeignToken(Secret("r"), REFRESH_TOKEN)}),
            (("a",), {"request_context": "text"}),
            (("a",), {"request_details": [1]}),
            (("a",), {"request_details": {"x": object()}}),
            (("a",), {"subject": {"x": object()}}),
        ],
    )
    async def test_malformed(self, broker, service, purpose, more) -> None:
        """Nothing is sent that is not as the draft says."""
        asked = {"trust_domain": "dev.example", "subject": OwnSvid(), **more}
        with pytest.raises(TokenRequestError):
            await fetch_transaction_token(broker, *purpose, **asked)
        assert 0 == service.requests["token"]


def txn(typ: object = "txntoken+jwt", **claims: object) -> str:
    said = {"txn": "t1", "sub": "jo", "aud": "td.test", "exp": int(time.time()) + 60, **claims}
    return sign_token(ec_key(), "ES256", {k: v for k, v in said.items() if v is not ...}, typ=typ)


def raw_client(url: str) -> TokenBroker:
    metadata = Metadata(issuer="https://tts.test", token_endpoint=f"{url}/token")
    authentication = ClientSecret(SecretCall(lambda: "s", name="a test's"), "c")
    return TokenBroker(metadata=metadata, authentication=authentication, binding="none")


SELF = ForeignToken(Secret("self-signed"), SELF_SIGNED)


class TestWhatIsIssued:
    @pytest.mark.parametrize(
        ("why", "members"),
        [
            ("not_an_access_token", {"token_type": "Bearer"}),
            ("issued_token_type", {"access_token": "opaque-token-0001"}),
            ("issued_token_type", {"access_token": txn(typ="JWT")}),
            ("issued_token_type", {"access_token": txn(txn=...)}),
            ("issued_token_type", {"access_token": txn(sub=7)}),
            ("audience", {"access_token": txn(aud="other.test")}),
            ("audience", {"access_token": txn(aud=["td.test", "other.test"])}),
            ("wider_scope", {"scope": "a admin"}),
        ],
    )
    async def test_something_else(self, why, members) -> None:
        """A service that issues another thing is not believed."""
        whole = {"access_token": txn(), "issued_token_type": TXN_TOKEN, "token_type": "N_A", **members}
        with serve_raw(lambda _: issues(**whole)) as server:
            async with raw_client(server.url) as broker:
                with pytest.raises(UnacceptableTokenError) as e:
                    await fetch_transaction_token(broker, "a", trust_domain="td.test", subject=SELF)
        assert why == e.value.why
        assert_no_secret(e.value, txn())

    async def test_access_token(self) -> None:
        """Whatever calls itself an access token never becomes a header of another kind."""

        class Service:
            async def exchange(self, request, *, timeout=None):
                return access_token("an-access-token")

        with pytest.raises(UnacceptableTokenError) as e:
            await fetch_transaction_token(Service(), "a", trust_domain="td.test", subject=SELF)
        assert "token_type" == e.value.why

    async def test_the_request(self) -> None:
        """JSON objects as they are, not base64url; canonical, so that equal ones are equal."""
        answer = issues(access_token=txn(), issued_token_type=TXN_TOKEN, token_type="N_A")
        with serve_raw(lambda _: answer) as server:
            async with raw_client(server.url) as broker:
                await fetch_transaction_token(
                    broker,
                    "a",
                    trust_domain="td.test",
                    subject={"sub": "jo"},
                    request_context={"b": 1, "a": "ü"},
                    request_details={},
                )
            form = dict(server.asked[0].form)
        assert ('{"a":"ü","b":1}', "{}") == (form["request_context"], form["request_details"])
        assert ('{"sub":"jo"}', "td.test", "a") == (form["subject_token"], form["audience"], form["scope"])
        assert form["subject_token_type"].endswith(":unsigned_json")
        assert TXN_TOKEN == form["requested_token_type"]

    @pytest.mark.parametrize("change", [{"txn": "t2"}, {"sub": "eve"}])
    async def test_replacement_of_another(self, change) -> None:
        """Attack: in place of a token comes one of another transaction, or about somebody else."""
        former = TransactionToken(
            Secret(txn()), "https://tts.test", "t1", "jo", "td.test", frozenset({"a", "b"}), LATER
        )
        answer = issues(access_token=txn(**change), issued_token_type=TXN_TOKEN, token_type="N_A")
        with serve_raw(lambda _: answer) as server:
            async with raw_client(server.url) as broker:
                with pytest.raises(UnacceptableTokenError) as e:
                    await replace_transaction_token(broker, former, "a")
        assert "replacement" == e.value.why


def wit_source(domain, **options):
    async def read() -> WitSvid:
        read.count += 1
        return WitSvid.parse_unverified(*domain.ca.issue_wit_svid(AGENT, **options))

    read.count = 0
    return read


OWN = TokenRequest.of("orders:read", audience=ORDERS, grant=CLIENT_CREDENTIALS)


class TestAttestation:
    async def test_end_to_end(self, domain, service) -> None:
        """The WIT-SVID and a proof with its key, fresh for each request (A9)."""
        read = wit_source(domain)
        authentication = WitSvidAttestation(read)
        async with TokenBroker(service.issuer, authentication=authentication, client_id=AGENT) as broker:
            for _ in range(2):
                await broker.exchange(OWN)
        assert 2 == read.count
        assert "WitSvidAttestation(…)" == repr(authentication)

    async def test_of_another_domain(self, service) -> None:
        """A WIT-SVID of a stranger is refused."""
        async with DevTrustDomain("dev.example") as evil:
            authentication = WitSvidAttestation(wit_source(evil))
            broker = TokenBroker(service.issuer, authentication=authentication, client_id=AGENT)
            async with broker:
                with pytest.raises(OAuthError):
                    await broker.exchange(OWN)

    async def test_expired(self, domain) -> None:
        """One that has expired is not sent."""
        read = wit_source(domain, ttl=30)
        with pytest.raises(TokenRequestError, match="expired"):
            await WitSvidAttestation(read).credentials(
                ClientFacts("https://as.test", "", "https://as.test/token"), now=LATER, refresh=False
            )

    async def test_the_proof(self, domain) -> None:
        """`iss` who we are, `aud` the token broker, a new `jti` each time, and nothing of it to be seen."""
        facts = ClientFacts("https://as.test", "", "https://as.test/token")
        authentication = WitSvidAttestation(wit_source(domain))
        made = [await authentication.credentials(facts, now=NOW, refresh=False) for _ in range(2)]
        assert {"client_id": AGENT} == dict(made[0].form)
        assert ["OAuth-Client-Attestation", "OAuth-Client-Attestation-PoP"] == [n for n, _ in made[0].headers]
        proofs = [str(dict(one.headers)["OAuth-Client-Attestation-PoP"]) for one in made]
        assert {"typ": "oauth-client-attestation-pop+jwt", "alg": "ES256"} == header_of(proofs[0])
        claims = [claims_of(proof) for proof in proofs]
        assert {"iss", "aud", "jti", "iat"} == claims[0].keys()
        assert (AGENT, "https://as.test") == (claims[0]["iss"], claims[0]["aud"])
        assert claims[0]["jti"] != claims[1]["jti"]
        assert proofs[0] not in repr(made[0].headers)

    async def test_challenge(self, domain) -> None:
        """D3: `use_attestation_challenge` is answered once, with what the header says; kept per token broker."""
        heard: list[object] = []

        def answer(asked):
            claims = claims_of(asked.header("oauth-client-attestation-pop"))
            heard.append(claims.get("challenge"))
            if claims.get("challenge") == "c1":
                return issues(access_token="issued-0001", scope="orders:read")
            challenge = ("OAuth-Client-Attestation-Challenge", "c1")
            return json_reply({"error": "use_attestation_challenge"}, 400, challenge)

        with serve_raw(answer) as server:
            metadata = Metadata(issuer="https://as.test", token_endpoint=f"{server.url}/token")
            authentication = WitSvidAttestation(wit_source(domain))
            async with TokenBroker(
                metadata=metadata, authentication=authentication, client_id=AGENT, binding="none"
            ) as broker:
                await broker.exchange(OWN)
                await broker.exchange(OWN)
        assert [None, "c1", "c1"] == heard
        other = ClientFacts("https://other.test", "", "https://other.test/token")
        made = await authentication.credentials(other, now=NOW, refresh=False)
        assert "challenge" not in claims_of(str(made.headers[1][1]))

    async def test_challenge_without_end(self, domain) -> None:
        """Attack: a token broker that is never content costs two requests, and an endless challenge nothing."""
        endless = ("OAuth-Client-Attestation-Challenge", "x" * 2000)
        with serve_raw(lambda _: json_reply({"error": "use_attestation_challenge"}, 400, endless)) as server:
            metadata = Metadata(issuer="https://as.test", token_endpoint=f"{server.url}/token")
            authentication = WitSvidAttestation(wit_source(domain))
            async with TokenBroker(
                metadata=metadata, authentication=authentication, client_id=AGENT, binding="none"
            ) as broker:
                with pytest.raises(OAuthError):
                    await broker.exchange(OWN)
            asked = server.asked
        assert 2 == len(asked)
        assert "challenge" not in claims_of(asked[1].header("oauth-client-attestation-pop"))
