"""X509-SVIDs as client certificates, certificate-bound tokens, and an issuer with a path, against oidc-provider."""

from __future__ import annotations

import base64
import hashlib

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client.errors import DiscoveryError, InvalidClientError, TokenBrokerUnavailableError
from spiffe_client.tokens import TokenBroker, TokenRequest, WebPki, X509SvidTls
from spiffe_client.tokens._rotation import Rotation
from spiffe_client.tokens._urns import CLIENT_CREDENTIALS
from tests.support.peers import Domain, OidcProvider

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

KNOBS = {"TLS": "1", "ISSUER_PATH": "/tenant1", "MTLS_ALIASES": "1"}
API = "https://api.example.org/"


def thumbprint(svid) -> str:
    digest = hashlib.sha256(svid.leaf.public_bytes(Encoding.DER)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.fixture
def x509(agent, oidc: OidcProvider):
    authentication = X509SvidTls(WebPki(oidc.roots))
    return lambda name="x509": agent(name, authentication=authentication, binding="mtls")


async def test_issuer_with_a_path(agent, oidc: OidcProvider) -> None:
    """The well-known segment goes before the path (RFC 8414 §3.1); a JWT-SVID has this issuer as audience."""
    assert oidc.issuer.endswith("/tenant1")
    async with agent("a") as tokens:
        assert f"{oidc.issuer}/token" == (await tokens.discover()).token_endpoint
        assert {"read"} == (await tokens.token("read", resource=API)).scope


async def test_metadata_where_openid_puts_it(agent, oidc: OidcProvider) -> None:
    """Where RFC 8414 §3 has nothing, the places of OpenID Connect are looked at."""
    async with agent("a") as tokens:
        oidc.fault(path="/.well-known/oauth-authorization-server", status=404, type="text/html", body="<h1>no</h1>")
        assert f"{oidc.issuer}/token" == (await tokens.discover()).token_endpoint


async def test_metadata_of_another_issuer(agent, oidc: OidcProvider) -> None:
    """Metadata that names another issuer is not believed, wherever it is (RFC 8414 §3.3)."""
    body = '{"issuer":"https://evil.example","token_endpoint":"https://evil.example/token"}'
    async with agent("a") as tokens:
        for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
            oidc.fault(path=path, status=200, body=body, n=9)
        with pytest.raises(DiscoveryError):
            await tokens.token("read", resource=API)


async def test_issuer_that_is_another(domain: Domain, agent, oidc: OidcProvider) -> None:
    """Without the path there is no such token broker; metadata of another one is not taken."""
    async with agent("a") as tokens:
        async with TokenBroker(
            oidc.issuer.removesuffix("/tenant1"), identity=tokens.me, trust=WebPki(oidc.roots)
        ) as other:
            with pytest.raises(DiscoveryError):
                await other.token("read", resource=API)


async def test_strange_certificate_authority(agent) -> None:
    """A token broker whose certificate does not verify gets nothing."""
    async with agent("a", trust=WebPki()) as tokens:
        with pytest.raises(TokenBrokerUnavailableError):
            await tokens.token("read", resource=API, timeout=2)


async def test_certificate_bound_token(x509, oidc: OidcProvider) -> None:
    """The SVID authenticates by its URI SAN, at the alias, and the token is bound to it (RFC 8705 §2, §3, §5)."""
    async with x509() as tokens:
        aliases = (await tokens.discover()).mtls_endpoint_aliases
        assert not aliases["token_endpoint"].startswith(oidc.issuer)
        token = await tokens.token("read", resource=API)
        own = thumbprint(tokens.me.x509_svid)
        assert ("Bearer", "mtls", own) == (token.token_type, token.binding.method, token.binding.thumbprint)
        known = await tokens.introspect(token)
        assert {"x5t#S256": own} == known.confirmation
        await tokens.revoke(token)
        assert not (await tokens.introspect(token)).active


async def test_client_credentials(x509) -> None:
    """The token broker's own grant binds in the same way."""
    async with x509() as tokens:
        token = await tokens.fetch(TokenRequest.of("read", resource=API, grant=CLIENT_CREDENTIALS))
        assert thumbprint(tokens.me.x509_svid) == token.binding.thumbprint


async def test_somebody_elses_certificate(agent, x509, oidc: OidcProvider) -> None:
    """An SVID with another URI SAN is not this client, whatever `client_id` says."""
    authentication = X509SvidTls(WebPki(oidc.roots))
    options = {"authentication": authentication, "client_id": "spiffe://example.org/agent/x509"}
    async with agent("other", binding="mtls", **options) as tokens:
        with pytest.raises(InvalidClientError):
            await tokens.token("read", resource=API)


class Publications:
    """Notes what is held for requests in the moment a new SVID is published."""

    def __init__(self, tokens, *requests: TokenRequest) -> None:
        self.tokens, self.requests = tokens, requests
        self.first = thumbprint(tokens.me.x509_svid)
        self.published = anyio.Event()
        self.held = []
        tokens.me.after_publish(self.note)

    def note(self) -> None:
        if not self.published.is_set() and thumbprint(self.tokens.me.x509_svid) != self.first:
            self.held = [self.tokens.peek(request) for request in self.requests]
            self.published.set()


def patient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let rotations wait for so long for a token broker that has a slow machine."""
    monkeypatch.setitem(Rotation.__init__.__kwdefaults__, "seconds", seconds)


async def test_rotation(domain: Domain, x509, oidc: OidcProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new SVID kills bound tokens (RFC 8705 §6.3): those in use are there anew before it is published."""
    patient(monkeypatch, 120)
    async with x509() as tokens:
        used = await tokens.token("read", resource=API)
        before = oidc.requests("POST", "/token")
        publications = Publications(tokens, used.request)
        await anyio.to_thread.run_sync(domain.rotate)
        with anyio.fail_after(150):
            await publications.published.wait()
        (token,), new = publications.held, thumbprint(tokens.me.x509_svid)
        assert token is not None
        assert (used.binding.thumbprint, new) == (publications.first, token.binding.thumbprint)
        assert 1 == oidc.requests("POST", "/token") - before
        assert {"x5t#S256": new} == (await tokens.introspect(token)).confirmation
        assert token is await tokens.token("read", resource=API)


async def test_rotation_while_the_broker_is_away(domain: Domain, x509, oidc: OidcProvider) -> None:
    """A token broker that does not answer holds no new SVID back; the old token is not handed out with it."""
    async with x509() as tokens:
        used = await tokens.token("read", resource=API)
        publications = Publications(tokens, used.request)
        oidc.fault(path="/token", drop=True, n=99)
        await anyio.to_thread.run_sync(domain.rotate)
        with anyio.fail_after(30):
            await publications.published.wait()
        assert [None] == publications.held
        oidc.forget_faults()
        with anyio.fail_after(30):
            token = await tokens.token("read", resource=API, timeout=20)
        assert thumbprint(tokens.me.x509_svid) == token.binding.thumbprint


async def test_rotation_while_the_broker_is_slow(
    domain: Domain, x509, oidc: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one request keeps waiting for costs the others nothing: what came in time is used."""
    patient(monkeypatch, 8)
    async with x509() as tokens:
        used = [await tokens.token(scope, resource=API) for scope in ("read", "write")]
        publications = Publications(tokens, *(token.request for token in used))
        oidc.fault(path="/token", delayMs=120_000)
        await anyio.to_thread.run_sync(domain.rotate)
        with anyio.fail_after(60):
            await publications.published.wait()
        held = [token for token in publications.held if token is not None]
        assert [thumbprint(tokens.me.x509_svid)] == [token.binding.thumbprint for token in held]
