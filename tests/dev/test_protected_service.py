"""The sample service: whom it lets in, and how it refuses the others."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from spiffe_client import allow
from spiffe_client.audit import Event
from spiffe_client.bundle import BundleSet
from spiffe_client.dev import CertificateAuthority, DevTokenBroker, DevTrustDomain, ProtectedService
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import EndpointError
from spiffe_client.tls import client_context
from spiffe_client.workload_api import X509Context
from tests.dev.conftest import AGENT, AUDITOR
from tests.support.oauth_client import OAuthClient, ProofKey, client_tls

pytestmark = pytest.mark.anyio

KEY = ProofKey()


@pytest.fixture
def rules() -> list[Client]:
    return [Client.of(AGENT, audiences=["*"], scopes="orders:read orders:refund", may_delegate_to=[AUDITOR])]


@pytest.fixture
async def service(broker: DevTokenBroker) -> AsyncIterator[ProtectedService]:
    async with ProtectedService(broker, audience="orders") as service:
        yield service


async def call(http: httpx.AsyncClient, url: str, token: str = "", scheme: str = "Bearer", **options: object):
    headers = {"Authorization": f"{scheme} {token}"} if token else {}
    headers |= options.pop("headers", {})
    return await http.request(options.pop("method", "GET"), url, headers=headers, **options)


async def test_what_is_told(broker: DevTokenBroker, agent: OAuthClient) -> None:
    """Each token that is refused, by the code of its challenge, and nothing that was shown; not who shows none."""
    told: list[Event] = []
    async with ProtectedService(broker, on_event=told.append) as service:
        token = await agent.token("orders:read", audience=service.url)
        for path, shown in (("/v1/orders", ""), ("/v1/orders", token), ("/v1/refunds", token), ("/v1/orders", "canary.x.y")):
            await call(agent.http, service.url + path, shown)
        assert [("token.refused", "insufficient_scope"), ("token.refused", "invalid_token")] == [
            (event.name, event.attributes["reason"]) for event in told
        ]
        assert str(service.id) == told[0].attributes["workload"]
    assert "canary" not in repr(told)


class TestBearer:
    async def test_good_token_is_let_in(self, service: ProtectedService, agent: OAuthClient) -> None:
        """And told what it says; the body is read."""
        token = await agent.token("orders:read", audience=service.url, purpose="p")
        reply = await call(agent.http, f"{service.url}/v1/orders", token, method="POST", content=b"12345")
        assert {
            "sub": AGENT,
            "client_id": AGENT,
            "scope": "orders:read",
            "purpose": "p",
            "method": "POST",
            "received": 5,
        } == reply.json()
        assert {200: 1} == dict(service.answers)

    async def test_other_names_of_it(self, service: ProtectedService, agent: OAuthClient) -> None:
        """Its SPIFFE ID, its other origins, and what it was told."""
        for audience in (str(service.id), "orders", service.url_at("web")):
            token = await agent.token("orders:read", audience=audience)
            assert 200 == (await call(agent.http, f"{service.url}/v1/orders", token)).status_code

    async def test_no_token(self, service: ProtectedService, agent: OAuthClient) -> None:
        """RFC 6750 §3.1: no error code, and how it would be done."""
        reply = await call(agent.http, f"{service.url}/v1/orders")
        assert (401, {}) == (reply.status_code, reply.json())
        assert reply.headers["www-authenticate"].startswith(
            'Bearer scope="orders:read", DPoP scope="orders:read", algs='
        )

    @pytest.mark.parametrize("value", ["Basic eDp5", "Bearer"])
    async def test_malformed_header(self, service: ProtectedService, agent: OAuthClient, value: str) -> None:
        """RFC 6750 §3.1: 400 `invalid_request`."""
        reply = await call(agent.http, service.url, headers={"Authorization": value})
        assert (400, "invalid_request") == (reply.status_code, reply.json()["error"])

    async def test_too_little_scope(self, service: ProtectedService, agent: OAuthClient) -> None:
        """RFC 6750 §3.1: 403, and which is needed."""
        token = await agent.token("orders:read", audience=service.url)
        reply = await call(agent.http, f"{service.url}/v1/refunds", token)
        assert 403 == reply.status_code
        assert reply.headers["www-authenticate"].startswith('Bearer error="insufficient_scope"')
        assert 'scope="orders:refund"' in reply.headers["www-authenticate"]
        assert 200 == (await call(agent.http, f"{service.url}/else", token)).status_code

    async def test_others_are_refused(self, service: ProtectedService, agent: OAuthClient) -> None:
        """RFC 6750 §3.1 `invalid_token`: for somebody else, no access token, forged, of another issuer."""
        ticket = await agent.exchange(
            audience=agent.broker.issuer, requested_token_type="urn:ietf:params:oauth:token-type:jwt"
        )
        good = await agent.token(audience=service.url)
        tokens = [
            await agent.token(audience="https://elsewhere.example"),
            ticket.json()["access_token"],
            agent.svid(service.url),
            good[:-4] + "AAAA",
            KEY.assertion(AGENT, service.url),
            agent.broker._server.store.sign(
                {"iss": "https://evil.example", "aud": service.url, "exp": 4e9}, typ="at+jwt"
            ),
        ]
        for token in tokens:
            reply = await call(agent.http, service.url, token)
            assert (401, "invalid_token") == (reply.status_code, reply.json()["error"])
            assert reply.headers["www-authenticate"].startswith('Bearer error="invalid_token"')

    async def test_for_whom_it_is_and_for_whom_not(self, service: ProtectedService, agent: OAuthClient) -> None:
        """Who calls sees at once what to ask for, of access tokens and of JWT-SVIDs."""
        for path, about, token in (
            ("/v1/orders", "the token", await agent.token("orders:read", audience="https://elsewhere.example")),
            ("/svid", "the JWT-SVID", agent.svid("https://elsewhere.example")),
        ):
            reply = await call(agent.http, f"{service.url}{path}", token)
            said = f"{about}: it is for https://elsewhere.example, not for {', '.join(sorted(service.audience))}"
            assert {"error": "invalid_token", "error_description": said} == reply.json()
            assert f'error_description="{said}"' in reply.headers["www-authenticate"]

    async def test_attack_a_name_that_ends_the_challenge(self, service: ProtectedService, agent: OAuthClient) -> None:
        """An audience that was asked for is in a header: no quotation marks, no lines; and not all of it."""
        evil = 'a", error="none\r\nset-cookie: x=\\é' + "y" * 500
        for audience, names in ((evil, 'a?, error=?none??set-cookie: x=??'), ([f"b{n}" for n in range(9)], "b0, b1, b2, b3, b4, 4 more")):
            reply = await call(agent.http, f"{service.url}/svid", agent.svid(audience))
            assert 401 == reply.status_code
            said = reply.json()["error_description"]
            assert said.startswith(f"the JWT-SVID: it is for {names}")
            assert len(said) < 600
            assert said in reply.headers["www-authenticate"]
            assert "set-cookie" not in reply.headers

    @pytest.mark.parametrize(
        ("claims", "typ", "status"),
        [
            ({}, "at+jwt", 200),
            ({}, "application/AT+JWT", 200),
            ({}, "JWT", 401),
            ({}, "secevent+jwt", 401),
            ({"iss": "https://evil.example"}, "at+jwt", 401),
            ({"exp": 1}, "at+jwt", 401),
        ],
    )
    async def test_each_part_counts_without_the_broker(
        self, agent: OAuthClient, claims: dict[str, object], typ: str, status: int
    ) -> None:
        """RFC 9068 §4: what the same key signed for something else is no access token."""
        async with ProtectedService(agent.broker, introspection=False) as service:
            said = {"iss": agent.broker.issuer, "aud": service.url, "exp": 4e9, **claims}
            token = agent.broker._server.store.sign(said, typ=typ)
            assert status == (await call(agent.http, service.url, token)).status_code

    async def test_revoked_token_is_refused(self, service: ProtectedService, agent: OAuthClient) -> None:
        """It asks the token broker about each."""
        token = await agent.token(audience=service.url)
        assert 200 == (await call(agent.http, service.url, token)).status_code
        await agent.post("revocation", {"token": token})
        reply = await call(agent.http, service.url, token)
        assert (401, "invalid_token") == (reply.status_code, reply.json()["error"])

    async def test_no_answer_of_the_broker_is_a_refusal(
        self, service: ProtectedService, agent: OAuthClient
    ) -> None:
        """503, whatever it is that fails."""
        token = await agent.token(audience=service.url)
        agent.broker.fail_next(200, body=b"<html>", endpoint="introspection")
        first = await call(agent.http, service.url, token)
        agent.broker.fail_next(500, endpoint="introspection")
        second = await call(agent.http, service.url, token)
        await agent.broker.pause()
        third = await call(agent.http, service.url, token)
        assert [503, 401, 503] == [r.status_code for r in (first, second, third)]
        assert "1" == first.headers["retry-after"]

    async def test_without_introspection_an_outage_is_not_noticed(self, agent: OAuthClient) -> None:
        """What is signed is good until it expires."""
        async with ProtectedService(agent.broker, introspection=False, scopes={}) as service:
            token = await agent.token(audience=service.url)
            await agent.broker.pause()
            assert 200 == (await call(agent.http, f"{service.url}/v1/orders", token)).status_code


class TestDpop:
    async def bound(self, agent: OAuthClient, service: ProtectedService) -> str:
        form = {"audience": service.url, "headers": agent.proven(KEY)}
        return (await agent.credentials("orders:read", **form)).json()["access_token"]

    async def test_holder_is_let_in(self, service: ProtectedService, agent: OAuthClient) -> None:
        """RFC 9449 §7.1; the proof is over this token, for this request."""
        token, url = await self.bound(agent, service), f"{service.url}/v1/orders"
        headers = {"DPoP": KEY.proof("GET", url, token=token)}
        assert 200 == (await call(agent.http, url, token, "DPoP", headers=headers)).status_code

    async def test_thief_is_not(self, service: ProtectedService, agent: OAuthClient) -> None:
        """Not as a bearer, not without a proof, not with another key's or for something else."""
        token, url = await self.bound(agent, service), service.url
        unbound = await agent.token(audience=service.url)
        tries = [
            ("Bearer", token, {}),
            ("DPoP", token, {}),
            ("DPoP", token, {"DPoP": ProofKey().proof("GET", url, token=token)}),
            ("DPoP", token, {"DPoP": KEY.proof("GET", url)}),
            ("DPoP", token, {"DPoP": KEY.proof("POST", url, token=token)}),
            ("DPoP", unbound, {"DPoP": KEY.proof("GET", url, token=unbound)}),
        ]
        replies = [await call(agent.http, url, t, scheme, headers=headers) for scheme, t, headers in tries]
        assert [401] * 6 == [r.status_code for r in replies]
        errors = [r.headers["www-authenticate"].split('"')[1] for r in replies]
        proof = "invalid_dpop_proof"
        assert ["invalid_token", proof, "invalid_token", proof, proof, "invalid_token"] == errors

    @pytest.mark.parametrize("claim", ["jti", "nonce"])
    async def test_attack_half_a_character(
        self, service: ProtectedService, agent: OAuthClient, claim: str
    ) -> None:
        """JSON can spell half of a surrogate pair (RFC 8259 §8.2); it is refused and nothing breaks."""
        token, url = await self.bound(agent, service), service.url
        headers = {"DPoP": KEY.proof("GET", url, token=token, **{claim: "\ud800"})}
        reply = await call(agent.http, url, token, "DPoP", headers=headers)
        assert 401 == reply.status_code
        assert reply.headers["www-authenticate"].startswith('DPoP error="invalid_dpop_proof"')

    async def test_nonce_is_demanded(self, agent: OAuthClient) -> None:
        """RFC 9449 §9: 401 with the nonce, its own and not the token broker's; successes carry one, too."""
        told: list[Event] = []
        async with ProtectedService(agent.broker, require_dpop_nonce=True, on_event=told.append) as service:
            token, url = await self.bound(agent, service), f"{service.url}/v1/orders"
            headers = {"DPoP": KEY.proof("GET", url, token=token)}
            first = await call(agent.http, url, token, "DPoP", headers=headers)
            nonce = first.headers["dpop-nonce"]
            headers = {"DPoP": KEY.proof("GET", url, token=token, nonce=nonce)}
            second = await call(agent.http, url, token, "DPoP", headers=headers)
        assert 401 == first.status_code
        assert first.headers["www-authenticate"].startswith('DPoP error="use_dpop_nonce"')
        assert (200, nonce) == (second.status_code, second.headers["dpop-nonce"])
        assert [] == told, "who gets a nonce is refused nothing"


