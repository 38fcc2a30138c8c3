"""Security events: who polls gets them, until it says that it has dealt with them."""

from __future__ import annotations

import time

import anyio
import httpx
import jwt
import pytest

from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from tests.dev.conftest import AGENT, AUDITOR, ORDERS
from tests.support.oauth_client import OAuthClient, ProofKey, claims_of, client_tls

pytestmark = pytest.mark.anyio

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"


async def ssf(
    agent: OAuthClient, path: str, body: object = None, *, method: str = "POST", token: str | None = None
) -> httpx.Response:
    token = token or await agent.token("ssf.read", audience=agent.broker.issuer)
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{agent.broker.issuer}/ssf/{path}"
    return await agent.http.request(method, url, json=body, headers=headers)


async def poll(agent: OAuthClient, **body: object) -> dict[str, object]:
    reply = await ssf(agent, "poll", {"returnImmediately": True, **body})
    assert 200 == reply.status_code, reply.text
    return reply.json()


class TestStream:
    async def test_transmitter_says_where_everything_is(self, agent: OAuthClient) -> None:
        """Shared Signals Framework §7.1."""
        document = (await agent.http.get(f"{agent.broker.issuer}/.well-known/ssf-configuration")).json()
        assert agent.broker.issuer == document["issuer"]
        assert ["urn:ietf:rfc:8936"] == document["delivery_methods_supported"]
        assert f"{agent.broker.issuer}/ssf/streams" == document["configuration_endpoint"]

    async def test_is_created_shown_and_deleted(self, agent: OAuthClient) -> None:
        """Shared Signals Framework §8.1.1."""
        assert 404 == (await ssf(agent, "streams", method="GET")).status_code
        made = await ssf(agent, "streams", {"delivery": {"method": "urn:ietf:rfc:8936"}})
        assert 201 == made.status_code
        assert (AGENT, f"{agent.broker.issuer}/ssf/poll") == (
            made.json()["aud"],
            made.json()["delivery"]["endpoint_url"],
        )
        assert made.json() == (await ssf(agent, "streams", method="GET")).json()
        assert 204 == (await ssf(agent, "streams", method="DELETE")).status_code
        assert 404 == (await ssf(agent, "streams", method="DELETE")).status_code

    async def test_only_polling_is_offered(self, agent: OAuthClient) -> None:
        """No request is made to anybody from here."""
        for delivery in ({"method": "urn:ietf:rfc:8935", "endpoint_url": "https://x"}, 7):
            assert 400 == (await ssf(agent, "streams", {"delivery": delivery})).status_code

    async def test_verification_is_sent_as_asked(self, agent: OAuthClient) -> None:
        """Shared Signals Framework §8.1.4."""
        stream = (await ssf(agent, "streams")).json()["stream_id"]
        assert 204 == (await ssf(agent, "verify", {"stream_id": stream, "state": "s"})).status_code
        assert 204 == (await ssf(agent, "verify", {"stream_id": stream})).status_code
        assert 404 == (await ssf(agent, "verify", {"stream_id": "x"})).status_code
        events = [claims_of(s)["events"] for s in (await poll(agent))["sets"].values()]
        kind = "https://schemas.openid.net/secevent/ssf/event-type/verification"
        assert [{kind: {"state": "s"}}, {kind: {}}] == events


