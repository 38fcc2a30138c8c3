"""ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant): for one resource, and not downgraded."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from spiffe_client._redact import Secret
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import SecretSourceError, UnacceptableTokenError, UnsupportedByBrokerError, find
from spiffe_client.tokens import ChainedTokens, IdJag, Metadata, TokenBroker
from spiffe_client.tokens._dpop import DpopKey
from tests.support.oauth_client import claims_of
from tests.support.token_parties import DomainIdentity, security_token
from tests.support.tokens import compact, ec_key, sign_token

pytestmark = pytest.mark.anyio

AGENT = "spiffe://dev.example/agent"
ORDERS = "https://orders.example/api"


@pytest.fixture
async def domain():
    async with DevTrustDomain("dev.example") as domain:
        yield domain


@pytest.fixture
async def resource_server(domain):
    """The authorization server of the resource."""
    client = Client.of(AGENT, audiences=[ORDERS], scopes="orders:read")
    async with DevTokenBroker(domain, rules=[client]) as broker:
        yield broker


@pytest.fixture
async def identity_provider(domain, resource_server):
    client = Client.of(
        AGENT, audiences=[resource_server.issuer, ORDERS], scopes="orders:read", binding="dpop"
    )
    async with DevTokenBroker(domain, rules=[client]) as broker:
        resource_server.trust_issuer(broker)
        yield broker


@pytest.fixture
async def first(domain, identity_provider):
    async with TokenBroker(identity_provider.issuer, identity=DomainIdentity(domain, AGENT)) as broker:
        yield broker


@pytest.fixture
async def second(domain, resource_server, first):
    identity = DomainIdentity(domain, AGENT)
    async with TokenBroker(resource_server.issuer, identity=identity, binding=first.dpop) as broker:
        yield broker


class TestEndToEnd:
    async def test_bound_grant(self, first, second, resource_server, identity_provider) -> None:
        """§4: the grant names resource and scope, and is bound to the key that redeems it."""
        chained = ChainedTokens(first, second, profile=IdJag())
        token = await chained.token("orders:read", resource=ORDERS)
        claims = claims_of(token.token.reveal())
        assert (AGENT, ORDERS, "orders:read") == (claims["sub"], claims["aud"], claims["scope"])
        assert {"jkt": first.dpop.jkt} == claims["cnf"]
        assert {"id_jag": 1} == dict(identity_provider.issued)

    async def test_key_of_its_own(self, first, domain, resource_server) -> None:
        """A grant that is bound to another key is not even tried."""
        identity = DomainIdentity(domain, AGENT)
        async with TokenBroker(resource_server.issuer, identity=identity) as second:
            with pytest.raises(SecretSourceError) as e:
                await ChainedTokens(first, second, profile=IdJag()).token("orders:read", resource=ORDERS)
        assert "wrong_binding" == find(e.value, UnacceptableTokenError).why
        assert 0 == resource_server.requests["token"]

    async def test_downgrade(self, first, second, identity_provider, resource_server) -> None:
        """Attack, downgrade: a provider, or who stands before it, that leaves the binding out (A11)."""
        rules = [Client.of(AGENT, audiences=[resource_server.issuer, ORDERS], scopes="orders:read")]
        identity_provider.rules = type(identity_provider.rules)(tuple(rules))
        with pytest.raises(SecretSourceError) as e:
            await ChainedTokens(first, second, profile=IdJag()).token("orders:read", resource=ORDERS)
        assert "unbound" == find(e.value, UnacceptableTokenError).why


ISSUER = "https://resource.test"
KEY = DpopKey()


def jag(typ: object = "oauth-id-jag+jwt", **claims: object) -> str:
    said = {"iss": "https://idp.test", "sub": "jo", "aud": ISSUER, "exp": int(time.time()) + 60, **claims}
    return sign_token(ec_key(), "ES256", {k: v for k, v in said.items() if v is not ...}, typ=typ)


def check(text: str, *, first: DpopKey | None = KEY, second: DpopKey | None = KEY) -> None:
    parties = (SimpleNamespace(dpop=first), SimpleNamespace(dpop=second, issuer=ISSUER))
    IdJag().check(security_token(text), *parties)


class TestCheck:
    def test_good(self) -> None:
        """One for us, bound to our key, or to none where none was asked for."""
        check(jag(cnf={"jkt": KEY.jkt}))
        check(jag(aud=[ISSUER], cnf={"jkt": KEY.jkt}))
        check(jag(), first=None, second=None)
        check(jag(), first=KEY, second=DpopKey())

    @pytest.mark.parametrize(
        ("why", "text"),
        [
            ("issued_token_type", "opaque"),
            ("issued_token_type", compact({"typ": "oauth-id-jag+jwt"}, "[]")),
            ("issued_token_type", jag(typ="JWT")),
            ("issued_token_type", jag(typ=...)),
            ("audience", jag(aud="https://other.test")),
            ("audience", jag(aud=[ISSUER, "https://other.test"])),
            ("audience", jag(aud=...)),
            ("unbound", jag()),
            ("unbound", jag(cnf={"jwk": {}})),
            ("unbound", jag(cnf="thumb")),
            ("wrong_binding", jag(cnf={"jkt": DpopKey().jkt})),
            ("wrong_binding", jag(cnf={"jkt": 7})),
        ],
    )
    def test_bad(self, why, text) -> None:
        """Everything that N_A does not show is looked at."""
        with pytest.raises(UnacceptableTokenError) as e:
            check(text)
        assert why == e.value.why

    def test_bound_without_a_key(self) -> None:
        """A client without DPoP cannot redeem one that is bound."""
        with pytest.raises(UnacceptableTokenError):
            check(jag(cnf={"jkt": KEY.jkt}), first=None, second=None)


class TestSupport:
    def test_said_or_not_said(self) -> None:
        """Metadata that says nothing rules nothing out; metadata that says something else does."""
        silent = Metadata(issuer="https://a.test", token_endpoint="https://a.test/token")
        IdJag().check_support(silent, None)
        IdJag().check_support(silent, silent)
        other = Metadata(
            issuer="https://b.test",
            token_endpoint="https://b.test/token",
            authorization_grant_profiles_supported=("urn:x",),
            identity_chaining_requested_token_types_supported=("urn:y",),
        )
        for parties in ((silent, other), (other, silent)):
            with pytest.raises(UnsupportedByBrokerError, match=r"b\.test") as e:
                IdJag().check_support(*parties)
            assert "id_jag" == e.value.feature

    def test_secret_stays(self) -> None:
        """The errors of the check hold nothing of the grant."""
        text = jag(aud="https://other.test")
        with pytest.raises(UnacceptableTokenError) as e:
            IdJag().check(
                security_token(text), SimpleNamespace(dpop=None), SimpleNamespace(dpop=None, issuer=ISSUER)
            )
        assert Secret(text).reveal() not in str(e.value)