class TestCertificate:
    async def test_bound_token_is_good_over_its_certificate_only(
        self, service: ProtectedService, broker: DevTokenBroker, domain: DevTrustDomain, agent: OAuthClient
    ) -> None:
        """RFC 8705 §3."""
        svid, url = domain.ca.issue_x509_svid(AGENT), service.url_at("web")
        form = {"grant_type": "client_credentials", "client_id": AGENT, "audience": url}
        with client_tls(broker.web_roots + service.web_roots, svid) as context:
            async with httpx.AsyncClient(verify=context, trust_env=False) as http:
                token = (await http.post(f"{broker.url_at('web')}/token", data=form)).json()["access_token"]
                mine = await call(http, f"{url}/v1/orders", token)
        other = await call(agent.http, f"{service.url}/v1/orders", token)
        assert [200, 401] == [mine.status_code, other.status_code]

    async def test_between_spiffe_identities(
        self, service: ProtectedService, domain: DevTrustDomain, agent: OAuthClient
    ) -> None:
        """It is `…/protected-service`."""
        svid = domain.ca.issue_x509_svid(AGENT)
        context = client_context(
            X509Context((svid,), BundleSet([domain.ca.x509_bundle]), svid),
            allow("spiffe://dev.example/protected-service"),
        )
        token = await agent.token(audience=service.url)
        async with httpx.AsyncClient(verify=context, trust_env=False) as http:
            assert 200 == (await call(http, service.url_at("spiffe"), token)).status_code


