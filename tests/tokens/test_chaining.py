"""Identity chaining over two real token brokers (draft-ietf-oauth-identity-chaining §2)."""

from __future__ import annotations

import threading

import pytest

from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import (
    OAuthError,
    SecretSourceError,
    StoppedError,
    TokenBrokerUnavailableError,
    TokenRequestError,
    UnacceptableTokenError,
    UnsupportedByBrokerError,
    find,
)
from spiffe_client._redact import Secret
from spiffe_client.tokens import (
    ChainedTokens,
    ClientSecret,
    ForeignToken,
    Metadata,
    NoAuthentication,
    SecretCall,
    TokenBroker,
    TokenRequest,
)
from spiffe_client.tokens._kill_switch import orphaned
from tests.support.canary import assert_no_secret
from tests.support.oauth_client import claims_of
from tests.support.raw_broker import issues, serve_raw
from tests.support.token_parties import DomainIdentity

pytestmark = pytest.mark.anyio

AGENT = "spiffe://home.example/agent"
ORDERS = "https://orders.there.example"


@pytest.fixture
async def home():
    async with DevTrustDomain("home.example") as domain:
        yield domain


@pytest.fixture
async def there_domain():
    async with DevTrustDomain("there.example") as domain:
        yield domain


@pytest.fixture
async def there_broker(there_domain):
    client = Client.of("agent-there", secret="s3cret", audiences=[ORDERS], scopes="orders:read")
    async with DevTokenBroker(there_domain, rules=[client]) as broker:
        yield broker


@pytest.fixture
async def home_broker(home, there_broker):
    client = Client.of(AGENT, audiences=[there_broker.issuer], scopes="orders:read travel")
    async with DevTokenBroker(home, rules=[client]) as broker:
        there_broker.trust_issuer(broker)
        yield broker


@pytest.fixture
async def first(home, home_broker):
    async with TokenBroker(home_broker.issuer, identity=DomainIdentity(home, AGENT)) as broker:
        yield broker


@pytest.fixture
async def second(there_broker):
    authentication = ClientSecret(SecretCall(lambda: "s3cret", name="a test's"), "agent-there")
    async with TokenBroker(
        there_broker.issuer, authentication=authentication, client_id="agent-there", binding="none"
    ) as broker:
        yield broker


class TestTwoLegs:
    async def test_a_token_of_there(self, first, second, there_broker, home_broker) -> None:
        """§2.3, §2.4: it speaks for who we are at home, and is issued over there."""
        token = await ChainedTokens(first, second).token("orders:read", audience=ORDERS)
        claims = claims_of(token.token.reveal())
        assert (AGENT, there_broker.issuer, "orders:read") == (claims["sub"], claims["iss"], claims["scope"])
        assert there_broker.issuer == token.issuer
        assert {"jwt": 1} == dict(home_broker.issued)

    async def test_kept_by_the_second(self, first, second, home_broker, there_broker) -> None:
        """The same request is one token and one grant, whichever object it is asked of."""
        chained = ChainedTokens(first, second)
        one = await chained.token("orders:read", audience=ORDERS)
        assert one is await chained.token("orders:read", audience=ORDERS)
        assert one is await ChainedTokens(first, second).token("orders:read", audience=ORDERS)
        assert one is second.peek(chained.request("orders:read", audience=ORDERS))
        assert (1, 1) == (home_broker.requests["token"], there_broker.requests["token"])

    async def test_a_new_grant_for_each_token(self, first, second, home_broker) -> None:
        """A grant is used once: a token broker that remembers its `jti` would refuse it."""
        chained = ChainedTokens(first, second)
        token = await chained.token("orders:read", audience=ORDERS)
        second.purge(token)
        assert token != await chained.token("orders:read", audience=ORDERS)
        assert {"jwt": 2} == dict(home_broker.issued)

    async def test_scope_of_the_grant(self, first, second, there_broker) -> None:
        """The grant can be asked for in the words of the token broker at home; the token cannot be wider."""
        chained = ChainedTokens(first, second, grant_scope=["travel"])
        with pytest.raises(OAuthError) as e:
            await chained.token("orders:read", audience=ORDERS)
        assert "invalid_scope" == e.value.error

    async def test_another_client_is_another_source(self, first, second, home, home_broker) -> None:
        """Regression, confused deputy: two identities at one home share no token over there."""
        async with TokenBroker(home_broker.issuer, identity=DomainIdentity(home, AGENT)) as other:
            requests = [ChainedTokens(one, second).request("orders:read") for one in (first, other)]
        assert requests[0].key != requests[1].key

    async def test_malformed(self, first, second) -> None:
        """What is malformed is said before anything is sent."""
        with pytest.raises(TokenRequestError):
            ChainedTokens(first, second).request("orders:read", resource="not a URI")


