"""Ways to say who the client is (RFC 6749 §2.3), against oidc-provider."""

from __future__ import annotations

import anyio
import pytest

from spiffe_client.dev import CertificateAuthority
from spiffe_client.errors import InvalidClientError
from spiffe_client.svid.experimental import WitSvid
from spiffe_client.tokens import ClientSecret, PrivateKeyJwt, SecretCall, TokenBroker, TokenRequest
from spiffe_client.tokens._urns import CLIENT_CREDENTIALS
from spiffe_client.tokens.experimental import WitSvidAttestation
from tests.support.peers import Domain, OidcProvider

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

API = "https://api.example.org/"
SECRET = "a secret: with+signs&more%"


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_client_secrets(anyio_backend, oidc: OidcProvider, method: str) -> None:
    """Secrets of any characters, in the header (RFC 6749 §2.3.1) and in the form, read anew each time."""
    client = {"client_secret_basic": "secretive", "client_secret_post": "poster"}[method]
    secrets = [SECRET, "outdated"]
    authentication = ClientSecret(SecretCall(lambda: secrets[0]), client, method)
    options = {"authentication": authentication, "client_id": client, "binding": "none"}
    async with TokenBroker(oidc.issuer, **options) as tokens:
        request = TokenRequest.of("read", resource=API, grant=CLIENT_CREDENTIALS)
        token = await tokens.fetch(request)
        assert client == (await tokens.introspect(token)).client_id
        secrets.reverse()
        with pytest.raises(InvalidClientError) as e:
            await tokens.exchange(request)
        assert 401 == e.value.status
        assert "outdated" not in f"{e.value!r}{e.value}"


async def test_private_key_jwt(anyio_backend, oidc: OidcProvider) -> None:
    """Each request has an assertion of its own: a replayed `jti` would be refused (RFC 7523 §3)."""
    authentication = PrivateKeyJwt(SecretCall(lambda: oidc.signer), "signer", key_id="signer")
    async with TokenBroker(oidc.issuer, authentication=authentication, client_id="signer") as tokens:
        request = TokenRequest.of("read", resource=API, grant=CLIENT_CREDENTIALS)
        one, two = await tokens.exchange(request), await tokens.exchange(request)
        assert one.fingerprint != two.fingerprint
        assert "signer" == (await tokens.introspect(one)).client_id


async def test_no_such_client(domain: Domain, agent) -> None:
    """An identity that the token broker does not know: invalid_client, told as such."""
    async with agent("stranger") as tokens:
        with pytest.raises(InvalidClientError):
            await tokens.token("read", resource=API)


async def test_authority_that_changed(domain: Domain, agent, oidc: OidcProvider) -> None:
    """A JWT-SVID whose authority was withdrawn is asked for anew, and the token comes."""
    async with agent("a") as tokens:
        await tokens.token("read", resource=API)
        old = (await tokens.me.jwt_svid(oidc.issuer)).key_id
        await anyio.to_thread.run_sync(domain.change_authority)
        oidc.trust(domain.ca)
        with anyio.fail_after(20):
            while old == (await tokens.me.jwt_svid(oidc.issuer)).key_id:
                await anyio.sleep(0.01)  # the Workload API pushes when it pleases
        assert {"write"} == (await tokens.token("write", resource=API)).scope


async def test_wit_svid(domain: Domain, anyio_backend: str, oidc: OidcProvider) -> None:
    """A WIT-SVID and a proof of its key, each request with a proof of its own and the newest challenge in it."""
    me = "spiffe://example.org/agent/wit"

    async def read() -> WitSvid:
        return WitSvid.parse_unverified(*domain.ca.issue_wit_svid(me))

    async with TokenBroker(oidc.issuer, authentication=WitSvidAttestation(read), client_id=me) as tokens:
        await tokens.discover()
        before = oidc.requests("POST", "/token")
        request = TokenRequest.of("read", resource=API, grant=CLIENT_CREDENTIALS)
        token = await tokens.fetch(request)
        assert 2 == oidc.requests("POST", "/token") - before  # the first brought the challenge
        assert me == (await tokens.introspect(token)).client_id
        await tokens.exchange(request)
        assert 3 == oidc.requests("POST", "/token") - before


async def test_wit_svid_of_a_stranger(anyio_backend: str, oidc: OidcProvider) -> None:
    """What another authority vouches for counts nothing."""
    me = "spiffe://example.org/agent/wit"

    async def read() -> WitSvid:
        return WitSvid.parse_unverified(*CertificateAuthority("example.org").issue_wit_svid(me))

    async with TokenBroker(oidc.issuer, authentication=WitSvidAttestation(read), client_id=me) as tokens:
        with pytest.raises(InvalidClientError):
            await tokens.fetch(TokenRequest.of("read", resource=API, grant=CLIENT_CREDENTIALS))
