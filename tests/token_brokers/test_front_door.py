"""A workload, oidc-provider and a resource server that believes only oidc-provider: the whole way of a request."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import httpx
import jwt
import pytest

from spiffe_client import StoppedError, Workload
from spiffe_client.errors import TokenOriginError, find
from tests.support.peers import Domain, OidcProvider
from tests.support.protected import Answer, Seen, Site, claims_of, serve_site, trust_web

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

KNOBS = {"DPOP_NONCE": "always"}
API = "https://api.example.org/"
ME = "spiffe://example.org/agent/a"
NONCE = "of-the-resource-server"


class ResourceServer:
    """Takes a DPoP-bound token that its issuer says is active and for it (RFC 9449 §7, RFC 7662 §2)."""

    def __init__(self, site: Site, oidc: OidcProvider) -> None:
        self.site, self.oidc = site, oidc
        self.subjects: list[str] = []

    def __call__(self, seen: Seen) -> Answer:
        scheme, _, token = (seen.authorization or "").partition(" ")
        if scheme != "DPoP" or seen.proof is None:
            return Answer(401, {"www-authenticate": "DPoP"})
        proof = claims_of(seen.proof)
        if proof.get("nonce") != NONCE:
            challenge = {"www-authenticate": 'DPoP error="use_dpop_nonce"', "dpop-nonce": NONCE}
            return Answer(401, challenge)
        known = httpx.post(
            f"{self.oidc.issuer}/token/introspection", data={"token": token}, auth=("rs", "rs-secret"),
            trust_env=False,
        ).json()  # fmt: skip
        if not known["active"]:
            return Answer(401, {"www-authenticate": 'DPoP error="invalid_token"'})
        jwk = jwt.PyJWK(jwt.get_unverified_header(seen.proof)["jwk"])
        facts = (known["cnf"]["jkt"], known["aud"], proof["ath"], proof["htm"], proof["htu"])
        url = f"{self.site.origin}{seen.path}"
        assert (_thumbprint(jwk), API, _digest(token), seen.method, url) == facts
        self.subjects.append(known["sub"])
        return Answer(body=known["sub"].encode())


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _thumbprint(jwk: jwt.PyJWK) -> str:
    x, y = (jwk._jwk_data[name] for name in ("x", "y"))
    return _digest(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}')


@pytest.fixture
def server(oidc: OidcProvider) -> Iterator[ResourceServer]:
    with serve_site() as site:
        site.answer = ResourceServer(site, oidc)
        yield site.answer


async def test_request_with_a_token(domain: Domain, oidc: OidcProvider, server: ResourceServer) -> None:
    """Two nonces, two proofs and a token later the request is answered; the next one needs one request."""
    async with Workload(domain.endpoint_for(ME), token_broker=oidc.issuer) as me:
        auth = me.auth("read", audience=API, origins=[server.site.origin])
        async with httpx.AsyncClient(auth=auth, verify=trust_web(), trust_env=False) as http:
            for _ in range(3):
                reply = await http.get(f"{server.site.origin}/orders?page=1")
                assert (200, ME) == (reply.status_code, reply.text)
        assert 4 == len(server.site.seen)  # the nonce was asked for once


async def test_token_that_was_revoked_elsewhere(
    domain: Domain, oidc: OidcProvider, server: ResourceServer
) -> None:
    """On 401 invalid_token the token is dropped, and a new one tried once (RFC 6750 §3.1)."""
    endpoint = domain.endpoint_for(ME)
    async with Workload(endpoint, token_broker=oidc.issuer) as me, Workload(
        endpoint, token_broker=oidc.issuer
    ) as guard:
        auth = me.auth("read", audience=API, origins=[server.site.origin])
        async with httpx.AsyncClient(auth=auth, verify=trust_web(), trust_env=False) as http:
            await http.get(f"{server.site.origin}/")
            token = await me.token("read", audience=API)
            assert "revoked" == (await guard.tokens.revoke(token)).outcome
            assert 200 == (await http.get(f"{server.site.origin}/")).status_code
            assert token.fingerprint != (await me.token("read", audience=API)).fingerprint


async def test_other_origins_and_the_end(domain: Domain, oidc: OidcProvider, server: ResourceServer) -> None:
    """A token goes where it is meant to and nowhere else; after a stop it goes nowhere."""
    async with Workload(domain.endpoint_for(ME), token_broker=oidc.issuer) as me:
        auth = me.auth("read", audience=API, origins=[server.site.origin])
        async with httpx.AsyncClient(auth=auth, verify=trust_web(), trust_env=False) as http:
            with pytest.raises(TokenOriginError):
                await http.get(f"{oidc.issuer}/me")
            await http.get(f"{server.site.origin}/")
            before = len(server.site.seen)
            me.stop("compromised")
            with pytest.raises(Exception) as e:
                await http.get(f"{server.site.origin}/")
            assert find(e.value, StoppedError)
            assert before == len(server.site.seen)