class TestFailures:
    async def test_no_grant(self, first, second, home_broker, there_broker) -> None:
        """Whose refusal it was is said; the token broker over there is not asked."""
        chained = ChainedTokens(first, second, grant_scope=["admin"])
        with pytest.raises(SecretSourceError, match=home_broker.issuer) as e:
            await chained.token("orders:read", audience=ORDERS)
        assert "invalid_scope" == find(e.value, OAuthError).error
        assert 0 == there_broker.requests["token"]
        assert not e.value.retryable

    async def test_home_is_down(self, first, second, home_broker, there_broker) -> None:
        """Trouble at home is worth another try, and shuts no gate over there."""
        await first.discover()
        home_broker.fail_next(503, times=None, retry_after=50)
        with pytest.raises(SecretSourceError) as e:
            await ChainedTokens(first, second).token("orders:read", audience=ORDERS, timeout=3)
        assert e.value.retryable
        assert find(e.value, TokenBrokerUnavailableError) or find(e.value, OAuthError)

    async def test_refused_over_there(self, first, second, there_broker) -> None:
        """A client that has no rule for it."""
        with pytest.raises(OAuthError):
            await ChainedTokens(first, second).token("orders:read", audience="https://elsewhere.example")

    async def test_not_offered_at_home(self, first, second, home_broker) -> None:
        """A token broker that says which grants it issues is believed."""
        metadata = Metadata(
            issuer=home_broker.issuer,
            token_endpoint=f"{home_broker.issuer}/token",
            identity_chaining_requested_token_types_supported=("urn:x",),
        )
        authentication = ClientSecret(SecretCall(lambda: "s", name="a test's"), "c")
        async with TokenBroker(metadata=metadata, authentication=authentication, binding="none") as other:
            with pytest.raises(SecretSourceError) as e:
                await ChainedTokens(other, second).token("orders:read", audience=ORDERS)
        assert "identity_chaining" == find(e.value, UnsupportedByBrokerError).feature

    async def test_access_token_in_place_of_a_grant(self, second) -> None:
        """Attack: an access token that is good at home is not shown to a token broker over there."""
        jwt = "urn:ietf:params:oauth:token-type:jwt"
        with serve_raw(
            lambda _: issues(issued_token_type=jwt, access_token="good-at-home-7d1f0b2c9e8a4d6f5b3c1a0e")
        ) as server:
            metadata = Metadata(issuer="https://home.test", token_endpoint=f"{server.url}/token")
            async with TokenBroker(
                metadata=metadata,
                authentication=ClientSecret(SecretCall(lambda: "s", name="a test's"), "c"),
                binding="none",
            ) as other:
                chained = ChainedTokens(other, second, subject=ForeignToken(Secret("somebody")))
                with pytest.raises(SecretSourceError) as e:
                    await chained.token("orders:read", audience=ORDERS)
        assert "token_type" == find(e.value, UnacceptableTokenError).why
        assert_no_secret(e.value, "good-at-home-7d1f0b2c9e8a4d6f5b3c1a0e")


class TestStopping:
    async def test_chained_token_outlives_the_identity_it_came_from(self, first, second) -> None:
        """Regression: stopping the first client left what was made by it usable over there."""
        chained = ChainedTokens(first, second)
        request = chained.request("orders:read", audience=ORDERS)
        token = await chained.token("orders:read", audience=ORDERS)
        own = ForeignToken(Secret("theirs"))
        assert token is second.peek(request)
        thread = threading.Thread(target=first.stop, args=("compromised",))
        thread.start()
        thread.join()
        assert None is second.peek(request)
        for ask in (chained.token("orders:read", audience=ORDERS), second.fetch(request)):
            with pytest.raises(StoppedError, match="compromised"):
                await ask
        assert None is orphaned(TokenRequest.of("x", subject=own))
        # What is made of that in turn goes with it.
        assert isinstance(orphaned(TokenRequest.of("x", subject=own, actor=token)), StoppedError)
        assert "ready" == second.health.state

    async def test_a_chained_token_on_its_way_is_not_taken_in(self, first, second) -> None:
        """Stopped after the grant was read and before the answer came."""
        flights = second._open.cache._flights
        mint = flights._mint

        async def stopped_meanwhile(request, attempt):
            minted = await mint(request, attempt)
            first.stop("compromised")
            return minted

        flights._mint = stopped_meanwhile
        chained = ChainedTokens(first, second)
        with pytest.raises(StoppedError):
            await chained.token("orders:read", audience=ORDERS)
        assert None is second.peek(chained.request("orders:read", audience=ORDERS))

    async def test_a_second_that_is_not_open(self, first) -> None:
        """There is nothing to drop."""
        second = TokenBroker("https://there.example", authentication=NoAuthentication(), binding="none")
        chained = ChainedTokens(first, second)
        first.stop("drill")
        with pytest.raises(StoppedError):
            await chained.token("orders:read")