class TestJwtSvid:
    async def test_svid_for_it_is_let_in(self, service: ProtectedService, agent: OAuthClient) -> None:
        """JWT-SVID §4, in place of an access token."""
        for audience in (service.url, ["x", str(service.id)]):
            reply = await call(agent.http, f"{service.url}/svid", agent.svid(audience))
            assert (200, AGENT) == (reply.status_code, reply.json()["sub"])

    async def test_others_are_not(self, service: ProtectedService, agent: OAuthClient) -> None:
        """For somebody else, of an unknown authority, as DPoP, or an access token."""
        forged = CertificateAuthority("dev.example").issue_jwt_svid(AGENT, service.url)
        tries = [
            ("Bearer", agent.svid()),
            ("Bearer", forged),
            ("DPoP", agent.svid(service.url)),
            ("Bearer", await agent.token(audience=service.url)),
        ]
        for scheme, token in tries:
            reply = await call(agent.http, f"{service.url}/svid", token, scheme)
            assert (401, "invalid_token") == (reply.status_code, reply.json()["error"])


class TestLife:
    async def test_redirects_as_it_is_told(self, service: ProtectedService, agent: OAuthClient) -> None:
        """To see what clients do with their tokens then."""
        reply = await call(agent.http, f"{service.url}/redirect", params={"to": "http://x.example/"})
        assert (307, "http://x.example/") == (reply.status_code, reply.headers["location"])

    async def test_large_body_is_refused(self, service: ProtectedService, agent: OAuthClient) -> None:
        """Before it fills the memory."""
        reply = await call(agent.http, service.url, method="POST", content=b"x" * 300_000)
        assert 413 == reply.status_code

    async def test_client_that_hangs_up_is_no_error(
        self, service: ProtectedService, agent: OAuthClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """In the middle of its request."""
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nbody")
        assert 401 == (await call(agent.http, service.url)).status_code
        await service.pause()
        assert [] == caplog.records

    async def test_outage_and_return(self, service: ProtectedService, agent: OAuthClient) -> None:
        """At the same port."""
        await service.pause()
        with pytest.raises(httpx.ConnectError):
            await call(agent.http, service.url)
        for _ in range(2):  # again: nothing happens
            await service.resume()
        assert 401 == (await call(agent.http, service.url)).status_code

    async def test_is_used_once_and_as_a_context(self, broker: DevTokenBroker) -> None:
        """Said at once."""
        service = ProtectedService(broker)
        with pytest.raises(EndpointError, match="not open"):
            _ = service.url
        with pytest.raises(EndpointError, match="not open"):
            await service.pause()
        async with service:
            with pytest.raises(EndpointError, match="opened before"):
                await service.__aenter__()

    async def test_no_port(self, broker: DevTokenBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is said why."""

        def create_server(*args: object, **options: object) -> None:
            raise OSError(24, "too many open files")

        monkeypatch.setattr("socket.create_server", create_server)
        with pytest.raises(EndpointError, match="too many open files"):
            await ProtectedService(broker).__aenter__()
