"""What oidc-provider sends, seen without our client: if this changes, so may what the other tests mean."""

from __future__ import annotations

import secrets
import time

import httpx
import pytest

from tests.support.peers import Domain, OidcProvider
from tests.support.tokens import ec_key, public_jwk, sign_token

pytestmark = pytest.mark.peers

AGENT = "spiffe://example.org/agent/a"
API = "https://api.example.org/"


@pytest.fixture
def http() -> httpx.Client:
    with httpx.Client(trust_env=False, headers={"accept": "application/json"}) as http:
        yield http


def exchange_form(domain: Domain, peer: OidcProvider, **changes: str) -> dict[str, str]:
    svid = domain.ca.issue_jwt_svid(AGENT, peer.issuer)
    return {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "client_id": AGENT,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
        "client_assertion": svid,
        "subject_token": svid,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "resource": API,
        "scope": "read",
        **changes,
    }


def test_metadata_names_itself(oidc: OidcProvider, http: httpx.Client) -> None:
    """The document is where RFC 8414 §3 puts it and names its own issuer."""
    metadata = http.get(f"{oidc.issuer}/.well-known/oauth-authorization-server").json()
    assert oidc.issuer == metadata["issuer"]
    assert {"spiffe_jwt", "tls_client_auth"} < set(metadata["token_endpoint_auth_methods_supported"])


def test_exchange_and_its_headers(domain: Domain, oidc: OidcProvider, http: httpx.Client) -> None:
    """A JWT-SVID of the development trust domain buys a token (RFC 8693 §2.2.1)."""
    reply = http.post(f"{oidc.issuer}/token", data=exchange_form(domain, oidc))
    assert 200 == reply.status_code, reply.text
    assert "application/json; charset=utf-8" == reply.headers["content-type"]
    assert ("Bearer", 120, "read") == tuple(reply.json()[k] for k in ("token_type", "expires_in", "scope"))


def test_scope_is_cut_without_a_word(domain: Domain, oidc: OidcProvider, http: httpx.Client) -> None:
    """A scope the resource does not know is left out of a 200 (RFC 6749 §3.3)."""
    reply = http.post(f"{oidc.issuer}/token", data=exchange_form(domain, oidc, scope="read fly"))
    assert (200, "read") == (reply.status_code, reply.json()["scope"])


def test_errors_are_html_for_browsers(domain: Domain, oidc: OidcProvider, http: httpx.Client) -> None:
    """Who accepts HTML gets a page instead of RFC 6749 §5.2's object."""
    form = exchange_form(domain, oidc, resource="https://elsewhere.example/")
    page = http.post(f"{oidc.issuer}/token", data=form, headers={"accept": "text/html"})
    assert (400, "text/html; charset=utf-8") == (page.status_code, page.headers["content-type"])
    form = exchange_form(domain, oidc, resource="https://elsewhere.example/")
    reply = http.post(f"{oidc.issuer}/token", data=form)
    assert "invalid_target" == reply.json()["error"]


def test_no_authentication_at_all_is_a_bad_request(oidc: OidcProvider, http: httpx.Client) -> None:
    """Without any credentials the code is 400 invalid_request, not 401 invalid_client (RFC 6749 §5.2)."""
    reply = http.post(f"{oidc.issuer}/token", data={"grant_type": "client_credentials"})
    assert (400, "invalid_request") == (reply.status_code, reply.json()["error"])


def test_assertion_of_a_stranger(oidc: OidcProvider, http: httpx.Client) -> None:
    """A JWT-SVID that another authority signed is refused."""
    stranger = Domain()
    try:
        reply = http.post(f"{oidc.issuer}/token", data=exchange_form(stranger, oidc))
    finally:
        stranger.close()
    assert (401, "invalid_client") == (reply.status_code, reply.json()["error"])


def test_faults(domain: Domain, oidc: OidcProvider, http: httpx.Client) -> None:
    """Faults hit as many requests as they were planned for."""
    oidc.fault(path="/token", status=503, retryAfter="2")
    form = exchange_form(domain, oidc)
    reply = http.post(f"{oidc.issuer}/token", data=form)
    assert (503, "2") == (reply.status_code, reply.headers["retry-after"])
    oidc.fault(path="/token", drop=True)
    # Closed with the request unread or read: the kernel says reset or end, whichever comes first.
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        http.post(f"{oidc.issuer}/token", data=form)
    before = oidc.requests("POST", "/token")
    assert 200 == http.post(f"{oidc.issuer}/token", data=form).status_code
    assert before + 1 == oidc.requests("POST", "/token")


def test_nothing_granted_looks_like_all(domain: Domain, oidc: OidcProvider, http: httpx.Client) -> None:
    """Where no scope is left, `scope` is left out, which by RFC 6749 §5.1 means as asked for; introspection knows."""
    form = exchange_form(domain, oidc, scope="fly")
    reply = http.post(f"{oidc.issuer}/token", data=form).json()
    assert "scope" not in reply
    authentication = {name: form[name] for name in ("client_id", "client_assertion_type", "client_assertion")}
    look_up = {**authentication, "token": reply["access_token"]}
    known = http.post(f"{oidc.issuer}/token/introspection", data=look_up).json()
    assert (True, None) == (known["active"], known.get("scope"))


def test_client_credentials_know_no_audience(domain: Domain, oidc: OidcProvider, http: httpx.Client) -> None:
    """`audience` is a parameter of RFC 8693 alone: elsewhere it is ignored, and the token is for nobody."""
    form = exchange_form(domain, oidc, grant_type="client_credentials", audience=API)
    del form["resource"], form["subject_token"], form["subject_token_type"]
    assert "scope" not in http.post(f"{oidc.issuer}/token", data=form).json()


def proof(oidc: OidcProvider, **claims: object) -> str:
    key = ec_key()
    whole = {"jti": secrets.token_hex(8), "htm": "POST", "htu": f"{oidc.issuer}/token", "iat": int(time.time())}
    return sign_token(key, "ES256", {**whole, **claims}, typ="dpop+jwt", kid=..., jwk=public_jwk(key, None))


def test_replayed_proof(domain: Domain, oidc: OidcProvider, http: httpx.Client) -> None:
    """A proof that was seen before is refused, as invalid_grant and without a hint (RFC 9449 §11.1)."""
    once = {"dpop": proof(oidc)}
    form = exchange_form(domain, oidc)
    assert "DPoP" == http.post(f"{oidc.issuer}/token", data=form, headers=once).json()["token_type"]
    reply = http.post(f"{oidc.issuer}/token", data=form, headers=once)
    assert (400, "grant request is invalid") == (reply.status_code, reply.json()["error_description"])


def test_old_proof_is_healed_by_a_nonce(domain: Domain, oidc: OidcProvider, http: httpx.Client) -> None:
    """A proof that looks old is answered with a nonce; with it nobody looks at `iat` (RFC 9449 §11.1)."""
    form, old = exchange_form(domain, oidc), int(time.time()) - 4000
    reply = http.post(f"{oidc.issuer}/token", data=form, headers={"dpop": proof(oidc, iat=old)})
    assert (400, "use_dpop_nonce") == (reply.status_code, reply.json()["error"])
    fresh = {"dpop": proof(oidc, iat=old, nonce=reply.headers["dpop-nonce"])}
    assert 200 == http.post(f"{oidc.issuer}/token", data=form, headers=fresh).status_code