class TestAccess:
    @pytest.mark.parametrize("body", ["streams", "verify", "poll"])
    async def test_token_is_needed(self, agent: OAuthClient, body: str) -> None:
        """RFC 6750 §3: 401 and how it would be done."""
        reply = await agent.http.post(f"{agent.broker.issuer}/ssf/{body}", json={})
        assert (401, {}) == (reply.status_code, reply.json())
        assert reply.headers["www-authenticate"].startswith('Bearer scope="ssf.read", DPoP ')

    async def test_token_must_be_for_this(self, agent: OAuthClient) -> None:
        """Its audience, its scope, and that it was not revoked."""
        tokens = [
            await agent.token("ssf.read", audience=ORDERS),
            await agent.token("orders:read", audience=agent.broker.issuer),
            revoked := await agent.token("ssf.read", audience=agent.broker.issuer),
        ]
        await agent.post("revocation", {"token": revoked})
        replies = [await ssf(agent, "poll", {}, token=token) for token in tokens]
        assert [401, 403, 401] == [r.status_code for r in replies]
        assert 'error="insufficient_scope"' in replies[1].headers["www-authenticate"]
        assert "was revoked" in replies[2].headers["www-authenticate"]

    async def test_dpop_bound_token(self, agent: OAuthClient) -> None:
        """RFC 9449 §7.1."""
        key = ProofKey()
        form = {"audience": agent.broker.issuer, "headers": agent.proven(key)}
        token = (await agent.credentials("ssf.read", **form)).json()["access_token"]
        url = f"{agent.broker.issuer}/ssf/poll"
        headers = {"Authorization": f"DPoP {token}", "DPoP": key.proof("POST", url, token=token)}
        assert 200 == (await agent.http.post(url, json={"maxEvents": 0}, headers=headers)).status_code

    async def test_x509_svid_in_tls(self, broker: DevTokenBroker, domain: DevTrustDomain) -> None:
        """A workload needs no token to hear of itself."""
        with client_tls(broker.web_roots, domain.ca.issue_x509_svid(AGENT)) as context:
            async with httpx.AsyncClient(verify=context, trust_env=False) as http:
                reply = await http.post(f"{broker.url_at('web')}/ssf/poll", json={"maxEvents": 0})
        assert (200, {"sets": {}, "moreAvailable": False}) == (reply.status_code, reply.json())
        assert [AGENT] == [stream.receiver for stream in broker.streams]


class TestPoll:
    async def test_events_are_security_event_tokens(self, agent: OAuthClient) -> None:
        """RFC 8417 §2, CAEP §3.1: typed, signed, for this receiver, without `sub` and `exp`."""
        await poll(agent)
        assert 1 == agent.broker.emit_session_revoked(AUDITOR, reason="left")
        ((jti, token),) = (await poll(agent))["sets"].items()
        jwks = (await agent.http.get(f"{agent.broker.issuer}/jwks")).json()
        header = jwt.get_unverified_header(token)
        key = jwt.PyJWKSet.from_dict(jwks)[header["kid"]]
        claims = jwt.decode(token, key, ["ES256"], audience=AGENT, issuer=agent.broker.issuer)

        assert "secevent+jwt" == header["typ"]
        assert jti == claims["jti"]
        assert claims.keys().isdisjoint({"sub", "exp"})
        assert {"format": "uri", "uri": AUDITOR} == claims["sub_id"]
        ((kind, event),) = claims["events"].items()
        assert (f"{CAEP}session-revoked", "policy", {"en": "left"}) == (
            kind,
            event["initiating_entity"],
            event["reason_admin"],
        )
        assert abs(event["event_timestamp"] - time.time()) < 60

    async def test_credential_change(self, agent: OAuthClient) -> None:
        """CAEP §3.3; a whole subject identifier, and a `sub` that is no SPIFFE ID (RFC 9493)."""
        await poll(agent)
        whole = {"format": "jwt_id", "iss": agent.broker.issuer, "jti": "x"}
        agent.broker.emit_credential_change(whole, details={"x509_serial": "7"})
        agent.broker.emit_session_revoked("alice")
        first, second = (claims_of(s) for s in (await poll(agent))["sets"].values())

        event = first["events"][f"{CAEP}credential-change"]
        assert (whole, "x509", "revoke", "7") == (
            first["sub_id"],
            event["credential_type"],
            event["change_type"],
            event["x509_serial"],
        )
        assert {"format": "iss_sub", "iss": agent.broker.issuer, "sub": "alice"} == second["sub_id"]

    async def test_what_is_not_acknowledged_comes_again(self, agent: OAuthClient) -> None:
        """RFC 8936 §2.4: until it is acknowledged, or reported as an error."""
        await poll(agent)
        for _ in range(3):
            agent.broker.emit_session_revoked(AGENT)
        some = await poll(agent, maxEvents=2)
        assert (2, True) == (len(some["sets"]), some["moreAvailable"])
        first, second = some["sets"]
        report = {second: {"err": "invalid_key", "description": "d"}}
        rest = await poll(agent, ack=[first, "unknown"], setErrs={**report, "unknown": {"err": "x"}})
        assert 1 == len(rest["sets"])
        assert not {first, second} & rest["sets"].keys()
        (stream,) = agent.broker.streams
        assert (1, report) == (stream.acknowledged, stream.errors)
        done = await poll(agent, maxEvents=0, ack=list(rest["sets"]))
        assert {"sets": {}, "moreAvailable": False} == done

    async def test_poll_waits_for_an_event(self, agent: OAuthClient) -> None:
        """RFC 8936 §2.2: answered as soon as there is something."""
        token = await agent.token("ssf.read", audience=agent.broker.issuer)
        await poll(agent)
        polled = []

        async def wait() -> None:
            polled.append((await ssf(agent, "poll", {}, token=token)).json())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while not agent.broker._polling._waiting:
                await anyio.sleep(0.001)
            agent.broker.emit_session_revoked(AGENT)
        assert 1 == len(polled[0]["sets"])

    async def test_waiting_poll_does_not_hold_up_the_end(
        self, domain: DevTrustDomain, http: httpx.AsyncClient, rules: list[Client]
    ) -> None:
        """Its connection is cut."""
        async with anyio.create_task_group() as tasks:
            async with DevTokenBroker(domain, rules=rules) as broker:
                agent = OAuthClient(broker, http, AGENT)
                token = await agent.token("ssf.read", audience=broker.issuer)

                async def wait() -> None:
                    with pytest.raises(httpx.TransportError):
                        await ssf(agent, "poll", {}, token=token)

                tasks.start_soon(wait)
                while not broker._polling._waiting:
                    await anyio.sleep(0.001)

    @pytest.mark.parametrize(
        "body",
        [
            {"maxEvents": -1},
            {"maxEvents": True},
            {"maxEvents": "1"},
            {"returnImmediately": 1},
            {"ack": "x"},
            {"ack": [1]},
            {"setErrs": []},
            {"setErrs": {"x": "y"}},
            {"setErrs": {"x": {}}},
            [],
        ],
    )
    async def test_malformed_poll_is_refused(self, agent: OAuthClient, body: object) -> None:
        """RFC 8936 §2.2: 400, and nothing is acknowledged."""
        assert 400 == (await ssf(agent, "poll", body)).status_code

    async def test_stream_is_bounded(self, agent: OAuthClient, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who never polls does not fill the memory; the oldest goes first."""
        monkeypatch.setattr("spiffe_client.dev.token_broker._events._MAX_HELD", 2)
        await poll(agent)
        for name in ("a", "b", "c"):
            agent.broker.emit_session_revoked(name)
        assert ["b", "c"] == [claims_of(s)["sub_id"]["sub"] for s in (await poll(agent))["sets"].values()]

    async def test_events_before_the_first_poll_are_for_nobody(self, agent: OAuthClient) -> None:
        """And after the end it is no error to tell nobody."""
        assert 0 == agent.broker.emit_session_revoked(AGENT)
        assert {} == (await poll(agent))["sets"]

    async def test_broker_without_events(self, domain: DevTrustDomain, http: httpx.AsyncClient) -> None:
        """There is nothing at all."""
        async with DevTokenBroker(domain, without={"ssf", "introspection", "revocation", "rar"}) as broker:
            statuses = [
                (await http.get(f"{broker.issuer}/.well-known/ssf-configuration")).status_code,
                *[(await http.post(f"{broker.issuer}/{p}")).status_code for p in ("introspection", "revocation")],
            ]
            url = f"{broker.issuer}/.well-known/oauth-authorization-server"
            document = (await http.get(url)).json()
        assert [404] * 3 == statuses
        assert not {"introspection_endpoint", "revocation_endpoint", "authorization_details_types_supported"} & document.keys()
